//! How long a moderator's claim lasts, what a runner can remove or withdraw, and the hints that moderators get.

use serde_json::{Value, json};

use crate::support::{
    actor::{Actor, text},
    app::TestApp,
    cluster::{done, first_column},
};

use super::{MISSING, VIDEO, audited, page};

#[tokio::test]
async fn a_claim_lasts_thirty_minutes() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let (mona, max) = (
        app.user_with_role("mona", "moderator").await,
        app.user_with_role("max", "moderator").await,
    );
    let dashboard = app.sql().await;
    let queued = async || {
        let query = "select concat_ws(' ', claimed_by, claim_expires_at - private.clock()) from public.review_queue";
        first_column(&dashboard, query).await.remove(0)
    };
    app.stop_clock().await;
    let id = alice.hand_in().await;
    let free = mona.submission(&id).await.ok(200);
    assert_eq!(
        (&free["claimedAt"], &free["claimExpiresAt"]),
        (&Value::Null, &Value::Null)
    );
    let taken = mona.claim(&id).await.ok(200);
    assert_eq!(queued().await, "mona 00:30:00");
    app.travel("29 minutes 59.999 seconds").await;
    assert_eq!(mona.claim(&id).await.ok(200), taken, "a retry");
    let refused = max.claim(&id).await.problem(409, "submission_claimed");
    assert_eq!(refused["claimExpiresAt"], taken["claimExpiresAt"]);

    // Then any moderator may claim it. The first one may still decide while nobody else has claimed it.
    app.travel("1 millisecond").await;
    let expired = max.submission(&id).await.ok(200);
    assert_eq!(
        (&expired["claimedBy"], &expired["claimedAt"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(queued().await, "");
    assert_eq!(mona.claim(&id).await.ok(200)["claimedBy"], mona.id);
    assert_eq!(queued().await, "mona 00:30:00");
    app.travel("31 minutes").await;
    assert_eq!(max.claim(&id).await.ok(200)["claimedBy"], max.id);
    mona.review(&id, "REJECTED", 1)
        .await
        .problem(409, "submission_claimed");
    app.travel("31 minutes").await;
    let decided = mona.review(&id, "REJECTED", 1).await.ok(200);
    assert_eq!(
        (&decided["status"], &decided["claimedBy"]),
        (&json!("REJECTED"), &Value::Null)
    );
    let mut audited = audited(&app, &id).await;
    // All of this happens in one millisecond, because the clock stands still.
    audited.sort();
    assert_eq!(
        audited,
        [
            "claimed max speedcoding_api max",
            "claimed mona speedcoding_api mona",
            "claimed mona speedcoding_api mona",
            "handed_in alice speedcoding_api",
            "rejected mona speedcoding_api mona",
        ]
    );

    // A claim in the dashboard lasts as long as one in the API.
    let id = alice.hand_in().await;
    let take = format!(
        "update public.submissions set claimed_by = '{}' where id = '{id}'",
        mona.id
    );
    done(&dashboard, &take).await;
    assert_eq!(queued().await, "mona 00:30:00");
    max.claim(&id).await.problem(409, "submission_claimed");
    done(
        &dashboard,
        "update public.submissions set claimed_by = null",
    )
    .await;
    assert_eq!(queued().await, "");
}

#[tokio::test]
async fn an_edit_with_null_takes_out_and_one_without_leaves() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    let id = alice.hand_in().await;
    let edited = alice.edit(&id, json!({ "revision": 1 })).await.ok(200);
    assert_eq!(
        (
            &edited["packages"],
            &edited["videoUrl"],
            &edited["revision"]
        ),
        (&json!(["poem", "tokio"]), &json!(VIDEO), &json!(1))
    );
    let edited = alice
        .edit(&id, json!({ "revision": 1, "videoUrl": null }))
        .await
        .ok(200);
    assert_eq!(
        (&edited["packages"], &edited["videoUrl"]),
        (&json!(["poem", "tokio"]), &Value::Null)
    );
    let edited = alice
        .edit(
            &id,
            json!({ "revision": 2, "packages": null, "videoUrl": VIDEO }),
        )
        .await
        .ok(200);
    assert_eq!(
        (
            &edited["packages"],
            &edited["videoUrl"],
            &edited["revision"]
        ),
        (&json!([]), &json!(VIDEO), &json!(3))
    );
}

#[tokio::test]
async fn a_submission_is_withdrawn_by_its_runner_until_it_is_approved() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let mona = app.user_with_role("mona", "moderator").await;
    let run = alice.complete_run().await;
    let (session, id) = (text(&run, "/id"), text(&run, "/submission/id"));
    let path = format!("/submissions/{id}");
    for somebody in [&bob, &mona] {
        somebody
            .delete(&path)
            .await
            .problem(404, "submission_not_found");
    }
    alice
        .delete(&format!("/submissions/{MISSING}"))
        .await
        .problem(404, "submission_not_found");
    app.visitor()
        .delete(&path)
        .await
        .problem(401, "missing_token");
    mona.claim(&id).await.ok(200);
    mona.review(&id, "APPROVED", 1).await.ok(200);
    alice
        .delete(&path)
        .await
        .problem(409, "submission_approved");
    mona.reopen(&id).await.ok(200);
    mona.review(&id, "REJECTED", 2).await.ok(200);
    for _ in 0..2 {
        assert_eq!(
            alice.delete(&path).await.ok(204),
            "",
            "a retry answers as the first time"
        );
    }
    bob.delete(&path).await.problem(404, "submission_not_found");

    // The run is still there, but it cannot be handed in again, and moderators have nothing to decide.
    let left = alice.get(&format!("/sessions/{session}")).await.ok(200);
    assert_eq!(
        (&left["status"], &left["submission"]),
        (&json!("completed"), &Value::Null)
    );
    assert_eq!(alice.end(&session).await.ok(200)["submission"], Value::Null);
    alice
        .edit(&id, json!({ "revision": 2, "packages": [] }))
        .await
        .problem(404, "submission_not_found");
    mona.review(&id, "APPROVED", 2)
        .await
        .problem(404, "submission_not_found");
    assert_eq!(page(&mona, "status=PENDING").await.0, [""; 0]);
    assert_eq!(
        audited(&app, &id).await.last().map(String::as_str),
        Some("deleted alice speedcoding_api mona")
    );
    let board = app.visitor().get("/leaderboards/slack-clone").await.ok(200);
    assert_eq!(board["items"], json!([]));
}

