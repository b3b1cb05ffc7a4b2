//! More requests than the database can answer.

use super::within;
use crate::support::{actor::Actor, app::TestApp, race::race};

#[tokio::test]
async fn what_would_wait_too_long_is_refused_at_once_and_health_answers() {
    let app = TestApp::start_with(|config| {
        config.db_connections = Some(2);
        config.db_wait_ms = 500;
        config.statement_timeout = 600;
        config.rate_limits = "off".parse().expect("limits");
    })
    .await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    let gate = app
        .hold(&format!(
            "select from public.sessions where id = '{session}' for update"
        ))
        .await;
    let end = |runner: &Actor| {
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.end(&session).await }
    };
    let held = race([end(&runner), end(&runner)]);
    gate.until_waiting(2).await;
    // The first surplus request shows how long a wait is.
    within(runner.get("/auth/me"))
        .await
        .problem(503, "overloaded");
    // The service refuses all others without a wait. A hundred of them in a row take less time than two waits.
    let surplus = async {
        for _ in 0..100 {
            let refused = runner.get("/auth/me").await;
            assert_eq!(refused.headers["retry-after"], "1");
            refused.problem(503, "overloaded");
        }
    };
    within(surplus).await;
    for path in ["/health/live", "/health/ready"] {
        within(app.visitor().get(path)).await.ok(200);
    }
    gate.release().await;
    for ended in held.answers().await {
        ended.ok(200);
    }
    // The service recovers at once.
    for _ in 0..20 {
        runner.get("/auth/me").await.ok(200);
    }
}
