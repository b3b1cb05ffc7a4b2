//! What becomes of sign-ins: they are listed, ended, and forgotten; each story with one replica and with two.

use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::support::{
    actor::{Actor, Answer, PASSWORD, answer, text},
    program::until,
    service::{Service, refresh_token, stories},
};

stories! {
    a_logout_ends_what_it_is_asked_to
    sign_ins_are_listed_with_their_devices_and_ended_one_by_one
    dead_sign_ins_are_swept_by_one_replica_at_a_time
}

async fn a_logout_ends_what_it_is_asked_to(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    let bystander = service.register("bob").await;
    for (scope, ended) in [
        ("local", [true, false, false]),
        ("others", [false, true, true]),
        ("global", [true, true, true]),
    ] {
        let mut devices = vec![service.register(&format!("ada-{scope}")).await];
        for _ in 1..3 {
            devices.push(service.log_in(&format!("ada-{scope}")).await);
        }
        // Again: as the first time.
        for turn in 0..2 {
            let answer = service
                .log_out(turn, &refresh_token(&devices[0]), scope)
                .await;
            assert_eq!(answer.ok(204), "");
        }
        for (turn, (device, ended)) in devices.iter().zip(ended).enumerate() {
            let refreshed = service.refresh(turn, &refresh_token(device)).await;
            let me = service.me(turn, device).await;
            if ended {
                refreshed.problem(401, "invalid_refresh_token");
                me.problem(401, "sign_in_ended");
            } else {
                refreshed.ok(200);
                me.ok(200);
            }
        }
    }
    assert_eq!(service.causes().await, json!({ "logout": 6 }));
    assert_eq!(
        service
            .text(
                "select count(*)::text from private.audit_log
                  where action = 'sign_in.revoked' and actor_id = user_id and database_role = 'speedcoding_api'"
            )
            .await,
        "6"
    );
    service.me(0, &bystander).await.ok(200);

    // The scope is local unless it is given; whatever else it is, is refused.
    let visitor = service.visitor(0);
    let token = refresh_token(&bystander);
    visitor
        .post(
            "/auth/logout",
            json!({ "refreshToken": token, "scope": "all" }),
        )
        .await
        .problem(400, "invalid_request");
    service.me(0, &bystander).await.ok(200);
    visitor
        .post("/auth/logout", json!({ "refreshToken": token }))
        .await
        .ok(204);
    service
        .me(0, &bystander)
        .await
        .problem(401, "sign_in_ended");
}

/// A device that calls itself by a name.
async fn log_in_from(service: &Service, turn: usize, username: &str, device: &str) -> Actor {
    let visitor = service.visitor(turn);
    let login = visitor
        .request(Method::POST, "/auth/login")
        .header(header::USER_AGENT, device)
        .json(&json!({ "username": username, "password": PASSWORD }));
    visitor.with_tokens(&answer(login).await.ok(200))
}

async fn delete(actor: &Actor, path: &str) -> Answer {
    answer(actor.request(Method::DELETE, path)).await
}

