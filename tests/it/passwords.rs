//! Password hashes: from an older installation, with other parameters, changed meanwhile, corrupt, or too many at once.

use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::support::{actor::PASSWORD, app::TestApp, race::race};

/// The password of the hashes below. `crypt(3)` of another system made them.
const IMPORTED: &str = "sehr geheim ü";
const IMPORTED_HASHES: [&str; 3] = [
    "$2a$05$abcdefghijklmnopqrstuuU/6hSR28FALjuBmCudufQmaaWRLvRZm",
    "$2b$05$abcdefghijklmnopqrstuuU/6hSR28FALjuBmCudufQmaaWRLvRZm",
    "$2y$05$abcdefghijklmnopqrstuuU/6hSR28FALjuBmCudufQmaaWRLvRZm",
];
const BCRYPT_DECOMPOSED: &str = "$2b$05$abcdefghijklmnopqrstuuI9WE3b99bMoVjZ2/IWadiT3dkxRKQ22";
/// The reference implementation made this one with today's parameters.
const ARGON2_DECOMPOSED: &str = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$utxFJuBWRTPP8lf3bpZkYmPqVva8eKWmOHdmGaS8ypw";
const TODAYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

/// A user who comes from an older installation, with the hash from there.
async fn import(app: &TestApp, username: &str, hash: &str) {
    app.sql()
        .await
        .execute(
            "with account as (insert into public.users (username) values ($1) returning id)
             insert into private.credentials (user_id, password_hash) select id, $2 from account",
            &[&username, &hash],
        )
        .await
        .expect("an imported user");
}

async fn hash_of(app: &TestApp, username: &str) -> String {
    app.sql()
        .await
        .query_one(
            "select password_hash from private.credentials
               join public.users on id = user_id where username = $1",
            &[&username],
        )
        .await
        .expect("a hash")
        .get(0)
}

async fn sign_ins(app: &TestApp) -> i64 {
    let count = "select count(*) from private.refresh_tokens";
    app.sql()
        .await
        .query_one(count, &[])
        .await
        .expect("it")
        .get(0)
}

#[tokio::test]
async fn a_user_of_an_older_installation_logs_in_and_is_upgraded() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    for (number, hash) in IMPORTED_HASHES.into_iter().enumerate() {
        let name = format!("imported{number}");
        import(&app, &name, hash).await;
        visitor
            .log_in(&name, "sehr geheim u")
            .await
            .problem(401, "wrong_credentials");
        assert_eq!(hash_of(&app, &name).await, hash, "the hash stays");

        let tokens = visitor.log_in(&name, IMPORTED).await.ok(200);
        let upgraded = hash_of(&app, &name).await;
        assert!(upgraded.starts_with(TODAYS), "{upgraded}");
        let user = visitor.clone().with_tokens(&tokens);
        assert_eq!(user.get("/auth/me").await.ok(200)["username"], name);

        visitor.log_in(&name, IMPORTED).await.ok(200);
        visitor
            .log_in(&name, "sehr geheim u")
            .await
            .problem(401, "wrong_credentials");
        assert_eq!(hash_of(&app, &name).await, upgraded, "no second upgrade");
    }
}

#[tokio::test]
async fn an_imported_password_may_be_shorter_than_a_new_one() {
    let app = TestApp::start().await;
    let hash = "$2a$10$zbcdefghijklmnopqrstuuYtBLD3Dq2i395wrD0byDUaJ9Tii0FGK";
    import(&app, "ada", hash).await;
    let visitor = app.visitor();
    visitor.log_in("ada", "short1").await.ok(200);
    assert!(hash_of(&app, "ada").await.starts_with(TODAYS));
    visitor.log_in("ada", "short1").await.ok(200);
    assert_eq!(
        visitor.log_in("ada", "").await.faults(),
        [("password".to_owned(), "too_short".to_owned())]
    );
}

/// An older installation hashed passwords as they were sent. This one was decomposed: the letter, and then its dots.
#[tokio::test]
async fn an_imported_password_that_was_not_composed_counts_and_is_composed_from_then_on() {
    const DECOMPOSED: &str = "sehr geheim u\u{308}";
    let app = TestApp::start().await;
    let visitor = app.visitor();
    for (number, hash) in [BCRYPT_DECOMPOSED, ARGON2_DECOMPOSED]
        .into_iter()
        .enumerate()
    {
        let name = format!("imported{number}");
        import(&app, &name, hash).await;
        // For that hash, the composed text is a different password.
        for wrong in [IMPORTED, "sehr geheim u", "sehr geheim o\u{308}"] {
            visitor
                .log_in(&name, wrong)
                .await
                .problem(401, "wrong_credentials");
        }
        assert_eq!(hash_of(&app, &name).await, hash);
        visitor.log_in(&name, DECOMPOSED).await.ok(200);
        let renewed = hash_of(&app, &name).await;
        assert!(renewed.starts_with(TODAYS) && renewed != hash, "{renewed}");
        for typed in [IMPORTED, DECOMPOSED] {
            visitor.log_in(&name, typed).await.ok(200);
        }
        assert_eq!(hash_of(&app, &name).await, renewed, "no second upgrade");
    }
}

