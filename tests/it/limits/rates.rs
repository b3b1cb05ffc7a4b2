//! Rates of requests.

use std::{num::NonZeroU32, time::Duration};

use governor::{Quota, RateLimiter, clock::FakeRelativeClock, middleware::NoOpMiddleware};
use reqwest::Method;
use serde_json::json;
use speedcoding::limits::table::States;

use crate::support::{
    actor::{PASSWORD, answer, text},
    program::Scratch,
};

use super::{behind, register_from};

#[tokio::test]
async fn registrations_are_limited_by_network_and_the_answers_say_how() {
    let app = behind("127.0.0.1", "on, register=2/h").await;
    let first = register_from(&app, "ada", &["192.0.2.7"]).await;
    assert_eq!(
        first.headers["ratelimit"],
        "\"network\";r=11999;t=1, \"register\";r=1;t=1800"
    );
    assert_eq!(
        first.headers["ratelimit-policy"],
        "\"network\";q=12000;w=60, \"register\";q=2;w=3600"
    );
    first.ok(201);
    // Requests that the document refuses cost nothing.
    register_from(&app, "x", &["192.0.2.7"]).await.faults();
    register_from(&app, "grace", &["192.0.2.7"]).await.ok(201);

    let refused = register_from(&app, "hedy", &["192.0.2.7"]).await;
    let wait: u64 = refused.headers["retry-after"]
        .to_str()
        .expect("text")
        .parse()
        .expect("seconds");
    assert!((1700..=1800).contains(&wait), "{wait}");
    let limits = refused.headers["ratelimit"].to_str().expect("text");
    assert!(
        limits.ends_with(&format!(", \"register\";r=0;t={wait}")),
        "{limits}"
    );
    let policy = refused.headers["ratelimit-policy"].to_str().expect("text");
    assert!(policy.ends_with(", \"register\";q=2;w=3600"), "{policy}");
    let problem = refused.problem(429, "rate_limited");
    assert_eq!(
        problem["detail"],
        format!("There were too many requests. Try again in {wait} s.")
    );

    // A client of another network may register.
    register_from(&app, "hedy", &["192.0.2.8"]).await.ok(201);
    // An IPv6 network has 64 bits; an IPv4 address is the same in either family.
    for (name, hop) in [
        ("six-1", "2001:db8:0:1::1"),
        ("six-2", "2001:db8:0:1:ffff::2"),
    ] {
        register_from(&app, name, &[hop]).await.ok(201);
    }
    for hop in ["2001:db8:0:1:abcd::3", "::ffff:192.0.2.7"] {
        register_from(&app, "nobody", &[hop])
            .await
            .problem(429, "rate_limited");
    }
    register_from(&app, "six-3", &["2001:db8:0:2::1"])
        .await
        .ok(201);
}

#[tokio::test]
async fn an_ipv6_site_counts_as_sixteen_networks_whatever_many_it_has() {
    let app = behind("127.0.0.1", "register=1/d").await;
    for number in 0..16 {
        let from = format!("2001:db8:7:{number:x}::1");
        register_from(&app, &format!("ada{number}"), &[&from])
            .await
            .ok(201);
    }
    let refused = register_from(&app, "bob", &["2001:db8:7:ffff::1"]).await;
    let policy = refused.headers["ratelimit-policy"].to_str().expect("text");
    assert!(policy.ends_with("\"register\";q=16;w=86400"), "{policy}");
    refused.problem(429, "rate_limited");
    for elsewhere in ["2001:db8:8::1", "192.0.2.7"] {
        let name = format!("bob{}", elsewhere.len());
        register_from(&app, &name, &[elsewhere]).await.ok(201);
    }
}

