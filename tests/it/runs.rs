//! A run from its start to its submission, and what each step refuses.

use serde_json::{Value, json};

use crate::support::{
    actor::{Actor, Answer, text},
    app::TestApp,
};

/// An answer without what changes by itself.
fn timeless(mut session: Value) -> Value {
    session["serverTime"] = Value::Null;
    session
}

async fn read(actor: &Actor, session: &str) -> Answer {
    actor.get(&format!("/sessions/{session}")).await
}

/// The row of a session: status, end time = deadline, whether it has an end time.
async fn stored(app: &TestApp, session: &str) -> (String, bool, bool) {
    let row = app
        .sql()
        .await
        .query_one(
            "select status::text, end_time is not distinct from deadline, end_time is not null
               from public.sessions where id::text = $1",
            &[&session],
        )
        .await
        .expect("a session");
    (row.get(0), row.get(1), row.get(2))
}

async fn count(app: &TestApp, table: &str) -> i64 {
    app.sql()
        .await
        .query_one(&format!("select count(*) from {table}"), &[])
        .await
        .expect("a count")
        .get(0)
}

/// What a moderator does in the dashboard.
async fn set_status(app: &TestApp, status: &str) {
    app.sql()
        .await
        .batch_execute(&format!(
            "update public.submissions set status = '{status}'"
        ))
        .await
        .expect("a review");
}

async fn start_with(runner: &Actor, body: Value) -> Answer {
    runner.post("/sessions/start", body).await
}

#[tokio::test]
async fn a_slack_clone_run_ends_with_seven_splits_and_a_pending_submission() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    app.stop_clock().await;
    let session = runner.start("slack-clone").await;
    for number in 1..=7 {
        app.travel("6 minutes 27 seconds").await;
        let milestone = runner.verify(&session, number).await.ok(200);
        assert_eq!(milestone["passed"], true);
    }
    app.travel("3 seconds").await;
    let ended = runner.end(&session).await.ok(200);

    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["totalTime"], "45m 12s");
    assert_eq!(ended["totalTimeMs"], 2_712_000);
    let splits: Vec<_> = ended["milestones"]
        .as_array()
        .expect("milestones")
        .iter()
        .map(|m| m["splitMs"].as_i64())
        .collect();
    assert_eq!(
        splits,
        (1..=7)
            .map(|number| Some(number * 387_000))
            .collect::<Vec<_>>()
    );
    assert_eq!(ended["submission"]["status"], "PENDING");
    assert_eq!(ended["submission"]["packages"], json!(["poem", "tokio"]));

    let mut read = runner
        .get(&format!("/sessions/{}", text(&ended, "/id")))
        .await
        .ok(200);
    read["serverTime"] = ended["serverTime"].clone();
    assert_eq!(read, ended, "reading shows what ending answered");
    assert_ne!(read["submission"], Value::Null);
}

#[tokio::test]
async fn a_session_starts_on_freestyle_unless_told_otherwise() {
    let app = TestApp::start().await;
    for (name, body) in [
        ("left-out", json!({ "techStack": "Rust" })),
        ("null", json!({ "techStack": "Rust", "challenge": null })),
    ] {
        let runner = app.runner(name).await;
        let session = start_with(&runner, body).await.ok(201);
        assert_eq!(session["challenge"], "freestyle");
        assert_eq!(session["userId"], runner.id);
        assert_eq!(session["status"], "running");
        assert_eq!(session["milestones"], json!([]));
        for open in ["endTime", "totalTimeMs", "totalTime", "submission"] {
            assert_eq!(session.get(open), Some(&Value::Null), "{open}");
        }
        assert!(session["serverTime"].as_str() >= session["startTime"].as_str());
    }
}

