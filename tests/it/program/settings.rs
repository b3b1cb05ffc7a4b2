//! Settings: the environment, a dotenv file, and mistakes in them.

use std::fs;

use serde_json::json;

use crate::support::{
    actor::PASSWORD,
    app::JWT_SECRET,
    cluster::Database,
    program::{Scratch, is_alive},
};

use super::{SERVES, changed, log_in, url_of};

#[tokio::test]
async fn each_wrong_setting_is_named_in_one_line() {
    let database = Database::empty().await;
    let good = url_of(&database);
    let scratch = Scratch::new();
    let external = || scratch.program(SERVES).on(&good);

    scratch
        .program(SERVES)
        .env("BIND", "xyz")
        .finish()
        .await
        .told(&["xyz", "BIND"]);
    external()
        .env("JWT_SECRET", "too short")
        .finish()
        .await
        .told(&["JWT_SECRET has 9 bytes", "at least 32"]);
    scratch
        .program(SERVES)
        .env("DATABASE_URL", &good)
        .finish()
        .await
        .told(&["JWT_SECRET is needed with DATABASE_URL"]);
    external()
        .env(
            "REFRESH_SECRETS",
            "a long one, with more than 32 bytes,short",
        )
        .finish()
        .await
        .told(&["REFRESH_SECRETS", "commas", "32"]);
    let comma = "a long one, with a comma and more than 32 bytes after it";
    external()
        .env("JWT_SECRET", comma)
        .env("REFRESH_SECRETS", format!("{JWT_SECRET},{comma}"))
        .finish()
        .await
        .told(&["JWT_SECRET has a comma", "REFRESH_SECRETS"]);
    external()
        .env("CORS_ORIGINS", "speedcoding.example/")
        .finish()
        .await
        .told(&[
            "CORS_ORIGINS",
            "speedcoding.example/",
            "https://speedcoding.example",
        ]);
    for bind in ["BIND", "METRICS_BIND"] {
        external()
            .env(bind, "localhost:8080")
            .finish()
            .await
            .told(&[bind, "localhost:8080", "such as 127.0.0.1:8080"]);
    }
    for url in ["POSTGREST_URL", "SUPABASE_URL", "POSTGRESQL_RELEASES_URL"] {
        let said = "it must be a URL, such as https://abcdefghijklmnopqrst.supabase.co or http://127.0.0.1:3000";
        external()
            .env(url, "foo")
            .finish()
            .await
            .told(&[url, "foo", said]);
    }
    external()
        .env("DB_STATEMENTS", "some")
        .finish()
        .await
        .told(&["some", "DB_STATEMENTS"]);
    external()
        .env("RUST_LOG", "speedcoding=bogus")
        .finish()
        .await
        .told(&["RUST_LOG", "warn,speedcoding=info"]);

    external()
        .env("JWT_ISSUER", "https://project.supabase.co/auth/v1")
        .finish()
        .await
        .told(&["JWT_ISSUER", "Supabase Auth"]);

    // The message about a wrong URL names the setting and the reason, but never the password.
    let url = |change: fn(&mut url::Url)| changed(&good, change);
    let nobody_listens = url(|url| url.set_port(Some(1)).expect("a port"));
    let wrong_password = url(|url| url.set_password(Some("a wrong one")).expect("a password"));
    let no_such_database = url(|url| url.set_path("nowhere"));
    let no_such_host = url(|url| url.set_host(Some("database.invalid")).expect("a host"));
    // The part of a password behind an unescaped `@` must not be shown as the host.
    let odd_password = "postgresql://root:pass@sesame/word@127.0.0.1:1/app";
    let odd_mode = url(|url| url.set_query(Some("sslmode=perhaps")));
    for (url, why) in [
        (
            "mysql://root:sesame-sesame@localhost/app",
            "not a PostgreSQL connection URL",
        ),
        ("sesame-sesame", "not a PostgreSQL connection URL"),
        (&nobody_listens, ":1: error connecting to server"),
        (&nobody_listens, "Connection refused"),
        (odd_password, "cannot connect to PostgreSQL: "),
        (&wrong_password, "password authentication failed"),
        (&no_such_database, "does not exist"),
        (&no_such_host, "cannot connect"),
        (&odd_mode, "sslmode=perhaps"),
    ] {
        for name in ["DATABASE_URL", "MIGRATION_DATABASE_URL"] {
            let said = external().env(name, url).finish().await.told(&[name, why]);
            assert!(!said.contains("sesame"), "{said}");
            // The message does not blame the other setting.
            assert_eq!(
                said.contains("MIGRATION"),
                name.contains("MIGRATION"),
                "{said}"
            );
        }
        let said = scratch
            .program(&["migrate"])
            .env("DATABASE_URL", url)
            .finish()
            .await
            .told(&["DATABASE_URL", why]);
        assert!(!said.contains("sesame"), "{said}");
    }
    assert!(
        !scratch.path("data").exists(),
        "the refused starts create no files"
    );
}

