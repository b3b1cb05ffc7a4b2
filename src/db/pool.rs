//! The pool of connections to PostgreSQL. It decides which request gets a connection and for how long, and when a
//! connection is thrown away.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use deadpool_postgres::{
    Client, ClientWrapper, Hook, HookError, Manager, ManagerConfig, Metrics, Object, Pool,
    PoolError, QueueMode, RecyclingMethod, Runtime, TimeoutType,
};
use tokio::{runtime::Handle, time::timeout};
use tokio_postgres::{
    Error,
    error::{Severity, SqlState},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connect::PostgresUrl;
use crate::{problem::Problem, telemetry::count_shed};

/// The expected wait of a request is only an estimate. A request that was let in gives up after this many times the
/// longest expected wait.
const MISJUDGED: u32 = 2;
/// The average counts the newest request as one part in this many.
const AVERAGED: u32 = 32;

/// A host must accept a connection within this time. Otherwise the next host of the URL is tried.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(2);
/// TLS and the log-in together may take this much longer.
const LOGGED_IN_WITHIN: Duration = Duration::from_secs(3);

/// PostgreSQL ends a statement by itself at the statement timeout. If PostgreSQL sends nothing for this much longer,
/// the connection is dead.
const GRACE: Duration = Duration::from_secs(2);
/// If a statement gets no answer for this time, other connections become doubtful.
const DOUBTED_AFTER: Duration = Duration::from_secs(1);
/// A connection that was not used for this time is doubtful, because firewalls forget silent connections.
const IDLE: Duration = Duration::from_secs(30);
/// A doubtful connection that does not answer within this time is dead.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// When a request is given up, its statement is cancelled after this time.
const GIVEN_UP_WITHIN: Duration = Duration::from_millis(250);
/// If a connection younger than this is read-only, the database itself is read-only. An older connection may lead to a
/// server that has become read-only since.
const DEMOTED_AFTER: Duration = Duration::from_secs(5);

/// The connections to PostgreSQL. A request that would have to wait long for one is refused at once.
#[derive(Clone)]
pub struct Connections {
    pool: Pool,
    watch: Arc<Watch>,
    /// A request that would have to wait longer is refused at once.
    most_wait: Duration,
    /// If a statement takes longer, its connection is lost.
    deadline: Duration,
    tls: MakeRustlsConnect,
}

impl Connections {
    /// Makes a pool of at most `most` connections. A request whose expected wait is longer than `most_wait` is refused.
    /// PostgreSQL ends a statement after `statement_timeout`.
    pub fn new(
        url: &PostgresUrl,
        most: usize,
        most_wait: Duration,
        statement_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let mut postgres = url.postgres.clone();
        postgres.connect_timeout(ACCEPTED_WITHIN);
        let hosts = postgres.get_hosts().len().try_into().unwrap_or(u32::MAX);
        let watch = Arc::new(Watch::default());
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let asking = watch.clone();
        let pool = Pool::builder(Manager::from_config(postgres, url.tls.clone(), manager))
            .max_size(most)
            // The connection that was used last is still in the processor's caches, and so is PostgreSQL's process for
            // it.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(most_wait * MISJUDGED))
            .create_timeout(Some(
                ACCEPTED_WITHIN.saturating_mul(hosts) + LOGGED_IN_WITHIN,
            ))
            .runtime(Runtime::Tokio1)
            .pre_recycle(Hook::async_fn(move |client, metrics| {
                let watch = asking.clone();
                Box::pin(async move { watch.check(client, metrics).await })
            }))
            .build()?;
        Ok(Connections {
            pool,
            watch,
            most_wait,
            deadline: statement_timeout + GRACE,
            tls: url.tls.clone(),
        })
    }

    /// Sets the gauges of the pool.
    pub fn observe(&self) {
        let status = self.pool.status();
        let idle = status.available.min(status.size);
        let connections = [("idle", idle), ("used", status.size - idle)];
        for (state, count) in connections {
            metrics::gauge!("db_pool_connections", "state" => state).set(count as f64);
        }
        metrics::gauge!("db_pool_connections_max").set(status.max_size as f64);
        metrics::gauge!("db_pool_waiting").set(status.waiting as f64);
    }

    /// Runs a statement to its end on a connection of its own. If the statement does not end, the connection is thrown
    /// away.
    pub async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&ClientWrapper) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        let lease = self.lease().await?;
        let sent = Instant::now();
        match self.until_deadline(sent, work(&lease)).await {
            Some(Ok(done)) => {
                lease.end(true);
                Ok(done)
            }
            Some(Err(error)) => {
                let is_demoted = error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
                    && lease.age() > DEMOTED_AFTER;
                if is_demoted {
                    // The other connections lead to the same server, and that server no longer accepts changes.
                    self.watch.condemn(sent);
                }
                lease.end(!is_demoted && !is_broken(&error));
                Err(error.into())
            }
            None => {
                // Connections that were last taken before the statement was sent have probably died for the same
                // reason.
                self.watch.condemn(sent);
                lease.end(false);
                Err(Problem::timeout(
                    "The database did not answer in time, and the request was given up: try again.",
                ))
            }
        }
    }

    /// The outcome of the statement, or nothing if the connection did not answer until the deadline.
    async fn until_deadline<T>(&self, sent: Instant, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        if let Ok(done) = timeout(DOUBTED_AFTER, &mut work).await {
            return Some(done);
        }
        self.watch.state().doubt(sent);
        timeout(self.deadline.saturating_sub(DOUBTED_AFTER), work)
            .await
            .ok()
    }

    async fn lease(&self) -> Result<Lease, Problem> {
        let status = self.pool.status();
        let users = status.size - status.available + status.waiting;
        if users >= status.max_size {
            let state = self.watch.state();
            let ahead = users - status.max_size + 1;
            let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
            let most = u32::try_from(status.max_size).unwrap_or(u32::MAX);
            // Two estimates of the shortest wait: `expected` comes from the average time that requests keep a
            // connection, and the time since `moved` shows the pace now. The longer one counts.
            let expected = state.held.saturating_mul(ahead) / most.max(1);
            if expected.max(state.moved.elapsed()) > self.most_wait {
                return Err(state.refusal("no connection would have been free in time"));
            }
        }
        let asked = Instant::now();
        let got = self.pool.get().await;
        metrics::histogram!("db_pool_wait_seconds").record(asked.elapsed());
        let mut state = self.watch.state();
        let client = match got {
            Ok(client) => client,
            Err(error @ PoolError::Timeout(TimeoutType::Wait)) => return Err(state.refusal(error)),
            Err(error) => {
                state.is_away = true;
                return Err(error.into());
            }
        };
        state.is_away = false;
        state.moved = Instant::now();
        Ok(Lease {
            client: Some(client),
            since: state.moved,
            watch: self.watch.clone(),
            tls: self.tls.clone(),
        })
    }
}

