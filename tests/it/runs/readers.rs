//! Which users see a session and its submission.

use serde_json::Value;

use crate::support::{
    actor::{Answer, text},
    app::TestApp,
};

use super::stored;

/// A moderator's decision in the dashboard.
async fn set_status(app: &TestApp, status: &str) {
    app.sql()
        .await
        .batch_execute(&format!(
            "update public.submissions set status = '{status}'"
        ))
        .await
        .expect("a review");
}

#[tokio::test]
async fn a_strangers_session_is_answered_like_one_that_does_not_exist() {
    let app = TestApp::start().await;
    let session = app.runner("alice").await.start("freestyle").await;
    let mallory = app.runner("mallory").await;
    let missing = "00000000-0000-7000-8000-000000000000";
    let alike = |theirs: Answer, nobodys: Answer| {
        let strip = |mut body: Value| {
            body["requestId"] = Value::Null;
            body.to_string()
        };
        assert_eq!(
            strip(theirs.problem(404, "session_not_found")),
            strip(nobodys.problem(404, "session_not_found"))
        );
    };
    for number in [1, 1000] {
        alike(
            mallory.verify(&session, number).await,
            mallory.verify(missing, number).await,
        );
    }
    alike(mallory.end(&session).await, mallory.end(missing).await);
    alike(
        mallory.session(&session).await,
        mallory.session(missing).await,
    );
    alike(
        app.visitor().session(&session).await,
        app.visitor().session(missing).await,
    );
    assert_eq!(stored(&app, &session).await.0, "running");
}

#[tokio::test]
async fn moderators_and_verifiers_see_every_session_but_cannot_run_it() {
    let app = TestApp::start().await;
    let session = app.runner("alice").await.start("freestyle").await;
    for role in ["moderator", "verifier", "admin"] {
        let actor = app.user_with_role(role, role).await;
        assert_eq!(
            actor.session(&session).await.ok(200)["id"],
            session.as_str()
        );
        actor
            .verify(&session, 1)
            .await
            .problem(404, "session_not_found");
        actor.end(&session).await.problem(404, "session_not_found");
    }
}

#[tokio::test]
async fn a_pending_submission_is_seen_by_its_runner_and_moderators_only() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let run = alice.complete_run().await;
    let session = text(&run, "/id");
    for (role, sees) in [("moderator", true), ("admin", true), ("verifier", false)] {
        let actor = app.user_with_role(role, role).await;
        let seen = actor.session(&session).await.ok(200);
        assert_eq!(
            seen["submission"]["id"] == run["submission"]["id"],
            sees,
            "{role}: {seen:#}"
        );
    }
}

#[tokio::test]
async fn a_demotion_counts_for_a_token_that_is_still_live() {
    let app = TestApp::start().await;
    let session = app.runner("alice").await.start("freestyle").await;
    let moderator = app.user_with_role("mod", "moderator").await;
    moderator.session(&session).await.ok(200);
    app.sql()
        .await
        .batch_execute("update public.users set role = 'runner' where username = 'mod'")
        .await
        .expect("a demotion");
    moderator
        .session(&session)
        .await
        .problem(404, "session_not_found");
}

#[tokio::test]
async fn everyone_sees_a_run_while_its_submission_is_approved() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let run = alice.complete_run().await;
    let session = text(&run, "/id");
    let (visitor, stranger) = (app.visitor(), app.runner("bob").await);
    for status in ["PENDING", "APPROVED", "PENDING", "APPROVED"] {
        set_status(&app, status).await;
        for somebody in [&visitor, &stranger] {
            let answer = somebody.session(&session).await;
            if status == "APPROVED" {
                let seen = answer.ok(200);
                assert_eq!(seen["milestones"], run["milestones"]);
                assert_eq!(seen["submission"]["videoUrl"], "https://youtu.be/abc");
                assert_eq!(seen["submission"]["status"], "APPROVED");
            } else {
                answer.problem(404, "session_not_found");
            }
        }
        assert_eq!(
            alice.session(&session).await.ok(200)["submission"]["status"],
            status
        );
    }
}
