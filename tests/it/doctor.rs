//! `speedcoding doctor`: it calls a sound deployment sound. It names each fault, and what to do about it.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use speedcoding::{auth::token::AccessTokens, db::migrate::migrate};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::io::AsyncWriteExt;

use crate::{
    lookalike,
    support::{
        app::JWT_SECRET,
        cluster::{Database, first_column},
        postgrest::PostgRest,
        program::{Ended, Launch, Scratch, tell_untold},
        upstream::Upstream,
    },
};

/// A migrated database with the real clock. The doctor would report the clock of the tests as a fault.
async fn migrated() -> Database {
    let database = Database::empty().await;
    migrate(database.url()).await.expect("migrations");
    database
}

/// PostgREST's answer about a relation that a visitor may not read, or that the database does not have.
const DENIED: (&str, &str) = (
    "401 Unauthorized",
    r#"{"code":"42501","message":"permission denied for table bans"}"#,
);

/// A server in PostgREST's place. Its answer depends on the relation, and on whether the request has a token.
async fn saying(
    says: impl Fn(&str, bool) -> (&'static str, &'static str) + Send + Sync + 'static,
) -> Upstream {
    let says = std::sync::Arc::new(says);
    Upstream::acting(move |heard, mut stream| {
        let says = says.clone();
        async move {
            let target = heard
                .line()
                .split(['/', '?', ' '])
                .nth(3)
                .unwrap_or_default();
            let (status, body) = says(target, !heard.all("authorization").is_empty());
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(stream)
        }
    })
    .await
}

/// A server that answers as a PostgREST does. It verifies tokens with this secret, with or without our pre-request.
async fn postgrest(secret: &'static str, pre_request: bool) -> Upstream {
    Upstream::acting(move |heard, mut stream| async move {
        let tokens =
            AccessTokens::new(Some(&SecretString::from(secret)), &[], "speedcoding").expect("keys");
        let sent = heard
            .all("authorization")
            .first()
            .map(|sent| sent.replace("Bearer ", ""));
        let (status, body) = match sent.map(|token| tokens.verify(&token).is_ok()) {
            Some(false) => (
                "401 Unauthorized",
                r#"{"code":"PGRST301","message":"No suitable key"}"#,
            ),
            Some(true) if pre_request => (
                "401 Unauthorized",
                r#"{"code":"PT401","hint":"sign_in_ended","message":"It has ended."}"#,
            ),
            None if !heard.line().contains("/users?") => DENIED,
            _ => ("200 OK", "[]"),
        };
        let date = OffsetDateTime::now_utc().format(&Rfc2822).expect("a date");
        let answer = format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
        Some(stream)
    })
    .await
}

/// The doctor, set to this database and this PostgREST.
fn doctor(scratch: &Scratch, database: &Database, upstream: &Upstream) -> Launch {
    scratch
        .program(&["doctor", "--json"])
        .on(database.url().expose_secret())
        .env("POSTGREST_URL", upstream.url.as_str())
}

/// The failures that a report names, each with its remedies. Checks that the exit code says whether there are any.
#[track_caller]
fn failures(ended: &Ended) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    assert!(findings.len() > 5 || report["sound"] == false, "{report:#}");
    let failures: Vec<_> = findings
        .iter()
        .filter(|finding| finding["status"] == "failure")
        .map(|finding| {
            assert!(
                finding["remedies"][0].is_string(),
                "a finding says what to do: {finding:#}"
            );
            (
                finding["check"].as_str().expect("a name").to_owned(),
                finding.to_string(),
            )
        })
        .collect();
    assert_eq!(report["sound"], failures.is_empty());
    assert_eq!(ended.status.code(), Some(i32::from(!failures.is_empty())));
    failures
}

