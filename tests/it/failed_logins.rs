//! Guesses of passwords: they get slower and slower, on all replicas, and lock no user out.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use speedcoding::config::Config;

use crate::support::{
    actor::{Actor, Answer, PASSWORD, answer, text},
    app::TestApp,
    race::race,
};

const WRONG: &str = "not the password";
const HOME: &str = "192.0.2.7";

/// The service behind a trusted proxy, so that the stories can choose each client's address.
async fn app() -> TestApp {
    app_with("on").await
}

async fn app_with(limits: &str) -> TestApp {
    let app = TestApp::start_with(|config| {
        behind_proxy(config);
        config.rate_limits = limits.parse().expect("limits");
        config.db_connections = Some(64);
    })
    .await;
    app.stop_clock().await;
    app
}

fn behind_proxy(config: &mut Config) {
    config.trusted_proxies = "127.0.0.1".parse().expect("a network");
}

fn login(
    app: &TestApp,
    name: &str,
    password: &str,
    from: &str,
) -> impl Future<Output = Answer> + Send + 'static + use<> {
    answer(enter(&app.visitor(), "/auth/login", name, password, from))
}

/// A request to log in or to register.
fn enter(visitor: &Actor, path: &str, name: &str, password: &str, from: &str) -> RequestBuilder {
    visitor
        .request(Method::POST, path)
        .header("X-Forwarded-For", from)
        .json(&json!({ "username": name, "password": password }))
}

/// Registers from a network. From then on the user is known to use it.
async fn register(app: &TestApp, name: &str, from: &str) -> Value {
    let request = enter(&app.visitor(), "/auth/register", name, PASSWORD, from);
    answer(request).await.ok(201)
}

async fn fail(app: &TestApp, name: &str, from: &str) {
    login(app, name, WRONG, from)
        .await
        .problem(401, "wrong_credentials");
}

/// The seconds that an attempt has to wait. Until then every password is refused.
async fn wait(app: &TestApp, name: &str, from: &str) -> u64 {
    let mut waits = Vec::new();
    for password in [WRONG, PASSWORD] {
        let refused = login(app, name, password, from).await;
        let seconds = refused.headers["retry-after"].to_str().expect("text");
        waits.push(seconds.parse().expect("seconds"));
        let limits = refused.headers["ratelimit"].to_str().expect("text");
        assert!(
            limits.ends_with(&format!("\"failed_logins\";r=0;t={seconds}")),
            "{limits}"
        );
        let policy = refused.headers["ratelimit-policy"].to_str().expect("text");
        assert!(policy.ends_with("\"failed_logins\";q=5;w=900"), "{policy}");
        refused.problem(429, "too_many_failed_logins");
    }
    assert_eq!(waits[0], waits[1]);
    waits[0]
}

/// Ten networks that fail at an account.
async fn hunt(app: &TestApp, name: &str) {
    for number in 1..=10 {
        fail(app, name, &format!("198.51.100.{number}")).await;
    }
}

#[tokio::test]
async fn after_five_wrong_passwords_each_further_one_doubles_the_wait() {
    let app = app().await;
    register(&app, "ada", HOME).await;
    for _ in 0..5 {
        fail(&app, "ada", HOME).await;
    }
    for seconds in [29, 57, 113, 225, 450, 900, 900, 900] {
        assert_eq!(wait(&app, "ada", HOME).await, seconds);
        app.travel(&format!("{} seconds", seconds - 1)).await;
        assert!(wait(&app, "ada", HOME).await <= 1);
        app.travel("1 second").await;
        fail(&app, "ada", HOME).await;
    }
    // The case of the name does not matter.
    assert_eq!(wait(&app, "ADA", HOME).await, 900);
    app.travel("15 minutes").await;
    login(&app, "ada", PASSWORD, HOME).await.ok(200);
    // The right password resets the count.
    for _ in 0..5 {
        fail(&app, "ada", HOME).await;
    }
    assert_eq!(wait(&app, "ada", HOME).await, 29);
    // An hour without a wrong password resets it, too.
    app.travel("61 minutes").await;
    for _ in 0..5 {
        fail(&app, "ada", HOME).await;
    }
    assert_eq!(wait(&app, "ada", HOME).await, 29);
}

