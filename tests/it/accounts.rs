//! Registration, login, and the ends of sign-ins.

use reqwest::{Method, header};
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

use crate::support::{
    actor::{Answer, PASSWORD, answer, text},
    app::TestApp,
    race::race,
};

fn credentials(username: &str, password: &str) -> Value {
    json!({ "username": username, "password": password })
}

async fn execute(app: &TestApp, sql: &str) {
    app.sql().await.batch_execute(sql).await.expect("SQL");
}

#[tokio::test]
async fn whoever_registers_is_signed_in_as_a_runner() {
    let app = TestApp::start().await;
    let tokens = app
        .visitor()
        .register_with("Ada_L-1815", PASSWORD)
        .await
        .ok(201);
    assert_eq!(tokens["user"]["username"], "Ada_L-1815");
    assert_eq!(tokens["user"]["role"], "runner");
    assert_eq!(tokens["tokenType"], "Bearer");
    assert_eq!(tokens["expiresIn"], 900);

    let ada = app.visitor().with_tokens(&tokens);
    assert_eq!(ada.get("/auth/me").await.ok(200), tokens["user"]);
}

#[tokio::test]
async fn times_are_utc_with_milliseconds() {
    let app = TestApp::start().await;
    let me = app.runner("ada").await.get("/auth/me").await.ok(200);
    let created_at = text(&me, "/createdAt");
    let shape: String = created_at
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{created_at}");
}

#[tokio::test]
async fn a_name_logs_in_whatever_its_case_and_shows_as_it_was_registered() {
    let app = TestApp::start().await;
    let registered = app.runner("Grace-Hopper").await;
    for name in ["Grace-Hopper", "grace-hopper", "GRACE-HOPPER"] {
        let tokens = app.visitor().log_in(name, PASSWORD).await.ok(200);
        assert_eq!(tokens["user"]["id"], registered.id);
        assert_eq!(tokens["user"]["username"], "Grace-Hopper");
    }
}

#[tokio::test]
async fn each_login_is_a_sign_in_of_its_own_that_knows_its_device() {
    let app = TestApp::start().await;
    app.runner("ada").await;
    let login = app
        .visitor()
        .request(Method::POST, "/auth/login")
        .header(header::USER_AGENT, "Difference Engine/2")
        .json(&credentials("ada", PASSWORD));
    crate::support::actor::answer(login).await.ok(200);
    let devices = app
        .sql()
        .await
        .query(
            "select user_agent, host(ip) from private.refresh_tokens order by created_at",
            &[],
        )
        .await
        .expect("sign-ins");
    assert_eq!(devices.len(), 2);
    assert_eq!(devices[1].get::<_, &str>(0), "Difference Engine/2");
    assert_eq!(devices[1].get::<_, &str>(1), "127.0.0.1");
}

#[tokio::test]
async fn a_device_is_known_by_whatever_it_calls_itself() {
    let app = TestApp::start().await;
    app.runner("ada").await;
    let long = "é".repeat(201);
    for (sent, known) in [
        ("Téléphone/1 🦀".as_bytes(), "Téléphone/1 🦀"),
        (b"T\xe9l\xe9phone/1", "T\u{fffd}l\u{fffd}phone/1"),
        ("Tele\tphone\u{85}/1".as_bytes(), "Telephone/1"),
        (long.as_bytes(), &long[..400]),
    ] {
        let login = app
            .visitor()
            .request(Method::POST, "/auth/login")
            .header(header::USER_AGENT, sent)
            .json(&credentials("ada", PASSWORD));
        let tokens = crate::support::actor::answer(login).await.ok(200);
        let device = app.visitor().with_tokens(&tokens);
        let listed = device.get("/auth/sign-ins").await.ok(200);
        let items = listed["items"].as_array().expect("items");
        let own = items.iter().find(|item| item["current"] == true);
        assert_eq!(own.expect("this one")["device"], known);
    }
}

