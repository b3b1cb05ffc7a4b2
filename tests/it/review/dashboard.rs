//! The dashboard follows the same rules.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use speedcoding::db::migrate::migrate;
use tokio_postgres::Client;

use crate::{
    lookalike,
    support::{
        actor::text,
        app::TestApp,
        cluster::{Database, done, refused},
    },
};

use super::{VIDEO, audited};

/// Edits that an administrator may try in the dashboard, which works as `role`.
async fn administer(app: &TestApp, dashboard: &Client, role: &str) {
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let mona = app.user_with_role("mona", "moderator").await;
    let run = alice.complete_run().await;
    let (id, session) = (text(&run, "/submission/id"), text(&run, "/id"));
    let set = |what: &str| format!("update public.submissions set {what} where id = '{id}'");
    let mut history = vec!["handed_in alice speedcoding_api".to_owned()];
    let mut happened = |what: &str, reviewer: &str| {
        history.push(format!("{what} - {role}{reviewer}"));
        history.clone()
    };

    // Moderators cannot judge their own run here either.
    for who in ["claimed_by", "reviewed_by"] {
        refused(
            dashboard,
            &set(&format!("{who} = '{}'", alice.id)),
            "own_run",
        )
        .await;
    }
    done(
        dashboard,
        &format!("set request.jwt.claims = '{{\"sub\": \"{}\"}}'", alice.id),
    )
    .await;
    refused(dashboard, &set("status = 'APPROVED'"), "own_run").await;
    done(dashboard, "reset request.jwt.claims").await;

    done(dashboard, &set(&format!("claimed_by = '{}'", mona.id))).await;
    assert_eq!(audited(app, &id).await, happened("claimed", " mona"));
    refused(dashboard, &set("status = 'REJECTED'"), "reason_required").await;
    refused(
        dashboard,
        &set("status = 'REJECTED', review_reason = ' '"),
        "reason_required",
    )
    .await;
    done(
        dashboard,
        &set(&format!(
            "status = 'REJECTED', review_reason = 'too fast', reviewed_by = '{}'",
            mona.id
        )),
    )
    .await;
    assert_eq!(audited(app, &id).await, happened("rejected", " mona"));
    let seen = alice.submission(&id).await.ok(200);
    assert_eq!(
        (&seen["status"], &seen["reviewReason"], &seen["claimedBy"]),
        (&json!("REJECTED"), &json!("too fast"), &Value::Null)
    );
    refused(
        dashboard,
        &set("status = 'APPROVED'"),
        "submission_already_reviewed",
    )
    .await;
    refused(
        dashboard,
        &set(&format!("claimed_by = '{}'", mona.id)),
        "submission_already_reviewed",
    )
    .await;
    done(dashboard, &set("status = 'PENDING'")).await;
    assert_eq!(audited(app, &id).await, happened("reopened", ""));
    assert_eq!(alice.submission(&id).await.ok(200)["revision"], 2);

    refused(
        dashboard,
        &set("video_url = null, status = 'APPROVED'"),
        "video_required",
    )
    .await;
    done(
        dashboard,
        &set(&format!("status = 'APPROVED', reviewed_by = '{}'", mona.id)),
    )
    .await;
    assert_eq!(audited(app, &id).await, happened("approved", " mona"));
    let seen = app.visitor().submission(&id).await.ok(200);
    assert_eq!(seen["status"], "APPROVED");
    assert!(seen["reviewedAt"].is_string());
    assert_eq!(
        app.visitor()
            .get(&format!("/sessions/{session}"))
            .await
            .ok(200)["submission"],
        seen
    );
    refused(dashboard, &set("packages = '{}'"), "submission_approved").await;
    refused(
        dashboard,
        &set("status = 'REJECTED', review_reason = 'x'"),
        "submission_already_reviewed",
    )
    .await;

    // Edits of the run itself.
    let run_of = |what: &str| format!("update public.sessions set {what} where id = '{session}'");
    refused(
        dashboard,
        &run_of("end_time = start_time - interval '1 second'"),
        "session_times",
    )
    .await;
    refused(dashboard, &run_of("end_time = null"), "session_times").await;
    refused(
        dashboard,
        &run_of("status = 'incomplete'"),
        "session_handed_in",
    )
    .await;
    refused(
        dashboard,
        &run_of("status = 'running', end_time = null"),
        "session_already_ended",
    )
    .await;
    refused(
        dashboard,
        &run_of(&format!("user_id = '{}'", bob.id)),
        "session_fixed",
    )
    .await;
    refused(dashboard, &set("total_ms = 1"), "submission_fixed").await;
    refused(dashboard, &set("end_time = now()"), "submission_fixed").await;
    let before = app
        .visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .ok(200);
    done(
        dashboard,
        &run_of("end_time = end_time + interval '1 minute'"),
    )
    .await;
    assert_eq!(audited(app, &id).await, happened("corrected", ""));
    let corrected = app
        .visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .ok(200);
    let total = |session: &Value| session["totalTimeMs"].as_i64().expect("a time");
    assert_eq!(total(&corrected), total(&before) + 60_000);
    let board = app.visitor().get("/leaderboards/slack-clone").await.ok(200);
    assert_eq!(board["items"][0]["totalTimeMs"], corrected["totalTimeMs"]);
    let was = app
        .sql()
        .await
        .query_one(
            "select database_role, details -> 'was' ->> 'total_ms' from private.audit_log
              where action = 'session.changed' and subject_id = $1::text::uuid",
            &[&session],
        )
        .await
        .expect("one row");
    assert_eq!(
        (was.get(0), was.get(1)),
        (role, total(&before).to_string().as_str())
    );

    // A second submission, and one for a session that is not completed.
    let again = format!(
        "insert into public.submissions (session_id, video_url) values ('{session}', '{VIDEO}')"
    );
    refused(dashboard, &again, "submission_exists").await;
    let running = bob.start("freestyle").await;
    refused(
        dashboard,
        &again.replace(&session, &running),
        "session_not_completed",
    )
    .await;
    let mut claim = set("session_id = ");
    claim = claim.replace("session_id = ", &format!("session_id = '{running}'"));
    refused(dashboard, &claim, "submission_fixed").await;

    // Milestones.
    let milestone = text(&run, "/milestones/0/id");
    let change =
        |what: &str| format!("update public.milestones set {what} where id = '{milestone}'");
    refused(
        dashboard,
        &change(&format!("session_id = '{running}', user_id = '{}'", bob.id)),
        "milestone_fixed",
    )
    .await;
    refused(
        dashboard,
        &change("passed = false, completed_at = null"),
        "milestone_passed",
    )
    .await;
    refused(dashboard, &change("completed_at = null"), "milestone_times").await;
    refused(
        dashboard,
        &format!("delete from public.milestones where id = '{milestone}'"),
        "milestone_passed",
    )
    .await;
    done(
        dashboard,
        &change("completed_at = completed_at + interval '1 millisecond'"),
    )
    .await;

    // The dashboard can hand in a withdrawn run again: it gives the session, and triggers fill in the rest.
    done(
        dashboard,
        &format!("delete from public.submissions where id = '{id}'"),
    )
    .await;
    assert_eq!(audited(app, &id).await, happened("deleted", ""));
    app.visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .problem(404, "session_not_found");
    done(dashboard, &again).await;
    let seen = alice.session(&session).await.ok(200);
    assert_eq!(seen["submission"]["status"], "PENDING");
    let id = text(&seen, "/submission/id");
    done(
        dashboard,
        &format!("update public.submissions set status = 'APPROVED' where id = '{id}'"),
    )
    .await;
    let board = app.visitor().get("/leaderboards/slack-clone").await.ok(200);
    assert_eq!(board["items"][0]["totalTimeMs"], corrected["totalTimeMs"]);

    // The deletion of a user deletes their approved runs, too. The audit log stays.
    done(
        dashboard,
        &format!("delete from public.users where id = '{}'", alice.id),
    )
    .await;
    app.visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .problem(404, "session_not_found");
    let board = app.visitor().get("/leaderboards/slack-clone").await.ok(200);
    assert_eq!(board["items"], json!([]));
    let log = audited(app, &id).await;
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log[2].starts_with("deleted"), "{log:?}");
}

#[tokio::test]
async fn what_a_superuser_does_in_the_dashboard_meets_the_same_rules() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    administer(&app, &dashboard, "postgres").await;
}

#[tokio::test]
async fn what_the_service_role_does_meets_the_same_rules() {
    let app = TestApp::start().await;
    let dashboard = app.database.role("service_role", None).await;
    administer(&app, &dashboard, "service_role").await;
}

#[tokio::test]
async fn what_the_owner_of_a_supabase_project_does_meets_the_same_rules() {
    let project = lookalike::project().await;
    migrate(&project.owner_url).await.expect("migrations");
    let app = TestApp::start_on(Database::at(project.owner_url.clone()), |_| {}).await;
    let dashboard = app.sql().await;
    let owner = url::Url::parse(project.owner_url.expose_secret()).expect("a URL");
    administer(&app, &dashboard, owner.username()).await;
    drop((dashboard, app));
    project.embedded.stop().await;
}
