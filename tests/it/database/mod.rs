//! The database behind the service: requests while it is silent, unable, replaced, or overloaded.

mod overload;
mod silent;
mod unable;
mod upgrades;

use std::time::Duration;

use tokio::time::timeout;

use crate::support::actor::Answer;

/// Any answer here comes much sooner than this. A dead connection stays open for much longer than this.
const BOUND: Duration = Duration::from_secs(30);

/// Waits for the answer, and fails if it does not come in time.
async fn within<T>(answer: impl Future<Output = T>) -> T {
    timeout(BOUND, answer).await.expect("an answer in time")
}

/// Asks until this answer comes. All other answers must be the expected refusal.
async fn until_ok(answer: impl AsyncFn() -> Answer) {
    let ok = async {
        loop {
            let answer = answer().await;
            if answer.status.is_success() {
                break;
            }
            answer.problem(503, "database_unavailable");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(ok).await;
}
