//! The parts of stories: one PostgreSQL for the run, a database and a service for each test, the program itself, and
//! actors who make requests over real HTTP.

pub mod actor;
pub mod app;
pub mod cluster;
pub mod jwt;
pub mod postgrest;
pub mod program;
pub mod proxy;
pub mod race;
pub mod service;
pub mod upstream;
pub mod upstream_program;
