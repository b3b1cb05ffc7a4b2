//! The end of a run: packages and videos never hold it up, a session waits for pending verdicts, and a clock that went
//! back leaves a mark.

use serde_json::{Value, json};

use crate::support::{
    actor::{Actor, PASSWORD, text},
    app::TestApp,
    cluster::{done, first_column, refused},
    race::race,
};

const VIDEO: &str = "https://youtu.be/abc";

/// Two milestones that a verifier judges, in any order, both required.
const JUDGED: &str = "
    insert into public.challenges (slug, title, required_milestones, ordered) values ('judged', 'Judged', 2, false);
    insert into public.challenge_milestones (challenge_id, number, title, verification)
    select id, number, 'Part ' || number, 'verifier' from public.challenges, generate_series(1, 2) as number
     where slug = 'judged';";

async fn judged() -> TestApp {
    let app = TestApp::start().await;
    done(&app.sql().await, JUDGED).await;
    app
}

/// The answer without the members that change as time passes.
fn timeless(mut session: Value) -> Value {
    session["serverTime"].take();
    session
}

/// A session that has ended while both of its milestones were pending.
async fn judging(runner: &Actor) -> Value {
    let session = runner.start("judged").await;
    for number in 1..=2 {
        assert_eq!(
            runner.verify(&session, number).await.ok(200)["pending"],
            true
        );
    }
    let ended = runner.end(&session).await.ok(200);
    assert_eq!(ended["status"], "judging");
    ended
}

/// A session that has ended while one of its milestones was pending, and the other was not tried.
async fn one_of_two(runner: &Actor) -> Value {
    let session = runner.start("judged").await;
    runner.verify(&session, 1).await.ok(200);
    let ended = runner.end(&session).await.ok(200);
    assert_eq!(ended["status"], "judging");
    ended
}

#[tokio::test]
async fn what_cannot_be_handed_in_is_left_out_and_the_end_counts() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    app.stop_clock().await;
    let session = runner.start("freestyle").await;
    app.travel("45 minutes").await;
    let long = "x".repeat(215);
    let packages = json!([
        "poem",
        " ",
        "",
        long,
        "po\u{1b}[2Jem",
        "n\u{0}l",
        " tokio\n",
        "🦀"
    ]);
    let video = json!("http://youtube.com/watch?v=abc");
    let ended = runner
        .end_with(&session, packages.clone(), video.clone())
        .await
        .ok(200);
    assert_eq!(
        (&ended["status"], &ended["totalTimeMs"]),
        (&json!("completed"), &json!(2_700_000))
    );
    assert_eq!(
        ended["submission"]["packages"],
        json!(["poem", "tokio", "🦀"])
    );
    assert_eq!(ended["submission"]["videoUrl"], Value::Null);
    let hidden = "has a control character, or one that turns the direction of text";
    let warning = |field: &str, code: &str, message: &str| json!({ "field": field, "code": code, "message": message });
    assert_eq!(
        ended["warnings"],
        json!([
            warning("packages[1]", "blank", "is blank"),
            warning("packages[2]", "blank", "is blank"),
            warning("packages[3]", "too_long", "has more than 214 characters"),
            warning("packages[4]", "invalid", hidden),
            warning("packages[5]", "invalid", hidden),
            warning("videoUrl", "video_url", "must begin with https://"),
        ])
    );

    // A retry much later gets the first answer. Other data count as a different end, even if the service would keep the
    // same parts of them.
    app.travel("25 hours").await;
    let again = runner
        .end_with(&session, packages.clone(), video)
        .await
        .ok(200);
    assert_eq!(timeless(again), timeless(ended.clone()));
    runner
        .end_with(
            &session,
            packages,
            json!("http://youtube.com/watch?v=other"),
        )
        .await
        .problem(409, "session_already_ended");
    let strangers = app.user_with_role("mona", "moderator").await;
    assert_eq!(
        strangers.session(&session).await.ok(200)["warnings"],
        json!([]),
        "only the runner sees them"
    );

    let submission = text(&ended, "/submission/id");
    let brought = runner
        .edit(&submission, json!({ "revision": 1, "videoUrl": VIDEO }))
        .await
        .ok(200);
    assert_eq!(brought["videoUrl"], VIDEO);
}

