//! Sign-ins: refreshing them whatever goes wrong, and ending them; each story with one replica and with two.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Method, header};
use serde_json::{Value, json};
use speedcoding::config::Config;

use crate::support::{
    actor::{Actor, Answer, PASSWORD, answer, text},
    app::TestApp,
    program::until,
};

/// The service: replicas on one database, which take turns.
struct Service {
    replicas: Vec<TestApp>,
}

impl Service {
    async fn of(count: usize, change: impl Fn(&mut Config)) -> Self {
        let mut replicas = vec![TestApp::start_with(&change).await];
        while replicas.len() < count {
            replicas.push(replicas[0].replica(&change).await);
        }
        Service { replicas }
    }

    /// Somebody who has not signed in, at the replica whose turn it is.
    fn visitor(&self, turn: usize) -> Actor {
        self.replicas[turn % self.replicas.len()].visitor()
    }

    async fn refresh(&self, turn: usize, token: &str) -> Answer {
        self.visitor(turn)
            .post("/auth/refresh", json!({ "refreshToken": token }))
            .await
    }

    async fn log_out(&self, turn: usize, token: &str, scope: &str) -> Answer {
        let body = json!({ "refreshToken": token, "scope": scope });
        self.visitor(turn).post("/auth/logout", body).await
    }

    async fn register(&self, username: &str) -> Value {
        let credentials = json!({ "username": username, "password": PASSWORD });
        self.visitor(0)
            .post("/auth/register", credentials)
            .await
            .ok(201)
    }

    async fn log_in(&self, username: &str) -> Value {
        let credentials = json!({ "username": username, "password": PASSWORD });
        self.visitor(1)
            .post("/auth/login", credentials)
            .await
            .ok(200)
    }

    /// What `GET /auth/me` makes of an access token.
    async fn me(&self, turn: usize, tokens: &Value) -> Answer {
        let actor = self.visitor(turn).with_tokens(tokens);
        actor.get("/auth/me").await
    }

    /// The whole table of sign-ins, to be compared with what it is later.
    async fn sign_ins(&self) -> String {
        self.text(
            "select coalesce(json_agg(t order by id), '[]')::text from private.refresh_tokens as t",
        )
        .await
    }

    /// What the audit log says of sign-ins that ended: how often for which cause.
    async fn causes(&self) -> Value {
        let causes = self
            .text(
                "select coalesce(jsonb_object_agg(cause, times), '{}')::text
                   from (select details ->> 'cause' as cause, count(*) as times
                           from private.audit_log where action = 'sign_in.revoked' group by 1) as ended",
            )
            .await;
        serde_json::from_str(&causes).expect("JSON")
    }

    async fn text(&self, sql: &str) -> String {
        let row = self.replicas[0].sql().await.query_one(sql, &[]).await;
        row.expect(sql).get(0)
    }

    async fn execute(&self, sql: &str) {
        let done = self.replicas[0].sql().await.batch_execute(sql).await;
        done.expect(sql);
    }

    async fn stop_clock(&self) {
        self.replicas[0].stop_clock().await;
    }

    async fn travel(&self, by: &str) {
        self.replicas[0].travel(by).await;
    }
}

fn refresh_token(tokens: &Value) -> String {
    text(tokens, "/refreshToken")
}

/// Tells each story twice.
macro_rules! stories {
    ($($story:ident)*) => {
        mod one_replica { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $story() { super::$story(1).await; } )* }
        mod two_replicas { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $story() { super::$story(2).await; } )* }
    };
}

stories! {
    a_refresh_gives_new_tokens_and_the_sign_in_stays
    a_token_used_again_at_once_has_the_same_successor_and_later_ends_the_sign_in
    an_older_token_ends_the_sign_in_at_once
    a_token_from_before_a_restored_backup_ends_the_sign_in
    a_sign_in_ends_after_fourteen_idle_days_and_after_thirty_in_any_case
    a_token_that_this_service_did_not_sign_changes_nothing
    a_logout_ends_what_it_is_asked_to
    sign_ins_are_listed_with_their_devices_and_ended_one_by_one
    dead_sign_ins_are_swept_by_one_replica_at_a_time
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
        // An access token lives on beside the next one.
        service.me(turn, &tokens).await.ok(200);
        tokens = next;
    }
    assert_eq!(
        service
            .text("select count(*)::text from private.refresh_tokens")
            .await,
        "1"
    );
    // A role counts from the next token on, for display; a session knows when the password was given.
    service
        .execute("update public.users set role = 'moderator'")
        .await;
    service.travel("1 hour").await;
    let next = service.refresh(0, &refresh_token(&tokens)).await.ok(200);
    assert_eq!(next["user"]["role"], "moderator");
    let claims = |tokens: &Value| -> Value {
        let token = text(tokens, "/accessToken");
        let claims = token.split('.').nth(1).expect("claims");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("JSON")
    };
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
    // However often it is asked: the window is that of the first time.
    for turn in 1..10 {
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
    // Everything of this sign-in is over, and it is noted once.
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
    // Other sign-ins of the same user live.
    service
        .refresh(0, &refresh_token(&service.log_in("ada").await))
        .await
        .ok(200);
}

async fn an_older_token_ends_the_sign_in_at_once(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    service.stop_clock().await;
    let first = refresh_token(&service.register("ada").await);
    let second = refresh_token(&service.refresh(0, &first).await.ok(200));
    let third = service.refresh(1, &second).await.ok(200);
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
    // To be idle is no theft.
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

async fn a_token_that_this_service_did_not_sign_changes_nothing(replicas: usize) {
    let service = Service::of(replicas, |_| {}).await;
    let first = refresh_token(&service.register("ada").await);
    let token = refresh_token(&service.refresh(0, &first).await.ok(200));
    let bytes = URL_SAFE_NO_PAD
        .decode(token.strip_prefix("rt_").expect("a refresh token"))
        .expect("base64url");
    let encode = |bytes: &[u8]| format!("rt_{}", URL_SAFE_NO_PAD.encode(bytes));
    let mut forged = vec![
        String::new(),
        "rt_".to_owned(),
        token.replace("rt_", ""),
        token.replace("rt_", "RT_"),
        format!("{token} "),
        format!("{token}="),
        format!("{token}AAAA"),
        token[..token.len() - 1].to_owned(),
        token[..60].to_owned(),
        "x".repeat(256),
        "🦀".to_owned(),
        encode(&bytes[..40]),
        encode(digest::digest(&digest::SHA256, &bytes).as_ref()),
    ];
    // Each bit that can be turned, the generation and the MAC among them.
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        forged.push(encode(&changed));
    }
    let before = service.sign_ins().await;
    for (turn, forged) in forged.iter().enumerate() {
        service
            .refresh(turn, forged)
            .await
            .problem(401, "invalid_refresh_token");
        for scope in ["local", "others", "global"] {
            assert_eq!(service.log_out(turn, forged, scope).await.ok(204), "");
        }
    }
    assert_eq!(service.sign_ins().await, before);
    service.refresh(0, &token).await.ok(200);
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
