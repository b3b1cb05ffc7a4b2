//! A database that answers but cannot serve: it is read-only, or has no free connection, or has no room.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use speedcoding::{db::migrate::migrate, embedded::Embedded};
use tokio_postgres::{NoTls, error::SqlState};

use super::{until_ok, within};
use crate::support::{
    actor::{Actor, Answer, text},
    app::TestApp,
    cluster::{Database, connect, done, first_column, sqlstate},
    program::{Scratch, is_root, tell_untold},
};

/// A PostgreSQL for one test, so that settings of the whole server disturb no other test.
struct OwnServer {
    embedded: Embedded,
    scratch: Scratch,
}

impl OwnServer {
    async fn migrated(settings: &[(&str, &str)]) -> Self {
        let server = Self::on(Scratch::new(), settings).await;
        migrate(server.url()).await.expect("migrations");
        server
    }

    async fn on(scratch: Scratch, settings: &[(&str, &str)]) -> Self {
        let settings = [settings, &[("fsync", "off")]].concat();
        let embedded = Embedded::start(&scratch.path("data"), &settings)
            .await
            .expect("a PostgreSQL");
        OwnServer { embedded, scratch }
    }

    async fn stop(self) -> Scratch {
        self.embedded.stop().await;
        self.scratch
    }

    fn url(&self) -> &SecretString {
        self.embedded.url()
    }

    async fn set_read_only(&self, value: &str) {
        let owner = connect(self.url()).await;
        for statement in [
            &format!("alter system set default_transaction_read_only = {value}"),
            "select pg_reload_conf()",
        ] {
            owner.batch_execute(statement).await.expect(statement);
        }
        // Each connection takes the setting over when it is next idle.
        while first_column(
            &connect(self.url()).await,
            "show default_transaction_read_only",
        )
        .await
            != [value]
        {
            tokio::task::yield_now().await;
        }
    }
}

/// Checks that requests and readiness are refused with 503 and these words.
async fn both_told(change: Answer, actor: &Actor, words: &str) {
    for answer in [change, actor.get("/health/ready").await] {
        let problem = answer.problem(503, "database_unavailable");
        let detail = text(&problem, "/detail");
        assert!(detail.contains(words), "{detail}");
    }
}

#[tokio::test]
async fn a_read_only_database_is_told_and_makes_the_service_unready() {
    let server = OwnServer::migrated(&[]).await;
    let app = TestApp::start_on(Database::lent(server.url()), |_| {}).await;
    let runner = app.runner("alice").await;
    let start = async || {
        let stack = json!({ "techStack": "Rust" });
        runner.post("/sessions/start", stack).await
    };
    app.visitor().get("/health/ready").await.ok(200);

    server.set_read_only("on").await;
    both_told(start().await, &runner, "read-only").await;
    runner.get("/auth/me").await.ok(200);
    app.visitor().get("/health/live").await.ok(200);

    server.set_read_only("off").await;
    within(until_ok(async || runner.get("/health/ready").await)).await;
    start().await.ok(201);
    server.stop().await;
}

#[tokio::test]
async fn connections_to_a_demoted_primary_are_replaced_by_ones_to_the_new_one() {
    let (old, scratch) = (OwnServer::migrated(&[]).await, Scratch::new());
    let runner = TestApp::start_on(Database::lent(old.url()), |_| {})
        .await
        .runner("alice")
        .await;
    let old = old.stop().await;
    let copy = std::process::Command::new("cp")
        .arg("-a")
        .args([old.path("data"), scratch.path("data")])
        .status();
    assert!(copy.expect("cp, of coreutils").success());
    let (old, new) = (
        OwnServer::on(old, &[]).await,
        OwnServer::on(scratch, &[]).await,
    );

    let [primary, other] = [&old, &new].map(|server| {
        let url = url::Url::parse(server.url().expose_secret()).expect("a URL");
        (
            url.password().expect("a password").to_owned(),
            url.port().expect("a port"),
        )
    });
    let both = format!(
        "postgresql://postgres:{}@127.0.0.1:{},127.0.0.1:{}/speedcoding?target_session_attrs=read-write",
        primary.0, primary.1, other.1,
    );
    let app = TestApp::start_on(Database::lent(old.url()), |config| {
        config.database_url = Some(both.into());
    })
    .await;
    let runner = app.visitor().with_token(runner.token.expect("a token"));
    runner.get("/auth/me").await.ok(200);

    old.set_read_only("on").await;
    let start = async || {
        let stack = json!({ "techStack": "Rust" });
        runner.post("/sessions/start", stack).await
    };
    let problem = start().await.problem(503, "database_unavailable");
    assert!(text(&problem, "/detail").contains("read-only"));
    until_ok(start).await;
    let sessions = "select count(*)::text from public.sessions";
    let there = first_column(&connect(new.url()).await, sessions).await;
    assert_eq!(there, ["1"], "the session is on the new primary");
    runner.get("/sessions/current").await.ok(200);
    old.stop().await;
    new.stop().await;
}