#[tokio::test]
async fn a_name_is_taken_in_every_case() {
    let app = TestApp::start().await;
    app.runner("Linus").await;
    for name in ["Linus", "linus", "LINUS"] {
        app.visitor()
            .register_with(name, "another good passphrase")
            .await
            .problem(409, "username_taken");
    }
    app.visitor()
        .log_in("linus", "another good passphrase")
        .await
        .problem(401, "wrong_credentials");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_parallel_registrations_of_one_name_one_wins() {
    let app = TestApp::start_wide().await;
    let gate = app.hold("lock table public.users in exclusive mode").await;
    let registrations = race((0..20).map(|number| {
        let visitor = app.visitor();
        // The case differs too.
        let name = if number % 2 == 0 {
            "margaret"
        } else {
            "MARGARET"
        };
        async move { visitor.register_with(name, PASSWORD).await }
    }));
    gate.until_waiting(20).await;
    gate.release().await;
    let (won, lost): (Vec<_>, Vec<_>) = registrations
        .answers()
        .await
        .into_iter()
        .partition(|answer| answer.status == 201);
    assert_eq!((won.len(), lost.len()), (1, 19));
    for answer in lost {
        answer.problem(409, "username_taken");
    }
    let rows = app
        .sql()
        .await
        .query_one(
            "select (select count(*) from public.users), (select count(*) from private.credentials),
                    (select count(*) from private.refresh_tokens)",
            &[],
        )
        .await
        .expect("counts");
    assert_eq!(
        (
            rows.get::<_, i64>(0),
            rows.get::<_, i64>(1),
            rows.get::<_, i64>(2)
        ),
        (1, 1, 1),
        "a refused registration leaves nothing behind"
    );
}

#[tokio::test]
async fn a_name_that_is_not_plain_is_refused() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    let too_long = "a".repeat(33);
    for name in [
        "",
        "ab",
        &too_long,
        "ada lovelace",
        " ada",
        "ada ",
        "ada\n",
        "ada\u{0}x",
        "🦀🦀🦀",
        "adá",
        "аdа",
        "ada.l",
        "ada@example.org",
        "../ada",
        "ada'--",
    ] {
        let faults = visitor.register_with(name, PASSWORD).await.faults();
        assert!(
            faults.iter().all(|(field, _)| field == "username"),
            "{name:?}: {faults:?}"
        );
    }
    for name in ["a-b", "___", "123", &"a".repeat(32)] {
        visitor.register_with(name, PASSWORD).await.ok(201);
    }
}

#[tokio::test]
async fn a_password_has_eight_to_128_characters_of_any_kind() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    let code = |answer: Answer| answer.faults();
    let fault = |code: &str| vec![("password".to_owned(), code.to_owned())];
    // Characters of four bytes, all different, in an order that no guesser knows.
    let emoji: String = (0..129)
        .filter_map(|n| char::from_u32(0x1F300 + n * 37 % 256))
        .collect();
    let (longest, _) = emoji.split_at(128 * 4);

    assert_eq!(
        code(visitor.register_with("seven", "kT9#vQz").await),
        fault("too_short")
    );
    assert_eq!(
        code(visitor.register_with("empty", "").await),
        fault("too_short")
    );
    assert_eq!(
        code(
            visitor
                .register_with("longest", &"kT9#vQz!".repeat(17)[..129])
                .await
        ),
        fault("too_long")
    );
    assert_eq!(
        code(visitor.register_with("emoji129", &emoji).await),
        fault("too_long")
    );

    for (name, password) in [
        ("eight", "kT9#vQzW"),
        ("emoji128", longest),
        ("spaces", "  x9 q  7v z  "),
        ("ascii128", &"kT9#vQz!".repeat(16)),
        ("quotes", "\"';--\\\t\u{1}é"),
    ] {
        visitor.register_with(name, password).await.ok(201);
        visitor.log_in(name, password).await.ok(200);
        visitor
            .log_in(
                name,
                &format!("{}_", &password[..password.len() - last_length(password)]),
            )
            .await
            .problem(401, "wrong_credentials");
    }
}

/// The length of the last character in bytes.
fn last_length(text: &str) -> usize {
    text.chars().next_back().map_or(0, char::len_utf8)
}

/// A password of this many letters with an accent. Each is sent as two characters or as one.
fn accented(count: usize, decomposed: bool) -> String {
    let letters = ('a'..='z').filter(|letter| !"bdfhjqtvx".contains(*letter));
    let letters: Vec<_> = letters.collect();
    let text: String = (0..count)
        .flat_map(|n| [letters[n * 7 % letters.len()], '\u{301}'])
        .collect();
    if decomposed {
        text
    } else {
        text.nfc().collect()
    }
}

