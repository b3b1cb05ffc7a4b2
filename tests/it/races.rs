//! Requests at the same moment: in any order, they leave one consistent history.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    actor::{Actor, Answer, text},
    app::TestApp,
    race::race,
};

const SESSIONS: &str = "select from public.sessions for update";
const ALL_SESSIONS: &str = "lock table public.sessions in access exclusive mode";

/// States that no order of requests may leave behind.
const INCONSISTENT: &str = "
    select 'milestone outside its session', m.id from public.milestones as m
      join public.sessions as s on s.id = m.session_id
     where m.completed_at < s.start_time or m.completed_at > s.end_time
    union all
    select 'submission without completion, or the reverse', s.id from public.sessions as s
      left join public.submissions as h on h.session_id = s.id
     where (h.id is not null) <> (s.status = 'completed')
    union all
    select 'submission with other times', s.id from public.sessions as s
      join public.submissions as h on h.session_id = s.id
     where (h.total_ms, h.end_time) is distinct from (s.total_ms, s.end_time)
    union all
    select 'completed with too few, or incomplete with enough', s.id from public.sessions as s
      join public.challenges as c on c.id = s.challenge_id
     where s.status in ('completed', 'incomplete')
       and (s.status = 'completed') <> (c.required_milestones <=
             (select count(*) from public.milestones as m where m.session_id = s.id and m.passed))
    union all
    select 'two sessions at once', a.id from public.sessions as a
      join public.sessions as b on b.user_id = a.user_id and b.id > a.id
     where b.start_time < coalesce(a.end_time, 'infinity') and a.start_time < coalesce(b.end_time, 'infinity')
    union all
    select 'milestones out of order', m.id from public.milestones as m
      join public.sessions as s on s.id = m.session_id
      join public.challenges as c on c.id = s.challenge_id
     where c.ordered and m.milestone_number > 1
       and not exists (select from public.milestones as before
                        where before.session_id = m.session_id
                          and before.milestone_number = m.milestone_number - 1
                          and before.completed_at <= m.completed_at)";

async fn assert_consistent(app: &TestApp) {
    let rows = app
        .sql()
        .await
        .query(INCONSISTENT, &[])
        .await
        .expect("history");
    let found: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert!(found.is_empty(), "{found:?}");
}

async fn count(app: &TestApp, table: &str) -> i64 {
    app.sql()
        .await
        .query_one(&format!("select count(*) from {table}"), &[])
        .await
        .expect("a count")
        .get(0)
}

async fn start(runner: Actor) -> Answer {
    let body = json!({ "techStack": "Rust", "challenge": "slack-clone" });
    runner.start_with(body).await
}

async fn verify(runner: Actor, session: String, number: i64) -> Answer {
    runner.verify(&session, number).await
}

async fn end(runner: Actor, session: String, packages: Value) -> Answer {
    runner.end_with(&session, packages, Value::Null).await
}

/// The answers with this status, and the others.
fn split(answers: Vec<Answer>, status: u16) -> (Vec<Answer>, Vec<Answer>) {
    answers
        .into_iter()
        .partition(|answer| answer.status == status)
}

