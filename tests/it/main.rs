//! Stories told through the public door: HTTP, SQL as a role, the program itself.
#![allow(
    clippy::disallowed_methods,
    clippy::pedantic,
    clippy::restriction,
    reason = "a story that meets what it does not expect fails; it takes time, ids and settings from where it likes"
)]

mod accounts;
mod audit;
mod boards;
mod challenges;
mod churn;
mod dashboard;
mod database;
mod delegation;
mod doctor;
mod documents;
#[cfg(feature = "download")]
mod download;
mod ends;
mod failed_logins;
mod floors;
mod generated;
mod keys;
mod limits;
mod lookalike;
mod metrics;
mod migrations;
mod new_migration;
mod operation;
mod passwords;
mod plans;
mod program;
mod races;
mod recordings;
mod refusals;
mod review;
mod rls;
mod roles;
mod rotation;
mod round_trips;
mod runs;
mod schema;
mod sign_ins;
mod support;
mod tokens;
mod unknown_kind;
mod verification;
mod wire;
