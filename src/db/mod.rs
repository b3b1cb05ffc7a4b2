//! Access to PostgreSQL. A request is one statement, one transaction and one network round trip.

pub mod columns;
pub mod connect;
pub mod migrate;
pub mod query;

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
    context,
    error::describe,
    problem::Problem,
};
use connect::{PostgresUrl, SERVICE_ROLE, is_service_role};
use query::Statement;

/// The maximum wait for a connection. A longer wait means that the service is overloaded.
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
    /// Connects, and checks that the role is the service's and that the database knows the statements.
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
            // The connection that was used last is still in the processor's caches, on PostgreSQL's side too.
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

    /// A domain request. The first parameter of `query` is the caller, and the others follow. Returns its one row.
    pub async fn call<T: FromRow>(
        &self,
        caller: Option<&Claims>,
        query: &Statement,
        params: Params<'_>,
    ) -> Result<T, Problem> {
        let mut rows = self.list(caller, query, params).await?;
        rows.pop()
            .ok_or_else(|| Problem::internal(format!("{} answered with no row", query.name)))
    }

    /// A domain request that returns any number of rows.
    pub async fn list<T: FromRow>(
        &self,
        caller: Option<&Claims>,
        query: &Statement,
        params: Params<'_>,
    ) -> Result<Vec<T>, Problem> {
        let caller = caller.map(Json);
        let all: Vec<&(dyn ToSql + Sync)> = std::iter::once(&caller as _)
            .chain(params.iter().copied())
            .collect();
        self.rows(query, &all).await
    }

    /// A request on the identity tables, before the caller is known. Returns at most one row.
    pub async fn identity<T: FromRow>(
        &self,
        query: &Statement,
        params: Params<'_>,
    ) -> Result<Option<T>, Problem> {
        Ok(self.rows(query, params).await?.pop())
    }

    async fn rows<T: FromRow>(
        &self,
        query: &Statement,
        params: Params<'_>,
    ) -> Result<Vec<T>, Problem> {
        let started = Instant::now();
        let rows = self.timed(query, params).await;
        context::note_database(started.elapsed());
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

    /// The time of waiting for a connection counts as waiting for the database.
    async fn timed(&self, query: &Statement, params: Params<'_>) -> Result<Vec<Row>, Problem> {
        let client = self.pool.get().await?;
        let rows = match self.send(&client, query, params).await {
            Err(error) if is_stale(&error) => {
                // A migration changed a prepared statement. Nothing has run, so it is prepared again.
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
        query: &Statement,
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

/// A row without columns. Only its existence matters.
pub struct Found;

impl FromRow for Found {
    fn from_row(_: &Row) -> Self {
        Found
    }

    fn try_from_row(_: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Found)
    }
}

/// Whether a statement must be prepared again. 0A000: the result of the cached plan has changed. 42883: the function
/// has changed. 26000: a pooler has lost the statement.
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

/// Whether the connection is useless because PostgreSQL has ended it or it is gone.
fn is_broken(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(error) => error
            .parsed_severity()
            .is_some_and(|severity| matches!(severity, Severity::Fatal | Severity::Panic)),
        None => true,
    }
}
