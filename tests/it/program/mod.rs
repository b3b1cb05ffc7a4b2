//! The program as people run it: starting, stopping, crashing, and what it says when something is wrong.

mod commands;
mod databases;
mod memory;
mod settings;
mod starts;
mod stops;

use secrecy::ExposeSecret;

use crate::support::{
    actor::{Actor, PASSWORD},
    cluster::Database,
    program::Program,
};

/// The arguments with which these stories start the program.
const SERVES: &[&str] = &["serve"];

fn url_of(database: &Database) -> String {
    database.url().expose_secret().to_owned()
}

/// A URL with a changed part.
fn changed(url: &str, change: impl FnOnce(&mut url::Url)) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    change(&mut url);
    url.to_string()
}

/// A client that returns with an access token from before.
fn returning(program: &Program, actor: &Actor) -> Actor {
    let mut returned = program.visitor();
    returned.token = actor.token.clone();
    returned
}

async fn log_in(program: &Program, username: &str) -> Actor {
    let visitor = program.visitor();
    let tokens = visitor.log_in(username, PASSWORD).await.ok(200);
    visitor.with_tokens(&tokens)
}