fn timeless(mut session: Value) -> String {
    session["serverTime"] = Value::Null;
    session.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_parallel_starts_one_starts_and_the_others_name_it() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    let gate = app.hold(ALL_SESSIONS).await;
    let starts = race((0..50).map(|_| start(runner.clone())));
    gate.until_waiting(starts.len()).await;
    gate.release().await;
    let (won, lost) = split(starts.answers().await, 201);
    assert_eq!((won.len(), lost.len()), (1, 49));
    let session = text(&won[0].body, "/id");
    for answer in lost {
        assert_eq!(
            answer.problem(409, "session_already_running")["sessionId"],
            session
        );
    }
    assert_eq!(count(&app, "public.sessions").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_starts_through_the_default_pool_are_all_answered() {
    let app = TestApp::start().await;
    let runner = app.runner("alice").await;
    let (won, lost) = split(
        race((0..50).map(|_| start(runner.clone()))).answers().await,
        201,
    );
    assert_eq!(won.len(), 1);
    for answer in lost {
        answer.problem(409, "session_already_running");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_runners_start_at_once_without_holding_each_other_up() {
    let app = TestApp::start_wide().await;
    let mut runners = Vec::new();
    for number in 0..10 {
        runners.push(app.runner(&format!("runner-{number}")).await);
    }
    let gate = app.hold(ALL_SESSIONS).await;
    let starts = race((0..50).map(|number| start(runners[number % 10].clone())));
    gate.until_waiting(starts.len()).await;
    gate.release().await;
    let (won, lost) = split(starts.answers().await, 201);
    let users: BTreeSet<_> = won
        .iter()
        .map(|answer| text(&answer.body, "/userId"))
        .collect();
    assert_eq!((won.len(), users.len(), lost.len()), (10, 10, 40));
    assert_consistent(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_parallel_starts_after_the_deadline_one_starts_and_the_old_session_expires() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    let old = runner.start("slack-clone").await;
    app.travel("24 hours").await;
    let gate = app.hold(SESSIONS).await;
    let starts = race((0..20).map(|_| start(runner.clone())));
    gate.until_waiting(starts.len()).await;
    gate.release().await;
    let (won, lost) = split(starts.answers().await, 201);
    assert_eq!((won.len(), lost.len()), (1, 19));
    for answer in lost {
        let named = &answer.problem(409, "session_already_running")["sessionId"];
        assert_eq!(*named, won[0].body["id"]);
        assert_ne!(*named, old.as_str());
    }
    assert_consistent(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_parallel_ends_with_different_data_one_counts() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    let gate = app.hold(SESSIONS).await;
    let ends = race((0..20).map(|number| {
        end(
            runner.clone(),
            session.clone(),
            json!([format!("package-{number}")]),
        )
    }));
    gate.until_waiting(ends.len()).await;
    gate.release().await;
    let (won, lost) = split(ends.answers().await, 200);
    assert_eq!((won.len(), lost.len()), (1, 19));
    for answer in lost {
        answer.problem(409, "session_already_ended");
    }
    assert_eq!(count(&app, "public.submissions").await, 1);
    let won = won[0].body.clone();
    let read = runner.session(&session).await.ok(200);
    assert_eq!(timeless(read), timeless(won.clone()));
    // A repeated request gets the same answer.
    let packages = won["submission"]["packages"].clone();
    let replay = end(runner.clone(), session, packages).await.ok(200);
    assert_eq!(timeless(replay), timeless(won));
    assert_consistent(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_parallel_ends_with_the_same_data_are_answered_alike() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    for challenge in ["freestyle", "slack-clone"] {
        let session = runner.start(challenge).await;
        let gate = app.hold(SESSIONS).await;
        let ends = race((0..20).map(|_| end(runner.clone(), session.clone(), json!(["poem"]))));
        gate.until_waiting(ends.len()).await;
        gate.release().await;
        let answers: BTreeSet<_> = ends
            .answers()
            .await
            .into_iter()
            .map(|answer| timeless(answer.ok(200)))
            .collect();
        assert_eq!(answers.len(), 1, "{answers:#?}");
    }
    assert_eq!(count(&app, "public.submissions").await, 1);
    assert_consistent(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_parallel_verifications_of_one_milestone_pass_it_once() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    let session = runner.start("slack-clone").await;
    let gate = app.hold(SESSIONS).await;
    let verifications = race((0..50).map(|_| verify(runner.clone(), session.clone(), 1)));
    gate.until_waiting(verifications.len()).await;
    gate.release().await;
    let answers: BTreeSet<_> = verifications
        .answers()
        .await
        .into_iter()
        .map(|answer| answer.ok(200).to_string())
        .collect();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert_eq!(count(&app, "public.milestones").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_verifications_at_once_pass_consecutive_milestones() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    for round in 0..10 {
        let session = runner.start("slack-clone").await;
        let gate = app.hold(SESSIONS).await;
        // By turns: forwards, backwards, and in the order in which they arrive.
        let mut numbers: Vec<i64> = (1..=7).collect();
        if round % 3 == 1 {
            numbers.reverse();
        }
        let verifications = race(
            numbers
                .iter()
                .map(|number| verify(runner.clone(), session.clone(), *number)),
        );
        gate.until_waiting(verifications.len()).await;
        gate.release().await;
        let (passed, refused) = split(verifications.answers().await, 200);
        for answer in refused {
            answer.problem(409, "milestone_out_of_order");
        }
        let read = runner.session(&session).await.ok(200);
        let milestones = read["milestones"].as_array().expect("milestones");
        assert!(!passed.is_empty(), "the first was in order");
        assert_eq!(milestones.len(), passed.len());
        for (milestone, number) in milestones.iter().zip(1..) {
            assert_eq!(milestone["milestoneNumber"], number);
        }
        assert!(milestones.is_sorted_by_key(|milestone| text(milestone, "/completedAt")));
        runner.end(&session).await.ok(200);
    }
    assert_consistent(&app).await;
}

/// A session of `slack-clone` that lacks its last milestone.
async fn almost_done(runner: &Actor) -> String {
    let session = runner.start("slack-clone").await;
    for number in 1..=6 {
        runner.verify(&session, number).await.ok(200);
    }
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_queues_behind_the_last_verification_completes_the_run() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    let session = almost_done(&runner).await;
    let gate = app.hold(SESSIONS).await;
    let first = race([verify(runner.clone(), session.clone(), 7)]);
    gate.until_waiting(1).await;
    let second = race([end(runner.clone(), session.clone(), json!([]))]);
    gate.until_waiting(2).await;
    gate.release().await;
    let last = first.answers().await.remove(0).ok(200);
    let ended = second.answers().await.remove(0).ok(200);
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["milestones"][6], last);
    assert!(last["completedAt"].as_str() <= ended["endTime"].as_str());
    assert_consistent(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_that_queues_behind_the_end_comes_too_late() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    let session = almost_done(&runner).await;
    let gate = app.hold(SESSIONS).await;
    let first = race([end(runner.clone(), session.clone(), json!([]))]);
    gate.until_waiting(1).await;
    let second = race([verify(runner.clone(), session.clone(), 7)]);
    gate.until_waiting(2).await;
    gate.release().await;
    let ended = first.answers().await.remove(0).ok(200);
    assert_eq!(
        (&ended["status"], &ended["submission"]),
        (&json!("incomplete"), &Value::Null)
    );
    second
        .answers()
        .await
        .remove(0)
        .problem(409, "session_already_ended");
    assert_consistent(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_past_the_deadline_finds_the_session_expired() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    let session = runner.start("freestyle").await;
    let gate = app.hold(SESSIONS).await;
    let ends = race([end(runner.clone(), session.clone(), json!([]))]);
    let verifications = race([verify(runner.clone(), session.clone(), 1)]);
    gate.until_waiting(2).await;
    app.travel("24 hours").await;
    gate.release().await;
    ends.answers()
        .await
        .remove(0)
        .problem(409, "session_expired");
    verifications
        .answers()
        .await
        .remove(0)
        .problem(409, "session_expired");
    assert_consistent(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_against_verifications_leave_one_history() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    for round in 0..40 {
        let session = runner.start("freestyle").await;
        let mut requests: Vec<_> = (1..=7)
            .map(|number| race([verify(runner.clone(), session.clone(), number)]))
            .collect();
        let ends = race([end(runner.clone(), session.clone(), json!([]))]);
        requests.rotate_left(round % 7);
        let mut passed = 0;
        for request in requests {
            let answer = request.answers().await.remove(0);
            if answer.status == 200 {
                passed += 1;
            } else {
                answer.problem(409, "session_already_ended");
            }
        }
        let ended = ends.answers().await.remove(0).ok(200);
        assert_eq!(ended["milestones"].as_array().map(Vec::len), Some(passed));
        assert_eq!(ended["status"], "completed");
    }
    assert_consistent(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_verification_against_the_end_decides_whether_the_run_is_completed() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    for round in 0..20 {
        let session = almost_done(&runner).await;
        let (last, ended) = if round % 2 == 0 {
            let last = race([verify(runner.clone(), session.clone(), 7)]);
            (
                last,
                race([end(runner.clone(), session.clone(), json!([]))]),
            )
        } else {
            let ended = race([end(runner.clone(), session.clone(), json!([]))]);
            (race([verify(runner.clone(), session.clone(), 7)]), ended)
        };
        let last = last.answers().await.remove(0);
        let ended = ended.answers().await.remove(0).ok(200);
        if last.status == 200 {
            assert_eq!(ended["status"], "completed");
        } else {
            last.problem(409, "session_already_ended");
            assert_eq!(ended["status"], "incomplete");
        }
    }
    assert_consistent(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_against_ends_never_leave_two_sessions_at_once() {
    let app = TestApp::start_wide().await;
    let runner = app.runner("alice").await;
    let mut session = runner.start("slack-clone").await;
    for round in 0..20 {
        let gate = app.hold(SESSIONS).await;
        // By turns the end comes first, the starts come first, or both come at once.
        let (ends, starts) = if round % 2 == 0 {
            let ends = race([end(runner.clone(), session.clone(), json!([]))]);
            gate.until_waiting(1).await;
            (ends, race((0..4).map(|_| start(runner.clone()))))
        } else {
            let starts = race((0..4).map(|_| start(runner.clone())));
            gate.until_waiting(1).await;
            (
                race([end(runner.clone(), session.clone(), json!([]))]),
                starts,
            )
        };
        gate.until_waiting(2).await;
        gate.release().await;
        ends.answers().await.remove(0).ok(200);
        let (won, lost) = split(starts.answers().await, 201);
        assert!(won.len() <= 1);
        for answer in lost {
            answer.problem(409, "session_already_running");
        }
        session = match won.first() {
            Some(answer) => text(&answer.body, "/id"),
            None => runner.start("slack-clone").await,
        };
    }
    assert_consistent(&app).await;
}
