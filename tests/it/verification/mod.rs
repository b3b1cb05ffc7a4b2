//! Milestones that need more than the runner's word: the answer to the runner's own input, or a verifier's verdict.

mod answers;
mod secrecy;
mod verdicts;

use serde_json::json;

use crate::support::{
    actor::{Actor, text},
    app::TestApp,
};

/// Two challenges that an administrator adds in the dashboard. Each has a milestone of every kind: answer, verifier,
/// manual. One is ordered.
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

/// The right answer to the input of a session.
async fn right_answer(runner: &Actor, session: &str) -> String {
    let input = text(&runner.input(session, 1).await.ok(200), "/input");
    input.replace("input", "Señor")
}

/// A session whose first part is passed and whose second waits for a verifier.
async fn pending(runner: &Actor) -> String {
    let session = runner.start("puzzle").await;
    let right = right_answer(runner, &session).await;
    runner.solve(&session, 1, &right).await.ok(200);
    let asked = runner.verify(&session, 2).await.ok(200);
    assert_eq!(
        (&asked["passed"], &asked["pending"]),
        (&json!(false), &json!(true))
    );
    session
}

/// Everything that was recorded, as text.
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
