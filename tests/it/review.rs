//! What runners hand in and what moderators make of it, through the API and in the dashboard.

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use speedcoding::db::migrate::migrate;
use tokio_postgres::Client;

use crate::{
    lookalike,
    support::{
        actor::{Actor, Answer, answer, text},
        app::TestApp,
        cluster::{Database, done, refused},
        race::race,
    },
};

const MISSING: &str = "00000000-0000-7000-8000-000000000000";
const VIDEO: &str = "https://youtu.be/abc";
const LOCK: &str = "select from public.submissions for update";

/// Hands in a run of slack-clone; the submission's id.
async fn hand_in(runner: &Actor) -> String {
    text(&runner.complete_run().await, "/submission/id")
}

async fn read(actor: &Actor, id: &str) -> Answer {
    actor.get(&format!("/submissions/{id}")).await
}

async fn claim(actor: &Actor, id: &str) -> Answer {
    answer(actor.request(Method::POST, &format!("/submissions/{id}/claim"))).await
}

async fn release(actor: &Actor, id: &str) -> Answer {
    answer(actor.request(Method::DELETE, &format!("/submissions/{id}/claim"))).await
}

async fn review(actor: &Actor, id: &str, decision: &str, revision: i64) -> Answer {
    let body = json!({ "decision": decision, "revision": revision, "reason": "because" });
    actor.post(&format!("/submissions/{id}/review"), body).await
}

async fn reopen(actor: &Actor, id: &str) -> Answer {
    let body = json!({ "reason": "once more" });
    actor.post(&format!("/submissions/{id}/reopen"), body).await
}

async fn update(actor: &Actor, id: &str, body: Value) -> Answer {
    answer(
        actor
            .request(Method::PATCH, &format!("/submissions/{id}"))
            .json(&body),
    )
    .await
}

/// The ids of a page, and its cursor.
async fn page(actor: &Actor, query: &str) -> (Vec<String>, Option<String>) {
    let page = actor.get(&format!("/submissions?{query}")).await.ok(200);
    let items = page["items"].as_array().expect("items");
    (
        items.iter().map(|item| text(item, "/id")).collect(),
        page["nextCursor"].as_str().map(str::to_owned),
    )
}

