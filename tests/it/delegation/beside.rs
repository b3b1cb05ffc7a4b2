//! The PostgREST that the service starts itself.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use crate::support::{
    cluster::connect,
    postgrest::{pretend_postgrest, pretended},
    program::{Scratch, install_script, is_alive, send, until},
    upstream::Upstream,
};

use super::{EMPTY, PATIENCE, get};

#[tokio::test]
async fn a_postgrest_on_path_runs_beside_the_private_postgresql_and_no_longer_than_the_service() {
    let scratch = Scratch::new();
    let (notes, path) = pretend_postgrest(&scratch);
    let program = scratch.program(&["serve"]).env("PATH", &path).serve().await;
    let first = pretended(&notes, None).await;

    // PostgREST gets its settings in its environment. No secret stands where other users could read it.
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
        ("PGRST_DB_POOL", "20"),
        ("PGRST_DB_PRE_REQUEST", "speedcoding.check_request"),
        ("PGRST_SERVER_HOST", "127.0.0.1"),
    ] {
        assert_eq!(value(name), expected);
    }
    assert!(
        !env.contains("DATA_DIR"),
        "the service's own settings are absent: {env}"
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
    // PostgREST's login may become only the roles that tokens name.
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
        .expect_err("no rights of its own");
    client
        .batch_execute("set role postgres")
        .await
        .expect_err("it is no owner");

    // PostgREST does not answer. Everything else works.
    let visitor = program.visitor();
    get(&visitor, "/rest/v1/users")
        .await
        .problem(502, "upstream_unavailable");
    visitor.get("/health/ready").await.ok(200);

    // The service starts PostgREST again when it ends.
    send(first, "KILL");
    let second = pretended(&notes, Some(first)).await;
    program.stop().await.well();
    assert!(!is_alive(second), "PostgREST has stopped with the service");

    // The next start uses the same port and password. When the service is killed, PostgREST ends with it.
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

#[tokio::test]
async fn however_much_a_program_has_to_say_its_log_stays_small() {
    const LIMIT: u64 = 10 * 1024 * 1024;
    let scratch = Scratch::new();
    let bin = scratch.path("bin");
    fs::create_dir(&bin).expect("a directory");
    let chatty = "trap exit INT\nyes 'DELETE /board_entries 500' | head -c 35000000\necho the end >&2\nexec sleep 3600";
    install_script(chatty, &bin.join("postgrest"));
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").expect("a PATH")
    );
    let program = scratch.program(&["serve"]).env("PATH", &path).serve().await;
    let url = scratch.program(&["db", "url"]).finish().await.well();
    let owner = connect(&url.stdout.trim().to_owned().into()).await;
    owner
        .batch_execute(
            "do $$ begin for i in 1..4000 loop raise log '%', repeat('x', 8000); end loop; end $$;
             do $$ begin raise log 'the end'; end $$",
        )
        .await
        .expect("long messages");
    for name in ["postgrest.log", "postgres.log"] {
        let log = scratch.path("data").join(name);
        until("all has been said", async || {
            let text = fs::read(&log).ok()?;
            let last = text.get(text.len().saturating_sub(2000)..)?;
            String::from_utf8_lossy(last)
                .contains("the end")
                .then_some(())
        })
        .await;
        for log in [log.clone(), log.with_added_extension("1")] {
            let log = fs::metadata(&log).expect("a log");
            assert!(log.len() <= LIMIT, "{name}: {}", log.len());
            assert_eq!(log.mode() & 0o777, 0o600);
        }
        assert!(!log.with_added_extension("2").exists());
    }
    program.stop().await.well();
}
