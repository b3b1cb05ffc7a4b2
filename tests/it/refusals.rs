//! Whatever is sent, the answer is a problem with a stable code that says what is at fault; never a 500.

use reqwest::{Method, header};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    actor::{Actor, Answer, PASSWORD, answer, text},
    app::TestApp,
    cluster::{self, Database},
    program::Scratch,
    race::race,
};

const NOBODYS: &str = "00000000-0000-7000-8000-000000000000";

fn fault(field: &str, code: &str) -> (String, String) {
    (field.to_owned(), code.to_owned())
}

/// A body as it is, said to be JSON.
async fn post_raw(actor: &Actor, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = actor
        .request(Method::POST, path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body);
    answer(request).await
}

async fn end_with(runner: &Actor, session: &str, packages: Value, video_url: Value) -> Answer {
    let body = json!({ "sessionId": session, "packages": packages, "videoUrl": video_url });
    runner.post("/sessions/end", body).await
}

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

    let mut faults = runner
        .post(
            "/sessions/end",
            json!({
                "sessionId": "x",
                "packages": ["ok", "", 7, "y".repeat(215), "n\u{0}l"],
                "videoUrl": 5,
                "startTime": "2026-01-01T00:00:00.000Z",
                "totalTimeMs": 1,
            }),
        )
        .await
        .faults();
    faults.sort();
    assert_eq!(
        faults,
        [
            fault("packages[1]", "too_short"),
            fault("packages[2]", "type"),
            fault("packages[3]", "too_long"),
            fault("packages[4]", "nul_character"),
            fault("sessionId", "format"),
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
            runner.post("/sessions/start", start).await.faults(),
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
            json!({ "sessionId": NOBODYS, "packages": vec![""; 60_000] }),
        ),
        (
            "/sessions/end",
            json!({ "sessionId": NOBODYS, "packages": vec![0; 100_000] }),
        ),
        (
            "/sessions/end",
            json!({ "sessionId": NOBODYS, "packages": vec!["\0"; 25_000] }),
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

#[tokio::test]
async fn a_milestone_number_is_a_whole_number_from_one() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let session = runner.start("freestyle").await;
    for number in [
        "0",
        "-1",
        "1.5",
        "\"07\"",
        "\"1\"",
        "1099511627776",
        "-1099511627776",
        "1001",
        "1e30",
        "123456789012345678901234567890",
        "null",
        "true",
        "[1]",
        "{}",
    ] {
        let body = format!("{{\"sessionId\": \"{session}\", \"milestoneNumber\": {number}}}");
        let faults = post_raw(&runner, "/milestones/verify", body).await.faults();
        assert!(
            !faults.is_empty() && faults.iter().all(|(field, _)| field == "milestoneNumber"),
            "{number}: {faults:?}"
        );
    }
    for number in ["1e400", "07", "+1", "0x1", "1.", ".5", "-"] {
        let body = format!("{{\"sessionId\": \"{session}\", \"milestoneNumber\": {number}}}");
        post_raw(&runner, "/milestones/verify", body)
            .await
            .problem(400, "malformed_body");
    }
    // 1.0 and 1e0 are the same number as 1 to JSON: taken or refused by name, as the document says.
    for number in ["1.0", "1e0"] {
        let body = format!("{{\"sessionId\": \"{session}\", \"milestoneNumber\": {number}}}");
        let faults = post_raw(&runner, "/milestones/verify", body).await.faults();
        assert_eq!(faults, [fault("milestoneNumber", "type")], "{number}");
    }
    runner
        .verify(&session, 8)
        .await
        .problem(400, "unknown_milestone");
    let read = runner.get(&format!("/sessions/{session}")).await.ok(200);
    assert_eq!(
        read["milestones"],
        json!([]),
        "nothing of this passed anything"
    );
}

#[tokio::test]
async fn a_revision_is_a_whole_number_from_one() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    for (number, code) in [
        ("0", "range"),
        ("2147483648", "range"),
        ("18446744073709551616", "range"),
        ("1e300", "range"),
        ("1.5", "type"),
        ("1.0", "type"),
        ("\"1\"", "type"),
        ("null", "type"),
    ] {
        let review = format!("{{\"decision\": \"REJECTED\", \"revision\": {number}}}");
        let path = format!("/submissions/{NOBODYS}/review");
        let faults = post_raw(&alice, &path, review).await.faults();
        assert_eq!(faults, [fault("revision", code)], "{number}");
    }
}