/// What the audit log says of a submission: what happened, who did it as which role, what else is known.
async fn audited(app: &TestApp, id: &str) -> Vec<String> {
    let rows = app
        .sql()
        .await
        .query(
            "select concat_ws(' ', substr(a.action, 12), coalesce(u.username, '-'), a.database_role, r.username)
               from private.audit_log as a
               left join public.users as u on u.id = a.actor_id
               left join public.users as r on r.id::text = a.details ->> 'reviewedBy'
              where a.subject_id = $1::text::uuid and a.action like 'submission.%'
              order by a.id",
            &[&id],
        )
        .await
        .expect("the audit log");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_submission_goes_from_hand_to_hand_and_each_step_is_one_audit_row() {
    let app = TestApp::start().await;
    let (alice, mona) = (
        app.runner("alice").await,
        app.user_with_role("mona", "moderator").await,
    );
    let id = hand_in(&alice).await;
    let pending = read(&alice, &id).await.ok(200);
    assert_eq!(
        (&pending["status"], &pending["revision"]),
        (&json!("PENDING"), &json!(1))
    );

    let taken = claim(&mona, &id).await.ok(200);
    assert_eq!(taken["claimedBy"], mona.id);
    assert_eq!(claim(&mona, &id).await.ok(200), taken, "a retry");
    assert_eq!(release(&mona, &id).await.ok(200)["claimedBy"], Value::Null);
    assert_eq!(
        release(&mona, &id).await.ok(200)["claimedBy"],
        Value::Null,
        "a retry"
    );
    claim(&mona, &id).await.ok(200);

    let rejected = review(&mona, &id, "REJECTED", 1).await.ok(200);
    assert_eq!(
        (
            &rejected["status"],
            &rejected["reviewReason"],
            &rejected["claimedBy"]
        ),
        (&json!("REJECTED"), &json!("because"), &Value::Null)
    );
    assert!(rejected["reviewedAt"].is_string());
    assert_eq!(
        read(&alice, &id).await.ok(200),
        rejected,
        "its runner may know why"
    );

    app.travel("1 hour").await;
    let again = update(&alice, &id, json!({ "revision": 1, "packages": ["axum"] }))
        .await
        .ok(200);
    assert_eq!(
        (
            &again["status"],
            &again["revision"],
            &again["packages"],
            &again["videoUrl"]
        ),
        (
            &json!("PENDING"),
            &json!(2),
            &json!(["axum"]),
            &json!(VIDEO)
        )
    );
    assert_eq!(again["reviewedAt"], Value::Null);
    assert!(
        again["submittedAt"].as_str() > pending["submittedAt"].as_str(),
        "behind the others"
    );
    let edited = update(
        &alice,
        &id,
        json!({ "revision": 2, "videoUrl": "https://vimeo.com/1" }),
    )
    .await
    .ok(200);
    assert_eq!(
        (&edited["revision"], &edited["submittedAt"]),
        (&json!(3), &again["submittedAt"])
    );
    let same = update(&alice, &id, json!({ "revision": 3, "packages": ["axum"] }))
        .await
        .ok(200);
    assert_eq!(same, edited, "nothing changed");

    let approved = review(&mona, &id, "APPROVED", 3).await.ok(200);
    assert_eq!(
        (
            &approved["status"],
            &approved["reviewReason"],
            &approved["revision"]
        ),
        (&json!("APPROVED"), &json!("because"), &json!(3))
    );
    update(&alice, &id, json!({ "revision": 3, "packages": [] }))
        .await
        .problem(409, "submission_approved");
    let problem = review(&mona, &id, "REJECTED", 3)
        .await
        .problem(409, "submission_already_reviewed");
    assert_eq!(problem["submissionStatus"], "APPROVED");
    claim(&mona, &id)
        .await
        .problem(409, "submission_already_reviewed");

    let reopened = reopen(&mona, &id).await.ok(200);
    assert_eq!(
        (
            &reopened["status"],
            &reopened["reviewReason"],
            &reopened["revision"]
        ),
        (&json!("PENDING"), &json!("once more"), &json!(4))
    );
    assert_eq!(
        reopened["submittedAt"], again["submittedAt"],
        "it keeps its place in the queue"
    );
    reopen(&mona, &id).await.problem(409, "submission_pending");

    assert_eq!(
        audited(&app, &id).await,
        [
            "handed_in alice speedcoding_api",
            "claimed mona speedcoding_api",
            "released mona speedcoding_api",
            "claimed mona speedcoding_api",
            "rejected mona speedcoding_api mona",
            "resubmitted alice speedcoding_api",
            "edited alice speedcoding_api",
            "approved mona speedcoding_api mona",
            "reopened mona speedcoding_api",
        ]
    );
}

#[tokio::test]
async fn moderators_work_through_the_queue_from_its_oldest_end() {
    let app = TestApp::start().await;
    let mona = app.user_with_role("mona", "moderator").await;
    let (mut handed_in, mut runners) = (Vec::new(), Vec::new());
    for name in ["alice", "bob", "carol"] {
        let runner = app.runner(name).await;
        for _ in 0..2 {
            handed_in.push(hand_in(&runner).await);
        }
        let free = runner.start("freestyle").await;
        handed_in.push(text(&runner.end(&free).await.ok(200), "/submission/id"));
        runners.push(runner);
    }
    assert_eq!(page(&mona, "limit=100").await, (handed_in.clone(), None));
    let mut clones = handed_in.clone();
    for free in [8, 5, 2] {
        clones.remove(free);
    }
    assert_eq!(page(&mona, "challenge=slack-clone").await.0, clones);

    // The first is rejected and handed in again: it is the last then.
    review(&mona, &handed_in[0], "REJECTED", 1).await.ok(200);
    review(&mona, &handed_in[1], "APPROVED", 1).await.ok(200);
    for (query, expected) in [
        ("status=REJECTED", &handed_in[..1]),
        ("status=APPROVED", &handed_in[1..2]),
        (
            "status=PENDING&challenge=freestyle&limit=1",
            &handed_in[2..3],
        ),
        ("status=PENDING", &handed_in[2..]),
    ] {
        assert_eq!(page(&mona, query).await.0, expected, "{query}");
    }
    let alice = &runners[0];
    let mut walked = Vec::new();
    let mut cursor = String::new();
    for turn in 0.. {
        let (ids, next) = page(&mona, &format!("status=PENDING&limit=3{cursor}")).await;
        walked.extend(ids);
        if turn == 0 {
            // What happens meanwhile moves nobody else.
            update(alice, &handed_in[0], json!({ "revision": 1 }))
                .await
                .ok(200);
            review(&mona, &handed_in[2], "APPROVED", 1).await.ok(200);
        }
        let Some(next) = next else { break };
        cursor = format!("&cursor={next}");
    }
    let mut expected = handed_in[2..].to_vec();
    expected.push(handed_in[0].clone());
    assert_eq!(walked, expected);

    // Runners have their own list, and so have moderators and verifiers who run.
    assert_eq!(page(alice, "").await.0.len(), 3);
    assert_eq!(
        page(alice, "mine=false&status=APPROVED").await.0,
        handed_in[1..3]
    );
    let vera = app.user_with_role("vera", "verifier").await;
    assert_eq!(page(&vera, "").await.0, [""; 0]);
    assert_eq!(page(&mona, "mine=true").await.0, [""; 0]);
    let own = hand_in(&mona).await;
    assert_eq!(page(&mona, "mine=true").await.0, [own]);

    mona.get("/submissions?challenge=chess")
        .await
        .problem(404, "challenge_not_found");
    for (query, field) in [
        ("status=pending", "status"),
        ("status=", "status"),
        ("mine=maybe", "mine"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=MSAy", "cursor"),
    ] {
        let faults = mona.get(&format!("/submissions?{query}")).await.faults();
        assert_eq!(faults[0].0, field, "{query}");
    }
    app.visitor()
        .get("/submissions")
        .await
        .problem(401, "missing_token");
}

#[tokio::test]
async fn a_submission_is_its_runners_and_the_moderators_until_it_is_approved() {
    let app = TestApp::start().await;
    let (alice, mona) = (
        app.runner("alice").await,
        app.user_with_role("mona", "moderator").await,
    );
    let id = hand_in(&alice).await;
    let others = [
        app.visitor(),
        app.runner("bob").await,
        app.user_with_role("vera", "verifier").await,
    ];
    for somebody in &others {
        read(somebody, &id)
            .await
            .problem(404, "submission_not_found");
    }
    claim(&mona, &id).await.ok(200);
    review(&mona, &id, "APPROVED", 1).await.ok(200);
    for somebody in &others {
        let seen = read(somebody, &id).await.ok(200);
        assert_eq!(seen["status"], "APPROVED");
        assert_eq!(
            (&seen["reviewReason"], &seen["claimedBy"]),
            (&Value::Null, &Value::Null)
        );
        assert!(!seen.to_string().contains(&mona.id));
        let session = somebody
            .get(&format!("/sessions/{}", text(&seen, "/sessionId")))
            .await
            .ok(200);
        assert_eq!(session["submission"], seen);
    }
    for insider in [&alice, &mona] {
        assert_eq!(read(insider, &id).await.ok(200)["reviewReason"], "because");
    }
    // Nor does whoever reads the tables.
    for role in ["anon", "authenticated"] {
        let client = app.database.role(role, None).await;
        let row = client
            .query_one("select to_jsonb(s)::text from public.submissions as s", &[])
            .await
            .expect("an approved run");
        let row: &str = row.get(0);
        assert!(!row.contains(&mona.id) && !row.contains("because"), "{row}");
        client
            .query("select from private.reviews", &[])
            .await
            .expect_err("what was noted");
    }
    // Somebody else's is answered like none.
    for (theirs, status, code) in [
        (id.as_str(), 404, "submission_not_found"),
        (MISSING, 404, "submission_not_found"),
    ] {
        update(&others[1], theirs, json!({ "revision": 1, "packages": [] }))
            .await
            .problem(status, code);
    }
    review(&mona, MISSING, "APPROVED", 1)
        .await
        .problem(404, "submission_not_found");
}

#[tokio::test]
async fn what_one_moderator_has_taken_others_leave_alone() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let (mona, max) = (
        app.user_with_role("mona", "moderator").await,
        app.user_with_role("max", "moderator").await,
    );
    let root = app.user_with_role("root", "admin").await;
    let id = hand_in(&alice).await;
    claim(&mona, &id).await.ok(200);
    for refused in [
        claim(&max, &id).await,
        release(&max, &id).await,
        review(&max, &id, "APPROVED", 1).await,
    ] {
        assert_eq!(
            refused.problem(409, "submission_claimed")["claimedBy"],
            mona.id
        );
    }
    // An admin may take over; and what somebody took who is no moderator any more is free.
    assert_eq!(claim(&root, &id).await.ok(200)["claimedBy"], root.id);
    claim(&mona, &id).await.problem(409, "submission_claimed");
    release(&root, &id).await.ok(200);
    claim(&mona, &id).await.ok(200);
    let owner = app.sql().await;
    for change in ["role = 'runner'", "role = 'moderator', banned_at = now()"] {
        owner
            .batch_execute(&format!(
                "update public.users set {change} where username = 'mona'"
            ))
            .await
            .expect("a change");
        assert_eq!(claim(&max, &id).await.ok(200)["claimedBy"], max.id);
        owner
            .batch_execute(&format!(
                "update public.submissions set claimed_by = '{}'",
                mona.id
            ))
            .await
            .expect("the old claim");
    }
    // An edit leaves it with whoever has it; a decision ends that.
    owner
        .batch_execute(
            "update public.users set role = 'moderator', banned_at = null where username = 'mona'",
        )
        .await
        .expect("a promotion");
    let edited = update(&alice, &id, json!({ "revision": 1, "packages": [] }))
        .await
        .ok(200);
    assert_eq!(edited["claimedBy"], mona.id);
    assert_eq!(
        review(&mona, &id, "REJECTED", 2).await.ok(200)["claimedBy"],
        Value::Null
    );
    owner
        .execute("delete from public.users where username = 'mona'", &[])
        .await
        .expect("a deletion");
    assert_eq!(read(&alice, &id).await.ok(200)["status"], "REJECTED");
}

#[tokio::test]
async fn only_moderators_judge_and_nobody_their_own() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let id = hand_in(&alice).await;
    let before = audited(&app, &id).await;
    for (name, role) in [("rudi", "runner"), ("vera", "verifier")] {
        let somebody = app.user_with_role(name, role).await;
        for id in [&id, MISSING] {
            for refused in [
                claim(&somebody, id).await,
                release(&somebody, id).await,
                review(&somebody, id, "APPROVED", 1).await,
                reopen(&somebody, id).await,
            ] {
                refused.problem(403, "role_required");
            }
        }
    }
    review(&alice, &id, "APPROVED", 1)
        .await
        .problem(403, "role_required");
    let owner = app.sql().await;
    for role in ["moderator", "admin"] {
        owner
            .batch_execute(&format!(
                "update public.users set role = '{role}' where username = 'alice'"
            ))
            .await
            .expect("a promotion");
        for refused in [
            claim(&alice, &id).await,
            release(&alice, &id).await,
            review(&alice, &id, "APPROVED", 1).await,
            reopen(&alice, &id).await,
        ] {
            refused.problem(403, "own_run");
        }
    }
    let mona = app.user_with_role("mona", "moderator").await;
    for (change, code) in [
        ("banned_at = now()", "account_banned"),
        ("banned_at = null, role = 'runner'", "role_required"),
    ] {
        owner
            .batch_execute(&format!(
                "update public.users set {change} where username = 'mona'"
            ))
            .await
            .expect("a change");
        review(&mona, &id, "APPROVED", 1).await.problem(403, code);
    }
    review(&app.visitor(), &id, "APPROVED", 1)
        .await
        .problem(401, "missing_token");
    assert_eq!(audited(&app, &id).await, before, "nothing came of it");
}

