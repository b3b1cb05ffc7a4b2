//! Sign-ins are listed, ended, and removed. Each story is told with one replica and with two.

use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};
use speedcoding::config::Config;

use crate::support::{
    actor::{Actor, Answer, PASSWORD, answer, text},
    program::until,
    race::race,
    service::{Service, refresh_token, stories},
};

stories! {
    a_logout_ends_what_it_is_asked_to
    of_two_devices_that_log_the_others_out_at_once_one_is_left
    sign_ins_are_listed_with_their_devices_and_ended_one_by_one
    dead_sign_ins_are_swept_by_one_replica_at_a_time
    an_account_has_a_hundred_sign_ins_and_the_oldest_ends
    what_the_account_has_outlived_is_ended_by_name_by_the_sweep
    a_device_that_is_kept_refreshes_while_the_others_are_ended
    a_password_is_changed_by_who_knows_it_and_ends_the_other_sign_ins
    the_password_that_is_asked_for_again_is_guessed_as_slowly_as_at_login
    a_login_with_the_old_password_does_not_outlive_its_change
    two_changes_of_a_password_at_once_are_one
    an_erasure_with_the_old_password_does_not_outlive_its_change
    an_account_without_approved_runs_is_erased_wholly
    approved_runs_stay_under_a_name_that_says_nothing
    an_erasure_leaves_nothing_of_what_races_it
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
    // The hundredth sign-in. It does not matter whose tokens last longest.
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

const NEW_PASSWORD: &str = "a mare's nest of 7 gerbils";

/// The answer to a login with a password.
async fn log_in_with(service: &Service, turn: usize, username: &str, password: &str) -> Answer {
    service.visitor(turn).log_in(username, password).await
}

async fn a_password_is_changed_by_who_knows_it_and_ends_the_other_sign_ins(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    let (tokens, other) = (service.register("ada").await, service.log_in("ada").await);
    let bob = service.register("bob").await;
    let ada = service.visitor(0).with_tokens(&tokens);
    let state = async || {
        let hashes =
            "select string_agg(password_hash, ' ' order by user_id) from private.credentials";
        (service.text(hashes).await, service.sign_ins().await)
    };
    let before = state().await;
    for wrong in ["", "not the right passphrase", NEW_PASSWORD] {
        ada.change_password(wrong, NEW_PASSWORD)
            .await
            .problem(403, "wrong_password");
    }
    let fault = |code: &str| vec![("newPassword".to_owned(), code.to_owned())];
    for (weak, code) in [
        ("kT9#vQz", "too_short"),
        ("password", "common_password"),
        (&"kT9#vQz!".repeat(17), "too_long"),
    ] {
        let refused = ada.change_password(PASSWORD, weak).await;
        assert_eq!(refused.faults(), fault(code), "{weak}");
    }
    service
        .visitor(1)
        .post("/auth/password", json!({}))
        .await
        .problem(401, "missing_token");
    assert_eq!(state().await, before);

    assert_eq!(
        ada.change_password(PASSWORD, NEW_PASSWORD).await.ok(204),
        ""
    );
    service.me(1, &tokens).await.ok(200);
    service.refresh(1, &refresh_token(&tokens)).await.ok(200);
    service.me(0, &other).await.problem(401, "sign_in_ended");
    service
        .refresh(1, &refresh_token(&other))
        .await
        .problem(401, "invalid_refresh_token");
    log_in_with(&service, 0, "ada", PASSWORD)
        .await
        .problem(401, "wrong_credentials");
    log_in_with(&service, 1, "ada", NEW_PASSWORD).await.ok(200);
    service.me(0, &bob).await.ok(200);
    assert_eq!(service.causes().await, json!({ "password_changed": 1 }));
    let audited = "select count(*)::text from private.audit_log
                    where action = 'user.password_changed' and actor_id = user_id";
    assert_eq!(service.text(audited).await, "1");
}

async fn the_password_that_is_asked_for_again_is_guessed_as_slowly_as_at_login(replicas: usize) {
    let limits = |config: &mut Config| config.rate_limits = "on".parse().expect("limits");
    let service = Service::of(replicas, limits).await;
    service.stop_clock().await;
    let tokens = service.register("ada").await;
    // Somebody has copied an access token.
    let thief = |turn| service.visitor(turn).with_tokens(&tokens);
    for turn in 0..5 {
        let guess = thief(turn)
            .change_password("a wrong guess", NEW_PASSWORD)
            .await;
        guess.problem(403, "wrong_password");
    }
    // From now on a right guess gets the answer of a wrong one, in every request.
    for guess in ["a wrong guess", PASSWORD] {
        thief(0)
            .change_password(guess, NEW_PASSWORD)
            .await
            .problem(429, "too_many_failed_logins");
        thief(1)
            .erase(guess)
            .await
            .problem(429, "too_many_failed_logins");
        log_in_with(&service, 0, "ada", guess)
            .await
            .problem(429, "too_many_failed_logins");
    }
    service.me(0, &tokens).await.ok(200);
    service.travel("15 minutes").await;
    thief(0)
        .change_password(PASSWORD, NEW_PASSWORD)
        .await
        .ok(204);
    thief(1).erase(NEW_PASSWORD).await.ok(204);
}

async fn a_login_with_the_old_password_does_not_outlive_its_change(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    for (name, login_is_first) in [("ada", true), ("bob", false)] {
        let ada = service
            .visitor(0)
            .with_tokens(&service.register(name).await);
        let change = async move { ada.change_password(PASSWORD, NEW_PASSWORD).await };
        let credentials = json!({ "username": name, "password": PASSWORD });
        let thief = service.visitor(1);
        let login = async move { thief.post("/auth/login", credentials).await };
        // Both have compared the old password, and wait.
        let gate = service.replicas[0]
            .hold("select from private.credentials for update")
            .await;
        let (login, change) = if login_is_first {
            let login = race([login]);
            gate.until_waiting(1).await;
            (login, race([change]))
        } else {
            let change = race([change]);
            gate.until_waiting(1).await;
            (race([login]), change)
        };
        gate.until_waiting(2).await;
        gate.release().await;
        change.answers().await.remove(0).ok(204);
        let login = login.answers().await.remove(0);
        if login.status == 200 {
            service
                .me(0, &login.body)
                .await
                .problem(401, "sign_in_ended");
            service
                .refresh(1, &refresh_token(&login.body))
                .await
                .problem(401, "invalid_refresh_token");
        } else {
            login.problem(401, "wrong_credentials");
        }
        let left = format!(
            "select count(*)::text from private.refresh_tokens
              where revoked_at is null and user_id = (select id from public.users where username = '{name}')"
        );
        assert_eq!(service.text(&left).await, "1", "the one that changed it");
    }
}

async fn two_changes_of_a_password_at_once_are_one(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    let devices = [service.register("ada").await, service.log_in("ada").await];
    let gate = service.replicas[0]
        .hold("select from private.credentials for update")
        .await;
    let changes = race([0, 1].map(|turn| {
        let device = service.visitor(turn).with_tokens(&devices[turn]);
        let new = format!("{NEW_PASSWORD} {turn}");
        async move { device.change_password(PASSWORD, &new).await }
    }));
    gate.until_waiting(2).await;
    gate.release().await;
    let changed: Vec<_> = changes.answers().await;
    let won = changed.iter().position(|answer| answer.status == 204);
    let won = won.expect("one of them");
    for (turn, answer) in changed.into_iter().enumerate() {
        let new = format!("{NEW_PASSWORD} {turn}");
        if turn == won {
            service.me(turn, &devices[turn]).await.ok(200);
            log_in_with(&service, turn, "ada", &new).await.ok(200);
        } else {
            // The second request is told to try again. Then it learns that its sign-in has ended.
            answer.problem(503, "busy");
            let device = service.visitor(turn).with_tokens(&devices[turn]);
            let again = device.change_password(PASSWORD, &new).await;
            again.problem(401, "sign_in_ended");
            log_in_with(&service, turn, "ada", &new)
                .await
                .problem(401, "wrong_credentials");
        }
    }
}

async fn an_erasure_with_the_old_password_does_not_outlive_its_change(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    let tokens = service.register("ada").await;
    let ada = |turn| service.visitor(turn).with_tokens(&tokens);
    let lock = format!(
        "select pg_advisory_xact_lock(hashtextextended('{}', 0))",
        ada(0).id
    );
    // The erasure has compared the old password, and waits.
    let gate = service.replicas[0].hold(&lock).await;
    let (thief, owner) = (ada(0), ada(1));
    let erasure = race([async move { thief.erase(PASSWORD).await }]);
    gate.until_waiting(1).await;
    owner.change_password(PASSWORD, NEW_PASSWORD).await.ok(204);
    gate.release().await;
    erasure.answers().await.remove(0).problem(503, "busy");
    log_in_with(&service, 0, "ada", NEW_PASSWORD).await.ok(200);
    owner.erase(PASSWORD).await.problem(403, "wrong_password");
    owner.erase(NEW_PASSWORD).await.ok(204);
}

async fn an_account_without_approved_runs_is_erased_wholly(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    let tokens = service.register("lovelace").await;
    let ada = log_in_from(&service, 1, "lovelace", "Difference Engine/2").await;
    ada.complete_run().await;
    ada.start("freestyle").await;
    let bob = service
        .visitor(0)
        .with_tokens(&service.register("bob").await);
    let bobs = bob.complete_run().await;

    ada.erase("not the right passphrase")
        .await
        .problem(403, "wrong_password");
    assert_eq!(ada.erase(PASSWORD).await.ok(204), "");
    // Again: as the first time.
    assert_eq!(ada.erase(PASSWORD).await.ok(204), "");
    ada.get("/auth/me").await.problem(401, "sign_in_ended");
    ada.change_password(PASSWORD, NEW_PASSWORD)
        .await
        .problem(401, "sign_in_ended");
    service
        .refresh(1, &refresh_token(&tokens))
        .await
        .problem(401, "invalid_refresh_token");
    log_in_with(&service, 0, "lovelace", PASSWORD)
        .await
        .problem(401, "wrong_credentials");

    // The audit log has only ids, and no other table has anything.
    let traces = service.replicas[0].dump().await;
    let traces = traces.lines().filter(|row| {
        row.contains("lovelace") || row.contains("Difference") || row.contains(&ada.id)
    });
    let is_audited = |row: &&str| row.contains(",speedcoding_api,") && !row.contains("lovelace");
    let others = traces.filter(|row| !is_audited(row));
    assert_eq!(others.collect::<Vec<_>>(), [""; 0]);
    let erased = "select count(*)::text from private.audit_log where action = 'user.erased' and actor_id = user_id";
    assert_eq!(service.text(erased).await, "1");

    // Other users keep everything of theirs, and the name is free.
    let id = text(&bobs, "/id");
    assert_eq!(bob.session(&id).await.ok(200)["status"], "completed");
    let anew = service.register("lovelace").await;
    assert_ne!(anew["user"]["id"], ada.id);
    ada.get("/auth/me").await.problem(401, "sign_in_ended");
}

async fn approved_runs_stay_under_a_name_that_says_nothing(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    service.register("lovelace").await;
    let ada = log_in_from(&service, 1, "lovelace", "Difference Engine/2").await;
    let approved = text(&ada.complete_run().await, "/id");
    let pending = text(&ada.complete_run().await, "/id");
    let running = ada.start("freestyle").await;
    service
        .execute(&format!(
            "update public.users set role = 'moderator' where username = 'lovelace';
             update public.submissions set status = 'APPROVED' where session_id = '{approved}'"
        ))
        .await;
    // A moderator who has claimed a submission.
    let bob = service
        .visitor(0)
        .with_tokens(&service.register("bob").await);
    let taken = bob.hand_in().await;
    ada.claim(&taken).await.ok(200);
    let board = async || {
        let board = service.visitor(0).get("/leaderboards/slack-clone").await;
        board.ok(200)["items"].clone()
    };
    let before = board().await;
    assert_eq!(before[0]["user"]["username"], "lovelace");
    assert_eq!(ada.erase(PASSWORD).await.ok(204), "");
    assert_eq!(ada.erase(PASSWORD).await.ok(204), "");

    let after = board().await;
    let name = text(&after, "/0/user/username");
    let random = name.strip_prefix("erased-").expect("an anonymous name");
    assert!(
        random.len() == 12 && random.chars().all(|c| c.is_ascii_hexdigit()),
        "{name}"
    );
    assert_eq!(after[0]["user"]["id"], ada.id);
    assert_eq!(after[0]["sessionId"], approved);
    assert_eq!(after[0]["totalTimeMs"], before[0]["totalTimeMs"]);
    let visitor = service.visitor(1);
    let run = visitor.session(&approved).await.ok(200);
    assert_eq!(run["milestones"].as_array().map(Vec::len), Some(7));
    for gone in [&pending, &running] {
        visitor
            .session(gone)
            .await
            .problem(404, "session_not_found");
    }
    visitor
        .get(&format!("/users/{name}"))
        .await
        .problem(404, "user_not_found");
    ada.get("/auth/me").await.problem(401, "sign_in_ended");
    for old in ["lovelace", &name] {
        log_in_with(&service, 0, old, PASSWORD)
            .await
            .problem(401, "wrong_credentials");
    }
    let traces = service.replicas[0].dump().await;
    assert!(
        !traces.contains("lovelace") && !traces.contains("Difference"),
        "{traces}"
    );
    let left = "select (select count(*) from public.sessions) || ' ' || (select count(*) from public.submissions)
                || ' ' || (select count(*) from private.credentials) || ' ' || (select count(*) from private.refresh_tokens)
                || ' ' || (select string_agg(role::text, ' ') from public.users)";
    // Bob's own runs are there beside that one run.
    assert_eq!(service.text(left).await, "2 2 1 1 runner runner");
    let claims = "select count(claimed_by)::text from public.submissions";
    assert_eq!(service.text(claims).await, "0");

    // When that run is rejected, the account has nothing left to show, and the boards follow.
    service
        .execute("update public.submissions set status = 'PENDING' where status = 'APPROVED'")
        .await;
    assert_eq!(board().await, json!([]));
}

async fn an_erasure_leaves_nothing_of_what_races_it(replicas: usize) {
    let service = Service::of(replicas, |config| config.db_connections = Some(32)).await;
    for approved in [false, true] {
        let name = format!("ada-{approved}");
        let tokens = service.register(&name).await;
        let ada = service.visitor(0).with_tokens(&tokens);
        let run = text(&ada.complete_run().await, "/id");
        if approved {
            let approve = format!(
                "update public.submissions set status = 'APPROVED' where session_id = '{run}'"
            );
            service.execute(&approve).await;
        }
        // All of them wait for the user's row, or for the erasure.
        let lock = format!(
            "select from public.users where id = '{}' for update",
            ada.id
        );
        let gate = service.replicas[0].hold(&lock).await;
        let erasure = {
            let ada = ada.clone();
            race([async move { ada.erase(PASSWORD).await }])
        };
        gate.until_waiting(1).await;
        let others = race((0..12).map(|turn| {
            let (visitor, tokens, name) = (service.visitor(turn), tokens.clone(), name.clone());
            let ada = service.visitor(turn).with_tokens(&tokens);
            async move {
                match turn % 3 {
                    0 => {
                        let body = json!({ "refreshToken": refresh_token(&tokens) });
                        visitor.post("/auth/refresh", body).await
                    }
                    1 => {
                        let body = json!({ "username": name, "password": PASSWORD });
                        visitor.post("/auth/login", body).await
                    }
                    _ => {
                        let body = json!({ "techStack": "Rust" });
                        ada.start_with(body).await
                    }
                }
            }
        }));
        gate.until_waiting(9).await;
        gate.release().await;
        erasure.answers().await.remove(0).ok(204);
        for answer in others.answers().await {
            let status = answer.status.as_u16();
            assert!([401, 403].contains(&status), "{status}: {:#}", answer.body);
        }
        let left = format!(
            "select (select count(*) from public.sessions where user_id = '{0}') || ' '
                 || (select count(*) from private.credentials where user_id = '{0}') || ' '
                 || (select count(*) from private.refresh_tokens where user_id = '{0}')",
            ada.id
        );
        let runs = u8::from(approved);
        assert_eq!(service.text(&left).await, format!("{runs} 0 0"));
    }
}
