//! Milestones that a runner cannot simply claim: answers to an input of one's own, and a verifier's verdict.

use serde_json::{Value, json};
use speedcoding::db::query;

use crate::support::{
    actor::{Actor, Answer, text},
    app::TestApp,
    race::race,
};

/// What an administrator adds in the dashboard: an answer, a verdict, the runner's word; in order, and in any.
const PUZZLES: &str = "
    insert into public.challenges (slug, title, required_milestones, ordered)
    values ('puzzle', 'Puzzle', 3, true), ('any-order', 'Puzzle in any order', 3, false);
    insert into public.challenge_milestones (challenge_id, number, title, verification)
    select id, number, 'Part ' || number, (array['answer', 'verifier', 'manual'])[number]::public.milestone_verification
      from public.challenges, generate_series(1, 3) as number
     where slug in ('puzzle', 'any-order');
    insert into private.answer_variants (challenge_id, milestone_number, input, answer)
    select id, 1, 'input ' || variant, 'Señor ' || variant
      from public.challenges, generate_series(1, 20) as variant
     where slug in ('puzzle', 'any-order');";

async fn app() -> TestApp {
    let app = TestApp::start().await;
    app.sql()
        .await
        .batch_execute(PUZZLES)
        .await
        .expect("puzzles");
    app
}

async fn answer(runner: &Actor, session: &str, answer: &str) -> Answer {
    let body = json!({ "sessionId": session, "milestoneNumber": 1, "answer": answer });
    runner.post("/milestones/verify", body).await
}

async fn attest(verifier: &Actor, session: &str, verdict: &str) -> Answer {
    let body = json!({
        "sessionId": session,
        "milestoneNumber": 2,
        "verdict": verdict,
        "evidence": "log of 2026",
        "checkerVersion": "1.4.0",
    });
    verifier.post("/milestones/attest", body).await
}

async fn input(runner: &Actor, session: &str, number: i64) -> Answer {
    runner
        .get(&format!("/sessions/{session}/milestones/{number}/input"))
        .await
}

/// What the input of a session is answered by.
async fn right_answer(runner: &Actor, session: &str) -> String {
    let input = text(&input(runner, session, 1).await.ok(200), "/input");
    input.replace("input", "Señor")
}

/// A session whose first part is passed and whose second waits for a verifier.
async fn pending(runner: &Actor) -> String {
    let session = runner.start("puzzle").await;
    let right = right_answer(runner, &session).await;
    answer(runner, &session, &right).await.ok(200);
    let asked = runner.verify(&session, 2).await.ok(200);
    assert_eq!(
        (&asked["passed"], &asked["pending"]),
        (&json!(false), &json!(true))
    );
    session
}

/// All that happened, as text.
async fn history(app: &TestApp) -> String {
    let everything = "
        select concat(
          (select json_agg(m order by m.id) from public.milestones as m),
          (select json_agg(s order by s.id) from public.sessions as s),
          (select json_agg(a order by a.id) from private.attestations as a),
          (select json_agg(a order by a.id) from private.audit_log as a where a.action like 'milestone.%'))";
    let row = app
        .sql()
        .await
        .query_one(everything, &[])
        .await
        .expect("history");
    row.get(0)
}

