//! A rate that no client may exceed, counted in this process.

use std::{hash::Hash, net::IpAddr, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::StateInformationMiddleware,
};

use super::{
    client::{network, site},
    table::States,
};
use crate::{
    config::{Rate, RateLimits},
    context::{LimitState, note_limit},
    problem::Problem,
};

/// One limit, for each of any number of clients.
pub struct Limit<K: Clone + Eq + Hash> {
    name: &'static str,
    limiter: Option<(Rate, Limiter<K>)>,
    /// Whether answers tell clients the state of this limit even while they are within it.
    shown: bool,
}

type Limiter<K> = RateLimiter<K, States<K>, MonotonicClock, StateInformationMiddleware>;

fn limiter<K: Clone + Eq + Hash>(rate: &Rate) -> Limiter<K> {
    let each = Duration::from_secs(rate.seconds.get().into()) / rate.count.get();
    // The time for one request is never zero, because no count is larger than the number of nanoseconds in a second.
    let quota = Quota::with_period(each).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    Limiter::new(
        quota.allow_burst(rate.count),
        States::default(),
        MonotonicClock,
    )
}

impl<K: Clone + Eq + Hash> Limit<K> {
    /// The limit of this name, or none if it has no rate.
    pub fn new(name: &'static str, rates: &RateLimits) -> Self {
        let rate = rates.get(name);
        Limit {
            name,
            limiter: rate.map(|rate| (rate, limiter(&rate))),
            shown: true,
        }
    }

    /// The limit of this name for a whole site, which may hold many clients. It allows `count` times as many requests,
    /// over `period` times as many seconds. Answers tell its state only if it refuses.
    pub fn wider(name: &'static str, rates: &RateLimits, count: u32, period: u32) -> Self {
        let rate = rates.get(name).map(|rate| Rate {
            count: rate
                .count
                .saturating_mul(NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)),
            seconds: rate
                .seconds
                .saturating_mul(NonZeroU32::new(period).unwrap_or(NonZeroU32::MIN)),
        });
        Limit {
            name,
            limiter: rate.map(|rate| (rate, limiter(&rate))),
            shown: false,
        }
    }

    /// Counts one request of this client, or refuses it.
    pub fn check(&self, client: &K) -> Result<(), Problem> {
        let Some((rate, limiter)) = &self.limiter else {
            return Ok(());
        };
        let (outcome, remaining, reset) = match limiter.check_key(client) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = u64::from(rate.count.get().saturating_sub(remaining));
                let seconds = used * u64::from(rate.seconds.get());
                let reset = seconds.div_ceil(rate.count.get().into());
                (Ok(()), remaining, u32::try_from(reset).unwrap_or(u32::MAX))
            }
            Err(until) => {
                let wait = until.wait_time_from(MonotonicClock.now());
                // Rounded up, so that a client that waits this long is let in.
                let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX - 1) + 1;
                count_refusal(self.name);
                let detail = format!("There were too many requests. Try again in {seconds} s.");
                (
                    Err(Problem::too_many("rate_limited", detail, seconds)),
                    0,
                    seconds,
                )
            }
        };
        if self.shown || outcome.is_err() {
            note_limit(LimitState {
                name: self.name,
                count: rate.count.get(),
                seconds: rate.seconds.get(),
                remaining,
                reset,
            });
        }
        outcome
    }
}

/// A limit by network. An IPv6 site holds 65,536 networks, and gets as many requests as sixteen networks.
pub struct NetworkLimit {
    networks: Limit<IpAddr>,
    sites: Limit<IpAddr>,
}

impl NetworkLimit {
    /// The limit of this name. It allows everything if it has no rate.
    pub fn new(name: &'static str, rates: &RateLimits) -> Self {
        NetworkLimit {
            networks: Limit::new(name, rates),
            sites: Limit::wider(name, rates, 16, 1),
        }
    }

    /// Counts one request from this address, or refuses it.
    pub fn check(&self, address: IpAddr) -> Result<(), Problem> {
        self.networks.check(&network(address))?;
        site(address).map_or(Ok(()), |site| self.sites.check(&site))
    }
}

/// Counts a refusal in the metrics.
pub fn count_refusal(limit: &'static str) {
    metrics::counter!("rate_limited_total", "limit" => limit).increment(1);
}