#[tokio::test]
async fn an_empty_setting_counts_as_none() {
    let scratch = Scratch::new();
    let mut program = scratch.program(SERVES).env("RUST_LOG", "");
    let settings = include_str!("../../../.env.example").lines();
    let names = settings.filter_map(|line| line.strip_prefix('#')?.split_once('='));
    // No test can do without these, because they say where the program runs.
    let names = names.filter(|(name, _)| !["BIND", "DATA_DIR"].contains(name));
    for (name, _) in names.filter(|(name, _)| !name.contains(' ')) {
        program = program.env(name, "");
    }
    let program = program.serve().await;
    assert!(is_alive(program.postmaster()), "a private PostgreSQL runs");
    program.says("PostgreSQL is ready").await;
    program.visitor().register("alice").await;
    program.stop().await.well();
}

#[tokio::test]
async fn a_dotenv_file_is_read_the_environment_wins_and_a_broken_one_is_not_quoted() {
    let database = Database::empty().await;
    let scratch = Scratch::new();
    let dotenv = scratch.path(".env");
    let from_file = format!(
        "DATABASE_URL={}\nJWT_SECRET='{JWT_SECRET}'\nBIND=nonsense\n",
        url_of(&database)
    );
    fs::write(&dotenv, from_file).expect("a file");
    let program = scratch.program(SERVES).serve().await;
    assert!(!scratch.path("data").exists(), "DATABASE_URL was read");
    program.visitor().register("alice").await;
    program.stop().await.well();

    let jwt_secret = "JWT_SECRET is not of the form JWT_SECRET='value'";
    for (text, line, why) in [
        ("JWT_SECRET='sesame-sesame-sesame\n", 1, jwt_secret),
        (
            "BIND=127.0.0.1:0\n\nJWT_SECRET='sesame\nLOG_FORMAT=json\n",
            3,
            jwt_secret,
        ),
        ("# open sesame\nJWT_SECRET=open sesame\n", 2, jwt_secret),
        // A line that looks like a name may be a part of a secret.
        (
            "JWT_SECRET='A\nB'\nSESAME=open sesame\n",
            3,
            "line 3 is not of the form NAME='value'",
        ),
        ("SESAME\n", 1, "line 1 is not of the form NAME='value'"),
    ] {
        fs::write(&dotenv, text).expect("a file");
        let line = format!(".env cannot be read: line {line}");
        let said = scratch.program(SERVES).finish().await.told(&[&line, why]);
        assert!(!said.to_lowercase().contains("sesame"), "{said}");
    }
    // The program also finds the file from a folder beneath it.
    fs::create_dir(scratch.path("beneath")).expect("a directory");
    let beneath = ["-c", r#"cd beneath && exec "$@""#, "sh"];
    let beneath = scratch.program(SERVES).through("sh", &beneath);
    beneath
        .finish()
        .await
        .told(&[".env cannot be read: line 1"]);
}

#[tokio::test]
async fn the_most_talkative_log_tells_no_secret() {
    let scratch = Scratch::new();
    let program = scratch
        .program(SERVES)
        .env("RUST_LOG", "trace")
        .serve()
        .await;
    let alice = program.visitor().register("alice").await;
    alice.complete_run().await;
    log_in(&program, "alice").await;
    // Refusals are logged, too.
    let visitor = program.visitor();
    let twice = json!({ "username": "alice", "password": PASSWORD });
    visitor
        .post("/auth/register", twice)
        .await
        .problem(409, "username_taken");
    let wrong = json!({ "username": "alice", "password": PASSWORD.to_uppercase() });
    visitor
        .post("/auth/login", wrong)
        .await
        .problem(401, "wrong_credentials");
    let ended = program.stop().await.well();
    assert!(
        ended.stderr.contains("verify_milestone"),
        "the log shows the statements"
    );
    assert!(!ended.stderr.contains(&PASSWORD.to_uppercase()));
}
