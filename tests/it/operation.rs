//! What operators rely on: time limits, an orderly shutdown, headers, limits on requests.

use std::{fs, time::Duration};

use poem::{Server, endpoint::make_sync, listener::TcpAcceptor};
use reqwest::{Method, header};
use secrecy::ExposeSecret;
use speedcoding::{config::TrustedProxies, http::connection::Attended, limits::shares::Shares};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::support::{
    actor::{Actor, answer},
    app::TestApp,
    cluster::Database,
    program::Scratch,
};

/// Locks the row of a session, so that its end waits. The lock ends with the connection.
async fn hold(app: &TestApp, session: &str) -> tokio_postgres::Client {
    let client = app.sql().await;
    client
        .batch_execute(&format!(
            "begin; select from public.sessions where id = '{session}' for update"
        ))
        .await
        .expect("the lock");
    client
}

/// Returns as soon as a connection waits for a lock in this database.
async fn until_somebody_waits(app: &TestApp) {
    let client = app.sql().await;
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while client
        .query_one(waiting, &[])
        .await
        .expect("activity")
        .get::<_, i64>(0)
        == 0
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_statement_that_waits_too_long_is_cancelled_and_answered_with_504() {
    let app = TestApp::start_with(|config| config.statement_timeout = 1).await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    let held = hold(&app, &session).await;
    runner.end(&session).await.problem(504, "timeout");
    drop(held);
    assert_eq!(
        runner.end(&session).await.ok(200)["status"],
        "incomplete",
        "nothing had happened"
    );
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let app = TestApp::start_with(|config| config.request_timeout = 1).await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    let _held = hold(&app, &session).await;
    runner.end(&session).await.problem(504, "timeout");
}

#[tokio::test]
async fn a_shutdown_lets_requests_under_way_finish() {
    let (stop, stopped) = oneshot::channel::<()>();
    let (app, serving) = TestApp::start_until(async { stopped.await.expect("a signal") }).await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    let held = hold(&app, &session).await;
    let ending = tokio::spawn({
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.end(&session).await }
    });
    until_somebody_waits(&app).await;
    stop.send(()).expect("a service");
    drop(held);
    assert_eq!(
        ending.await.expect("an answer").ok(200)["status"],
        "incomplete"
    );
    serving.await.expect("a task").expect("an orderly end");
}

