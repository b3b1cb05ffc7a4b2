//! Connections that die silently, servers that accept and stay silent, names that lead to another server.

use std::{fs, time::Duration};

use secrecy::ExposeSecret;
use speedcoding::config::{Config, Statements};
use tokio::time::timeout;

use super::within;
use crate::support::{
    actor::{Actor, Answer},
    app::TestApp,
    cluster::Database,
    program::{Scratch, is_root, tell_untold},
    proxy::Proxy,
    race::race,
};

/// A service whose connections to the database can fall silent.
async fn behind_a_wire(change: impl FnOnce(&mut Config)) -> (TestApp, Proxy) {
    let database = Database::migrated().await;
    let wire = Proxy::before(database.url()).await;
    let app = TestApp::start_on(database, |config| {
        config.database_url = Some(wire.url().clone());
        config.statement_timeout = 1;
        change(config);
    })
    .await;
    (app, wire)
}

/// Sends this many requests at once, so that the service opens as many connections.
async fn open_connections(app: &TestApp, runner: &Actor, wire: &Proxy, count: usize) {
    let session = runner.start("slack-clone").await;
    let gate = app
        .hold(&format!(
            "select from public.sessions where id = '{session}' for update"
        ))
        .await;
    let ends = race((0..count).map(|_| {
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.end(&session).await }
    }));
    gate.until_waiting(count).await;
    gate.release().await;
    for ended in ends.answers().await {
        ended.ok(200);
    }
    assert!(wire.opened() >= count, "{}", wire.opened());
}

#[tokio::test]
async fn connections_that_die_without_a_word_cost_one_request() {
    for statements in [Statements::Prepared, Statements::Unnamed] {
        let (app, wire) = behind_a_wire(|config| config.db_statements = statements).await;
        let runner = app.runner("alice").await;
        open_connections(&app, &runner, &wire, 6).await;
        app.visitor().get("/health/ready").await.ok(200);

        wire.swallow();
        within(runner.get("/auth/me")).await.problem(504, "timeout");
        for _ in 0..12 {
            within(runner.get("/auth/me")).await.ok(200);
        }
        within(app.visitor().get("/health/ready")).await.ok(200);
    }
}

#[tokio::test]
async fn a_request_that_waits_lets_others_find_dead_connections_before_they_are_used() {
    let (app, wire) = behind_a_wire(|config| config.statement_timeout = 20).await;
    let runner = app.runner("alice").await;
    open_connections(&app, &runner, &wire, 6).await;

    wire.swallow();
    let mut lost = tokio::spawn({
        let runner = runner.clone();
        async move { runner.get("/auth/me").await }
    });
    // The lost statement has been silent for longer than usual.
    assert!(timeout(Duration::from_secs(2), &mut lost).await.is_err());
    for _ in 0..12 {
        within(runner.get("/auth/me")).await.ok(200);
    }
    within(lost).await.expect("a task").problem(504, "timeout");
}

