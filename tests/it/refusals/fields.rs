//! Wrong fields and parameters. Each is refused by its name.

use serde_json::json;

use crate::support::{
    actor::{Answer, PASSWORD, text},
    app::TestApp,
};

use super::{NOBODYS, edit, fault, hand_in, post_raw};

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
    // In JSON, 1.0 and 1e0 are the same number as 1. The service takes them, or refuses them by name, as the document
    // says.
    for number in ["1.0", "1e0"] {
        let body = format!("{{\"sessionId\": \"{session}\", \"milestoneNumber\": {number}}}");
        let faults = post_raw(&runner, "/milestones/verify", body).await.faults();
        assert_eq!(faults, [fault("milestoneNumber", "type")], "{number}");
    }
    runner
        .verify(&session, 8)
        .await
        .problem(400, "unknown_milestone");
    let read = runner.session(&session).await.ok(200);
    assert_eq!(
        read["milestones"],
        json!([]),
        "none of these requests passed a milestone"
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
    // An id in upper case is the same id.
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
    // A cursor may not have one in it either.
    let cursor = app.visitor().get("/challenges?cursor=AGFh").await;
    assert_eq!(cursor.faults(), [fault("cursor", "format")]);
    // The spelling of the parameter's name does not matter.
    let challenge = moderator.get("/submissions?limit=1&chall%65nge=%00").await;
    assert_eq!(challenge.faults(), [fault("challenge", "format")]);
    let nothing = moderator.get("/submissions?nothing=%00%FF").await;
    assert_eq!(nothing.faults(), [fault("nothing", "unknown_field")]);
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
    let submission = hand_in(&runner).await;
    for (packages, expected) in [
        (json!(vec!["x"; 201]), fault("packages", "too_long")),
        (json!(vec!["x"; 10_000]), fault("packages", "too_long")),
        (json!([" \n"]), fault("packages[0]", "pattern")),
        (
            json!(["ok", "x".repeat(215)]),
            fault("packages[1]", "too_long"),
        ),
        (json!(["ok", null]), fault("packages[1]", "type")),
        (json!(["ok", ["nested"]]), fault("packages[1]", "type")),
        (json!("poem"), fault("packages", "type")),
        (json!({ "0": "poem" }), fault("packages", "type")),
        (json!(["n\u{0}l"]), fault("packages[0]", "nul_character")),
    ] {
        let refused = edit(&runner, &submission, "packages", packages).await;
        assert_eq!(refused.faults(), [expected]);
    }
    let longest = json!(vec!["🦀".repeat(214); 200]);
    let edited = edit(&runner, &submission, "packages", longest.clone()).await;
    assert_eq!(
        edited.ok(200)["packages"],
        longest,
        "the largest packages that are allowed fit"
    );
}

#[tokio::test]
async fn what_others_read_has_no_characters_that_a_terminal_obeys() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let moderator = app.user_with_role("mona", "moderator").await;
    let handed_in = hand_in(&runner).await;
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
        let refused = edit(&runner, &handed_in, "packages", json!(["ok", text])).await;
        assert_eq!(refused.faults(), [fault("packages", "invalid")], "{text:?}");
        let start = json!({ "techStack": text });
        assert_eq!(
            moderator.start_with(start).await.faults(),
            [fault("techStack", "invalid")],
            "{text:?}"
        );
        let url = json!(format!("https://youtu.be/{text}"));
        let refused = edit(&runner, &handed_in, "videoUrl", url).await;
        assert_eq!(
            refused.faults(),
            [fault("videoUrl", "video_url")],
            "{text:?}"
        );
    }
    let video = json!("https://youtu.be/abc");
    let ended = runner
        .end_with(&session, json!(["ünïcode", "🦀"]), video)
        .await
        .ok(200);
    let submission = text(&ended, "/submission/id");
    let packages = json!({ "revision": 1, "packages": ["\u{202d}poem"] });
    let edited = runner.edit(&submission, packages).await;
    assert_eq!(edited.faults(), [fault("packages", "invalid")]);
    let review = format!("/submissions/{submission}/review");
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
    // A reason may have several lines.
    let body =
        json!({ "decision": "REJECTED", "revision": 1, "reason": "First:\n\tthe sound.\r\n" });
    moderator.post(&review, body).await.ok(200);
    let body = json!({ "reason": "\u{7f}again" });
    let reopened = moderator
        .post(&format!("/submissions/{submission}/reopen"), body)
        .await;
    assert_eq!(reopened.faults(), [fault("reason", "invalid")]);
}