#[tokio::test]
async fn a_decision_is_complete_and_about_what_was_seen() {
    let app = TestApp::start().await;
    let (alice, mona) = (
        app.runner("alice").await,
        app.user_with_role("mona", "moderator").await,
    );
    let session = alice.start("freestyle").await;
    let ended = alice
        .post(
            "/sessions/end",
            json!({ "sessionId": session, "packages": [] }),
        )
        .await
        .ok(200);
    let id = text(&ended, "/submission/id");
    review(&mona, &id, "APPROVED", 1)
        .await
        .problem(409, "video_required");
    for reason in [Value::Null, json!(""), json!("  \n")] {
        let body = json!({ "decision": "REJECTED", "revision": 1, "reason": reason });
        let refused = mona.post(&format!("/submissions/{id}/review"), body).await;
        assert_eq!(
            refused.faults(),
            [("reason".to_owned(), "required".to_owned())]
        );
    }
    for (body, field, code) in [
        (
            json!({ "decision": "PENDING", "revision": 1 }),
            "decision",
            "choice",
        ),
        (json!({ "decision": "APPROVED" }), "revision", "required"),
        (
            json!({ "decision": "APPROVED", "revision": 0 }),
            "revision",
            "range",
        ),
        (
            json!({ "decision": "APPROVED", "revision": 1, "reason": "x".repeat(2001) }),
            "reason",
            "too_long",
        ),
        (
            json!({ "decision": "APPROVED", "revision": 1, "reviewedBy": mona.id }),
            "reviewedBy",
            "unknown_field",
        ),
    ] {
        let refused = mona.post(&format!("/submissions/{id}/review"), body).await;
        assert_eq!(refused.faults(), [(field.to_owned(), code.to_owned())]);
    }
    for (body, field, code) in [
        (json!({ "packages": [] }), "revision", "required"),
        (
            json!({ "revision": 1, "packages": [""] }),
            "packages[0]",
            "too_short",
        ),
        (
            json!({ "revision": 1, "videoUrl": "https://evil.example/x" }),
            "videoUrl",
            "video_url",
        ),
        (
            json!({ "revision": 1, "status": "APPROVED" }),
            "status",
            "unknown_field",
        ),
    ] {
        assert_eq!(
            update(&alice, &id, body).await.faults(),
            [(field.to_owned(), code.to_owned())]
        );
    }
    let faults = mona
        .post(
            &format!("/submissions/{id}/reopen"),
            json!({ "reason": " " }),
        )
        .await
        .faults();
    assert_eq!(faults, [("reason".to_owned(), "pattern".to_owned())]);

    update(&alice, &id, json!({ "revision": 1, "videoUrl": VIDEO }))
        .await
        .ok(200);
    for stale in [1, 3] {
        for decision in ["APPROVED", "REJECTED"] {
            let problem = review(&mona, &id, decision, stale)
                .await
                .problem(409, "stale_revision");
            assert_eq!(problem["revision"], 2);
        }
        let body = json!({ "revision": stale, "packages": ["x"] });
        assert_eq!(
            update(&alice, &id, body)
                .await
                .problem(409, "stale_revision")["revision"],
            2
        );
    }
    // A rejection that is repeated when the run is handed in again unchanged does not hit it.
    review(&mona, &id, "REJECTED", 2).await.ok(200);
    update(&alice, &id, json!({ "revision": 2 })).await.ok(200);
    review(&mona, &id, "REJECTED", 2)
        .await
        .problem(409, "stale_revision");
    assert_eq!(
        review(&mona, &id, "APPROVED", 3).await.ok(200)["status"],
        "APPROVED"
    );
}