#[tokio::test]
async fn a_sound_deployment_is_called_sound_by_the_owners_url_and_by_the_services() {
    let scratch = Scratch::new();
    let database = migrated().await;
    // The doctor must not depend on how the database writes values, or on how its constraints were made.
    let owner = database.owner().await;
    let name = first_column(&owner, "select current_database()::text").await;
    for setting in [
        "timezone = 'America/New_York'",
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'sql_standard'",
        "quote_all_identifiers = on",
        "standard_conforming_strings = off",
    ] {
        let set = format!("alter database {} set {setting}", name[0]);
        owner.batch_execute(&set).await.expect(setting);
    }
    owner
        .batch_execute("alter table public.challenges validate constraint challenges_title_plain")
        .await
        .expect("a valid constraint");
    let upstream = postgrest(JWT_SECRET, true).await;
    let ended = doctor(&scratch, &database, &upstream).finish().await;
    assert_eq!(failures(&ended), []);
    for check in [
        "database",
        "migrations",
        "privileges",
        "row access",
        "functions",
        "clock",
        "postgrest clock",
        "keys",
        "pre-request",
    ] {
        let ok = format!("\"check\": \"{check}\",\n      \"status\": \"ok\"");
        let times = ended.stdout.matches(&ok).count();
        assert_eq!(times, 1, "{check}: {}", ended.stdout);
    }
    // This report is for people.
    let text = scratch
        .program(&["doctor"])
        .on(database.url().expose_secret())
        .env("POSTGREST_URL", upstream.url.as_str())
        .finish()
        .await
        .well()
        .stdout;
    assert!(
        text.contains("ok       migrations       all") && text.ends_with("Nothing fails.\n"),
        "{text}"
    );

    // The doctor also works as the service, which may not read the history of migrations. It works without the
    // pre-request, too.
    let upstream = postgrest(JWT_SECRET, false).await;
    let login = scratch
        .program(&["db", "login"])
        .on(database.url().expose_secret())
        .finish()
        .await
        .well();
    let ended = doctor(&scratch, &database, &upstream)
        .env("DATABASE_URL", login.stdout.trim())
        .finish()
        .await;
    assert_eq!(failures(&ended), []);
    for words in [
        "MIGRATION_DATABASE_URL",
        "pgrst.db_pre_request = 'speedcoding.check_request'",
    ] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
}