#[tokio::test]
async fn whoever_names_no_challenge_where_freestyle_is_gone_is_told_to_name_one() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let unnamed = async || {
        let refused = start_with(&runner, json!({ "techStack": "Rust" })).await;
        let detail = text(&refused.problem(404, "challenge_not_found"), "/detail");
        assert!(
            detail.contains("freestyle") && detail.contains("GET /challenges"),
            "{detail}"
        );
        assert!(detail.contains("name a challenge"), "{detail}");
    };
    let sql = app.sql().await;
    for goes in [
        "update public.challenges set active = false where slug = 'freestyle'",
        "delete from public.challenges where slug = 'freestyle'",
    ] {
        sql.batch_execute(goes).await.expect(goes);
        unnamed().await;
    }
    let named = json!({ "techStack": "Rust", "challenge": "slack-clone" });
    start_with(&runner, named).await.ok(201);
}

#[tokio::test]
async fn a_challenge_that_is_unknown_or_withdrawn_cannot_be_started() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let start = async |challenge: &str| {
        start_with(
            &runner,
            json!({ "techStack": "Rust", "challenge": challenge }),
        )
        .await
    };
    start("flappy-bird")
        .await
        .problem(404, "challenge_not_found");
    app.sql()
        .await
        .batch_execute("update public.challenges set active = false where slug = 'slack-clone'")
        .await
        .expect("a withdrawal");
    start("slack-clone")
        .await
        .problem(404, "challenge_not_found");
    for slug in [
        "",
        "Slack-Clone",
        "slack clone",
        "-",
        "a--b",
        &"a".repeat(65),
    ] {
        let faults = start(slug).await.faults();
        assert!(
            faults.iter().all(|(field, _)| field == "challenge"),
            "{slug}: {faults:?}"
        );
    }
    assert_eq!(count(&app, "public.sessions").await, 0);
}

#[tokio::test]
async fn a_run_on_a_challenge_withdrawn_meanwhile_goes_on() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    app.sql()
        .await
        .batch_execute("update public.challenges set active = false")
        .await
        .expect("a withdrawal");
    for number in 1..=7 {
        runner.verify(&session, number).await.ok(200);
    }
    assert_eq!(runner.end(&session).await.ok(200)["status"], "completed");
}

#[tokio::test]
async fn spellings_of_one_tech_stack_meet_in_its_key() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let long = "🦀".repeat(100);
    for (stack, key) in [
        ("Rust, Postgres", "postgres,rust"),
        ("postgres + RUST", "postgres,rust"),
        ("Rust/Postgres", "postgres,rust"),
        ("rust & postgres & Rust,,", "postgres,rust"),
        ("Ｒｕｓｔ，Postgres", "postgres,rust"),
        ("  Next.js  ", "next.js"),
        ("C#", "c#"),
        ("STRASSE, Straße", "strasse"),
        (",+/&", ",+/&"),
        (&long, &long),
    ] {
        let session = start_with(&runner, json!({ "techStack": stack }))
            .await
            .ok(201);
        assert_eq!(
            session["techStack"], stack,
            "the runner's own words are kept"
        );
        let id = text(&session, "/id");
        let stored: String = app
            .sql()
            .await
            .query_one(
                "select tech_stack_key from public.sessions where id::text = $1",
                &[&id],
            )
            .await
            .expect("a session")
            .get(0);
        assert_eq!(stored, key, "{stack}");
        runner.end(&id).await.ok(200);
    }
}

#[tokio::test]
async fn a_tech_stack_has_one_to_a_hundred_characters_and_is_not_blank() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    for (stack, code) in [
        (json!(""), "too_short"),
        (json!("x".repeat(101)), "too_long"),
        (json!("   "), "pattern"),
        (json!("\t\n"), "pattern"),
        (json!("\u{a0}\u{3000}"), "pattern"),
        (json!("Ru\u{0}st"), "nul_character"),
        (json!(null), "type"),
        (json!(["Rust"]), "type"),
    ] {
        let faults = start_with(&runner, json!({ "techStack": stack }))
            .await
            .faults();
        assert!(
            faults.contains(&("techStack".to_owned(), code.to_owned())),
            "{stack}: {faults:?}"
        );
    }
}

