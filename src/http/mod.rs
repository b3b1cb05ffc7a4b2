//! HTTP: from a connection to an operation and back. Begin with `router`.

pub mod bearer;
pub mod connection;
pub mod delegate;
pub mod layers;
mod malformed;
pub mod pages;
pub mod respond;
pub mod router;
