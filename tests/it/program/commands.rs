//! The commands beside `serve`, and the help.

use secrecy::{ExposeSecret, SecretString};
use speedcoding::db::migrate::migrate;

use crate::support::{
    cluster::{Database, connect},
    program::{Scratch, is_alive, postmaster},
};

use super::{SERVES, changed, log_in, url_of};

#[tokio::test]
async fn migrate_works_on_a_database_at_rest_and_on_one_that_is_served() {
    let scratch = Scratch::new();
    let first = scratch.program(&["migrate"]).finish().await.well();
    assert!(first.stdout.starts_with("Migrated: "), "{}", first.stdout);
    assert!(
        first.stdout.contains("roles_and_schemas"),
        "{}",
        first.stdout
    );
    assert_eq!(
        postmaster(&scratch.path("data")).filter(|pid| is_alive(*pid)),
        None
    );

    let again = scratch.program(&["migrate"]).finish().await.well();
    assert_eq!(again.stdout, "The database is up to date.\n");

    let program = scratch.program(SERVES).serve().await;
    let meanwhile = scratch.program(&["migrate"]).finish().await.well();
    assert_eq!(meanwhile.stdout, "The database is up to date.\n");
    program.visitor().register("alice").await;
    program.stop().await.well();
}

#[tokio::test]
async fn set_role_appoints_the_first_moderator_and_is_audited() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let alice = program.visitor().register("Alice").await;
    let set_role = |name: &str, role: &str| scratch.program(&["users", "set-role", name, role]);
    let told = set_role("alice", "moderator").finish().await.well();
    assert_eq!(told.stdout, "Alice was runner, and is now moderator.\n");
    assert_eq!(alice.get("/auth/me").await.ok(200)["role"], "moderator");
    let url = scratch.program(&["db", "url"]).finish().await.well();
    let sql = connect(&SecretString::from(url.stdout.trim())).await;
    let audited = sql
        .query_one(
            "select details::text from private.audit_log where action = 'user.role_changed'",
            &[],
        )
        .await
        .expect("one row");
    assert_eq!(
        audited.get::<_, &str>(0),
        r#"{"to": "moderator", "from": "runner"}"#
    );

    let refused = set_role("nobody", "admin").finish().await;
    refused.told(&["there is no user \"nobody\""]);
    let refused = set_role("alice", "emperor").finish().await;
    refused.told(&["invalid value 'emperor'"]);
    drop(sql);
    program.stop().await.well();

    let told = set_role("alice", "runner").finish().await.well();
    assert_eq!(told.stdout, "Alice was moderator, and is now runner.\n");
}

