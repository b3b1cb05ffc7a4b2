//! The way to PostgreSQL: one statement is one request's transaction and one network round trip.

pub mod challenges;
pub mod connect;
pub mod embedded;
pub mod login;
pub mod migrate;
pub mod query;
pub mod seed;
pub mod users;

use std::time::{Duration, Instant};

use deadpool_postgres::{
    Client, Manager, ManagerConfig, Pool, PoolError, QueueMode, RecyclingMethod, Runtime,
};
use postgres_from_row::FromRow;
use secrecy::SecretString;
use tokio_postgres::{
    Row,
    error::{Severity, SqlState},
    types::{Json, ToSql},
};

use crate::{
    auth::token::Claims,
    config::{Config, Statements},
    problem::Problem,
    telemetry,
};
use connect::PostgresUrl;
use query::Query;

/// The role that the service works as, whoever owns the connection URL.
pub const SERVICE_ROLE: &str = "speedcoding_api";

/// Waiting longer for a connection than this is being overloaded.
const POOL_WAIT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A pool of connections as the service's role.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    statements: Statements,
}

impl Db {
    /// Connects, and makes sure that this is the service's role on a database that knows its statements.
    pub async fn connect(url: &SecretString, config: &Config) -> anyhow::Result<Self> {
        let url = PostgresUrl::parse(url)?;
        let mut postgres = url.postgres.clone();
        postgres
            .application_name("speedcoding")
            .connect_timeout(CONNECT_TIMEOUT);
        let service = is_service_role(&postgres);
        // A pooler takes no options; the service role has settings of its own like these.
        if !service || config.db_statements == Statements::Prepared {
            let given = postgres.get_options().unwrap_or_default();
            let role = if service {
                String::new()
            } else {
                format!("-c role={SERVICE_ROLE}")
            };
            postgres.options(format!(
                "{given} {role} -c statement_timeout={}s -c lock_timeout=5s \
                 -c idle_in_transaction_session_timeout=10s",
                config.statement_timeout
            ));
        }
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(Manager::from_config(postgres, url.tls.clone(), manager))
            .max_size(config.db_connections())
            // What was used last is still in the processor's caches, PostgreSQL's side of it too.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(POOL_WAIT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()?;
        let db = Db {
            pool,
            statements: config.db_statements,
        };
        db.check(&url).await?;
        Ok(db)
    }

    /// A domain request: `query`'s first parameter is the caller, the others follow. Answers with its one row.
    pub async fn call<T: FromRow>(
        &self,
        caller: Option<&Claims>,
        query: &Query,
        params: Params<'_>,
    ) -> Result<T, Problem> {
        let mut rows = self.list(caller, query, params).await?;
        rows.pop()
            .ok_or_else(|| Problem::internal(format!("{} answered with no row", query.name)))
    }