#[tokio::test]
async fn a_database_without_a_free_connection_is_told_as_that() {
    let server = OwnServer::migrated(&[
        ("max_connections", "12"),
        ("superuser_reserved_connections", "1"),
        ("max_wal_senders", "0"),
    ])
    .await;
    let app = TestApp::start_on(Database::lent(server.url()), |config| {
        config.db_connections = Some(2);
    })
    .await;
    let runner = app.runner("alice").await;
    let mut others = Vec::new();
    let full = loop {
        match tokio_postgres::connect(server.url().expose_secret(), NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                others.push(client);
            }
            Err(error) => break error,
        }
    };
    assert_eq!(full.code().map(SqlState::code), Some("53300"));
    // The service goes on with its connections, and is ready.
    runner.get("/auth/me").await.ok(200);
    runner.get("/health/ready").await.ok(200);
    // When the service has no connection, it says why.
    let ours = "select count(pg_terminate_backend(pid))::text from pg_stat_activity where application_name = 'speedcoding'";
    first_column(&others[0], ours).await;
    let mut more = Vec::new();
    while let Ok((client, connection)) =
        tokio_postgres::connect(server.url().expose_secret(), NoTls).await
    {
        tokio::spawn(connection);
        more.push(client);
    }
    let told = async {
        loop {
            let answer = runner.get("/auth/me").await;
            let problem = answer.problem(503, "database_unavailable");
            if text(&problem, "/detail").contains("too many connections") {
                break;
            }
        }
    };
    within(told).await;
    drop((others, more));
    within(until_ok(async || runner.get("/auth/me").await)).await;
    within(until_ok(async || runner.get("/health/ready").await)).await;
    server.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_told_as_that() {
    if !is_root() {
        return tell_untold("a full disk", "root, to mount a small one");
    }
    // The mounts of the program end with the program.
    let scratch = Scratch::new();
    let disk = scratch.path("disk");
    std::fs::create_dir(&disk).expect("a directory");
    let mount = format!(
        "mount -t tmpfs -o size=4m tmpfs {0} && {{ chown postgres {0} || chown nobody {0}; }} && exec \"$@\"",
        disk.display()
    );
    let program = scratch
        .program(&["serve"])
        .through("unshare", &["-m", "sh", "-c", &mount, "sh"])
        .serve()
        .await;
    let url = Embedded::running_url(&scratch.path("data")).expect("a URL");
    let runner = program.visitor().register("alice").await;
    let owner = connect(&url).await;
    owner
        .batch_execute(&format!(
            "create tablespace small location '{}'",
            disk.display()
        ))
        .await
        .expect("a small disk");
    owner
        .batch_execute("alter table public.sessions set tablespace small")
        .await
        .expect("sessions on it");
    done(&owner, "create table filler (t text) tablespace small").await;
    for size in [1000, 100, 10, 1] {
        let fill = format!(
            "insert into filler select repeat(md5(n::text), 50) from generate_series(1, {size}) as n"
        );
        let full = async {
            loop {
                if let Some(state) = sqlstate(&owner, &fill).await {
                    break state;
                }
            }
        };
        assert_eq!(within(full).await, "53100");
    }
    let answer = runner
        .post("/sessions/start", json!({ "techStack": "Rust" }))
        .await;
    let problem = answer.problem(503, "database_unavailable");
    assert!(text(&problem, "/detail").contains("disk of the database is full"));
    done(&owner, "drop table filler; checkpoint").await;
    runner.start("freestyle").await;
    drop(owner);
    program.stop().await.well();
}
