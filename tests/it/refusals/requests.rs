//! Requests that are wrong as a whole: their path, their method, the shape and the size of their body.

use reqwest::{Method, header};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    actor::{PASSWORD, answer, text},
    app::TestApp,
    cluster::Database,
    program::Scratch,
};

use super::{NOBODYS, fault, post_raw};

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    for path in [
        "/nope",
        "/milestones",
        "/milestones/",
        "/auth/login/",
        "/AUTH/me",
        "//auth/me",
        "/auth/%6Ce",
        "/sessions/start/now",
    ] {
        visitor.get(path).await.problem(404, "unknown_path");
    }
    let outside = reqwest::get(format!("{}/api/v2/auth/me", app.base))
        .await
        .expect("an answer");
    assert_eq!(outside.status(), 404);
    assert_eq!(
        outside.headers()["content-type"],
        "application/problem+json"
    );
}

#[tokio::test]
async fn a_wrong_method_is_a_problem_that_names_the_right_ones() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    let session = format!("/sessions/{NOBODYS}");
    for (method, path, allowed) in [
        (Method::GET, "/auth/register", "POST"),
        (Method::PUT, "/auth/login", "POST"),
        (Method::HEAD, "/auth/login", "POST"),
        (Method::PATCH, "/sessions/start", "POST"),
        (Method::POST, "/auth/me", "DELETE, GET, HEAD"),
        (Method::DELETE, &session, "GET, HEAD"),
        (Method::POST, "/docs", "GET, HEAD"),
        (Method::DELETE, "/", "GET, HEAD"),
        (Method::POST, "/openapi.yaml", "GET, HEAD"),
        (Method::POST, "/health/ready", "GET, HEAD"),
        (
            Method::from_bytes(b"BREW").expect("a method"),
            "/auth/me",
            "DELETE, GET, HEAD",
        ),
    ] {
        let refused = answer(visitor.request(method.clone(), path)).await;
        assert_eq!(refused.status, 405, "{method} {path}");
        assert_eq!(
            refused
                .headers
                .get("allow")
                .and_then(|value| value.to_str().ok()),
            Some(allowed),
            "{method} {path}: RFC 9110, section 15.5.6"
        );
        if method != Method::HEAD {
            refused.problem(405, "method_not_allowed");
        }
    }
}

#[tokio::test]
async fn a_body_is_json_and_says_so() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    let valid = json!({ "username": "ada", "password": PASSWORD }).to_string();
    let with_type = async |content_type: Option<&str>, body: &str| {
        let mut request = visitor
            .request(Method::POST, "/auth/register")
            .body(body.to_owned());
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        answer(request).await
    };
    for content_type in [
        None,
        Some(""),
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonp"),
        Some("application/json-patch+json"),
        Some("text/json"),
    ] {
        with_type(content_type, &valid)
            .await
            .problem(415, "unsupported_media_type");
    }
    for content_type in [None, Some("text/plain"), Some("application/json")] {
        let problem = with_type(content_type, "")
            .await
            .problem(400, "malformed_body");
        let detail = text(&problem, "/detail");
        assert!(detail.starts_with("The JSON body is missing"), "{detail}");
    }
    with_type(Some("Application/JSON; charset=utf-8"), &valid)
        .await
        .ok(201);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_malformed() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    let deep = "[".repeat(100_000);
    for body in [
        " ",
        "{",
        "{\"username\"",
        "{'username': 'ada'}",
        "{\"username\": \"ada\",}",
        "{\"username\": NaN}",
        "username=ada",
        "{} {}",
        "\u{feff}{}",
        "{\"username\": 1e400}",
        "{\"username\": \"\\ud800\"}",
        "{\"username\": \"\\udc00\\ud800\"}",
        "{\"username\": \"\\x\"}",
        "{\"username\": \"a\nb\"}",
        &deep,
    ] {
        let shown: String = body.chars().take(40).collect();
        let refused = post_raw(&visitor, "/auth/register", body.to_owned()).await;
        assert_eq!(refused.status, 400, "{shown}");
        refused.problem(400, "malformed_body");
    }
    for body in [
        &b"{\"username\": \"\xff\"}"[..],
        b"\xff\xfe{\0}\0",
        b"{\"username\": \"\xed\xa0\x80\"}",
        b"\0",
    ] {
        post_raw(&visitor, "/auth/register", body.to_owned())
            .await
            .problem(400, "malformed_body");
    }
}

