//! How much one client may ask for, and how the service tells clients apart.

use std::{num::NonZeroU32, time::Duration};

use governor::{Quota, RateLimiter, clock::FakeRelativeClock, middleware::NoOpMiddleware};
use reqwest::Method;
use serde_json::{Value, json};
use speedcoding::limits::table::States;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::support::{
    actor::{Actor, Answer, PASSWORD, answer, text},
    app::TestApp,
    program::Scratch,
    upstream::Upstream,
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

#[tokio::test]
async fn the_client_is_the_right_most_hop_that_no_trusted_proxy_has() {
    let trusted = "127.0.0.1, 10.0.0.0/8, 2001:db8:ffff::/48";
    let app = behind(trusted, "on").await;
    let huge = format!("{} 192.0.2.7", "203.0.113.9,".repeat(400));
    let junk = format!("203.0.113.9, {}, 10.0.0.1", "x".repeat(4000));
    let client = "192.0.2.7";
    let proxy = "127.0.0.1";
    let cases: &[(&[&str], &str)] = &[
        (&[], proxy),
        (&["192.0.2.7"], client),
        // What the client claims itself stands to the left.
        (&["203.0.113.9, 192.0.2.7"], client),
        (&["127.0.0.1, 10.1.2.3, 192.0.2.7"], client),
        (&["203.0.113.9,192.0.2.7,10.0.0.1"], client),
        (&["203.0.113.9, 192.0.2.7 , 10.0.0.1 ,10.2.3.4"], client),
        (&["10.0.0.1"], "10.0.0.1"),
        (&["10.0.0.2, 10.0.0.1"], "10.0.0.2"),
        // Several lines are one list.
        (&["203.0.113.9", "192.0.2.7"], client),
        (&["192.0.2.7", "10.0.0.1"], client),
        (&["203.0.113.9, 192.0.2.7", "10.0.0.1, 10.0.0.2"], client),
        // Spaces, tabs, empty hops.
        (&["  192.0.2.7\t"], client),
        (&["203.0.113.9,\t192.0.2.7"], client),
        (&["192.0.2.7,,"], client),
        (&["192.0.2.7", ""], client),
        (&[" , ,192.0.2.7, , 10.0.0.1 ,"], client),
        (&[""], proxy),
        (&[",,,"], proxy),
        // Ports, brackets, IPv6 and IPv4 in it.
        (&["192.0.2.7:567"], client),
        (&["203.0.113.9:1, 192.0.2.7:567, 10.0.0.1:80"], client),
        (&["[2001:db8::7]"], "2001:db8::7"),
        (&["[2001:db8::7]:80"], "2001:db8::7"),
        (&["2001:DB8:0:0::7, 2001:db8:ffff::1"], "2001:db8::7"),
        (&["::ffff:192.0.2.7"], client),
        (&["203.0.113.9, [::ffff:192.0.2.7]:443"], client),
        (&["192.0.2.7, ::ffff:10.0.0.1"], client),
        (&["192.0.2.7, ::ffff:127.0.0.1"], client),
        (&["0:0:0:0:0:ffff:c000:0207"], client),
        // What names nobody: nothing to its left is believed.
        (&["203.0.113.9, unknown"], proxy),
        (&["203.0.113.9, unknown, 10.0.0.1"], "10.0.0.1"),
        (&["203.0.113.9, _hidden, 10.0.0.1"], "10.0.0.1"),
        (&["203.0.113.9, 192.0.2.300"], proxy),
        (&["203.0.113.9, 192.0.2"], proxy),
        (&["203.0.113.9, 3221225991"], proxy),
        (&["203.0.113.9, 192.0.2.7:99999"], proxy),
        (&["203.0.113.9, [192.0.2.7]"], proxy),
        (&["203.0.113.9, [2001:db8::7"], proxy),
        (&["203.0.113.9, fe80::1%eth0"], proxy),
        (&["203.0.113.9, \"192.0.2.7\""], proxy),
        (&["203.0.113.9; 192.0.2.7"], proxy),
        (&["for=192.0.2.7"], proxy),
        (&["203.0.113.9, 192.0.2.7 10.0.0.1"], proxy),
        (&["192.0.2.7, 0.0.0.0"], "0.0.0.0"),
        (&[&huge], client),
        (&[&junk], "10.0.0.1"),
    ];
    for (number, (hops, _)) in cases.iter().enumerate() {
        register_from(&app, &format!("user-{number}"), hops)
            .await
            .ok(201);
    }
    let rows = app
        .sql()
        .await
        .query(
            "select substr(username, 6)::int, host(ip)
               from public.users as u join private.refresh_tokens as t on t.user_id = u.id",
            &[],
        )
        .await
        .expect("sign-ins");
    assert_eq!(rows.len(), cases.len());
    for row in rows {
        let (hops, expected) = cases[row.get::<_, i32>(0) as usize];
        assert_eq!(row.get::<_, &str>(1), expected, "{hops:?}");
    }
}

#[tokio::test]
async fn nobody_is_believed_but_trusted_proxies_and_their_one_header() {
    for (proxies, header) in [
        ("", "X-Forwarded-For"),
        ("10.0.0.0/8, 192.0.2.7", "X-Forwarded-For"),
        ("127.0.0.0/8", "Forwarded"),
        ("127.0.0.0/8", "X-Real-IP"),
        ("127.0.0.0/8", "CF-Connecting-IP"),
        ("127.0.0.0/8", "X-Forwarded-Host"),
    ] {
        let app = behind(proxies, "network=2/h").await;
        let visitor = app.visitor();
        for (number, allowed) in [(1, true), (2, true), (3, false)] {
            let address = match header {
                "Forwarded" => format!("for=203.0.113.{number}"),
                _ => format!("203.0.113.{number}"),
            };
            let request = visitor
                .request(Method::GET, "/challenges")
                .header(header, address);
            let answer = answer(request).await;
            if allowed {
                answer.ok(200);
            } else {
                answer.problem(429, "rate_limited");
            }
        }
    }
}

/// What a client sends, the proxy passes on, and ends with what it knows itself.
#[tokio::test]
async fn whatever_a_client_sends_through_a_proxy_counts_for_its_own_network() {
    let app = behind("127.0.0.1, 10.0.0.0/8", "network=1000/h").await;
    let own = "X-Forwarded-For: 192.0.2.7\r\n";
    let spoof = "203.0.113.9";
    let many = format!("X-Forwarded-For: {spoof}\r\n").repeat(60);
    let counted = [
        own.to_owned(),
        format!("X-Forwarded-For: {spoof}\r\n{own}"),
        format!("X-Forwarded-For: {spoof}, 127.0.0.1, 10.0.0.1\r\n{own}"),
        format!("{many}{own}"),
        format!("x-forwarded-for:{spoof},192.0.2.7\r\n"),
        format!("X-FORWARDED-FOR: {spoof},\t,, ,192.0.2.7 ,10.0.0.1\t\r\n"),
        format!("X-Forwarded-For: {spoof}\r\nx-forwarded-for: 192.0.2.7,10.0.0.1\r\n"),
        format!("X_Forwarded_For: {spoof}\r\n{own}X_Forwarded_For: {spoof}\r\n"),
        format!("X-Forwarded-For-: {spoof}\r\n{own}X-Forwarded: for={spoof}\r\n"),
        format!("{own}Forwarded: for={spoof}\r\nX-Real-IP: {spoof}\r\nTrue-Client-IP: {spoof}\r\n"),
        format!(
            "{own}X-Client-IP: {spoof}\r\nClient-IP: {spoof}\r\nX-Original-Forwarded-For: {spoof}\r\n"
        ),
        format!("{own}Connection: X-Forwarded-For, keep-alive\r\n"),
        format!("{own}Via: 1.1 {spoof}\r\nFrom: {spoof}\r\nOrigin: http://{spoof}\r\n"),
        format!("X-Forwarded-For: \u{ff}{spoof}\u{a0}, 192.0.2.7\r\n"),
        format!(
            "{own}Transfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n0\r\nX-Forwarded-For: {spoof}\r\n"
        ),
    ];
    // What is no header is not understood as one.
    let refused = [
        format!("X-Forwarded-For : {spoof}\r\n"),
        format!("{own}\t, {spoof}\r\n"),
        format!("{own} {spoof}\r\n"),
        format!("X-Forwarded-For\0: {spoof}\r\n{own}"),
        format!("X-Forwarded-For: {spoof}\r\0\n{own}"),
    ];
    let get = async |uri: &str, headers: &str| {
        let address = app.base.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {uri} HTTP/1.1\r\nHost: {spoof}\r\n{headers}\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut heard = Vec::new();
        let mut part = [0; 4096];
        while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut part).await.expect("an answer");
            assert!(count > 0, "{headers:?}: an end");
            heard.extend(&part[..count]);
        }
        String::from_utf8_lossy(&heard).into_owned()
    };
    let mut left = 1000;
    for uri in ["/api/v1/challenges", "http://203.0.113.9/api/v1/challenges"] {
        for headers in &counted {
            left -= 1;
            let heard = get(uri, headers).await;
            let limit = format!("ratelimit: \"network\";r={left};");
            assert!(heard.starts_with("HTTP/1.1 200"), "{headers:?}: {heard}");
            assert!(heard.contains(&limit), "{headers:?}: {heard}");
        }
    }
    for headers in &refused {
        let heard = get("/api/v1/challenges", headers).await;
        assert!(heard.starts_with("HTTP/1.1 400"), "{headers:?}: {heard}");
    }
}