#[tokio::test]
async fn a_password_is_measured_as_it_is_composed_wherever_one_is_sent() {
    let app = TestApp::start().await;
    let (longest, composed) = (accented(128, true), accented(128, false));
    assert_eq!(
        (longest.chars().count(), composed.chars().count()),
        (256, 128)
    );
    let tokens = app.visitor().register_with("ada", &longest).await.ok(201);
    let ada = app.visitor().with_tokens(&tokens);
    for typed in [&longest, &composed] {
        app.visitor().log_in("ada", typed).await.ok(200);
    }
    let change = async |current: &str, new: &str| {
        let body = json!({ "currentPassword": current, "newPassword": new });
        ada.post("/auth/password", body).await
    };
    let erase = async |password: &str| {
        let request = ada.request(Method::DELETE, "/auth/me");
        answer(request.json(&json!({ "password": password }))).await
    };
    change(&longest, PASSWORD).await.ok(204);
    change(PASSWORD, &longest).await.ok(204);

    // One character too many: composed, decomposed, far more than a schema counts, and characters that composition
    // doubles.
    for too_long in [
        accented(129, false),
        accented(129, true),
        accented(600, false),
        "\u{958}".repeat(65),
    ] {
        for (operation, field, answer) in [
            (
                "register",
                "password",
                app.visitor().register_with("bob", &too_long).await,
            ),
            (
                "login",
                "password",
                app.visitor().log_in("ada", &too_long).await,
            ),
            (
                "change, current",
                "currentPassword",
                change(&too_long, PASSWORD).await,
            ),
            (
                "change, new",
                "newPassword",
                change(&longest, &too_long).await,
            ),
            ("erase", "password", erase(&too_long).await),
        ] {
            assert_eq!(
                answer.problem(400, "invalid_request")["errors"],
                json!([{
                    "field": field, "code": "too_long", "message": "must have at most 128 characters"
                }]),
                "{operation}: {too_long}"
            );
        }
    }
    // Four of these characters are composed to one.
    let answer = app
        .visitor()
        .register_with("bob", &"\u{3b1}\u{313}\u{301}\u{345}".repeat(7))
        .await;
    assert_eq!(
        answer.problem(400, "invalid_request")["errors"][0]["message"],
        "must have at least 8 characters"
    );
    erase(&longest).await.ok(204);
}

#[tokio::test]
async fn a_name_that_looks_erased_is_given_to_nobody() {
    let app = TestApp::start().await;
    let ada = app.runner("ada").await;
    let sql = app.sql().await;
    // This account is older than the rule about such names.
    sql.batch_execute(
        "set session_replication_role = replica;
         insert into public.users (username) values ('erased-before');
         set session_replication_role = origin;",
    )
    .await
    .expect("an older account");
    for name in [
        "erased-0123456789ab",
        "ERASED-0123456789ab",
        "Erased-x",
        "erased-",
    ] {
        let refused = app.visitor().register_with(name, PASSWORD).await;
        assert_eq!(
            refused.problem(400, "invalid_request")["errors"],
            json!([{
                "field": "username",
                "code": "reserved",
                "message": "must not begin with erased-: erased accounts are called so"
            }]),
            "{name}"
        );
        // The dashboard refuses such a name, too.
        for statement in [
            "insert into public.users (username) values ($1)",
            "update public.users set username = $1 where username = 'ada'",
        ] {
            let refused = sql.execute(statement, &[&name]).await;
            let refused = refused.expect_err("no such name");
            let told = refused.as_db_error().expect("a refusal");
            assert_eq!(told.code().code(), "PT400", "{name}");
            assert!(told.message().contains("erased-"), "{}", told.message());
        }
    }
    for name in ["erased", "erased_1", "un-erased-1"] {
        app.visitor().register_with(name, PASSWORD).await.ok(201);
    }
    // The user of the older account keeps the name, and can be banned.
    let ban = "insert into public.bans (user_id) select id from public.users where username = 'erased-before'";
    assert_eq!(sql.execute(ban, &[]).await.expect("a ban"), 1);
    let edit = "update public.users set username = username where username = 'erased-before'";
    assert_eq!(sql.execute(edit, &[]).await.expect("an edit"), 1);
    assert_eq!(ada.get("/auth/me").await.ok(200)["username"], "ada");
}

#[tokio::test]
async fn a_common_password_is_refused_with_a_way_out() {
    let app = TestApp::start().await;
    for password in [
        "password",
        "Password",
        "12345678",
        "qwertyuiop",
        "iloveyou",
        "aaaaaaaaaaaa",
        "11111111",
        "abcdefgh",
        "letmein1",
        "drowssap",
    ] {
        let problem = app
            .visitor()
            .register_with("ada", password)
            .await
            .problem(400, "invalid_request");
        let error = &problem["errors"][0];
        assert_eq!(
            (&error["field"], &error["code"]),
            (&json!("password"), &json!("common_password"))
        );
        let message = text(error, "/message");
        assert!(message.contains("choose"), "{password}: {message}");
        assert_eq!(message, message.to_lowercase(), "half a sentence");
        assert!(
            password.eq_ignore_ascii_case("password") || !message.contains(password),
            "what was sent is not repeated: {message}"
        );
    }
}

