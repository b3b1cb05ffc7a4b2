//! Milestones that wait for a verifier's verdict.

use serde_json::{Value, json};

use crate::support::race::race;

use super::{app, history, pending};

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
    let passed = vera.attest(&session, 2, "pass").await.ok(200);
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
        vera.attest(&session, 2, "pass").await.ok(200),
        passed,
        "a retry"
    );
    assert_eq!(alice.verify(&session, 2).await.ok(200), passed);
    for verdict in ["fail", "error"] {
        vera.attest(&session, 2, verdict)
            .await
            .problem(409, "milestone_passed");
    }
    assert_eq!(history(&app).await, before);
    alice.verify(&session, 3).await.ok(200);
    let ended = alice.end(&session).await.ok(200);
    assert_eq!(ended["status"], "completed");
    assert_eq!(
        vera.attest(&session, 2, "pass").await.ok(200),
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
        let error = vera.attest(&session, 2, "error").await.ok(200);
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
    let failed = vera.attest(&session, 2, "fail").await.ok(200);
    assert_eq!(
        (&failed["pending"], &failed["attempts"]),
        (&json!(false), &json!(1))
    );
    let before = history(&app).await;
    assert_eq!(
        vera.attest(&session, 2, "fail").await.ok(200),
        failed,
        "a retry"
    );
    for (verifier, verdict) in [(&vera, "pass"), (&vera, "error"), (&wanda, "fail")] {
        verifier
            .attest(&session, 2, verdict)
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
    let passed = wanda.attest(&session, 2, "pass").await.ok(200);
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
        select string_agg(concat_ws(' ', details ->> 'verdict', actor, user_id::text = $1, subject_id::text = $2), ', ' order by id)
          from private.audit_trail
         where action = 'milestone.attested'";
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
    alice
        .attest(&session, 2, "pass")
        .await
        .problem(403, "own_run");
    for (name, role) in [("rudi", "runner"), ("mona", "moderator")] {
        let somebody = app.user_with_role(name, role).await;
        somebody
            .attest(&session, 2, "pass")
            .await
            .problem(403, "role_required");
        // The refusal does not tell whether the session exists.
        let missing = "00000000-0000-7000-8000-000000000000";
        somebody
            .attest(missing, 2, "pass")
            .await
            .problem(403, "role_required");
    }
    app.visitor()
        .attest(&session, 2, "pass")
        .await
        .problem(401, "missing_token");
    let vera = app.user_with_role("vera", "verifier").await;
    vera.attest("00000000-0000-7000-8000-000000000000", 2, "pass")
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
    let faults = vera.attest(&session, 2, "maybe").await.faults();
    assert_eq!(faults, [("verdict".to_owned(), "choice".to_owned())]);

    let owner = app.sql().await;
    for (change, code) in [
        ("update public.users set role = 'runner'", "role_required"),
        (
            "insert into public.bans (user_id) select id from public.users",
            "account_banned",
        ),
    ] {
        let change = format!("{change} where username = 'vera'");
        owner.batch_execute(&change).await.expect("a change");
        vera.attest(&session, 2, "pass").await.problem(403, code);
    }
    assert_eq!(history(&app).await, before, "nothing was recorded");
    let admin = app.user_with_role("root", "admin").await;
    assert_eq!(
        admin.attest(&session, 2, "pass").await.ok(200)["passed"],
        true
    );
}

#[tokio::test]
async fn what_is_attested_after_the_deadline_changes_nothing() {
    let app = app().await;
    let (alice, vera) = (
        app.runner("alice").await,
        app.user_with_role("vera", "verifier").await,
    );
    let late = pending(&alice).await;
    app.travel("24 hours").await;
    vera.attest(&late, 2, "pass")
        .await
        .problem(409, "session_expired");
    let read = alice.session(&late).await.ok(200);
    assert_eq!(read["status"], "expired");
    assert_eq!(read["milestones"][1]["passed"], false);
    assert_eq!(
        read["milestones"][1]["pending"], false,
        "nobody will attest any more"
    );
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
            verdicts.push(race([async move {
                verifier.attest(&session, 2, verdict).await
            }]));
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
        async move { vera.attest(&session, 2, "pass").await }
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