#[tokio::test]
async fn a_connection_whose_request_was_given_up_is_not_handed_out_before_it_has_answered() {
    let (app, wire) = behind_a_wire(|config| {
        config.db_connections = Some(1);
        config.request_timeout = 4;
        config.statement_timeout = 600;
    })
    .await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;

    // This request waits in the database. The service throws its connection away and cancels its statement.
    let gate = app
        .hold(&format!(
            "select from public.sessions where id = '{session}' for update"
        ))
        .await;
    within(runner.end(&session)).await.problem(504, "timeout");
    within(runner.get("/auth/me")).await.ok(200);
    within(gate.until_none_waits()).await;
    gate.release().await;
    let still = runner.get(&format!("/sessions/{session}")).await.ok(200);
    assert_eq!(still["status"], "running", "it was cancelled");

    // The next connection is dead. The service throws it away, too.
    wire.swallow();
    within(runner.get("/auth/me")).await.problem(504, "timeout");
    within(runner.get("/auth/me")).await.ok(200);

    // The client of the next request goes away. The service keeps the connection once the statement has answered. So
    // clients cannot wear out connections by leaving.
    let before = wire.opened();
    let gate = app
        .hold(&format!(
            "select from public.sessions where id = '{session}' for update"
        ))
        .await;
    let leaver = tokio::spawn({
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.end(&session).await }
    });
    gate.until_waiting(1).await;
    leaver.abort();
    gate.release().await;
    within(runner.get("/auth/me")).await.ok(200);
    assert_eq!(wire.opened(), before);
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_told_and_forgotten() {
    for (statements, mode) in [
        (Statements::Prepared, "disable"),
        (Statements::Unnamed, "disable"),
        // With this mode the service asks for TLS first.
        (Statements::Prepared, "prefer"),
    ] {
        let database = Database::migrated().await;
        let wire = Proxy::before(database.url()).await;
        let runner = TestApp::start_on(database.clone(), |_| {})
            .await
            .runner("alice")
            .await;
        let start = async |mode: &str| {
            TestApp::start_on(database.clone(), |config| {
                let mut url = url::Url::parse(wire.url().expose_secret()).expect("a URL");
                url.set_query(Some(&format!("sslmode={mode}")));
                config.database_url = Some(url.to_string().into());
                config.db_statements = statements;
                config.statement_timeout = 1;
            })
            .await
        };
        let app = start(mode).await;
        let mut here = app.visitor();
        here.token = runner.token.clone();
        here.get("/auth/me").await.ok(200);

        // This is like a pooler that has stopped. The open connections are dead, and new ones get no answer.
        wire.mute();
        wire.swallow();
        within(here.get("/auth/me")).await.problem(504, "timeout");
        let answers: Vec<Answer> = race((0..8).map(|_| {
            let here = here.clone();
            async move { within(here.get("/auth/me")).await }
        }))
        .answers()
        .await;
        for answer in answers {
            answer.problem(503, "database_unavailable");
        }
        within(here.get("/health/ready"))
            .await
            .problem(503, "database_unavailable");
        within(here.get("/health/live")).await.ok(200);

        wire.unmute();
        within(here.get("/auth/me")).await.ok(200);
        within(here.get("/health/ready")).await.ok(200);
    }
}

#[tokio::test]
async fn connections_are_kept_alive_by_the_kernel_too() {
    let (app, wire) = behind_a_wire(|_| {}).await;
    app.visitor().get("/challenges").await.ok(200);
    let port = url::Url::parse(wire.url().expose_secret())
        .expect("a URL")
        .port()
        .expect("a port");
    // The second timer is the timer of keepalive. Its time is in hundredths of a second (proc(5)).
    let sockets = fs::read_to_string("/proc/self/net/tcp").expect("sockets");
    let to_the_wire = sockets
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields
                .get(2)?
                .ends_with(&format!(":{port:04X}"))
                .then(|| fields[5].to_owned())
        })
        .collect::<Vec<_>>();
    assert!(!to_the_wire.is_empty());
    for timer in to_the_wire {
        let (kind, when) = timer.split_once(':').expect("a timer");
        let seconds = u64::from_str_radix(when, 16).expect("a time") / 100;
        assert!(kind == "02" && seconds <= 60, "{timer}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_another_address_is_followed() {
    if !is_root() {
        return tell_untold("a name that moves", "root, for a hosts file of its own");
    }
    let (scratch, database) = (Scratch::new(), Database::migrated().await);
    let first = Proxy::at("127.0.0.2:0", database.url()).await;
    let mut url = url::Url::parse(first.url().expose_secret()).expect("a URL");
    let port = url.port().expect("a port");
    let second = Proxy::at(&format!("127.0.0.3:{port}"), database.url()).await;
    url.set_host(Some("database.test")).expect("a host");
    let hosts = scratch.path("hosts");
    fs::write(&hosts, "127.0.0.2 database.test\n").expect("a hosts file");
    let mount = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    let program = scratch
        .program(&["serve"])
        .on(url.as_str())
        .env("STATEMENT_TIMEOUT", "1")
        .through("unshare", &["-m", "sh", "-c", &mount, "sh"])
        .serve()
        .await;
    let visitor = program.visitor();
    visitor.get("/challenges").await.ok(200);
    assert!(first.opened() > 0 && second.opened() == 0);

    fs::write(&hosts, "127.0.0.3 database.test\n").expect("a hosts file");
    first.mute();
    first.swallow();
    within(visitor.get("/challenges"))
        .await
        .problem(504, "timeout");
    within(visitor.get("/challenges")).await.ok(200);
    assert!(second.opened() > 0);
    within(visitor.get("/health/ready")).await.ok(200);
    program.stop().await.well();
}