#[tokio::test]
async fn an_id_that_is_no_uuid_is_refused_by_name() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    for id in [
        "",
        "1",
        "me",
        "00000000-0000-0000-0000-00000000000g",
        "' or true --",
        "💥",
        &"0".repeat(5000),
    ] {
        let verify = runner.verify(id, 1).await.faults();
        assert_eq!(verify, [fault("sessionId", "format")], "{id}");
        assert_eq!(
            runner.end(id).await.faults(),
            [fault("sessionId", "format")],
            "{id}"
        );
    }
    for id in [
        "1",
        "me",
        "%00",
        "%F0%9F%92%A5",
        "start%0A",
        "00000000-0000-0000-0000-00000000000g",
    ] {
        let refused = app.visitor().get(&format!("/sessions/{id}")).await;
        assert_eq!(refused.status, 400, "{id}");
        assert_eq!(refused.faults(), [fault("id", "format")], "{id}");
    }
    // Upper case is the same id.
    let session = runner.start("freestyle").await;
    runner.verify(&session.to_uppercase(), 1).await.ok(200);
}

#[tokio::test]
async fn text_that_cannot_be_is_refused_by_the_name_of_its_parameter() {
    let app = TestApp::start().await;
    let moderator = app.user_with_role("mona", "moderator").await;
    for spoilt in ["a%00b", "%00", "a%FFb", "%C3%28", "%ED%A0%80", "%F0%9F%A6"] {
        for (path, field) in [
            ("/challenges/{}", "slug"),
            ("/users/{}", "username"),
            ("/leaderboards/{}", "slug"),
            ("/leaderboards/{}/me", "slug"),
            ("/leaderboards/{}/records", "slug"),
            ("/leaderboards/slack-clone?techStack={}", "techStack"),
            ("/leaderboards/slack-clone/me?techStack={}", "techStack"),
            (
                "/leaderboards/slack-clone/records?techStack={}",
                "techStack",
            ),
            ("/submissions?challenge={}", "challenge"),
            ("/submissions?status={}", "status"),
            ("/submissions?mine={}", "mine"),
            ("/submissions?cursor={}", "cursor"),
            ("/submissions?limit={}", "limit"),
            ("/submissions/{}", "id"),
            ("/sessions/{}", "id"),
            ("/sessions/{}/milestones/1/input", "id"),
            (
                "/sessions/01a21326-8bb0-7c11-bad6-d5ace61bd2c2/milestones/{}/input",
                "number",
            ),
        ] {
            let path = path.replace("{}", spoilt);
            let answer = moderator.get(&path).await;
            assert_eq!(answer.faults(), [fault(field, "format")], "{path}");
        }
    }
    // Nor may a cursor have one in it.
    let cursor = app.visitor().get("/challenges?cursor=AGFh").await;
    assert_eq!(cursor.faults(), [fault("cursor", "format")]);
    // However its name is written; what has no such parameter is as ever.
    let challenge = moderator.get("/submissions?limit=1&chall%65nge=%00").await;
    assert_eq!(challenge.faults(), [fault("challenge", "format")]);
    moderator.get("/submissions?nothing=%00%FF").await.ok(200);
    moderator
        .get("/nothing/%FF")
        .await
        .problem(400, "bad_request");
    let stack = "/leaderboards/slack-clone?techStack=R%C3%BCst%20%26%20Go";
    moderator.get(stack).await.ok(200);
}

#[tokio::test]
async fn at_most_200_packages_of_1_to_214_characters_are_taken() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let session = runner.start("freestyle").await;
    for (packages, expected) in [
        (json!(vec!["x"; 201]), fault("packages", "too_long")),
        (json!(vec!["x"; 10_000]), fault("packages", "too_long")),
        (json!([""]), fault("packages[0]", "too_short")),
        (
            json!(["ok", "x".repeat(215)]),
            fault("packages[1]", "too_long"),
        ),
        (json!(["ok", null]), fault("packages[1]", "type")),
        (json!(["ok", ["nested"]]), fault("packages[1]", "type")),
        (json!("poem"), fault("packages", "type")),
        (json!({ "0": "poem" }), fault("packages", "type")),
        (json!(null), fault("packages", "type")),
        (json!(["n\u{0}l"]), fault("packages[0]", "nul_character")),
    ] {
        assert_eq!(
            end_with(&runner, &session, packages, json!(null))
                .await
                .faults(),
            [expected]
        );
    }
    let longest = json!(vec!["🦀".repeat(214); 200]);
    let ended = end_with(&runner, &session, longest.clone(), json!(null))
        .await
        .ok(200);
    assert_eq!(
        ended["submission"]["packages"], longest,
        "the largest that is allowed fits"
    );
}

