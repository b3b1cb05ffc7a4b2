//! Delegation as clients and PostgREST see it, with a server in PostgREST's place that hears every byte.

mod beside;
mod callers;
mod limits;
mod messages;
mod upstream;

use std::time::Duration;

use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    actor::{Actor, Answer, answer},
    app::TestApp,
    upstream::Upstream,
};

/// Nothing here takes this long. Only a failing test waits until then.
const PATIENCE: Duration = Duration::from_secs(60);
const EMPTY: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";

/// The service in front of this server.
async fn before(upstream: &Upstream) -> TestApp {
    TestApp::start_with(|config| config.postgrest_url = Some(upstream.url.clone())).await
}

async fn get(actor: &Actor, path: &str) -> Answer {
    answer(actor.request(Method::GET, path)).await
}

/// Sends these bytes, and then a request that closes the connection. So the test can read all answers to their end.
async fn raw(app: &TestApp, bytes: &[u8]) -> String {
    let address = app.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(bytes).await.expect("a request");
    let end = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // The connection may be closed already.
    let _ = stream.write_all(end.as_bytes()).await;
    let mut heard = Vec::new();
    let mut part = [0; 4096];
    // The service may take that request for a part of the bytes before it. Then the answer never ends.
    while let Ok(Ok(count @ 1..)) = timeout(Duration::from_secs(1), stream.read(&mut part)).await {
        heard.extend(&part[..count]);
    }
    String::from_utf8_lossy(&heard).into_owned()
}
