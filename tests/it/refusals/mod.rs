//! Whatever is sent, the answer is a problem with a stable code that says what is at fault; never a 500.

mod database;
mod fields;
mod requests;

use reqwest::{Method, header};

use crate::support::actor::{Actor, Answer, answer};

const NOBODYS: &str = "00000000-0000-7000-8000-000000000000";

fn fault(field: &str, code: &str) -> (String, String) {
    (field.to_owned(), code.to_owned())
}

/// A body as it is, said to be JSON.
async fn post_raw(actor: &Actor, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = actor
        .request(Method::POST, path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body);
    answer(request).await
}