#[tokio::test]
async fn registrations_are_limited_by_network_and_the_answers_say_how() {
    let app = behind("127.0.0.1", "on, register=2/h").await;
    let first = register_from(&app, "ada", &["192.0.2.7"]).await;
    assert_eq!(
        first.headers["ratelimit"],
        "\"network\";r=11999;t=1, \"register\";r=1;t=1800"
    );
    assert_eq!(
        first.headers["ratelimit-policy"],
        "\"network\";q=12000;w=60, \"register\";q=2;w=3600"
    );
    first.ok(201);
    // What the document refuses has cost nothing.
    register_from(&app, "x", &["192.0.2.7"]).await.faults();
    register_from(&app, "grace", &["192.0.2.7"]).await.ok(201);

    let refused = register_from(&app, "hedy", &["192.0.2.7"]).await;
    let wait: u64 = refused.headers["retry-after"]
        .to_str()
        .expect("text")
        .parse()
        .expect("seconds");
    assert!((1700..=1800).contains(&wait), "{wait}");
    let limits = refused.headers["ratelimit"].to_str().expect("text");
    assert!(
        limits.ends_with(&format!(", \"register\";r=0;t={wait}")),
        "{limits}"
    );
    let policy = refused.headers["ratelimit-policy"].to_str().expect("text");
    assert!(policy.ends_with(", \"register\";q=2;w=3600"), "{policy}");
    let problem = refused.problem(429, "rate_limited");
    assert_eq!(
        problem["detail"],
        format!("Too many requests: try again in {wait} s.")
    );

    // Another network, and whoever is in it.
    register_from(&app, "hedy", &["192.0.2.8"]).await.ok(201);
    // An IPv6 network has 64 bits; an IPv4 address is the same in either family.
    for (name, hop) in [
        ("six-1", "2001:db8:0:1::1"),
        ("six-2", "2001:db8:0:1:ffff::2"),
    ] {
        register_from(&app, name, &[hop]).await.ok(201);
    }
    for hop in ["2001:db8:0:1:abcd::3", "::ffff:192.0.2.7"] {
        register_from(&app, "nobody", &[hop])
            .await
            .problem(429, "rate_limited");
    }
    register_from(&app, "six-3", &["2001:db8:0:2::1"])
        .await
        .ok(201);
}

