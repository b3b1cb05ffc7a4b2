//! Milestones: their order, and the time after which none passes.

use serde_json::json;

use crate::support::app::TestApp;

use super::{count, stored};

#[tokio::test]
async fn milestones_of_an_ordered_challenge_pass_in_order_only() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    for (number, next) in [(2, 1), (7, 1)] {
        let problem = runner
            .verify(&session, number)
            .await
            .problem(409, "milestone_out_of_order");
        assert_eq!(problem["nextMilestone"], next);
    }
    let first = runner.verify(&session, 1).await.ok(200);
    assert_eq!(first["title"], "Accounts");
    assert_eq!(
        (&first["attempts"], &first["pending"]),
        (&json!(1), &json!(false))
    );
    let problem = runner
        .verify(&session, 3)
        .await
        .problem(409, "milestone_out_of_order");
    assert_eq!(problem["nextMilestone"], 2);
    runner.verify(&session, 2).await.ok(200);
    assert_eq!(
        count(&app, "public.milestones").await,
        2,
        "a refusal records nothing"
    );
}

#[tokio::test]
async fn milestones_of_freestyle_pass_in_any_order() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    for number in [7, 1, 4] {
        runner.verify(&session, number).await.ok(200);
    }
    let ended = runner.end(&session).await.ok(200);
    assert_eq!(ended["status"], "completed");
    let numbers: Vec<_> = ended["milestones"]
        .as_array()
        .expect("milestones")
        .iter()
        .map(|milestone| milestone["milestoneNumber"].as_i64())
        .collect();
    assert_eq!(numbers, [Some(1), Some(4), Some(7)]);
}

#[tokio::test]
async fn a_milestone_that_the_challenge_does_not_have_is_a_mistake_in_the_request() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    for challenge in ["slack-clone", "freestyle"] {
        let session = runner.start(challenge).await;
        for number in [8, 1000] {
            let problem = runner
                .verify(&session, number)
                .await
                .problem(400, "unknown_milestone");
            assert_eq!(problem["errors"][0]["field"], "milestoneNumber");
        }
        runner.end(&session).await.ok(200);
    }
}

#[tokio::test]
async fn a_milestone_passed_again_keeps_its_time() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    app.stop_clock().await;
    let session = runner.start("slack-clone").await;
    app.travel("1 minute").await;
    let first = runner.verify(&session, 1).await.ok(200);
    app.travel("1 hour").await;
    runner.verify(&session, 2).await.ok(200);
    assert_eq!(runner.verify(&session, 1).await.ok(200), first);
    assert_eq!(first["splitMs"], 60_000);
}

#[tokio::test]
async fn after_the_end_nothing_more_passes_but_what_passed_still_answers() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    let passed = runner.verify(&session, 3).await.ok(200);
    runner.end(&session).await.ok(200);
    let problem = runner
        .verify(&session, 4)
        .await
        .problem(409, "session_already_ended");
    assert_eq!(problem["sessionId"], session);
    assert_eq!(runner.verify(&session, 3).await.ok(200), passed);
    assert_eq!(count(&app, "public.milestones").await, 1);
}

#[tokio::test]
async fn a_verification_after_the_deadline_is_refused_and_the_expiry_is_kept() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    let passed = runner.verify(&session, 1).await.ok(200);
    app.travel("24 hours").await;
    assert_eq!(
        runner.verify(&session, 1).await.ok(200),
        passed,
        "a milestone that passed in time still answers"
    );
    runner
        .verify(&session, 2)
        .await
        .problem(409, "session_expired");
    assert_eq!(stored(&app, &session).await, ("expired".into(), true, true));
    runner
        .verify(&session, 2)
        .await
        .problem(409, "session_expired");
    runner.end(&session).await.problem(409, "session_expired");
}
