//! Wrong passwords, counted in PostgreSQL for all replicas.

use std::net::IpAddr;

use aws_lc_rs::hmac;

use super::{client::network, rate::count_refusal};
use crate::{
    config::{FAILED_LOGINS, Rate, RateLimits},
    context::{LimitState, note_limit},
    problem::Problem,
};

/// Wrong passwords, counted in PostgreSQL by account and network, so that all replicas know of them.
///
/// From one network the first five are answered at once; from then on each doubles the wait, from half a minute up
/// to the quarter of an hour. Meanwhile no password is tried, not even the right one, or guessing would go on. The
/// right one starts anew.
///
/// Nobody can lock a user out from elsewhere, for what an account suffers depends on its name and the network
/// together. Only one thing depends on the account alone: where ten networks fail at it within the hour, it is hunted
/// by somebody who has many, and five guesses from each would be too many. Then a wrong password costs the longest
/// wait at once; but not in networks where the account has signed in, so that its user may mistype there as ever, and
/// the first attempt from any network is tried, so that whoever knows the password gets in from anywhere. Whoever
/// shares the user's own network can make her wait there, a quarter of an hour at a time; on her devices she stays
/// signed in all the same, and from every other network she gets in.
///
/// A name that nobody has is treated alike: it is counted whether or not there is such an account.
pub struct FailedLogins {
    rate: Option<Rate>,
    key: hmac::Key,
}

/// Somebody's attempt to log in. Without digests it is not limited.
pub struct Attempt {
    /// Of the user name.
    pub account: Option<Vec<u8>>,
    /// Of the user name and the network: the same network is another one for another account.
    pub network: Option<Vec<u8>>,
}

impl FailedLogins {
    /// `key` keeps names and addresses unreadable in the database.
    pub fn new(rates: &RateLimits, key: hmac::Key) -> Self {
        FailedLogins {
            rate: rates.get(FAILED_LOGINS),
            key,
        }
    }

    /// What PostgreSQL counts an attempt by: neither the name nor the address can be read from it.
    pub fn attempt(&self, username: &str, address: IpAddr) -> Attempt {
        let name = username.to_ascii_lowercase();
        let digest = |text: &str| {
            self.rate
                .map(|_| hmac::sign(&self.key, text.as_bytes()).as_ref().to_vec())
        };
        Attempt {
            network: digest(&format!("{name} {}", network(address))),
            account: digest(&name),
        }
    }

    /// How many wrong passwords are free, and the longest wait in seconds.
    pub fn rate(&self) -> Option<(i32, f64)> {
        let rate = self.rate?;
        let free = i32::try_from(rate.count.get()).unwrap_or(i32::MAX);
        Some((free, rate.seconds.get().into()))
    }

    /// Counts a refusal that PostgreSQL decided on, and tells it in the headers.
    pub fn note(&self, problem: &Problem) {
        if let Some(rate) = self.rate
            && problem.code() == "too_many_failed_logins"
        {
            count_refusal(FAILED_LOGINS);
            note_limit(LimitState {
                name: FAILED_LOGINS,
                count: rate.count.get(),
                seconds: rate.seconds.get(),
                remaining: 0,
                reset: problem.retry_after().unwrap_or_default(),
            });
        }
    }
}
