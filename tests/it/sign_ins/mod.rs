//! Sign-ins are listed, ended, and removed. Each story runs with one replica and with two.

mod passwords;

use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::support::{
    actor::{Actor, PASSWORD, answer, text},
    program::until,
    race::race,
    service::{Service, refresh_token, stories},
};

const NEW_PASSWORD: &str = "a mare's nest of 7 gerbils";

stories! {
    a_logout_ends_what_it_is_asked_to
    of_two_devices_that_log_the_others_out_at_once_one_is_left
    sign_ins_are_listed_with_their_devices_and_ended_one_by_one
    dead_sign_ins_are_swept_by_one_replica_at_a_time
    an_account_has_a_hundred_sign_ins_and_the_oldest_ends
    what_the_account_has_outlived_is_ended_by_name_by_the_sweep
    a_device_that_is_kept_refreshes_while_the_others_are_ended
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
        // A retry answers as the first time.
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

    // Without a scope, it is local. Unknown scopes are refused.
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

async fn of_two_devices_that_log_the_others_out_at_once_one_is_left(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    let mut left = service.register("ada").await;
    for round in 0..20 {
        let devices = [left, service.log_in("ada").await];
        let log_out = |turn: usize| {
            let body = json!({ "refreshToken": refresh_token(&devices[turn]), "scope": "others" });
            let visitor = service.visitor(turn);
            async move { visitor.post("/auth/logout", body).await }
        };
        // In every other round both requests have begun before one of them ends a sign-in.
        let gate = if round % 2 == 0 {
            let lock = "select from private.refresh_tokens for update";
            Some(service.replicas[0].hold(lock).await)
        } else {
            None
        };
        let logouts = race([log_out(0), log_out(1)]);
        if let Some(gate) = gate {
            gate.until_waiting(2).await;
            gate.release().await;
        }
        for answer in logouts.answers().await {
            answer.ok(204);
        }
        let mut alive = Vec::new();
        for (turn, device) in devices.into_iter().enumerate() {
            if service.me(turn, &device).await.status == 200 {
                alive.push(device);
            }
        }
        assert_eq!(alive.len(), 1, "round {round}");
        left = alive.remove(0);
    }
}

/// A device that sends a name as its User-Agent.
async fn log_in_from(service: &Service, turn: usize, username: &str, device: &str) -> Actor {
    let visitor = service.visitor(turn);
    let login = visitor
        .request(Method::POST, "/auth/login")
        .header(header::USER_AGENT, device)
        .json(&json!({ "username": username, "password": PASSWORD }));
    visitor.with_tokens(&answer(login).await.ok(200))
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

    // The pages together are the same list.
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

    // Another device ends one sign-in. It ends at once, and a repeated request answers as the first time.
    let id_of = |device: &str| {
        let item = items.iter().find(|item| item["device"] == device);
        format!("/auth/sign-ins/{}", text(item.expect("the device"), "/id"))
    };
    let before = service.sign_ins().await;
    let (of_phone, of_tablet) = (id_of("Phone/1"), id_of("Tablet/2"));
    let foreign = bob.delete(&of_tablet).await;
    let missing = bob
        .delete("/auth/sign-ins/00000000-0000-4000-8000-000000000000")
        .await;
    let foreign = foreign.problem(404, "sign_in_not_found");
    let missing = missing.problem(404, "sign_in_not_found");
    assert_eq!(foreign["detail"], missing["detail"]);
    assert_eq!(service.sign_ins().await, before);

    tablet.get("/auth/me").await.ok(200);
    for _ in 0..2 {
        assert_eq!(phone.delete(&of_tablet).await.ok(204), "");
    }
    tablet.get("/auth/me").await.problem(401, "sign_in_ended");
    desk.get("/auth/me").await.ok(200);
    assert_eq!(phone.delete(&of_phone).await.ok(204), "");
    phone.get("/auth/me").await.problem(401, "sign_in_ended");
    let left = desk.get("/auth/sign-ins").await.ok(200);
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(service.causes().await, json!({ "signed_out": 2 }));
    let by = "select count(*)::text from private.audit_log
               where action = 'sign_in.revoked' and actor_id = user_id";
    assert_eq!(service.text(by).await, "2");
}

async fn dead_sign_ins_are_swept_by_one_replica_at_a_time(replicas: usize) {
    // More than one batch, with some living ones among them. No client has a token of these.
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
    // Only one replica sweeps at a time.
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

    // A locked row does not hold up the sweep either.
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

    // A removed sign-in is unknown. Its token gets the answer of any token that does not count.
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

/// Sign-ins of a user, each a second younger than the one before. No client has their tokens.
fn nobodys(count: usize, username: &str) -> String {
    format!(
        "insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, created_at, idle_expires_at, expires_at)
         select gen_random_uuid(), id, sha256(''), '\\x00000000', private.clock() + n * interval '1 second',
                private.clock() + interval '10 days', private.clock() + interval '20 days'
           from public.users, generate_series(1, {count}) as n
          where username = '{username}'"
    )
}

async fn an_account_has_a_hundred_sign_ins_and_the_oldest_ends(replicas: usize) {
    let service = Service::of(replicas, |config| config.db_connections = Some(16)).await;
    service.stop_clock().await;
    let bystander = service.register("bob").await;
    let mut devices = vec![service.register("ada").await];
    for _ in 0..2 {
        service.travel("1 second").await;
        devices.push(service.log_in("ada").await);
    }
    service.execute(&nobodys(96, "ada")).await;
    service.travel("1 hour").await;
    // This is the hundredth sign-in. It does not matter which tokens last longest.
    devices.push(service.log_in("ada").await);
    devices[0] = service
        .refresh(0, &refresh_token(&devices[0]))
        .await
        .ok(200);
    for (turn, device) in devices.iter().enumerate() {
        service.me(turn, device).await.ok(200);
    }
    assert_eq!(service.causes().await, json!({}));

    // Two more, at the same moment.
    let gate = service.replicas[0]
        .hold("select from private.credentials for update")
        .await;
    let credentials = json!({ "username": "ada", "password": PASSWORD });
    let logins = race((0..2).map(|turn| {
        let (visitor, credentials) = (service.visitor(turn), credentials.clone());
        async move { visitor.post("/auth/login", credentials).await }
    }));
    gate.until_waiting(2).await;
    gate.release().await;
    devices.extend(
        logins
            .answers()
            .await
            .into_iter()
            .map(|login| login.ok(200)),
    );
    assert_eq!(service.causes().await, json!({ "too_many": 2 }));
    for (turn, device) in devices.iter().enumerate() {
        let me = service.me(turn, device).await;
        let refreshed = service.refresh(turn, &refresh_token(device)).await;
        if turn < 2 {
            me.problem(401, "sign_in_ended");
            refreshed.problem(401, "invalid_refresh_token");
        } else {
            me.ok(200);
            refreshed.ok(200);
        }
    }
    let by = "select count(*)::text from private.audit_log
               where action = 'sign_in.revoked' and actor_id = user_id and details ->> 'cause' = 'too_many'";
    assert_eq!(service.text(by).await, "2");
    let living = "select count(*)::text from private.refresh_tokens as token
                    join public.users as account on account.id = user_id
                   where username = 'ada' and live_until > private.clock()";
    assert_eq!(service.text(living).await, "100");
    service.me(0, &bystander).await.ok(200);
}

async fn what_the_account_has_outlived_is_ended_by_name_by_the_sweep(replicas: usize) {
    let service = Service::of(replicas, |config| config.sweep_interval = 1).await;
    let ada = service.register("ada").await;
    let bob = service.register("bob").await;
    service.execute(&nobodys(250, "ada")).await;
    service.execute(&nobodys(250, "bob")).await;
    service
        .log_out(0, &refresh_token(&ada), "others")
        .await
        .ok(204);
    let all = json!({ "logout": 100, "outdated": 150 });
    until("all are ended by name", async || {
        (service.causes().await == all).then_some(())
    })
    .await;
    service.me(0, &ada).await.ok(200);
    service.me(1, &bob).await.ok(200);
    let living =
        "select count(*)::text from private.refresh_tokens where live_until > private.clock()";
    assert_eq!(
        service.text(living).await,
        "252",
        "bob's, and the one that was kept"
    );
}

/// The test runs with both orders of waiting.
async fn a_device_that_is_kept_refreshes_while_the_others_are_ended(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    for (number, (end, refresh_is_first)) in [
        ("password", true),
        ("password", false),
        ("others", true),
        ("others", false),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("ada{number}");
        let (kept, other) = (service.register(&name).await, service.log_in(&name).await);
        let actor = service.visitor(0).with_tokens(&kept);
        let body = json!({ "refreshToken": refresh_token(&kept), "scope": "others" });
        let ending = async move {
            match end {
                "others" => actor.post("/auth/logout", body).await,
                _ => actor.change_password(PASSWORD, NEW_PASSWORD).await,
            }
        };
        let (visitor, body) = (
            service.visitor(1),
            json!({ "refreshToken": refresh_token(&kept) }),
        );
        let refresh = async move { visitor.post("/auth/refresh", body).await };
        let gate = service.replicas[0]
            .hold("select from private.refresh_tokens for update")
            .await;
        let (ending, refresh) = if refresh_is_first {
            let refresh = race([refresh]);
            gate.until_waiting(1).await;
            (race([ending]), refresh)
        } else {
            let ending = race([ending]);
            gate.until_waiting(1).await;
            (ending, race([refresh]))
        };
        gate.until_waiting(2).await;
        gate.release().await;
        ending.answers().await.remove(0).ok(204);
        let next = refresh.answers().await.remove(0).ok(200);
        service.me(0, &next).await.ok(200);
        service.refresh(1, &refresh_token(&next)).await.ok(200);
        service.me(0, &other).await.problem(401, "sign_in_ended");
    }
}
