//! Migrates a database once, even if many replicas start at the same moment.

use anyhow::{Context, bail, ensure};
use include_dir::{Dir, include_dir};
use refinery::{Migration, Report, Runner, Target};
use secrecy::SecretString;
use tokio_postgres::{Client, error::SqlState};

use super::connect::{PostgresUrl, SERVICE_ROLE, logs_in_as_service};
use crate::error::{describe, is_caused_by};

pub(crate) static MIGRATIONS: Dir = include_dir!("$CARGO_MANIFEST_DIR/sql/migrations");
const HISTORY: &str = "private.migration_history";
/// The lock that replicas of one database take. (Any number serves; this one spells "speedrun".)
const LOCK: i64 = 0x7370_6565_6472_756e;
/// The number of tries. A failed try undoes only the migration that it stops at, and lets the blocking replica go on.
const ATTEMPTS: u32 = 10;

/// Applies the missing migrations, as the owner that the URL names, and returns their names.
///
/// Migrations that the Supabase CLI pushed are adopted into the history, and not applied again.
pub async fn migrate(owner_url: &SecretString) -> anyhow::Result<Vec<String>> {
    ensure!(
        !logs_in_as_service(owner_url)?,
        "{SERVICE_ROLE} cannot migrate: set MIGRATION_DATABASE_URL to the owner's URL"
    );
    let mut url = PostgresUrl::parse(owner_url)?;
    url.postgres.application_name("speedcoding migrate");
    // The lock belongs to a transaction on its own connection. A session's lock would stay in a pooler.
    let (mut locking, lock_connection) = url.connect().await?;
    let lock = locking.transaction().await?;
    lock.execute("select pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let (mut client, connection) = url.connect().await?;
    let applied = run(&mut client).await;
    lock.commit().await?;
    // The next step may need the database without other connections.
    drop((locking, client));
    lock_connection.await??;
    connection.await??;
    applied
}

async fn run(client: &mut Client) -> anyhow::Result<Vec<String>> {
    client
        .batch_execute("create schema if not exists private")
        .await?;
    let migrations = list()?;
    let pushed = versions(client, "supabase_migrations.schema_migrations").await?;
    let recorded = versions(client, HISTORY).await?;
    refuse_gap(&migrations, &pushed, &recorded)?;
    let ours = migrations.iter().map(Migration::version);
    if let Some(version) = ours.filter(|version| pushed.contains(version)).max() {
        runner(&migrations)
            .set_target(Target::FakeVersion(version))
            .run_async(client)
            .await?;
    }
    let mut applied = Vec::new();
    for attempt in 1.. {
        let outcome = runner(&migrations).run_async(client).await;
        let report = match &outcome {
            Ok(report) => Some(report),
            Err(error) => error.report(),
        };
        let new = report.into_iter().flat_map(Report::applied_migrations);
        applied.extend(new.map(|migration| migration.name().to_owned()));
        match outcome {
            Ok(_) => break,
            // A working replica and a migration may wait for each other.
            Err(error) if attempt < ATTEMPTS && is_caused_by(&error, is_deadlock) => {}
            Err(error) => bail!("the database could not be migrated: {}", describe(&error)),
        }
    }
    if !applied.is_empty() {
        // PostgREST learns of new tables and columns.
        client
            .batch_execute("notify pgrst, 'reload schema'")
            .await?;
    }
    Ok(applied)
}

/// How far a database has come.
pub struct State {
    /// How many migrations of ours have been applied, by us or by the Supabase CLI.
    pub applied: usize,
    /// The migrations that have not been applied.
    pub missing: Vec<String>,
    /// How many applied migrations this version does not know.
    pub unknown: usize,
}

/// Reads the state as the owner, and changes nothing.
pub async fn state(owner: &Client) -> anyhow::Result<State> {
    let mut recorded = versions(owner, HISTORY).await?;
    let migrations = list()?;
    let newest = migrations.iter().map(Migration::version).max();
    let unknown = recorded
        .iter()
        .filter(|version| Some(**version) > newest)
        .count();
    recorded.extend(versions(owner, "supabase_migrations.schema_migrations").await?);
    let missing: Vec<_> = migrations
        .iter()
        .filter(|migration| !recorded.contains(&migration.version()))
        .map(|migration| format!("{}_{}", migration.version(), migration.name()))
        .collect();
    Ok(State {
        applied: migrations.len() - missing.len(),
        missing,
        unknown,
    })
}

fn is_deadlock(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
}

fn runner(migrations: &[Migration]) -> Runner {
    let mut runner = Runner::new(migrations).set_abort_missing(false);
    runner.set_migration_table_name(HISTORY);
    runner
}

/// The Supabase CLI's file names are `<14 digits>_<name>.sql`, refinery's `V<version>__<name>`.
fn list() -> anyhow::Result<Vec<Migration>> {
    MIGRATIONS
        .files()
        .map(|file| {
            let path = file.path().display();
            let (version, name) = file
                .path()
                .file_stem()
                .and_then(|stem| stem.to_str()?.split_once('_'))
                .with_context(|| format!("{path} is not named <timestamp>_<name>.sql"))?;
            let sql = file
                .contents_utf8()
                .with_context(|| format!("{path} is not UTF-8"))?;
            Ok(Migration::unapplied(&format!("V{version}__{name}"), sql)?)
        })
        .collect()
}

/// The versions in one of the two histories, ours or the Supabase CLI's. The list is empty if there is no history.
async fn versions(client: &Client, history: &str) -> anyhow::Result<Vec<i64>> {
    let known: bool = client
        .query_one("select to_regclass($1::text) is not null", &[&history])
        .await?
        .get(0);
    if !known {
        return Ok(Vec::new());
    }
    let rows = client
        .query(&format!("select version::text from {history}"), &[])
        .await?;
    // The CLI's versions are text, and people may have put other texts than timestamps there.
    Ok(rows
        .iter()
        .filter_map(|row| row.get::<_, &str>(0).parse().ok())
        .collect())
}

/// Refuses a gap in the history. refinery would skip a migration that is older than the applied ones, and adopting
/// would record it as applied.
fn refuse_gap(migrations: &[Migration], pushed: &[i64], recorded: &[i64]) -> anyhow::Result<()> {
    let applied = |version: &i64| pushed.contains(version) || recorded.contains(version);
    let ours = migrations.iter().map(Migration::version);
    let newest = ours.filter(applied).max().unwrap_or(0);
    let mut missing = migrations
        .iter()
        .filter(|migration| migration.version() < newest && !applied(&migration.version()));
    missing.next().map_or(Ok(()), |migration| {
        bail!(
            "the migration {}_{} has not been applied, although the later {newest} has: `supabase db push \
             --include-all` applies it, or whoever applied the later one by hand",
            migration.version(),
            migration.name()
        )
    })
}
