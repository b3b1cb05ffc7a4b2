//! SpeedCoding: the backend on which developers speedrun building software.
//!
//! A request goes straight through: `app` routes it, `auth::bearer` says who sends it, an operation in `api`
//! says what is asked, `db` makes one round trip to a function in PostgreSQL that holds the rules, and the
//! row comes back as the answer, or an error as a `problem`.

pub mod api;
pub mod app;
pub mod auth;
pub mod challenge_file;
pub mod codes;
pub mod config;
pub mod connection;
pub mod contract;
pub mod db;
pub mod doctor;
pub mod document;
pub mod limits;
pub mod postgrest;
pub mod problem;
pub mod sweep;
pub mod telemetry;
