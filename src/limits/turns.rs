//! Turns at PostgREST, which answers few requests at a time. A client with slow requests waits for its own turns, and
//! does not hold up other clients.
#![expect(
    clippy::indexing_slicing,
    reason = "an index is taken modulo the length"
)]

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{problem::Problem, telemetry::count_shed};

/// The number of requests of one client that PostgREST answers at once. Its pool has 10 connections by default.
pub const AT_ONCE: usize = 4;
/// The longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of queues. Clients in the same queue share its turns. Nobody can choose a queue.
const QUEUES: usize = 1024;

/// A queue for each client, in the order of arrival.
pub struct Turns(Box<[Arc<Semaphore>]>);

impl Default for Turns {
    fn default() -> Self {
        let queues = (0..QUEUES).map(|_| Arc::new(Semaphore::new(AT_ONCE)));
        Turns(queues.collect())
    }
}

impl Turns {
    /// Waits for a turn of this client, or refuses it. The turn lasts until the returned value is dropped.
    pub async fn take(&self, caller: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let queue = self.0[caller % QUEUES].clone();
        let Ok(turn) = timeout(PATIENCE, queue.acquire_owned()).await else {
            count_shed("postgrest");
            return Err(Problem::unavailable(
                "overloaded",
                "You have too many slow requests under way. Wait for their answers, or try again in a moment.",
            ));
        };
        turn.map_err(Problem::internal)
    }
}