    /// A domain request that is answered with any number of rows.
    pub async fn list<T: FromRow>(
        &self,
        caller: Option<&Claims>,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Vec<T>, Problem> {
        let caller = caller.map(Json);
        let all: Vec<&(dyn ToSql + Sync)> = std::iter::once(&caller as _)
            .chain(params.iter().copied())
            .collect();
        self.rows(query, &all).await
    }

    /// A request on the identity tables, before anybody is known: at most one row.
    pub async fn identity<T: FromRow>(
        &self,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Option<T>, Problem> {
        Ok(self.rows(query, params).await?.pop())
    }

    async fn rows<T: FromRow>(&self, query: &Query, params: Params<'_>) -> Result<Vec<T>, Problem> {
        let started = Instant::now();
        let rows = self.timed(query, params).await;
        telemetry::note_database(started.elapsed());
        metrics::histogram!("db_call_duration_seconds", "query" => query.name)
            .record(started.elapsed());
        rows?
            .iter()
            .map(|row| {
                if let Ok(Some(Json(refusal))) = row.try_get::<_, Option<Json<_>>>("refusal") {
                    return Err(Problem::from_refusal(refusal));
                }
                T::try_from_row(row).map_err(Problem::internal)
            })
            .collect()
    }

    /// Waiting for a connection is waiting for the database.
    async fn timed(&self, query: &Query, params: Params<'_>) -> Result<Vec<Row>, Problem> {
        let client = self.pool.get().await?;
        let rows = match self.send(&client, query, params).await {
            Err(error) if is_stale(&error) => {
                // A migration changed what this connection had prepared: nothing has run, prepare it anew.
                client.statement_cache.remove(query.sql, query.types);
                self.send(&client, query, params).await
            }
            outcome => outcome,
        };
        if rows.as_ref().is_err_and(is_broken) {
            // The pool would hand it out again until it notices.
            drop(Client::take(client));
        }
        Ok(rows?)
    }

    async fn send(
        &self,
        client: &Client,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        match self.statements {
            Statements::Prepared => {
                let statement = client.prepare_typed_cached(query.sql, query.types).await?;
                client.query(&statement, params).await
            }
            Statements::Unnamed => {
                let typed: Vec<_> = params
                    .iter()
                    .copied()
                    .zip(query.types.iter().cloned())
                    .collect();
                client.query_typed(query.sql, &typed).await
            }
        }
    }

    /// Whether the database answers.
    pub async fn ready(&self) -> Result<(), Problem> {
        let client = self.pool.get().await?;
        self.send(&client, &query::READY, &[]).await?;
        Ok(())
    }

    async fn check(&self, url: &PostgresUrl) -> anyhow::Result<()> {
        let client = self.pool.get().await.map_err(|error| {
            url.unreachable(&match &error {
                PoolError::Backend(error) => describe(error),
                error => describe(error),
            })
        })?;
        let role: String = client
            .query_typed_one("select current_user::text", &[])
            .await?
            .get(0);
        anyhow::ensure!(
            role == SERVICE_ROLE,
            "connected as {role} instead of {SERVICE_ROLE}"
        );
        for query in query::ALL {
            client.prepare_typed(query.sql, query.types).await.map_err(|error| {
                anyhow::anyhow!(
                    "the database does not know `{}` ({}): run `speedcoding migrate` with an owner's URL",
                    query.name,
                    describe(&error)
                )
            })?;
        }
        Ok(())
    }
}

/// A row whose being there says it all.
pub struct Found;

impl FromRow for Found {
    fn from_row(_: &Row) -> Self {
        Found
    }

    fn try_from_row(_: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Found)
    }
}

/// Whether a connection URL logs in as the service's role itself, which cannot migrate.
pub fn logs_in_as_service(url: &SecretString) -> anyhow::Result<bool> {
    Ok(is_service_role(&PostgresUrl::parse(url)?.postgres))
}

// Supavisor's user names carry the project behind a dot.
fn is_service_role(postgres: &tokio_postgres::Config) -> bool {
    postgres.get_user().and_then(|user| user.split('.').next()) == Some(SERVICE_ROLE)
}

/// 0A000: the cached plan must not change its result; 42883: the function is another one now;
/// 26000: a pooler has lost the statement.
fn is_stale(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::INVALID_SQL_STATEMENT_NAME,
        ]
        .contains(code)
    })
}

/// Whether the connection is of no more use: PostgreSQL has ended it, or it is gone.
fn is_broken(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(error) => error
            .parsed_severity()
            .is_some_and(|severity| matches!(severity, Severity::Fatal | Severity::Panic)),
        None => true,
    }
}

/// Whether it is such an error, or one of its causes is.
pub(crate) fn is_caused_by<T: std::error::Error + 'static>(
    error: &(dyn std::error::Error + 'static),
    is_meant: impl Fn(&T) -> bool,
) -> bool {
    causes(error).any(|error| error.downcast_ref().is_some_and(&is_meant))
}

/// An error with its causes: tokio-postgres says only "db error" by itself.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// An error, what caused it, what caused that.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}