#[tokio::test]
async fn a_recording_is_a_plain_https_url_on_an_allowed_host() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let submission = hand_in(&runner).await;
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
        "\u{1}https://youtube.com/x",
        "https://youtube.com/watch?v=a b",
        // These URLs name no video.
        "https://youtu.be/",
        "https://youtu.be",
        "https://youtube.com",
        "https://www.youtube.com/",
        "https://www.youtube.com/watch",
        "https://www.youtube.com/watch?v=",
        "https://www.youtube.com/watch?list=PL1",
        "https://www.youtube.com/playlist?list=PL1",
        "https://www.youtube.com/embed/videoseries?list=PL1",
        "https://www.youtube.com/@somebody",
        "https://www.youtube-nocookie.com/",
        "https://vimeo.com/",
        "https://vimeo.com/somebody",
        "https://vimeo.com/showcase/1",
        "https://www.twitch.tv/somebody",
        "https://www.twitch.tv/videos/",
        "https://clips.twitch.tv/",
    ] {
        let refused = edit(&runner, &submission, "videoUrl", json!(url)).await;
        assert_eq!(refused.status, 400, "{url:?}");
        let faults = refused.faults();
        assert!(
            faults.iter().all(|(field, _)| field == "videoUrl"),
            "{url:?}: {faults:?}"
        );
    }
    let (longest, too_long) = (
        format!("https://youtu.be/{}", "x".repeat(2031)),
        format!("https://youtu.be/{}", "x".repeat(2032)),
    );
    let refused = edit(&runner, &submission, "videoUrl", json!(too_long)).await;
    assert_eq!(refused.faults(), [fault("videoUrl", "too_long")]);

    for url in [
        "https://youtu.be/abc",
        "https://youtu.be/abc/?t=1",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=1h2m#comments",
        "https://m.youtube.com/watch?app=desktop&v=dQw4w9WgXcQ",
        "https://youtube.com/shorts/abc",
        "https://www.youtube.com/live/abc?feature=share",
        "https://www.youtube-nocookie.com/embed/abc?rel=0",
        "https://www.twitch.tv/videos/123",
        "https://www.twitch.tv/somebody/clip/GoodOne-x_1",
        "https://clips.twitch.tv/GoodOne-x_1",
        "https://player.twitch.tv/?channel=&video=v123&parent=example.org",
        "https://vimeo.com/123/0a1b2c",
        "https://vimeo.com/channels/staffpicks/123",
        "https://vimeo.com/showcase/1/video/123",
        "https://player.vimeo.com/video/123",
        "https://youtu.be/abc#späße🎉",
        "https://youtu.be/abc?\u{200b}\u{feff}\u{180e}\u{e000}",
        &longest,
    ] {
        let submission = hand_in(&runner).await;
        let edited = edit(&runner, &submission, "videoUrl", json!(url)).await;
        assert_eq!(edited.ok(200)["videoUrl"], url, "kept as it was sent");
    }
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
            .start_with(body)
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
            "password must have at least 8 characters.",
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
            "packages[1] must be text.",
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
    for (packages, video_url) in [
        (json!([1]), json!(null)),
        (json!([]), json!(1)),
        (json!("poem"), json!(null)),
    ] {
        runner
            .end_with(&session, packages, video_url)
            .await
            .faults();
    }
    let read = runner.get(&format!("/sessions/{session}")).await.ok(200);
    assert_eq!(read["status"], "running");
}