#[tokio::test]
async fn a_video_that_two_runners_hand_in_is_pointed_out_to_moderators() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let mona = app.user_with_role("mona", "moderator").await;
    let dashboard = app.sql().await;
    let with = async |runner: &Actor, video_url: &str| {
        let session = runner.start("freestyle").await;
        let end = json!({ "sessionId": session, "packages": [], "videoUrl": video_url });
        text(
            &runner.post("/sessions/end", end).await.ok(200),
            "/submission/id",
        )
    };
    for (one, another) in [
        (
            "https://youtu.be/abc",
            "https://www.youtube.com/watch?t=7&v=abc",
        ),
        (
            "https://m.youtube.com/shorts/def",
            "https://www.youtube-nocookie.com/embed/def?rel=0",
        ),
        (
            "https://vimeo.com/12/0a1b",
            "https://player.vimeo.com/video/12",
        ),
        (
            "https://www.twitch.tv/videos/34",
            "https://player.twitch.tv/?video=v34&parent=example.org",
        ),
        (
            "https://clips.twitch.tv/Good-1",
            "https://www.twitch.tv/somebody/clip/Good-1",
        ),
    ] {
        let (hers, his) = (with(&alice, one).await, with(&bob, another).await);
        // The same runner may show two runs in one video.
        with(&alice, one).await;
        assert_eq!(
            mona.submission(&his).await.ok(200)["sameVideo"][0],
            hers,
            "{one}"
        );
        assert_eq!(
            mona.submission(&hers).await.ok(200)["sameVideo"],
            json!([his]),
            "{one}"
        );
        assert_eq!(
            alice.submission(&hers).await.ok(200)["sameVideo"],
            Value::Null,
            "for moderators"
        );
        let queued = format!(
            "select array_to_string(same_video, ' ') from public.review_queue where id = '{hers}'"
        );
        assert_eq!(first_column(&dashboard, &queued).await, [his]);
    }
    let alone = with(&alice, "https://youtu.be/ABC").await;
    assert_eq!(
        mona.submission(&alone).await.ok(200)["sameVideo"],
        json!([]),
        "letters count"
    );
    let none = text(&alice.complete_run().await, "/submission/id");
    alice
        .edit(&none, json!({ "revision": 1, "videoUrl": null }))
        .await
        .ok(200);
    assert_eq!(mona.submission(&none).await.ok(200)["sameVideo"], json!([]));
}