/// Two requests that queue for the same row, in this order; what each was answered.
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
        let id = hand_in(&alice).await;
        let decide = |moderator: &Actor, decision: &'static str| {
            let (moderator, id) = (moderator.clone(), id.clone());
            async move { review(&moderator, &id, decision, 1).await }
        };
        let (won, lost) = in_turn(&app, decide(&mona, first), decide(&max, second)).await;
        assert_eq!(won.ok(200)["status"], first);
        let problem = lost.problem(409, "submission_already_reviewed");
        assert_eq!(problem["submissionStatus"], first);
        assert_eq!(read(&alice, &id).await.ok(200)["status"], first);
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
            let id = hand_in(&alice).await;
            let edit = {
                let (alice, id) = (alice.clone(), id.clone());
                async move { update(&alice, &id, json!({ "revision": 1, "packages": ["other"] })).await }
            };
            let judge = {
                let (mona, id) = (mona.clone(), id.clone());
                async move { review(&mona, &id, decision, 1).await }
            };
            if edit_first {
                let (edited, judged) = in_turn(&app, edit, judge).await;
                assert_eq!(edited.ok(200)["revision"], 2);
                judged.problem(409, "stale_revision");
                assert_eq!(read(&alice, &id).await.ok(200)["status"], "PENDING");
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
    for (number, change) in ["role = 'runner'", "banned_at = now()"]
        .into_iter()
        .enumerate()
    {
        let name = format!("mod-{number}");
        let moderator = app.user_with_role(&name, "moderator").await;
        let id = hand_in(&alice).await;
        let gate = app.hold(LOCK).await;
        let decision = race([{
            let (moderator, id) = (moderator.clone(), id.clone());
            async move { review(&moderator, &id, "APPROVED", 1).await }
        }]);
        gate.until_waiting(1).await;
        app.sql()
            .await
            .batch_execute(&format!(
                "update public.users set {change} where username = '{name}'"
            ))
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
    let id = hand_in(&alice).await;
    let gate = app.hold(LOCK).await;
    let claims = race(moderators.iter().map(|moderator| {
        let (moderator, id) = (moderator.clone(), id.clone());
        async move { claim(&moderator, &id).await }
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

/// All that an administrator may try in the dashboard, which works as `role`.
async fn administer(app: &TestApp, dashboard: &Client, role: &str) {
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let mona = app.user_with_role("mona", "moderator").await;
    let run = alice.complete_run().await;
    let (id, session) = (text(&run, "/submission/id"), text(&run, "/id"));
    let set = |what: &str| format!("update public.submissions set {what} where id = '{id}'");
    let mut history = vec!["handed_in alice speedcoding_api".to_owned()];
    let mut happened = |what: &str, reviewer: &str| {
        history.push(format!("{what} - {role}{reviewer}"));
        history.clone()
    };

    // Nobody judges their own run, here neither.
    for who in ["claimed_by", "reviewed_by"] {
        refused(
            dashboard,
            &set(&format!("{who} = '{}'", alice.id)),
            "own_run",
        )
        .await;
    }
    done(
        dashboard,
        &format!("set request.jwt.claims = '{{\"sub\": \"{}\"}}'", alice.id),
    )
    .await;
    refused(dashboard, &set("status = 'APPROVED'"), "own_run").await;
    done(dashboard, "reset request.jwt.claims").await;

    done(dashboard, &set(&format!("claimed_by = '{}'", mona.id))).await;
    assert_eq!(audited(app, &id).await, happened("claimed", ""));
    refused(dashboard, &set("status = 'REJECTED'"), "reason_required").await;
    refused(
        dashboard,
        &set("status = 'REJECTED', review_reason = ' '"),
        "reason_required",
    )
    .await;
    done(
        dashboard,
        &set(&format!(
            "status = 'REJECTED', review_reason = 'too fast', reviewed_by = '{}'",
            mona.id
        )),
    )
    .await;
    assert_eq!(audited(app, &id).await, happened("rejected", " mona"));
    let seen = read(&alice, &id).await.ok(200);
    assert_eq!(
        (&seen["status"], &seen["reviewReason"], &seen["claimedBy"]),
        (&json!("REJECTED"), &json!("too fast"), &Value::Null)
    );
    refused(
        dashboard,
        &set("status = 'APPROVED'"),
        "submission_already_reviewed",
    )
    .await;
    refused(
        dashboard,
        &set(&format!("claimed_by = '{}'", mona.id)),
        "submission_already_reviewed",
    )
    .await;
    done(dashboard, &set("status = 'PENDING'")).await;
    assert_eq!(audited(app, &id).await, happened("reopened", ""));
    assert_eq!(read(&alice, &id).await.ok(200)["revision"], 2);

    refused(
        dashboard,
        &set("video_url = null, status = 'APPROVED'"),
        "video_required",
    )
    .await;
    done(
        dashboard,
        &set(&format!("status = 'APPROVED', reviewed_by = '{}'", mona.id)),
    )
    .await;
    assert_eq!(audited(app, &id).await, happened("approved", " mona"));
    let seen = read(&app.visitor(), &id).await.ok(200);
    assert_eq!(seen["status"], "APPROVED");
    assert!(seen["reviewedAt"].is_string());
    assert_eq!(
        app.visitor()
            .get(&format!("/sessions/{session}"))
            .await
            .ok(200)["submission"],
        seen
    );
    refused(dashboard, &set("packages = '{}'"), "submission_approved").await;
    refused(
        dashboard,
        &set("status = 'REJECTED', review_reason = 'x'"),
        "submission_already_reviewed",
    )
    .await;

    // The run itself.
    let run_of = |what: &str| format!("update public.sessions set {what} where id = '{session}'");
    refused(
        dashboard,
        &run_of("end_time = start_time - interval '1 second'"),
        "session_times",
    )
    .await;
    refused(dashboard, &run_of("end_time = null"), "session_times").await;
    refused(
        dashboard,
        &run_of("status = 'incomplete'"),
        "session_handed_in",
    )
    .await;
    refused(
        dashboard,
        &run_of("status = 'running', end_time = null"),
        "session_already_ended",
    )
    .await;
    refused(
        dashboard,
        &run_of(&format!("user_id = '{}'", bob.id)),
        "session_fixed",
    )
    .await;
    refused(dashboard, &set("total_ms = 1"), "submission_fixed").await;
    refused(dashboard, &set("end_time = now()"), "submission_fixed").await;
    let before = app
        .visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .ok(200);
    done(
        dashboard,
        &run_of("end_time = end_time + interval '1 minute'"),
    )
    .await;
    assert_eq!(audited(app, &id).await, happened("corrected", ""));
    let corrected = app
        .visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .ok(200);
    let total = |session: &Value| session["totalTimeMs"].as_i64().expect("a time");
    assert_eq!(total(&corrected), total(&before) + 60_000);
    let board = app.visitor().get("/leaderboards/slack-clone").await.ok(200);
    assert_eq!(board["items"][0]["totalTimeMs"], corrected["totalTimeMs"]);
    let was = app
        .sql()
        .await
        .query_one(
            "select database_role, details -> 'was' ->> 'total_ms' from private.audit_log
              where action = 'session.changed' and subject_id = $1::text::uuid",
            &[&session],
        )
        .await
        .expect("one row");
    assert_eq!(
        (was.get(0), was.get(1)),
        (role, total(&before).to_string().as_str())
    );

    // A second submission, and one of a run that is not over.
    let again = format!(
        "insert into public.submissions (session_id, video_url) values ('{session}', '{VIDEO}')"
    );
    refused(dashboard, &again, "submission_exists").await;
    let running = bob.start("freestyle").await;
    refused(
        dashboard,
        &again.replace(&session, &running),
        "session_not_completed",
    )
    .await;
    let mut claim = set("session_id = ");
    claim = claim.replace("session_id = ", &format!("session_id = '{running}'"));
    refused(dashboard, &claim, "submission_fixed").await;

    // Milestones.
    let milestone = text(&run, "/milestones/0/id");
    let change =
        |what: &str| format!("update public.milestones set {what} where id = '{milestone}'");
    refused(
        dashboard,
        &change(&format!("session_id = '{running}', user_id = '{}'", bob.id)),
        "milestone_fixed",
    )
    .await;
    refused(
        dashboard,
        &change("passed = false, completed_at = null"),
        "milestone_passed",
    )
    .await;
    refused(dashboard, &change("completed_at = null"), "milestone_times").await;
    refused(
        dashboard,
        &format!("delete from public.milestones where id = '{milestone}'"),
        "milestone_passed",
    )
    .await;
    done(
        dashboard,
        &change("completed_at = completed_at + interval '1 millisecond'"),
    )
    .await;

    // What was withdrawn can be handed in again: the dashboard gives the session, the rest follows.
    done(
        dashboard,
        &format!("delete from public.submissions where id = '{id}'"),
    )
    .await;
    assert_eq!(audited(app, &id).await, happened("deleted", ""));
    app.visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .problem(404, "session_not_found");
    done(dashboard, &again).await;
    let seen = alice.get(&format!("/sessions/{session}")).await.ok(200);
    assert_eq!(seen["submission"]["status"], "PENDING");
    let id = text(&seen, "/submission/id");
    done(
        dashboard,
        &format!("update public.submissions set status = 'APPROVED' where id = '{id}'"),
    )
    .await;
    let board = app.visitor().get("/leaderboards/slack-clone").await.ok(200);
    assert_eq!(board["items"][0]["totalTimeMs"], corrected["totalTimeMs"]);

    // A user with approved runs goes with all of them; the audit log stays.
    done(
        dashboard,
        &format!("delete from public.users where id = '{}'", alice.id),
    )
    .await;
    app.visitor()
        .get(&format!("/sessions/{session}"))
        .await
        .problem(404, "session_not_found");
    let board = app.visitor().get("/leaderboards/slack-clone").await.ok(200);
    assert_eq!(board["items"], json!([]));
    let log = audited(app, &id).await;
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log[2].starts_with("deleted"), "{log:?}");
}

#[tokio::test]
async fn what_a_superuser_does_in_the_dashboard_meets_the_same_rules() {
    let app = TestApp::start().await;
    let dashboard = app.sql().await;
    administer(&app, &dashboard, "postgres").await;
}

#[tokio::test]
async fn what_the_service_role_does_meets_the_same_rules() {
    let app = TestApp::start().await;
    let dashboard = app.database.role("service_role", None).await;
    administer(&app, &dashboard, "service_role").await;
}

#[tokio::test]
async fn what_the_owner_of_a_supabase_project_does_meets_the_same_rules() {
    let project = lookalike::project().await;
    migrate(&project.owner_url).await.expect("migrations");
    let app = TestApp::start_on(Database::at(project.owner_url.clone()), |_| {}).await;
    let dashboard = app.sql().await;
    let owner = url::Url::parse(project.owner_url.expose_secret()).expect("a URL");
    administer(&app, &dashboard, owner.username()).await;
    drop((dashboard, app));
    project.embedded.stop().await;
}
