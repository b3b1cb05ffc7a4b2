//! How much a client may ask of PostgREST, and for how long.

use futures_util::future::join_all;
use reqwest::Method;
use tokio::{io::AsyncWriteExt, sync::watch};

use crate::support::{
    actor::answer,
    app::TestApp,
    cluster::{Database, connect},
    postgrest::login,
    program::until,
    upstream::Upstream,
};

use super::{EMPTY, before, get, raw};

#[tokio::test]
async fn a_body_has_a_limit_whether_or_not_it_says_how_long_it_is() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = before(&upstream).await;
    let visitor = app.visitor();
    let post =
        |body: reqwest::Body| answer(visitor.request(Method::POST, "/rest/v1/things").body(body));
    let unannounced = |length: usize| {
        let parts = vec![vec![b'x'; 1024]; length / 1024];
        let parts = parts.into_iter().map(Ok::<_, std::io::Error>);
        reqwest::Body::wrap_stream(futures_util::stream::iter(parts))
    };
    const LIMIT: usize = 10 * 1024 * 1024;
    for body in [vec![b'x'; LIMIT].into(), unannounced(LIMIT)] {
        post(body).await.ok(200);
        assert_eq!(upstream.only().body.len(), LIMIT);
    }
    post(unannounced(LIMIT + 1024))
        .await
        .problem(413, "body_too_large");
    // The service refuses the body before the client sends any of it.
    let said = raw(
        &app,
        format!(
            "POST /rest/v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            LIMIT + 1
        )
        .as_bytes(),
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    let said = raw(
        &app,
        b"POST /rest/v1/things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    )
    .await;
    assert!(
        said.starts_with("HTTP/1.1 400") || said.is_empty(),
        "{said}"
    );
    assert_eq!(
        upstream.heard().len(),
        0,
        "no broken body reached PostgREST as a whole one"
    );
}

#[tokio::test]
async fn who_asks_for_slow_things_waits_for_them_and_nobody_else_does() {
    let (finish, finished) = watch::channel(false);
    let upstream = Upstream::acting(move |heard, mut stream| {
        let mut finished = finished.clone();
        async move {
            if heard.line().contains("/slow") {
                finished.wait_for(|finished| *finished).await.ok()?;
            }
            stream.write_all(EMPTY.as_bytes()).await.ok()?;
            Some(stream)
        }
    })
    .await;
    let app = before(&upstream).await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    // A page with many parts is served as a whole.
    for answer in join_all((0..30).map(|_| get(&alice, "/rest/v1/users"))).await {
        answer.ok(200);
    }
    let before = upstream.heard().len();

    let slow: Vec<_> = (0..4)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move { get(&alice, "/rest/v1/slow").await })
        })
        .collect();
    until("PostgREST is asked", async || {
        (upstream.heard().len() == before + 4).then_some(())
    })
    .await;
    // A client that gives up does not make PostgREST give up.
    for request in slow {
        request.abort();
    }
    for answer in join_all((0..3).map(|_| get(&alice, "/rest/v1/users"))).await {
        let problem = answer.problem(503, "overloaded");
        assert!(problem["message"].to_string().contains("slow"), "{problem}");
    }
    assert_eq!(upstream.heard().len(), before + 4);
    for other in [&bob, &app.visitor()] {
        get(other, "/rest/v1/users").await.ok(200);
    }
    finish.send(true).expect("PostgREST");
    get(&alice, "/rest/v1/users").await.ok(200);
}

#[tokio::test]
async fn what_is_asked_through_postgrest_ends_by_itself() {
    let database = Database::migrated().await;
    let client = connect(&login(&database).await.to_string().into()).await;
    // One regular expression of a visitor may keep a core busy for days.
    let limit = client.query_one("show statement_timeout", &[]).await;
    assert_eq!(limit.expect("a limit").get::<_, String>(0), "8s");
}

#[tokio::test]
async fn limits_hold_here_too_and_postgrest_learns_the_clients_address() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = TestApp::start_with(|config| {
        config.postgrest_url = Some(upstream.url.clone());
        config.trusted_proxies = "127.0.0.1".parse().expect("a network");
        config.rate_limits = "on,network=2/h".parse().expect("limits");
    })
    .await;
    let from = |address: &str| {
        let request = app.visitor().request(Method::GET, "/rest/v1/users");
        answer(request.header("X-Forwarded-For", format!("10.0.0.1, {address}")))
    };
    for address in ["203.0.113.7", "203.0.113.7", "2001:db8::7"] {
        from(address).await.ok(200);
        assert_eq!(upstream.only().all("x-forwarded-for"), [address]);
    }
    let problem = from("203.0.113.7").await.problem(429, "rate_limited");
    assert_eq!(problem["message"], problem["detail"]);
    assert_eq!(upstream.heard().len(), 0);
}
