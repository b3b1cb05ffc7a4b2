//! Wrong passwords, counted in PostgreSQL for all replicas.

use std::net::IpAddr;

use aws_lc_rs::hmac;

use super::{
    client::{network, site},
    rate::{Limit, count_refusal},
};
use crate::{
    config::{FAILED_LOGINS, Rate, RateLimits},
    context::{LimitState, note_limit},
    problem::Problem,
};

/// Wrong passwords, counted in PostgreSQL by account and network, so that all replicas know of them.
///
/// The first five wrong passwords from one network are answered at once. Each further one doubles the wait, from half a
/// minute up to a quarter of an hour. During the wait no password is tried, not even the right one, because otherwise
/// guessing would go on. The right password resets the count.
///
/// A client in another network cannot lock a user out, because waits depend on the account's name and the network
/// together. Only one rule depends on the account alone. If ten networks fail at an account within an hour, an attacker
/// with many networks is guessing, and five guesses from each would be too many. Then a wrong password costs the
/// longest wait at once. This rule leaves out networks where the account has signed in, so that its user may still
/// mistype there. The first attempt from any network is tried, so that a user who knows the password gets in from
/// anywhere. An attacker in the user's own network can make the user wait there, a quarter of an hour at a time; the
/// user's devices stay signed in, and the user gets in from every other network.
///
/// An attacker who holds an IPv6 site has 65,536 networks, each with a first attempt. So each replica by itself allows
/// at most forty attempts an hour at one account from one site. Logins from networks where the account has signed in do
/// not count, so that a neighbour in the site cannot lock the user out.
///
/// Attempts at a user name that does not exist are counted in the same way.
pub struct FailedLogins {
    rate: Option<Rate>,
    key: hmac::Key,
    sites: Limit<(String, IpAddr)>,
}

/// An attempt to log in. Without digests it is not limited.
pub struct Attempt {
    /// The digest of the user name.
    pub account: Option<Vec<u8>>,
    /// The digest of the user name and the network together, so that it differs between accounts.
    pub network: Option<Vec<u8>>,
}

impl FailedLogins {
    /// `key` keeps names and addresses unreadable in the database.
    pub fn new(rates: &RateLimits, key: hmac::Key) -> Self {
        FailedLogins {
            rate: rates.get(FAILED_LOGINS),
            key,
            sites: Limit::wider(FAILED_LOGINS, rates, 8, 4),
        }
    }

    /// Counts an attempt at an account from an IPv6 site, or refuses it. A login from a network that is usual for the
    /// account does not come here.
    pub fn check_site(&self, username: &str, address: IpAddr) -> Result<(), Problem> {
        let Some(site) = site(address) else {
            return Ok(());
        };
        self.sites.check(&(username.to_ascii_lowercase(), site))
    }

    /// The digests by which PostgreSQL counts an attempt. Neither the name nor the address can be read from them.
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

    /// The number of wrong passwords without a wait, and the longest wait in seconds.
    pub fn rate(&self) -> Option<(i32, f64)> {
        let rate = self.rate?;
        let free = i32::try_from(rate.count.get()).unwrap_or(i32::MAX);
        Some((free, rate.seconds.get().into()))
    }

    /// Counts a refusal that PostgreSQL decided on, and notes it for the headers.
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
