//! Bytes that are no valid request, and requests that are too large or too many. The service answers with a problem
//! before they cost anything.

use h2::client;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{actor::text, app::TestApp};

async fn connect(app: &TestApp) -> TcpStream {
    let address = app.base.strip_prefix("http://").expect("an address");
    TcpStream::connect(address).await.expect("a connection")
}

/// Sends these bytes, and reads until the service ends the connection. Returns the status, the head, and the problem.
async fn refused(app: &TestApp, sent: &str) -> (u16, String, Value) {
    let mut client = connect(app).await;
    client.write_all(sent.as_bytes()).await.expect(sent);
    let mut answer = Vec::new();
    // The service may close the connection with unread bytes. The client's system reports that after the answer.
    let _ = client.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    let problem: Value = serde_json::from_str(body).expect(&answer);
    let status = status.expect(&answer);
    assert_eq!(problem["status"], status, "{answer}");
    let head = head.to_ascii_lowercase();
    let id = text(&problem, "/requestId");
    assert!(head.contains(&format!("x-request-id: {id}")), "{answer}");
    assert!(
        head.contains("content-type: application/problem+json"),
        "{answer}"
    );
    (status, head, problem)
}

#[tokio::test]
async fn a_request_that_two_servers_might_read_differently_is_refused() {
    let app = TestApp::start().await;
    let cases = [
        (
            "no Host",
            "GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n",
        ),
        (
            "two hosts",
            "GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        ),
        (
            "a host with a user",
            "GET /health/live HTTP/1.1\r\nHost: me@a\r\nConnection: close\r\n\r\n",
        ),
        (
            "a host that is none",
            "GET /rest/v1/users HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
        ),
        (
            "chunked twice",
            "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked, chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        ),
        (
            "two lengths",
            "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        ),
        ("a bare line", "GET /health/live HTTP/1.1\nHost: a\r\n\r\n"),
        ("bare lines", "GET /health/live HTTP/1.1\nHost: a\n\n"),
        (
            "a bare line further on",
            "GET /health/live HTTP/1.1\r\nHost: a\r\nX-A: b\nX-C: d\r\n\r\n",
        ),
    ];
    for (what, sent) in cases {
        let (status, _, problem) = refused(&app, sent).await;
        assert_eq!(
            (status, &problem["code"]),
            (400, &json!("bad_request")),
            "{what}"
        );
    }
    // Good requests are served on the same connection again and again.
    let mut client = connect(&app).await;
    for _ in 0..3 {
        client
            .write_all(b"GET /health/live HTTP/1.1\r\nHost: a:80\r\n\r\n")
            .await
            .expect("a request");
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut rest = vec![0; 4096];
        let count = client.read(&mut rest).await.expect("the rest");
        assert!(String::from_utf8_lossy(&rest[..count]).contains("live"));
    }
}

#[tokio::test]
async fn a_request_behind_others_is_read_as_strictly_as_the_first() {
    let app = TestApp::start().await;
    let live = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";
    let login = "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    // The body's lines may have any line ends.
    let body = "{\"username\":\n\"ada\"}\n";
    let counted = format!("{login}content-length:  {} \r\n\r\n{body}", body.len());
    let chunked = format!(
        "{login}Transfer-Encoding: chunked\r\n\r\n{:x};a=b\r\n{}\r\n{:X} \r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n",
        11,
        &body[..11],
        body.len() - 11,
        &body[11..],
    );
    let bare = "GET /health/live HTTP/1.1\r\nHost: a\nX: y\r\n\r\n";
    for (before, statuses) in [
        (live, vec![200]),
        ("\r\n", vec![]),
        (&counted, vec![400]),
        (&chunked, vec![400]),
        (
            &[live, &chunked, &counted, live].concat(),
            vec![200, 400, 400, 200],
        ),
    ] {
        for (last, status) in [
            (
                "GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                200,
            ),
            (bare, 400),
        ] {
            let mut client = connect(&app).await;
            let sent = [before, last].concat();
            client.write_all(sent.as_bytes()).await.expect("a request");
            let mut answers = String::new();
            let _ = client.read_to_string(&mut answers).await;
            let found: Vec<u16> = answers
                .split("HTTP/1.1 ")
                .skip(1)
                .map(|answer| answer[..3].parse().expect("a status"))
                .collect();
            assert_eq!(
                found,
                [&statuses[..], &[status]].concat(),
                "{sent}\n{answers}"
            );
            let is_told = answers.contains("must end with CR LF");
            assert_eq!(is_told, status == 400, "{answers}");
        }
    }
    // An empty line before a request is skipped, but not one that ends wrongly.
    refused(&app, &format!("\n{live}")).await;
}

#[tokio::test]
async fn what_is_no_request_at_all_is_told_in_a_problem_too() {
    let app = TestApp::start().await;
    let long = "a".repeat(70_000);
    let many: String = (0..200)
        .map(|number| format!("X-{number}: a\r\n"))
        .collect();
    for (sent, status, code) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "bad_request"),
        (
            "GET / HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
            414,
            "target_too_long",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            431,
            "headers_too_large",
        ),
    ] {
        let (found, head, problem) = refused(&app, &sent).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)));
        assert!(head.contains("connection: close"), "{head}");
    }
}

