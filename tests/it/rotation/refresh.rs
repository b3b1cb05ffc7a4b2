//! Refreshes one after another, at the same time, and with lost answers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::support::{
    actor::Actor,
    app::TestApp,
    cluster::Database,
    program::{Program, Scratch, until},
    proxy::Proxy,
    race::race,
    service::{Service, refresh_token, stories},
};

use super::claims;

stories! {
    a_refresh_gives_new_tokens_and_the_sign_in_stays
    a_token_used_again_at_once_has_the_same_successor_and_later_ends_the_sign_in
    an_older_token_ends_the_sign_in_when_its_window_has_closed
    a_token_from_before_a_restored_backup_ends_the_sign_in
    a_sign_in_ends_after_fourteen_idle_days_and_after_thirty_in_any_case
    fifty_refreshes_of_one_token_at_once_are_one_rotation
    an_answer_that_is_lost_is_had_again
    an_answer_that_was_waited_for_as_long_as_it_may_take_is_had_again
    an_answer_is_taken_for_lost_once_in_four_generations
    two_tabs_go_on_together
    a_tab_that_comes_late_goes_on_with_the_newest_token
    a_killed_service_leaves_each_sign_in_with_one_token
}

async fn a_refresh_gives_new_tokens_and_the_sign_in_stays(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    let mut tokens = service.register("ada").await;
    for turn in 0..5 {
        let next = service.refresh(turn, &refresh_token(&tokens)).await.ok(200);
        assert_eq!(next["user"], tokens["user"]);
        assert_eq!(next["tokenType"], "Bearer");
        assert_eq!(next["expiresIn"], 900);
        assert_ne!(refresh_token(&next), refresh_token(&tokens));
        service.me(turn, &next).await.ok(200);
        // An access token stays valid beside the next one.
        service.me(turn, &tokens).await.ok(200);
        tokens = next;
    }
    assert_eq!(
        service
            .text("select count(*)::text from private.refresh_tokens")
            .await,
        "1"
    );
    // The next token shows a new role. It also says when the user gave the password.
    service
        .execute("update public.users set role = 'moderator'")
        .await;
    service.travel("1 hour").await;
    let next = service.refresh(0, &refresh_token(&tokens)).await.ok(200);
    assert_eq!(next["user"]["role"], "moderator");
    assert_eq!(claims(&next)["user_role"], "moderator");
    assert_eq!(claims(&next)["session_id"], claims(&tokens)["session_id"]);
    assert_eq!(
        claims(&next)["amr"],
        claims(&tokens)["amr"],
        "when the password was given, not when it was refreshed"
    );
}

async fn a_token_used_again_at_once_has_the_same_successor_and_later_ends_the_sign_in(
    replicas: usize,
) {
    let service = Service::of(replicas, |_| {}).await;
    let first = service.register("ada").await;
    let token = refresh_token(&first);
    service.stop_clock().await;
    let next = service.refresh(0, &token).await.ok(200);
    // Repeated requests do not extend the window. It lasts ten seconds for tabs. If the client never used the answer,
    // it lasts until the client could have given up twice.
    for turn in 1..70 {
        service.travel("1 second").await;
        let again = service.refresh(turn, &token).await.ok(200);
        assert_eq!(refresh_token(&again), refresh_token(&next));
    }
    service.travel("0.999 seconds").await;
    service.refresh(0, &token).await.ok(200);
    service.travel("0.001 seconds").await;
    service
        .refresh(1, &token)
        .await
        .problem(401, "refresh_token_reused");
    assert_eq!(service.causes().await, json!({ "reuse": 1 }));
    // All tokens of this sign-in are refused, and the audit log has one entry.
    for token in [token, refresh_token(&next)] {
        service
            .refresh(0, &token)
            .await
            .problem(401, "invalid_refresh_token");
    }
    for tokens in [&first, &next] {
        service.me(1, tokens).await.problem(401, "sign_in_ended");
    }
    assert_eq!(service.causes().await, json!({ "reuse": 1 }));
    // Other sign-ins of the same user stay alive.
    service
        .refresh(0, &refresh_token(&service.log_in("ada").await))
        .await
        .ok(200);
}