#[tokio::test]
async fn browsers_are_told_to_make_no_more_of_an_answer_than_it_is() {
    let app = TestApp::start().await;
    for path in ["/challenges", "/auth/me", "/nothing-here"] {
        let headers = app.visitor().get(path).await.headers;
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(
            headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'",
            "{path}"
        );
        assert_eq!(headers["x-frame-options"], "DENY", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        let kept = if path == "/challenges" {
            "no-cache"
        } else {
            "no-store"
        };
        assert_eq!(headers["cache-control"], kept, "{path}");
    }
}

async fn with_origin(actor: &Actor, method: Method, origin: &str) -> reqwest::header::HeaderMap {
    let request = actor
        .request(method, "/challenges")
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET");
    answer(request).await.headers
}

#[tokio::test]
async fn only_pages_of_listed_origins_may_call_the_api() {
    let closed = TestApp::start().await;
    let open =
        TestApp::start_with(|config| config.cors_origins = vec!["https://app.example".into()])
            .await;
    for (app, origin, allowed) in [
        (&closed, "https://app.example", false),
        (&open, "https://app.example", true),
        (&open, "https://evil.example", false),
        (&open, "https://app.example.evil.example", false),
        (&open, "null", false),
    ] {
        for method in [Method::GET, Method::OPTIONS] {
            let headers = with_origin(&app.visitor(), method, origin).await;
            let permission = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(
                permission.map(|value| value.as_bytes()),
                allowed.then_some(origin.as_bytes()),
                "{origin}"
            );
        }
    }
}

#[tokio::test]
async fn a_packed_body_is_refused_unread() {
    let app = TestApp::start().await;
    for (coding, path) in [
        ("gzip", "/auth/login"),
        ("br", "/auth/login"),
        ("zstd", "/auth/login"),
        ("deflate", "/auth/register"),
        ("gzip, br", "/nowhere"),
    ] {
        let mut client = connect(&app.base).await;
        // No more bytes follow this head.
        let head = format!(
            "POST /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Encoding: {coding}\r\nContent-Length: 1000\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.expect("a head");
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 415", "{coding}");
    }
    let request = app
        .visitor()
        .request(Method::POST, "/auth/login")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, "gzip")
        .body("[]");
    answer(request).await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn one_connection_carries_so_many_requests_at_once_and_no_more() {
    let app = TestApp::start().await;
    let mut client = connect(&app.base).await;
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("HTTP/2");
    // Its first frame says what it allows (RFC 9113, section 6.5).
    let mut frame = [0; 9];
    client.read_exact(&mut frame).await.expect("a frame");
    assert_eq!(frame[3], 4, "SETTINGS");
    let mut settings = vec![0; usize::from(frame[2])];
    client.read_exact(&mut settings).await.expect("settings");
    let streams = settings
        .chunks(6)
        .find(|setting| setting[..2] == [0, 3])
        .map(|setting| u32::from_be_bytes(setting[2..].try_into().expect("four bytes")));
    assert_eq!(streams, Some(200));
}

#[tokio::test]
async fn a_connection_on_which_nothing_can_be_sent_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TcpAcceptor::from_tokio(listener).expect("an acceptor");
    let acceptor = Attended::new(
        acceptor,
        Duration::from_millis(300),
        Shares::of_connections(1000),
        TrustedProxies::default(),
    );
    const LARGE: usize = 64 * 1024 * 1024;
    tokio::spawn(Server::new_with_acceptor(acceptor).run(make_sync(|_| vec![b'.'; LARGE])));
    let client = async || TcpStream::connect(address).await.expect("a connection");
    let patience = Duration::from_secs(60);

    for (what, begun) in [
        ("silence", ""),
        ("half a head", "GET / HTTP/1.1\r\nHost: "),
        (
            "HTTP/2 without a request",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
    ] {
        let mut client = client().await;
        client.write_all(begun.as_bytes()).await.expect(what);
        let mut answer = Vec::new();
        // The connection must end. It does not matter how.
        let _ = timeout(patience, client.read_to_end(&mut answer))
            .await
            .expect(what);
    }

    // This head never ends.
    let mut dripping = client().await;
    dripping
        .write_all(b"GET / HTTP/1.1\r\nHost: ")
        .await
        .expect("a head");
    let drip = async {
        while dripping.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(patience, drip).await.expect("an end");

    // This client does not read its answer.
    let mut deaf = client().await;
    deaf.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("a request");
    sleep(Duration::from_secs(1)).await;
    let mut answer = Vec::new();
    let _ = timeout(patience, deaf.read_to_end(&mut answer))
        .await
        .expect("an end");
    assert!(answer.len() < LARGE, "{}", answer.len());
}

#[tokio::test]
async fn a_page_that_nobody_reads_takes_no_memory() {
    let (scratch, database) = (Scratch::new(), Database::migrated().await);
    let program = scratch
        .program(&["serve"])
        .on(database.url().expose_secret())
        .serve()
        .await;
    program.visitor().get("/health/live").await.ok(200);
    let resident = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", program.pid()));
        let status = status.expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.expect("its size").parse().expect("a number")
    };
    let before = resident();

    // An HTTP/2 client asks 200 times. Its window lets no body through.
    let mut client = connect(&program.base).await;
    let mut asked =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0".to_vec();
    for stream in (1..400_u32).step_by(2) {
        asked.extend(b"\0\0\x0c\x01\x05");
        asked.extend(stream.to_be_bytes());
        asked.extend(b"\x82\x86\x04\x05/docs\x01\x01x");
    }
    client.write_all(&asked).await.expect("requests");
    let mut heads = 0;
    while heads < 200 {
        let mut frame = [0; 9];
        client.read_exact(&mut frame).await.expect("a frame");
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let mut payload = vec![0; length as usize];
        client.read_exact(&mut payload).await.expect("its payload");
        heads += u32::from(frame[3] == 1);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    program.stop().await.well();
}

#[tokio::test]
async fn without_file_descriptors_the_service_waits_and_says_so() {
    let (scratch, database) = (Scratch::new(), Database::migrated().await);
    let program = scratch
        .program(&["serve"])
        .on(database.url().expose_secret())
        .through("sh", &["-c", "ulimit -n 64; exec \"$@\"", "sh"])
        .serve()
        .await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(connect(&program.base).await);
    }
    sleep(Duration::from_secs(1)).await;
    drop(clients);
    program.visitor().get("/health/live").await.ok(200);
    let told = program.stop().await.well().stderr;
    let times = told.matches("connections cannot be accepted").count();
    // The service pauses after each failure.
    assert!((1..1000).contains(&times), "{times}");
}

async fn connect(base: &str) -> TcpStream {
    let address = base.trim_start_matches("http://");
    TcpStream::connect(address).await.expect("a connection")
}