#[tokio::test]
async fn logins_are_limited_by_network_whatever_the_name_and_the_password() {
    let app = behind("127.0.0.1", "login=3/h").await;
    app.runner("ada").await;
    let visitor = app.visitor();
    let log_in = async |name: &str, password: &str, hop: &str| {
        let request = visitor
            .request(Method::POST, "/auth/login")
            .header("X-Forwarded-For", hop)
            .json(&json!({ "username": name, "password": password }));
        answer(request).await
    };
    log_in("ada", PASSWORD, "192.0.2.7").await.ok(200);
    for name in ["ada", "nobody"] {
        log_in(name, "not the password", "192.0.2.7")
            .await
            .problem(401, "wrong_credentials");
    }
    for name in ["ada", "nobody", "somebody"] {
        log_in(name, PASSWORD, "192.0.2.7")
            .await
            .problem(429, "rate_limited");
    }
    log_in("ada", PASSWORD, "192.0.2.8").await.ok(200);
}

#[tokio::test]
async fn a_password_that_is_asked_for_again_counts_as_a_login() {
    let app = behind("127.0.0.1", "login=2/h").await;
    let ada = app.runner("ada").await;
    let ask_again = async |method: Method, path: &str, hop: &str| {
        let body = match path {
            "/auth/me" => json!({ "password": "not the password" }),
            _ => json!({ "currentPassword": "not the password", "newPassword": "kT9#vQz! Zq7" }),
        };
        let request = ada.request(method, path).header("X-Forwarded-For", hop);
        answer(request.json(&body)).await
    };
    let ways = [
        (Method::DELETE, "/auth/me"),
        (Method::POST, "/auth/password"),
    ];
    for (left, (method, path)) in [1, 0].into_iter().zip(ways.clone()) {
        let answer = ask_again(method, path, "192.0.2.7").await;
        let limits = answer.headers["ratelimit"].to_str().expect("text");
        assert!(limits.contains(&format!("\"login\";r={left};")), "{limits}");
        answer.problem(403, "wrong_password");
    }
    for (method, path) in ways {
        let refused = ask_again(method.clone(), path, "192.0.2.7").await;
        refused.problem(429, "rate_limited");
        let elsewhere = ask_again(method, path, "192.0.2.8").await;
        elsewhere.problem(403, "wrong_password");
    }
}