#[tokio::test]
async fn a_password_that_is_the_user_name_is_refused() {
    let app = TestApp::start().await;
    for (name, password) in [
        ("Xk29Vqpz7W", "Xk29Vqpz7W"),
        ("Xk29Vqpz7W", "xk29vqpz7w"),
        ("xk29vqpz7w", "XK29VQPZ7W"),
        ("Xk29Vqpz7W", "W7zpqV92kX"),
        ("ada", "speedcoding"),
    ] {
        let faults = app.visitor().register_with(name, password).await.faults();
        assert_eq!(
            faults,
            [("password".to_owned(), "common_password".to_owned())],
            "{password}"
        );
    }
}

#[tokio::test]
async fn a_password_is_the_same_composed_or_decomposed() {
    let app = TestApp::start().await;
    let (composed, decomposed) = (
        "p\u{e2}t\u{e9} de campa\u{f1}a",
        "pa\u{302}te\u{301} de campan\u{303}a",
    );
    for (name, registered) in [("composed", composed), ("decomposed", decomposed)] {
        app.visitor().register_with(name, registered).await.ok(201);
        for typed in [composed, decomposed] {
            app.visitor().log_in(name, typed).await.ok(200);
        }
        app.visitor()
            .log_in(name, "pate de campana")
            .await
            .problem(401, "wrong_credentials");
    }
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_are_answered_alike() {
    let app = TestApp::start().await;
    app.runner("ada").await;
    let answer = async |name: &str| {
        let response = app
            .visitor()
            .request(Method::POST, "/auth/login")
            .json(&credentials(name, "not the right passphrase"))
            .send()
            .await
            .expect("an answer");
        let status = response.status();
        let mut headers = response.headers().clone();
        let request_id = headers.remove("x-request-id").expect("a request id");
        headers.remove("date");
        // It counts down.
        headers.remove("ratelimit");
        let body = response.text().await.expect("a body");
        let request_id = request_id.to_str().expect("text");
        assert!(body.contains(request_id), "{body}");
        (status, headers, body.replace(request_id, ""))
    };
    let (known, unknown) = (answer("ada").await, answer("bob").await);
    assert_eq!(known.0, 401);
    assert_eq!(known, unknown);
}

#[tokio::test]
async fn a_banned_user_cannot_log_in_and_a_live_token_ends_at_once() {
    let app = TestApp::start().await;
    let ada = app.runner("ada").await;
    ada.get("/auth/me").await.ok(200);
    let session = ada.start("freestyle").await;
    execute(
        &app,
        "insert into public.bans (user_id) select id from public.users",
    )
    .await;
    ada.get("/auth/me").await.problem(403, "account_banned");
    ada.verify(&session, 1).await.problem(403, "account_banned");
    ada.end(&session).await.problem(403, "account_banned");
    ada.session(&session).await.problem(403, "account_banned");
    app.visitor()
        .log_in("ada", PASSWORD)
        .await
        .problem(403, "account_banned");
    // Only a client with the right password learns of the ban.
    app.visitor()
        .log_in("ada", "not the right passphrase")
        .await
        .problem(401, "wrong_credentials");

    execute(&app, "delete from public.bans").await;
    ada.verify(&session, 1).await.ok(200);
    app.visitor().log_in("ada", PASSWORD).await.ok(200);
}

#[tokio::test]
async fn a_revoked_sign_in_ends_at_once_and_alone() {
    let app = TestApp::start().await;
    let phone = app.runner("ada").await;
    execute(
        &app,
        "update private.refresh_tokens set revoked_at = now(), revoked_reason = 'logout'",
    )
    .await;
    let laptop = app
        .visitor()
        .with_tokens(&app.visitor().log_in("ada", PASSWORD).await.ok(200));
    phone.get("/auth/me").await.problem(401, "sign_in_ended");
    phone
        .start_with(json!({ "techStack": "Rust" }))
        .await
        .problem(401, "sign_in_ended");
    laptop.get("/auth/me").await.ok(200);
}

#[tokio::test]
async fn a_sign_in_that_nobody_refreshed_ends_by_itself() {
    let app = TestApp::start().await;
    let ada = app.runner("ada").await;
    app.travel("13 days 23 hours").await;
    ada.get("/auth/me").await.ok(200);
    app.travel("1 hour").await;
    ada.get("/auth/me").await.problem(401, "sign_in_ended");
}

#[tokio::test]
async fn a_sign_in_ends_after_thirty_days_in_any_case() {
    let app = TestApp::start().await;
    let ada = app.runner("ada").await;
    // The sign-in looks as if the device had refreshed all the time.
    execute(
        &app,
        "update private.refresh_tokens set idle_expires_at = idle_expires_at + interval '90 days'",
    )
    .await;
    app.travel("29 days 23 hours").await;
    ada.get("/auth/me").await.ok(200);
    app.travel("2 hours").await;
    ada.get("/auth/me").await.problem(401, "sign_in_ended");
}

#[tokio::test]
async fn a_deleted_users_token_says_nothing() {
    let app = TestApp::start().await;
    let ada = app.runner("ada").await;
    execute(&app, "delete from public.users").await;
    ada.get("/auth/me").await.problem(401, "sign_in_ended");
    app.visitor()
        .log_in("ada", PASSWORD)
        .await
        .problem(401, "wrong_credentials");
    app.runner("ada").await;
    ada.get("/auth/me").await.problem(401, "sign_in_ended");
}

/// Sign-ins that a thief with the password made before there was a limit. No client has the tokens of the newest ones.
const MANY: &str = "
    set session_replication_role = replica;
    insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at)
    select gen_random_uuid(), account.id, sha256(''), '\\x00000000', private.clock() + interval '10 days',
           private.clock() + interval '20 days'
      from public.users as account, generate_series(1, 200000)
     where account.username = '";

