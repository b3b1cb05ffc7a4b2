//! What operators run: each file one command, or what several need.

pub mod challenge_file;
pub mod challenges;
pub mod doctor;
pub mod login;
pub mod owner;
pub mod seed;
pub mod users;

use std::{
    fmt::Display,
    io::{self, Write},
};

use anyhow::Context;

/// Prints what was asked for. A reader that has had enough, such as `head`, is no failure.
pub fn tell(text: impl Display) -> anyhow::Result<()> {
    let told = writeln!(io::stdout(), "{text}");
    match told {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told.context("standard output"),
    }
}