#[tokio::test]
async fn whoever_is_signed_in_is_limited_as_a_user_and_nobody_else_can_use_that_up() {
    let app = behind("", "network=20/h,user=3/h").await;
    let (ada, bob) = (app.runner("ada").await, app.runner("bob").await);
    // Tokens that are not valid count for the network, even where they say that they are hers.
    let mut forged = ada.token.clone().expect("a token");
    forged.replace_range(forged.len() - 4.., "AAAA");
    let forger = app.visitor().with_token(forged);
    for _ in 0..5 {
        forger.get("/auth/me").await.problem(401, "invalid_token");
    }
    for remaining in [2, 1, 0] {
        let answer = ada.get("/challenges").await;
        let limits = answer.headers["ratelimit"].to_str().expect("text");
        assert!(
            limits.starts_with(&format!("\"user\";r={remaining};t=")),
            "{limits}"
        );
        answer.ok(200);
    }
    for path in ["/challenges", "/auth/me", "/sessions/current", "/nope"] {
        ada.get(path).await.problem(429, "rate_limited");
    }
    bob.get("/auth/me").await.ok(200);

    // Without a token too, and with a bad one where none is needed: there the network counts.
    let visitor = app.visitor();
    let mut allowed = 0;
    while visitor.get("/challenges").await.status == 200 {
        allowed += 1;
        assert!(
            allowed <= 13,
            "20, of which two registered and five were forged"
        );
    }
    assert!(allowed >= 12, "{allowed}");
    forger.get("/challenges").await.problem(429, "rate_limited");
    bob.get("/auth/me").await.ok(200);
    // What is not the API is not limited.
    for path in ["/health/live", "/health/ready", "/openapi.json"] {
        let answer = visitor.get(path).await;
        assert!(!answer.headers.contains_key("ratelimit"), "{path}");
        answer.ok(200);
    }
}