#[tokio::test]
async fn what_others_read_has_no_characters_that_a_terminal_obeys() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let moderator = app.user_with_role("mona", "moderator").await;
    let session = runner.start("freestyle").await;
    for hidden in [
        "\u{1b}[2J",
        "\u{7}",
        "\u{85}",
        "\u{9b}",
        "\u{202e}",
        "\u{2067}",
        "\n",
    ] {
        let text = format!("po{hidden}em");
        let refused = end_with(&runner, &session, json!(["ok", text]), json!(null)).await;
        assert_eq!(refused.faults(), [fault("packages", "invalid")], "{text:?}");
        let start = json!({ "techStack": text });
        assert_eq!(
            moderator.post("/sessions/start", start).await.faults(),
            [fault("techStack", "invalid")],
            "{text:?}"
        );
        let url = json!(format!("https://youtu.be/{text}"));
        let refused = end_with(&runner, &session, json!([]), url).await;
        assert_eq!(
            refused.faults(),
            [fault("videoUrl", "video_url")],
            "{text:?}"
        );
    }
    let video = json!("https://youtu.be/abc");
    let ended = end_with(&runner, &session, json!(["ünïcode", "🦀"]), video)
        .await
        .ok(200);
    let submission = format!("/submissions/{}", text(&ended, "/submission/id"));
    let packages = json!({ "revision": 1, "packages": ["\u{202d}poem"] });
    let edit = runner.request(Method::PATCH, &submission).json(&packages);
    assert_eq!(answer(edit).await.faults(), [fault("packages", "invalid")]);
    let review = format!("{submission}/review");
    for hidden in ["\u{1b}[2J", "\u{202e}"] {
        for decision in ["REJECTED", "APPROVED"] {
            let body =
                json!({ "decision": decision, "revision": 1, "reason": format!("no{hidden}") });
            assert_eq!(
                moderator.post(&review, body).await.faults(),
                [fault("reason", "invalid")]
            );
        }
    }
    // Lines are what a reason may have.
    let body =
        json!({ "decision": "REJECTED", "revision": 1, "reason": "First:\n\tthe sound.\r\n" });
    moderator.post(&review, body).await.ok(200);
    let body = json!({ "reason": "\u{7f}again" });
    let reopened = moderator.post(&format!("{submission}/reopen"), body).await;
    assert_eq!(reopened.faults(), [fault("reason", "invalid")]);
}

#[tokio::test]
async fn a_recording_is_a_plain_https_url_on_an_allowed_host() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let session = runner.start("freestyle").await;
    for url in [
        "",
        " ",
        "youtu.be/abc",
        "//youtube.com/x",
        "/watch?v=abc",
        "https:",
        "https://",
        "https:///",
        "javascript:alert(1)",
        "javascript://youtube.com/%0aalert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "http://youtube.com/x",
        "ftp://youtube.com/x",
        "HTTPS://youtube.com/x",
        "https:youtube.com/x",
        "https:/youtube.com/x",
        "https:///youtube.com/x",
        "https:////youtube.com/x",
        "https://user@youtube.com/x",
        "https://user:pass@youtube.com/x",
        "https://@youtube.com/x",
        "https://:@youtube.com/x",
        "https://youtube.com@evil.example/x",
        "https://youtube.com:pass@evil.example/x",
        "https://evil.example@youtube.com/x",
        "https://youtube.com%40evil.example/x",
        "https://youtube.com:443/x",
        "https://youtube.com:8443/x",
        "https://youtube.com:/x",
        "https://youtube.com.evil.example/x",
        "https://evilyoutube.com/x",
        "https://evil-youtube.com/x",
        "https://youtube.com.",
        "https://youtube.com./x",
        "https://.youtube.com/x",
        "https://youtube.con/x",
        "https://evil.example/youtube.com",
        "https://evil.example?youtube.com",
        "https://evil.example#youtube.com",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://2130706433/x",
        "https://localhost/x",
        "https://com/x",
        "https://уoutube.com/x",
        "https://youtubе.com/x",
        "https://xn--outube-4of.com/x",
        "https://you\u{ad}tube.com/x",
        "https://ｙoutube.com/x",
        "https://youtube。com/x",
        "https://youtube.com\\x",
        "https:\\\\youtube.com\\x",
        "https://evil.example\\@youtube.com/x",
        "https://youtube.com/a b",
        "https://youtube.com/a\tb",
        "https://youtube.com/a\nb",
        "https://you\ntube.com/x",
        "https://youtube.com/\u{0}",
        "https://youtube.com/\u{7f}",
        "https://youtube.com/\u{85}",
        "https://youtube.com/\u{2028}",
        " https://youtube.com/x",
        "https://youtube.com/x ",
        "\u{1}https://youtube.com/x",
    ] {
        let refused = end_with(&runner, &session, json!([]), json!(url)).await;
        assert_eq!(refused.status, 400, "{url:?}");
        let faults = refused.faults();
        assert!(
            faults.iter().all(|(field, _)| field == "videoUrl"),
            "{url:?}: {faults:?}"
        );
    }
    let (longest, too_long) = (
        format!("https://youtube.com/{}", "x".repeat(2028)),
        format!("https://youtube.com/{}", "x".repeat(2029)),
    );
    let refused = end_with(&runner, &session, json!([]), json!(too_long))
        .await
        .faults();
    assert_eq!(refused, [fault("videoUrl", "too_long")]);

    for url in [
        "https://youtu.be/abc",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=1h2m#comments",
        "https://www.twitch.tv/videos/123",
        "https://player.vimeo.com/video/123",
        "https://WWW.YouTube.com/watch?v=abc",
        "https://youtube.com?v=abc",
        "https://youtube.com",
        "https://youtube.com/@somebody:x",
        "https://youtube.com/späße🎉",
        "https://youtube.com/\u{200b}\u{feff}\u{180e}\u{e000}",
        &longest,
    ] {
        let runner = app.runner(&format!("r{}", nth())).await;
        let session = runner.start("freestyle").await;
        let ended = end_with(&runner, &session, json!([]), json!(url))
            .await
            .ok(200);
        assert_eq!(ended["submission"]["videoUrl"], url, "kept as it was sent");
    }
}