#[tokio::test]
async fn what_can_be_decided_without_the_body_is_decided_before_it_is_sent() {
    let app = TestApp::start().await;
    let ada = app.runner("ada").await;
    let token = ada.token.as_deref().expect("a token");
    for (what, path, headers, expected) in [
        ("no token", "/sessions/start", "Content-Length: 100", "401"),
        (
            "a body that is no JSON",
            "/auth/login",
            "Content-Type: text/plain\r\nContent-Length: 100",
            "415",
        ),
        (
            "a body that is too long",
            "/auth/login",
            "Content-Length: 300000",
            "413",
        ),
        ("no such path", "/nowhere", "Content-Length: 100", "404"),
    ] {
        let mut client = connect(&app).await;
        let json = if headers.contains("Content-Type") {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let head = format!(
            "POST /api/v1{path} HTTP/1.1\r\nHost: a\r\n{json}{headers}\r\nExpect: 100-continue\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.expect("a head");
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(
            String::from_utf8_lossy(&answer),
            format!("HTTP/1.1 {expected}"),
            "{what}"
        );
    }
    // The service asks for a body that it wants.
    let mut client = connect(&app).await;
    let body = r#"{"techStack":"Rust"}"#;
    let head = format!(
        "POST /api/v1/sessions/start HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.expect("a head");
    let mut answer = [0; 25];
    client.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(body.as_bytes()).await.expect("a body");
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 201");
}

#[tokio::test]
async fn bodies_that_do_not_end_take_no_more_memory_than_there_is_for_them() {
    let app = TestApp::start_with(|config| {
        config.trusted_proxies = "127.0.0.1".parse().expect("a proxy")
    })
    .await;
    let unfinished = async |client: &str| {
        let mut stream = connect(&app).await;
        let head = format!(
            "POST /api/v1/auth/refresh HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\
             Content-Type: application/json\r\nContent-Length: 262144\r\nExpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("a head");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        (stream, String::from_utf8_lossy(&answer).into_owned())
    };
    // One client may have a number of unfinished requests, and no more.
    let mut held = Vec::new();
    let refusal = loop {
        let (stream, answer) = unfinished("192.0.2.1").await;
        if answer != "HTTP/1.1 100" {
            break answer;
        }
        held.push(stream);
        assert!(held.len() < 100, "one client sends without end");
    };
    assert_eq!(refusal, "HTTP/1.1 503");
    // Another client still has its share.
    let (other, answer) = unfinished("192.0.2.2").await;
    assert_eq!(answer, "HTTP/1.1 100");
    // A share that is given up becomes free. The service learns of it when it next reads.
    drop((held, other));
    loop {
        let (_, answer) = unfinished("192.0.2.1").await;
        if answer == "HTTP/1.1 100" {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_address_has_a_fifth_of_the_connections_and_is_told_so() {
    let app = TestApp::start_with(|config| config.max_connections = 100).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut client = connect(&app).await;
        client
            .write_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .expect("a request");
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(client);
    }
    let mut refused = connect(&app).await;
    let mut answer = String::new();
    refused
        .read_to_string(&mut answer)
        .await
        .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains(r#""code":"overloaded""#));
    // Its other connections are served.
    let last = held.last_mut().expect("a connection");
    last.write_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("a request");
    let mut answer = [0; 12];
    last.read_exact(&mut answer).await.expect("an answer");
}

/// CVE-2023-44487: the client resets each request as soon as it has sent it. So no limit on simultaneous requests takes
/// effect.
#[tokio::test]
async fn a_client_that_takes_back_request_after_request_keeps_nobody_from_being_served() {
    let app = TestApp::start().await;
    let (mut sender, connection) = client::handshake(connect(&app).await)
        .await
        .expect("HTTP/2");
    let ended = tokio::spawn(connection);
    for _ in 0..5000 {
        // The service may end the connection, and is right to.
        let Ok(mut ready) = sender.ready().await else {
            break;
        };
        let request = http::Request::get("http://a/health/live");
        let sent = ready.send_request(request.body(()).expect("a request"), true);
        let Ok((_, mut stream)) = sent else {
            break;
        };
        // The request must be on its way before the client takes it back.
        tokio::task::yield_now().await;
        stream.send_reset(h2::Reason::CANCEL);
        sender = ready;
    }
    app.visitor().get("/health/live").await.ok(200);
    app.runner("ada").await.get("/auth/me").await.ok(200);
    ended.abort();
}

#[tokio::test]
async fn a_parameter_that_an_operation_does_not_have_is_refused_by_name() {
    let app = TestApp::start().await;
    let ada = app.runner("ada").await;
    for (path, name, known) in [
        ("/sessions?limits=5", "limits", "limit, cursor"),
        ("/challenges?limit=5&Cursor=x", "Cursor", "limit, cursor"),
        (
            "/leaderboards/slack-clone?tech_stack=Rust",
            "tech_stack",
            "techStack",
        ),
        ("/auth/me?pretty", "pretty", "has none"),
    ] {
        let problem = ada.get(path).await.problem(400, "invalid_request");
        let error = &problem["errors"][0];
        assert_eq!(
            (&error["field"], &error["code"]),
            (&json!(name), &json!("unknown_field"))
        );
        assert!(text(error, "/message").contains(known), "{error}");
    }
    let head = ada
        .request(reqwest::Method::HEAD, "/sessions?limits=5")
        .send()
        .await
        .expect("an answer");
    assert_eq!(head.status(), 400);
    // No parameter may stand twice. Of the two values, each program on the way might take a different one.
    let problem = ada.get("/sessions?limit=5&limit=6").await;
    let problem = problem.problem(400, "invalid_request");
    assert_eq!(problem["errors"][0]["field"], "limit");
    assert_eq!(problem["errors"][0]["code"], "repeated");
    ada.get("/sessions?limit=5").await.ok(200);
}

#[tokio::test]
async fn a_cursor_counts_for_the_list_that_it_came_with_only() {
    let app = TestApp::start().await;
    let ada = app.runner("ada").await;
    for _ in 0..2 {
        let session = ada.start("slack-clone").await;
        ada.post("/sessions/abandon", json!({ "sessionId": session }))
            .await
            .ok(200);
    }
    let page = ada.get("/sessions?limit=1").await.ok(200);
    let cursor = text(&page, "/nextCursor");
    let next = ada
        .get(&format!("/sessions?limit=1&cursor={cursor}"))
        .await
        .ok(200);
    assert_ne!(next["items"][0]["id"], page["items"][0]["id"]);
    for other in [
        "/auth/sign-ins",
        "/challenges",
        "/submissions",
        "/leaderboards/slack-clone",
    ] {
        let problem = ada
            .get(&format!("{other}?cursor={cursor}"))
            .await
            .problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["field"], "cursor", "{other}");
        assert_eq!(problem["errors"][0]["code"], "other_list", "{other}");
    }
    let problem = ada
        .get("/sessions?cursor=AAAA")
        .await
        .problem(400, "invalid_request");
    assert_eq!(problem["errors"][0]["code"], "format");
}
