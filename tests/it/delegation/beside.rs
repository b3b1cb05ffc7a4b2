//! The PostgREST that the service starts itself.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use crate::support::{
    postgrest::{pretend_postgrest, pretended},
    program::{Scratch, is_alive, send, until},
    upstream::Upstream,
};

use super::{EMPTY, PATIENCE, get};

#[tokio::test]
async fn a_postgrest_on_path_runs_beside_the_private_postgresql_and_no_longer_than_the_service() {
    let scratch = Scratch::new();
    let (notes, path) = pretend_postgrest(&scratch);
    let program = scratch.program(&["serve"]).env("PATH", &path).serve().await;
    let first = pretended(&notes, None).await;

    // With what it needs, and none of it where others could read it.
    let env = fs::read_to_string(notes.join("env")).expect("an environment");
    let value = |name: &str| {
        let line = env
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    let kept = fs::read_to_string(scratch.path("data/embedded.env")).expect("secrets");
    let kept = |name: &str| {
        let line = kept
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    let password = kept("AUTHENTICATOR_PASSWORD");
    let database = value("PGRST_DB_URI");
    assert!(
        database.starts_with(&format!("postgresql://authenticator:{password}@127.0.0.1:")),
        "{database}"
    );
    assert_eq!(value("PGRST_JWT_SECRET"), kept("JWT_SECRET"));
    for (name, expected) in [
        ("PGRST_DB_SCHEMAS", "public"),
        ("PGRST_DB_ANON_ROLE", "anon"),
        ("PGRST_DB_PRE_REQUEST", "speedcoding.check_request"),
        ("PGRST_SERVER_HOST", "127.0.0.1"),
    ] {
        assert_eq!(value(name), expected);
    }
    assert!(
        !env.contains("DATA_DIR"),
        "nothing of the service's own: {env}"
    );
    let port = value("PGRST_SERVER_PORT");
    assert_eq!(kept("POSTGREST_URL"), format!("http://127.0.0.1:{port}"));
    let argv = fs::read_to_string(notes.join("argv")).expect("its arguments");
    assert!(
        !argv.contains(&password) && !argv.contains(&kept("JWT_SECRET")),
        "{argv}"
    );
    let mode = fs::metadata(scratch.path("data/postgrest.log"))
        .expect("a log")
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // It may log in, and become only whom a token names.
    let mut client = database.parse::<tokio_postgres::Config>().expect("a URL");
    let (client, connection) = client
        .connect_timeout(PATIENCE)
        .connect(tokio_postgres::NoTls)
        .await
        .expect("a login");
    tokio::spawn(connection);
    client
        .batch_execute("set role anon; reset role; set role authenticated")
        .await
        .expect("roles");
    client.batch_execute("reset role").await.expect("a role");
    client
        .batch_execute("select from public.users")
        .await
        .expect_err("nothing of its own");
    client
        .batch_execute("set role postgres")
        .await
        .expect_err("no owner");

    // It does not answer, and nothing else minds.
    let visitor = program.visitor();
    get(&visitor, "/rest/v1/users")
        .await
        .problem(502, "upstream_unavailable");
    visitor.get("/health/ready").await.ok(200);

    // It is started again when it ends.
    send(first, "KILL");
    let second = pretended(&notes, Some(first)).await;
    program.stop().await.well();
    assert!(!is_alive(second), "it has stopped with the service");

    // The same port and password the next time; a service that is killed takes it along.
    let program = scratch.program(&["serve"]).env("PATH", &path).serve().await;
    let third = pretended(&notes, Some(second)).await;
    let env = fs::read_to_string(notes.join("env")).expect("an environment");
    assert!(env.contains(&format!("PGRST_SERVER_PORT={port}\n")) && env.contains(&password));
    program.signal("KILL");
    program.ended().await;
    if std::process::Command::new("setpriv")
        .arg("--version")
        .output()
        .is_ok()
    {
        until("it has ended too", async || {
            (!is_alive(third)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_postgrest_that_cannot_be_run_is_told_and_a_named_one_is_preferred() {
    let scratch = Scratch::new();
    let (notes, path) = pretend_postgrest(&scratch);
    let upstream = Upstream::answering(EMPTY).await;
    let program = scratch
        .program(&["serve"])
        .env("PATH", &path)
        .env("POSTGREST_URL", upstream.url.as_str())
        .serve()
        .await;
    get(&program.visitor(), "/rest/v1/users").await.ok(200);
    let said = program.stop().await.well().stdout;
    assert!(said.contains("PostgREST   as POSTGREST_URL says"), "{said}");
    assert!(!notes.join("pid").exists());

    let file = scratch.path("bin/postgrest");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("permissions");
    let program = scratch.program(&["serve"]).env("PATH", &path).serve().await;
    get(&program.visitor(), "/rest/v1/users")
        .await
        .problem(501, "postgrest_missing");
    let said = program.stop().await.well().stderr;
    let told = format!("may not run {}", file.display());
    assert!(
        said.contains(&told) && said.contains("/usr/local/bin"),
        "{said}"
    );
}