/// bcrypt reads only 72 bytes. If the service replaced the hash, a typing error after them would become part of the
/// password.
#[tokio::test]
async fn what_bcrypt_never_saw_of_a_long_password_does_not_become_the_password() {
    let app = TestApp::start().await;
    let hash = "$2b$04$zbcdefghijklmnopqrstuuqo6KKlRwec2RwufI7LutrNRDkrN/ICW";
    import(&app, "ada", hash).await;
    let visitor = app.visitor();
    let (seen, long) = ("x9".repeat(36), "x9".repeat(40));
    visitor.log_in("ada", &long).await.ok(200);
    visitor.log_in("ada", &format!("{long}_")).await.ok(200);
    assert_eq!(hash_of(&app, "ada").await, hash);
    visitor
        .log_in("ada", &seen[1..])
        .await
        .problem(401, "wrong_credentials");

    visitor.log_in("ada", &seen).await.ok(200);
    assert!(hash_of(&app, "ada").await.starts_with(TODAYS));
    visitor.log_in("ada", &seen).await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_log_in_at_once_are_all_let_in_although_the_hash_changes() {
    let app = TestApp::start_wide().await;
    import(&app, "ada", IMPORTED_HASHES[0]).await;
    // Each has compared the old hash before the first replaces it.
    let gate = app.hold("select from private.credentials for update").await;
    let logins = race((0..10).map(|_| {
        let visitor = app.visitor();
        async move { visitor.log_in("ada", IMPORTED).await }
    }));
    gate.until_waiting(10).await;
    gate.release().await;
    for login in logins.answers().await {
        login.ok(200);
    }
    assert_eq!(sign_ins(&app).await, 10);
    assert!(hash_of(&app, "ada").await.starts_with(TODAYS));
    app.visitor().log_in("ada", IMPORTED).await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_changed_during_a_login_wins() {
    let app = TestApp::start_wide().await;
    app.runner("bob").await;
    let changed = hash_of(&app, "bob").await;
    import(&app, "ada", IMPORTED_HASHES[1]).await;
    let before = sign_ins(&app).await;
    let gate = app
        .hold(&format!(
            "update private.credentials set password_hash = '{changed}'"
        ))
        .await;
    // One more wrong password would be too many.
    let logins = race((0..4).map(|_| {
        let visitor = app.visitor();
        async move { visitor.log_in("ada", IMPORTED).await }
    }));
    gate.until_waiting(4).await;
    gate.release().await;
    for login in logins.answers().await {
        login.problem(401, "wrong_credentials");
    }
    assert_eq!(hash_of(&app, "ada").await, changed);
    assert_eq!(sign_ins(&app).await, before);
    app.visitor().log_in("ada", PASSWORD).await.ok(200);
}

/// Hashes of PASSWORD, made by the reference implementation.
const OUTDATED: [&str; 5] = [
    "$argon2id$v=19$m=8192,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$E00YDK579zCFKHdylDWWbt4Db/32fqyFEYPCGpqFXXw",
    "$argon2id$v=19$m=65536,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$77UfmnZYT23WpPeUKhovauWm5OxRQv9nTf1dJ+tF5EY",
    "$argon2i$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$a4Vmb8BztzJQAjar4pBJac3RHJRwOM41W0GNxOaaUsU",
    "$argon2d$v=19$m=4096,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$gJOk5BwYAkM4vMqW7FQ4nI4ux4SmSZJBjPDWVK27EJc",
    "$argon2id$v=16$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$/4B9IQLNXUwqaY0TRpcIkX0VsyAGGSQr5jo467LMJc0",
];

#[tokio::test]
async fn a_hash_of_other_parameters_is_renewed_and_one_of_todays_is_left_alone() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    for (number, outdated) in OUTDATED.into_iter().enumerate() {
        let name = format!("outdated{number}");
        import(&app, &name, outdated).await;
        visitor
            .log_in(&name, "correct horse battery stable")
            .await
            .problem(401, "wrong_credentials");
        assert_eq!(hash_of(&app, &name).await, outdated);
        visitor.log_in(&name, PASSWORD).await.ok(200);
        let renewed = hash_of(&app, &name).await;
        assert!(renewed.starts_with(TODAYS), "{outdated}: {renewed}");
        visitor.log_in(&name, PASSWORD).await.ok(200);
        assert_eq!(hash_of(&app, &name).await, renewed);
    }
}

#[tokio::test]
async fn a_corrupt_hash_is_a_wrong_password_and_no_more() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    let today = "$argon2id$v=19$m=19456,t=2,p=1$AzzT48qkOz5HfCc1wN7ZQw$VEwsoHjM1NMV9PRmThM0I2WoN+xelK6/foqU8/7fUAA";
    let bcrypt = IMPORTED_HASHES[0];
    let corrupt = [
        String::new(),
        " ".to_owned(),
        "plain text".to_owned(),
        "$".to_owned(),
        "$$$$$$".to_owned(),
        "$2a$".to_owned(),
        bcrypt[..59].to_owned(),
        format!("{bcrypt}."),
        bcrypt.replace("$05$", "$xx$"),
        bcrypt.replace("$05$", "$03$"),
        bcrypt.replace("2a", "2x"),
        bcrypt.replace("abc", "äb"),
        // This cost takes days of work.
        bcrypt.replace("$05$", "$31$"),
        today[..60].to_owned(),
        today[..53].to_owned(),
        today[..31].to_owned(),
        today.replace("argon2id", "argon2x"),
        today.replace("argon2id", "scrypt"),
        today.replace("v=19", "v=20"),
        today.replace("v=19", "v=99999999999999999999"),
        today.replace("p=1", "p=0"),
        today.replace("m=19456", "m=1"),
        today.replace("AzzT48qkOz5HfCc1wN7ZQw", "AzzT"),
        today.replace("AzzT48qkOz5HfCc1wN7ZQw", "Azz=="),
        today.replace("VEws", "!!!!"),
        // These take years of work, and more memory than there is.
        today.replace("t=2", "t=4294967295"),
        today.replace("m=19456", "m=4294967295"),
        today.replace("p=1", "p=16777215"),
        "x".repeat(100_000),
    ];
    for (number, hash) in corrupt.iter().enumerate() {
        let name = format!("corrupt{number}");
        import(&app, &name, hash).await;
        for password in [IMPORTED, PASSWORD] {
            let answer = visitor.log_in(&name, password).await;
            assert_eq!(answer.status, 401, "{hash}");
            answer.problem(401, "wrong_credentials");
        }
        assert_eq!(hash_of(&app, &name).await, *hash);
    }
    app.runner("ada").await;
    visitor.log_in("ada", PASSWORD).await.ok(200);
}

