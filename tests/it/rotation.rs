//! Refresh tokens under attack, in races and in accidents; each story with one replica and with two.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{digest, hkdf, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt, stream};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use speedcoding::config::Config;

use crate::support::{
    actor::{Actor, PASSWORD, answer, text},
    app::{JWT_SECRET, TestApp},
    cluster::Database,
    program::{Program, Scratch, until},
    proxy::Proxy,
    race::race,
    service::{Service, refresh_token, stories},
};

stories! {
    a_refresh_gives_new_tokens_and_the_sign_in_stays
    a_token_used_again_at_once_has_the_same_successor_and_later_ends_the_sign_in
    an_older_token_ends_the_sign_in_at_once
    a_token_from_before_a_restored_backup_ends_the_sign_in
    a_sign_in_ends_after_fourteen_idle_days_and_after_thirty_in_any_case
    a_token_that_this_service_did_not_sign_changes_nothing
    a_dump_with_the_source_and_the_secrets_forges_no_token
    fifty_refreshes_of_one_token_at_once_are_one_rotation
    an_answer_that_is_lost_is_had_again
    two_tabs_go_on_together
    a_thief_is_noticed_in_every_interleaving
    an_end_beats_refreshes_under_way
    secrets_are_rotated_without_one_failed_request
    a_killed_service_leaves_each_sign_in_with_one_token
}

/// What an access token says.
fn claims(tokens: &Value) -> Value {
    let token = text(tokens, "/accessToken");
    let claims = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("JSON")
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

/// The MAC key of a secret, as the source derives it, with its id.
fn mac_key(secret: &str) -> (Vec<u8>, hmac::Key) {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            36
        }
    }
    let mut derived = [0; 36];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"speedcoding")
        .extract(secret.as_bytes())
        .expand(&[b"refresh tokens"], Length)
        .and_then(|okm| okm.fill(&mut derived))
        .expect("a key");
    let (id, key) = derived.split_at(4);
    (id.to_vec(), hmac::Key::new(hmac::HMAC_SHA256, key))
}