#[tokio::test]
async fn a_body_of_another_shape_is_refused_by_its_field() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    for body in [
        json!([]),
        json!(null),
        json!("ada"),
        json!(1),
        json!(true),
        json!([{ "username": "ada" }]),
    ] {
        assert_eq!(
            visitor.post("/auth/register", body).await.faults(),
            [fault("body", "type")]
        );
    }
    for value in [
        json!(1),
        json!(null),
        json!(true),
        json!(["ada"]),
        json!({ "name": "ada" }),
    ] {
        assert_eq!(
            visitor
                .post(
                    "/auth/register",
                    json!({ "username": value, "password": PASSWORD })
                )
                .await
                .faults(),
            [fault("username", "type")]
        );
    }
}

#[tokio::test]
async fn every_fault_is_named_at_once() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let mut faults = app
        .visitor()
        .post("/auth/register", json!({ "username": "a b", "extra": 1 }))
        .await
        .faults();
    faults.sort();
    assert_eq!(
        faults,
        [
            fault("extra", "unknown_field"),
            fault("password", "required"),
            fault("username", "pattern")
        ]
    );

    let body = json!({
        "revision": "x",
        "packages": ["ok", "", 7, "y".repeat(215), "n\u{0}l", " "],
        "videoUrl": 5,
        "startTime": "2026-01-01T00:00:00.000Z",
        "totalTimeMs": 1,
    });
    let submission = format!("/submissions/{NOBODYS}");
    let mut faults = answer(runner.request(Method::PATCH, &submission).json(&body))
        .await
        .faults();
    faults.sort();
    assert_eq!(
        faults,
        [
            fault("packages[1]", "pattern"),
            fault("packages[2]", "type"),
            fault("packages[3]", "too_long"),
            fault("packages[4]", "nul_character"),
            fault("packages[5]", "pattern"),
            fault("revision", "type"),
            fault("startTime", "unknown_field"),
            fault("totalTimeMs", "unknown_field"),
            fault("videoUrl", "type"),
        ]
    );
}

#[tokio::test]
async fn what_the_server_decides_cannot_be_sent() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    for (field, value) in [
        ("startTime", json!("2020-01-01T00:00:00.000Z")),
        ("start_time", json!("2020-01-01T00:00:00.000Z")),
        ("endTime", json!(null)),
        ("deadline", json!("2099-01-01T00:00:00.000Z")),
        ("userId", json!(NOBODYS)),
        ("id", json!(NOBODYS)),
        ("status", json!("completed")),
        ("totalTimeMs", json!(1)),
        ("milestones", json!([])),
        ("__proto__", json!({})),
        ("a.b", json!(1)),
    ] {
        let mut start = json!({ "techStack": "Rust" });
        start[field] = value.clone();
        assert_eq!(
            runner.start_with(start).await.faults(),
            [fault(field, "unknown_field")]
        );
        let mut verify = json!({ "sessionId": NOBODYS, "milestoneNumber": 1 });
        verify[field] = value.clone();
        assert_eq!(
            runner.post("/milestones/verify", verify).await.faults(),
            [fault(field, "unknown_field")]
        );
        let mut end = json!({ "sessionId": NOBODYS, "packages": [] });
        end[field] = value;
        assert_eq!(
            runner.post("/sessions/end", end).await.faults(),
            [fault(field, "unknown_field")]
        );
    }
    for field in ["role", "banned_at", "isAdmin"] {
        let mut body = json!({ "username": "eve", "password": PASSWORD });
        body[field] = json!("admin");
        assert_eq!(
            app.visitor().post("/auth/register", body).await.faults(),
            [fault(field, "unknown_field")]
        );
    }
}