#[tokio::test]
async fn what_can_be_put_right_of_a_video_is_and_the_rest_is_told_in_words() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let long = format!("https://youtu.be/{}", "x".repeat(2032));
    for (sent, kept, told) in [
        (" \thttps://youtu.be/abc\r\n", Some(VIDEO), ""),
        ("HTTPS://YouTu.be/abc", Some(VIDEO), ""),
        ("https://youtu.be:443/abc", Some(VIDEO), ""),
        (
            "https://WWW.YouTube.com:443/watch?v=ABC&t=1",
            Some("https://www.youtube.com/watch?v=ABC&t=1"),
            "",
        ),
        (
            "https://www.youtube-nocookie.com/embed/abc",
            Some("https://www.youtube-nocookie.com/embed/abc"),
            "",
        ),
        (" ", None, "is blank"),
        ("youtu.be/abc", None, "is not a URL such as"),
        ("https://youtu.be/a b", None, "has white space in it"),
        ("https://youtu.be/a\u{0}b", None, "U+0000"),
        ("https://youtu.be/a\u{202e}b", None, "U+202E"),
        ("http://youtu.be/abc", None, "must begin with https://"),
        ("https://me@youtu.be/abc", None, "must not name a user"),
        ("https://youtu.be:8443/abc", None, "must not name a port"),
        ("https://уoutu.be/abc", None, "plain letters"),
        ("https://youtu.be/a\\b", None, "has a backslash in it"),
        (
            "https://evil.example/abc",
            None,
            "must be on one of youtube.com, ",
        ),
        ("https://youtu.be/", None, "names no video"),
        ("https://www.youtube.com/", None, "names no video"),
        ("https://youtu.be/playlist?list=PL1", None, "names no video"),
        (
            "https://youtube.com/watch?v=abc&v=def",
            None,
            "in a form that is known here",
        ),
        ("https://clips.twitch.tv/create", None, "names no video"),
        (
            "https://youtube.com/clip/Ugk1",
            Some("https://youtube.com/clip/Ugk1"),
            "",
        ),
        (
            "https://vimeo.com/ada/review/456/0a1b",
            Some("https://vimeo.com/ada/review/456/0a1b"),
            "",
        ),
        (&long, None, "has more than 2048 characters"),
    ] {
        let session = runner.start("freestyle").await;
        let ended = runner
            .end_with(&session, json!([]), json!(sent))
            .await
            .ok(200);
        assert_eq!(ended["submission"]["videoUrl"], json!(kept), "{sent:?}");
        let warnings = ended["warnings"].as_array().expect("warnings");
        assert_eq!(warnings.len(), usize::from(kept.is_none()), "{sent:?}");
        if let Some(warning) = warnings.first() {
            assert_eq!(warning["field"], "videoUrl");
            assert!(
                text(warning, "/message").contains(told),
                "{sent:?}: {warning}"
            );
        }
    }
}

#[tokio::test]
async fn an_end_takes_any_number_of_packages_or_none_and_keeps_two_hundred() {
    let app = TestApp::start().await;
    let runner = app.runner("ada").await;
    let end = async |packages: Value| {
        let session = runner.start("freestyle").await;
        runner
            .end_with(&session, packages, json!(null))
            .await
            .ok(200)
    };
    let largest = json!(vec!["🦀".repeat(214); 200]);
    let ended = end(largest.clone()).await;
    assert_eq!(
        ended["submission"]["packages"], largest,
        "the largest packages that are allowed fit"
    );
    assert_eq!(ended["warnings"], json!([]));

    let numbered: Vec<_> = (0..300).map(|number| number.to_string()).collect();
    let ended = end(json!(numbered)).await;
    assert_eq!(ended["submission"]["packages"], json!(numbered[..200]));
    let message = "has more than 200 items: the first of them are kept";
    let expected = json!([{ "field": "packages", "code": "too_long", "message": message }]);
    assert_eq!(ended["warnings"], expected);

    let ended = end(json!(vec![""; 50_000])).await;
    assert_eq!(ended["submission"]["packages"], json!([]));
    assert_eq!(
        ended["warnings"].as_array().map(Vec::len),
        Some(100),
        "only the first warnings are listed"
    );
    assert_eq!(
        end(json!(null)).await["warnings"],
        json!([]),
        "no packages give no warnings"
    );
    let session = runner.start("freestyle").await;
    let bare = json!({ "sessionId": session });
    assert_eq!(
        runner.post("/sessions/end", bare).await.ok(200)["submission"]["packages"],
        json!([])
    );
}