#[tokio::test]
async fn failures_hold_on_another_replica_and_after_a_restart() {
    let first = app().await;
    let second = first.replica(behind_proxy).await;
    register(&first, "ada", HOME).await;
    for turn in 0..5 {
        let app = [&first, &second][turn % 2];
        fail(app, "ada", HOME).await;
    }
    for app in [&first, &second] {
        assert_eq!(wait(app, "ada", HOME).await, 29);
    }
    let restarted = first.replica(behind_proxy).await;
    drop((first, second));
    assert_eq!(wait(&restarted, "ada", HOME).await, 29);
    restarted.travel("29 seconds").await;
    login(&restarted, "ada", PASSWORD, HOME).await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_guesses_at_once_no_more_are_answered_than_one_after_another() {
    let app = app().await;
    register(&app, "ada", HOME).await;
    let gate = app
        .hold("lock table private.failed_logins in exclusive mode")
        .await;
    // Ten passwords have been tried before the first failure is recorded. Thirty more guesses come meanwhile.
    let guesses = race((0..10).map(|_| login(&app, "ada", WRONG, HOME)));
    gate.until_waiting(10).await;
    gate.release().await;
    let more = race((0..30).map(|_| login(&app, "ada", WRONG, HOME)));
    let mut answers = guesses.answers().await;
    answers.extend(more.answers().await);
    let (tried, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 401);
    assert_eq!((tried.len(), refused.len()), (5, 35));
    for answer in refused {
        answer.problem(429, "too_many_failed_logins");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_guesses_leave_no_gap_in_the_audit_log_and_others_a_hundred_rows_an_hour() {
    let app = app().await;
    let second = app.replica(behind_proxy).await;
    let owner = app.sql().await;
    register(&app, "ada", HOME).await;
    let noted = async || -> i64 {
        let noted = "select count(*) from private.audit_log where action = 'sign_in.failed'";
        owner.query_one(noted, &[]).await.expect("a count").get(0)
    };
    // Of thirty guesses at once from one network, five are answered.
    for number in 1..=4 {
        let gate = app
            .hold("lock table private.failed_logins in exclusive mode")
            .await;
        let from = format!("198.51.100.{number}");
        let guesses = race((0..30).map(|_| login(&app, "ada", WRONG, &from)));
        gate.until_waiting(30).await;
        gate.release().await;
        guesses.answers().await;
        assert_eq!(noted().await, 5 * number);
    }
    for number in 1..=130 {
        let replica = [&app, &second][number % 2];
        fail(replica, "ada", &format!("203.0.113.{number}")).await;
        let number = i64::try_from(number).expect("a small number");
        assert_eq!(noted().await, (20 + number).min(100));
    }
    app.travel("61 minutes").await;
    fail(&app, "ada", "203.0.113.1").await;
    assert_eq!(noted().await, 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_guess_among_too_many_at_once_is_not_told() {
    let app = app().await;
    register(&app, "ada", HOME).await;
    for _ in 0..4 {
        fail(&app, "ada", HOME).await;
    }
    // The fifth wrong password waits for the row. The right one, which is hashed by then, waits behind it.
    let gate = app
        .hold("select from private.failed_logins for update")
        .await;
    let fifth = race([login(&app, "ada", WRONG, HOME)]);
    gate.until_waiting(1).await;
    let right = race([login(&app, "ada", PASSWORD, HOME)]);
    gate.until_waiting(2).await;
    gate.release().await;
    for answer in fifth.answers().await {
        answer.problem(401, "wrong_credentials");
    }
    for answer in right.answers().await {
        answer.problem(429, "too_many_failed_logins");
    }
    let sign_ins: i64 = app
        .sql()
        .await
        .query_one("select count(*) from private.refresh_tokens", &[])
        .await
        .expect("a number")
        .get(0);
    assert_eq!(sign_ins, 1, "only the registration signed in");
}

#[tokio::test]
async fn somebody_elsewhere_cannot_lock_a_user_out() {
    let app = app().await;
    register(&app, "ada", HOME).await;
    login(&app, "ada", PASSWORD, "2001:db8:1:2::3")
        .await
        .ok(200);
    // One stranger guesses any number of times.
    for _ in 0..5 {
        fail(&app, "ada", "203.0.113.9").await;
    }
    wait(&app, "ada", "203.0.113.9").await;
    for home in [HOME, "192.0.2.8"] {
        login(&app, "ada", PASSWORD, home).await.ok(200);
    }

    // Many strangers guess, from many networks.
    hunt(&app, "ada").await;
    // In both of the user's own networks nothing has changed. The user may mistype.
    for home in [HOME, "2001:db8:1:2:aaaa::4"] {
        for _ in 0..4 {
            fail(&app, "ada", home).await;
        }
        login(&app, "ada", PASSWORD, home).await.ok(200);
    }
    // Elsewhere the right password works at once, but a wrong one means a long wait.
    login(&app, "ada", PASSWORD, "192.0.2.99").await.ok(200);
    for number in 101..=103 {
        let elsewhere = format!("198.51.100.{number}");
        fail(&app, "ada", &elsewhere).await;
        assert_eq!(wait(&app, "ada", &elsewhere).await, 900);
    }
    // Other users notice nothing.
    register(&app, "bob", "192.0.2.50").await;
    for _ in 0..5 {
        fail(&app, "bob", "198.51.100.101").await;
    }
    assert_eq!(wait(&app, "bob", "198.51.100.101").await, 29);
    // After the hunt everything is as before.
    app.travel("61 minutes").await;
    for _ in 0..5 {
        fail(&app, "ada", "198.51.100.104").await;
    }
    assert_eq!(wait(&app, "ada", "198.51.100.104").await, 29);
}

#[tokio::test]
async fn a_site_of_many_ipv6_networks_does_not_guess_from_each_of_them() {
    let app = app().await;
    register(&app, "ada", HOME).await;
    register(&app, "bob", "2001:db8:7:1::1").await;
    for name in ["ada", "bob", "nobody"] {
        // Each guess comes from another network. The first guess of a network is always compared.
        let mut tried = 0;
        let refused = loop {
            let guess = login(&app, name, WRONG, &format!("2001:db8:7:f{tried:03}::1")).await;
            if guess.status == 429 || tried == 60 {
                break guess;
            }
            guess.problem(401, "wrong_credentials");
            tried += 1;
        };
        refused.problem(429, "rate_limited");
        // The limit refills by one guess in a minute and a half.
        assert!((40..45).contains(&tried), "{name}: {tried}");
        // A right guess gets the same answer.
        login(&app, name, PASSWORD, "2001:db8:7:eeee::1")
            .await
            .problem(429, "rate_limited");
    }
    // The limit locks no user out of their own network, not even after a neighbour's guesses in the same site.
    login(&app, "ada", PASSWORD, HOME).await.ok(200);
    login(&app, "bob", PASSWORD, "2001:db8:7:1::2")
        .await
        .ok(200);
    login(&app, "ada", PASSWORD, "2001:db8:8::1").await.ok(200);
}

#[tokio::test]
async fn a_name_that_nobody_has_is_limited_like_one_that_somebody_has() {
    let app = app().await;
    register(&app, "ada", HOME).await;
    let mut told = [Vec::new(), Vec::new()];
    for (name, told) in ["ada", "nobody"].into_iter().zip(&mut told) {
        // First one network guesses five times, and then too often. No user lives there. Then many networks guess.
        let mut attempts = vec![("203.0.113.9".to_owned(), 7)];
        attempts.extend((1..=12).map(|number| (format!("198.51.100.{number}"), 2)));
        for (from, times) in attempts {
            for _ in 0..times {
                let mut answer = login(&app, name, WRONG, &from).await;
                let id = text(&answer.body, "/requestId");
                answer.headers.remove("date");
                answer.headers.remove("x-request-id");
                let (body, headers) = (answer.body.to_string(), answer.headers);
                // This count belongs to the network, which has tried both names.
                let limits = headers["ratelimit"].to_str().expect("text");
                let limits = limits.split("\"failed_logins\"").nth(1).map(str::to_owned);
                let mut headers = headers.clone();
                headers.remove("ratelimit");
                told.push((answer.status, headers, limits, body.replace(&id, "")));
            }
        }
    }
    assert_eq!(told[0].len(), 31);
    let refused = told[0].iter().filter(|(status, ..)| *status == 429);
    assert_eq!(refused.count(), 2 + 4, "the expected number");
    assert_eq!(told[0], told[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_people_behind_one_address_who_all_come_at_once_get_in() {
    let app = app().await;
    let visitor = app.visitor();
    for path in ["/auth/register", "/auth/login"] {
        let people = (0..200).map(|number| {
            let visitor = visitor.clone();
            async move {
                let name = format!("person_{number}");
                // Every second user mistypes first.
                if path == "/auth/login" && number % 2 == 0 {
                    let wrong = enter(&visitor, path, &name, WRONG, HOME);
                    let answer = patiently(wrong).await;
                    answer.problem(401, "wrong_credentials");
                }
                patiently(enter(&visitor, path, &name, PASSWORD, HOME)).await
            }
        });
        for answer in race(people).answers().await {
            assert!(answer.status.is_success(), "{path}: {answer:?}");
        }
    }
}

/// Retries as often as the answers ask for, and at the time that they name.
async fn patiently(request: RequestBuilder) -> Answer {
    loop {
        let answer = answer(request.try_clone().expect("a body in memory")).await;
        if answer.status != 503 {
            return answer;
        }
        let wait = answer.headers["retry-after"].to_str().expect("text");
        let wait = Duration::from_secs(wait.parse().expect("seconds"));
        answer.problem(503, "overloaded");
        tokio::time::sleep(wait).await;
    }
}

#[tokio::test]
async fn while_a_guesser_has_to_wait_nothing_is_hashed() {
    let app = app().await;
    let tokens = register(&app, "ada", HOME).await;
    register(&app, "bob", HOME).await;
    for _ in 0..5 {
        fail(&app, "ada", HOME).await;
    }
    // From now on one comparison takes seconds.
    app.sql()
        .await
        .batch_execute(
            "update private.credentials
                set password_hash = '$2b$15$abcdefghijklmnopqrstuuU/6hSR28FALjuBmCudufQmaaWRLvRZm'",
        )
        .await
        .expect("hashes");
    let started = Instant::now();
    fail(&app, "bob", HOME).await;
    let comparison = started.elapsed();

    let ada = app.visitor().with_tokens(&tokens);
    // The service would refuse this new password when it hashes it.
    let change = json!({ "currentPassword": WRONG, "newPassword": "password" });
    let started = Instant::now();
    for _ in 0..5 {
        for (method, path, body) in [
            (Method::DELETE, "/auth/me", json!({ "password": WRONG })),
            (Method::POST, "/auth/password", change.clone()),
        ] {
            let request = ada.request(method, path).header("X-Forwarded-For", HOME);
            answer(request.json(&body))
                .await
                .problem(429, "too_many_failed_logins");
        }
    }
    assert!(started.elapsed() < comparison, "{comparison:?}");
}

#[tokio::test]
async fn the_database_keeps_neither_names_nor_addresses_of_failures_nor_the_failures_for_long() {
    let app = app().await;
    register(&app, "lovelace", HOME).await;
    for number in 0..8 {
        fail(&app, "lovelace", &format!("203.0.113.{number}")).await;
        fail(&app, "nobody-we-know", &format!("203.0.113.{number}")).await;
    }
    let owner = app.sql().await;
    let kept: String = owner
        .query_one(
            "select (select json_agg(f) from private.failed_logins as f)::text
                 || (select json_agg(a) from private.audit_log as a)::text",
            &[],
        )
        .await
        .expect("the stored rows")
        .get(0);
    for trace in ["lovelace", "nobody", "203.0.113", HOME] {
        assert!(!kept.contains(trace), "{trace} in {kept}");
    }
    // The same network has another digest for another name.
    let networks: i64 = owner
        .query_one(
            "select count(distinct network) from private.failed_logins",
            &[],
        )
        .await
        .expect("a number")
        .get(0);
    assert_eq!(networks, 16);
    // A plain digest of an address could be found by trying all of them.
    let plain: i64 = owner
        .query_one(
            "select count(*) from private.failed_logins, (values ('lovelace'), ('203.0.113.1'), ('lovelace 203.0.113.1')) as t (it)
              where sha256(convert_to(it, 'UTF8')) in (account, network)",
            &[],
        )
        .await
        .expect("a number")
        .get(0);
    assert_eq!(plain, 0);

    app.travel("61 minutes").await;
    for number in 0..2 {
        fail(&app, "somebody", &format!("203.0.113.{number}")).await;
    }
    let left: i64 = owner
        .query_one("select count(*) from private.failed_logins", &[])
        .await
        .expect("a number")
        .get(0);
    assert_eq!(left, 2, "the forgotten rows have gone");
}

#[tokio::test]
async fn an_erasure_forgets_the_failures_from_all_networks() {
    let app = app().await;
    let tokens = register(&app, "ada", HOME).await;
    for from in [HOME, "203.0.113.1", "203.0.113.2"] {
        fail(&app, "ada", from).await;
        fail(&app, "nobody", from).await;
    }
    let ada = app.visitor().with_tokens(&tokens);
    let erase = ada
        .request(Method::DELETE, "/auth/me")
        .header("X-Forwarded-For", HOME)
        .json(&json!({ "password": PASSWORD }));
    answer(erase).await.ok(204);
    let owner = app.sql().await;
    let left = "select count(*), count(distinct account) from private.failed_logins";
    let left = owner.query_one(left, &[]).await.expect("counts");
    assert_eq!((left.get::<_, i64>(0), left.get::<_, i64>(1)), (3, 1));
}

#[tokio::test]
async fn failed_logins_can_be_limited_otherwise_or_not_at_all() {
    let app = app_with("failed_logins=2/1m").await;
    register(&app, "ada", HOME).await;
    for _ in 0..2 {
        fail(&app, "ada", HOME).await;
    }
    let refused = login(&app, "ada", WRONG, HOME).await;
    assert_eq!(refused.headers["retry-after"], "2");
    refused.problem(429, "too_many_failed_logins");

    for off in ["failed_logins=off", "off"] {
        let app = app_with(off).await;
        register(&app, "ada", HOME).await;
        for _ in 0..7 {
            fail(&app, "ada", HOME).await;
        }
        login(&app, "ada", PASSWORD, HOME).await.ok(200);
        let kept: i64 = app
            .sql()
            .await
            .query_one("select count(*) from private.failed_logins", &[])
            .await
            .expect("a number")
            .get(0);
        assert_eq!(kept, 0);
    }
}
