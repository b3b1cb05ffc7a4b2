//! Requests that ask for the password again: its change, and the erasure of the account.

use serde_json::json;
use speedcoding::config::Config;

use super::{NEW_PASSWORD, log_in_from};
use crate::support::{
    actor::{Answer, PASSWORD, text},
    race::race,
    service::{Service, refresh_token, stories},
};

stories! {
    a_password_is_changed_by_who_knows_it_and_ends_the_other_sign_ins
    the_password_that_is_asked_for_again_is_guessed_as_slowly_as_at_login
    a_login_with_the_old_password_does_not_outlive_its_change
    two_changes_of_a_password_at_once_are_one
    an_erasure_with_the_old_password_does_not_outlive_its_change
    an_account_without_approved_runs_is_erased_wholly
    approved_runs_stay_under_a_name_that_says_nothing
    an_erasure_leaves_nothing_of_what_races_it
}

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
    // A repeated request gets the first answer.
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
