//! Requests while the database is away.

use serde_json::json;

use crate::support::{
    actor::PASSWORD,
    app::TestApp,
    cluster::{self},
    race::race,
};

/// Another database of the same server, to work on this one from.
async fn maintenance(app: &TestApp) -> (tokio_postgres::Client, String) {
    let name: String = app
        .sql()
        .await
        .query_one("select current_database()::text", &[])
        .await
        .expect("a name")
        .get(0);
    let elsewhere = cluster::with_database(app.database.url(), "postgres");
    (cluster::connect(&elsewhere).await, name)
}

#[tokio::test]
async fn while_the_database_is_away_every_request_is_told_to_come_back() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let (elsewhere, name) = maintenance(&app).await;
    let run = async |sql: String| elsewhere.batch_execute(&sql).await.expect("maintenance");
    let terminate =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
    for (away, back) in [
        (
            format!("alter database {name} allow_connections false; {terminate}"),
            format!("alter database {name} allow_connections true"),
        ),
        (
            format!("{terminate}; alter database {name} rename to {name}_away"),
            format!("alter database {name}_away rename to {name}"),
        ),
    ] {
        run(away).await;
        runner
            .get("/auth/me")
            .await
            .problem(503, "database_unavailable");
        runner
            .start_with(json!({ "techStack": "Rust" }))
            .await
            .problem(503, "database_unavailable");
        app.visitor()
            .post(
                "/auth/login",
                json!({ "username": "ada", "password": PASSWORD }),
            )
            .await
            .problem(503, "database_unavailable");
        app.visitor()
            .get("/health/ready")
            .await
            .problem(503, "database_unavailable");
        app.visitor().get("/health/live").await.ok(200);
        app.visitor()
            .get("/auth/me")
            .await
            .problem(401, "missing_token");

        run(back).await;
        runner.get("/auth/me").await.ok(200);
        app.visitor().get("/health/ready").await.ok(200);
    }
}

#[tokio::test]
async fn a_request_whose_connection_breaks_is_told_to_come_back() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let session = runner.start("freestyle").await;
    let gate = app.hold("select from public.sessions for update").await;
    let waiting = race([{
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.verify(&session, 1).await }
    }]);
    gate.until_waiting(1).await;
    gate.on_waiting("pg_terminate_backend").await;
    waiting
        .answers()
        .await
        .remove(0)
        .problem(503, "database_unavailable");
    gate.release().await;
    runner.verify(&session, 1).await.ok(200);
}

#[tokio::test]
async fn a_statement_that_is_cancelled_is_a_timeout() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let session = runner.start("freestyle").await;
    let gate = app.hold("select from public.sessions for update").await;
    let waiting = race([{
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.end(&session).await }
    }]);
    gate.until_waiting(1).await;
    gate.on_waiting("pg_cancel_backend").await;
    waiting.answers().await.remove(0).problem(504, "timeout");
    gate.release().await;
    runner.end(&session).await.ok(200);
}