#[tokio::test]
async fn starts_and_edits_are_limited_by_user() {
    let app = behind("", "runs=2/h").await;
    let (ada, bob) = (app.runner("ada").await, app.runner("bob").await);
    let session = ada.start("freestyle").await;
    let ended = ada.end(&session).await.ok(200);
    let submission = format!("/submissions/{}", text(&ended, "/submission/id"));
    let edit = async |revision: i32| {
        let body = json!({ "revision": revision, "packages": ["axum"] });
        answer(ada.request(Method::PATCH, &submission).json(&body)).await
    };
    edit(1).await.ok(200);
    edit(2).await.problem(429, "rate_limited");
    let start = json!({ "techStack": "Rust" });
    ada.post("/sessions/start", start)
        .await
        .problem(429, "rate_limited");
    // What is under way goes on.
    ada.end(&session).await.ok(200);
    bob.start("freestyle").await;
}

#[tokio::test]
async fn refreshes_are_limited_by_sign_in_and_by_nothing_that_a_neighbour_does() {
    let app = behind("", "network=2/h,refresh=3/h").await;
    let visitor = app.visitor();
    let credentials = json!({ "username": "ada", "password": PASSWORD });
    let first = visitor.post("/auth/register", credentials.clone()).await;
    let second = visitor.post("/auth/login", credentials).await;
    visitor
        .get("/challenges")
        .await
        .problem(429, "rate_limited");

    let mut token = text(&first.ok(201), "/refreshToken");
    // Not signed by the service: it costs her nothing.
    let mut forged = token.clone();
    forged.replace_range(forged.len() - 4.., "AAAA");
    for _ in 0..5 {
        visitor
            .post("/auth/refresh", json!({ "refreshToken": forged }))
            .await
            .problem(401, "invalid_refresh_token");
    }
    for _ in 0..3 {
        let answer = visitor
            .post("/auth/refresh", json!({ "refreshToken": token }))
            .await;
        token = text(&answer.ok(200), "/refreshToken");
    }
    let refused = visitor
        .post("/auth/refresh", json!({ "refreshToken": token }))
        .await;
    assert_eq!(
        refused.headers["ratelimit-policy"],
        "\"refresh\";q=3;w=3600"
    );
    refused.problem(429, "rate_limited");
    // Her other sign-in goes on.
    visitor
        .post(
            "/auth/refresh",
            json!({ "refreshToken": second.ok(200)["refreshToken"] }),
        )
        .await
        .ok(200);
}

