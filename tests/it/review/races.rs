//! Two users who decide at the same moment.

use serde_json::json;

use crate::support::{
    actor::{Actor, Answer},
    app::TestApp,
    race::race,
};

use super::audited;

const LOCK: &str = "select from public.submissions for update";

/// Sends two requests that wait for the same row, in this order. Returns both answers.
async fn in_turn(
    app: &TestApp,
    first: impl Future<Output = Answer> + Send + 'static,
    second: impl Future<Output = Answer> + Send + 'static,
) -> (Answer, Answer) {
    let gate = app.hold(LOCK).await;
    let first = race([first]);
    gate.until_waiting(1).await;
    let second = race([second]);
    gate.until_waiting(2).await;
    gate.release().await;
    (
        first.answers().await.remove(0),
        second.answers().await.remove(0),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approve_against_reject_by_two_moderators_leaves_one_decision() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let (mona, max) = (
        app.user_with_role("mona", "moderator").await,
        app.user_with_role("max", "moderator").await,
    );
    for (first, second) in [
        ("APPROVED", "REJECTED"),
        ("REJECTED", "APPROVED"),
        ("APPROVED", "APPROVED"),
    ] {
        let id = alice.hand_in().await;
        let decide = |moderator: &Actor, decision: &'static str| {
            let (moderator, id) = (moderator.clone(), id.clone());
            async move { moderator.review(&id, decision, 1).await }
        };
        let (won, lost) = in_turn(&app, decide(&mona, first), decide(&max, second)).await;
        assert_eq!(won.ok(200)["status"], first);
        let problem = lost.problem(409, "submission_already_reviewed");
        assert_eq!(problem["submissionStatus"], first);
        assert_eq!(alice.submission(&id).await.ok(200)["status"], first);
        let once = format!("{} mona speedcoding_api mona", first.to_lowercase());
        assert_eq!(
            audited(&app, &id).await,
            ["handed_in alice speedcoding_api", &once]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_against_the_runners_edit_decides_on_what_was_seen() {
    let app = TestApp::start().await;
    let (alice, mona) = (
        app.runner("alice").await,
        app.user_with_role("mona", "moderator").await,
    );
    for decision in ["APPROVED", "REJECTED"] {
        for edit_first in [true, false] {
            let id = alice.hand_in().await;
            let edit = {
                let (alice, id) = (alice.clone(), id.clone());
                async move {
                    alice
                        .edit(&id, json!({ "revision": 1, "packages": ["other"] }))
                        .await
                }
            };
            let judge = {
                let (mona, id) = (mona.clone(), id.clone());
                async move { mona.review(&id, decision, 1).await }
            };
            if edit_first {
                let (edited, judged) = in_turn(&app, edit, judge).await;
                assert_eq!(edited.ok(200)["revision"], 2);
                judged.problem(409, "stale_revision");
                assert_eq!(alice.submission(&id).await.ok(200)["status"], "PENDING");
            } else {
                let (judged, edited) = in_turn(&app, judge, edit).await;
                assert_eq!(judged.ok(200)["status"], decision);
                if decision == "APPROVED" {
                    edited.problem(409, "submission_approved");
                } else {
                    // The edit came after the rejection: it hands the run in again.
                    assert_eq!(edited.ok(200)["status"], "PENDING");
                }
            }
            assert_eq!(
                audited(&app, &id).await.len(),
                if edit_first || decision == "APPROVED" {
                    2
                } else {
                    3
                }
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moderator_who_is_demoted_or_banned_while_waiting_decides_nothing() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let changes = [
        "update public.users set role = 'runner'",
        "insert into public.bans (user_id) select id from public.users",
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let name = format!("mod-{number}");
        let moderator = app.user_with_role(&name, "moderator").await;
        let id = alice.hand_in().await;
        let gate = app.hold(LOCK).await;
        let decision = race([{
            let (moderator, id) = (moderator.clone(), id.clone());
            async move { moderator.review(&id, "APPROVED", 1).await }
        }]);
        gate.until_waiting(1).await;
        app.sql()
            .await
            .batch_execute(&format!("{change} where username = '{name}'"))
            .await
            .expect("a change");
        gate.release().await;
        decision
            .answers()
            .await
            .remove(0)
            .problem(403, "role_required");
        assert_eq!(
            audited(&app, &id).await,
            ["handed_in alice speedcoding_api"]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_claims_at_once_one_counts() {
    let app = TestApp::start_wide().await;
    let alice = app.runner("alice").await;
    let mut moderators = Vec::new();
    for number in 0..8 {
        moderators.push(
            app.user_with_role(&format!("mod-{number}"), "moderator")
                .await,
        );
    }
    let id = alice.hand_in().await;
    let gate = app.hold(LOCK).await;
    let claims = race(moderators.iter().map(|moderator| {
        let (moderator, id) = (moderator.clone(), id.clone());
        async move { moderator.claim(&id).await }
    }));
    gate.until_waiting(claims.len()).await;
    gate.release().await;
    let (won, lost): (Vec<_>, Vec<_>) = claims
        .answers()
        .await
        .into_iter()
        .partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for refused in lost {
        assert_eq!(
            refused.problem(409, "submission_claimed")["claimedBy"],
            won[0].body["claimedBy"]
        );
    }
}
