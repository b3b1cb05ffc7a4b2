//! Real races: requests queue behind a lock in PostgreSQL until all of them wait, then they run at once.

use std::time::Duration;

use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::Client;

use super::app::TestApp;

/// Nothing here takes this long. Only a failing test waits until then.
const PATIENCE: Duration = Duration::from_secs(60);

/// A lock that is held until it is released.
pub struct Gate {
    holder: Client,
    watcher: Client,
}

impl TestApp {
    /// An app that can have 64 requests in the database at once.
    pub async fn start_wide() -> Self {
        Self::start_with(|config| config.db_connections = Some(64)).await
    }

    /// Takes a lock, such as `select from public.sessions for update`.
    pub async fn hold(&self, lock: &str) -> Gate {
        let holder = self.sql().await;
        holder
            .batch_execute(&format!("begin; {lock}"))
            .await
            .expect("the lock");
        Gate {
            holder,
            watcher: self.sql().await,
        }
    }
}

impl Gate {
    /// Waits until this many requests wait for a lock.
    pub async fn until_waiting(&self, count: usize) {
        let count = i64::try_from(count).expect("a small number");
        self.until(|waiting| waiting >= count).await;
    }

    /// Waits until no request waits for a lock.
    pub async fn until_none_waits(&self) {
        self.until(|waiting| waiting == 0).await;
    }

    async fn until(&self, enough: impl Fn(i64) -> bool) {
        let waiting = "select count(*) from pg_stat_activity
                        where datname = current_database() and wait_event_type = 'Lock'";
        let all = async {
            let mut turn = tokio::time::interval(Duration::from_millis(5));
            while !enough(self.number(waiting).await) {
                turn.tick().await;
            }
        };
        timeout(PATIENCE, all)
            .await
            .expect("this many requests wait for the lock");
    }

    /// Calls a function such as `pg_cancel_backend` on each connection that waits for a lock.
    pub async fn on_waiting(&self, function: &str) {
        let hit = self
            .number(&format!(
                "select count(*) filter (where {function}(pid)) from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock'"
            ))
            .await;
        assert_ne!(hit, 0, "a request waits");
    }

    /// Lets all of them go.
    pub async fn release(self) {
        self.holder.batch_execute("commit").await.expect("a commit");
    }

    async fn number(&self, sql: &str) -> i64 {
        self.watcher
            .query_one(sql, &[])
            .await
            .expect("a number")
            .get(0)
    }
}

/// Requests under way.
pub struct Race<T>(Vec<JoinHandle<T>>);

/// Sends them all without waiting for any.
pub fn race<T: Send + 'static>(
    requests: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Race<T> {
    Race(requests.into_iter().map(tokio::spawn).collect())
}

impl<T> Race<T> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The answers, in the order of the requests.
    pub async fn answers(self) -> Vec<T> {
        let mut answers = Vec::new();
        for request in self.0 {
            answers.push(
                timeout(PATIENCE, request)
                    .await
                    .expect("an answer in time")
                    .expect("an answer"),
            );
        }
        answers
    }
}