#[tokio::test]
async fn a_run_that_ends_before_its_verdicts_is_handed_in_by_the_last_of_them() {
    let app = judged().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    app.stop_clock().await;
    let session = alice.start("judged").await;
    for number in 1..=2 {
        app.travel("10 minutes").await;
        alice.verify(&session, number).await.ok(200);
    }
    app.travel("10 minutes").await;
    let bad_video = json!("http://youtu.be/abc");
    let ended = alice
        .end_with(&session, json!(["poem", ""]), bad_video.clone())
        .await
        .ok(200);
    assert_eq!(
        (
            &ended["status"],
            &ended["totalTimeMs"],
            &ended["submission"]
        ),
        (&json!("judging"), &json!(1_800_000), &Value::Null)
    );
    assert_eq!(ended["milestones"][1]["pending"], true);
    assert_eq!(ended["warnings"].as_array().map(Vec::len), Some(2));

    // The run could not have lasted for 25 hours. Its end stays.
    app.travel("25 hours").await;
    let again = alice
        .end_with(&session, json!(["poem", ""]), bad_video.clone())
        .await
        .ok(200);
    assert_eq!(timeless(again), timeless(ended.clone()));
    assert_eq!(
        vera.attest(&session, 1, "pass").await.ok(200)["splitMs"],
        600_000
    );
    assert_eq!(
        vera.attest(&session, 2, "error").await.ok(200)["pending"],
        true
    );
    assert_eq!(
        alice.session(&session).await.ok(200)["status"],
        "judging",
        "an error decides nothing"
    );
    let last = vera.attest(&session, 2, "pass").await.ok(200);
    assert_eq!(last["splitMs"], 1_200_000);

    let completed = alice.session(&session).await.ok(200);
    assert_eq!(
        (
            &completed["status"],
            &completed["endTime"],
            &completed["totalTimeMs"]
        ),
        (&json!("completed"), &ended["endTime"], &json!(1_800_000))
    );
    assert_eq!(completed["submission"]["packages"], json!(["poem"]));
    assert_eq!(completed["submission"]["status"], "PENDING");
    assert_eq!(
        vera.attest(&session, 2, "pass").await.ok(200),
        last,
        "a retry"
    );
    vera.attest(&session, 2, "fail")
        .await
        .problem(409, "milestone_passed");
    let again = alice
        .end_with(&session, json!(["poem", ""]), bad_video)
        .await
        .ok(200);
    assert_eq!(timeless(again), timeless(completed));
    let kept = first_column(
        &app.sql().await,
        "select concat_ws(' ', packages, video_url) from private.session_ends",
    )
    .await;
    assert_eq!(kept, [""], "packages and video are kept only once");
}

#[tokio::test]
async fn a_run_whose_last_verdict_leaves_too_few_is_incomplete() {
    let app = judged().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let ended = judging(&alice).await;
    let session = text(&ended, "/id");
    vera.attest(&session, 2, "fail").await.ok(200);
    assert_eq!(alice.session(&session).await.ok(200)["status"], "judging");
    vera.attest(&session, 1, "pass").await.ok(200);
    let incomplete = alice.session(&session).await.ok(200);
    assert_eq!(
        (
            &incomplete["status"],
            &incomplete["endTime"],
            &incomplete["submission"]
        ),
        (&json!("incomplete"), &ended["endTime"], &Value::Null)
    );
    vera.attest(&session, 2, "pass")
        .await
        .problem(409, "session_already_ended");
}

#[tokio::test]
async fn while_a_run_is_judged_its_runner_may_run_another_and_change_nothing_of_it() {
    let app = judged().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let ended = judging(&alice).await;
    let session = text(&ended, "/id");
    alice
        .get("/sessions/current")
        .await
        .problem(404, "no_running_session");
    let body = json!({ "sessionId": session });
    alice
        .post("/sessions/abandon", body)
        .await
        .problem(409, "session_already_ended");
    alice
        .end_with(&session, json!([]), json!(null))
        .await
        .problem(409, "session_already_ended");
    // The runner who lost the answer asks again and gets it, because the verdict is still to come. A milestone that is
    // not pending can no longer be verified.
    let again = alice.verify(&session, 1).await.ok(200);
    assert_eq!(again, ended["milestones"][0]);
    let other = text(&one_of_two(&alice).await, "/id");
    let problem = alice
        .verify(&other, 2)
        .await
        .problem(409, "session_already_ended");
    assert!(
        text(&problem, "/detail").contains("waits for its verdicts"),
        "{problem}"
    );
    vera.attest(&other, 1, "fail").await.ok(200);
    let listed = alice.get("/sessions").await.ok(200);
    assert_eq!(listed["items"][1]["status"], "judging");
    let stranger = app.runner("bob").await;
    stranger
        .get(&format!("/sessions/{session}"))
        .await
        .problem(404, "session_not_found");

    let next = alice.start("judged").await;
    app.travel("25 hours").await;
    assert_eq!(alice.session(&next).await.ok(200)["status"], "expired");
    assert_eq!(
        alice.session(&session).await.ok(200)["status"],
        "judging",
        "this session ended long ago"
    );
    let board = app.visitor().get("/leaderboards/judged").await.ok(200);
    assert_eq!(board["items"], json!([]));
    for number in 1..=2 {
        vera.attest(&session, number, "pass").await.ok(200);
    }
    assert_eq!(alice.session(&session).await.ok(200)["status"], "completed");
    assert_eq!(
        timeless(alice.session(&session).await.ok(200))["endTime"],
        ended["endTime"]
    );
}

