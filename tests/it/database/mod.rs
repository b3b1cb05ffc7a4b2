//! The database behind us: what becomes of requests when it is silent, unable, replaced, or asked for too much.

mod overload;
mod silent;
mod unable;
mod upgrades;

use std::time::Duration;

use tokio::time::timeout;

use crate::support::actor::Answer;

/// Far longer than any answer here takes, and far shorter than a connection that is dead stays open.
const BOUND: Duration = Duration::from_secs(30);

/// Answers, or hangs and fails.
async fn within<T>(answer: impl Future<Output = T>) -> T {
    timeout(BOUND, answer).await.expect("an answer in time")
}

/// Asks until it is answered so; what is answered meanwhile must be refused as it should.
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
