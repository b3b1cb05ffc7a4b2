//! A kind of verification that the rules do not know yet. No milestone of such a kind can be passed.

use serde_json::{Value, json};

use crate::support::{actor::Answer, app::TestApp, cluster::first_column};

/// An ordered run of three milestones. The first of them waits for a verifier. Each has an input.
const CHALLENGE: &str = "
    insert into public.challenges (slug, title, required_milestones, ordered) values ('oracles', 'Oracles', 3, false);
    insert into public.challenge_milestones (challenge_id, number, title, verification)
    select id, number, 'Part ' || number, (array['verifier', 'answer', 'manual'])[number]::public.milestone_verification
      from public.challenges, generate_series(1, 3) as number
     where slug = 'oracles';
    insert into private.answer_variants (challenge_id, milestone_number, input, answer)
    select id, number, 'input', 'answer'
      from public.challenges, generate_series(1, 3) as number
     where slug = 'oracles';";

/// A change that triggers would refuse.
const FORCED: &str = "
    set session_replication_role = replica;
    update public.challenge_milestones
       set verification = 'oracle'
     where challenge_id = (select id from public.challenges where slug = 'oracles');
    reset session_replication_role;";

const HISTORY: &str = "
    select to_jsonb(m)::text from public.milestones as m
     union all
    select to_jsonb(s)::text from public.sessions as s
     union all
    select to_jsonb(a)::text from private.attestations as a
     union all
    select to_jsonb(a)::text from private.audit_log as a
     order by 1";

#[tokio::test]
async fn nothing_passes_by_a_kind_of_verification_that_the_rules_do_not_know() {
    let app = TestApp::start().await;
    let owner = app.sql().await;
    owner.batch_execute(CHALLENGE).await.expect("a challenge");
    let alice = app.runner("alice").await;
    let vera = app.user_with_role("vera", "verifier").await;
    let session = alice.start("oracles").await;
    assert_eq!(alice.verify(&session, 1).await.ok(200)["pending"], true);

    owner
        .batch_execute("alter type public.milestone_verification add value 'oracle'")
        .await
        .expect("a kind");
    owner.batch_execute(FORCED).await.expect("milestones");
    let before = first_column(&owner, HISTORY).await;

    // The milestone that waits for a verdict answers as before. The others are refused.
    assert_eq!(alice.verify(&session, 1).await.ok(200)["passed"], false);
    for number in [2, 3] {
        for answer in [Value::Null, json!("answer")] {
            let mut body = json!({ "sessionId": session, "milestoneNumber": number });
            if answer.is_string() {
                body["answer"] = answer;
            }
            refused(alice.post("/milestones/verify", body).await);
        }
    }
    for number in [1, 2, 3] {
        refused(
            alice
                .get(&format!("/sessions/{session}/milestones/{number}/input"))
                .await,
        );
        for verdict in ["pass", "fail", "error"] {
            let body =
                json!({ "sessionId": session, "milestoneNumber": number, "verdict": verdict });
            refused(vera.post("/milestones/attest", body).await);
        }
    }
    assert_eq!(first_column(&owner, HISTORY).await, before);
    // It ends, and waits for a verdict that nobody can give.
    let ended = alice.end(&session).await.ok(200);
    assert_eq!(ended["status"], "judging");

    // An administrator is refused too, by the rules that decide from the kind of a milestone.
    for statement in [
        "update public.challenges set active = false where slug = 'oracles';
         update public.challenges set active = true where slug = 'oracles'",
        "delete from private.answer_variants where milestone_number = 3",
        "update public.challenge_milestones set title = 'Delphi' where number = 3 and verification = 'oracle'",
        "insert into public.challenge_milestones (challenge_id, number, title, verification)
         select id, 4, 'Part 4', 'oracle' from public.challenges where slug = 'oracles'",
        "insert into public.challenge_milestones (challenge_id, number, title, verification)
         select id, 8, 'Part 8', 'oracle' from public.challenges where slug = 'freestyle'",
        "update public.challenge_milestones set verification = 'oracle' where verification = 'manual'",
    ] {
        let error = owner.batch_execute(statement).await.expect_err(statement);
        let error = error.as_db_error().expect(statement);
        assert_eq!(
            (error.code().code(), error.hint()),
            ("PT501", Some("verification_unknown")),
            "{statement}: {error:?}"
        );
    }
}

fn refused(answer: Answer) {
    let problem = answer.problem(501, "verification_unknown");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains(r#""oracle""#), "{detail}");
}