#[tokio::test]
async fn a_flood_of_faults_is_answered_with_a_few() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let unknown: serde_json::Map<_, _> = (0..20_000)
        .map(|number| (format!("f{number}"), json!(0)))
        .collect();
    for (path, body) in [
        (
            "/sessions/end",
            json!({ "sessionId": NOBODYS, "packages": vec![0; 100_000] }),
        ),
        ("/auth/register", Value::Object(unknown)),
    ] {
        let problem = runner
            .post(path, body)
            .await
            .problem(400, "invalid_request");
        let named = problem["errors"].as_array().map_or(0, Vec::len);
        assert!((1..=100).contains(&named), "{named} faults");
    }
}

#[tokio::test]
async fn what_is_long_is_neither_repeated_nor_logged() {
    let (scratch, database) = (Scratch::new(), Database::migrated().await);
    let program = scratch
        .program(&["serve"])
        .on(database.url().expose_secret())
        .serve()
        .await;
    let visitor = program.visitor();
    let long = "é".repeat(50_000);
    let problem = visitor
        .post(
            "/auth/register",
            json!({ long.as_str(): 0, "username": { long.as_str(): "\0" } }),
        )
        .await
        .problem(400, "invalid_request");
    let errors = problem["errors"].as_array().expect("errors");
    assert!(errors.iter().any(|error| error["field"] == "é".repeat(100)));
    assert!(problem.to_string().len() < 2000, "{problem}");
    let path = "x".repeat(60_000);
    for path in [format!("/{path}"), format!("/users/{path}")] {
        let answer = visitor.get(&path).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
    }
    visitor
        .get(&format!("/rest/v1/{path}"))
        .await
        .problem(501, "postgrest_missing");
    let logged = program.stop().await.well().stderr;
    let longest = logged.lines().map(str::len).max();
    assert!(longest.is_some_and(|longest| longest < 2000), "{longest:?}");
}

/// The service takes no larger body.
const LIMIT: usize = 256 * 1024;

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_with_its_length_announced() {
    let app = TestApp::start().await;
    let body = vec![b' '; LIMIT + 1];
    let head = format!("Content-Length: {}", body.len());
    let answer = send_raw(&app, &head, &[&body]).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"code\":\"body_too_large\""), "{answer}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_in_chunks_too() {
    let app = TestApp::start().await;
    let chunk = vec![b' '; 64 * 1024];
    let size = format!("{:x}\r\n", chunk.len());
    let parts: Vec<&[u8]> = (0..=LIMIT / chunk.len())
        .flat_map(|_| [size.as_bytes(), &chunk, b"\r\n"])
        .chain([&b"0\r\n\r\n"[..]])
        .collect();
    let answer = send_raw(&app, "Transfer-Encoding: chunked", &parts).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"code\":\"body_too_large\""), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_below_the_limit_is_read_like_any_other() {
    let app = TestApp::start().await;
    let body = json!({ "username": "ada", "password": PASSWORD }).to_string();
    let (first, second) = body.split_at(10);
    let chunked = format!(
        "a\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        second.len()
    );
    let answer = send_raw(&app, "Transfer-Encoding: chunked", &[chunked.as_bytes()]).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

/// The service's answer to a registration with this header and body, sent exactly as given.
async fn send_raw(app: &TestApp, header: &str, body: &[&[u8]]) -> String {
    let address = app.base.strip_prefix("http://").expect("an address");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut reader, mut writer) = stream.into_split();
    let head = format!(
        "POST /api/v1/auth/register HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Connection: close\r\n{header}\r\n\r\n"
    );
    let writing = async {
        writer.write_all(head.as_bytes()).await?;
        for part in body {
            // After a refusal the service need not read the rest.
            writer.write_all(part).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let reading = async {
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = reader.read(&mut part).await {
            answer.extend_from_slice(&part[..length]);
        }
        String::from_utf8(answer).expect("text")
    };
    tokio::join!(writing, reading).1
}
