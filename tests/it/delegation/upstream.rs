//! The PostgREST behind the service: its address, the paths that clients reach there, and the answers while it is away.

use reqwest::StatusCode;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::support::{app::TestApp, program::Scratch, upstream::Upstream};

use super::{EMPTY, PATIENCE, before, get, raw};

#[tokio::test]
async fn only_the_upstream_is_reached_and_only_beneath_its_path() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = before(&upstream).await;
    for target in [
        "/rest/v1/../auth/v1/admin",
        "/rest/v1/..",
        "/rest/v1/.",
        "/rest/v1/./things",
        "/rest/v1/%2e%2e/auth",
        "/rest/v1/%2e%2e",
        "/rest/v1/.%2E",
        "/rest/v1/%2e%2e%2fauth",
        "/rest/v1/..%2fauth",
        "/rest/v1/%252e%252e%252fauth",
        "/rest/v1/..;/auth",
        "/rest/v1/things;x=1",
        "/rest/v1/..%5cauth",
        "/rest/v1/a%2fb",
        "/rest/v1/a%5Cb",
        "/rest/v1/a%00",
        "/rest/v1/a%0d%0aX:1",
        "/rest/v1/a%ff",
        "/rest/v1/a%zz",
        "/rest/v1/a%",
        "/rest/v1//things",
        "/rest/v1//evil.example/things",
        "/rest/v1/things/",
        "/rest/v1/things/1",
        "/rest/v1/rpc/",
        "/rest/v1/rpc/f/g",
        "/rest/v1/rpc/..",
        "/rest/v1x",
        "/rest/v1@evil.example/",
        "/rest/v1.evil.example/",
        "/REST/v1/things",
        "/rest//v1/things",
        "/%72est/v1/things",
        "/rest%2fv1/things",
        "/./rest/v1/things",
        "//rest/v1/things",
        "http://evil.example/other",
    ] {
        let said = raw(
            &app,
            format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(said.starts_with("HTTP/1.1 404"), "{target}: {said}");
        assert!(said.contains("\"unknown_path\""), "{target}: {said}");
    }
    for method in ["TRACE", "CONNECT"] {
        let said = raw(
            &app,
            format!("{method} /rest/v1/things HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    }
    let said = raw(
        &app,
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    assert_eq!(upstream.heard().len(), 0);

    // The service must take a request in absolute form (RFC 9112, section 3.2.2). The host in it decides nothing.
    for authority in ["evil.example", "127.0.0.1:1", "user:password@evil.example"] {
        let said = raw(
            &app,
            format!("GET http://{authority}/rest/v1/things HTTP/1.1\r\nHost: {authority}\r\n\r\n")
                .as_bytes(),
        )
        .await;
        if said.starts_with("HTTP/1.1 400") {
            continue;
        }
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        let heard = upstream.only();
        assert_eq!(heard.line(), "GET /root/things HTTP/1.1");
        assert_eq!(heard.all("host"), [upstream.url.authority()]);
    }
}

#[tokio::test]
async fn an_upstream_that_is_away_harms_nothing_else() {
    let unheard = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address")
    };
    let away = TestApp::start_with(|config| {
        config.postgrest_url = format!("http://{unheard}").parse().ok();
    })
    .await;
    let alice = away.runner("alice").await;
    let problem = get(&alice, "/rest/v1/users")
        .await
        .problem(502, "upstream_unavailable");
    assert!(
        !problem.to_string().contains(&unheard.to_string()),
        "{problem}"
    );
    alice.get("/auth/me").await.ok(200);
    alice.get("/health/ready").await.ok(200);

    for nonsense in [
        "",
        "220 smtp.example ESMTP\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ] {
        let upstream = Upstream::acting(move |_, mut stream| async move {
            stream.write_all(nonsense.as_bytes()).await.ok()?;
            None
        })
        .await;
        let app = before(&upstream).await;
        get(&app.visitor(), "/rest/v1/users")
            .await
            .problem(502, "upstream_unavailable");
    }

    let silent = Upstream::acting(|_, stream| async move {
        tokio::time::sleep(PATIENCE).await;
        Some(stream)
    })
    .await;
    let app = TestApp::start_with(|config| {
        config.postgrest_url = Some(silent.url.clone());
        config.request_timeout = 1;
    })
    .await;
    get(&app.visitor(), "/rest/v1/users")
        .await
        .problem(504, "upstream_timeout");
    app.visitor().get("/challenges").await.ok(200);
}

#[tokio::test]
async fn connections_are_reused_and_a_redirect_is_the_clients_to_follow() {
    let upstream = Upstream::answering(
        "HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let app = before(&upstream).await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    for _ in 0..10 {
        let answer = client
            .get(format!("{}/rest/v1/users", app.base))
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::FOUND);
        assert_eq!(answer.headers()["location"], "http://evil.example/");
    }
    assert_eq!(upstream.heard().len(), 10);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn where_there_is_no_postgrest_the_answer_says_how_to_get_it() {
    let app = TestApp::start().await;
    let problem = get(&app.visitor(), "/rest/v1/users")
        .await
        .problem(501, "postgrest_missing");
    for remedy in ["postgrest", "PATH", "POSTGREST_URL", "SUPABASE_URL"] {
        assert!(problem["detail"].to_string().contains(remedy), "{problem}");
    }
    get(&app.visitor(), "/rest/v1/a/b")
        .await
        .problem(404, "unknown_path");
}

#[tokio::test]
async fn a_supabase_project_is_delegated_to_beneath_its_own_path() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = TestApp::start_with(|config| {
        config.supabase_url = Some(upstream.url.clone());
        config.supabase_anon_key = Some("the-anon-key".into());
    })
    .await;
    get(&app.visitor(), "/rest/v1/users?select=id")
        .await
        .ok(200);
    let heard = upstream.only();
    assert_eq!(heard.line(), "GET /root/rest/v1/users?select=id HTTP/1.1");
    assert_eq!(heard.all("apikey"), ["the-anon-key"]);
}

#[tokio::test]
async fn a_wrong_address_is_told_by_its_setting() {
    let scratch = Scratch::new();
    for (name, value, words) in [
        (
            "SUPABASE_URL",
            "https://x.supabase.co",
            "SUPABASE_ANON_KEY is needed",
        ),
        ("POSTGREST_URL", "ftp://x", "POSTGREST_URL must be"),
        ("POSTGREST_URL", "http://user:pw@x", "POSTGREST_URL must be"),
        ("POSTGREST_URL", "http://x/?a=1", "POSTGREST_URL must be"),
    ] {
        let told = scratch
            .program(&["serve"])
            .env(name, value)
            .finish()
            .await
            .told(&[words]);
        assert!(!told.contains("pw"), "{told}");
        assert!(
            !scratch.path("data").exists(),
            "the program says so before it creates any files"
        );
    }
}