/// A number that this run has not used yet.
fn nth() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test]
async fn a_fault_in_a_field_that_may_be_null_says_what_would_be_right() {
    const SLUG: &str = "must be a slug, such as slack-clone, of at most 64 characters";
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    for (challenge, code, message) in [
        (json!("Slack"), "pattern", SLUG),
        (json!("a".repeat(65)), "too_long", SLUG),
        (json!(1), "type", SLUG),
    ] {
        let body = json!({ "techStack": "Rust", "challenge": challenge });
        let problem = runner
            .post("/sessions/start", body)
            .await
            .problem(400, "invalid_request");
        let expected = json!([{ "field": "challenge", "code": code, "message": message }]);
        assert_eq!(problem["errors"], expected);
    }
}

#[tokio::test]
async fn every_fault_says_in_words_what_would_be_right() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let said = |answer: Answer| {
        let problem = answer.problem(400, "invalid_request");
        let error = &problem["errors"][0];
        let words = format!("{} {}.", text(error, "/field"), text(error, "/message"));
        assert_eq!(problem["detail"], words);
        words
    };
    let name = "username must be 3 to 32 letters (A to Z, a to z), digits, _ or -.";
    for (path, body, expected) in [
        (
            "/auth/register",
            json!({ "username": "a b", "password": PASSWORD }),
            name,
        ),
        (
            "/auth/login",
            json!({ "username": "a b", "password": PASSWORD }),
            name,
        ),
        (
            "/auth/register",
            json!({ "username": "eve", "password": "short" }),
            "password must be text of 8 to 128 characters.",
        ),
        (
            "/auth/logout",
            json!({ "refreshToken": "rt_", "scope": "all" }),
            "scope must be one of local, others, global.",
        ),
        (
            "/sessions/start",
            json!({ "techStack": " " }),
            "techStack must be visible text of 1 to 100 characters.",
        ),
        (
            "/sessions/end",
            json!({ "sessionId": NOBODYS, "packages": ["poem", 1] }),
            "packages[1] must be text of 1 to 214 characters.",
        ),
        (
            "/sessions/end",
            json!({ "sessionId": NOBODYS, "packages": vec!["poem"; 201] }),
            "packages must be a list of at most 200 items.",
        ),
        (
            "/sessions/abandon",
            json!({ "sessionId": 1 }),
            "sessionId must be a UUID.",
        ),
        (
            "/sessions/abandon",
            json!([]),
            "body must be a JSON object.",
        ),
        (
            "/milestones/verify",
            json!({ "sessionId": NOBODYS, "milestoneNumber": 0 }),
            "milestoneNumber must be a whole number from 1 to 1000.",
        ),
        (
            &format!("/submissions/{NOBODYS}/review"),
            json!({ "decision": "APPROVED", "revision": 1_u64 << 40 }),
            "revision must be a whole number from 1 to 2147483647.",
        ),
    ] {
        assert_eq!(said(runner.post(path, body).await), expected, "{path}");
    }
    let page = "limit must be a whole number from 1 to 100.";
    let stack = "techStack must be visible text of 1 to 100 characters.";
    for (path, expected) in [
        ("/challenges?limit=0", page),
        ("/challenges?limit=101", page),
        ("/challenges?limit=ten", page),
        ("/challenges?limit=", page),
        (
            "/submissions?status=pending",
            "status must be one of PENDING, APPROVED, REJECTED.",
        ),
        ("/submissions?mine=yes", "mine must be true or false."),
        ("/submissions/1", "id must be a UUID."),
        ("/leaderboards/slack-clone?techStack=", stack),
        ("/leaderboards/slack-clone/me?techStack=%20", stack),
        ("/sessions/1/milestones/1/input", "id must be a UUID."),
        (
            &format!("/sessions/{NOBODYS}/milestones/one/input"),
            "number must be a whole number.",
        ),
    ] {
        assert_eq!(said(runner.get(path).await), expected, "{path}");
    }
}

