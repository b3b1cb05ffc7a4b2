//! How many unread answers one client may leave with the service.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::support::{actor::Actor, app::TestApp, upstream::Upstream};

/// Sends many requests, and reads only the status of each answer.
async fn ask_deaf(app: &TestApp, asker: &Actor, path: &str) -> Vec<(TcpStream, u16)> {
    let address = app.base.trim_start_matches("http://");
    let token = asker.token.as_deref().unwrap_or("anon");
    let mut answers = Vec::new();
    for _ in 0..250 {
        let socket = TcpSocket::new_v4().expect("a socket");
        // With a small buffer, few bytes of the answer leave the service.
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let address = address.parse().expect("an address");
        let mut stream = socket.connect(address).await.expect("a connection");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("a status");
        let status = String::from_utf8_lossy(&status[9..]).parse();
        answers.push((stream, status.expect("a status")));
        // Three refusals show that the service goes on refusing.
        if answers.iter().filter(|(_, status)| *status == 503).count() == 3 {
            break;
        }
    }
    answers
}

#[tokio::test]
async fn whoever_reads_no_answers_gets_no_more_of_them_and_others_do() {
    let app = TestApp::start().await;
    let (ada, bob) = (app.runner("ada").await, app.runner("bob").await);
    // A page of either user has 8.6 MB.
    app.sql()
        .await
        .batch_execute(
            "insert into public.sessions (user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
             select u.id, c.id, 'Rust', t, t + interval '1 hour', t + interval '1 day', 'completed'
               from public.users as u, public.challenges as c, generate_series(1, 100) as n,
                    lateral (values (timestamptz '2026-02-01' + n * interval '1 day')) as start (t)
              where c.slug = 'slack-clone';
             insert into public.submissions
               (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages)
             select s.id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time,
                    array_fill(repeat('é', 214), array[200])
               from public.sessions as s",
        )
        .await
        .expect("runs");
    let page = "/api/v1/submissions?limit=100";
    let deaf = ask_deaf(&app, &ada, page).await;
    let held = deaf.iter().filter(|(_, status)| *status == 200).count();
    // The limit is 51 MiB. The bytes in the sockets come on top.
    assert!((4..9).contains(&held), "{held} of {}", deaf.len());

    ada.get("/submissions?limit=100")
        .await
        .problem(503, "overloaded");
    // Ada still gets small answers, and other clients get answers of any size.
    ada.get("/submissions?limit=1&status=APPROVED")
        .await
        .ok(200);
    bob.get("/submissions?limit=100").await.ok(200);
    app.visitor().get("/challenges").await.ok(200);
    let whole = bob.get("/submissions?limit=2").await.ok(200);
    let packed = bob
        .request(Method::GET, "/submissions?limit=2")
        .header("Accept-Encoding", "gzip");
    let packed = packed.send().await.expect("an answer");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.bytes().await.expect("a body");
    let unpacked = flate2::read::GzDecoder::new(packed.as_ref());
    let unpacked: Value = serde_json::from_reader(unpacked).expect("JSON");
    assert!(unpacked == whole, "unpacked, it is the same");
    drop(deaf);
    until_read(&ada).await;

    // The same over one HTTP/2 connection. Its window lets no body through.
    let address = app.base.trim_start_matches("http://");
    let mut client = TcpStream::connect(address).await.expect("a connection");
    let token = format!("Bearer {}", ada.token.as_deref().expect("a token"));
    let rest = token.len() - 127;
    let mut head = vec![0x82, 0x86, 0x04, page.len() as u8];
    head.extend(page.bytes());
    head.extend(*b"\x01\x01x\x0f\x08\x7f");
    head.extend([(rest % 128 + 128) as u8, (rest / 128) as u8]);
    head.extend(token.bytes());
    let mut asked =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0".to_vec();
    for stream in (1..40_u32).step_by(2) {
        asked.extend(&(head.len() as u32).to_be_bytes()[1..]);
        asked.extend(b"\x01\x05");
        asked.extend(stream.to_be_bytes());
        asked.extend(&head);
    }
    client.write_all(&asked).await.expect("requests");
    let (mut heads, mut held) = (0, 0);
    while heads < 20 {
        let mut frame = [0; 9];
        client.read_exact(&mut frame).await.expect("a frame");
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let mut payload = vec![0; length as usize];
        client.read_exact(&mut payload).await.expect("its payload");
        if frame[3] == 1 {
            heads += 1;
            // :status: 200
            held += u32::from(payload[0] == 0x88);
        }
    }
    assert_eq!(held, 6);
    drop(client);
    until_read(&ada).await;
}

/// Waits until the service no longer counts the unread answers.
async fn until_read(runner: &Actor) {
    let again = async {
        while runner.get("/submissions?limit=100").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again)
        .await
        .expect("an answer");
}

#[tokio::test]
async fn whoever_reads_no_answers_of_postgrest_gets_no_more_of_them_and_others_do() {
    // This answer does not say its length.
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000)).repeat(512);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("{head}{chunk}0\r\n\r\n");
    let few = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n{:16384}",
        "[]"
    );
    let upstream = Upstream::acting(move |heard, mut stream| {
        let answer = match heard.line() {
            line if line.starts_with("HEAD") => head,
            line if line.contains("/few") => &few,
            // The rest of this body never comes.
            line if line.contains("/more") => "HTTP/1.1 200 OK\r\nContent-Length: 16385\r\n\r\n",
            _ => &long,
        };
        let answer = answer.to_owned();
        async move {
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(stream)
        }
    })
    .await;
    let app = TestApp::start_with(|config| config.postgrest_url = Some(upstream.url.clone())).await;
    let (ada, bob) = (app.runner("ada").await, app.runner("bob").await);
    let deaf = ask_deaf(&app, &ada, "/rest/v1/users").await;
    let held = deaf.iter().filter(|(_, status)| *status == 200).count();
    assert!((100..110).contains(&held), "{held} of {}", deaf.len());
    ada.get("/rest/v1/users").await.problem(503, "overloaded");
    // Ada still gets small answers, and other clients get theirs.
    let mut more = Vec::new();
    loop {
        let answer = ada.request(Method::GET, "/rest/v1/more").send().await;
        more.push(answer.expect("an answer"));
        if more.last().is_some_and(|answer| answer.status() == 503) {
            break;
        }
    }
    ada.get("/rest/v1/few").await.ok(200);
    let head = ada.request(Method::HEAD, "/rest/v1/users").send().await;
    assert_eq!(head.expect("an answer").status(), 200);
    bob.get("/rest/v1/users").await.ok(200);
    app.visitor().get("/rest/v1/users").await.ok(200);
}