async fn sign_ins_are_listed_with_their_devices_and_ended_one_by_one(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    service.stop_clock().await;
    let tokens = service.register("ada").await;
    let desk = service.visitor(0).with_tokens(&tokens);
    let bob = service
        .visitor(1)
        .with_tokens(&service.register("bob").await);
    service.travel("1 hour").await;
    let phone = log_in_from(&service, 1, "ada", "Phone/1").await;
    let tablet = log_in_from(&service, 0, "ada", "Tablet/2").await;
    service.travel("1 hour").await;
    service.refresh(1, &refresh_token(&tokens)).await.ok(200);

    let listed = phone.get("/auth/sign-ins").await.ok(200);
    assert_eq!(listed["nextCursor"], Value::Null);
    let items = listed["items"].as_array().expect("items");
    assert_eq!(items.len(), 3, "{listed:#}");
    let oldest = &items[2];
    assert_eq!(oldest["device"], Value::Null);
    assert_eq!(oldest["createdAt"], tokens["user"]["createdAt"]);
    let mut times = vec![text(oldest, "/createdAt"), text(&items[0], "/createdAt")];
    times.push(text(oldest, "/lastUsedAt"));
    assert!(times.is_sorted(), "last used is later: {times:?}");
    for (item, device, current) in
        [(0, "Phone/1", true), (1, "Tablet/2", false)].map(|(_, device, current)| {
            let item = items.iter().find(|item| item["device"] == device);
            (item.expect("the device"), device, current)
        })
    {
        assert_eq!(item["current"], current, "{device}");
        assert_eq!(item["address"], "127.0.0.1");
        assert_eq!(item["lastUsedAt"], item["createdAt"]);
    }

    // Page by page it is the same list.
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = phone
            .get(&format!("/auth/sign-ins?limit=1{cursor}"))
            .await
            .ok(200);
        paged.extend(page["items"].as_array().expect("items").clone());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(&paged, items);

    // One is signed out from another device: at once, and whoever repeats it is answered as the first time.
    let id_of = |device: &str| {
        let item = items.iter().find(|item| item["device"] == device);
        format!("/auth/sign-ins/{}", text(item.expect("the device"), "/id"))
    };
    let before = service.sign_ins().await;
    let (of_phone, of_tablet) = (id_of("Phone/1"), id_of("Tablet/2"));
    let foreign = delete(&bob, &of_tablet).await;
    let missing = delete(&bob, "/auth/sign-ins/00000000-0000-4000-8000-000000000000").await;
    let foreign = foreign.problem(404, "sign_in_not_found");
    let missing = missing.problem(404, "sign_in_not_found");
    assert_eq!(foreign["detail"], missing["detail"]);
    assert_eq!(service.sign_ins().await, before);

    tablet.get("/auth/me").await.ok(200);
    for _ in 0..2 {
        assert_eq!(delete(&phone, &of_tablet).await.ok(204), "");
    }
    tablet.get("/auth/me").await.problem(401, "sign_in_ended");
    desk.get("/auth/me").await.ok(200);
    assert_eq!(delete(&phone, &of_phone).await.ok(204), "");
    phone.get("/auth/me").await.problem(401, "sign_in_ended");
    let left = desk.get("/auth/sign-ins").await.ok(200);
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(service.causes().await, json!({ "signed_out": 2 }));
    let by = "select count(*)::text from private.audit_log
               where action = 'sign_in.revoked' and actor_id = user_id";
    assert_eq!(service.text(by).await, "2");
}

async fn dead_sign_ins_are_swept_by_one_replica_at_a_time(replicas: usize) {
    // Past one batch, with some that live among them; nobody knows a token of these.
    const MANY: &str = "
        insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at, revoked_at, revoked_reason)
        select gen_random_uuid(), id, sha256(''), '\\x00000000', private.clock() + idle, private.clock() + '20 days',
               private.clock() + ended, case when ended is not null then 'logout' end
          from public.users, generate_series(1, 700),
               (values (interval '10 days', null), ('-25 hours', null), ('-23 hours', null),
                       ('10 days', interval '-25 hours'), ('10 days', '-23 hours')) as kind (idle, ended)";
    let living = "select count(*)::text from private.refresh_tokens
                   where least(idle_expires_at, revoked_at) > private.clock() - interval '1 day'";
    let all = "select count(*)::text from private.refresh_tokens";
    let service = Service::of(replicas, |config| config.sweep_interval = 1).await;
    let lock = "select pg_advisory_xact_lock(hashtextextended('speedcoding.sweep_sign_ins', 0))";
    let gate = service.replicas[0].hold(lock).await;
    let tokens = service.register("ada").await;
    service.execute(MANY).await;
    // While one is at it, nobody else is.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(service.text(all).await, "3501");
    assert_eq!(service.text(living).await, "2101");
    gate.release().await;
    until("dead sign-ins are gone", async || {
        (service.text(all).await == "2101").then_some(())
    })
    .await;
    assert_eq!(service.text(living).await, "2101");
    service.me(0, &tokens).await.ok(200);

    // Nor does a row that is locked hold the sweep up.
    service.execute(MANY).await;
    let gate = service.replicas[0]
        .hold("select from private.refresh_tokens where revoked_at < private.clock() - interval '1 day' limit 5 for update")
        .await;
    until("the others are gone", async || {
        (service.text(all).await == "4206").then_some(())
    })
    .await;
    gate.release().await;
    until("these, too", async || {
        (service.text(all).await == "4201").then_some(())
    })
    .await;

    // What is gone is unknown: its token is answered like any other that does not count.
    service.travel("15 days").await;
    let token = refresh_token(&tokens);
    until("all are gone", async || {
        (service.text(all).await == "0").then_some(())
    })
    .await;
    service
        .refresh(0, &token)
        .await
        .problem(401, "invalid_refresh_token");
    service.log_out(1, &token, "global").await.ok(204);
    service.me(0, &tokens).await.problem(401, "sign_in_ended");
}
