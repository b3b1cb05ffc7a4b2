//! Any bad request gets a problem with a stable code that says what is wrong. Never a 500.

mod database;
mod fields;
mod requests;

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::support::actor::{Actor, Answer, answer, text};

const NOBODYS: &str = "00000000-0000-7000-8000-000000000000";

fn fault(field: &str, code: &str) -> (String, String) {
    (field.to_owned(), code.to_owned())
}

/// Sends this body as JSON, unchanged.
async fn post_raw(actor: &Actor, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = actor
        .request(Method::POST, path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body);
    answer(request).await
}

/// Hands in a run without packages and video. Returns the path of the submission.
async fn hand_in(runner: &Actor) -> String {
    let session = runner.start("freestyle").await;
    let ended = runner.end_with(&session, json!([]), json!(null)).await;
    format!("/submissions/{}", text(&ended.ok(200), "/submission/id"))
}

/// Edits it while it is at its first revision.
async fn edit(runner: &Actor, submission: &str, field: &str, value: Value) -> Answer {
    let body = json!({ "revision": 1, field: value });
    answer(runner.request(Method::PATCH, submission).json(&body)).await
}
