//! The steps of a submission, and who may take each of them.

use serde_json::{Value, json};

use crate::support::{actor::text, app::TestApp};

use super::{MISSING, VIDEO, audited, page};

/// A submission without the member that only moderators get.
fn as_runners_see(mut submission: Value) -> Value {
    submission["sameVideo"] = Value::Null;
    submission
}

#[tokio::test]
async fn a_submission_goes_from_hand_to_hand_and_each_step_is_one_audit_row() {
    let app = TestApp::start().await;
    let (alice, mona) = (
        app.runner("alice").await,
        app.user_with_role("mona", "moderator").await,
    );
    let id = alice.hand_in().await;
    let pending = alice.submission(&id).await.ok(200);
    assert_eq!(
        (&pending["status"], &pending["revision"]),
        (&json!("PENDING"), &json!(1))
    );

    let taken = mona.claim(&id).await.ok(200);
    assert_eq!(taken["claimedBy"], mona.id);
    assert_eq!(mona.claim(&id).await.ok(200), taken, "a retry");
    assert_eq!(mona.release(&id).await.ok(200)["claimedBy"], Value::Null);
    assert_eq!(
        mona.release(&id).await.ok(200)["claimedBy"],
        Value::Null,
        "a retry"
    );
    mona.claim(&id).await.ok(200);

    let rejected = mona.review(&id, "REJECTED", 1).await.ok(200);
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
        alice.submission(&id).await.ok(200),
        as_runners_see(rejected),
        "its runner may know why"
    );

    app.travel("1 hour").await;
    let again = alice
        .edit(&id, json!({ "revision": 1, "packages": ["axum"] }))
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
    let edited = alice
        .edit(
            &id,
            json!({ "revision": 2, "videoUrl": "https://vimeo.com/1" }),
        )
        .await
        .ok(200);
    assert_eq!(
        (&edited["revision"], &edited["submittedAt"]),
        (&json!(3), &again["submittedAt"])
    );
    let same = alice
        .edit(&id, json!({ "revision": 3, "packages": ["axum"] }))
        .await
        .ok(200);
    assert_eq!(same, edited, "nothing changed");

    let approved = mona.review(&id, "APPROVED", 3).await.ok(200);
    assert_eq!(
        (
            &approved["status"],
            &approved["reviewReason"],
            &approved["revision"]
        ),
        (&json!("APPROVED"), &json!("because"), &json!(3))
    );
    alice
        .edit(&id, json!({ "revision": 3, "packages": [] }))
        .await
        .problem(409, "submission_approved");
    let problem = mona
        .review(&id, "REJECTED", 3)
        .await
        .problem(409, "submission_already_reviewed");
    assert_eq!(problem["submissionStatus"], "APPROVED");
    mona.claim(&id)
        .await
        .problem(409, "submission_already_reviewed");

    let reopened = mona.reopen(&id).await.ok(200);
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
    mona.reopen(&id).await.problem(409, "submission_pending");

    assert_eq!(
        audited(&app, &id).await,
        [
            "handed_in alice speedcoding_api",
            "claimed mona speedcoding_api mona",
            "released mona speedcoding_api",
            "claimed mona speedcoding_api mona",
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
            handed_in.push(runner.hand_in().await);
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

    // The first submission is rejected and handed in again. Now it is the last one of the queue.
    mona.review(&handed_in[0], "REJECTED", 1).await.ok(200);
    mona.review(&handed_in[1], "APPROVED", 1).await.ok(200);
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
            // Changes in between do not move the other items.
            alice
                .edit(&handed_in[0], json!({ "revision": 1 }))
                .await
                .ok(200);
            mona.review(&handed_in[2], "APPROVED", 1).await.ok(200);
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
    let own = mona.hand_in().await;
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
    let id = alice.hand_in().await;
    let others = [
        app.visitor(),
        app.runner("bob").await,
        app.user_with_role("vera", "verifier").await,
    ];
    for somebody in &others {
        somebody
            .submission(&id)
            .await
            .problem(404, "submission_not_found");
    }
    mona.claim(&id).await.ok(200);
    mona.review(&id, "APPROVED", 1).await.ok(200);
    for somebody in &others {
        let seen = somebody.submission(&id).await.ok(200);
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
        assert_eq!(
            insider.submission(&id).await.ok(200)["reviewReason"],
            "because"
        );
    }
    // Readers of the tables do not see them either.
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
    // A submission of somebody else gets the same answer as a missing one.
    for (theirs, status, code) in [
        (id.as_str(), 404, "submission_not_found"),
        (MISSING, 404, "submission_not_found"),
    ] {
        others[1]
            .edit(theirs, json!({ "revision": 1, "packages": [] }))
            .await
            .problem(status, code);
    }
    mona.review(MISSING, "APPROVED", 1)
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
    let id = alice.hand_in().await;
    mona.claim(&id).await.ok(200);
    for refused in [
        max.claim(&id).await,
        max.release(&id).await,
        max.review(&id, "APPROVED", 1).await,
    ] {
        assert_eq!(
            refused.problem(409, "submission_claimed")["claimedBy"],
            mona.id
        );
    }
    // An admin may take over a claim. The claim of a user who is no moderator any more does not count.
    assert_eq!(root.claim(&id).await.ok(200)["claimedBy"], root.id);
    mona.claim(&id).await.problem(409, "submission_claimed");
    root.release(&id).await.ok(200);
    mona.claim(&id).await.ok(200);
    let owner = app.sql().await;
    for change in [
        "update public.users set role = 'runner' where username = 'mona'",
        "update public.users set role = 'moderator' where username = 'mona';
         insert into public.bans (user_id) select id from public.users where username = 'mona'",
    ] {
        owner.batch_execute(change).await.expect("a change");
        assert_eq!(max.claim(&id).await.ok(200)["claimedBy"], max.id);
        owner
            .batch_execute(&format!(
                "update public.submissions set claimed_by = '{}'",
                mona.id
            ))
            .await
            .expect("the old claim");
    }
    // An edit does not end the claim. A decision does.
    owner
        .batch_execute(
            "update public.users set role = 'moderator' where username = 'mona';
             delete from public.bans",
        )
        .await
        .expect("a promotion");
    let edited = alice
        .edit(&id, json!({ "revision": 1, "packages": [] }))
        .await
        .ok(200);
    assert_eq!(edited["claimedBy"], mona.id);
    assert_eq!(
        mona.review(&id, "REJECTED", 2).await.ok(200)["claimedBy"],
        Value::Null
    );
    owner
        .execute("delete from public.users where username = 'mona'", &[])
        .await
        .expect("a deletion");
    assert_eq!(alice.submission(&id).await.ok(200)["status"], "REJECTED");
}

#[tokio::test]
async fn only_moderators_judge_and_nobody_their_own() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let id = alice.hand_in().await;
    let before = audited(&app, &id).await;
    for (name, role) in [("rudi", "runner"), ("vera", "verifier")] {
        let somebody = app.user_with_role(name, role).await;
        for id in [&id, MISSING] {
            for refused in [
                somebody.claim(id).await,
                somebody.release(id).await,
                somebody.review(id, "APPROVED", 1).await,
                somebody.reopen(id).await,
            ] {
                refused.problem(403, "role_required");
            }
        }
    }
    alice
        .review(&id, "APPROVED", 1)
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
            alice.claim(&id).await,
            alice.release(&id).await,
            alice.review(&id, "APPROVED", 1).await,
            alice.reopen(&id).await,
        ] {
            refused.problem(403, "own_run");
        }
    }
    let mona = app.user_with_role("mona", "moderator").await;
    for (change, code) in [
        (
            "insert into public.bans (user_id) select id from public.users where username = 'mona'",
            "account_banned",
        ),
        (
            "delete from public.bans; update public.users set role = 'runner' where username = 'mona'",
            "role_required",
        ),
    ] {
        owner.batch_execute(change).await.expect("a change");
        mona.review(&id, "APPROVED", 1).await.problem(403, code);
    }
    app.visitor()
        .review(&id, "APPROVED", 1)
        .await
        .problem(401, "missing_token");
    assert_eq!(audited(&app, &id).await, before, "nothing was recorded");
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
    mona.review(&id, "APPROVED", 1)
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
            "pattern",
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
            alice.edit(&id, body).await.faults(),
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

    alice
        .edit(&id, json!({ "revision": 1, "videoUrl": VIDEO }))
        .await
        .ok(200);
    for stale in [1, 3] {
        for decision in ["APPROVED", "REJECTED"] {
            let problem = mona
                .review(&id, decision, stale)
                .await
                .problem(409, "stale_revision");
            assert_eq!(problem["revision"], 2);
        }
        let body = json!({ "revision": stale, "packages": ["x"] });
        assert_eq!(
            alice.edit(&id, body).await.problem(409, "stale_revision")["revision"],
            2
        );
    }
    // The run is handed in again unchanged. A repetition of the old rejection does not reject it again.
    mona.review(&id, "REJECTED", 2).await.ok(200);
    alice.edit(&id, json!({ "revision": 2 })).await.ok(200);
    mona.review(&id, "REJECTED", 2)
        .await
        .problem(409, "stale_revision");
    assert_eq!(
        mona.review(&id, "APPROVED", 3).await.ok(200)["status"],
        "APPROVED"
    );
}
