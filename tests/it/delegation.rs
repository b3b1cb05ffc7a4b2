//! Delegation as clients and PostgREST see it, with a server in PostgREST's place that hears every byte.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use speedcoding::{db::migrate::migrate, embedded::Embedded};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use crate::support::{
    actor::{Actor, Answer, answer, text},
    app::TestApp,
    cluster::{Database, connect},
    postgrest::{PostgRest, login},
    program::{Scratch, install_script, is_alive, send, tell_untold, until},
    upstream::{Upstream, chunk},
};

/// Far longer than anything here takes: reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(60);
const EMPTY: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";

/// The service in front of this.
async fn before(upstream: &Upstream) -> TestApp {
    TestApp::start_with(|config| config.postgrest_url = Some(upstream.url.clone())).await
}

async fn get(actor: &Actor, path: &str) -> Answer {
    answer(actor.request(Method::GET, path)).await
}

/// Sends bytes as they are, and then asks for an end, so that all that is answered can be read.
async fn raw(app: &TestApp, bytes: &[u8]) -> String {
    let address = app.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(bytes).await.expect("a request");
    let end = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // The connection may be closed already.
    let _ = stream.write_all(end.as_bytes()).await;
    let mut heard = Vec::new();
    let mut part = [0; 4096];
    // Or that is taken for a part of what was sent, which then never ends.
    while let Ok(Ok(count @ 1..)) = timeout(Duration::from_secs(1), stream.read(&mut part)).await {
        heard.extend(&part[..count]);
    }
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn a_request_reaches_postgrest_as_it_was_sent_and_its_answer_comes_back_the_same() {
    let body = b"[{\"id\":1}]\0\xff not JSON at all";
    let mut said = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Type: application/vnd.pgrst.object+json; charset=utf-8\r\n\
         Content-Range: 0-0/7\r\nContent-Profile: other\r\nPreference-Applied: count=exact\r\n\
         Location: /things?id=eq.1\r\nETag: W/\"1\"\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    said.extend(body);
    let upstream = Upstream::answering(said).await;
    let app = before(&upstream).await;
    let alice = app.runner("alice").await;
    let token = alice.token.clone().expect("a token");
    let sent = b"{\"a\": \"\xf0\x9f\x8f\x81\"}\0\xff";
    let target =
        "things%20of%C3%A9?select=a,b(c)&or=(a.eq.1,b.is.null)&x=%2F..%2F&y=%00&order=a.desc";
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"] {
        let request = alice
            .request(
                Method::from_bytes(method.as_bytes()).expect("a method"),
                &format!("/rest/v1/{target}"),
            )
            .header("Prefer", "return=representation, count=exact")
            .header("Range-Unit", "items")
            .header("Range", "0-0")
            .header("Accept", "application/vnd.pgrst.object+json")
            .header("Accept-Profile", "other")
            .header("Content-Profile", "other")
            .header("Content-Type", "text/csv")
            .header("Content-Encoding", "gzip")
            .header("Accept-Encoding", "gzip, br")
            .header("X-Client-Info", "supabase-js/2")
            .body(sent.to_vec());
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 206);
        for (name, value) in [
            (
                "content-type",
                "application/vnd.pgrst.object+json; charset=utf-8",
            ),
            ("content-range", "0-0/7"),
            ("content-profile", "other"),
            ("preference-applied", "count=exact"),
            ("location", "/things?id=eq.1"),
            ("etag", "W/\"1\""),
        ] {
            assert_eq!(response.headers()[name], value);
        }
        assert_eq!(response.headers().get_all("x-two").iter().count(), 2);
        assert!(!response.headers().contains_key("content-encoding"));
        let request_id = response.headers()["x-request-id"].clone();
        assert_eq!(response.bytes().await.expect("a body"), &body[..]);

        let heard = upstream.only();
        assert_eq!(heard.line(), format!("{method} /root/{target} HTTP/1.1"));
        for (name, value) in [
            ("authorization", format!("Bearer {token}")),
            ("prefer", "return=representation, count=exact".into()),
            ("range-unit", "items".into()),
            ("range", "0-0".into()),
            ("accept", "application/vnd.pgrst.object+json".into()),
            ("accept-profile", "other".into()),
            ("content-profile", "other".into()),
            ("content-type", "text/csv".into()),
            ("content-encoding", "gzip".into()),
            ("accept-encoding", "gzip, br".into()),
            ("x-client-info", "supabase-js/2".into()),
            ("host", upstream.url.authority().into()),
            ("x-request-id", request_id.to_str().expect("text").into()),
            ("x-forwarded-for", "127.0.0.1".into()),
            ("content-length", sent.len().to_string()),
        ] {
            assert_eq!(heard.all(name), [value], "{name}");
        }
        assert_eq!(heard.body, sent);
    }
    for (path, target) in [
        ("/rest/v1", "/root"),
        ("/rest/v1/", "/root/"),
        ("/rest/v1?select=1", "/root?select=1"),
        ("/rest/v1/rpc/f?a=1", "/root/rpc/f?a=1"),
        ("/rest/v1/a.b", "/root/a.b"),
    ] {
        get(&alice, path).await;
        assert_eq!(upstream.only().line(), format!("GET {target} HTTP/1.1"));
    }
    let head = answer(alice.request(Method::HEAD, "/rest/v1/things")).await;
    assert_eq!(head.headers["content-range"], "0-0/7");
    assert_eq!(upstream.only().line(), "HEAD /root/things HTTP/1.1");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn what_is_between_two_neighbours_goes_no_further() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Secret, keep-alive\r\nKeep-Alive: timeout=5\r\nX-Secret: 1\r\n\
         Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTrailer: X-End\r\nAccess-Control-Allow-Origin: *\r\n\
         Access-Control-Allow-Credentials: true\r\nAlt-Svc: h3=\":443\"\r\nX-Request-Id: theirs\r\n\
         Strict-Transport-Security: max-age=9\r\nX-Kept: 1\r\nCache-Control: max-age=1\r\nContent-Length: 2\r\n\r\n[]",
    )
    .await;
    let app = before(&upstream).await;
    let alice = app.runner("alice").await;
    let token = alice.token.clone().expect("a token");
    let said = raw(
        &app,
        format!(
            "GET /rest/v1/things HTTP/1.1\r\nHost: evil.example\r\nConnection: X-Secret, TE\r\nX-Secret: 1\r\n\
             connection: authorization, content-length\r\nTE: trailers\r\nKeep-Alive: 1\r\nUpgrade: websocket\r\n\
             Proxy-Authorization: Basic x\r\nProxy-Connection: close\r\nExpect: 100-continue\r\n\
             Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 1.2.3.4\r\n\
             X-Request-Id: mine\r\napikey: mine\r\nX-Kept: 1\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        .as_bytes(),
    )
    .await
    .to_ascii_lowercase();
    assert!(said.starts_with("http/1.1 200"), "{said}");
    assert!(
        said.contains("\r\nx-kept: 1\r\n") && said.contains("\r\ncache-control: max-age=1\r\n")
    );
    for name in [
        "x-secret",
        "keep-alive",
        "proxy-",
        "upgrade",
        "trailer",
        "access-control",
        "alt-svc",
        "theirs",
        "strict-transport",
    ] {
        assert!(!said.contains(name), "{name} in {said}");
    }

    let heard = upstream.only();
    assert_eq!(heard.all("host"), [upstream.url.authority()]);
    assert_eq!(heard.all("x-kept"), ["1"]);
    assert_eq!(heard.all("authorization"), [format!("Bearer {token}")]);
    assert_eq!(heard.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(heard.all("x-request-id").len(), 1);
    assert_ne!(heard.all("x-request-id"), ["mine"]);
    for name in [
        "connection",
        "x-secret",
        "te",
        "keep-alive",
        "upgrade",
        "proxy-authorization",
        "proxy-connection",
        "expect",
        "forwarded",
        "x-forwarded-host",
        "x-real-ip",
        "apikey",
        "transfer-encoding",
        "content-length",
    ] {
        assert_eq!(heard.all(name), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn who_has_no_token_is_nobody_and_who_has_a_bad_one_is_refused_here() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = TestApp::start_with(|config| {
        config.postgrest_url = Some(upstream.url.clone());
        config.supabase_anon_key = Some("the-anon-key".into());
    })
    .await;
    let visitor = app.visitor();
    let anon = visitor.clone().with_token("the-anon-key");
    for actor in [&visitor, &anon] {
        let request = actor
            .request(Method::GET, "/rest/v1/users")
            .header("apikey", "whatever");
        answer(request).await.ok(200);
        let heard = upstream.only();
        assert_eq!(heard.all("authorization"), [""; 0]);
        assert_eq!(heard.all("apikey"), ["the-anon-key"]);
    }
    // The same key is no token to the API either.
    anon.get("/auth/me").await.problem(401, "missing_token");

    let alice = app.runner("alice").await;
    get(&alice, "/rest/v1/users").await.ok(200);
    assert_eq!(upstream.only().all("apikey"), ["the-anon-key"]);

    let forged = alice.token.clone().map(|token| format!("{token}x"));
    for token in ["anon", "rt_x", "a.b.c", &forged.expect("a token")] {
        let refused = get(&visitor.clone().with_token(token), "/rest/v1/users").await;
        let problem = refused.problem(401, "invalid_token");
        // As supabase-js reads errors.
        assert_eq!(problem["message"], problem["detail"]);
        assert_eq!(
            (&problem["details"], &problem["hint"]),
            (&json!(""), &json!(""))
        );
    }
    let two = alice
        .request(Method::GET, "/rest/v1/users")
        .header(header::AUTHORIZATION, "Bearer other");
    answer(two).await.problem(401, "invalid_token");
    let basic = visitor
        .request(Method::GET, "/rest/v1/users")
        .header(header::AUTHORIZATION, "Basic YTpi");
    answer(basic).await.problem(401, "invalid_token");

    let owner = app.sql().await;
    let banned = app.runner("bert").await;
    owner
        .batch_execute("update public.users set banned_at = now() where username = 'bert'")
        .await
        .expect("a ban");
    get(&banned, "/rest/v1/users")
        .await
        .problem(403, "account_banned");
    let idle = app.runner("ida").await;
    owner
        .batch_execute(
            "update private.refresh_tokens set idle_expires_at = now()
              where user_id = (select id from public.users where username = 'ida')",
        )
        .await
        .expect("a time");
    get(&idle, "/rest/v1/users")
        .await
        .problem(401, "sign_in_ended");
    owner
        .batch_execute(
            "update private.refresh_tokens set revoked_at = now(), revoked_reason = 'logout'",
        )
        .await
        .expect("a revocation");
    get(&alice, "/rest/v1/users")
        .await
        .problem(401, "sign_in_ended");
    let gone = app.runner("greta").await;
    owner
        .batch_execute("delete from public.users where username = 'greta'")
        .await
        .expect("a deletion");
    get(&gone, "/rest/v1/users")
        .await
        .problem(401, "sign_in_ended");
    assert_eq!(upstream.heard().len(), 0);
}

#[tokio::test]
async fn an_answer_that_names_its_request_is_not_judged_here_and_all_else_is() {
    // In the place of a PostgREST that asks, as far as its path says.
    let upstream = Upstream::acting(|heard, mut stream| async move {
        let id = heard.all("x-request-id")[0].to_owned();
        let named = match heard.line() {
            line if line.contains("/missing") => {
                let answer = format!(
                    "HTTP/1.1 404 Not Found\r\nSpeedcoding-Admitted: {id}\r\nContent-Length: 2\r\n\r\n{{}}"
                );
                stream.write_all(answer.as_bytes()).await.ok()?;
                return Some(stream);
            }
            line if line.contains("/broken") => return None,
            line if line.contains("/unnamed") => String::new(),
            line if line.contains("/others") => uuid::Uuid::new_v4().to_string(),
            line if line.contains("/twice") => format!("{id}\r\nSpeedcoding-Admitted: {id}"),
            _ => id,
        };
        let answer = EMPTY.replace(
            "\r\n\r\n",
            &format!("\r\nSpeedcoding-Admitted: {named}\r\n\r\n"),
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
        Some(stream)
    })
    .await;
    let app = before(&upstream).await;
    let alice = app.runner("alice").await;
    let learn = async || {
        let answer = get(&alice, "/rest/v1/users").await;
        answer.ok(200)
    };
    let owner = app.sql().await;
    let set_revoked = async |revoked: bool| {
        let change = "update private.refresh_tokens
                         set revoked_at = case when $1 then now() end, revoked_reason = case when $1 then 'logout' end";
        owner.execute(change, &[&revoked]).await.expect("a change");
    };
    // What is between the two is nobody else's.
    let answered = alice.request(Method::GET, "/rest/v1/users").send().await;
    let answered = answered.expect("an answer");
    assert!(!answered.headers().contains_key("speedcoding-admitted"));

    for path in ["missing", "broken", "unnamed", "others", "twice"] {
        let path = format!("/rest/v1/{path}");
        set_revoked(false).await;
        learn().await;
        let status = get(&alice, &path).await.status;
        learn().await;
        set_revoked(true).await;
        // A pretended one asks nobody: this shows who decides.
        learn().await;
        get(&alice, &path).await.problem(401, "sign_in_ended");
        set_revoked(false).await;
        assert_eq!(get(&alice, &path).await.status, status);
    }
    learn().await;
    set_revoked(true).await;
    let heard = upstream.heard().len();
    // What may write goes no further.
    for method in [Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        answer(alice.request(method, "/rest/v1/users"))
            .await
            .problem(401, "sign_in_ended");
    }
    get(&alice.clone().with_token("a.b.c"), "/rest/v1/users")
        .await
        .problem(401, "invalid_token");
    assert_eq!(upstream.heard().len(), heard);
    // Nor does anything to one that has answered without a name.
    get(&alice, "/rest/v1/unnamed")
        .await
        .problem(401, "sign_in_ended");
    let heard = upstream.heard().len();
    get(&alice, "/rest/v1/users")
        .await
        .problem(401, "sign_in_ended");
    assert_eq!(upstream.heard().len(), heard);
}

#[tokio::test]
async fn a_replica_admits_nobody() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    let start = async || {
        let server = Embedded::start(&data, &[("fsync", "off")]).await;
        server.expect("a PostgreSQL")
    };
    let embedded = start().await;
    migrate(embedded.url()).await.expect("the migrations");
    let (user, sign_in) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    connect(embedded.url())
        .await
        .batch_execute(&format!(
            "insert into public.users (id, username) values ('{user}', 'alice');
             insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at)
             values ('{sign_in}', '{user}', sha256(''), '1234', 'infinity', 'infinity')"
        ))
        .await
        .expect("a sign-in");
    let claims = json!({ "role": "authenticated", "sub": user, "session_id": sign_in }).to_string();
    let id = uuid::Uuid::new_v4();
    let named = async |embedded: &Embedded, id: &str| {
        let mut client = connect(embedded.url()).await;
        let request = client.transaction().await.expect("a transaction");
        request
            .execute(
                "select set_config('request.jwt.claims', $1, true), set_config('request.headers', $2, true)",
                &[&claims, &json!({ "x-request-id": id }).to_string()],
            )
            .await
            .expect("claims");
        request
            .batch_execute("set local role authenticated; select speedcoding.check_request()")
            .await
            .expect("a live sign-in");
        let headers = "select nullif(current_setting('response.headers', true), '')";
        let row = request.query_one(headers, &[]).await.expect("headers");
        row.get::<_, Option<String>>(0)
    };
    let headers = named(&embedded, &id.to_string()).await.expect("headers");
    let headers: Value = serde_json::from_str(&headers).expect("JSON");
    assert_eq!(headers, json!([{ "Speedcoding-Admitted": id }]));
    // Nor is anything put into an answer that is no id.
    for nonsense in ["", "\"}, {\"Set-Cookie\": \"a=b", "é", &"0".repeat(37)] {
        assert_eq!(named(&embedded, nonsense).await, None);
    }
    embedded.stop().await;

    fs::write(data.join("postgres/standby.signal"), "").expect("a signal");
    let embedded = start().await;
    assert_eq!(named(&embedded, &id.to_string()).await, None);
    embedded.stop().await;
}

#[tokio::test]
async fn a_postgrest_that_asks_refuses_who_has_no_say_any_more() {
    let database = Database::migrated().await;
    let Some(postgrest) = PostgRest::beside(&database).await else {
        tell_untold("refusals by PostgREST", "postgrest or postrust");
        return;
    };
    let app = TestApp::start_on(database, |config| {
        config.postgrest_url = Some(postgrest.url.clone());
    })
    .await;
    let owner = app.sql().await;
    let ends = [
        (
            "update public.users set banned_at = now() where username = $1",
            403,
            "account_banned",
        ),
        (
            "update private.refresh_tokens set revoked_at = now(), revoked_reason = 'logout'
              where user_id = (select id from public.users where username = $1)",
            401,
            "sign_in_ended",
        ),
        (
            "update private.refresh_tokens set idle_expires_at = now()
              where user_id = (select id from public.users where username = $1)",
            401,
            "sign_in_ended",
        ),
        (
            "delete from public.users where username = $1",
            401,
            "sign_in_ended",
        ),
    ];
    for (number, (end, status, code)) in ends.into_iter().enumerate() {
        let name = format!("runner_{number}");
        let runner = app.runner(&name).await;
        let head = async || {
            answer(runner.request(Method::HEAD, "/rest/v1/users"))
                .await
                .status
        };
        get(&runner, "/rest/v1/users").await.ok(200);
        assert_eq!(head().await, 200);
        // Only PostgREST is asked: here nobody could be.
        let may_look_up = async |may: &str| {
            let change = format!("{may} speedcoding_api");
            owner.batch_execute(&change).await.expect("a privilege");
        };
        may_look_up("revoke select on private.refresh_tokens from").await;
        for _ in 0..3 {
            get(&runner, "/rest/v1/users?limit=1").await.ok(200);
            assert_eq!(head().await, 200);
        }
        may_look_up("grant select on private.refresh_tokens to").await;
        owner.execute(end, &[&name]).await.expect("an end");
        for path in [
            "/rest/v1/users",
            "/rest/v1/sessions?select=*,milestones(*)",
            "/rest/v1/nothing",
            "/rest/v1/users?limit=0",
            "/rest/v1/users?select=count()",
            "/rest/v1/users?select=nothing",
            "/rest/v1/rpc",
            "/rest/v1/rpc/check_request",
            "/rest/v1/%75sers",
            "/rest/v1/%72pc",
            "/rest/v1/graphql",
            "/rest/v1/%20",
        ] {
            get(&runner, path).await.problem(status, code);
        }
        for (name, value) in [
            ("accept", "application/vnd.pgrst.object+json"),
            ("accept", "application/vnd.pgrst.plan+json"),
            ("accept", "application/openapi+json"),
            ("accept", "text/csv"),
            ("accept", "image/png"),
            ("accept-profile", "private"),
            ("range", "0-0"),
            ("prefer", "count=exact"),
            ("prefer", "handling=strict, timezone=Nowhere"),
            ("prefer", "tx=rollback"),
            ("if-none-match", "*"),
            ("expect", "100-continue"),
            ("x-http-method-override", "OPTIONS"),
        ] {
            let request = runner.request(Method::GET, "/rest/v1/users");
            answer(request.header(name, value))
                .await
                .problem(status, code);
        }
        assert_eq!(head().await, status);
    }
}

#[tokio::test]
async fn of_many_at_once_each_is_judged_for_itself() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = TestApp::start_with(|config| config.postgrest_url = Some(upstream.url.clone())).await;
    let mut runners = Vec::new();
    for number in 0..4 {
        runners.push(app.runner(&format!("runner_{number}")).await);
    }
    for runner in [&runners[1], &runners[3]] {
        let sign_ins = runner.get("/auth/sign-ins").await.ok(200);
        let path = format!("/auth/sign-ins/{}", text(&sign_ins, "/items/0/id"));
        let ended = answer(runner.request(Method::DELETE, &path)).await;
        assert_eq!(ended.status, 204);
    }
    let asking = (0..200).map(|turn| {
        let runner = &runners[turn % runners.len()];
        async move { (turn % 4, get(runner, "/rest/v1/users").await) }
    });
    for (number, answer) in futures_util::future::join_all(asking).await {
        if number % 2 == 1 {
            answer.problem(401, "sign_in_ended");
        } else {
            answer.ok(200);
        }
    }
    assert_eq!(upstream.heard().len(), 100);
}

#[tokio::test]
async fn who_is_signed_out_or_banned_while_postgrest_answers_is_told_so_as_everywhere() {
    let database = Database::migrated().await;
    let owner = Arc::new(database.owner().await);
    let upstream = Upstream::acting(move |heard, mut stream| {
        let owner = owner.clone();
        async move {
            let (status, change) = match heard.line() {
                line if line.contains("/ban") => {
                    (403, "update public.users set banned_at = now()")
                }
                line if line.contains("/logout") => (
                    401,
                    "update private.refresh_tokens set revoked_at = now(), revoked_reason = 'logout'",
                ),
                _ => (403, ""),
            };
            owner.batch_execute(change).await.expect(change);
            let body = format!("{{\"code\":\"PT{status}\"}}");
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} No\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(stream)
        }
    })
    .await;
    let app = TestApp::start_on(database, |config| {
        config.postgrest_url = Some(upstream.url.clone());
    })
    .await;
    for (number, method) in [Method::GET, Method::POST].into_iter().enumerate() {
        let alice = app.runner(&format!("alice_{number}")).await;
        let ask = |path: &str| answer(alice.request(method.clone(), path));
        // Other refusals are PostgREST's own.
        let refused = ask("/rest/v1/users").await;
        assert_eq!(
            (refused.status.as_u16(), &refused.body["code"]),
            (403, &json!("PT403"))
        );
        ask("/rest/v1/ban").await.problem(403, "account_banned");
        let unban = "update public.users set banned_at = null";
        app.sql().await.batch_execute(unban).await.expect(unban);
        ask("/rest/v1/logout").await.problem(401, "sign_in_ended");
    }
    assert_eq!(upstream.heard().len(), 6);
}

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

    // A request in absolute form must be taken (RFC 9112, section 3.2.2): its host decides nothing.
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
async fn no_second_request_can_be_smuggled_in_the_first() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = before(&upstream).await;
    let smuggled = "GET /rest/v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = format!("0\r\n\r\n{smuggled}");
    for headers in [
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 0",
        "Content-Length: 0, 5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: -1",
        "Content-Length : 5",
        "Content-Length:\x0b5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        "X: 1\r\n Transfer-Encoding: chunked",
        "X: 1\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\n\tContent-Length: 5",
    ] {
        let request =
            format!("POST /rest/v1/first HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{chunked}");
        raw(&app, request.as_bytes()).await;
        for heard in upstream.heard() {
            // What we take for a second request is one: it stood in plain sight. Nothing of one is in another's body.
            let body = String::from_utf8_lossy(&heard.body).into_owned();
            assert!(!body.contains("smuggled"), "{headers:?}: {heard:?}");
            let ends = heard.all("content-length").len() + heard.all("transfer-encoding").len();
            assert!(ends <= 1, "{headers:?}: {heard:?}");
        }
    }
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = TestApp::start_with(|config| {
        config.postgrest_url = format!("http://{address}").parse().ok();
    })
    .await;
    let (parts, rest) = mpsc::unbounded_channel::<Result<Vec<u8>, std::io::Error>>();
    let body = futures_util::stream::unfold(rest, async |mut rest| {
        rest.recv().await.map(|part| (part, rest))
    });
    let request = app
        .visitor()
        .request(Method::POST, "/rest/v1/things")
        .body(reqwest::Body::wrap_stream(body));
    let sending = tokio::spawn(request.send());
    let story = async {
        parts.send(Ok(b"first".to_vec())).expect("a reader");
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        // The first part is there before the second one is sent.
        assert_eq!(chunk(&mut stream).await, Some(Some(b"first".to_vec())));
        parts.send(Ok(b"second".to_vec())).expect("a reader");
        assert_eq!(chunk(&mut stream).await, Some(Some(b"second".to_vec())));
        drop(parts);
        assert_eq!(chunk(&mut stream).await, Some(None));
        let said = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        stream.write_all(said.as_bytes()).await.expect("a reader");
        let mut response = sending.await.expect("a task").expect("an answer");
        assert_eq!(response.status(), 200);
        let part = response.chunk().await.expect("a part");
        assert_eq!(part.as_deref(), Some(&b"first"[..]));
        stream
            .write_all(b"6\r\nsecond\r\n0\r\n\r\n")
            .await
            .expect("a reader");
        let part = response.chunk().await.expect("a part");
        assert_eq!(part.as_deref(), Some(&b"second"[..]));
        assert_eq!(response.chunk().await.expect("an end"), None);
    };
    timeout(PATIENCE, story)
        .await
        .expect("no waiting for the whole");
}

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
    // Before any of it is sent.
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
        "no body was taken for a whole one"
    );
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
async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    for stalls in [false, true] {
        let upstream = Upstream::acting(move |_, mut stream| async move {
            stream.write_all(begin.as_bytes()).await.ok()?;
            if stalls {
                tokio::time::sleep(PATIENCE).await;
            }
            None
        })
        .await;
        let app = TestApp::start_with(|config| {
            config.postgrest_url = Some(upstream.url.clone());
            config.request_timeout = 1;
        })
        .await;
        let request = app.visitor().request(Method::GET, "/rest/v1/users");
        let response = request.send().await.expect("a beginning");
        assert_eq!(response.status(), 200);
        let whole = timeout(PATIENCE, response.bytes()).await.expect("an end");
        whole.expect_err("it broke off");
    }
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
async fn pages_of_listed_origins_may_use_supabase_js() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Range: 0-0/1\r\nContent-Length: 2\r\n\r\n[]",
    )
    .await;
    let app = TestApp::start_with(|config| {
        config.postgrest_url = Some(upstream.url.clone());
        config.cors_origins = vec!["https://app.example".into()];
    })
    .await;
    let visitor = app.visitor();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
        let asked = "accept-profile,apikey,authorization,content-profile,content-type,prefer,range,x-client-info";
        let preflight = visitor
            .request(Method::OPTIONS, "/rest/v1/sessions")
            .header(header::ORIGIN, "https://app.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, method)
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, asked);
        let allowed = answer(preflight).await;
        assert_eq!(allowed.status, 200, "{method}");
        let methods = allowed.headers["access-control-allow-methods"]
            .to_str()
            .expect("text");
        assert!(methods.contains(method), "{methods}");
        assert_eq!(allowed.headers["access-control-allow-headers"], asked);
    }
    assert_eq!(upstream.heard().len(), 0);
    for (origin, permission) in [
        ("https://app.example", Some("https://app.example")),
        ("https://evil.example", None),
    ] {
        let request = visitor
            .request(Method::GET, "/rest/v1/sessions")
            .header(header::ORIGIN, origin);
        let headers = answer(request).await.headers;
        let origins: Vec<_> = headers
            .get_all("access-control-allow-origin")
            .iter()
            .collect();
        assert_eq!(origins, permission.into_iter().collect::<Vec<_>>());
        if permission.is_some() {
            let exposed = headers["access-control-expose-headers"]
                .to_str()
                .expect("text");
            for name in [
                "content-range",
                "content-profile",
                "preference-applied",
                "x-request-id",
            ] {
                assert!(exposed.contains(name), "{name} in {exposed}");
            }
        }
    }
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
            "told before anything is made"
        );
    }
}

