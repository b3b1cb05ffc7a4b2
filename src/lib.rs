//! SpeedCoding: the backend of a platform where developers speedrun building software.
//!
//! A request goes straight through. `http::router` routes it, `http::bearer` finds the caller, and an operation in
//! `api` takes its input. `db` makes one round trip to a function in PostgreSQL, which applies the rules. The row comes
//! back as the answer, or an error as a `problem`.
//!
//! A file uses modules below it in this list, never modules above it (tests/it/floors.rs).

pub mod serve;

pub mod app;
pub mod operate;
pub mod signals;

pub mod api;
pub mod http;
pub mod openapi;

pub mod state;
pub mod sweep;

pub mod auth;
pub mod db;
pub mod embedded;
pub mod limits;
pub mod postgrest;

pub mod config;
pub mod context;
pub mod error;
pub mod problem;
pub mod random;
pub mod telemetry;
pub mod text;