#[tokio::test]
async fn a_second_start_names_the_session_that_is_running() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    for challenge in ["slack-clone", "freestyle"] {
        let problem = start_with(
            &runner,
            json!({ "techStack": "Go", "challenge": challenge }),
        )
        .await
        .problem(409, "session_already_running");
        assert_eq!(problem["sessionId"], session);
    }
    assert_eq!(count(&app, "public.sessions").await, 1);
    // Others are not held up.
    app.runner("bob").await.start("slack-clone").await;
}

#[tokio::test]
async fn the_next_session_starts_once_the_last_has_ended() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let first = runner.start("freestyle").await;
    let ended = runner.end(&first).await.ok(200);
    let second = start_with(&runner, json!({ "techStack": "Rust" }))
        .await
        .ok(201);
    assert_ne!(second["id"], first.as_str());
    assert!(second["startTime"].as_str() >= ended["endTime"].as_str());
}

#[tokio::test]
async fn a_start_after_the_deadline_closes_the_old_session_at_its_deadline() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let old = runner.start("slack-clone").await;
    app.travel("24 hours").await;
    let new = runner.start("slack-clone").await;
    assert_ne!(new, old);
    assert_eq!(stored(&app, &old).await, ("expired".into(), true, true));
    assert_eq!(stored(&app, &new).await, ("running".into(), false, false));
}

#[tokio::test]
async fn milestones_of_an_ordered_challenge_pass_in_order_only() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    for (number, next) in [(2, 1), (7, 1)] {
        let problem = runner
            .verify(&session, number)
            .await
            .problem(409, "milestone_out_of_order");
        assert_eq!(problem["nextMilestone"], next);
    }
    let first = runner.verify(&session, 1).await.ok(200);
    assert_eq!(first["title"], "Accounts");
    assert_eq!(
        (&first["attempts"], &first["pending"]),
        (&json!(1), &json!(false))
    );
    let problem = runner
        .verify(&session, 3)
        .await
        .problem(409, "milestone_out_of_order");
    assert_eq!(problem["nextMilestone"], 2);
    runner.verify(&session, 2).await.ok(200);
    assert_eq!(
        count(&app, "public.milestones").await,
        2,
        "a refusal records nothing"
    );
}

#[tokio::test]
async fn milestones_of_freestyle_pass_in_any_order() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    for number in [7, 1, 4] {
        runner.verify(&session, number).await.ok(200);
    }
    let ended = runner.end(&session).await.ok(200);
    assert_eq!(ended["status"], "completed");
    let numbers: Vec<_> = ended["milestones"]
        .as_array()
        .expect("milestones")
        .iter()
        .map(|milestone| milestone["milestoneNumber"].as_i64())
        .collect();
    assert_eq!(numbers, [Some(1), Some(4), Some(7)]);
}

#[tokio::test]
async fn a_milestone_that_the_challenge_does_not_have_is_a_mistake_in_the_request() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    for challenge in ["slack-clone", "freestyle"] {
        let session = runner.start(challenge).await;
        for number in [8, 1000] {
            let problem = runner
                .verify(&session, number)
                .await
                .problem(400, "unknown_milestone");
            assert_eq!(problem["errors"][0]["field"], "milestoneNumber");
        }
        runner.end(&session).await.ok(200);
    }
}

#[tokio::test]
async fn a_milestone_passed_again_keeps_its_time() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    app.stop_clock().await;
    let session = runner.start("slack-clone").await;
    app.travel("1 minute").await;
    let first = runner.verify(&session, 1).await.ok(200);
    app.travel("1 hour").await;
    runner.verify(&session, 2).await.ok(200);
    assert_eq!(runner.verify(&session, 1).await.ok(200), first);
    assert_eq!(first["splitMs"], 60_000);
}