#[tokio::test]
async fn the_right_answer_to_ones_own_input_passes() {
    let app = app().await;
    let runner = app.runner("alice").await;
    let session = runner.start("puzzle").await;
    let right = right_answer(&runner, &session).await;
    let passed = answer(&runner, &session, &right).await.ok(200);
    assert_eq!(passed["passed"], true);
    assert_eq!(
        (&passed["attempts"], &passed["nextAttemptAt"]),
        (&json!(1), &Value::Null)
    );
    // A retry, with whatever answer, answers as the first time.
    assert_eq!(answer(&runner, &session, "else").await.ok(200), passed);
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
            answer(&runner, &session, &spell(&right)).await.ok(200)["passed"],
            true
        );
        runner.end(&session).await.ok(200);
    }
    for spell in [str::to_lowercase, |right: &str| right.replace(' ', "  ")] {
        let session = runner.start("any-order").await;
        let right = right_answer(&runner, &session).await;
        assert_eq!(
            answer(&runner, &session, &spell(&right)).await.ok(200)["passed"],
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
    let read = runner.get(&format!("/sessions/{session}")).await.ok(200);
    assert_eq!(read["milestones"], json!([]), "none of it was an attempt");
}

#[tokio::test]
async fn wrong_answers_wait_1_1_1_5_5_5_and_then_10_minutes() {
    let app = app().await;
    let runner = app.runner("alice").await;
    app.stop_clock().await;
    let session = runner.start("puzzle").await;
    let right = right_answer(&runner, &session).await;
    for (minutes, attempt) in [1, 1, 1, 5, 5, 5, 10, 10].into_iter().zip(1..) {
        let wrong = answer(&runner, &session, "42").await.ok(200);
        assert_eq!(
            (&wrong["passed"], &wrong["attempts"]),
            (&json!(false), &json!(attempt))
        );
        let before = history(&app).await;
        for (waited, left) in [("0", minutes * 60), ("30 seconds", minutes * 60 - 30)] {
            app.travel(waited).await;
            for given in ["43", &right] {
                let early = answer(&runner, &session, given).await;
                assert_eq!(early.headers["retry-after"], left.to_string());
                let problem = early.problem(429, "attempt_cooldown");
                assert_eq!(problem["nextAttemptAt"], wrong["nextAttemptAt"]);
            }
        }
        app.travel(&format!("{} seconds", minutes * 60 - 31)).await;
        app.travel("999 milliseconds").await;
        let early = answer(&runner, &session, &right).await;
        assert_eq!(early.headers["retry-after"], "1");
        early.problem(429, "attempt_cooldown");
        assert_eq!(
            history(&app).await,
            before,
            "refused unjudged and unrecorded"
        );
        app.travel("1 millisecond").await;
    }
    let passed = answer(&runner, &session, &right).await.ok(200);
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
        async move { answer(&runner, &session, &format!("guess {number}")).await }
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
    let read = runner.get(&format!("/sessions/{session}")).await.ok(200);
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
        answer(&bob, &his, &her_answer).await.ok(200)["passed"],
        false
    );
    assert_eq!(
        answer(&alice, &hers, &her_answer).await.ok(200)["passed"],
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
    let shown = input(&alice, &session, 1).await.ok(200);
    for _ in 0..5 {
        assert_eq!(
            input(&alice, &session, 1).await.ok(200),
            shown,
            "it is kept"
        );
    }
    let problem = input(&alice, &session, 2)
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
        input(&somebody, &session, 1).await.problem(status, code);
    }
    let right = right_answer(&alice, &session).await;
    answer(&alice, &session, &right).await.ok(200);
    assert_eq!(
        input(&alice, &session, 2).await.ok(200)["input"],
        "second input"
    );
    assert_eq!(
        input(&alice, &session, 1).await.ok(200),
        shown,
        "looking back"
    );
    alice.end(&session).await.ok(200);
    input(&alice, &session, 1)
        .await
        .problem(409, "session_already_ended");

    // In any order means: at once, but in the run.
    let free = alice.start("any-order").await;
    assert_eq!(
        input(&alice, &free, 2).await.ok(200)["input"],
        "second input"
    );
    for number in [3, 4, 0, -1, i64::from(i32::MAX)] {
        input(&alice, &free, number)
            .await
            .problem(404, "input_not_found");
    }
    assert_eq!(
        input(&alice, &free, 1 << 40).await.faults(),
        [("number".to_owned(), "format".to_owned())]
    );
    app.travel("25 hours").await;
    input(&alice, &free, 2)
        .await
        .problem(409, "session_expired");
    input(&alice, "00000000-0000-7000-8000-000000000000", 1)
        .await
        .problem(404, "session_not_found");
}

