//! Milestones that are passed by the right answer to the runner's own input.

use serde_json::{Value, json};

use crate::support::{
    actor::{Answer, text},
    app::TestApp,
    race::race,
};

use super::{PUZZLES, app, history, right_answer};

#[tokio::test]
async fn the_right_answer_to_ones_own_input_passes() {
    let app = app().await;
    let runner = app.runner("alice").await;
    let session = runner.start("puzzle").await;
    let right = right_answer(&runner, &session).await;
    let passed = runner.solve(&session, 1, &right).await.ok(200);
    assert_eq!(passed["passed"], true);
    assert_eq!(
        (&passed["attempts"], &passed["nextAttemptAt"]),
        (&json!(1), &Value::Null)
    );
    // A retry with any answer gets the first answer again.
    assert_eq!(runner.solve(&session, 1, "else").await.ok(200), passed);
    assert_eq!(runner.verify(&session, 1).await.ok(200), passed);
}

#[tokio::test]
async fn white_space_around_an_answer_and_composed_letters_make_no_difference() {
    let app = app().await;
    let runner = app.runner("alice").await;
    for spell in [
        |right: &str| format!("  {right}\r\n"),
        |right: &str| right.replace('ñ', "n\u{303}"),
    ] {
        let session = runner.start("any-order").await;
        let right = right_answer(&runner, &session).await;
        assert_eq!(
            runner.solve(&session, 1, &spell(&right)).await.ok(200)["passed"],
            true
        );
        runner.end(&session).await.ok(200);
    }
    for spell in [str::to_lowercase, |right: &str| right.replace(' ', "  ")] {
        let session = runner.start("any-order").await;
        let right = right_answer(&runner, &session).await;
        assert_eq!(
            runner.solve(&session, 1, &spell(&right)).await.ok(200)["passed"],
            false
        );
        runner.end(&session).await.ok(200);
    }
}

#[tokio::test]
async fn an_answer_is_asked_for_by_name() {
    let app = app().await;
    let runner = app.runner("alice").await;
    let session = runner.start("puzzle").await;
    for (given, code) in [
        (Value::Null, "required"),
        (json!(""), "pattern"),
        (json!(" \n"), "pattern"),
        (json!(42), "type"),
        (json!("x".repeat(1001)), "too_long"),
        (json!("n\u{0}l"), "nul_character"),
    ] {
        let body = json!({ "sessionId": session, "milestoneNumber": 1, "answer": given });
        let faults = runner.post("/milestones/verify", body).await.faults();
        assert_eq!(faults, [("answer".to_owned(), code.to_owned())], "{given}");
    }
    assert_eq!(
        runner.verify(&session, 1).await.faults(),
        [("answer".to_owned(), "required".to_owned())]
    );
    let read = runner.session(&session).await.ok(200);
    assert_eq!(read["milestones"], json!([]), "no refusal is an attempt");
}

