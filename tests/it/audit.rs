//! Events of accounts leave a row in the audit log, and the metrics count the same events.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use serde_json::json;
use tokio_postgres::Client;

use crate::support::{
    actor::{PASSWORD, text},
    app::TestApp,
    cluster::Database,
    program::Scratch,
    race::race,
};

const WRONG: &str = "not the password";
const NEW: &str = "another fine password";

/// How often each action is in the audit log.
async fn told(owner: &Client) -> BTreeMap<String, i64> {
    let rows = owner
        .query(
            "select action, count(*) from private.audit_log where action ~ '^(user|sign_in)\\.' group by 1",
            &[],
        )
        .await
        .expect("the log");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The sums of a counter by one of its labels, as Prometheus reads them.
async fn counted(metrics: &str, counter: &str, label: &str) -> BTreeMap<String, i64> {
    let page = reqwest::get(metrics).await.expect("metrics");
    let page = page.text().await.expect("text");
    let mut counted = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with(counter)) {
        let value = line
            .split_once(&format!("{label}=\""))
            .and_then(|(_, rest)| rest.split_once('"'))
            .unwrap_or_else(|| panic!("no {label} in {line}"))
            .0;
        let times = line.rsplit(' ').next().expect("a number");
        *counted.entry(value.to_owned()).or_default() += times.parse::<i64>().expect("a number");
    }
    counted
}

#[tokio::test]
async fn the_audit_log_and_the_metrics_tell_the_same_of_accounts() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let scratch = Scratch::new();
    let program = scratch
        .program(&["serve"])
        .on(database.url().expose_secret())
        .env("METRICS_BIND", "127.0.0.1:0")
        .env("RATE_LIMITS", "register=2/h")
        .env("REFRESH_GRACE", "0")
        .serve()
        .await;
    let visitor = program.visitor();

    let (ada, bob) = (
        program.visitor().register("ada").await,
        program.visitor().register("bob").await,
    );
    let refused = json!({ "username": "eve", "password": PASSWORD });
    visitor
        .post("/auth/register", refused)
        .await
        .problem(429, "rate_limited");
    let tokens = visitor.log_in("ada", PASSWORD).await.ok(200);
    for name in ["ada", "nobody", "no-one"] {
        visitor
            .log_in(name, WRONG)
            .await
            .problem(401, "wrong_credentials");
    }
    // A copy of a token that was redeemed twice already.
    let stolen = text(&tokens, "/refreshToken");
    let mut newest = stolen.clone();
    for _ in 0..2 {
        let refreshed = visitor
            .post("/auth/refresh", json!({ "refreshToken": newest }))
            .await;
        newest = text(&refreshed.ok(200), "/refreshToken");
    }
    visitor
        .post("/auth/refresh", json!({ "refreshToken": stolen }))
        .await
        .problem(401, "refresh_token_reused");
    // A new password signs out two more devices, and a logout signs out another.
    for _ in 0..2 {
        visitor.log_in("ada", PASSWORD).await.ok(200);
    }
    let change = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    assert_eq!(ada.post("/auth/password", change).await.status, 204);
    let tokens = visitor.log_in("ada", NEW).await.ok(200);
    let logout = json!({ "refreshToken": tokens["refreshToken"] });
    assert_eq!(visitor.post("/auth/logout", logout).await.status, 204);
    for _ in 0..6 {
        visitor.log_in("bob", WRONG).await;
    }
    bob.erase(PASSWORD)
        .await
        .problem(429, "too_many_failed_logins");

    let expected = [
        ("sign_in.failed", 3 + 5),
        ("sign_in.opened", 2 + 1 + 2 + 1),
        ("sign_in.revoked", 1 + 2 + 1),
        ("user.password_changed", 1),
        ("user.registered", 2),
    ];
    let expected: BTreeMap<_, _> = expected
        .map(|(action, times)| (action.to_owned(), times))
        .into();
    let metrics = program.metrics();
    assert_eq!(told(&owner).await, expected);
    assert_eq!(
        counted(&metrics, "auth_events_total{", "event").await,
        expected
    );
    let refused = [("failed_logins", 2), ("register", 1)];
    assert_eq!(
        counted(&metrics, "rate_limited_total{", "limit").await,
        refused
            .map(|(limit, times)| (limit.to_owned(), times))
            .into()
    );

    // The user who did it, if there is one, and the user it happened to.
    let rows = owner
        .query(
            "select action, user_id::text, actor_id = user_id, details::text
               from private.audit_log where action in ('sign_in.failed', 'user.registered') order by id",
            &[],
        )
        .await
        .expect("the log");
    let whom = |row: &tokio_postgres::Row| row.get::<_, Option<String>>(1);
    for row in &rows {
        assert_ne!(
            row.get::<_, Option<bool>>(2),
            Some(true),
            "nobody had signed in"
        );
    }
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row.get::<_, &str>(0) == "sign_in.failed")
        .map(whom)
        .collect();
    assert_eq!(failed[0], Some(ada.id));
    assert_eq!(failed[1..3], [None, None], "unknown names");
    assert_eq!(failed[3], Some(bob.id.clone()));
    program.stop().await.well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_fill_the_audit_log_by_failing() {
    let app = TestApp::start_with(|config| {
        config.rate_limits = "login=10000/m,network=off".parse().expect("limits");
    })
    .await;
    // Each attempt has another name, so that each name has its first wrong password.
    for turn in 0..11 {
        let failures = race((0..10).map(|number| {
            let visitor = app.visitor();
            async move {
                visitor
                    .log_in(&format!("name_{turn}_{number}"), WRONG)
                    .await
            }
        }));
        for failure in failures.answers().await {
            failure.problem(401, "wrong_credentials");
        }
    }
    let owner = app.sql().await;
    let noted = told(&owner).await["sign_in.failed"];
    assert_eq!(noted, 100);
    // Failures of known users are still recorded.
    app.runner("ada").await;
    app.visitor()
        .log_in("ada", WRONG)
        .await
        .problem(401, "wrong_credentials");
    assert_eq!(told(&owner).await["sign_in.failed"], noted + 1);
}