async fn an_older_token_ends_the_sign_in_when_its_window_has_closed(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    service.stop_clock().await;
    let first = refresh_token(&service.register("ada").await);
    let second = refresh_token(&service.refresh(0, &first).await.ok(200));
    let third = service.refresh(1, &second).await.ok(200);
    // Until then the token may come from a late tab.
    service.travel("10 seconds").await;
    service
        .refresh(0, &first)
        .await
        .problem(401, "refresh_token_reused");
    service.me(1, &third).await.problem(401, "sign_in_ended");
    assert_eq!(service.causes().await, json!({ "reuse": 1 }));
}

async fn a_token_from_before_a_restored_backup_ends_the_sign_in(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    let first = refresh_token(&service.register("ada").await);
    service
        .execute("create table backup as table private.refresh_tokens")
        .await;
    let second = refresh_token(&service.refresh(0, &first).await.ok(200));
    service
        .execute(
            "update private.refresh_tokens as token
                set generation = backup.generation, rotated_at = backup.rotated_at
               from backup where backup.id = token.id",
        )
        .await;
    service
        .refresh(1, &second)
        .await
        .problem(401, "invalid_refresh_token");
    service
        .refresh(0, &first)
        .await
        .problem(401, "invalid_refresh_token");
    assert_eq!(service.causes().await, json!({ "rollback": 1 }));
}

async fn a_sign_in_ends_after_fourteen_idle_days_and_after_thirty_in_any_case(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    service.stop_clock().await;
    let idle = refresh_token(&service.register("idle").await);
    let mut busy = service.register("busy").await;
    service.travel("13 days 23:59:59.999").await;
    let last = refresh_token(&service.refresh(0, &idle).await.ok(200));
    busy = service.refresh(0, &refresh_token(&busy)).await.ok(200);
    service.travel("13 days 23:59:59.999").await;
    busy = service.refresh(1, &refresh_token(&busy)).await.ok(200);
    service.travel("0.001 seconds").await;
    service
        .refresh(0, &last)
        .await
        .problem(401, "invalid_refresh_token");
    // An idle sign-in is no theft.
    assert_eq!(service.causes().await, json!({}));

    service.travel("2 days").await;
    busy = service.refresh(1, &refresh_token(&busy)).await.ok(200);
    service.travel("0.001 seconds").await;
    service
        .refresh(0, &refresh_token(&busy))
        .await
        .problem(401, "invalid_refresh_token");
    service.me(1, &busy).await.problem(401, "sign_in_ended");
    assert_eq!(service.causes().await, json!({}));
}

async fn fifty_refreshes_of_one_token_at_once_are_one_rotation(replicas: usize) {
    let service = Service::of(replicas, |config| config.db_connections = Some(64)).await;
    let token = refresh_token(&service.register("ada").await);
    let gate = service.replicas[0]
        .hold("select from private.refresh_tokens for update")
        .await;
    let refreshes = race((0..50).map(|turn| {
        let (visitor, body) = (service.visitor(turn), json!({ "refreshToken": token }));
        async move { visitor.post("/auth/refresh", body).await }
    }));
    gate.until_waiting(50).await;
    gate.release().await;
    let mut next: Vec<_> = refreshes
        .answers()
        .await
        .into_iter()
        .map(|answer| answer.ok(200))
        .collect();
    assert_eq!(next.len(), 50);
    for tokens in &next {
        service.me(0, tokens).await.ok(200);
    }
    next.dedup_by_key(|tokens| refresh_token(tokens));
    assert_eq!(next.len(), 1, "one refresh token, byte for byte");
    assert_eq!(
        service
            .text("select string_agg(generation::text, ',') from private.refresh_tokens")
            .await,
        "2",
        "one rotation"
    );
    assert_eq!(service.causes().await, json!({}));
    service.refresh(1, &refresh_token(&next[0])).await.ok(200);
}

async fn an_answer_that_is_lost_is_had_again(replicas: usize) {
    // The proxy is between the first replica and the database.
    let database = Database::migrated().await;
    let wire = Proxy::before(database.url()).await;
    let mut apps = vec![
        TestApp::start_on(database, |config| {
            config.database_url = Some(wire.url().clone());
            config.db_connections = Some(1);
        })
        .await,
    ];
    while apps.len() < replicas {
        apps.push(apps[0].replica(|_| {}).await);
    }
    let service = Service::from(apps);
    let generation = "select generation::text from private.refresh_tokens";
    let token = refresh_token(&service.register("ada").await);
    let token = refresh_token(&service.refresh(0, &token).await.ok(200));
    wire.cut_next_answer();
    service
        .refresh(0, &token)
        .await
        .problem(503, "database_unavailable");
    assert!(!wire.will_cut());
    assert_eq!(service.text(generation).await, "3", "it was committed");
    let next = refresh_token(&service.refresh(1, &token).await.ok(200));

    // The proxy is between the client and the service.
    let base = SecretString::from(service.replicas[0].base.clone());
    let wire = Proxy::before(&base).await;
    let visitor = Actor::new(wire.url().expose_secret().trim_end_matches('/'));
    let body = json!({ "refreshToken": next });
    wire.cut_next_answer();
    let lost = visitor
        .request(Method::POST, "/auth/refresh")
        .json(&body)
        .send()
        .await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(service.text(generation).await, "4", "it was committed");
    let again = service.refresh(1, &next).await.ok(200);
    service.me(0, &again).await.ok(200);
    service.refresh(0, &refresh_token(&again)).await.ok(200);
    assert_eq!(service.causes().await, json!({}));
}