#[tokio::test]
async fn after_the_end_nothing_more_passes_but_what_passed_still_answers() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    let passed = runner.verify(&session, 3).await.ok(200);
    runner.end(&session).await.ok(200);
    let problem = runner
        .verify(&session, 4)
        .await
        .problem(409, "session_already_ended");
    assert_eq!(problem["sessionId"], session);
    assert_eq!(runner.verify(&session, 3).await.ok(200), passed);
    assert_eq!(count(&app, "public.milestones").await, 1);
}

#[tokio::test]
async fn a_verification_after_the_deadline_is_refused_and_the_expiry_is_kept() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    let passed = runner.verify(&session, 1).await.ok(200);
    app.travel("24 hours").await;
    assert_eq!(
        runner.verify(&session, 1).await.ok(200),
        passed,
        "what passed in time still answers"
    );
    runner
        .verify(&session, 2)
        .await
        .problem(409, "session_expired");
    assert_eq!(stored(&app, &session).await, ("expired".into(), true, true));
    runner
        .verify(&session, 2)
        .await
        .problem(409, "session_expired");
    runner.end(&session).await.problem(409, "session_expired");
}

#[tokio::test]
async fn an_end_after_the_deadline_is_refused_and_the_expiry_is_kept() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    app.travel("24 hours").await;
    let problem = runner.end(&session).await.problem(409, "session_expired");
    assert_eq!(problem["sessionId"], session);
    assert_eq!(stored(&app, &session).await, ("expired".into(), true, true));
    assert_eq!(count(&app, "public.submissions").await, 0);
}

#[tokio::test]
async fn until_its_deadline_a_session_can_be_ended() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    app.stop_clock().await;
    let session = runner.start("freestyle").await;
    app.travel("23:59:59.999").await;
    let ended = runner.end(&session).await.ok(200);
    assert_eq!(ended["status"], "completed");
    assert_eq!(
        (&ended["totalTimeMs"], &ended["totalTime"]),
        (&json!(86_399_999), &json!("23h 59m 59s"))
    );
}

#[tokio::test]
async fn an_overdue_session_reads_as_expired_before_anything_stored_it() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    runner.verify(&session, 1).await.ok(200);
    app.travel("3 days").await;
    let overdue = read(&runner, &session).await.ok(200);
    assert_eq!(overdue["status"], "expired");
    assert_eq!(overdue["endTime"], overdue["deadline"]);
    assert_eq!(overdue["totalTimeMs"], 24 * 60 * 60 * 1000);
    assert_eq!(overdue["totalTime"], "24h 00m 00s");
    assert_eq!(
        stored(&app, &session).await,
        ("running".into(), false, false)
    );

    runner.end(&session).await.problem(409, "session_expired");
    assert_eq!(
        timeless(read(&runner, &session).await.ok(200)),
        timeless(overdue)
    );
}

#[tokio::test]
async fn a_run_with_too_few_milestones_is_incomplete_and_hands_in_nothing() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    for number in 1..=6 {
        runner.verify(&session, number).await.ok(200);
    }
    let ended = runner.end(&session).await.ok(200);
    assert_eq!(ended["status"], "incomplete");
    assert_eq!(ended["submission"], Value::Null);
    assert_eq!(ended["milestones"].as_array().map(Vec::len), Some(6));
    assert_eq!(count(&app, "public.submissions").await, 0);
    runner
        .verify(&session, 7)
        .await
        .problem(409, "session_already_ended");
}

#[tokio::test]
async fn ending_again_with_the_same_data_answers_the_same() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    for challenge in ["freestyle", "slack-clone"] {
        let session = runner.start(challenge).await;
        let ended = runner.end(&session).await.ok(200);
        app.travel("25 hours").await;
        let again = runner.end(&session).await.ok(200);
        assert_ne!(again["serverTime"], ended["serverTime"]);
        assert_eq!(timeless(again), timeless(ended));
    }
    assert_eq!(count(&app, "public.submissions").await, 1);
}