#[tokio::test]
async fn a_refused_end_leaves_the_session_running() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let session = runner.start("freestyle").await;
    end_with(&runner, &session, json!([]), json!("http://youtube.com/x"))
        .await
        .faults();
    end_with(&runner, &session, json!([""]), json!(null))
        .await
        .faults();
    let read = runner.get(&format!("/sessions/{session}")).await.ok(200);
    assert_eq!(read["status"], "running");
}

/// No body is larger.
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

/// What the service answers to a registration with this header and body, sent byte by byte as given.
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
            // The service need not read on once it has refused.
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

/// Another database of the same server, to work on this one from.
async fn maintenance(app: &TestApp) -> (tokio_postgres::Client, String) {
    let name: String = app
        .sql()
        .await
        .query_one("select current_database()::text", &[])
        .await
        .expect("a name")
        .get(0);
    let elsewhere = cluster::with_database(app.database.url(), "postgres");
    (cluster::connect(&elsewhere).await, name)
}

#[tokio::test]
async fn while_the_database_is_away_every_request_is_told_to_come_back() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let (elsewhere, name) = maintenance(&app).await;
    let run = async |sql: String| elsewhere.batch_execute(&sql).await.expect("maintenance");
    let terminate =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
    for (away, back) in [
        (
            format!("alter database {name} allow_connections false; {terminate}"),
            format!("alter database {name} allow_connections true"),
        ),
        (
            format!("{terminate}; alter database {name} rename to {name}_away"),
            format!("alter database {name}_away rename to {name}"),
        ),
    ] {
        run(away).await;
        runner
            .get("/auth/me")
            .await
            .problem(503, "database_unavailable");
        runner
            .post("/sessions/start", json!({ "techStack": "Rust" }))
            .await
            .problem(503, "database_unavailable");
        app.visitor()
            .post(
                "/auth/login",
                json!({ "username": "ada", "password": PASSWORD }),
            )
            .await
            .problem(503, "database_unavailable");
        app.visitor()
            .get("/health/ready")
            .await
            .problem(503, "database_unavailable");
        app.visitor().get("/health/live").await.ok(200);
        app.visitor()
            .get("/auth/me")
            .await
            .problem(401, "missing_token");

        run(back).await;
        runner.get("/auth/me").await.ok(200);
        app.visitor().get("/health/ready").await.ok(200);
    }
}

#[tokio::test]
async fn a_request_whose_connection_breaks_is_told_to_come_back() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let session = runner.start("freestyle").await;
    let gate = app.hold("select from public.sessions for update").await;
    let waiting = race([{
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.verify(&session, 1).await }
    }]);
    gate.until_waiting(1).await;
    gate.on_waiting("pg_terminate_backend").await;
    waiting
        .answers()
        .await
        .remove(0)
        .problem(503, "database_unavailable");
    gate.release().await;
    runner.verify(&session, 1).await.ok(200);
}

#[tokio::test]
async fn a_statement_that_is_cancelled_is_a_timeout() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let session = runner.start("freestyle").await;
    let gate = app.hold("select from public.sessions for update").await;
    let waiting = race([{
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.end(&session).await }
    }]);
    gate.until_waiting(1).await;
    gate.on_waiting("pg_cancel_backend").await;
    waiting.answers().await.remove(0).problem(504, "timeout");
    gate.release().await;
    runner.end(&session).await.ok(200);
}