#[tokio::test]
async fn of_an_answer_nothing_but_a_salted_digest_is_kept() {
    let app = app().await;
    let rows = app
        .sql()
        .await
        .query(
            "select v::text, salt, digest from private.answer_variants as v",
            &[],
        )
        .await
        .expect("variants");
    let mut salts = std::collections::BTreeSet::new();
    for row in &rows {
        assert!(!row.get::<_, &str>(0).contains("Señor"));
        assert_eq!(row.get::<_, &[u8]>(2).len(), 32);
        salts.insert(row.get::<_, Vec<u8>>(1));
    }
    assert_eq!(salts.len(), 40, "each has a salt of its own");
}

#[tokio::test]
async fn a_verifier_passes_a_milestone_as_of_when_its_runner_asked() {
    let app = app().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    app.stop_clock().await;
    let session = pending(&alice).await;
    app.travel("10 minutes").await;
    let again = alice.verify(&session, 2).await.ok(200);
    assert_eq!(
        (&again["pending"], &again["attempts"]),
        (&json!(true), &json!(0))
    );
    alice
        .verify(&session, 3)
        .await
        .problem(409, "milestone_out_of_order");
    app.travel("10 minutes").await;
    let passed = attest(&vera, &session, "pass").await.ok(200);
    assert_eq!(
        (
            &passed["passed"],
            &passed["pending"],
            &passed["splitMs"],
            &passed["attempts"]
        ),
        (&json!(true), &json!(false), &json!(0), &json!(1))
    );
    let before = history(&app).await;
    app.travel("10 minutes").await;
    assert_eq!(
        attest(&vera, &session, "pass").await.ok(200),
        passed,
        "a retry"
    );
    assert_eq!(alice.verify(&session, 2).await.ok(200), passed);
    for verdict in ["fail", "error"] {
        attest(&vera, &session, verdict)
            .await
            .problem(409, "milestone_passed");
    }
    assert_eq!(history(&app).await, before);
    alice.verify(&session, 3).await.ok(200);
    let ended = alice.end(&session).await.ok(200);
    assert_eq!(ended["status"], "completed");
    assert_eq!(
        attest(&vera, &session, "pass").await.ok(200),
        passed,
        "also after the end"
    );
}

#[tokio::test]
async fn a_failed_verdict_counts_and_waits_and_an_error_costs_nothing() {
    let app = app().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let wanda = app.user_with_role("wanda", "verifier").await;
    app.stop_clock().await;
    let session = pending(&alice).await;
    let body = json!({
        "sessionId": session, "milestoneNumber": 2, "verdict": "pass", "checkerVersion": "1\u{1b}[2J",
    });
    let refused = vera.post("/milestones/attest", body).await;
    assert_eq!(
        refused.faults(),
        [("checkerVersion".to_owned(), "invalid".to_owned())]
    );
    for _ in 0..2 {
        let error = attest(&vera, &session, "error").await.ok(200);
        assert_eq!(
            (
                &error["passed"],
                &error["pending"],
                &error["attempts"],
                &error["nextAttemptAt"]
            ),
            (&json!(false), &json!(true), &json!(0), &Value::Null)
        );
    }
    app.travel("1 minute").await;
    let failed = attest(&vera, &session, "fail").await.ok(200);
    assert_eq!(
        (&failed["pending"], &failed["attempts"]),
        (&json!(false), &json!(1))
    );
    let before = history(&app).await;
    assert_eq!(
        attest(&vera, &session, "fail").await.ok(200),
        failed,
        "a retry"
    );
    for (verifier, verdict) in [(&vera, "pass"), (&vera, "error"), (&wanda, "fail")] {
        attest(verifier, &session, verdict)
            .await
            .problem(409, "milestone_not_pending");
    }
    let early = alice
        .verify(&session, 2)
        .await
        .problem(429, "attempt_cooldown");
    assert_eq!(early["nextAttemptAt"], failed["nextAttemptAt"]);
    assert_eq!(history(&app).await, before);

    app.travel("1 minute").await;
    assert_eq!(alice.verify(&session, 2).await.ok(200)["pending"], true);
    let passed = attest(&wanda, &session, "pass").await.ok(200);
    assert_eq!(
        (
            &passed["splitMs"],
            &passed["attempts"],
            &passed["nextAttemptAt"]
        ),
        (&json!(120_000), &json!(2), &Value::Null)
    );

    let rows = app
        .sql()
        .await
        .query(
            "select a.verdict, a.evidence, a.checker_version, u.username
               from private.attestations as a join public.users as u on u.id = a.attested_by order by a.id",
            &[],
        )
        .await
        .expect("attestations");
    let kept: Vec<[&str; 4]> = rows
        .iter()
        .map(|row| [row.get(0), row.get(1), row.get(2), row.get(3)])
        .collect();
    let of = |verdict, who| [verdict, "log of 2026", "1.4.0", who];
    assert_eq!(
        kept,
        [
            of("error", "vera"),
            of("error", "vera"),
            of("fail", "vera"),
            of("pass", "wanda")
        ]
    );
    let audited = "
        select string_agg(concat_ws(' ', a.details ->> 'verdict', u.username, a.user_id::text = $1, a.subject_id::text = $2), ', ' order by a.id)
          from private.audit_log as a join public.users as u on u.id = a.actor_id
         where a.action = 'milestone.attested'";
    let row = app
        .sql()
        .await
        .query_one(audited, &[&alice.id, &session])
        .await
        .expect("the audit log");
    assert_eq!(
        row.get::<_, &str>(0),
        "error vera t t, error vera t t, fail vera t t, pass wanda t t"
    );
}

