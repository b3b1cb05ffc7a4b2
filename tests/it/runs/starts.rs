//! The start of a session.

use serde_json::{Value, json};

use crate::support::{
    actor::text,
    app::TestApp,
    cluster::{done, first_column},
};

use super::{count, stored};

#[tokio::test]
async fn a_session_starts_on_freestyle_unless_told_otherwise() {
    let app = TestApp::start().await;
    for (name, body) in [
        ("left-out", json!({ "techStack": "Rust" })),
        ("null", json!({ "techStack": "Rust", "challenge": null })),
    ] {
        let runner = app.runner(name).await;
        let session = runner.start_with(body).await.ok(201);
        assert_eq!(session["challenge"], "freestyle");
        assert_eq!(session["userId"], runner.id);
        assert_eq!(session["status"], "running");
        assert_eq!(session["milestones"], json!([]));
        for open in ["endTime", "totalTimeMs", "totalTime", "submission"] {
            assert_eq!(session.get(open), Some(&Value::Null), "{open}");
        }
        assert!(session["serverTime"].as_str() >= session["startTime"].as_str());
    }
}

#[tokio::test]
async fn whoever_names_no_challenge_where_freestyle_is_gone_is_told_to_name_one() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let unnamed = async || {
        let refused = runner.start_with(json!({ "techStack": "Rust" })).await;
        let detail = text(&refused.problem(404, "challenge_not_found"), "/detail");
        assert!(
            detail.contains("freestyle") && detail.contains("GET /challenges"),
            "{detail}"
        );
        assert!(detail.contains("name a challenge"), "{detail}");
    };
    let sql = app.sql().await;
    for goes in [
        "update public.challenges set active = false where slug = 'freestyle'",
        "delete from public.challenges where slug = 'freestyle'",
    ] {
        sql.batch_execute(goes).await.expect(goes);
        unnamed().await;
    }
    let named = json!({ "techStack": "Rust", "challenge": "slack-clone" });
    runner.start_with(named).await.ok(201);
}

#[tokio::test]
async fn a_challenge_that_is_unknown_or_withdrawn_cannot_be_started() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let start = async |challenge: &str| {
        runner
            .start_with(json!({ "techStack": "Rust", "challenge": challenge }))
            .await
    };
    start("flappy-bird")
        .await
        .problem(404, "challenge_not_found");
    app.sql()
        .await
        .batch_execute("update public.challenges set active = false where slug = 'slack-clone'")
        .await
        .expect("a withdrawal");
    start("slack-clone")
        .await
        .problem(404, "challenge_not_found");
    for slug in [
        "",
        "Slack-Clone",
        "slack clone",
        "-",
        "a--b",
        &"a".repeat(65),
    ] {
        let faults = start(slug).await.faults();
        assert!(
            faults.iter().all(|(field, _)| field == "challenge"),
            "{slug}: {faults:?}"
        );
    }
    assert_eq!(count(&app, "public.sessions").await, 0);
}

#[tokio::test]
async fn a_run_on_a_challenge_withdrawn_meanwhile_goes_on() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    app.sql()
        .await
        .batch_execute("update public.challenges set active = false")
        .await
        .expect("a withdrawal");
    for number in 1..=7 {
        runner.verify(&session, number).await.ok(200);
    }
    assert_eq!(runner.end(&session).await.ok(200)["status"], "completed");
}

#[tokio::test]
async fn a_second_start_names_the_session_that_is_running() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    for challenge in ["slack-clone", "freestyle"] {
        let problem = runner
            .start_with(json!({ "techStack": "Go", "challenge": challenge }))
            .await
            .problem(409, "session_already_running");
        assert_eq!(problem["sessionId"], session);
    }
    assert_eq!(count(&app, "public.sessions").await, 1);
    // Other users do not wait.
    app.runner("bob").await.start("slack-clone").await;
}

#[tokio::test]
async fn the_next_session_starts_once_the_last_has_ended() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let first = runner.start("freestyle").await;
    let ended = runner.end(&first).await.ok(200);
    let second = runner
        .start_with(json!({ "techStack": "Rust" }))
        .await
        .ok(201);
    assert_ne!(second["id"], first.as_str());
    assert!(second["startTime"].as_str() >= ended["endTime"].as_str());
}

#[tokio::test]
async fn a_start_after_the_deadline_closes_the_old_session_at_its_deadline() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let old = runner.start("slack-clone").await;
    app.travel("24 hours").await;
    let new = runner.start("slack-clone").await;
    assert_ne!(new, old);
    assert_eq!(stored(&app, &old).await, ("expired".into(), true, true));
    assert_eq!(stored(&app, &new).await, ("running".into(), false, false));
}

#[tokio::test]
async fn a_session_is_given_the_time_that_its_challenge_tells() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    // In this time zone a day may have 23 hours, and a month 28 days.
    done(
        &dashboard,
        &format!(
            "alter database {} set timezone = 'Europe/Berlin'",
            first_column(&dashboard, "select current_database()::text").await[0]
        ),
    )
    .await;
    let app = app.replica(|_| {}).await;
    let runner = app.runner("alice").await;
    app.stop_clock().await;
    let sql = app.sql().await;
    done(
        &sql,
        "update private.travelled set by = timestamptz '2026-03-28 12:00+00' - stopped_at",
    )
    .await;
    for (duration, ms) in [
        ("1 day", 86_400_000),
        ("30 days", 2_592_000_000_i64),
        ("2 days -12:00", 129_600_000),
        ("90.0005 seconds", 90_000),
    ] {
        done(
            &sql,
            &format!(
                "update public.challenges set max_duration = '{duration}' where slug = 'freestyle'"
            ),
        )
        .await;
        let told = app.visitor().get("/challenges/freestyle").await.ok(200);
        assert_eq!(told["maxDurationMs"], ms, "{duration}");
        let session = runner.start("freestyle").await;
        let given = format!(
            "select (extract(epoch from deadline - start_time) * 1000)::bigint::text from public.sessions where id = '{session}'"
        );
        assert_eq!(
            first_column(&sql, &given).await,
            [ms.to_string()],
            "{duration}"
        );
        runner.end(&session).await.ok(200);
    }
    for duration in ["1 month", "1 month -29 days", "-1 year 366 days"] {
        let edit = format!(
            "update public.challenges set max_duration = '{duration}' where slug = 'freestyle'"
        );
        let refused = sql.batch_execute(&edit).await.expect_err(duration);
        let constraint = refused.as_db_error().and_then(|error| error.constraint());
        assert_eq!(
            constraint,
            Some("challenges_max_duration_without_months"),
            "{duration}"
        );
    }
}