/// What the operator's `db-pre-request` says to claims, as PostgREST calls it.
#[tokio::test]
async fn postgrest_itself_can_refuse_ended_sign_ins_and_banned_users() {
    let app = TestApp::start().await;
    let (alice, bert) = (app.runner("alice").await, app.runner("bert").await);
    let owner = app.sql().await;
    let said = async |role: &str, claims: Option<&Value>| {
        let client = app.database.role(role, claims).await;
        let outcome = client
            .query("select speedcoding.check_request()", &[])
            .await;
        outcome.err().map(|error| {
            let error = error.as_db_error().expect("PostgreSQL's error").clone();
            (
                error.code().code().to_owned(),
                error.hint().unwrap_or_default().to_owned(),
            )
        })
    };
    let refusal = |state: &str, code: &str| Some((state.to_owned(), code.to_owned()));
    let (of_alice, of_bert) = (app.claims(&alice).await, app.claims(&bert).await);
    assert_eq!(said("authenticated", Some(&of_alice)).await, None);
    owner
        .batch_execute(
            "update public.users set banned_at = now() where username = 'bert';
             update private.refresh_tokens set revoked_at = now(), revoked_reason = 'logout'
              where user_id = (select id from public.users where username = 'alice')",
        )
        .await
        .expect("changes");
    assert_eq!(
        said("authenticated", Some(&of_alice)).await,
        refusal("PT401", "sign_in_ended")
    );
    assert_eq!(
        said("authenticated", Some(&of_bert)).await,
        refusal("PT403", "account_banned")
    );
    // Another's sign-in does not help, nor does having none.
    let mut mixed = of_alice.clone();
    mixed["session_id"] = of_bert["session_id"].clone();
    assert_eq!(
        said("authenticated", Some(&mixed)).await,
        refusal("PT401", "sign_in_ended")
    );
    mixed["session_id"] = Value::Null;
    assert_eq!(
        said("authenticated", Some(&mixed)).await,
        refusal("PT401", "sign_in_ended")
    );
    // Visitors, the project's own keys, and people who signed in with Supabase Auth.
    assert_eq!(said("anon", None).await, None);
    assert_eq!(
        said("anon", Some(&json!({ "role": "anon", "iss": "supabase" }))).await,
        None
    );
    assert_eq!(
        said("service_role", Some(&json!({ "role": "service_role" }))).await,
        None
    );
    let of_auth =
        json!({ "role": "authenticated", "iss": "https://x.supabase.co/auth/v1", "sub": alice.id });
    assert_eq!(said("authenticated", Some(&of_auth)).await, None);
}

