//! Checks the database itself: server, migrations, roles, pooler, Supabase's additions, boards.

use secrecy::SecretString;
use tokio_postgres::Client;

use super::report::{Finding, Report, Status, judge_skew};
use crate::{
    config::{Config, Statements},
    db::{connect::PostgresUrl, migrate},
};

const MISSING_IN_ROLES: &str = include_str!("../../../sql/doctor/roles.sql");

pub async fn look_at_server(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let row = client
        .query_typed_one(include_str!("../../../sql/doctor/server.sql"), &[])
        .await?;
    let (number, version, database, user): (i32, &str, &str, &str) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let found = format!("PostgreSQL {version}, database {database}, as {user}");
    if number < 150_000 {
        report.fail("database", found, ["upgrade PostgreSQL to 15 or newer"]);
    } else {
        report.add("database", Status::Ok, found);
    }
    judge_skew("clock", "the database's", row.get(4), report);
    Ok(())
}

/// How far a database is migrated.
pub enum Migrations {
    /// All migrations of this version, and no others.
    Ours,
    /// More migrations than this version knows.
    Newer,
    /// No migration, or too few.
    Missing,
}

pub async fn look_at_migrations(
    owner: Option<&Client>,
    report: &mut Report,
) -> anyhow::Result<Migrations> {
    const MIGRATE: &str = "run `speedcoding migrate` with the owner's URL, or `supabase db push`";
    let Some(owner) = owner else {
        report.advise(
            "migrations",
            Status::Note,
            "not checked: the service may not read the history of migrations",
            ["set MIGRATION_DATABASE_URL to the owner's URL"],
        );
        return Ok(Migrations::Ours);
    };
    let state = migrate::state(owner).await?;
    if !state.missing.is_empty() {
        let found = match state.applied {
            0 => "none applied".to_owned(),
            _ => format!("not applied: {}", state.missing.join(", ")),
        };
        report.fail("migrations", found, [MIGRATE]);
        return Ok(Migrations::Missing);
    }
    if state.unknown > 0 {
        let found = format!(
            "all applied, and {} that this version does not know",
            state.unknown
        );
        report.advise(
            "migrations",
            Status::Warning,
            found,
            ["run the version that migrated this database"],
        );
        return Ok(Migrations::Newer);
    }
    report.add(
        "migrations",
        Status::Ok,
        format!("all {} applied", state.applied),
    );
    Ok(Migrations::Ours)
}

pub async fn look_at_roles(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let rows = client.query_typed(MISSING_IN_ROLES, &[]).await?;
    if rows.is_empty() {
        report.add(
            "roles",
            Status::Ok,
            "all exist; only service_role bypasses the policies",
        );
        return Ok(());
    }
    report.push(Finding {
        check: "roles",
        status: Status::Failure,
        found: "they differ from the migrations; run as the owner:".to_owned(),
        remedies: rows.iter().map(|row| row.get(0)).collect(),
    });
    Ok(())
}

/// Finds a pooler in transaction mode: there an idle connection lends its server connection to the next client.
pub async fn look_at_pooler(
    config: &Config,
    url: &SecretString,
    report: &mut Report,
) -> anyhow::Result<()> {
    let url = PostgresUrl::parse(url)?;
    let ((first, _), (second, _)) = (url.connect().await?, url.connect().await?);
    const WHO: &str = "select pg_backend_pid()";
    let mut shared = false;
    for _ in 0..3 {
        let lent: i32 = first.query_typed_one(WHO, &[]).await?.get(0);
        second.batch_execute("begin").await?;
        let used: i32 = second.query_typed_one(WHO, &[]).await?.get(0);
        second.batch_execute("rollback").await?;
        shared |= lent == used;
    }
    match (shared, config.db_statements) {
        (true, Statements::Prepared) => report.fail(
            "pooler",
            "the connection goes through a pooler in transaction mode, which loses prepared statements",
            [
                "set DB_STATEMENTS=unnamed",
                "or connect directly, or through the pooler's session mode",
            ],
        ),
        (true, Statements::Unnamed) => report.add(
            "pooler",
            Status::Ok,
            "in transaction mode, and statements are sent unnamed",
        ),
        (false, Statements::Prepared) => {
            report.add("pooler", Status::Ok, "none, or in session mode")
        }
        (false, Statements::Unnamed) => report.advise(
            "pooler",
            Status::Note,
            "none, or in session mode: statements need not be unnamed",
            ["DB_STATEMENTS=prepared saves PostgreSQL some work"],
        ),
    }
    Ok(())
}

