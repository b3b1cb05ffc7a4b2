//! Migrations: many at once, after Supabase's CLI, and with replicas of several versions.

use std::{fs, path::Path};

use secrecy::SecretString;
use speedcoding::{db::migrate::migrate, embedded::Embedded};
use tokio_postgres::{Client, types::Type};

use crate::support::{
    actor::Actor,
    app::TestApp,
    cluster::{Database, connect, first_column, with_database},
    program::{Scratch, until},
};

/// The migrations in the repository: version, name, text.
pub fn files() -> Vec<(String, String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/migrations");
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("migrations")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let stem = path.file_stem().expect("a name").to_string_lossy();
            let (version, name) = stem.split_once('_').expect("<timestamp>_<name>.sql");
            let text = fs::read_to_string(&path).expect("a text");
            (version.to_owned(), name.to_owned(), text)
        })
        .collect();
    files.sort();
    files
}

fn names(files: &[(String, String, String)]) -> Vec<String> {
    files.iter().map(|(_, name, _)| name.clone()).collect()
}

/// Versions and names that the history holds, in order.
async fn history(owner: &Client) -> Vec<(String, String)> {
    owner
        .query(
            "select version::text, name from private.migration_history order by version",
            &[],
        )
        .await
        .expect("a history")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

fn versions_and_names(files: &[(String, String, String)]) -> Vec<(String, String)> {
    files
        .iter()
        .map(|(version, name, _)| (version.clone(), name.clone()))
        .collect()
}

/// Applies migrations as `supabase db push` does: each with its row in the CLI's own history.
async fn push(owner: &Client, files: &[(String, String, String)]) {
    owner
        .batch_execute(
            "create schema if not exists supabase_migrations;
             create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
             alter table supabase_migrations.schema_migrations
               add column if not exists statements text[], add column if not exists name text;",
        )
        .await
        .expect("the CLI's history");
    for (version, name, text) in files {
        owner.batch_execute(text).await.expect(name);
        owner
            .execute(
                "insert into supabase_migrations.schema_migrations (version, statements, name) values ($1, $2, $3)",
                &[version, &vec![text], name],
            )
            .await
            .expect("a row of history");
    }
}

async fn serves(database: Database) {
    let app = TestApp::start_on(database, |_| {}).await;
    let ended = app.runner("alice").await.complete_run().await;
    assert_eq!(ended["status"], "completed");
}

#[tokio::test]
async fn eight_databases_of_a_fresh_cluster_migrate_at_once() {
    let scratch = Scratch::new();
    let embedded = Embedded::start(&scratch.path("data"), &[("fsync", "off")])
        .await
        .expect("a PostgreSQL");
    let owner = connect(embedded.url()).await;
    let mut urls: Vec<SecretString> = Vec::new();
    for number in 0..8 {
        let name = format!("project_{number}");
        owner
            .batch_execute(&format!("create database {name}"))
            .await
            .expect("a database");
        urls.push(with_database(embedded.url(), &name));
    }
    // Each database is migrated twice at the same time. So replicas of one database meet, and so do databases of one
    // cluster.
    let runs: Vec<_> = urls
        .iter()
        .chain(&urls)
        .cloned()
        .map(|url| tokio::spawn(async move { migrate(&url).await }))
        .collect();
    let mut applied = Vec::new();
    for run in runs {
        applied.push(run.await.expect("a task").expect("a migration"));
    }
    let all = names(&files());
    let (mut first, mut second) = (0, 0);
    for names in &applied {
        match names.as_slice() {
            [] => second += 1,
            names => {
                assert_eq!(names, all);
                first += 1;
            }
        }
    }
    assert_eq!((first, second), (8, 8), "each database exactly once");
    for url in &urls {
        assert_eq!(
            history(&connect(url).await).await,
            versions_and_names(&files())
        );
    }
    drop(owner);
    embedded.stop().await;
}

#[tokio::test]
async fn migrating_again_is_quiet() {
    let database = Database::empty().await;
    assert_eq!(
        migrate(database.url()).await.expect("first"),
        names(&files())
    );
    let owner = database.owner().await;
    let before = history(&owner).await;
    assert_eq!(migrate(database.url()).await.expect("second"), [""; 0]);
    assert_eq!(history(&owner).await, before);
}

#[tokio::test]
async fn what_supabase_pushed_is_adopted_and_nothing_is_applied_twice() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    push(&owner, &files()).await;
    assert_eq!(migrate(database.url()).await.expect("adopted"), [""; 0]);
    assert_eq!(history(&owner).await, versions_and_names(&files()));
    assert_eq!(migrate(database.url()).await.expect("quiet"), [""; 0]);
    serves(database).await;
}

#[tokio::test]
async fn after_a_partial_push_the_rest_is_applied() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    let files = files();
    let (pushed, rest) = files.split_at(3);
    push(&owner, pushed).await;
    assert_eq!(
        migrate(database.url()).await.expect("the rest"),
        names(rest)
    );
    assert_eq!(history(&owner).await, versions_and_names(&files));
    assert_eq!(migrate(database.url()).await.expect("quiet"), [""; 0]);
    serves(database).await;
}