#[tokio::test]
async fn ending_again_with_other_data_is_refused() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    let ended = runner.end(&session).await.ok(200);
    for (packages, video_url) in [
        (json!(["tokio", "poem"]), json!("https://youtu.be/abc")),
        (json!(["poem"]), json!("https://youtu.be/abc")),
        (json!(["poem", "tokio"]), json!("https://youtu.be/other")),
        (json!(["poem", "tokio"]), json!(null)),
        (json!([]), json!("https://youtu.be/abc")),
        (json!(["poem,tokio"]), json!("https://youtu.be/abc")),
    ] {
        let body = json!({ "sessionId": session, "packages": packages, "videoUrl": video_url });
        let problem = runner
            .post("/sessions/end", body)
            .await
            .problem(409, "session_already_ended");
        assert_eq!(problem["sessionId"], session);
    }
    assert_eq!(
        timeless(read(&runner, &session).await.ok(200)),
        timeless(ended)
    );
}

#[tokio::test]
async fn the_video_may_come_later() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    let end = async |body: Value| runner.post("/sessions/end", body).await.ok(200);
    let ended = end(json!({ "sessionId": session, "packages": [] })).await;
    assert_eq!(ended["submission"]["videoUrl"], Value::Null);
    assert_eq!(ended["submission"]["packages"], json!([]));
    let same = end(json!({ "sessionId": session, "packages": [], "videoUrl": null })).await;
    assert_eq!(
        timeless(same),
        timeless(ended),
        "null is the same as nothing"
    );
}

#[tokio::test]
async fn a_strangers_session_is_answered_like_one_that_does_not_exist() {
    let app = TestApp::start().await;
    let session = app.runner("alice").await.start("freestyle").await;
    let mallory = app.runner("mallory").await;
    let missing = "00000000-0000-7000-8000-000000000000";
    let alike = |theirs: Answer, nobodys: Answer| {
        let strip = |mut body: Value| {
            body["requestId"] = Value::Null;
            body.to_string()
        };
        assert_eq!(
            strip(theirs.problem(404, "session_not_found")),
            strip(nobodys.problem(404, "session_not_found"))
        );
    };
    for number in [1, 1000] {
        alike(
            mallory.verify(&session, number).await,
            mallory.verify(missing, number).await,
        );
    }
    alike(mallory.end(&session).await, mallory.end(missing).await);
    alike(
        read(&mallory, &session).await,
        read(&mallory, missing).await,
    );
    alike(
        read(&app.visitor(), &session).await,
        read(&app.visitor(), missing).await,
    );
    assert_eq!(stored(&app, &session).await.0, "running");
}

#[tokio::test]
async fn moderators_and_verifiers_see_every_session_but_cannot_run_it() {
    let app = TestApp::start().await;
    let session = app.runner("alice").await.start("freestyle").await;
    for role in ["moderator", "verifier", "admin"] {
        let actor = app.user_with_role(role, role).await;
        assert_eq!(read(&actor, &session).await.ok(200)["id"], session.as_str());
        actor
            .verify(&session, 1)
            .await
            .problem(404, "session_not_found");
        actor.end(&session).await.problem(404, "session_not_found");
    }
}

#[tokio::test]
async fn a_pending_submission_is_seen_by_its_runner_and_moderators_only() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let run = alice.complete_run().await;
    let session = text(&run, "/id");
    for (role, sees) in [("moderator", true), ("admin", true), ("verifier", false)] {
        let actor = app.user_with_role(role, role).await;
        let seen = read(&actor, &session).await.ok(200);
        assert_eq!(
            seen["submission"] == run["submission"],
            sees,
            "{role}: {seen:#}"
        );
    }
}

