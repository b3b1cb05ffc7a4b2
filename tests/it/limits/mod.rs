//! How many requests one client may send, and how the service tells clients apart.

mod answers;
mod clients;
mod rates;

use reqwest::Method;
use serde_json::json;

use crate::support::{
    actor::{Answer, PASSWORD, answer},
    app::TestApp,
};

/// The service behind proxies of these networks.
async fn behind(proxies: &str, limits: &str) -> TestApp {
    TestApp::start_with(|config| {
        config.trusted_proxies = proxies.parse().expect("networks");
        config.rate_limits = limits.parse().expect("limits");
    })
    .await
}

async fn register_from(app: &TestApp, username: &str, hops: &[&str]) -> Answer {
    let visitor = app.visitor();
    let mut request = visitor
        .request(Method::POST, "/auth/register")
        .json(&json!({ "username": username, "password": PASSWORD }));
    for hop in hops {
        request = request.header("X-Forwarded-For", *hop);
    }
    answer(request).await
}
