//! The service passes the same bytes on in both directions, as they come, and adds none.

use reqwest::{Method, header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

use crate::support::{
    actor::{Actor, answer},
    app::TestApp,
    upstream::{Upstream, chunk},
};

use super::{EMPTY, PATIENCE, before, get, raw};

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
            ("location", "/rest/v1/things?id=eq.1"),
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
async fn addresses_in_answers_are_those_of_the_service() {
    for (said, seen) in [
        ("/users?select=id", "/rest/v1/users?select=id"),
        ("/rpc/f?a=1", "/rest/v1/rpc/f?a=1"),
        ("/root/users", "/rest/v1/users"),
        ("/roots", "/rest/v1/roots"),
        ("{upstream}users?id=eq.1", "/rest/v1/users?id=eq.1"),
        ("//evil.example/", "//evil.example/"),
        ("https://example.org/users", "https://example.org/users"),
    ] {
        let upstream = Upstream::acting(move |heard, mut stream| async move {
            let base = format!("http://{}/root/", heard.all("host")[0]);
            let said = said.replace("{upstream}", &base);
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Location: {said}\r\nLocation: {said}\r\nContent-Length: 2\r\n\r\n[]"
            );
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(stream)
        });
        let app = before(&upstream.await).await;
        let answer = get(&app.visitor(), "/rest/v1/users").await;
        for name in ["content-location", "location"] {
            assert_eq!(answer.headers[name], seen, "{said}");
        }
    }
}

#[tokio::test]
async fn the_document_of_postgrests_root_names_no_address_behind_the_service() {
    let document = r#"{"swagger":"2.0","host":"127.0.0.1:3000","basePath":"/","schemes":["http"],"paths":{"/users":{}}}"#;
    let length = document.len();
    let upstream = Upstream::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/openapi+json; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{document}"
    ))
    .await;
    let app = before(&upstream).await;
    for path in ["/rest/v1", "/rest/v1/", "/rest/v1/?select=x"] {
        let request = app.visitor().request(Method::GET, path);
        let answer = answer(request.header("Accept-Encoding", "gzip")).await;
        assert_eq!(
            answer.headers["content-type"],
            "application/openapi+json; charset=utf-8"
        );
        assert_eq!(
            answer.ok(200),
            json!({ "swagger": "2.0", "basePath": "/rest/v1", "paths": { "/users": {} } })
        );
        assert_eq!(upstream.only().all("accept-encoding"), [""; 0]);
    }
    // The service does not change the rows of a table.
    let rows = get(&app.visitor(), "/rest/v1/users").await.ok(200);
    assert_eq!(rows["host"], "127.0.0.1:3000");
}

#[tokio::test]
async fn who_may_not_write_is_told_so_and_a_view_that_cannot_be_written_is_no_defect() {
    const DENIED: &str = r#"{"code":"42501","details":null,"hint":null,"message":"permission denied for table users"}"#;
    let upstream = Upstream::acting(|heard, mut stream| async move {
        let (status, body) = match heard.line() {
            line if line.contains("/board_entries") || line.contains("/rpc/") => (
                "500 Internal Server Error",
                r#"{"code":"55000","details":"Views that do not select from a single table or view are not automatically updatable.","hint":"To enable deleting from the view, provide an INSTEAD OF DELETE trigger","message":"cannot delete from view \"board_entries\""}"#,
            ),
            line if line.contains("/users") => ("401 Unauthorized", DENIED),
            _ => (
                "401 Unauthorized",
                r#"{"code":"PGRST301","message":"JWSError JWSInvalidSignature"}"#,
            ),
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nWWW-Authenticate: Bearer\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
        Some(stream)
    })
    .await;
    let app = before(&upstream).await;
    let (alice, visitor) = (app.runner("alice").await, app.visitor());
    let delete = |actor: &Actor, path: &str| answer(actor.request(Method::DELETE, path));
    let refused = delete(&alice, "/rest/v1/users").await;
    assert_eq!(refused.status, 403);
    assert!(!refused.headers.contains_key("www-authenticate"));
    assert_eq!(refused.body.to_string(), DENIED);
    let refused = delete(&visitor, "/rest/v1/users").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body["code"]),
        (401, &json!("42501"))
    );
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
    // A refusal because of another key says nothing about rights.
    assert_eq!(delete(&alice, "/rest/v1/other").await.status, 401);
    for actor in [&alice, &visitor] {
        let refused = delete(actor, "/rest/v1/board_entries?username=eq.x").await;
        assert_eq!(refused.headers["allow"], "GET, HEAD, OPTIONS");
        let problem = refused.problem(405, "method_not_allowed");
        assert!(
            problem["message"]
                .as_str()
                .is_some_and(|told| told.contains("only be read")),
            "{problem}"
        );
        // If a function tries to write to such a view, it has a defect.
        let called = answer(actor.request(Method::POST, "/rest/v1/rpc/f")).await;
        assert_eq!(called.status, 500);
    }
}

#[tokio::test]
async fn a_character_that_has_to_be_encoded_is_named() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = before(&upstream).await;
    for (target, told) in [
        (
            "/rest/v1/users?username=in.(\"a\",\"b\")",
            "a \\\" in it: write it as %22",
        ),
        ("/api/v1/challenges?x=<", "a < in it: write it as %3C"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let said = raw(&app, request.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 400"), "{said}");
        assert!(said.contains(told), "{said}");
        // In a header such a character means nothing.
        let request = format!("GET /health/live HTTP/1.1\r\nHost: x\r\nX-Said: {target}\r\n\r\n");
        let said = raw(&app, request.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
    assert_eq!(upstream.heard().len(), 0);
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
            // The service may take the second part for a request of its own. But no part of one request may be in the
            // body of another.
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
        // PostgREST gets the first part before the client sends the second one.
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
        .expect("the service does not wait for the whole body");
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
