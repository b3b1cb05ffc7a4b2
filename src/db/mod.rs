//! Access to PostgreSQL. A request is one statement, one transaction and one network round trip.

pub mod columns;
pub mod connect;
pub mod migrate;
mod pool;
pub mod query;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::ClientWrapper;
use postgres_from_row::FromRow;
use secrecy::SecretString;
use tokio::{sync::Mutex, time::timeout};
use tokio_postgres::{
    Client, Row,
    error::SqlState,
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
use pool::{ANSWERED_WITHIN, Connections};
use query::Statement;

/// The longest time in which the service answers whether it is ready, whatever the database does.
const READY_WITHIN: Duration = Duration::from_secs(3);
/// Metrics wait at most this long for the database, and ask it at most this often.
const COUNTED_EVERY: Duration = Duration::from_secs(1);
/// A PostgreSQL whose program files were replaced still serves its old connections. So readiness opens a new one this
/// often.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// The longest time in which all statements are prepared.
const CHECKED_WITHIN: Duration = Duration::from_secs(30);
type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Connections as the service's role.
#[derive(Clone)]
pub struct Db {
    connections: Connections,
    statements: Statements,
    url: Arc<PostgresUrl>,
    /// Readiness has a connection of its own, so that load does not make a service unready.
    own: Arc<Mutex<Option<Own>>>,
    /// The database's last answer for the metrics.
    counted: Arc<Mutex<Option<Counted>>>,
}

/// A moment, and the number of sessions that ran then. The number is missing if the database did not answer.
type Counted = (Instant, Option<i64>);

/// The connection of readiness.
struct Own {
    client: Client,
    opened: Instant,
}

impl Db {
    /// Connects, and checks that the role is the service's and that the database knows the statements.
    pub async fn connect(url: &SecretString, config: &Config) -> anyhow::Result<Self> {
        let mut url = PostgresUrl::parse(url)?;
        url.postgres.application_name("speedcoding");
        let service = is_service_role(&url.postgres);
        // A pooler does not take options. The service's role has settings of its own like these.
        if !service || config.db_statements == Statements::Prepared {
            let given = url.postgres.get_options().unwrap_or_default();
            let role = if service {
                String::new()
            } else {
                format!("-c role={SERVICE_ROLE}")
            };
            let options = format!(
                "{given} {role} -c statement_timeout={}s -c lock_timeout=5s \
                 -c idle_in_transaction_session_timeout=10s",
                config.statement_timeout
            );
            url.postgres.options(options);
        }
        let db = Db {
            connections: Connections::new(
                &url,
                config.db_connections(),
                Duration::from_millis(config.db_wait_ms),
                Duration::from_secs(config.statement_timeout),
            )?,
            statements: config.db_statements,
            url: Arc::new(url),
            own: Arc::default(),
            counted: Arc::default(),
        };
        db.check().await?;
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

    /// Sends a statement, once more if it must be prepared again. The caller's timing includes the wait for a
    /// connection.
    async fn timed(&self, query: &Statement, params: Params<'_>) -> Result<Vec<Row>, Problem> {
        self.connections
            .run(
                async |client| match self.send(client, query, params).await {
                    Err(error) if is_stale(&error) => {
                        // A migration changed a statement that this connection had prepared. Nothing has run, so it is
                        // prepared anew.
                        client.statement_cache.remove(query.sql, query.types);
                        self.send(client, query, params).await
                    }
                    outcome => outcome,
                },
            )
            .await
    }

    async fn send(
        &self,
        client: &ClientWrapper,
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

    /// Whether the database can serve requests: it runs a function, on a connection that is not old, and it is not
    /// read-only.
    pub async fn ready(&self) -> Result<(), Problem> {
        timeout(READY_WITHIN, self.ask_own(&query::READY))
            .await
            .unwrap_or_else(|_| Err(Problem::away("").because("it did not answer in time")))
            .map(drop)
    }

    /// Sets the gauges of the pool, and the gauges whose values only the database knows.
    pub async fn observe(&self) {
        self.connections.observe();
        let running = self.count_running().await;
        metrics::gauge!("db_up").set(u8::from(running.is_some()));
        metrics::gauge!("sessions_running").set(running.map_or(f64::NAN, |count| count as f64));
    }

    /// The number of sessions that run, or nothing if the database does not answer in time.
    async fn count_running(&self) -> Option<i64> {
        let mut counted = self.counted.lock().await;
        match *counted {
            Some((at, running)) if at.elapsed() < COUNTED_EVERY => running,
            _ => {
                let asked = self.ask_own(&query::COUNT_RUNNING_SESSIONS);
                let answer = timeout(COUNTED_EVERY, asked).await;
                let running = answer.ok().and_then(Result::ok);
                let running = running.and_then(|row| row.try_get("running").ok());
                *counted = Some((Instant::now(), running));
                running
            }
        }
    }

    /// Sends a statement on the connection of readiness. Its row says, among other things, whether the database accepts
    /// changes.
    async fn ask_own(&self, statement: &Statement) -> Result<Row, Problem> {
        let ask = async |client: &Client| client.query_typed_one(statement.sql, &[]).await;
        let mut own = self.own.lock().await;
        // The connection is not kept if the statement fails or is given up half-way.
        let mut kept = own.take();
        let mut answer = None;
        if let Some(kept) = &kept
            && kept.opened.elapsed() < FRESH_FOR
        {
            // The connection may have died silently.
            let asked = timeout(ANSWERED_WITHIN, ask(&kept.client)).await;
            answer = asked.ok().and_then(Result::ok);
        }
        let row = match answer {
            Some(row) => row,
            None => {
                let opened = self.open().await;
                let full = |error: &tokio_postgres::Error| {
                    error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
                };
                let asked = match (opened, kept.take()) {
                    // The existing connections still work.
                    (Err(error), Some(kept)) if full(&error) => kept,
                    (opened, _) => opened.map_err(Problem::of_connecting)?,
                };
                let row = ask(&asked.client).await?;
                kept = Some(asked);
                row
            }
        };
        if row.try_get("read_only").map_err(Problem::internal)? {
            return Err(Problem::away(SqlState::READ_ONLY_SQL_TRANSACTION.code()));
        }
        *own = kept;
        Ok(row)
    }

    async fn open(&self) -> Result<Own, tokio_postgres::Error> {
        let (client, connection) = self.url.postgres.connect(self.url.tls.clone()).await?;
        tokio::spawn(connection);
        let opened = Instant::now();
        Ok(Own { client, opened })
    }

    async fn check(&self) -> anyhow::Result<()> {
        let url = &self.url;
        let checked = async {
            let (client, _) = url.connect().await?;
            let opened = Instant::now();
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
            *self.own.lock().await = Some(Own { client, opened });
            Ok(())
        };
        timeout(CHECKED_WITHIN, checked)
            .await
            .unwrap_or_else(|_| Err(url.unreachable("it does not answer")))
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