async fn a_dump_with_the_source_and_the_secrets_forges_no_token(replicas: usize) {
    const SECRET: &str = "a secret for refresh tokens of more than 32 bytes";
    for (secret, given) in [(JWT_SECRET, None), (SECRET, Some(SECRET))] {
        let service = Service::of(replicas, |config| {
            config.refresh_secrets = given.map(SecretString::from);
        })
        .await;
        let mut victims = Vec::new();
        for name in ["ada", "bob"] {
            let first = refresh_token(&service.register(name).await);
            victims.push(service.refresh(0, &first).await.ok(200));
        }
        let (key_id, key) = mac_key(secret);
        let sign = |sign_in: &[u8], generation: u32, nonce: &[u8]| {
            let mut bytes = [&key_id[..], sign_in, &generation.to_be_bytes(), nonce].concat();
            bytes.extend_from_slice(hmac::sign(&key, &bytes).as_ref());
            format!("rt_{}", URL_SAFE_NO_PAD.encode(bytes))
        };
        // The attacker signs in, too: of that sign-in, which the attacker knows, the forgery is a genuine token.
        let own = refresh_token(&service.register("mallory").await);
        let own = URL_SAFE_NO_PAD.decode(&own[3..]).expect("base64url");
        service
            .refresh(0, &sign(&own[4..20], 1, &own[24..40]))
            .await
            .ok(200);

        let rows = service.replicas[0]
            .sql()
            .await
            .query("select uuid_send(id), uuid_send(user_id), generation, nonce_digest, key_id from private.refresh_tokens", &[])
            .await
            .expect("the dump");
        let before = service.replicas[0].dump().await;
        for (turn, row) in rows.iter().enumerate() {
            let [sign_in, user, digest, row_key] =
                [0, 1, 3, 4].map(|column| row.get::<_, Vec<u8>>(column));
            let generation = u32::try_from(row.get::<_, i32>(2)).expect("a generation");
            assert_eq!(row_key, key_id, "the very key");
            let hash =
                |bytes: &[u8]| digest::digest(&digest::SHA256, bytes).as_ref()[..16].to_vec();
            let guesses = [
                vec![0; 16],
                vec![255; 16],
                digest[..16].to_vec(),
                digest[16..].to_vec(),
                hash(&digest),
                hash(&sign_in),
                hash(&user),
                hash(secret.as_bytes()),
                sign_in.clone(),
                user.clone(),
                key_id.repeat(4),
                mac_key(secret).0.repeat(4),
                digest
                    .iter()
                    .zip(&digest[16..])
                    .map(|(a, b)| a ^ b)
                    .collect(),
            ];
            let foreign = own[24..40].to_vec();
            let foreign = (sign_in != own[4..20]).then_some(foreign);
            for nonce in guesses.into_iter().chain(foreign) {
                for generation in generation - 1..=generation + 2 {
                    let forged = sign(&sign_in, generation, &nonce);
                    service
                        .refresh(turn, &forged)
                        .await
                        .problem(401, "invalid_refresh_token");
                    service.log_out(turn, &forged, "global").await.ok(204);
                }
            }
        }
        assert_eq!(
            service.replicas[0].dump().await,
            before,
            "nothing has changed"
        );
        for tokens in victims {
            service.me(0, &tokens).await.ok(200);
            service.refresh(1, &refresh_token(&tokens)).await.ok(200);
        }
    }
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
    // Between the service and the database: the first replica's wire can be cut.
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

    // Between the client and the service.
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
    // They share what they keep, and wake up at the same moment.
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

/// Who redeems: both have had the first token of the sign-in.
#[derive(Clone, Copy, Debug)]
enum Who {
    Victim,
    Thief,
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Due {
    /// The next generation.
    Rotation,
    /// The very token that another had before: within the window.
    Repetition,
    /// The theft is noticed.
    Notice,
}

#[derive(Clone, Copy, Debug)]
struct Redemption {
    /// Seconds from the beginning.
    at: u32,
    who: Who,
    /// What is redeemed.
    generation: usize,
    due: Due,
}

/// What happened to a sign-in whose first token was copied, in the order of time.
#[derive(Clone, Debug, Default)]
struct Theft {
    redemptions: Vec<Redemption>,
    newest: usize,
    rotated_at: u32,
    /// The newest that each has.
    has: [usize; 2],
}

impl Theft {
    const WINDOW: u32 = 10;
    /// Until the next redemption: the second crosses the window, and so do three of the first.
    const PAUSES: [u32; 2] = [4, 10];
    const REDEMPTIONS: usize = 6;

    fn over(&self) -> bool {
        self.noticed() || self.redemptions.len() == Self::REDEMPTIONS
    }

    fn noticed(&self) -> bool {
        self.redemptions
            .last()
            .is_some_and(|last| last.due == Due::Notice)
    }

    fn then(&self, pause: u32, who: Who) -> Self {
        let mut next = self.clone();
        let at = self.redemptions.last().map_or(0, |last| last.at + pause);
        let generation = self.has[who as usize];
        let due = if generation == self.newest {
            (next.newest, next.rotated_at) = (generation + 1, at);
            Due::Rotation
        } else if generation + 1 == self.newest && at - self.rotated_at < Self::WINDOW {
            Due::Repetition
        } else {
            Due::Notice
        };
        next.has[who as usize] = next.newest;
        next.redemptions.push(Redemption {
            at,
            who,
            generation,
            due,
        });
        next
    }

    /// Every order of redemptions with every pause between them, up to the notice. Both have the same token: who
    /// comes first does not matter.
    fn all() -> Vec<Self> {
        let first = Theft::default().then(0, Who::Victim);
        let (mut over, mut under_way) = (Vec::new(), vec![first]);
        while let Some(theft) = under_way.pop() {
            for who in [Who::Victim, Who::Thief] {
                for pause in Self::PAUSES {
                    let next = theft.then(pause, who);
                    if next.over() {
                        over.push(next);
                    } else {
                        under_way.push(next);
                    }
                }
            }
        }
        over
    }
}

/// A theft as it is played: the answers that were had, by generation.
struct Played {
    theft: Theft,
    tokens: Vec<Value>,
}

impl Played {
    async fn redeem(&mut self, service: &Service, turn: usize, now: u32) {
        let Some(redemption) = self.theft.redemptions.iter().find(|r| r.at == now) else {
            return;
        };
        let token = refresh_token(&self.tokens[redemption.generation]);
        let answer = service
            .refresh(turn + redemption.who as usize, &token)
            .await;
        let story = format!("{redemption:?} of {:?}: {:#}", self.theft, answer.body);
        match redemption.due {
            Due::Rotation => {
                assert_eq!(answer.status, 200, "{story}");
                assert_ne!(refresh_token(&answer.body), token, "{story}");
                self.tokens.push(answer.body);
            }
            Due::Repetition => {
                assert_eq!(answer.status, 200, "{story}");
                let next = &self.tokens[redemption.generation + 1];
                assert_eq!(refresh_token(&answer.body), refresh_token(next), "{story}");
            }
            Due::Notice => assert_eq!(answer.body["code"], "refresh_token_reused", "{story}"),
        }
    }

    /// Once it is noticed both are out, whatever they have; until then the newest token counts.
    async fn end(&self, service: &Service, turn: usize) {
        let newest = self.tokens.last().expect("a token");
        if !self.theft.noticed() {
            service.me(turn, newest).await.ok(200);
            service.refresh(turn, &refresh_token(newest)).await.ok(200);
            return;
        }
        for tokens in &self.tokens {
            let me = service.me(turn, tokens).await;
            me.problem(401, "sign_in_ended");
            let refreshed = service.refresh(turn, &refresh_token(tokens)).await;
            refreshed.problem(401, "invalid_refresh_token");
        }
    }
}

async fn a_thief_is_noticed_in_every_interleaving(replicas: usize) {
    let service = Service::of(replicas, |config| config.db_connections = Some(16)).await;
    service.stop_clock().await;
    service.register("ada").await;
    let thefts = Theft::all();
    let last = thefts
        .iter()
        .map(|theft| theft.redemptions.last().expect("one").at);
    let last = last.max().expect("one");
    let noticed = thefts.iter().filter(|theft| theft.noticed()).count();
    assert_eq!((thefts.len(), noticed), (241, 129));
    let mut all = stream::iter(thefts)
        .map(async |theft| Played {
            theft,
            tokens: vec![service.log_in("ada").await],
        })
        .buffer_unordered(8)
        .collect::<Vec<_>>()
        .await;
    for now in 0..=last {
        // All of them at once, each by its own redemptions.
        stream::iter(all.iter_mut().enumerate())
            .for_each_concurrent(8, async |(turn, played)| {
                played.redeem(&service, turn, now).await
            })
            .await;
        service.travel("1 second").await;
    }
    assert_eq!(service.causes().await, json!({ "reuse": noticed }));
    stream::iter(all.iter().enumerate())
        .for_each_concurrent(8, async |(turn, played)| played.end(&service, turn).await)
        .await;
    assert_eq!(service.causes().await, json!({ "reuse": noticed }));
}

async fn an_end_beats_refreshes_under_way(replicas: usize) {
    let service = Service::of(replicas, |config| config.db_connections = Some(32)).await;
    service.stop_clock().await;
    for (number, (end, comes_first)) in [
        "logout", "others", "sign out", "password", "ban", "delete", "erase",
    ]
    .into_iter()
    .flat_map(|end| [(end, true), (end, false)])
    .filter(|ending| *ending != ("ban", true))
    .enumerate()
    {
        let name = format!("ada{number}");
        let tokens = service.register(&name).await;
        let other = service.log_in(&name).await;
        let sign_in = text(&claims(&tokens), "/session_id");
        let actor = service.visitor(1).with_tokens(&other);
        let sql = service.replicas[0].sql().await;
        let log_out = |tokens: &Value, scope: &str| json!({ "refreshToken": refresh_token(tokens), "scope": scope });
        let (local, others) = (log_out(&tokens, "local"), log_out(&other, "others"));
        let ending = async move {
            match end {
                "logout" => {
                    actor.post("/auth/logout", local).await.ok(204);
                }
                "others" => {
                    actor.post("/auth/logout", others).await.ok(204);
                }
                "sign out" => {
                    let path = format!("/auth/sign-ins/{sign_in}");
                    answer(actor.request(Method::DELETE, &path)).await.ok(204);
                }
                "password" => {
                    let body =
                        json!({ "currentPassword": PASSWORD, "newPassword": "kT9#vQz! Zq8" });
                    actor.post("/auth/password", body).await.ok(204);
                }
                "erase" => {
                    let erase = actor.request(Method::DELETE, "/auth/me");
                    let body = json!({ "password": PASSWORD });
                    answer(erase.json(&body)).await.ok(204);
                }
                "ban" => {
                    let ban =
                        "update public.users set banned_at = private.clock() where username = $1";
                    sql.execute(ban, &[&name]).await.expect("a ban");
                }
                _ => {
                    let delete = "delete from public.users where username = $1";
                    sql.execute(delete, &[&name]).await.expect("a deletion");
                }
            }
        };

        let gate = service.replicas[0]
            .hold("select from private.refresh_tokens for update")
            .await;
        let refresh = || {
            race((0..10).map(|turn| {
                let (visitor, token) = (service.visitor(turn), refresh_token(&tokens));
                let body = json!({ "refreshToken": token });
                async move { visitor.post("/auth/refresh", body).await }
            }))
        };
        // A ban waits for nothing: it counts for whoever comes after it, and those who wait are under way.
        let waits = usize::from(end != "ban");
        let (ending, refreshes) = if comes_first {
            let ending = race([ending]);
            gate.until_waiting(waits).await;
            (ending, refresh())
        } else {
            let refreshes = refresh();
            gate.until_waiting(10).await;
            (race([ending]), refreshes)
        };
        gate.until_waiting(10 + waits).await;
        gate.release().await;
        ending.answers().await;

        let (refused, code) = match end {
            "ban" => (403, "account_banned"),
            _ => (401, "invalid_refresh_token"),
        };
        let mut had = vec![tokens];
        for answer in refreshes.answers().await {
            match answer.status.as_u16() {
                200 => had.push(answer.body),
                status => assert_eq!(
                    (status, answer.body["code"].as_str()),
                    (refused, Some(code))
                ),
            }
        }
        // Whatever the refreshes were given, it is over.
        for tokens in &had {
            let again = service.refresh(0, &refresh_token(tokens)).await;
            again.problem(refused, code);
            let me = service.me(1, tokens).await;
            assert_eq!(me.status.as_u16(), refused, "{end}: {:#}", me.body);
        }
        if end == "ban" {
            service
                .execute("update public.users set banned_at = null")
                .await;
            let newest = had.last().expect("tokens");
            service.refresh(0, &refresh_token(newest)).await.ok(200);
        }
    }
    // Nobody was taken for a thief.
    assert_eq!(
        service.causes().await,
        json!({ "logout": 4, "password_changed": 2, "signed_out": 2 })
    );
}

async fn secrets_are_rotated_without_one_failed_request(replicas: usize) {
    const NEW: &str = "another secret for refresh tokens alone";
    // First all learn to verify by the new one, then to sign; the old one goes when its last sign-in has ended.
    // (The old one is that which is derived from JWT_SECRET.)
    let steps = [
        String::new(),
        format!("{JWT_SECRET},{NEW}"),
        format!("{NEW},{JWT_SECRET}"),
        NEW.to_owned(),
    ];
    let set = |secrets: &str| {
        let secrets = SecretString::from(secrets);
        move |config: &mut Config| config.refresh_secrets = Some(secrets)
    };
    let mut apps = vec![TestApp::start_with(set(&steps[0])).await];
    while apps.len() < replicas {
        apps.push(apps[0].replica(set(&steps[0])).await);
    }
    let mut service = Service::from(apps);
    service.register("ada").await;
    let mut devices = vec![service.log_in("ada").await];
    for (step, secrets) in steps.iter().enumerate().skip(1) {
        for replica in 0..replicas {
            // One after the other, while the others serve.
            let app = service.replicas[0].replica(set(secrets)).await;
            service.replace(replica, app);
            for turn in 0..replicas {
                let credentials = json!({ "username": "ada", "password": PASSWORD });
                let visitor = service.visitor(turn);
                devices.push(visitor.post("/auth/login", credentials).await.ok(200));
                for device in &mut devices {
                    let token = refresh_token(device);
                    let next = service.refresh(turn, &token).await.ok(200);
                    // From a replica of another step it is the same.
                    let again = service.refresh(turn + 1, &token).await.ok(200);
                    assert_eq!(refresh_token(&next), refresh_token(&again));
                    *device = next;
                    service.me(turn + 1, device).await.ok(200);
                }
            }
        }
        if step == 2 {
            // Who was signed in by then comes back until their thirty days are over.
            for _ in 0..2 {
                service.travel("13 days").await;
                for (turn, device) in devices.iter_mut().enumerate() {
                    *device = service.refresh(turn, &refresh_token(device)).await.ok(200);
                }
            }
            devices = vec![service.log_in("ada").await];
            service.travel("5 days").await;
        }
    }

    // In a hurry: a secret that is taken away ends the sign-ins that it signed, where it is gone, and no others.
    let hasty = service.replicas[0]
        .replica(set("a third secret for refresh tokens alone"))
        .await;
    let body = json!({ "refreshToken": refresh_token(&devices[0]) });
    let before = service.sign_ins().await;
    hasty
        .visitor()
        .post("/auth/refresh", body)
        .await
        .problem(401, "invalid_refresh_token");
    assert_eq!(service.sign_ins().await, before);
    service
        .refresh(0, &refresh_token(&devices[0]))
        .await
        .ok(200);
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
                // No answer, or none that is whole: ask again with the same token.
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

    // Each goes on with the token that it has, inside the window, however its last refresh ended.
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
    // Outside the window one token of each counts: the newest. The one before does not.
    service.travel("10 seconds").await;
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