#[tokio::test]
async fn a_demotion_counts_for_a_token_that_is_still_live() {
    let app = TestApp::start().await;
    let session = app.runner("alice").await.start("freestyle").await;
    let moderator = app.user_with_role("mod", "moderator").await;
    read(&moderator, &session).await.ok(200);
    app.sql()
        .await
        .batch_execute("update public.users set role = 'runner' where username = 'mod'")
        .await
        .expect("a demotion");
    read(&moderator, &session)
        .await
        .problem(404, "session_not_found");
}

#[tokio::test]
async fn everyone_sees_a_run_while_its_submission_is_approved() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let run = alice.complete_run().await;
    let session = text(&run, "/id");
    let (visitor, stranger) = (app.visitor(), app.runner("bob").await);
    for status in ["PENDING", "APPROVED", "PENDING", "APPROVED"] {
        set_status(&app, status).await;
        for somebody in [&visitor, &stranger] {
            let answer = read(somebody, &session).await;
            if status == "APPROVED" {
                let seen = answer.ok(200);
                assert_eq!(seen["milestones"], run["milestones"]);
                assert_eq!(seen["submission"]["videoUrl"], "https://youtu.be/abc");
                assert_eq!(seen["submission"]["status"], "APPROVED");
            } else {
                answer.problem(404, "session_not_found");
            }
        }
        assert_eq!(
            read(&alice, &session).await.ok(200)["submission"]["status"],
            status
        );
    }
}

#[tokio::test]
async fn two_spellings_of_a_stack_share_a_board_and_two_stacks_do_not() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    for (stack, key) in [
        ("Rust + Postgres", "postgres,rust"),
        ("postgres,\u{200B} RUST", "postgres,rust"),
        ("Ruby  on   Rails", "ruby on rails"),
        ("C", "c"),
        ("C++", "c++"),
        ("Rust+C++/Go", "c++,go,rust"),
        ("STRASSE & Straße", "strasse"),
    ] {
        let session = runner
            .post("/sessions/start", json!({ "techStack": stack }))
            .await
            .ok(201);
        let stored = app
            .sql()
            .await
            .query_one(
                "select tech_stack, tech_stack_key from public.sessions where status = 'running'",
                &[],
            )
            .await
            .expect("a session");
        assert_eq!((stored.get(0), stored.get(1)), (stack, key));
        runner
            .post("/sessions/abandon", json!({ "sessionId": session["id"] }))
            .await
            .ok(200);
    }
}

#[tokio::test]
async fn a_stack_that_nobody_can_see_or_that_deceives_is_refused() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let expands = "\u{FDFA}".repeat(100);
    for stack in [
        "\u{200B}",
        "Ru\u{1}st",
        "\u{1b}[31mred",
        "\u{202E}tsuR",
        expands.as_str(),
    ] {
        let refused = runner
            .post("/sessions/start", json!({ "techStack": stack }))
            .await;
        assert_eq!(
            refused.faults(),
            [("techStack".to_owned(), "invalid".to_owned())],
            "{stack:?}"
        );
    }
}

#[tokio::test]
async fn the_dashboard_cannot_move_a_session_out_of_time() {
    let app = TestApp::start().await;
    let session = app.runner("alice").await.start("slack-clone").await;
    for (change, expected) in [
        ("deadline = 'infinity'", "23514"),
        ("deadline = '12000-01-01'", "23514"),
        ("deadline = start_time", "23514"),
        ("start_time = '-infinity'", "23514"),
        (
            "status = 'incomplete', end_time = start_time - interval '1 second'",
            "PT409",
        ),
        (
            "status = 'incomplete', end_time = start_time + interval '32 days'",
            "23514",
        ),
    ] {
        let update = format!("update public.sessions set {change} where id = '{session}'");
        let refused = app
            .sql()
            .await
            .batch_execute(&update)
            .await
            .expect_err(change);
        let code = refused.code().map(|code| code.code());
        assert_eq!(code, Some(expected), "{change}");
    }
}