async fn two_tabs_go_on_together(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    service.stop_clock().await;
    // The tabs share their storage, and wake up at the same moment.
    let mut kept = refresh_token(&service.register("ada").await);
    for _ in 0..20 {
        let tabs = race((0..2).map(|tab| {
            let (visitor, body) = (service.visitor(tab), json!({ "refreshToken": kept }));
            async move { visitor.post("/auth/refresh", body).await.ok(200) }
        }));
        let tabs = tabs.answers().await;
        assert_eq!(refresh_token(&tabs[0]), refresh_token(&tabs[1]));
        for (tab, tokens) in tabs.iter().enumerate() {
            service.me(tab, tokens).await.ok(200);
        }
        kept = refresh_token(&tabs[0]);
        service.travel("15 minutes").await;
    }
    assert_eq!(service.causes().await, json!({}));
}

/// A sign-in of a new user.
async fn anew(service: &Service) -> Value {
    let name = format!("ada{}", uuid::Uuid::new_v4().simple());
    service.register(&name[..20]).await
}

/// The service gives up a request after 30 s. The client has waited this long. It asks again, and may wait this long
/// again.
async fn an_answer_that_was_waited_for_as_long_as_it_may_take_is_had_again(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    service.stop_clock().await;
    let token = refresh_token(&service.register("ada").await);
    let lost = service.refresh(0, &token).await.ok(200);
    service.travel("30 seconds").await;
    let again = service.refresh(1, &token).await.ok(200);
    assert_eq!(refresh_token(&again), refresh_token(&lost));
    // This answer is lost, too.
    service.travel("30 seconds").await;
    let again = service.refresh(0, &token).await.ok(200);
    assert_eq!(refresh_token(&again), refresh_token(&lost));
    service.me(1, &again).await.ok(200);
    service.refresh(0, &refresh_token(&again)).await.ok(200);
    assert_eq!(service.causes().await, json!({}));

    // If tabs get no time, lost answers get no time either.
    let service = Service::of(replicas, |config| config.refresh_grace = 0).await;
    service.stop_clock().await;
    let token = refresh_token(&service.register("ada").await);
    service.refresh(0, &token).await.ok(200);
    service
        .refresh(1, &token)
        .await
        .problem(401, "refresh_token_reused");
}

/// If every late answer counted as lost, a thief could follow slowly.
async fn an_answer_is_taken_for_lost_once_in_four_generations(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    service.stop_clock().await;
    let lose = async |token: &str| {
        service.refresh(0, token).await.ok(200);
        service.travel("69.999 seconds").await;
        service.refresh(1, token).await
    };
    for (generations, believed) in [(1, false), (2, false), (3, false), (4, true), (5, true)] {
        let token = refresh_token(&anew(&service).await);
        let mut next = lose(&token).await.ok(200);
        for turn in 1..generations {
            service.travel("15 minutes").await;
            next = service.refresh(turn, &refresh_token(&next)).await.ok(200);
        }
        let again = lose(&refresh_token(&next)).await;
        if believed {
            let next = refresh_token(&again.ok(200));
            service.refresh(0, &next).await.ok(200);
        } else {
            again.problem(401, "refresh_token_reused");
        }
    }
    assert_eq!(service.causes().await, json!({ "reuse": 3 }));
}