/// A translator and a tunnel can make any number of IPv6 networks from one IPv4 address.
#[tokio::test]
async fn an_ipv4_address_is_the_same_through_nat64_and_6to4() {
    let app = behind("127.0.0.1, 10.0.0.0/8", "register=1/d").await;
    register_from(&app, "ada", &["192.0.2.7"]).await.ok(201);
    for same in [
        "64:ff9b::192.0.2.7",
        "64:ff9b:1::c000:207",
        "64:ff9b:1:fffe::c000:207",
        "2002:c000:207::1",
        "2002:c000:207:ffff::1",
    ] {
        let refused = register_from(&app, "bob", &[same]).await;
        assert_eq!(refused.status, 429, "{same}");
    }
    register_from(&app, "bob", &["64:ff9b::192.0.2.8"])
        .await
        .ok(201);
    register_from(&app, "eve", &["2001:db8:c000:207::1"])
        .await
        .ok(201);
    // An IPv4 address inside an IPv6 address does not make a trusted proxy of it.
    register_from(&app, "hedy", &["203.0.113.9, 64:ff9b::10.0.0.1"])
        .await
        .ok(201);
    let refused = register_from(&app, "iris", &["203.0.113.10, 2002:0a00:0001::1"]).await;
    refused.problem(429, "rate_limited");
}

#[tokio::test]
async fn logins_are_limited_by_network_whatever_the_name_and_the_password() {
    let app = behind("127.0.0.1", "login=3/h").await;
    app.runner("ada").await;
    let visitor = app.visitor();
    let log_in = async |name: &str, password: &str, hop: &str| {
        let request = visitor
            .request(Method::POST, "/auth/login")
            .header("X-Forwarded-For", hop)
            .json(&json!({ "username": name, "password": password }));
        answer(request).await
    };
    log_in("ada", PASSWORD, "192.0.2.7").await.ok(200);
    for name in ["ada", "nobody"] {
        log_in(name, "not the password", "192.0.2.7")
            .await
            .problem(401, "wrong_credentials");
    }
    for name in ["ada", "nobody", "somebody"] {
        log_in(name, PASSWORD, "192.0.2.7")
            .await
            .problem(429, "rate_limited");
    }
    log_in("ada", PASSWORD, "192.0.2.8").await.ok(200);
}

#[tokio::test]
async fn a_password_that_is_asked_for_again_counts_as_a_login() {
    let app = behind("127.0.0.1", "login=2/h").await;
    let ada = app.runner("ada").await;
    let ask_again = async |method: Method, path: &str, hop: &str| {
        let body = match path {
            "/auth/me" => json!({ "password": "not the password" }),
            _ => json!({ "currentPassword": "not the password", "newPassword": "kT9#vQz! Zq7" }),
        };
        let request = ada.request(method, path).header("X-Forwarded-For", hop);
        answer(request.json(&body)).await
    };
    let ways = [
        (Method::DELETE, "/auth/me"),
        (Method::POST, "/auth/password"),
    ];
    for (left, (method, path)) in [1, 0].into_iter().zip(ways.clone()) {
        let answer = ask_again(method, path, "192.0.2.7").await;
        let limits = answer.headers["ratelimit"].to_str().expect("text");
        assert!(limits.contains(&format!("\"login\";r={left};")), "{limits}");
        answer.problem(403, "wrong_password");
    }
    for (method, path) in ways {
        let refused = ask_again(method.clone(), path, "192.0.2.7").await;
        refused.problem(429, "rate_limited");
        let elsewhere = ask_again(method, path, "192.0.2.8").await;
        elsewhere.problem(403, "wrong_password");
    }
}

