//! The commands of operators: one file for each command, and files that several commands share.

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

/// Prints the output of a command. It is no failure if a reader such as `head` stops reading.
pub fn tell(text: impl Display) -> anyhow::Result<()> {
    let told = writeln!(io::stdout(), "{text}");
    match told {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told.context("standard output"),
    }
}