/// Each tab has its own copy of the first token. They wake up one after another, and the last one comes when the others
/// have refreshed on their own.
async fn a_tab_that_comes_late_goes_on_with_the_newest_token(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    service.stop_clock().await;
    for (late, in_time) in [("9.999 seconds", true), ("10 seconds", false)] {
        let first = refresh_token(&anew(&service).await);
        let mut newest = service.refresh(0, &first).await.ok(200);
        // Seven tabs go on. The service remembers the redemptions of no more generations.
        for turn in 0..7 {
            newest = service.refresh(turn, &refresh_token(&newest)).await.ok(200);
        }
        service.travel(late).await;
        let tab = service.refresh(1, &first).await;
        if !in_time {
            tab.problem(401, "refresh_token_reused");
            continue;
        }
        let tab = tab.ok(200);
        assert_eq!(refresh_token(&tab), refresh_token(&newest));
        service.me(0, &tab).await.ok(200);
        service.travel("15 minutes").await;
        let next = service.refresh(0, &refresh_token(&tab)).await.ok(200);
        let again = service.refresh(1, &refresh_token(&newest)).await.ok(200);
        assert_eq!(refresh_token(&next), refresh_token(&again));
    }
    assert_eq!(service.causes().await, json!({ "reuse": 1 }));
}

async fn a_killed_service_leaves_each_sign_in_with_one_token(replicas: usize) {
    let service = Service::of(1, |_| {}).await;
    service.stop_clock().await;
    let url = service.replicas[0]
        .database
        .url()
        .expose_secret()
        .to_owned();
    let scratches: Vec<_> = (0..replicas).map(|_| Scratch::new()).collect();
    let serve = async |replica: usize| {
        let program = scratches[replica].program(&[]).on(&url);
        program.env("RATE_LIMITS", "off").serve().await
    };
    let mut running = Vec::new();
    for replica in 0..replicas {
        running.push(serve(replica).await);
    }
    let bases = Arc::new(Mutex::new(Vec::new()));
    let publish = |running: &[Program]| {
        let visitors = running.iter().map(Program::visitor).collect();
        *bases.lock().expect("it") = visitors;
    };
    publish(&running);

    let mut first = vec![service.register("ada").await];
    for _ in 1..8 {
        first.push(service.log_in("ada").await);
    }
    let (stop, refreshed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let devices = race(first.into_iter().map(|tokens| {
        let (bases, stop, refreshed) = (bases.clone(), stop.clone(), refreshed.clone());
        async move {
            let mut had = vec![refresh_token(&tokens)];
            for turn in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let visitor: Actor = {
                    let visitors: std::sync::MutexGuard<Vec<Actor>> = bases.lock().expect("it");
                    visitors[turn % visitors.len()].clone()
                };
                let body = json!({ "refreshToken": had.last() });
                let sent = visitor
                    .request(Method::POST, "/auth/refresh")
                    .json(&body)
                    .send()
                    .await;
                // There was no answer, or a broken one. Ask again with the same token.
                let Ok(response) = sent else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                let status = response.status();
                let Ok(body) = response.json::<Value>().await else {
                    continue;
                };
                assert_eq!(status, 200, "{body:#}");
                had.push(refresh_token(&body));
                refreshed.fetch_add(1, Ordering::SeqCst);
            }
            had
        }
    }));
    for kill in 0..6 {
        let goal = refreshed.load(Ordering::SeqCst) + 60 + 7 * kill;
        until("refreshes go on", async || {
            (refreshed.load(Ordering::SeqCst) >= goal).then_some(())
        })
        .await;
        let killed = std::mem::replace(&mut running[kill % replicas], serve(kill % replicas).await);
        killed.signal("KILL");
        killed.ended().await;
        publish(&running);
    }
    stop.store(true, Ordering::SeqCst);
    let devices = devices.answers().await;

    // Inside the window, each device goes on with its token, even if its last refresh brought no answer.
    let mut newest = Vec::new();
    for (turn, had) in devices.iter().enumerate() {
        let mut distinct = had.clone();
        distinct.dedup();
        assert!(distinct.len() > 10, "it was refreshed: {}", distinct.len());
        let visitor = running[turn % replicas].visitor();
        let body = json!({ "refreshToken": had.last() });
        let next = visitor.post("/auth/refresh", body).await.ok(200);
        newest.push(refresh_token(&next));
    }
    assert_eq!(service.causes().await, json!({}));
    // Outside the windows only the newest token of each sign-in counts.
    service.travel("70 seconds").await;
    for token in &newest[1..] {
        service.refresh(0, token).await.ok(200);
    }
    let before = devices[0].last().expect("a token");
    service
        .refresh(0, before)
        .await
        .problem(401, "refresh_token_reused");
    service
        .refresh(0, &newest[0])
        .await
        .problem(401, "invalid_refresh_token");
}