#[tokio::test]
async fn characters_that_become_one_count_as_one() {
    let app = TestApp::start().await;
    let short =
        serde_json::json!({ "username": "ada", "password": "e\u{301}u\u{308}z\u{30c}o\u{302}" });
    let answer = app.visitor().post("/auth/register", short).await;
    assert_eq!(
        answer.faults(),
        [("password".to_owned(), "too_short".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_logins_than_can_wait_are_told_to_come_back() {
    let app = TestApp::start_with(|config| {
        config.db_connections = Some(64);
        config.rate_limits = "off".parse().expect("limits");
    })
    .await;
    app.runner("ada").await;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // No request reaches the hash.
    let gate = app
        .hold("lock table private.credentials in access exclusive mode")
        .await;
    let visitor = app.visitor();
    let mut logins: FuturesUnordered<_> = (0..cores * 50)
        .map(|_| {
            let visitor = visitor.clone();
            tokio::spawn(async move { visitor.log_in("ada", PASSWORD).await })
        })
        .collect();
    let refused = logins.next().await.expect("an answer").expect("an answer");
    refused.problem(503, "overloaded");
    gate.release().await;
    let mut let_in = 0;
    while let Some(answer) = logins.next().await {
        let answer = answer.expect("an answer");
        if answer.status == 200 {
            let_in += 1;
        } else {
            answer.problem(503, "overloaded");
        }
    }
    assert!(let_in >= cores, "{let_in}");
    // Their permits are free again.
    app.visitor().log_in("ada", PASSWORD).await.ok(200);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn threads_that_hash_yield_to_all_others() {
    let app = TestApp::start().await;
    app.runner("ada").await;
    let niceness = |stat: String| {
        let (_, fields) = stat.rsplit_once(") ").expect("fields");
        let nice = fields.split(' ').nth(16).expect("a niceness");
        nice.parse::<i32>().expect("a number")
    };
    let own = std::fs::read_to_string("/proc/thread-self/stat").expect("this thread");
    let own = niceness(own);
    let threads = std::fs::read_dir("/proc/self/task").expect("threads");
    let hashing: Vec<_> = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok())
        .filter(|stat| stat.contains("(password-hash)"))
        .map(niceness)
        .collect();
    assert!(!hashing.is_empty());
    let wanted = (own + 10).min(19);
    assert!(hashing.iter().all(|nice| *nice == wanted), "{hashing:?}");
}
