//! The database itself: server, migrations, roles, the way to it, Supabase's additions, boards.

use secrecy::SecretString;
use time::OffsetDateTime;
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
    let skew = (OffsetDateTime::now_utc() - row.get::<_, OffsetDateTime>(4)).unsigned_abs();
    judge_skew("clock", "the database's", skew, report);
    Ok(())
}

/// What can be expected of a database.
pub enum Migrations {
    /// What this version knows.
    Ours,
    /// More than this version knows.
    Newer,
    /// Nothing yet.
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
            "not looked at: the service may not read their history",
            ["give the owner's URL as MIGRATION_DATABASE_URL"],
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
            "all there, none above the policies but service_role",
        );
        return Ok(());
    }
    report.push(Finding {
        check: "roles",
        status: Status::Failure,
        found: "not as the migrations left them; as the owner:".to_owned(),
        remedies: rows.iter().map(|row| row.get(0)).collect(),
    });
    Ok(())
}

/// In a pooler's transaction mode a connection that is idle has lent its server to the next one.
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
            "the way leads through a pooler in transaction mode, which loses prepared statements",
            [
                "set DB_STATEMENTS=unnamed",
                "or connect directly, or through the pooler's session mode",
            ],
        ),
        (true, Statements::Unnamed) => report.add(
            "pooler",
            Status::Ok,
            "in transaction mode, and statements go unnamed",
        ),
        (false, Statements::Prepared) => {
            report.add("pooler", Status::Ok, "none, or in session mode")
        }
        (false, Statements::Unnamed) => report.advise(
            "pooler",
            Status::Note,
            "none, or in session mode: statements need not go unnamed",
            ["DB_STATEMENTS=prepared saves PostgreSQL some work"],
        ),
    }
    Ok(())
}

/// What Supabase adds: storage for recordings, and the publication of its Realtime.
pub async fn look_at_supabase(
    client: &Client,
    owner: Option<&Client>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let row = client
        .query_typed_one(include_str!("../../../sql/doctor/supabase.sql"), &[])
        .await?;
    // Its rows are the owner's to see.
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
            "no Supabase Storage here: recordings are elsewhere",
        ),
        (true, _, Some(Some(bucket))) if bucket.get(0) => report.fail(
            "storage",
            "the bucket recordings is public: everybody sees what is not approved",
            ["update storage.buckets set public = false where id = 'recordings';"],
        ),
        (true, _, Some(None)) => report.advise(
            "storage",
            Status::Warning,
            "Supabase Storage is here, without the bucket recordings",
            OPEN,
        ),
        (true, Some(rules), _) => report.advise(
            "storage",
            Status::Warning,
            format!("Supabase Storage is here, and no policy on storage.objects asks {rules}"),
            OPEN,
        ),
        (true, None, _) => report.add(
            "storage",
            Status::Ok,
            "Supabase Storage is here, with the policies of recordings",
        ),
    }
    match (row.get(2), row.get::<_, Option<&str>>(3)) {
        (true, Some(tables)) => report.add("realtime", Status::Ok, format!("publishes {tables}")),
        (true, None) => report.add(
            "realtime",
            Status::Note,
            "supabase_realtime publishes nothing of ours",
        ),
        (false, _) => report.add("realtime", Status::Note, "no Supabase Realtime here"),
    }
    Ok(())
}

/// What is kept about boards against what is computed from scratch.
pub async fn look_at_boards(owner: Option<&Client>, report: &mut Report) -> anyhow::Result<()> {
    let Some(owner) = owner else {
        report.add(
            "boards",
            Status::Note,
            "not looked at: give the owner's URL as MIGRATION_DATABASE_URL",
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
        report.add("boards", Status::Ok, "as computed from scratch");
    } else {
        report.fail("boards", format!("{wrong} entries differ from what is computed from scratch"), [
            "select * from private.check_boards(); shows them, select private.rebuild_boards(); mends them",
        ]);
    }
    Ok(())
}
