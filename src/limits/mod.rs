//! Limits on the requests that one client may send and on the resources that it may hold, by network, user and sign-in.

pub mod client;
pub mod failed_logins;
pub mod rate;
pub mod shares;
pub mod table;
pub mod turns;

use std::{net::IpAddr, sync::Arc};

use poem::Request;
use uuid::Uuid;

use crate::{
    auth::Auth,
    config::{Config, FAILED_LOGINS, TrustedProxies},
};
use failed_logins::FailedLogins;
use rate::{Limit, NetworkLimit};
use shares::Shares;
use turns::Turns;

/// The limits of this process.
pub struct Limits {
    proxies: TrustedProxies,
    /// Requests without a token, by network.
    pub network: NetworkLimit,
    /// Requests with a token, by user.
    pub user: Limit<Uuid>,
    /// Registrations, by network.
    pub register: NetworkLimit,
    /// Attempts to log in, by network.
    pub login: NetworkLimit,
    /// Wrong passwords, by account and network.
    pub failed_logins: FailedLogins,
    /// Refreshes, by sign-in.
    pub refresh: Limit<Uuid>,
    /// Sessions started and submissions edited, by user. The rules limit the amount of data that one session writes,
    /// and this limits the number of sessions.
    pub runs: Limit<Uuid>,
    /// The memory of answers that have not been read.
    pub answers: Arc<Shares>,
    /// The memory of bodies that are being read.
    pub bodies: Arc<Shares>,
    /// Requests that PostgREST is answering.
    pub delegated: Turns,
}

impl Limits {
    /// Makes the limits from the settings.
    pub fn new(config: &Config, auth: &Auth) -> anyhow::Result<Self> {
        let rates = &config.rate_limits;
        Ok(Limits {
            proxies: config.trusted_proxies.clone(),
            network: NetworkLimit::new("network", rates),
            user: Limit::new("user", rates),
            register: NetworkLimit::new("register", rates),
            login: NetworkLimit::new("login", rates),
            failed_logins: FailedLogins::new(rates, auth.refresh.key_for(FAILED_LOGINS)?),
            refresh: Limit::new("refresh", rates),
            runs: Limit::new("runs", rates),
            answers: Shares::of_answers(),
            bodies: Shares::of_bodies(),
            delegated: Turns::default(),
        })
    }

    /// The address of the client that sends a request.
    pub fn client(&self, request: &Request) -> IpAddr {
        client::address(&self.proxies, request)
    }
}
