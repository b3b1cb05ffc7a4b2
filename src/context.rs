//! The facts about a request that become known while it is served: its id, its caller, its wait for the database, its
//! limits.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

tokio::task_local! {
    static CONTEXT: Context;
}

/// The context of one request.
pub struct Context {
    request_id: String,
    caller: OnceLock<Uuid>,
    database_us: AtomicU64,
    limits: Mutex<Vec<LimitState>>,
}

/// How a limit stands after it has counted a request, or refused it.
#[derive(Clone, Copy)]
pub struct LimitState {
    /// The limit's name.
    pub name: &'static str,
    /// How many requests it allows …
    pub count: u32,
    /// … in how many seconds.
    pub seconds: u32,
    /// How many are left.
    pub remaining: u32,
    /// Seconds until all of them are available again. After a refusal: seconds until one more request is allowed.
    pub reset: u32,
}

impl Context {
    /// The context of a new request.
    pub fn new(request_id: String) -> Self {
        Context {
            request_id,
            caller: OnceLock::new(),
            database_us: AtomicU64::new(0),
            limits: Mutex::default(),
        }
    }

    /// Serves the request in this context.
    pub async fn serve<T>(self, serving: impl Future<Output = T>) -> T {
        CONTEXT.scope(self, serving).await
    }

    /// The id of the request, in its answer and in the log.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The caller, if the request has a token.
    pub fn caller(&self) -> Option<Uuid> {
        self.caller.get().copied()
    }

    /// How long the request has waited for the database.
    pub fn database_wait(&self) -> Duration {
        Duration::from_micros(self.database_us.load(Ordering::Relaxed))
    }

    /// The limits that have counted the request.
    pub fn limits(&self) -> Vec<LimitState> {
        // A value is still good if another thread panicked while it held the lock.
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.clone()
    }
}

/// Reads the context of the current request. There is none outside of a request.
pub fn current<T>(look: impl FnOnce(&Context) -> T) -> Option<T> {
    CONTEXT.try_with(look).ok()
}

/// The id of the current request, or an empty text outside of a request.
pub fn request_id() -> String {
    current(|context| context.request_id.clone()).unwrap_or_default()
}

/// Notes the caller of the current request. A request has one caller, so a second note changes nothing.
pub fn note_caller(user: Uuid) {
    current(|context| context.caller.set(user).ok());
}

/// Notes how long the request that is being served has waited for the database.
pub fn note_database(waited: Duration) {
    let us = waited.as_micros().try_into().unwrap_or(u64::MAX);
    current(|context| context.database_us.fetch_add(us, Ordering::Relaxed));
}

/// Notes how a limit stands that has counted the request that is being served.
pub fn note_limit(limit: LimitState) {
    current(|context| {
        let limits = context.limits.lock();
        limits.unwrap_or_else(PoisonError::into_inner).push(limit);
    });
}
