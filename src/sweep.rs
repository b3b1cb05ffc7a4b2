//! Removes sign-ins that ended long ago, in small batches, while the service runs.

use std::{convert::Infallible, time::Duration};

use postgres_from_row::FromRow;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use uuid::Uuid;

use crate::{
    db::{Db, query},
    problem::Problem,
    telemetry,
};

/// How many sign-ins one statement looks at.
const BATCH: i64 = 1000;
/// How long an ended sign-in is kept. Ending it again gets the same answer as the first time.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(FromRow)]
struct Batch {
    id: Uuid,
    swept: i64,
    ended: i64,
}

/// Sweeps at intervals.
pub async fn run(db: &Db, every: Duration) -> Infallible {
    let mut turns = interval_at(Instant::now() + every, every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        match sweep_sign_ins(db).await {
            Ok((0, 0)) => {}
            Ok((swept, ended)) => {
                tracing::info!(
                    swept,
                    ended,
                    "removed sign-ins that had ended long ago, and ended those that others had outdated"
                );
            }
            Err(problem) => {
                tracing::warn!(%problem, "sign-ins that have ended could not be removed")
            }
        }
    }
}

/// Goes through all sign-ins once, unless another replica is doing so.
async fn sweep_sign_ins(db: &Db) -> Result<(i64, i64), Problem> {
    let (mut after, mut swept, mut ended) = (Uuid::nil(), 0, 0);
    while let Some(batch) = db
        .identity::<Batch>(
            &query::SWEEP_SIGN_INS,
            &[&after, &BATCH, &KEPT.as_secs_f64()],
        )
        .await?
    {
        after = batch.id;
        swept += batch.swept;
        ended += batch.ended;
        telemetry::count_ended(batch.ended, "outdated");
    }
    Ok((swept, ended))
}