#[tokio::test]
async fn rows_that_would_be_refused_today_stop_neither_an_upgrade_nor_their_review() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    let mut files = files();
    files.retain(|(version, ..)| version.as_str() < "20261125190000");
    push(&owner, &files).await;
    owner
        .batch_execute(
            r"insert into public.users (username) values ('ada');
             insert into public.sessions (user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
             select u.id, c.id, 'Rust', t, t + interval '1 hour', t + interval '1 day', 'completed'
               from public.users as u, public.challenges as c, (values (timestamptz '2026-02-01')) as start (t)
              where slug = 'slack-clone';
             insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at)
             select id, user_id, 9, true, start_time - interval '1 hour' from public.sessions;
             insert into public.submissions
               (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url)
             select id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time,
                    array[U&'po\001Bem', 'tokio'], U&'https://youtu.be/\202Eabc'
               from public.sessions;
             update public.submissions set status = 'REJECTED', review_reason = U&'no\0007';
             insert into private.attestations (session_id, user_id, milestone_number, verdict, checker_version)
             select id, user_id, 9, 'pass', U&'1\0007' from public.sessions;
             update public.challenges set title = U&'\202Echat' where slug = 'slack-clone'",
        )
        .await
        .expect("rows");
    let before = owner
        .query_one("select count(*) from private.audit_log", &[])
        .await;
    migrate(database.url()).await.expect("the rest");
    let row = owner
        .query_one(
            "select packages, video_url, review_reason, revision from public.submissions",
            &[],
        )
        .await
        .expect("a row");
    assert_eq!(row.get::<_, Vec<String>>(0), ["po\u{fffd}em", "tokio"]);
    assert_eq!(row.get::<_, &str>(1), "https://youtu.be/\u{fffd}abc");
    assert_eq!(row.get::<_, &str>(2), "no\u{fffd}");
    assert_eq!(row.get::<_, i32>(3), 1, "no trigger has run");
    let after = owner
        .query_one("select count(*) from private.audit_log", &[])
        .await;
    let count = |row: Result<tokio_postgres::Row, _>| row.expect("a count").get::<_, i64>(0);
    assert_eq!(count(before), count(after));
    for edit in [
        "update public.submissions set status = 'PENDING'",
        // Its milestones become public, too.
        "update public.submissions set status = 'APPROVED'",
        "update public.milestones set attempts = attempts + 1",
        "update public.sessions set tech_stack = 'Go'",
        "update public.challenges set title = 'Chat' where slug = 'slack-clone'",
    ] {
        owner.batch_execute(edit).await.expect(edit);
    }
    let version = "select checker_version || (select min(reason) from private.reviews) from private.attestations";
    assert_eq!(first_column(&owner, version).await, ["1\u{fffd}no\u{fffd}"]);
    let published = "select bool_and(published) from public.milestones";
    let published = owner.query_one(published, &[]).await.expect("a row");
    assert!(published.get::<_, bool>(0));
    let again =
        r"update public.submissions set packages = packages || U&'\202E', status = 'PENDING'";
    owner.batch_execute(again).await.expect_err("a trigger");
    serves(database).await;
}

#[tokio::test]
async fn a_long_video_url_and_keys_of_before_follow_the_upgrade() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    let mut files = files();
    files.retain(|(version, ..)| version.as_str() <= "20261129020000");
    push(&owner, &files).await;
    owner
        .batch_execute(
            r"insert into public.users (username) values ('ada');
             insert into public.sessions (user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
             select u.id, c.id, 'NodeJS; PL/SQL', t, t + interval '1 hour', t + interval '1 day', 'completed'
               from public.users as u, public.challenges as c, (values (timestamptz '2026-02-01')) as start (t)
              where slug = 'slack-clone';
             insert into public.submissions
               (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url)
             select id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, '{}',
                    'https://x.example/'
                      || (select string_agg(chr(131072 + n * 7919 % 40000), '') from generate_series(1, 2030) as n)
               from public.sessions;
             update public.submissions set status = 'APPROVED'",
        )
        .await
        .expect("rows");
    let edits = "select count(*)::text from private.audit_log where action like 'session.%'";
    let before = first_column(&owner, edits).await;
    migrate(database.url()).await.expect("the rest");
    let keys = "select concat_ws(' ', s.tech_stack_key, u.tech_stack_key, length(u.video_key), length(u.video_url))
                  from public.sessions as s join public.submissions as u on u.session_id = s.id";
    assert_eq!(
        first_column(&owner, keys).await,
        ["node.js,pl/sql node.js,pl/sql 68 2048"]
    );
    assert_eq!(first_column(&owner, edits).await, before, "nobody's edit");
    let wrong = first_column(&owner, "select private.check_boards()::text").await;
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test]
async fn a_replica_at_work_and_an_upgrade_that_want_what_the_other_has_both_succeed() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    let all = files();
    let (old, new) =
        all.split_at(all.partition_point(|(version, ..)| version.as_str() < "20261125190000"));
    push(&owner, old).await;
    owner
        .batch_execute(
            r"insert into public.users (username) values ('ada');
             insert into public.sessions (user_id, challenge_id, tech_stack, start_time, deadline)
             select u.id, c.id, 'Rust', t, t + interval '1 day'
               from public.users as u, public.challenges as c, (values (timestamptz '2026-02-01')) as start (t)
              where slug = 'slack-clone';
             insert into private.attestations (session_id, user_id, milestone_number, verdict, checker_version)
             select id, user_id, 1, 'pass', U&'1\0007' from public.sessions",
        )
        .await
        .expect("a row that the upgrade changes");
    let waiting = async |count: i64| {
        let asked = "select count(*) from pg_stat_activity
                      where datname = current_database() and wait_event_type = 'Lock'";
        until("so many wait for a lock", async || {
            let row = owner.query_one(asked, &[]).await.expect("an answer");
            (row.get::<_, i64>(0) == count).then_some(())
        })
        .await;
    };
    let begin = async |lock: &str| {
        let client = database.owner().await;
        let locked = client.batch_execute(&format!("begin; {lock}")).await;
        locked.expect("a lock");
        client
    };
    let review = begin("select from public.submissions for update").await;
    // By then the upgrade has begun with the submissions. It waits for this lock.
    let other = begin("select from private.attestations for update").await;
    let url = database.url().clone();
    let upgrade = tokio::spawn(async move { migrate(&url).await });
    waiting(1).await;
    let review = tokio::spawn(async move {
        let rest = "update public.submissions set submitted_at = submitted_at; commit";
        review.batch_execute(rest).await
    });
    waiting(2).await;
    other.batch_execute("commit").await.expect("its end");
    review.await.expect("a task").expect("the rest of a review");
    let applied = upgrade.await.expect("a task").expect("migrations");
    assert_eq!(applied, names(new));
    serves(database).await;
}