#[tokio::test]
async fn whatever_differs_from_the_migrations_is_found_and_can_be_mended_as_told() {
    let scratch = Scratch::new();
    let database = migrated().await;
    let upstream = postgrest(JWT_SECRET, true).await;
    let owner = database.owner().await;
    for (harm, check, remedy) in [
        (
            "revoke select on public.users from anon",
            "privileges",
            "grant select on public.users to anon;",
        ),
        (
            "revoke insert (username) on public.users from speedcoding_api",
            "privileges",
            "grant insert (username) on public.users to speedcoding_api;",
        ),
        (
            "grant truncate on public.sessions to authenticated",
            "privileges",
            "revoke truncate on public.sessions from authenticated;",
        ),
        (
            "revoke execute on function private.caller_role() from anon",
            "privileges",
            "grant execute on function private.caller_role to anon;",
        ),
        (
            "grant usage on schema private to anon",
            "privileges",
            "revoke usage on schema private from anon;",
        ),
        (
            "alter table public.milestones disable row level security",
            "row access",
            "alter table public.milestones enable row level security;",
        ),
        (
            "create policy open on public.sessions for select to anon using (true)",
            "row access",
            "drop policy open on public.sessions;",
        ),
        (
            "alter view public.live_sessions reset (security_invoker)",
            "row access",
            "alter view public.live_sessions set (security_invoker = true);",
        ),
        (
            "alter table public.sessions disable trigger sessions_guard",
            "triggers",
            "alter table public.sessions enable trigger sessions_guard;",
        ),
        (
            "alter table private.reviews disable trigger all",
            "triggers",
            "alter table private.reviews enable trigger all;",
        ),
        (
            "create rule quiet as on insert to public.submissions do instead nothing",
            "triggers",
            "drop rule quiet on public.submissions;",
        ),
    ] {
        owner.batch_execute(harm).await.expect(harm);
        let found = failures(&doctor(&scratch, &database, &upstream).finish().await);
        let (_, told) = found
            .iter()
            .find(|(found, _)| found == check)
            .unwrap_or_else(|| panic!("{harm}: {found:?}"));
        assert!(told.contains(remedy), "{harm}: {told}");
        owner.batch_execute(remedy).await.expect(remedy);
    }
    // If a function differs, the remedy is to make it again from its file.
    for (harm, name) in [
        (
            "create or replace function private.caller_id() returns uuid language sql stable
             set search_path = pg_catalog, pg_temp as 'select null::uuid'",
            "caller_id",
        ),
        (
            "alter function private.admit(jsonb) owner to postgres",
            "admit",
        ),
        (
            "alter function private.admit(jsonb) reset search_path",
            "admit",
        ),
        (
            "alter function private.admit(jsonb) security invoker",
            "admit",
        ),
        ("drop function private.check_boards()", "check_boards"),
    ] {
        owner.batch_execute(harm).await.expect(harm);
        let found = failures(&doctor(&scratch, &database, &upstream).finish().await);
        let file = format!("sql/functions/private.{name}.sql");
        let is_told =
            |(check, told): &(String, String)| check == "functions" && told.contains(&file);
        assert!(found.iter().any(is_told), "{harm}: {found:?}");
        let file = std::fs::read_to_string(&file).expect("a file");
        owner.batch_execute(&file).await.expect("the file");
    }
    // The doctor names other objects that differ or are missing.
    for (harm, check, named) in [
        (
            "alter policy sessions_visit on public.sessions using (true)",
            "row access",
            "drop policy sessions_visit on public.sessions; and create it",
        ),
        (
            "create function public.caller_id() returns uuid language sql as 'select null::uuid';
             alter policy audit_log_append on private.audit_log with check (actor_id = public.caller_id())",
            "row access",
            "drop policy audit_log_append on private.audit_log; and create it",
        ),
        (
            "drop policy sessions_visit on public.sessions",
            "row access",
            "create policy sessions_visit on public.sessions",
        ),
        (
            "alter table public.challenges rename column description to descr",
            "tables",
            "restore column public.challenges.description",
        ),
        (
            "alter table public.challenges alter column title drop not null",
            "tables",
            "make column public.challenges.title as in sql/migrations: text not null",
        ),
        (
            "alter table public.challenges drop constraint challenges_slug_form",
            "tables",
            "restore constraint challenges_slug_form on public.challenges",
        ),
        (
            "drop index private.refresh_tokens_user_id",
            "tables",
            "restore index refresh_tokens_user_id on private.refresh_tokens",
        ),
        (
            "alter table public.milestones owner to speedcoding_api",
            "tables",
            "make table public.milestones as in sql/migrations: owner of schema private",
        ),
        (
            "drop table private.failed_logins",
            "tables",
            "restore table private.failed_logins",
        ),
    ] {
        owner.batch_execute(harm).await.expect(harm);
        let found = failures(&doctor(&scratch, &database, &upstream).finish().await);
        let is_told = |(found, told): &(String, String)| found == check && told.contains(named);
        assert!(found.iter().any(is_told), "{harm}: {found:?}");
        // About a missing table the report says nothing else.
        assert!(
            !found
                .iter()
                .any(|(_, told)| told.contains("on private.failed_logins")),
            "{found:?}"
        );
    }

    owner.batch_execute("delete from private.migration_history where version = (select max(version) from private.migration_history)").await.expect("a gap");
    let found = failures(&doctor(&scratch, &database, &upstream).finish().await);
    assert!(
        found[0].0 == "migrations" && found[0].1.contains("speedcoding migrate"),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_wrong_key_a_stopped_upstream_and_a_database_that_is_away_are_told_apart() {
    let scratch = Scratch::new();
    let database = migrated().await;
    let other = postgrest("another secret for tests, also of 32 bytes", true).await;
    let found = failures(&doctor(&scratch, &database, &other).finish().await);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].0 == "keys"
            && found[0]
                .1
                .contains("JWT_SECRET must be the secret that PostgREST verifies with"),
        "{found:?}"
    );

    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let at = |url: &str| doctor(&scratch, &database, &other).env("POSTGREST_URL", url);
    let found = failures(&at(&format!("http://{closed}")).finish().await);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].0 == "postgrest"
            && found[0].1.contains("does not answer")
            && found[0].1.contains("refused")
    );

    for (answer, words) in [
        (
            ("404 Not Found", r#"{"message":"nothing here"}"#),
            "POSTGREST_URL must name its root",
        ),
        (
            (
                "404 Not Found",
                r#"{"code":"PGRST205","message":"Could not find the table"}"#,
            ),
            "reload schema",
        ),
        (
            ("401 Unauthorized", r#"{"message":"Invalid API key"}"#),
            "SUPABASE_ANON_KEY",
        ),
        (("404 Not Found", ""), "404\""),
        (
            (
                "401 Unauthorized",
                r#"{"code":"PGRST504","message":"Database error"}"#,
            ),
            "PGRST_DB_ERRORS_VERBATIM=true",
        ),
        (
            (
                "401 Unauthorized",
                r#"{"code":"42501","message":"permission denied"}"#,
            ),
            "PGRST_DB_ANON_ROLE",
        ),
    ] {
        let (status, body) = answer;
        let upstream = Upstream::answering(format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        let found = failures(&doctor(&scratch, &database, &upstream).finish().await);
        // One cause makes one failure.
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        assert!(
            found[0].0 == "postgrest" && found[0].1.contains(words),
            "{words}: {found:?}"
        );
    }

    let away = format!("postgresql://postgres:sesame-sesame@{closed}/postgres");
    let found = failures(
        &doctor(&scratch, &database, &other)
            .env("DATABASE_URL", &away)
            .finish()
            .await,
    );
    assert!(
        found[0].0 == "database" && found[0].1.contains("cannot connect"),
        "{found:?}"
    );
    let empty = Database::empty().await;
    let ended = doctor(&scratch, &empty, &other).finish().await;
    let found = failures(&ended);
    assert!(
        found.len() == 1
            && found[0].0 == "migrations"
            && found[0].1.contains("speedcoding migrate")
            && ended.stdout.contains("not checked until the migrations"),
        "{ended:?}"
    );
    let found = failures(&scratch.program(&["doctor", "--json"]).finish().await);
    assert!(
        found[0].0 == "database" && found[0].1.contains("start it with"),
        "{found:?}"
    );
}

#[tokio::test]
async fn the_setting_that_is_wrong_is_the_one_that_is_blamed() {
    let scratch = Scratch::new();
    let database = migrated().await;
    let upstream = postgrest(JWT_SECRET, true).await;
    let mut wrong = url::Url::parse(database.url().expose_secret()).expect("a URL");
    wrong.set_password(Some("wrong-wrong")).expect("a password");
    for (url, hint) in [("no URL at all", "correct"), (wrong.as_str(), "%40")] {
        let at = doctor(&scratch, &database, &upstream).env("MIGRATION_DATABASE_URL", url);
        let found = failures(&at.finish().await);
        assert_eq!(found.len(), 1, "{found:?}");
        let (check, told) = &found[0];
        assert!(
            check == "database" && told.contains("correct MIGRATION_DATABASE_URL"),
            "{told}"
        );
        assert!(!told.contains("correct DATABASE_URL"), "{told}");
        assert!(told.contains(hint) && !told.contains("paused"), "{told}");
    }

    // MIGRATION_DATABASE_URL leads to another database here, migrated or empty. The doctor neither examines nor
    // migrates it.
    for other in [migrated().await, Database::empty().await] {
        let at = doctor(&scratch, &database, &upstream)
            .env("MIGRATION_DATABASE_URL", other.url().expose_secret());
        let found = failures(&at.finish().await);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].1.contains("another database than DATABASE_URL"),
            "{found:?}"
        );
        let serves = scratch
            .program(&["serve"])
            .on(database.url().expose_secret());
        let serves = serves.env("MIGRATION_DATABASE_URL", other.url().expose_secret());
        serves
            .finish()
            .await
            .told(&["MIGRATION_DATABASE_URL", "another database"]);
    }
    let knows_others = saying(|relation, _| match relation {
        "users" => (
            "200 OK",
            r#"[{"id":"00000000-0000-4000-8000-000000000000"}]"#,
        ),
        _ => DENIED,
    });
    let found = failures(
        &doctor(&scratch, &database, &knows_others.await)
            .finish()
            .await,
    );
    assert!(
        found.len() == 1 && found[0].1.contains("serves another database"),
        "{found:?}"
    );

    let alone = scratch.program(&["doctor", "--json"]);
    let alone = alone.env("MIGRATION_DATABASE_URL", database.url().expose_secret());
    let found = failures(&alone.finish().await);
    assert!(
        found[0].0 == "settings" && found[0].1.contains("DATABASE_URL is not"),
        "{found:?}"
    );

    // If JWT_KEYS is set, the first remedy is about the keys.
    let keys = scratch.program(&["keys", "generate"]).finish().await.well();
    std::fs::write(scratch.path("keys.json"), keys.stdout).expect("a file");
    let other = postgrest("another secret for tests, also of 32 bytes", true).await;
    let with_keys = doctor(&scratch, &database, &other).env("JWT_KEYS", "keys.json");
    let found = failures(&with_keys.finish().await);
    let told: Value = serde_json::from_str(&found[0].1).expect("JSON");
    let first = told["remedies"][0].as_str().expect("a remedy");
    assert!(first.contains("JWT_KEYS"), "{told}");

    // PATH matters only for the private PostgreSQL.
    let none = scratch.program(&["doctor", "--json"]);
    let ended = none.on(database.url().expose_secret()).finish().await;
    assert_eq!(failures(&ended), []);
    assert!(
        ended.stdout.contains("set POSTGREST_URL or SUPABASE_URL")
            && !ended.stdout.contains("on PATH"),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn a_postrust_that_hides_errors_is_no_wrong_key() {
    let scratch = Scratch::new();
    let database = migrated().await;
    let hiding = saying(|relation, has_token| match relation {
        "users" if !has_token => ("200 OK", "[]"),
        _ => (
            "401 Unauthorized",
            r#"{"code":"PGRST500","message":"Database error"}"#,
        ),
    });
    let found = failures(&doctor(&scratch, &database, &hiding.await).finish().await);
    assert_eq!(found.len(), 1, "{found:?}");
    let (check, told) = &found[0];
    assert!(
        check == "errors"
            && told.contains("PGRST_DB_ERRORS_VERBATIM=true")
            && !told.contains("JWT_SECRET"),
        "{told}"
    );
}

#[tokio::test]
async fn visitors_who_are_not_anon_and_an_audience_that_differs_are_found_at_a_real_postgrest() {
    let scratch = Scratch::new();
    let database = migrated().await;
    for (setting, value, check, words) in [
        ("PGRST_DB_ANON_ROLE", "anon", "", ""),
        (
            "PGRST_DB_ANON_ROLE",
            "service_role",
            "visitors",
            "service_role",
        ),
        (
            "PGRST_DB_ANON_ROLE",
            "authenticated",
            "postgrest",
            "takes visitors for authenticated",
        ),
        (
            "PGRST_JWT_AUD",
            "somebody else",
            "audience",
            "PGRST_JWT_AUD=authenticated",
        ),
    ] {
        let Some(postgrest) = PostgRest::beside_with(&database, &[(setting, value)]).await else {
            tell_untold("roles and audiences of PostgREST", "postgrest or postrust");
            return;
        };
        let examined = scratch
            .program(&["doctor", "--json"])
            .on(database.url().expose_secret())
            .env("POSTGREST_URL", postgrest.url.as_str());
        let found = failures(&examined.finish().await);
        let named: Vec<_> = found.iter().map(|(check, _)| check.as_str()).collect();
        let expected: Vec<_> = [check]
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(named, expected, "{found:?}");
        assert!(
            found.iter().all(|(_, told)| told.contains(words)),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn what_postgrest_12_refuses_is_blamed_on_the_setting_that_is_wrong() {
    let scratch = Scratch::new();
    let database = migrated().await;
    // The answers of PostgREST 12.2: those to visitors, and those to our tokens.
    for (visitor, user, check, remedy) in [
        (
            (
                "401 Unauthorized",
                r#"{"code":"PGRST302","details":null,"hint":null,"message":"Anonymous access is disabled"}"#,
            ),
            None,
            "postgrest",
            "PGRST_DB_ANON_ROLE=anon",
        ),
        (
            (
                "400 Bad Request",
                r#"{"code":"22023","details":null,"hint":null,"message":"role \"visitor\" does not exist"}"#,
            ),
            None,
            "postgrest",
            "PGRST_DB_ANON_ROLE must be anon",
        ),
        (
            (
                "404 Not Found",
                r#"{"code":"42883","details":null,"hint":"No function matches the given name and argument types. You might need to add explicit type casts.","message":"function speedcoding.check() does not exist"}"#,
            ),
            None,
            "postgrest",
            "PGRST_DB_PRE_REQUEST must be speedcoding.check_request",
        ),
        (
            ("200 OK", "[]"),
            Some((
                "401 Unauthorized",
                r#"{"code":"PGRST301","details":null,"hint":null,"message":"JWT not in audience"}"#,
            )),
            "audience",
            "PGRST_JWT_AUD=authenticated",
        ),
        (
            ("200 OK", "[]"),
            Some((
                "401 Unauthorized",
                r#"{"code":"PGRST303","details":null,"hint":null,"message":"JWT issued at future"}"#,
            )),
            "postgrest clock",
            "NTP",
        ),
        (
            ("200 OK", "[]"),
            Some((
                "401 Unauthorized",
                r#"{"code":"PGRST301","details":null,"hint":null,"message":"JWSError JWSInvalidSignature"}"#,
            )),
            "keys",
            "JWT_SECRET must be the secret",
        ),
        (
            ("200 OK", "[]"),
            Some((
                "500 Internal Server Error",
                r#"{"code":"PGRST300","details":null,"hint":null,"message":"Server lacks JWT secret"}"#,
            )),
            "keys",
            "JWT_SECRET must be the secret",
        ),
        (
            ("200 OK", "[]"),
            Some((
                "403 Forbidden",
                r#"{"code":"42501","details":null,"hint":null,"message":"permission denied to set role \"authenticated\""}"#,
            )),
            "postgrest",
            "grant anon, authenticated, service_role to authenticator;",
        ),
    ] {
        let upstream = saying(move |relation, has_token| match (relation, user) {
            (_, Some(user)) if has_token => user,
            ("users", _) => visitor,
            _ => DENIED,
        })
        .await;
        let found = failures(&doctor(&scratch, &database, &upstream).finish().await);
        let [(named, told)] = &found[..] else {
            panic!("{visitor:?}, {user:?}: {found:?}");
        };
        assert!(named == check && told.contains(remedy), "{found:?}");
        for other in ["SUPABASE_ANON_KEY", "POSTGREST_URL", "JWT_SECRET"] {
            assert!(remedy.contains(other) || !told.contains(other), "{told}");
        }
    }
    // A PostgREST without the pre-request.
    let open = saying(|relation, _| match relation {
        "bans" => DENIED,
        _ => ("200 OK", "[]"),
    });
    let found = failures(&doctor(&scratch, &database, &open.await).finish().await);
    assert!(
        found[0].0 == "visitors"
            && found[0].1.contains("takes visitors for authenticated")
            && found[0].1.contains("PGRST_DB_ANON_ROLE=anon"),
        "{found:?}"
    );
    // The project's secret key stands where its publishable key belongs.
    let open = saying(|_, _| ("200 OK", "[]")).await;
    let project = scratch
        .program(&["doctor", "--json"])
        .on(database.url().expose_secret())
        .env("SUPABASE_URL", open.url.as_str())
        .env("SUPABASE_ANON_KEY", "sb_secret_key");
    let found = failures(&project.finish().await);
    assert!(
        found[0].0 == "visitors" && found[0].1.contains("SUPABASE_ANON_KEY must be"),
        "{found:?}"
    );
    assert!(!found[0].1.contains("sb_secret_key"), "{found:?}");
}

#[tokio::test]
async fn a_supabase_project_is_sound_as_the_services_role_sees_it() {
    let project = lookalike::project().await;
    // The role that may make policies on Storage migrates here.
    let owner = &project.superuser_url;
    migrate(owner).await.expect("migrations");
    let upstream = postgrest(JWT_SECRET, true).await;
    let login = project.scratch.program(&["db", "login"]);
    let login = login.on(owner.expose_secret()).finish().await;
    let seen = project.scratch.program(&["doctor", "--json"]);
    let seen = seen
        .on(login.well().stdout.trim_end())
        .env("POSTGREST_URL", upstream.url.as_str())
        .finish()
        .await;
    assert_eq!(failures(&seen), []);
    for check in ["storage", "realtime", "boards"] {
        let looked = format!("\"check\": \"{check}\"");
        assert!(seen.stdout.contains(&looked), "{check}: {}", seen.stdout);
    }
    assert!(
        seen.stdout
            .contains("Supabase Storage has the bucket recordings and its policies"),
        "{}",
        seen.stdout
    );
    project.embedded.stop().await;
}

#[tokio::test]
async fn the_private_postgresql_is_found_and_sound() {
    let scratch = Scratch::new();
    let program = scratch.program(&["serve"]).serve().await;
    let ended = scratch.program(&["doctor", "--json"]).finish().await;
    assert_eq!(failures(&ended), []);
    // Roles belong to the whole server. No other test uses this server.
    let url = scratch.program(&["db", "url"]).finish().await.well();
    let (owner, connection) = tokio_postgres::connect(url.stdout.trim(), tokio_postgres::NoTls)
        .await
        .expect("the owner");
    tokio::spawn(connection);
    for (harm, remedy) in [
        (
            "grant speedcoding_keeper to speedcoding_api",
            "revoke speedcoding_keeper from speedcoding_api;",
        ),
        (
            "grant pg_read_all_data to anon",
            "revoke pg_read_all_data from anon;",
        ),
        (
            "alter role speedcoding_writer login",
            "alter role speedcoding_writer nologin;",
        ),
    ] {
        owner.batch_execute(harm).await.expect(harm);
        let found = failures(&scratch.program(&["doctor", "--json"]).finish().await);
        assert!(
            found.len() == 1 && found[0].1.contains(remedy),
            "{harm}: {found:?}"
        );
        owner.batch_execute(remedy).await.expect(remedy);
    }
    program.stop().await.well();
}