/// A program that is found as `postgrest`: it notes its process and its environment, and stays. Returns where. A shell
/// that waits for a command would outlive an interrupt without the trap.
pub fn pretend_postgrest(scratch: &Scratch) -> (PathBuf, String) {
    let (bin, notes) = (scratch.path("bin"), scratch.path("notes"));
    for dir in [&bin, &notes] {
        fs::create_dir(dir).expect("a directory");
        // Under root it runs under another account.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("permissions");
    }
    let text = format!(
        "trap exit INT\nenv >{0}/env.$$ && mv {0}/env.$$ {0}/env\ntr '\\0' ' ' </proc/$$/cmdline >{0}/argv\n\
         echo $$ >{0}/pid.$$ && mv {0}/pid.$$ {0}/pid\nexec sleep 3600",
        notes.display()
    );
    install_script(&text, &bin.join("postgrest"));
    let path = std::env::var("PATH").expect("a PATH");
    (notes, format!("{}:{path}", bin.display()))
}

/// The process of the pretended PostgREST, once it is another than before.
pub async fn pretended(notes: &Path, before: Option<u32>) -> u32 {
    until("PostgREST runs", async || {
        let pid = fs::read_to_string(notes.join("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        (Some(pid) != before).then_some(pid)
    })
    .await
}

#[tokio::test]
async fn a_postgrest_on_path_runs_beside_the_private_postgresql_and_no_longer_than_the_service() {
    let scratch = Scratch::new();
    let (notes, path) = pretend_postgrest(&scratch);
    let program = scratch.program(&["serve"]).env("PATH", &path).serve().await;
    let first = pretended(&notes, None).await;

    // With what it needs, and none of it where others could read it.
    let env = fs::read_to_string(notes.join("env")).expect("an environment");
    let value = |name: &str| {
        let line = env
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    let kept = fs::read_to_string(scratch.path("data/embedded.env")).expect("secrets");
    let kept = |name: &str| {
        let line = kept
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    let password = kept("AUTHENTICATOR_PASSWORD");
    let database = value("PGRST_DB_URI");
    assert!(
        database.starts_with(&format!("postgresql://authenticator:{password}@127.0.0.1:")),
        "{database}"
    );
    assert_eq!(value("PGRST_JWT_SECRET"), kept("JWT_SECRET"));
    for (name, expected) in [
        ("PGRST_DB_SCHEMAS", "public"),
        ("PGRST_DB_ANON_ROLE", "anon"),
        ("PGRST_DB_PRE_REQUEST", "speedcoding.check_request"),
        ("PGRST_SERVER_HOST", "127.0.0.1"),
    ] {
        assert_eq!(value(name), expected);
    }
    assert!(
        !env.contains("DATA_DIR"),
        "nothing of the service's own: {env}"
    );
    let port = value("PGRST_SERVER_PORT");
    assert_eq!(kept("POSTGREST_URL"), format!("http://127.0.0.1:{port}"));
    let argv = fs::read_to_string(notes.join("argv")).expect("its arguments");
    assert!(
        !argv.contains(&password) && !argv.contains(&kept("JWT_SECRET")),
        "{argv}"
    );
    let mode = fs::metadata(scratch.path("data/postgrest.log"))
        .expect("a log")
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // It may log in, and become only whom a token names.
    let mut client = database.parse::<tokio_postgres::Config>().expect("a URL");
    let (client, connection) = client
        .connect_timeout(PATIENCE)
        .connect(tokio_postgres::NoTls)
        .await
        .expect("a login");
    tokio::spawn(connection);
    client
        .batch_execute("set role anon; reset role; set role authenticated")
        .await
        .expect("roles");
    client.batch_execute("reset role").await.expect("a role");
    client
        .batch_execute("select from public.users")
        .await
        .expect_err("nothing of its own");
    client
        .batch_execute("set role postgres")
        .await
        .expect_err("no owner");

    // It does not answer, and nothing else minds.
    let visitor = program.visitor();
    get(&visitor, "/rest/v1/users")
        .await
        .problem(502, "upstream_unavailable");
    visitor.get("/health/ready").await.ok(200);

    // It is started again when it ends.
    send(first, "KILL");
    let second = pretended(&notes, Some(first)).await;
    program.stop().await.well();
    assert!(!is_alive(second), "it has stopped with the service");

    // The same port and password the next time; a service that is killed takes it along.
    let program = scratch.program(&["serve"]).env("PATH", &path).serve().await;
    let third = pretended(&notes, Some(second)).await;
    let env = fs::read_to_string(notes.join("env")).expect("an environment");
    assert!(env.contains(&format!("PGRST_SERVER_PORT={port}\n")) && env.contains(&password));
    program.signal("KILL");
    program.ended().await;
    if std::process::Command::new("setpriv")
        .arg("--version")
        .output()
        .is_ok()
    {
        until("it has ended too", async || {
            (!is_alive(third)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_postgrest_that_cannot_be_run_is_told_and_a_named_one_is_preferred() {
    let scratch = Scratch::new();
    let (notes, path) = pretend_postgrest(&scratch);
    let upstream = Upstream::answering(EMPTY).await;
    let program = scratch
        .program(&["serve"])
        .env("PATH", &path)
        .env("POSTGREST_URL", upstream.url.as_str())
        .serve()
        .await;
    get(&program.visitor(), "/rest/v1/users").await.ok(200);
    let said = program.stop().await.well().stdout;
    assert!(said.contains("PostgREST   as POSTGREST_URL says"), "{said}");
    assert!(!notes.join("pid").exists());

    let file = scratch.path("bin/postgrest");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("permissions");
    let program = scratch.program(&["serve"]).env("PATH", &path).serve().await;
    get(&program.visitor(), "/rest/v1/users")
        .await
        .problem(501, "postgrest_missing");
    let said = program.stop().await.well().stderr;
    let told = format!("may not run {}", file.display());
    assert!(
        said.contains(&told) && said.contains("/usr/local/bin"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_asked_through_postgrest_ends_by_itself() {
    let database = Database::migrated().await;
    let client = connect(&login(&database).await.to_string().into()).await;
    // One regular expression of a visitor's may keep a core busy for days.
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