#[tokio::test]
async fn the_dashboard_decides_a_run_that_is_judged_and_leaves_its_rules_alone() {
    let app = judged().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let dashboard = app.sql().await;
    let rules = "update public.challenges set required_milestones = 1 where slug = 'judged'";

    // The dashboard may pass one milestone after the other.
    let session = text(&judging(&alice).await, "/id");
    let told = refused(&dashboard, rules, "challenge_running").await;
    assert!(told.contains("wait for verdicts"), "{told}");
    let pass = format!(
        "update public.milestones set passed = true, completed_at = requested_at
          where session_id = '{session}' and milestone_number"
    );
    done(&dashboard, &format!("{pass} = 1")).await;
    assert_eq!(alice.session(&session).await.ok(200)["status"], "judging");
    done(&dashboard, &format!("{pass} = 2")).await;
    let completed = alice.session(&session).await.ok(200);
    assert_eq!(
        (&completed["status"], &completed["submission"]["videoUrl"]),
        (&json!("completed"), &json!(VIDEO))
    );

    // It may also decide the session at once, if no verdict will come.
    for (status, handed_in) in [("completed", true), ("incomplete", false)] {
        let session = text(&judging(&alice).await, "/id");
        done(
            &dashboard,
            &format!("update public.sessions set status = '{status}' where id = '{session}'"),
        )
        .await;
        let decided = alice.session(&session).await.ok(200);
        assert_eq!(decided["status"], status);
        assert_eq!(decided["submission"].is_object(), handed_in);
        assert_eq!(
            decided["milestones"][0]["pending"], false,
            "no verifier attests any more"
        );
        vera.attest(&session, 1, "pass")
            .await
            .problem(409, "session_already_ended");
    }
    let session = text(&judging(&alice).await, "/id");
    done(
        &dashboard,
        &format!("delete from public.milestones where session_id = '{session}'"),
    )
    .await;
    assert_eq!(
        alice.session(&session).await.ok(200)["status"],
        "incomplete"
    );
    done(&dashboard, rules).await;

    // Nothing else makes a session `judging`.
    for status in ["judging", "running"] {
        let edit = format!("update public.sessions set status = '{status}' where id = '{session}'");
        dashboard.batch_execute(&edit).await.expect_err(&edit);
    }
    let running = alice.start("judged").await;
    alice.verify(&running, 1).await.ok(200);
    let edit = format!(
        "update public.sessions set status = 'judging', end_time = clock_timestamp() where id = '{running}'"
    );
    refused(&dashboard, &edit, "session_fixed").await;
    let insert = format!(
        "insert into public.sessions (user_id, challenge_id, tech_stack, status, start_time, end_time, deadline)
         select user_id, challenge_id, tech_stack, 'judging', start_time, clock_timestamp(), deadline
           from public.sessions where id = '{running}'"
    );
    refused(&dashboard, &insert, "session_fixed").await;
    assert_eq!(alice.end(&running).await.ok(200)["status"], "judging");
}