#[tokio::test]
async fn set_role_needs_an_owner_a_database_and_users_in_it() {
    let scratch = Scratch::new();
    let set_role = || scratch.program(&["users", "set-role", "alice", "admin"]);
    set_role()
        .finish()
        .await
        .told(&["there are no users in", "start `speedcoding`"]);
    assert!(!scratch.path("data").exists(), "it creates no directory");

    let database = Database::empty().await;
    let owner = url_of(&database);
    set_role().on(&owner).finish().await.told(&[
        "DATABASE_URL",
        "there are no tables yet",
        "speedcoding migrate",
    ]);
    migrate(database.url()).await.expect("migrations");
    set_role()
        .on(&owner)
        .finish()
        .await
        .told(&["there is no user \"alice\""]);
    let insert = "insert into public.users (username) values ('alice')";
    let sql = database.owner().await;
    sql.batch_execute(insert).await.expect("a user");
    let service = changed(&owner, |url| {
        url.set_username("speedcoding_api").expect("a name");
    });
    set_role()
        .on(&service)
        .finish()
        .await
        .told(&["speedcoding_api cannot appoint", "MIGRATION_DATABASE_URL"]);
    for command in [&["migrate"][..], &["seed"]] {
        let told = scratch.program(command).on(&service).finish().await;
        told.told(&["speedcoding_api cannot migrate", "MIGRATION_DATABASE_URL"]);
    }
    let told = set_role()
        .on(&service)
        .env("MIGRATION_DATABASE_URL", &owner)
        .finish()
        .await
        .well();
    assert_eq!(told.stdout, "alice was runner, and is now admin.\n");
    let told = set_role().on(&owner).finish().await.well();
    assert_eq!(told.stdout, "alice is already admin.\n");
    let audited = sql
        .query(
            "select action, details::text, database_role = current_user from private.audit_log order by id",
            &[],
        )
        .await
        .expect("the log");
    let audited: Vec<(&str, &str, bool)> = audited
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(
        audited,
        [
            ("user.registered", r#"{"role": "runner"}"#, true),
            (
                "user.role_changed",
                r#"{"to": "admin", "from": "runner"}"#,
                true
            ),
        ]
    );
}

#[tokio::test]
async fn db_url_lets_other_programs_join_while_it_runs() {
    let scratch = Scratch::new();
    scratch
        .program(&["db", "url"])
        .finish()
        .await
        .told(&["no private PostgreSQL serves", "start `speedcoding`"]);
    assert!(!scratch.path("data").exists(), "it creates no directory");

    let program = scratch.program(SERVES).serve().await;
    program.visitor().register("alice").await;
    let printed = scratch.program(&["db", "url"]).finish().await.well().stdout;
    let url = SecretString::from(printed.trim_end());
    let count: i64 = connect(&url)
        .await
        .query_one("select count(*) from public.users", &[])
        .await
        .expect("an answer")
        .get(0);
    assert_eq!(count, 1);
    // The service itself connects through the socket.
    let by_socket: Option<bool> = connect(&url)
        .await
        .query_one(
            "select bool_and(client_addr is null) from pg_stat_activity where application_name = 'speedcoding'",
            &[],
        )
        .await
        .expect("an answer")
        .get(0);
    assert_eq!(by_socket, Some(true));

    // No client gets in without the password.
    let guessed = changed(url.expose_secret(), |url| {
        url.set_password(Some("postgres")).expect("a password");
    });
    let refused = tokio_postgres::connect(&guessed, tokio_postgres::NoTls).await;
    assert!(refused.is_err());

    program.stop().await.well();
    scratch
        .program(&["db", "url"])
        .finish()
        .await
        .told(&["no private PostgreSQL serves"]);
}

#[tokio::test]
async fn db_login_gives_a_url_that_serves_and_owns_nothing() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let alice = program.visitor().register("alice").await;
    let printed = scratch
        .program(&["db", "login"])
        .finish()
        .await
        .well()
        .stdout;
    let url = printed.trim_end();
    assert!(url.starts_with("postgresql://speedcoding_api:"));

    let replica = scratch.program(SERVES).on(url).serve().await;
    log_in(&replica, "alice").await.complete_run().await;
    let refused = connect(&SecretString::from(url))
        .await
        .batch_execute("delete from public.users")
        .await
        .expect_err("a refusal");
    assert_eq!(refused.code().map(|code| code.code()), Some("42501"));
    replica.stop().await.well();

    // Supabase's pooler finds the project in the user's name.
    let owner = scratch.program(&["db", "url"]).finish().await.well().stdout;
    let owner = SecretString::from(owner.trim_end());
    connect(&owner)
        .await
        .batch_execute(
            "create role \"postgres.abcdefghijklmnopqrst\" superuser login password 'sesame-sesame'",
        )
        .await
        .expect("a role");
    let mut pooler = url::Url::parse(owner.expose_secret()).expect("a URL");
    pooler
        .set_username("postgres.abcdefghijklmnopqrst")
        .expect("a user");
    pooler
        .set_password(Some("sesame-sesame"))
        .expect("a password");
    let login = scratch.program(&["db", "login"]).on(pooler.as_str());
    let printed = login.finish().await.well().stdout;
    assert!(printed.starts_with("postgresql://speedcoding_api.abcdefghijklmnopqrst:"));

    // After a new password, the old URL no longer logs in. Open connections go on.
    scratch.program(&["db", "login"]).finish().await.well();
    alice.get("/auth/me").await.ok(200);
    scratch
        .program(SERVES)
        .on(url)
        .finish()
        .await
        .told(&["DATABASE_URL", "password authentication failed"]);
    program.stop().await.well();
}