#[tokio::test]
async fn whoever_is_signed_in_is_limited_as_a_user_and_nobody_else_can_use_that_up() {
    let app = behind("", "network=20/h,user=3/h").await;
    let (ada, bob) = (app.runner("ada").await, app.runner("bob").await);
    // Invalid tokens count for the network, even if they name the user.
    let mut forged = ada.token.clone().expect("a token");
    forged.replace_range(forged.len() - 4.., "AAAA");
    let forger = app.visitor().with_token(forged);
    for _ in 0..5 {
        forger.get("/auth/me").await.problem(401, "invalid_token");
    }
    for remaining in [2, 1, 0] {
        let answer = ada.get("/challenges").await;
        let limits = answer.headers["ratelimit"].to_str().expect("text");
        assert!(
            limits.starts_with(&format!("\"user\";r={remaining};t=")),
            "{limits}"
        );
        answer.ok(200);
    }
    for path in ["/challenges", "/auth/me", "/sessions/current", "/nope"] {
        ada.get(path).await.problem(429, "rate_limited");
    }
    bob.get("/auth/me").await.ok(200);

    // Requests without a token, and with a bad one where none is needed, count for the network.
    let visitor = app.visitor();
    let mut allowed = 0;
    while visitor.get("/challenges").await.status == 200 {
        allowed += 1;
        assert!(
            allowed <= 13,
            "20, of which two registered and five were forged"
        );
    }
    assert!(allowed >= 12, "{allowed}");
    forger.get("/challenges").await.problem(429, "rate_limited");
    bob.get("/auth/me").await.ok(200);
    // Pages outside of the API have no limit.
    for path in ["/health/live", "/health/ready", "/openapi.json"] {
        let answer = visitor.get(path).await;
        assert!(!answer.headers.contains_key("ratelimit"), "{path}");
        answer.ok(200);
    }
}

#[tokio::test]
async fn starts_and_edits_are_limited_by_user() {
    let app = behind("", "runs=2/h").await;
    let (ada, bob) = (app.runner("ada").await, app.runner("bob").await);
    let session = ada.start("freestyle").await;
    let ended = ada.end(&session).await.ok(200);
    let submission = text(&ended, "/submission/id");
    let edit = async |revision: i32| {
        let body = json!({ "revision": revision, "packages": ["axum"] });
        ada.edit(&submission, body).await
    };
    edit(1).await.ok(200);
    edit(2).await.problem(429, "rate_limited");
    let start = json!({ "techStack": "Rust" });
    ada.start_with(start).await.problem(429, "rate_limited");
    // Sessions that are running go on.
    ada.end(&session).await.ok(200);
    bob.start("freestyle").await;
}

#[tokio::test]
async fn refreshes_are_limited_by_sign_in_and_by_nothing_that_a_neighbour_does() {
    let app = behind("", "network=2/h,refresh=3/h").await;
    let visitor = app.visitor();
    let credentials = json!({ "username": "ada", "password": PASSWORD });
    let first = visitor.post("/auth/register", credentials.clone()).await;
    let second = visitor.post("/auth/login", credentials).await;
    visitor
        .get("/challenges")
        .await
        .problem(429, "rate_limited");

    let mut token = text(&first.ok(201), "/refreshToken");
    // The service did not sign this token, so it costs the user nothing.
    let mut forged = token.clone();
    forged.replace_range(forged.len() - 4.., "AAAA");
    for _ in 0..5 {
        visitor
            .post("/auth/refresh", json!({ "refreshToken": forged }))
            .await
            .problem(401, "invalid_refresh_token");
    }
    for _ in 0..3 {
        let answer = visitor
            .post("/auth/refresh", json!({ "refreshToken": token }))
            .await;
        token = text(&answer.ok(200), "/refreshToken");
    }
    let refused = visitor
        .post("/auth/refresh", json!({ "refreshToken": token }))
        .await;
    assert_eq!(
        refused.headers["ratelimit-policy"],
        "\"refresh\";q=3;w=3600"
    );
    refused.problem(429, "rate_limited");
    // Her other sign-in goes on.
    visitor
        .post(
            "/auth/refresh",
            json!({ "refreshToken": second.ok(200)["refreshToken"] }),
        )
        .await
        .ok(200);
}