#[tokio::test]
async fn an_account_that_is_erased_takes_its_runs_that_are_judged_along() {
    let app = judged().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let session = text(&judging(&alice).await, "/id");
    alice.erase(PASSWORD).await.ok(204);
    vera.attest(&session, 1, "pass")
        .await
        .problem(404, "session_not_found");
    let left = first_column(
        &app.sql().await,
        "select count(*)::text from private.session_ends",
    )
    .await;
    assert_eq!(left, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_last_verdicts_at_once_one_decides_whoever_gives_them() {
    let app = judged().await;
    let alice = app.runner("alice").await;
    let (vera, wanda) = (
        app.user_with_role("vera", "verifier").await,
        app.user_with_role("wanda", "verifier").await,
    );
    for verdict in ["pass", "fail"] {
        let session = text(&judging(&alice).await, "/id");
        let gate = app.hold("select from public.sessions for update").await;
        let verdicts = race([(&vera, 1, "pass"), (&wanda, 2, verdict)].map(
            |(verifier, number, verdict)| {
                let (verifier, session) = (verifier.clone(), session.clone());
                async move { verifier.attest(&session, number, verdict).await }
            },
        ));
        gate.until_waiting(2).await;
        gate.release().await;
        for answer in verdicts.answers().await {
            answer.ok(200);
        }
        let decided = alice.session(&session).await.ok(200);
        assert_eq!(
            decided["status"],
            if verdict == "pass" {
                "completed"
            } else {
                "incomplete"
            }
        );
        assert_eq!(decided["submission"].is_object(), verdict == "pass");
    }

    // The dashboard does not lock the session first. The second edit sees what the first one did.
    let session = text(&judging(&alice).await, "/id");
    let pass = format!(
        "update public.milestones set passed = true, completed_at = requested_at
          where session_id = '{session}' and milestone_number"
    );
    let gate = app.hold(&format!("{pass} = 1")).await;
    let second = race([{
        let (client, edit) = (app.sql().await, format!("{pass} = 2"));
        async move { client.batch_execute(&edit).await }
    }]);
    gate.until_waiting(1).await;
    gate.release().await;
    second.answers().await.remove(0).expect("a verdict");
    assert_eq!(alice.session(&session).await.ok(200)["status"], "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_and_the_last_verdict_at_once_leave_no_session_that_waits_for_ever() {
    let app = judged().await;
    let alice = app.runner("alice").await;
    let session = alice.start("judged").await;
    for number in 1..=2 {
        alice.verify(&session, number).await.ok(200);
    }
    let gate = app
        .hold(&format!(
            "update public.milestones set passed = true, completed_at = requested_at where session_id = '{session}'"
        ))
        .await;
    let end = race([{
        let (alice, session) = (alice.clone(), session.clone());
        async move { alice.end(&session).await }
    }]);
    gate.until_waiting(1).await;
    gate.release().await;
    let ended = end.answers().await.remove(0).ok(200);
    assert_eq!(ended["status"], "completed");
    assert!(ended["submission"].is_object());
}

#[tokio::test]
async fn a_verdict_that_is_repeated_decides_a_session_that_nothing_else_would() {
    let app = judged().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let session = text(&judging(&alice).await, "/id");
    vera.attest(&session, 1, "pass").await.ok(200);
    // A restored backup may look like this. No trigger has seen the last verdict.
    let unseen = "set session_replication_role = replica;
        update public.milestones set passed = true, pending = false, completed_at = requested_at";
    done(&app.sql().await, unseen).await;
    assert_eq!(alice.session(&session).await.ok(200)["status"], "judging");
    vera.attest(&session, 2, "pass").await.ok(200);
    assert_eq!(alice.session(&session).await.ok(200)["status"], "completed");
}

#[tokio::test]
async fn the_longest_video_url_of_any_host_is_handed_in() {
    let app = TestApp::start_with(|config| {
        config.video_hosts.push("peertube.example".to_owned());
        config.supabase_url = Some("https://project.example".parse().expect("a URL"));
        config.supabase_anon_key = Some("anon".into());
    })
    .await;
    let alice = app.runner("alice").await;
    let random = |first: String| {
        let characters = (0..2048 - first.chars().count() as u32)
            .map(|n| char::from_u32(0x2_0000 + n * 7919 % 40_000).expect("a character"));
        first + &characters.collect::<String>()
    };
    let path = |session: &str| format!("recordings/{}/{session}/a.mp4", alice.id);
    let session = alice.start("freestyle").await;
    let recording = format!(
        "https://project.example/storage/v1/object/public/{}?t=",
        path(&session)
    );
    let long = [
        random(recording),
        random("https://peertube.example/w/".to_owned()),
        random("https://youtu.be/abc?t=".to_owned()),
        random("https://vimeo.com/12?t=".to_owned()),
        random("https://www.twitch.tv/videos/34?t=".to_owned()),
        format!("https://youtu.be/{}", "x".repeat(2031)),
    ];
    for (turn, url) in long.iter().enumerate() {
        let session = match turn {
            0 => session.clone(),
            _ => alice.start("freestyle").await,
        };
        let ended = alice
            .end_with(&session, json!([]), json!(url))
            .await
            .ok(200);
        assert_eq!(ended["submission"]["videoUrl"], *url, "{ended}");
    }
    // A recording is the same object at each of its addresses.
    let keys = [("public", "?t=1"), ("sign", "?token=x")].map(|(kind, query)| {
        format!(
            "private.video_key('https://project.example/storage/v1/object/{kind}/{}{query}')",
            path(&session)
        )
    });
    let same = format!("select ({})::text", keys.join(" = "));
    assert_eq!(first_column(&app.sql().await, &same).await, ["true"]);
}

#[tokio::test]
async fn a_clock_that_goes_back_leaves_a_mark_for_moderators() {
    let app = TestApp::start().await;
    let (alice, mona) = (
        app.runner("alice").await,
        app.user_with_role("mona", "moderator").await,
    );
    app.stop_clock().await;

    // The clock is before the start: the run has no length.
    let session = alice.start("freestyle").await;
    app.travel("-90 seconds").await;
    let ended = alice.end(&session).await.ok(200);
    assert_eq!(
        (&ended["totalTimeMs"], &ended["clockWentBackMs"]),
        (&json!(0), &json!(90_000))
    );
    let submission = text(&ended, "/submission/id");
    let seen = mona
        .get(&format!("/submissions/{submission}"))
        .await
        .ok(200);
    assert_eq!(seen["clockWentBackMs"], 90_000);
    // All users who see the run see the mark: its runner, and everybody once it is published.
    let own = alice.submission(&submission).await.ok(200);
    assert_eq!(own["clockWentBackMs"], 90_000);
    mona.review(&submission, "APPROVED", 1).await.ok(200);
    let visitor = app.visitor();
    let shown = visitor.submission(&submission).await.ok(200);
    assert_eq!(shown["clockWentBackMs"], 90_000);
    let shown = visitor.session(&session).await.ok(200);
    assert_eq!(shown["clockWentBackMs"], 90_000);
    mona.reopen(&submission).await.ok(200);
    let queued = format!(
        "select clock_went_back_ms::text from public.review_queue where id = '{submission}'"
    );
    assert_eq!(first_column(&app.sql().await, &queued).await, ["90000"]);

    // The clock is behind a split, twice. The service keeps the larger difference, and no split comes before another.
    let session = alice.start("freestyle").await;
    app.travel("10 minutes").await;
    alice.verify(&session, 1).await.ok(200);
    app.travel("-4 minutes").await;
    let split = alice.verify(&session, 2).await.ok(200);
    assert_eq!(split["splitMs"], 600_000);
    app.travel("1 minute").await;
    let ended = alice.end(&session).await.ok(200);
    assert_eq!(
        (&ended["totalTimeMs"], &ended["clockWentBackMs"]),
        (&json!(600_000), &json!(240_000))
    );

    // A clock that only moves forward leaves no mark.
    let session = alice.start("freestyle").await;
    app.travel("1 minute").await;
    alice.verify(&session, 1).await.ok(200);
    let ended = alice.end(&session).await.ok(200);
    assert_eq!(
        (&ended["totalTimeMs"], &ended["clockWentBackMs"]),
        (&json!(60_000), &Value::Null)
    );
}

#[tokio::test]
async fn a_verdict_asked_for_by_a_clock_that_went_back_is_given_all_the_same() {
    let app = judged().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    app.stop_clock().await;
    let session = alice.start("judged").await;
    app.travel("-1 minute").await;
    alice.verify(&session, 1).await.ok(200);
    app.travel("5 minutes").await;
    alice.verify(&session, 2).await.ok(200);
    app.travel("-2 minutes").await;
    let ended = alice.end(&session).await.ok(200);
    assert_eq!(
        (&ended["totalTimeMs"], &ended["clockWentBackMs"]),
        (&json!(240_000), &json!(120_000))
    );
    for (number, split) in [(1, 0), (2, 240_000)] {
        assert_eq!(
            vera.attest(&session, number, "pass").await.ok(200)["splitMs"],
            split
        );
    }
    assert_eq!(alice.session(&session).await.ok(200)["status"], "completed");
}
