//! The program on a PostgreSQL that it does not run itself.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use secrecy::SecretString;

use crate::support::{
    cluster::{Database, connect},
    program::Scratch,
};

use super::{SERVES, changed, log_in, returning, url_of};

#[tokio::test]
async fn a_database_that_never_answers_is_given_up() {
    // This server accepts connections and does nothing else.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address: SocketAddr = mute.local_addr().expect("an address");
    let url = format!(
        "postgresql://postgres:sesame@{address}/speedcoding?sslmode=disable&connect_timeout=1"
    );
    let scratch = Scratch::new();
    let began = Instant::now();
    scratch.program(SERVES).on(&url).finish().await.told(&[
        "DATABASE_URL",
        &format!("cannot connect to PostgreSQL at {address}: "),
        "no answer in 1 s",
    ]);
    assert!(began.elapsed() < Duration::from_secs(25));
}

#[tokio::test]
async fn an_owners_url_alone_does_not_mean_the_private_postgresql() {
    let scratch = Scratch::new();
    let owner = "postgresql://postgres:sesame-sesame@127.0.0.1:1/postgres";
    scratch
        .program(SERVES)
        .env("MIGRATION_DATABASE_URL", owner)
        .finish()
        .await
        .told(&["MIGRATION_DATABASE_URL", "`speedcoding db login`"]);
    assert!(!scratch.path("data").exists(), "no PostgreSQL starts");
}

#[tokio::test]
async fn an_owners_url_is_migrated_and_then_served_as_the_service_role() {
    let database = Database::empty().await;
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).on(&url_of(&database)).serve().await;
    let alice = program.visitor().register("alice").await;
    alice.complete_run().await;
    assert!(!scratch.path("data").exists(), "no private PostgreSQL");

    let owner = database.owner().await;
    let roles = owner
        .query(
            "select distinct application_name from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid()
                and backend_type = 'client backend'", // Autovacuum comes and goes.
            &[],
        )
        .await
        .expect("connections");
    let names: Vec<String> = roles.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["speedcoding"], "the migration has disconnected");
    program.stop().await.well();

    // The account is in the database alone. So another replica knows alice.
    let program = scratch.program(SERVES).on(&url_of(&database)).serve().await;
    log_in(&program, "alice").await;
    program.stop().await.well();
}

#[tokio::test]
async fn the_service_roles_url_is_served_once_an_owner_has_migrated() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let owner = scratch.program(&["db", "url"]).finish().await.well().stdout;
    let service = scratch
        .program(&["db", "login"])
        .finish()
        .await
        .well()
        .stdout;
    connect(&SecretString::from(owner.trim_end()))
        .await
        .batch_execute("create database fresh")
        .await
        .expect("a database");
    let fresh = |url: &str| changed(url.trim_end(), |url| url.set_path("fresh"));
    let (owner, service) = (fresh(&owner), fresh(&service));

    // The service's login cannot migrate. The message says which login can.
    scratch
        .program(SERVES)
        .on(&service)
        .finish()
        .await
        .told(&["speedcoding migrate", "owner"]);
    // If the replica has the owner's URL as well, it can migrate.
    let replica = scratch
        .program(SERVES)
        .on(&service)
        .env("MIGRATION_DATABASE_URL", &owner)
        .serve()
        .await;
    replica.visitor().register("alice").await;
    replica.stop().await.well();
    // After that, the replica starts without the owner's URL.
    let replica = scratch.program(SERVES).on(&service).serve().await;
    log_in(&replica, "alice").await.complete_run().await;
    replica.stop().await.well();
    program.stop().await.well();
}

#[tokio::test]
async fn four_replicas_started_at_once_migrate_once_and_all_serve() {
    let database = Database::empty().await;
    let scratch = Scratch::new();
    let started: Vec<_> = (0..4)
        .map(|_| scratch.program(SERVES).on(&url_of(&database)).start())
        .collect();
    let mut replicas = Vec::new();
    for replica in started {
        replicas.push(replica.announced().await);
    }

    // Each replica accepts the tokens of all others.
    let alice = replicas[0].visitor().register("alice").await;
    for replica in &replicas {
        let alice = returning(replica, &alice);
        alice.get("/auth/me").await.ok(200);
        log_in(replica, "alice").await;
    }
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/migrations"));
    let recorded: i64 = database
        .owner()
        .await
        .query_one("select count(*) from private.migration_history", &[])
        .await
        .expect("a history")
        .get(0);
    assert_eq!(recorded as usize, files.expect("migrations").count());
    for replica in replicas {
        replica.stop().await.well();
    }
}