#[tokio::test]
async fn whoever_waits_as_long_as_is_said_is_let_in() {
    let app = behind("", "network=1/2s").await;
    let visitor = app.visitor();
    visitor.get("/challenges").await.ok(200);
    let refused = visitor.get("/challenges").await;
    let wait: u64 = refused.headers["retry-after"]
        .to_str()
        .expect("text")
        .parse()
        .expect("seconds");
    refused.problem(429, "rate_limited");
    assert!((1..=2).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    visitor.get("/challenges").await.ok(200);
}

#[tokio::test]
async fn limits_can_be_turned_off_all_at_once_or_one_by_one() {
    for limits in ["off", "network=1/h,network=off"] {
        let app = behind("", limits).await;
        for _ in 0..3 {
            let answer = app.visitor().get("/challenges").await;
            assert!(!answer.headers.contains_key("ratelimit"), "{limits}");
            answer.ok(200);
        }
    }
    let app = behind("", "off,network=1/h").await;
    app.visitor().get("/challenges").await.ok(200);
    app.visitor()
        .get("/challenges")
        .await
        .problem(429, "rate_limited");
}

#[tokio::test]
async fn a_wrong_setting_is_told_with_one_that_is_right() {
    let scratch = Scratch::new();
    for (name, value, words) in [
        ("RATE_LIMITS", "perhaps", "`perhaps` is neither on nor off"),
        (
            "RATE_LIMITS",
            "on,regster=20/h",
            "`regster=20/h` names no limit; the limits are network, user, register",
        ),
        (
            "RATE_LIMITS",
            "register=20",
            "`register=20` has no valid count/period",
        ),
        ("RATE_LIMITS", "register=0/h", "`register=0/h`"),
        ("RATE_LIMITS", "register=-1/h", "`register=-1/h`"),
        ("RATE_LIMITS", "register=1/0s", "`register=1/0s`"),
        ("RATE_LIMITS", "register=1/é", "`register=1/é`"),
        ("RATE_LIMITS", "register=1/31d", "`register=1/31d`"),
        (
            "RATE_LIMITS",
            "register=1/99999999999d",
            "`register=1/99999999999d`",
        ),
        ("RATE_LIMITS", "register=2000000/s", "`register=2000000/s`"),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/8,proxy.example",
            "`proxy.example` is not a network",
        ),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/33",
            "`10.0.0.0/33` is not a network",
        ),
        (
            "TRUSTED_PROXIES",
            "::ffff:10.0.0.0/104",
            "`::ffff:10.0.0.0/104` is not a network",
        ),
    ] {
        let option = format!("--{}", name.to_lowercase().replace('_', "-"));
        let said = scratch
            .program(&["openapi"])
            .env(name, value)
            .finish()
            .await
            .told(&[&option, words, "a valid value is for example"]);
        // The example in the message is a valid value.
        let example = said.rsplit("for example ").next().expect("an example");
        scratch
            .program(&["openapi"])
            .env(name, example)
            .finish()
            .await
            .well();
    }
}

#[test]
fn a_million_clients_take_no_more_memory_than_a_few_and_hide_nobody() {
    let clock = FakeRelativeClock::default();
    let hundred = NonZeroU32::new(100).expect("a number");
    let limiter: RateLimiter<u32, States<u32>, _, NoOpMiddleware<_>> =
        RateLimiter::new(Quota::per_hour(hundred), States::default(), clock.clone());
    clock.advance(Duration::from_secs(1));
    let greedy = 1_000_000;
    while limiter.check_key(&greedy).is_ok() {}
    for client in 0..1_000_000 {
        assert!(
            limiter.check_key(&client).is_ok(),
            "each client is let in once"
        );
        clock.advance(Duration::from_micros(10));
    }
    assert!(
        limiter.check_key(&greedy).is_err(),
        "the client that has used up its share is not forgotten"
    );
    // The counter is removed when its limit is full again.
    clock.advance(Duration::from_secs(60 * 60));
    assert!(limiter.check_key(&greedy).is_ok());
    let states = limiter.into_state_store();
    let remembered = states.clients();
    assert!(remembered < 20_000, "{remembered}");
}