#[tokio::test]
async fn nobody_can_fill_the_audit_log_by_wrong_answers() {
    let app = TestApp::start().await;
    let owner = app.sql().await;
    owner
        .batch_execute(
            "with challenge as (
               insert into public.challenges (slug, title, required_milestones) values ('puzzle', 'Puzzle', 1) returning id
             ),
             milestone as (
               insert into public.challenge_milestones (challenge_id, number, title, verification)
               select id, 1, 'The first', 'answer' from challenge
             )
             insert into private.answer_variants (challenge_id, milestone_number, input, answer)
             select id, 1, 'input', 'answer' from challenge",
        )
        .await
        .expect("a puzzle");
    let ada = app.runner("ada").await;
    let start = json!({ "techStack": "Rust", "challenge": "puzzle" });
    let mut refused = None;
    // Each new session has no cooldown yet.
    for _ in 0..130 {
        let started = ada.start_with(start.clone()).await;
        if started.status != 201 {
            refused = Some(started);
            break;
        }
        let session = text(&started.body, "/id");
        let failed = ada.solve(&session, 1, "wrong").await;
        assert_eq!(failed.ok(200)["passed"], false);
        ada.solve(&session, 1, "wrong")
            .await
            .problem(429, "attempt_cooldown");
        ada.post("/sessions/abandon", json!({ "sessionId": session }))
            .await
            .ok(200);
    }
    let refused = refused.expect("an end");
    let policy = refused.headers["ratelimit-policy"].to_str().expect("text");
    assert!(policy.ends_with("\"runs\";q=120;w=3600"), "{policy}");
    refused.problem(429, "rate_limited");
    let noted = "select count(*) from private.audit_log where action = 'milestone.failed'";
    let noted: i64 = owner.query_one(noted, &[]).await.expect("a count").get(0);
    assert!((120..125).contains(&noted), "{noted}");
    // Her neighbour can start a run.
    app.runner("bob").await.start("puzzle").await;
}