#[tokio::test]
async fn whoever_waits_as_long_as_is_said_is_let_in() {
    let app = behind("", "network=1/2s").await;
    let visitor = app.visitor();
    visitor.get("/challenges").await.ok(200);
    let refused = visitor.get("/challenges").await;
    let wait: u64 = refused.headers["retry-after"]
        .to_str()
        .expect("text")
        .parse()
        .expect("seconds");
    refused.problem(429, "rate_limited");
    assert!((1..=2).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    visitor.get("/challenges").await.ok(200);
}

#[tokio::test]
async fn limits_can_be_turned_off_all_at_once_or_one_by_one() {
    for limits in ["off", "network=1/h,network=off"] {
        let app = behind("", limits).await;
        for _ in 0..3 {
            let answer = app.visitor().get("/challenges").await;
            assert!(!answer.headers.contains_key("ratelimit"), "{limits}");
            answer.ok(200);
        }
    }
    let app = behind("", "off,network=1/h").await;
    app.visitor().get("/challenges").await.ok(200);
    app.visitor()
        .get("/challenges")
        .await
        .problem(429, "rate_limited");
}

#[tokio::test]
async fn a_wrong_setting_is_told_with_one_that_is_right() {
    let scratch = Scratch::new();
    for (name, value, words) in [
        ("RATE_LIMITS", "perhaps", "`perhaps` is neither on nor off"),
        (
            "RATE_LIMITS",
            "on,regster=20/h",
            "`regster=20/h` names none of network, user, register",
        ),
        (
            "RATE_LIMITS",
            "register=20",
            "`register=20` gives no count/period",
        ),
        ("RATE_LIMITS", "register=0/h", "`register=0/h`"),
        ("RATE_LIMITS", "register=-1/h", "`register=-1/h`"),
        ("RATE_LIMITS", "register=1/0s", "`register=1/0s`"),
        ("RATE_LIMITS", "register=1/é", "`register=1/é`"),
        ("RATE_LIMITS", "register=1/31d", "`register=1/31d`"),
        (
            "RATE_LIMITS",
            "register=1/99999999999d",
            "`register=1/99999999999d`",
        ),
        ("RATE_LIMITS", "register=2000000/s", "`register=2000000/s`"),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/8,proxy.example",
            "`proxy.example` is no network",
        ),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/33",
            "`10.0.0.0/33` is no network",
        ),
        (
            "TRUSTED_PROXIES",
            "::ffff:10.0.0.0/104",
            "`::ffff:10.0.0.0/104` is no network",
        ),
    ] {
        let option = format!("--{}", name.to_lowercase().replace('_', "-"));
        let said = scratch
            .program(&["openapi"])
            .env(name, value)
            .finish()
            .await
            .told(&[&option, words, "valid is for example"]);
        // What it gives as an example is valid.
        let example = said.rsplit("for example ").next().expect("an example");
        scratch
            .program(&["openapi"])
            .env(name, example)
            .finish()
            .await
            .well();
    }
}

/// Asks many times, and reads no more than the status of each answer.
async fn ask_deaf(app: &TestApp, asker: &Actor, path: &str) -> Vec<(TcpStream, u16)> {
    let address = app.base.trim_start_matches("http://");
    let token = asker.token.as_deref().unwrap_or("anon");
    let mut answers = Vec::new();
    for _ in 0..250 {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Little of it is on its way.
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
        // That it goes on like this is enough to know.
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
    // A page of each has 8.6 MB.
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
    // 51 MiB, and what the sockets hold.
    assert!((4..9).contains(&held), "{held} of {}", deaf.len());

    ada.get("/submissions?limit=100")
        .await
        .problem(503, "overloaded");
    // What is small is answered all the same, and so are others.
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
    assert!(unpacked == whole, "the same, piece by piece");
    drop(deaf);
    until_read(&ada).await;

    // Over one connection of HTTP/2, which lets nothing of the bodies come.
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

/// Until what was not read counts no longer.
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
    // It does not say how long it is.
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
            // The rest never comes.
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
    // What is small is answered all the same, and so are others.
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

#[test]
fn a_million_clients_take_no_more_memory_than_a_few_and_hide_nobody() {
    let clock = FakeRelativeClock::default();
    let hundred = NonZeroU32::new(100).expect("a number");
    let limiter: RateLimiter<u32, States<u32>, _, NoOpMiddleware<_>> =
        RateLimiter::new(Quota::per_hour(hundred), States::default(), clock.clone());
    clock.advance(Duration::from_secs(1));
    let greedy = 1_000_000;
    while limiter.check_key(&greedy).is_ok() {}
    for client in 0..1_000_000 {
        assert!(
            limiter.check_key(&client).is_ok(),
            "everybody is let in once"
        );
        clock.advance(Duration::from_micros(10));
    }
    assert!(
        limiter.check_key(&greedy).is_err(),
        "one who has used up its share is not forgotten among them"
    );
    // It is forgotten when there is nothing to remember any more.
    clock.advance(Duration::from_secs(60 * 60));
    assert!(limiter.check_key(&greedy).is_ok());
    let states = limiter.into_state_store();
    let remembered = states.clients();
    assert!(remembered < 20_000, "{remembered}");
}