#[tokio::test]
async fn verdicts_come_from_verifiers_on_others_runs_that_wait_for_one() {
    let app = app().await;
    let alice = app.user_with_role("alice", "verifier").await;
    let session = pending(&alice).await;
    let before = history(&app).await;
    attest(&alice, &session, "pass")
        .await
        .problem(403, "own_run");
    for (name, role) in [("rudi", "runner"), ("mona", "moderator")] {
        let somebody = app.user_with_role(name, role).await;
        attest(&somebody, &session, "pass")
            .await
            .problem(403, "role_required");
        // Nor does the answer tell whether there is such a session.
        let missing = "00000000-0000-7000-8000-000000000000";
        attest(&somebody, missing, "pass")
            .await
            .problem(403, "role_required");
    }
    attest(&app.visitor(), &session, "pass")
        .await
        .problem(401, "missing_token");
    let vera = app.user_with_role("vera", "verifier").await;
    attest(&vera, "00000000-0000-7000-8000-000000000000", "pass")
        .await
        .problem(404, "session_not_found");
    for (number, status, code) in [
        (1, 409, "milestone_passed"),
        (3, 409, "milestone_not_pending"),
        (4, 400, "unknown_milestone"),
    ] {
        let body = json!({ "sessionId": session, "milestoneNumber": number, "verdict": "fail" });
        vera.post("/milestones/attest", body)
            .await
            .problem(status, code);
    }
    let faults = attest(&vera, &session, "maybe").await.faults();
    assert_eq!(faults, [("verdict".to_owned(), "choice".to_owned())]);

    let owner = app.sql().await;
    for (change, code) in [
        ("role = 'runner'", "role_required"),
        ("role = 'verifier', banned_at = now()", "account_banned"),
    ] {
        let update = format!("update public.users set {change} where username = 'vera'");
        owner.batch_execute(&update).await.expect("a change");
        attest(&vera, &session, "pass").await.problem(403, code);
    }
    assert_eq!(history(&app).await, before, "nothing came of it");
    let admin = app.user_with_role("root", "admin").await;
    assert_eq!(
        attest(&admin, &session, "pass").await.ok(200)["passed"],
        true
    );
}