#[tokio::test]
async fn push_and_migrate_may_take_turns() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    let files = files();
    push(&owner, &files[..2]).await;
    // An older release knows only these migrations. Its history would look like this one.
    assert_eq!(
        migrate(database.url()).await.expect("the rest"),
        names(&files[2..])
    );
    // The user tells the CLI which migrations were applied without it (`supabase migration repair`).
    for (version, name, _) in &files[2..] {
        owner
            .execute(
                "insert into supabase_migrations.schema_migrations (version, name) values ($1, $2)",
                &[version, name],
            )
            .await
            .expect("a repaired history");
    }
    assert_eq!(migrate(database.url()).await.expect("quiet"), [""; 0]);
    assert_eq!(history(&owner).await, versions_and_names(&files));
}

#[tokio::test]
async fn a_push_with_a_gap_is_refused_and_nothing_is_recorded_that_was_not_applied() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    let files = files();
    push(&owner, &files[..3]).await;
    // Only the newest migration is recorded, as by `supabase migration repair`. Those before it are not.
    let (version, name, _) = files.last().expect("a migration");
    owner
        .execute(
            "insert into supabase_migrations.schema_migrations (version, name) values ($1, $2)",
            &[version, name],
        )
        .await
        .expect("a row");
    let refusal = migrate(database.url()).await.expect_err("a refusal");
    let said = format!("{refusal:#}");
    assert!(
        said.contains(&files[3].1) && said.contains("supabase"),
        "{said}"
    );
    let recorded = owner
        .query_one(
            "select to_regclass('private.migration_history') is not null",
            &[],
        )
        .await
        .expect("an answer");
    if recorded.get(0) {
        assert!(history(&owner).await.len() <= 3);
    }
}

#[tokio::test]
async fn an_older_replica_still_starts_on_a_newer_database() {
    let database = Database::empty().await;
    migrate(database.url()).await.expect("migrations");
    let owner = database.owner().await;
    owner
        .batch_execute(
            "insert into private.migration_history
             select 99990101000000, 'from_the_future', applied_on, '42' from private.migration_history limit 1",
        )
        .await
        .expect("a newer history");
    assert_eq!(migrate(database.url()).await.expect("quiet"), [""; 0]);
    assert_eq!(history(&owner).await.len(), files().len() + 1);
    // Everything that an older release needs is still there.
    owner
        .prepare_typed("select private.delete_me($1)", &[Type::JSONB])
        .await
        .expect("its statement");

    let scratch = Scratch::new();
    use secrecy::ExposeSecret;
    let program = scratch
        .program(&["serve"])
        .on(database.url().expose_secret())
        .serve()
        .await;
    Actor::new(&program.base).register("alice").await;
    program.stop().await.well();
}

#[tokio::test]
async fn a_migration_that_was_changed_after_it_was_applied_is_refused_by_name() {
    let database = Database::empty().await;
    migrate(database.url()).await.expect("migrations");
    database
        .owner()
        .await
        .batch_execute(
            "update private.migration_history set checksum = '42' where name = 'roles_and_schemas'",
        )
        .await
        .expect("another checksum");
    let refusal = migrate(database.url()).await.expect_err("a refusal");
    let said = format!("{refusal:#}");
    assert!(said.contains("roles_and_schemas"), "{said}");
}