#[tokio::test]
async fn sign_ins_end_at_once_however_many_there_are() {
    // No statement may change all of them.
    let app = TestApp::start_with(|config| config.statement_timeout = 1).await;
    let sql = app.sql().await;
    for name in ["password", "others", "global"] {
        let owner = app.visitor().register_with(name, PASSWORD).await.ok(201);
        let thief = app.visitor().log_in(name, PASSWORD).await.ok(200);
        app.travel("1 second").await;
        sql.batch_execute(&format!(
            "{MANY}{name}'; set session_replication_role = origin"
        ))
        .await
        .expect("sign-ins");
        let [owner_actor, thief_actor] = [&owner, &thief].map(|it| app.visitor().with_tokens(it));
        thief_actor.get("/auth/me").await.ok(200);
        let body =
            |tokens: &Value| json!({ "refreshToken": tokens["refreshToken"], "scope": name });
        if name == "password" {
            let change = json!({ "currentPassword": PASSWORD, "newPassword": "another horse, another staple" });
            owner_actor.post("/auth/password", change).await.ok(204);
        } else {
            owner_actor.post("/auth/logout", body(&owner)).await.ok(204);
        }
        let written = "select count(*) from private.refresh_tokens as token
                         join public.users as account on account.id = token.user_id
                        where account.username = $1 and token.revoked_at is not null";
        let written: i64 = sql.query_one(written, &[&name]).await.expect("it").get(0);
        assert_eq!(written, 100, "{name}: as many as an account may have");

        // The thief's sign-in is not among those that were marked as ended. It is over, too.
        for path in ["/auth/me", "/auth/sign-ins", "/sessions"] {
            let answer = thief_actor.get(path).await;
            answer.problem(401, "sign_in_ended");
        }
        let refresh = json!({ "refreshToken": thief["refreshToken"] });
        let refreshed = app.visitor().post("/auth/refresh", refresh).await;
        refreshed.problem(401, "invalid_refresh_token");
        // It does not end sign-ins of other users.
        for scope in ["others", "global"] {
            let body = json!({ "refreshToken": thief["refreshToken"], "scope": scope });
            app.visitor().post("/auth/logout", body).await.ok(204);
        }
        if name == "global" {
            owner_actor
                .get("/auth/me")
                .await
                .problem(401, "sign_in_ended");
            continue;
        }
        let left = owner_actor.get("/auth/sign-ins").await.ok(200);
        assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "{name}");
        // The device that is signed in goes on, and the user may sign in again.
        let refresh = json!({ "refreshToken": owner["refreshToken"] });
        app.visitor().post("/auth/refresh", refresh).await.ok(200);
        if name == "others" {
            app.visitor().log_in(name, PASSWORD).await.ok(200);
        }
    }
    // The list of another user takes as little time, and so does a ban.
    let sign_ins = app.visitor().log_in("global", PASSWORD).await.ok(200);
    execute(
        &app,
        "insert into public.bans (user_id) select id from public.users where username = 'global'",
    )
    .await;
    let banned = app.visitor().with_tokens(&sign_ins).get("/auth/me").await;
    banned.problem(403, "account_banned");
}