/// Checks the additions of Supabase: Storage for recordings, and the publication of Realtime.
pub async fn look_at_supabase(
    client: &Client,
    owner: Option<&Client>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let row = client
        .query_typed_one(include_str!("../../../sql/doctor/supabase.sql"), &[])
        .await?;
    // Only the owner may read its rows.
    let bucket = match owner {
        Some(owner) if row.get(0) => {
            let bucket = include_str!("../../../sql/doctor/bucket.sql");
            Some(owner.query_typed_opt(bucket, &[]).await?)
        }
        _ => None,
    };
    const OPEN: [&str; 1] = [
        "select private.open_recordings(); as a superuser, or by hand in the dashboard: docs/dashboard.md",
    ];
    match (row.get(0), row.get::<_, Option<&str>>(1), bucket) {
        (false, ..) => report.add(
            "storage",
            Status::Note,
            "there is no Supabase Storage, so recordings are on other hosts",
        ),
        (true, _, Some(Some(bucket))) if bucket.get(0) => report.fail(
            "storage",
            "the bucket recordings is public, so everybody sees recordings that are not approved",
            ["update storage.buckets set public = false where id = 'recordings';"],
        ),
        (true, _, Some(None)) => report.advise(
            "storage",
            Status::Warning,
            "Supabase Storage has no bucket recordings",
            OPEN,
        ),
        (true, Some(rules), _) => report.advise(
            "storage",
            Status::Warning,
            format!("Supabase Storage has no policy on storage.objects that asks {rules}"),
            OPEN,
        ),
        (true, None, _) => report.add(
            "storage",
            Status::Ok,
            "Supabase Storage has the bucket recordings and its policies",
        ),
    }
    match (row.get(2), row.get::<_, Option<&str>>(3)) {
        (true, Some(tables)) => report.add("realtime", Status::Ok, format!("publishes {tables}")),
        (true, None) => report.add(
            "realtime",
            Status::Note,
            "supabase_realtime publishes no table of SpeedCoding",
        ),
        (false, _) => report.add("realtime", Status::Note, "there is no Supabase Realtime"),
    }
    Ok(())
}

/// Compares the boards that are kept with boards that are computed from scratch.
pub async fn look_at_boards(owner: Option<&Client>, report: &mut Report) -> anyhow::Result<()> {
    let Some(owner) = owner else {
        report.add(
            "boards",
            Status::Note,
            "not checked: set MIGRATION_DATABASE_URL to the owner's URL",
        );
        return Ok(());
    };
    let known = owner
        .query_typed_one(
            "select to_regprocedure('private.check_boards()') is not null",
            &[],
        )
        .await?;
    if !known.get::<_, bool>(0) {
        return Ok(());
    }
    let wrong: i64 = owner
        .query_typed_one("select count(*) from private.check_boards()", &[])
        .await?
        .get(0);
    if wrong == 0 {
        report.add(
            "boards",
            Status::Ok,
            "they equal boards that are computed from scratch",
        );
    } else {
        report.fail("boards", format!("{wrong} entries differ from boards that are computed from scratch"), [
            "select * from private.check_boards(); lists them, select private.rebuild_boards(); mends them",
        ]);
    }
    Ok(())
}
