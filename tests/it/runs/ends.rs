//! The end of a session, its deadline, and what it hands in.

use serde_json::{Value, json};

use crate::support::{actor::text, app::TestApp};

use super::{count, stored};

/// An answer without the members that change as time passes.
fn timeless(mut session: Value) -> Value {
    session["serverTime"] = Value::Null;
    session
}

#[tokio::test]
async fn a_slack_clone_run_ends_with_seven_splits_and_a_pending_submission() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    app.stop_clock().await;
    let session = runner.start("slack-clone").await;
    for number in 1..=7 {
        app.travel("6 minutes 27 seconds").await;
        let milestone = runner.verify(&session, number).await.ok(200);
        assert_eq!(milestone["passed"], true);
    }
    app.travel("3 seconds").await;
    let ended = runner.end(&session).await.ok(200);

    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["totalTime"], "45m 12s");
    assert_eq!(ended["totalTimeMs"], 2_712_000);
    let splits: Vec<_> = ended["milestones"]
        .as_array()
        .expect("milestones")
        .iter()
        .map(|m| m["splitMs"].as_i64())
        .collect();
    assert_eq!(
        splits,
        (1..=7)
            .map(|number| Some(number * 387_000))
            .collect::<Vec<_>>()
    );
    assert_eq!(ended["submission"]["status"], "PENDING");
    assert_eq!(ended["submission"]["packages"], json!(["poem", "tokio"]));

    let mut read = runner
        .get(&format!("/sessions/{}", text(&ended, "/id")))
        .await
        .ok(200);
    read["serverTime"] = ended["serverTime"].clone();
    assert_eq!(read, ended, "a read shows the answer of the end");
    assert_ne!(read["submission"], Value::Null);
}

#[tokio::test]
async fn an_end_after_the_deadline_is_refused_and_the_expiry_is_kept() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    app.travel("24 hours").await;
    let problem = runner.end(&session).await.problem(409, "session_expired");
    assert_eq!(problem["sessionId"], session);
    assert_eq!(stored(&app, &session).await, ("expired".into(), true, true));
    assert_eq!(count(&app, "public.submissions").await, 0);
}

#[tokio::test]
async fn until_its_deadline_a_session_can_be_ended() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    app.stop_clock().await;
    let session = runner.start("freestyle").await;
    app.travel("23:59:59.999").await;
    let ended = runner.end(&session).await.ok(200);
    assert_eq!(ended["status"], "completed");
    assert_eq!(
        (&ended["totalTimeMs"], &ended["totalTime"]),
        (&json!(86_399_999), &json!("23h 59m 59s"))
    );
}

#[tokio::test]
async fn an_overdue_session_reads_as_expired_before_anything_stored_it() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    runner.verify(&session, 1).await.ok(200);
    app.travel("3 days").await;
    let overdue = runner.session(&session).await.ok(200);
    assert_eq!(overdue["status"], "expired");
    assert_eq!(overdue["endTime"], overdue["deadline"]);
    assert_eq!(overdue["totalTimeMs"], 24 * 60 * 60 * 1000);
    assert_eq!(overdue["totalTime"], "24h 00m 00s");
    assert_eq!(
        stored(&app, &session).await,
        ("running".into(), false, false)
    );

    runner.end(&session).await.problem(409, "session_expired");
    assert_eq!(
        timeless(runner.session(&session).await.ok(200)),
        timeless(overdue)
    );
}

#[tokio::test]
async fn a_run_with_too_few_milestones_is_incomplete_and_hands_in_nothing() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    for number in 1..=6 {
        runner.verify(&session, number).await.ok(200);
    }
    let ended = runner.end(&session).await.ok(200);
    assert_eq!(ended["status"], "incomplete");
    assert_eq!(ended["submission"], Value::Null);
    assert_eq!(ended["milestones"].as_array().map(Vec::len), Some(6));
    assert_eq!(count(&app, "public.submissions").await, 0);
    runner
        .verify(&session, 7)
        .await
        .problem(409, "session_already_ended");
}

#[tokio::test]
async fn ending_again_with_the_same_data_answers_the_same() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    for challenge in ["freestyle", "slack-clone"] {
        let session = runner.start(challenge).await;
        let ended = runner.end(&session).await.ok(200);
        app.travel("25 hours").await;
        let again = runner.end(&session).await.ok(200);
        assert_ne!(again["serverTime"], ended["serverTime"]);
        assert_eq!(timeless(again), timeless(ended));
    }
    assert_eq!(count(&app, "public.submissions").await, 1);
}

#[tokio::test]
async fn ending_again_with_other_data_is_refused() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    let ended = runner.end(&session).await.ok(200);
    for (packages, video_url) in [
        (json!(["tokio", "poem"]), json!("https://youtu.be/abc")),
        (json!(["poem"]), json!("https://youtu.be/abc")),
        (json!(["poem", "tokio"]), json!("https://youtu.be/other")),
        (json!(["poem", "tokio"]), json!(null)),
        (json!([]), json!("https://youtu.be/abc")),
        (json!(["poem,tokio"]), json!("https://youtu.be/abc")),
    ] {
        let body = json!({ "sessionId": session, "packages": packages, "videoUrl": video_url });
        let problem = runner
            .post("/sessions/end", body)
            .await
            .problem(409, "session_already_ended");
        assert_eq!(problem["sessionId"], session);
    }
    assert_eq!(
        timeless(runner.session(&session).await.ok(200)),
        timeless(ended)
    );
}

#[tokio::test]
async fn the_video_may_come_later() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    let end = async |body: Value| runner.post("/sessions/end", body).await.ok(200);
    let ended = end(json!({ "sessionId": session, "packages": [] })).await;
    assert_eq!(ended["submission"]["videoUrl"], Value::Null);
    assert_eq!(ended["submission"]["packages"], json!([]));
    let same = end(json!({ "sessionId": session, "packages": [], "videoUrl": null })).await;
    assert_eq!(
        timeless(same),
        timeless(ended),
        "null is the same as nothing"
    );
}

#[tokio::test]
async fn the_dashboard_cannot_move_a_session_out_of_time() {
    let app = TestApp::start().await;
    let session = app.runner("alice").await.start("slack-clone").await;
    for (change, expected) in [
        ("deadline = 'infinity'", "23514"),
        ("deadline = '12000-01-01'", "23514"),
        ("deadline = start_time", "23514"),
        ("start_time = '-infinity'", "23514"),
        (
            "status = 'incomplete', end_time = start_time - interval '1 second'",
            "PT409",
        ),
        (
            "status = 'incomplete', end_time = start_time + interval '32 days'",
            "23514",
        ),
    ] {
        let update = format!("update public.sessions set {change} where id = '{session}'");
        let refused = app
            .sql()
            .await
            .batch_execute(&update)
            .await
            .expect_err(change);
        let code = refused.code().map(|code| code.code());
        assert_eq!(code, Some(expected), "{change}");
    }
}
