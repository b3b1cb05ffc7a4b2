//! The state that requests use: the settings, and the parts that were made of them once.

use std::sync::Arc;

use poem::Request;

use crate::{
    auth::Auth, config::Config, db::Db, limits::Limits, postgrest::Delegate, problem::Problem,
};

/// The state that every request may use.
pub struct State {
    pub auth: Auth,
    pub db: Db,
    pub limits: Limits,
    pub delegate: Delegate,
    pub config: Config,
}

impl State {
    /// The state that a request is served with.
    pub fn of(request: &Request) -> Result<&Arc<Self>, Problem> {
        request
            .data()
            .ok_or_else(|| Problem::internal("the state is not among the request's data"))
    }
}