/// A connection in use. If a lease is dropped without `end`, its request was given up while a statement was under way.
struct Lease {
    client: Option<Client>,
    since: Instant,
    watch: Arc<Watch>,
    tls: MakeRustlsConnect,
}

impl std::ops::Deref for Lease {
    type Target = ClientWrapper;

    #[expect(
        clippy::expect_used,
        reason = "the client is taken where the lease ends, and nowhere else"
    )]
    fn deref(&self) -> &ClientWrapper {
        self.client.as_ref().expect("a lease that has not ended")
    }
}

impl Lease {
    /// The time since the connection was opened.
    fn age(&self) -> Duration {
        self.client
            .as_ref()
            .map_or(Duration::ZERO, |client| Object::metrics(client).age())
    }

    /// Gives the connection back, or throws it away.
    fn end(mut self, is_sound: bool) {
        if let Some(client) = self.client.take() {
            if !is_sound {
                drop(Client::take(client));
            }
            self.watch.state().note_end(self.since);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(client), Ok(runtime)) = (self.client.take(), Handle::try_current()) else {
            return;
        };
        self.watch.state().note_end(self.since);
        let tls = self.tls.clone();
        runtime.spawn(async move {
            // The statement usually ends in a moment, and then the connection is kept. So a client that leaves again
            // and again costs no connections.
            let answered = timeout(GIVEN_UP_WITHIN, client.simple_query("")).await;
            if !matches!(answered, Ok(Ok(_))) {
                let client = Client::take(client);
                // Without this, PostgreSQL would go on with a statement whose result no one reads.
                let token = client.cancel_token();
                let _ = timeout(ANSWERED_WITHIN, token.cancel_query(tls)).await;
            }
        });
    }
}

/// The state that all connections share.
#[derive(Default)]
struct Watch(Mutex<State>);

struct State {
    /// A connection that was last taken before this moment is tested before it is used again.
    doubted: Option<Instant>,
    /// A connection that was last taken before this moment is thrown away without a test.
    condemned: Option<Instant>,
    /// When a connection was last taken or given back.
    moved: Instant,
    /// The average time that a request keeps a connection.
    held: Duration,
    /// Whether the last connection that was needed could not be made.
    is_away: bool,
}

impl Default for State {
    fn default() -> Self {
        State {
            doubted: None,
            condemned: None,
            moved: Instant::now(),
            held: Duration::ZERO,
            is_away: false,
        }
    }
}

impl State {
    fn doubt(&mut self, since: Instant) {
        self.doubted = self.doubted.max(Some(since));
    }

    fn note_end(&mut self, since: Instant) {
        self.moved = Instant::now();
        self.held = (self.held * (AVERAGED - 1) + since.elapsed()) / AVERAGED;
    }

    /// The refusal for a request that gets no connection.
    fn refusal(&self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Problem {
        if self.is_away {
            Problem::away("").because(why)
        } else {
            count_shed("database");
            Problem::overloaded().because(why)
        }
    }
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is still valid if another thread panicked while it held the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn condemn(&self, since: Instant) {
        let mut state = self.state();
        state.condemned = state.condemned.max(Some(since));
    }

    /// Decides whether a connection can be used again, and tests it if it is doubtful.
    async fn check(&self, client: &mut ClientWrapper, metrics: &Metrics) -> Result<(), HookError> {
        let taken = metrics.recycled.unwrap_or(metrics.created);
        let (is_condemned, is_doubted) = {
            let state = self.state();
            (
                state.condemned.is_some_and(|since| taken < since),
                state.doubted.is_some_and(|since| taken < since) || taken.elapsed() > IDLE,
            )
        };
        if is_condemned {
            return Err(HookError::message("others of its time are dead"));
        }
        if is_doubted {
            let asked = Instant::now();
            match timeout(ANSWERED_WITHIN, client.simple_query("")).await {
                Ok(answered) => drop(answered.map_err(HookError::Backend)?),
                Err(_) => {
                    self.condemn(asked);
                    return Err(HookError::message("it does not answer"));
                }
            }
        }
        Ok(())
    }
}

/// Whether the connection can no longer be used. PostgreSQL has ended it, the network has lost it, or PostgreSQL's
/// program files have changed and its process can no longer load them.
fn is_broken(error: &Error) -> bool {
    match error.as_db_error() {
        Some(error) => {
            error
                .parsed_severity()
                .is_some_and(|severity| matches!(severity, Severity::Fatal | Severity::Panic))
                || Problem::is_of_program_files(error)
        }
        None => true,
    }
}