#[tokio::test]
async fn openapi_prints_the_document_that_is_served() {
    let scratch = Scratch::new();
    let printed = scratch.program(&["openapi"]).finish().await.well().stdout;
    let document: serde_json::Value = serde_yaml_ng::from_str(&printed).expect("YAML");
    assert_eq!(
        document["openapi"].as_str().map(|version| &version[..2]),
        Some("3.")
    );
    assert!(!scratch.path("data").exists(), "it needs no database");

    let database = Database::empty().await;
    let program = scratch.program(SERVES).on(&url_of(&database)).serve().await;
    let served = program.visitor().get("/openapi.json").await.ok(200);
    assert_eq!(served, document);
    program.stop().await.well();
}

#[tokio::test]
async fn a_reader_who_has_had_enough_is_no_failure_and_a_full_disk_is_one() {
    let scratch = Scratch::new();
    let cut = scratch.program(&["openapi"]);
    // The document is larger than a pipe holds. So the program is still writing when the reader leaves.
    let cut = cut.through(
        "sh",
        &["-c", r#"("$@"; echo "ended $?" >&2) | head -n 1"#, "sh"],
    );
    let cut = cut.finish().await.well();
    assert_eq!(cut.stdout, "openapi: 3.0.0\n");
    assert!(cut.stderr.contains("ended 0"), "{}", cut.stderr);

    let full = scratch.program(&["openapi"]);
    let full = full.through("sh", &["-c", r#""$@" >/dev/full"#, "sh"]);
    full.finish().await.told(&["standard output"]);
}

#[tokio::test]
async fn help_names_every_command_and_setting_and_no_secret() {
    let scratch = Scratch::new();
    let help = scratch
        .program(&["--help"])
        .on("postgresql://owner:hunter22222@db.example/speedcoding")
        .env("REFRESH_SECRETS", "a refresh secret of more than 32 bytes")
        .finish()
        .await
        .well()
        .stdout;
    for word in [
        "serve",
        "migrate",
        "seed",
        "openapi",
        "db",
        "users",
        "challenges",
        "DATABASE_URL",
        "MIGRATION_DATABASE_URL",
        "DATA_DIR",
        "JWT_SECRET",
        "REFRESH_SECRETS",
        "BIND",
        "METRICS_BIND",
        "CORS_ORIGINS",
        "VIDEO_HOSTS",
        "refresh, runs",
    ] {
        assert!(help.contains(word), "{word} in\n{help}");
    }
    let version = scratch.program(&["--version"]).finish().await.well().stdout;
    assert_eq!(
        version,
        format!("speedcoding {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn the_help_of_a_command_shows_the_settings_that_count_for_it_and_it_takes_all() {
    let scratch = Scratch::new();
    for (command, shown, hidden) in [
        (
            &["migrate"][..],
            &["--database-url", "--log-format"][..],
            &["--bind", "--jwt-secret"][..],
        ),
        (
            &["users", "set-role"],
            &["--migration-database-url", "--data-dir"],
            &["--bind", "--video-hosts"],
        ),
        (
            &["challenges", "load"],
            &["<FILE>", "--data-dir"],
            &["--bind", "--db-statements"],
        ),
        (
            &["db", "url"],
            &["--data-dir"],
            &["--database-url", "--bind"],
        ),
        (
            &["keys", "public"],
            &["--jwt-keys"],
            &["--jwt-secret", "--data-dir"],
        ),
        (&["openapi"], &[], &["--data-dir", "--bind"]),
        (
            &["doctor"],
            &["--json", "--database-url", "--jwt-keys", "--postgrest-url"],
            &[],
        ),
        (
            &["serve"],
            &[
                "Database:",
                "--data-dir",
                "API:",
                "--bind",
                "--trusted-proxies",
            ],
            &[],
        ),
    ] {
        for flag in ["-h", "--help"] {
            let asked = [command, &[flag]].concat();
            let help = scratch.program(&asked).finish().await.well().stdout;
            for word in shown {
                assert!(help.contains(word), "{word} in\n{help}");
            }
            for word in hidden {
                assert!(!help.contains(word), "{word} in\n{help}");
            }
        }
    }
    for arguments in [["migrate", "--bind", "xyz"], ["--bind", "xyz", "migrate"]] {
        scratch
            .program(&arguments)
            .finish()
            .await
            .told(&["xyz", "--bind"]);
    }
}