#[tokio::test]
async fn wrong_answers_wait_1_1_1_5_5_5_and_then_10_minutes() {
    let app = app().await;
    let runner = app.runner("alice").await;
    app.stop_clock().await;
    let session = runner.start("puzzle").await;
    let right = right_answer(&runner, &session).await;
    for (minutes, attempt) in [1, 1, 1, 5, 5, 5, 10, 10].into_iter().zip(1..) {
        let wrong = runner.solve(&session, 1, "42").await.ok(200);
        assert_eq!(
            (&wrong["passed"], &wrong["attempts"]),
            (&json!(false), &json!(attempt))
        );
        let before = history(&app).await;
        for (waited, left) in [("0", minutes * 60), ("30 seconds", minutes * 60 - 30)] {
            app.travel(waited).await;
            for given in ["43", &right] {
                let early = runner.solve(&session, 1, given).await;
                assert_eq!(early.headers["retry-after"], left.to_string());
                let problem = early.problem(429, "attempt_cooldown");
                assert_eq!(problem["nextAttemptAt"], wrong["nextAttemptAt"]);
            }
        }
        app.travel(&format!("{} seconds", minutes * 60 - 31)).await;
        app.travel("999 milliseconds").await;
        let early = runner.solve(&session, 1, &right).await;
        assert_eq!(early.headers["retry-after"], "1");
        early.problem(429, "attempt_cooldown");
        assert_eq!(
            history(&app).await,
            before,
            "refused, neither judged nor recorded"
        );
        app.travel("1 millisecond").await;
    }
    let passed = runner.solve(&session, 1, &right).await.ok(200);
    assert_eq!(
        (&passed["passed"], &passed["attempts"]),
        (&json!(true), &json!(9))
    );
    assert_eq!(passed["nextAttemptAt"], Value::Null);
    assert_eq!(passed["splitMs"], 38 * 60 * 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_parallel_wrong_answers_one_is_judged() {
    let app = TestApp::start_with(|config| config.db_connections = Some(110)).await;
    app.sql()
        .await
        .batch_execute(PUZZLES)
        .await
        .expect("puzzles");
    let runner = app.runner("alice").await;
    let session = runner.start("puzzle").await;
    let gate = app.hold("select from public.sessions for update").await;
    let attempts = race((0..100).map(|number| {
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.solve(&session, 1, &format!("guess {number}")).await }
    }));
    gate.until_waiting(100).await;
    gate.release().await;
    let mut judged = 0;
    for attempt in attempts.answers().await {
        if attempt.status == 200 {
            judged += 1;
            assert_eq!(attempt.body["passed"], false);
        } else {
            let wait: u64 = attempt.headers["retry-after"]
                .to_str()
                .expect("text")
                .parse()
                .expect("seconds");
            assert!((1..=60).contains(&wait), "{wait}");
            attempt.problem(429, "attempt_cooldown");
        }
    }
    assert_eq!(judged, 1);
    let read = runner.session(&session).await.ok(200);
    assert_eq!(read["milestones"][0]["attempts"], 1);
}

#[tokio::test]
async fn another_sessions_answer_is_wrong_here() {
    let app = app().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let hers = alice.start("puzzle").await;
    let her_answer = right_answer(&alice, &hers).await;
    let his = loop {
        let session = bob.start("puzzle").await;
        if right_answer(&bob, &session).await != her_answer {
            break session;
        }
        bob.end(&session).await.ok(200);
    };
    assert_eq!(
        bob.solve(&his, 1, &her_answer).await.ok(200)["passed"],
        false
    );
    assert_eq!(
        alice.solve(&hers, 1, &her_answer).await.ok(200)["passed"],
        true
    );
}

#[tokio::test]
async fn an_input_is_shown_to_its_runner_once_its_milestone_is_next() {
    let app = app().await;
    app.sql()
        .await
        .batch_execute(
            "update public.challenge_milestones set verification = 'answer'
              where number = 2
                and challenge_id in (select id from public.challenges where slug in ('puzzle', 'any-order'));
             insert into private.answer_variants (challenge_id, milestone_number, input, answer)
             select id, 2, 'second input', 'x' from public.challenges where slug in ('puzzle', 'any-order');",
        )
        .await
        .expect("a second answer");
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let session = alice.start("puzzle").await;
    let shown = alice.input(&session, 1).await.ok(200);
    for _ in 0..5 {
        assert_eq!(alice.input(&session, 1).await.ok(200), shown, "it is kept");
    }
    let problem = alice
        .input(&session, 2)
        .await
        .problem(409, "milestone_out_of_order");
    assert_eq!(problem["nextMilestone"], 1);
    for (somebody, status, code) in [
        (bob, 404, "session_not_found"),
        (
            app.user_with_role("vera", "verifier").await,
            404,
            "session_not_found",
        ),
        (
            app.user_with_role("root", "admin").await,
            404,
            "session_not_found",
        ),
        (app.visitor(), 401, "missing_token"),
    ] {
        somebody.input(&session, 1).await.problem(status, code);
    }
    let right = right_answer(&alice, &session).await;
    alice.solve(&session, 1, &right).await.ok(200);
    assert_eq!(
        alice.input(&session, 2).await.ok(200)["input"],
        "second input"
    );
    assert_eq!(
        alice.input(&session, 1).await.ok(200),
        shown,
        "the first input can be read again"
    );
    alice.end(&session).await.ok(200);
    alice
        .input(&session, 1)
        .await
        .problem(409, "session_already_ended");

    // Without an order, every input is available at once, but only during the run.
    let free = alice.start("any-order").await;
    assert_eq!(alice.input(&free, 2).await.ok(200)["input"], "second input");
    for number in [3, 4, 0, -1, i64::from(i32::MAX)] {
        alice
            .input(&free, number)
            .await
            .problem(404, "input_not_found");
    }
    assert_eq!(
        alice.input(&free, 1 << 40).await.faults(),
        [("number".to_owned(), "format".to_owned())]
    );
    app.travel("25 hours").await;
    alice.input(&free, 2).await.problem(409, "session_expired");
    alice
        .input("00000000-0000-7000-8000-000000000000", 1)
        .await
        .problem(404, "session_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_first_asked_for_by_many_at_once_is_one() {
    let app = TestApp::start_wide().await;
    app.sql()
        .await
        .batch_execute(PUZZLES)
        .await
        .expect("puzzles");
    let runner = app.runner("alice").await;
    let session = runner.start("puzzle").await;
    let gate = app
        .hold("lock table private.session_inputs in exclusive mode")
        .await;
    let asked = race((0..30).map(|_| {
        let (runner, session) = (runner.clone(), session.clone());
        async move { runner.input(&session, 1).await }
    }));
    gate.until_waiting(30).await;
    gate.release().await;
    let inputs: std::collections::BTreeSet<_> = asked
        .answers()
        .await
        .into_iter()
        .map(|answer| text(&answer.ok(200), "/input"))
        .collect();
    assert_eq!(inputs.len(), 1);
}

#[tokio::test]
async fn what_is_refused_has_a_stable_code_and_changes_nothing() {
    let app = app().await;
    let (alice, mallory) = (app.runner("alice").await, app.runner("mallory").await);
    let session = alice.start("puzzle").await;
    let right = right_answer(&alice, &session).await;
    let nothing = async |refused: Answer, status: u16, code: &str| {
        let before = history(&app).await;
        refused.problem(status, code);
        assert_eq!(history(&app).await, before, "{code}");
    };
    nothing(
        alice.verify(&session, 3).await,
        409,
        "milestone_out_of_order",
    )
    .await;
    nothing(
        alice.verify(&session, 2).await,
        409,
        "milestone_out_of_order",
    )
    .await;
    nothing(
        mallory.solve(&session, 1, &right).await,
        404,
        "session_not_found",
    )
    .await;
    alice.solve(&session, 1, &right).await.ok(200);
    nothing(
        alice.verify(&session, 3).await,
        409,
        "milestone_out_of_order",
    )
    .await;
    let ended = alice.end(&session).await.ok(200);
    assert_eq!(ended["status"], "incomplete");
    nothing(
        alice.verify(&session, 2).await,
        409,
        "session_already_ended",
    )
    .await;

    let late = alice.start("puzzle").await;
    app.travel("24 hours").await;
    alice
        .solve(&late, 1, "42")
        .await
        .problem(409, "session_expired");
    nothing(alice.solve(&late, 1, "42").await, 409, "session_expired").await;
}