#[tokio::test]
async fn what_is_attested_after_the_end_changes_nothing() {
    let app = app().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let session = pending(&alice).await;
    let ended = alice.end(&session).await.ok(200);
    assert_eq!(ended["status"], "incomplete");
    assert_eq!(
        ended["milestones"][1]["pending"], false,
        "nobody will attest any more"
    );
    attest(&vera, &session, "pass")
        .await
        .problem(409, "session_already_ended");
    let late = pending(&alice).await;
    app.travel("24 hours").await;
    attest(&vera, &late, "pass")
        .await
        .problem(409, "session_expired");
    let read = alice.get(&format!("/sessions/{late}")).await.ok(200);
    assert_eq!(read["status"], "expired");
    assert_eq!(read["milestones"][1]["passed"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pass_against_fail_by_two_verifiers_leaves_one_verdict() {
    let app = app().await;
    let alice = app.runner("alice").await;
    let vera = app.user_with_role("vera", "verifier").await;
    let wanda = app.user_with_role("wanda", "verifier").await;
    for first in ["pass", "fail"] {
        let session = pending(&alice).await;
        let gate = app.hold("select from public.sessions for update").await;
        let second = if first == "pass" { "fail" } else { "pass" };
        let mut verdicts = Vec::new();
        for (verifier, verdict) in [(&vera, first), (&wanda, second)] {
            let (verifier, session) = (verifier.clone(), session.clone());
            verdicts.push(race([
                async move { attest(&verifier, &session, verdict).await },
            ]));
            gate.until_waiting(verdicts.len()).await;
        }
        gate.release().await;
        let won = verdicts.remove(0).answers().await.remove(0).ok(200);
        assert_eq!(won["passed"], first == "pass");
        let code = if first == "pass" {
            "milestone_passed"
        } else {
            "milestone_not_pending"
        };
        verdicts
            .remove(0)
            .answers()
            .await
            .remove(0)
            .problem(409, code);
        alice.end(&session).await.ok(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_who_is_demoted_while_waiting_decides_nothing() {
    let app = app().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let session = pending(&alice).await;
    let gate = app.hold("select from public.sessions for update").await;
    let verdict = race([{
        let (vera, session) = (vera.clone(), session.clone());
        async move { attest(&vera, &session, "pass").await }
    }]);
    gate.until_waiting(1).await;
    app.sql()
        .await
        .batch_execute("update public.users set role = 'runner' where username = 'vera'")
        .await
        .expect("a demotion");
    gate.release().await;
    verdict
        .answers()
        .await
        .remove(0)
        .problem(403, "role_required");
    assert_eq!(alice.verify(&session, 2).await.ok(200)["pending"], true);
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
        async move { input(&runner, &session, 1).await }
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
        answer(&mallory, &session, &right).await,
        404,
        "session_not_found",
    )
    .await;
    answer(&alice, &session, &right).await.ok(200);
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
    answer(&alice, &late, "42")
        .await
        .problem(409, "session_expired");
    nothing(answer(&alice, &late, "42").await, 409, "session_expired").await;
}

/// The service alone may not read what is right: only compare.
#[tokio::test]
async fn nobody_but_the_owner_reads_answers_inputs_and_evidence() {
    let app = app().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let session = pending(&alice).await;
    attest(&vera, &session, "error").await.ok(200);
    assert!(
        query::ALL
            .iter()
            .all(|query| !query.sql.contains("answer_variants"))
    );
    for role in ["anon", "authenticated", "service_role", "speedcoding_api"] {
        let client = app.database.role(role, None).await;
        for table in ["answer_variants", "session_inputs", "attestations"] {
            let refused = client
                .query(&format!("select * from private.{table}"), &[])
                .await
                .expect_err(table);
            assert_eq!(
                refused.code().map(|code| code.code()),
                Some("42501"),
                "{role}: {table}"
            );
        }
    }
    let seen = alice
        .get(&format!("/sessions/{session}"))
        .await
        .ok(200)
        .to_string();
    assert!(!seen.contains("log of 2026") && !seen.contains(&vera.id));
}
