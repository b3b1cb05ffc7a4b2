//! Which callers may ask PostgREST. Their tokens decide, and so do the questions that PostgREST itself asks.

use std::{fs, sync::Arc};

use reqwest::{Method, header};
use serde_json::{Value, json};
use speedcoding::{db::migrate::migrate, embedded::Embedded};
use tokio::io::AsyncWriteExt;

use crate::support::{
    actor::{answer, text},
    app::TestApp,
    cluster::{Database, connect},
    postgrest::PostgRest,
    program::{Scratch, tell_untold},
    upstream::Upstream,
};

use super::{EMPTY, before, get};

#[tokio::test]
async fn who_has_no_token_is_nobody_and_who_has_a_bad_one_is_refused_here() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = TestApp::start_with(|config| {
        config.postgrest_url = Some(upstream.url.clone());
        config.supabase_anon_key = Some("the-anon-key".into());
    })
    .await;
    let visitor = app.visitor();
    let anon = visitor.clone().with_token("the-anon-key");
    for actor in [&visitor, &anon] {
        let request = actor
            .request(Method::GET, "/rest/v1/users")
            .header("apikey", "whatever");
        answer(request).await.ok(200);
        let heard = upstream.only();
        assert_eq!(heard.all("authorization"), [""; 0]);
        assert_eq!(heard.all("apikey"), ["the-anon-key"]);
    }
    // The API does not take this key as a token either.
    anon.get("/auth/me").await.problem(401, "missing_token");

    let alice = app.runner("alice").await;
    get(&alice, "/rest/v1/users").await.ok(200);
    assert_eq!(upstream.only().all("apikey"), ["the-anon-key"]);

    let forged = alice.token.clone().map(|token| format!("{token}x"));
    for token in ["anon", "rt_x", "a.b.c", &forged.expect("a token")] {
        let refused = get(&visitor.clone().with_token(token), "/rest/v1/users").await;
        let problem = refused.problem(401, "invalid_token");
        // supabase-js reads errors in this form.
        assert_eq!(problem["message"], problem["detail"]);
        assert_eq!(
            (&problem["details"], &problem["hint"]),
            (&json!(""), &json!(""))
        );
    }
    let two = alice
        .request(Method::GET, "/rest/v1/users")
        .header(header::AUTHORIZATION, "Bearer other");
    answer(two).await.problem(401, "invalid_token");
    let basic = visitor
        .request(Method::GET, "/rest/v1/users")
        .header(header::AUTHORIZATION, "Basic YTpi");
    answer(basic).await.problem(401, "invalid_token");

    let owner = app.sql().await;
    let banned = app.runner("bert").await;
    owner
        .batch_execute(
            "insert into public.bans (user_id) select id from public.users where username = 'bert'",
        )
        .await
        .expect("a ban");
    get(&banned, "/rest/v1/users")
        .await
        .problem(403, "account_banned");
    let idle = app.runner("ida").await;
    owner
        .batch_execute(
            "update private.refresh_tokens set idle_expires_at = now()
              where user_id = (select id from public.users where username = 'ida')",
        )
        .await
        .expect("a time");
    get(&idle, "/rest/v1/users")
        .await
        .problem(401, "sign_in_ended");
    owner
        .batch_execute(
            "update private.refresh_tokens set revoked_at = now(), revoked_reason = 'logout'",
        )
        .await
        .expect("a revocation");
    get(&alice, "/rest/v1/users")
        .await
        .problem(401, "sign_in_ended");
    let gone = app.runner("greta").await;
    owner
        .batch_execute("delete from public.users where username = 'greta'")
        .await
        .expect("a deletion");
    get(&gone, "/rest/v1/users")
        .await
        .problem(401, "sign_in_ended");
    assert_eq!(upstream.heard().len(), 0);
}

#[tokio::test]
async fn an_answer_that_names_its_request_is_not_judged_here_and_all_else_is() {
    // This server stands in for a PostgREST that checks sign-ins. The path decides how its answer names the request.
    let upstream = Upstream::acting(|heard, mut stream| async move {
        let id = heard.all("x-request-id")[0].to_owned();
        let named = match heard.line() {
            line if line.contains("/missing") => {
                let answer = format!(
                    "HTTP/1.1 404 Not Found\r\nSpeedcoding-Admitted: {id}\r\nContent-Length: 2\r\n\r\n{{}}"
                );
                stream.write_all(answer.as_bytes()).await.ok()?;
                return Some(stream);
            }
            line if line.contains("/broken") => return None,
            line if line.contains("/unnamed") => String::new(),
            line if line.contains("/others") => uuid::Uuid::new_v4().to_string(),
            line if line.contains("/twice") => format!("{id}\r\nSpeedcoding-Admitted: {id}"),
            _ => id,
        };
        let answer = EMPTY.replace(
            "\r\n\r\n",
            &format!("\r\nSpeedcoding-Admitted: {named}\r\n\r\n"),
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
        Some(stream)
    })
    .await;
    let app = before(&upstream).await;
    let alice = app.runner("alice").await;
    let learn = async || {
        let answer = get(&alice, "/rest/v1/users").await;
        answer.ok(200)
    };
    let owner = app.sql().await;
    let set_revoked = async |revoked: bool| {
        let change = "update private.refresh_tokens
                         set revoked_at = case when $1 then now() end, revoked_reason = case when $1 then 'logout' end";
        owner.execute(change, &[&revoked]).await.expect("a change");
    };
    // The client does not see the header that PostgREST sends to the service.
    let answered = alice.request(Method::GET, "/rest/v1/users").send().await;
    let answered = answered.expect("an answer");
    assert!(!answered.headers().contains_key("speedcoding-admitted"));

    for path in ["missing", "broken", "unnamed", "others", "twice"] {
        let path = format!("/rest/v1/{path}");
        set_revoked(false).await;
        learn().await;
        let status = get(&alice, &path).await.status;
        learn().await;
        set_revoked(true).await;
        // The stand-in checks no sign-in, so the answer shows which side decides.
        learn().await;
        get(&alice, &path).await.problem(401, "sign_in_ended");
        set_revoked(false).await;
        assert_eq!(get(&alice, &path).await.status, status);
    }
    learn().await;
    set_revoked(true).await;
    let heard = upstream.heard().len();
    // Requests that may write do not reach PostgREST.
    for method in [Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        answer(alice.request(method, "/rest/v1/users"))
            .await
            .problem(401, "sign_in_ended");
    }
    get(&alice.clone().with_token("a.b.c"), "/rest/v1/users")
        .await
        .problem(401, "invalid_token");
    assert_eq!(upstream.heard().len(), heard);
    // Once PostgREST has answered without a name, reads do not reach it either.
    get(&alice, "/rest/v1/unnamed")
        .await
        .problem(401, "sign_in_ended");
    let heard = upstream.heard().len();
    get(&alice, "/rest/v1/users")
        .await
        .problem(401, "sign_in_ended");
    assert_eq!(upstream.heard().len(), heard);
}

#[tokio::test]
async fn a_replica_admits_nobody() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    let start = async || {
        let server = Embedded::start(&data, &[("fsync", "off")]).await;
        server.expect("a PostgreSQL")
    };
    let embedded = start().await;
    migrate(embedded.url()).await.expect("the migrations");
    let (user, sign_in) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    connect(embedded.url())
        .await
        .batch_execute(&format!(
            "insert into public.users (id, username) values ('{user}', 'alice');
             insert into private.credentials (user_id, password_hash) values ('{user}', 'none');
             insert into private.refresh_tokens (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at)
             values ('{sign_in}', '{user}', sha256(''), '1234', 'infinity', 'infinity')"
        ))
        .await
        .expect("a sign-in");
    let claims = json!({ "role": "authenticated", "sub": user, "session_id": sign_in }).to_string();
    let id = uuid::Uuid::new_v4();
    let named = async |embedded: &Embedded, id: &str| {
        let mut client = connect(embedded.url()).await;
        let request = client.transaction().await.expect("a transaction");
        request
            .execute(
                "select set_config('request.jwt.claims', $1, true), set_config('request.headers', $2, true)",
                &[&claims, &json!({ "x-request-id": id }).to_string()],
            )
            .await
            .expect("claims");
        request
            .batch_execute("set local role authenticated; select speedcoding.check_request()")
            .await
            .expect("a live sign-in");
        let headers = "select nullif(current_setting('response.headers', true), '')";
        let row = request.query_one(headers, &[]).await.expect("headers");
        row.get::<_, Option<String>>(0)
    };
    let headers = named(&embedded, &id.to_string()).await.expect("headers");
    let headers: Value = serde_json::from_str(&headers).expect("JSON");
    assert_eq!(headers, json!([{ "Speedcoding-Admitted": id }]));
    // Text that is no id does not get into the answer.
    for nonsense in ["", "\"}, {\"Set-Cookie\": \"a=b", "é", &"0".repeat(37)] {
        assert_eq!(named(&embedded, nonsense).await, None);
    }
    embedded.stop().await;

    fs::write(data.join("postgres/standby.signal"), "").expect("a signal");
    let embedded = start().await;
    assert_eq!(named(&embedded, &id.to_string()).await, None);
    embedded.stop().await;
}

#[tokio::test]
async fn a_postgrest_that_asks_refuses_who_has_no_say_any_more() {
    let database = Database::migrated().await;
    let Some(postgrest) = PostgRest::beside(&database).await else {
        tell_untold("refusals by PostgREST", "postgrest or postrust");
        return;
    };
    let app = TestApp::start_on(database, |config| {
        config.postgrest_url = Some(postgrest.url.clone());
    })
    .await;
    // Alice may read, so she is told that she may not write. A visitor is asked to log in.
    let alice = app.runner("alice").await;
    for (actor, status) in [(&alice, 403), (&app.visitor(), 401)] {
        let delete = |path: &str| answer(actor.request(Method::DELETE, path));
        let refused = delete("/rest/v1/users?username=eq.alice").await;
        assert_eq!(
            (refused.status.as_u16(), &refused.body["code"]),
            (status, &json!("42501"))
        );
        delete("/rest/v1/board_entries?username=eq.alice")
            .await
            .problem(405, "method_not_allowed");
        // Neither of them may read who is banned. All other columns of a user are there.
        let refused = get(actor, "/rest/v1/bans").await;
        assert_eq!(
            (refused.status.as_u16(), &refused.body["code"]),
            (status, &json!("42501"))
        );
        let users = get(actor, "/rest/v1/users?select=*").await.ok(200);
        let columns: Vec<_> = users[0].as_object().expect("a user").keys().collect();
        assert_eq!(
            columns,
            ["created_at", "erased_at", "id", "role", "username"]
        );
    }
    let owner = app.sql().await;
    let ends = [
        (
            "insert into public.bans (user_id) select id from public.users where username = $1",
            403,
            "account_banned",
        ),
        (
            "update private.refresh_tokens set revoked_at = now(), revoked_reason = 'logout'
              where user_id = (select id from public.users where username = $1)",
            401,
            "sign_in_ended",
        ),
        (
            "update private.refresh_tokens set idle_expires_at = now()
              where user_id = (select id from public.users where username = $1)",
            401,
            "sign_in_ended",
        ),
        (
            "delete from public.users where username = $1",
            401,
            "sign_in_ended",
        ),
    ];
    for (number, (end, status, code)) in ends.into_iter().enumerate() {
        let name = format!("runner_{number}");
        let runner = app.runner(&name).await;
        let head = async || {
            answer(runner.request(Method::HEAD, "/rest/v1/users"))
                .await
                .status
        };
        get(&runner, "/rest/v1/users").await.ok(200);
        assert_eq!(head().await, 200);
        // Without this right the service cannot look up the sign-in. So only PostgREST can be the one that checks it.
        let may_look_up = async |may: &str| {
            let change = format!("{may} speedcoding_api");
            owner.batch_execute(&change).await.expect("a privilege");
        };
        may_look_up("revoke select on private.refresh_tokens from").await;
        for _ in 0..3 {
            get(&runner, "/rest/v1/users?limit=1").await.ok(200);
            assert_eq!(head().await, 200);
        }
        may_look_up("grant select on private.refresh_tokens to").await;
        owner.execute(end, &[&name]).await.expect("an end");
        for path in [
            "/rest/v1/users",
            "/rest/v1/sessions?select=*,milestones(*)",
            "/rest/v1/nothing",
            "/rest/v1/users?limit=0",
            "/rest/v1/users?select=count()",
            "/rest/v1/users?select=nothing",
            "/rest/v1/rpc",
            "/rest/v1/rpc/check_request",
            "/rest/v1/%75sers",
            "/rest/v1/%72pc",
            "/rest/v1/graphql",
            "/rest/v1/%20",
        ] {
            get(&runner, path).await.problem(status, code);
        }
        for (name, value) in [
            ("accept", "application/vnd.pgrst.object+json"),
            ("accept", "application/vnd.pgrst.plan+json"),
            ("accept", "application/openapi+json"),
            ("accept", "text/csv"),
            ("accept", "image/png"),
            ("accept-profile", "private"),
            ("range", "0-0"),
            ("prefer", "count=exact"),
            ("prefer", "handling=strict, timezone=Nowhere"),
            ("prefer", "tx=rollback"),
            ("if-none-match", "*"),
            ("expect", "100-continue"),
            ("x-http-method-override", "OPTIONS"),
        ] {
            let request = runner.request(Method::GET, "/rest/v1/users");
            answer(request.header(name, value))
                .await
                .problem(status, code);
        }
        assert_eq!(head().await, status);
    }
}

#[tokio::test]
async fn of_many_at_once_each_is_judged_for_itself() {
    let upstream = Upstream::answering(EMPTY).await;
    let app = TestApp::start_with(|config| config.postgrest_url = Some(upstream.url.clone())).await;
    let mut runners = Vec::new();
    for number in 0..4 {
        runners.push(app.runner(&format!("runner_{number}")).await);
    }
    for runner in [&runners[1], &runners[3]] {
        let sign_ins = runner.get("/auth/sign-ins").await.ok(200);
        let path = format!("/auth/sign-ins/{}", text(&sign_ins, "/items/0/id"));
        assert_eq!(runner.delete(&path).await.status, 204);
    }
    let asking = (0..200).map(|turn| {
        let runner = &runners[turn % runners.len()];
        async move { (turn % 4, get(runner, "/rest/v1/users").await) }
    });
    for (number, answer) in futures_util::future::join_all(asking).await {
        if number % 2 == 1 {
            answer.problem(401, "sign_in_ended");
        } else {
            answer.ok(200);
        }
    }
    assert_eq!(upstream.heard().len(), 100);
}

#[tokio::test]
async fn who_is_signed_out_or_banned_while_postgrest_answers_is_told_so_as_everywhere() {
    let database = Database::migrated().await;
    let owner = Arc::new(database.owner().await);
    let upstream = Upstream::acting(move |heard, mut stream| {
        let owner = owner.clone();
        async move {
            let (status, change) = match heard.line() {
                line if line.contains("/ban") => {
                    (403, "insert into public.bans (user_id) select id from public.users")
                }
                line if line.contains("/logout") => (
                    401,
                    "update private.refresh_tokens set revoked_at = now(), revoked_reason = 'logout'",
                ),
                _ => (403, ""),
            };
            owner.batch_execute(change).await.expect(change);
            let body = format!("{{\"code\":\"PT{status}\"}}");
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} No\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(stream)
        }
    })
    .await;
    let app = TestApp::start_on(database, |config| {
        config.postgrest_url = Some(upstream.url.clone());
    })
    .await;
    for (number, method) in [Method::GET, Method::POST].into_iter().enumerate() {
        let alice = app.runner(&format!("alice_{number}")).await;
        let ask = |path: &str| answer(alice.request(method.clone(), path));
        // Other refusals reach the client as PostgREST wrote them.
        let refused = ask("/rest/v1/users").await;
        assert_eq!(
            (refused.status.as_u16(), &refused.body["code"]),
            (403, &json!("PT403"))
        );
        ask("/rest/v1/ban").await.problem(403, "account_banned");
        let unban = "delete from public.bans";
        app.sql().await.batch_execute(unban).await.expect(unban);
        ask("/rest/v1/logout").await.problem(401, "sign_in_ended");
    }
    assert_eq!(upstream.heard().len(), 6);
}

/// Calls the operator's `db-pre-request` with claims, as PostgREST does. Returns what it says.
#[tokio::test]
async fn postgrest_itself_can_refuse_ended_sign_ins_and_banned_users() {
    let app = TestApp::start().await;
    let (alice, bert) = (app.runner("alice").await, app.runner("bert").await);
    let owner = app.sql().await;
    let said = async |role: &str, claims: Option<&Value>| {
        let client = app.database.role(role, claims).await;
        let outcome = client
            .query("select speedcoding.check_request()", &[])
            .await;
        outcome.err().map(|error| {
            let error = error.as_db_error().expect("PostgreSQL's error").clone();
            (
                error.code().code().to_owned(),
                error.hint().unwrap_or_default().to_owned(),
            )
        })
    };
    let refusal = |state: &str, code: &str| Some((state.to_owned(), code.to_owned()));
    let (of_alice, of_bert) = (app.claims(&alice).await, app.claims(&bert).await);
    assert_eq!(said("authenticated", Some(&of_alice)).await, None);
    owner
        .batch_execute(
            "insert into public.bans (user_id) select id from public.users where username = 'bert';
             update private.refresh_tokens set revoked_at = now(), revoked_reason = 'logout'
              where user_id = (select id from public.users where username = 'alice')",
        )
        .await
        .expect("changes");
    assert_eq!(
        said("authenticated", Some(&of_alice)).await,
        refusal("PT401", "sign_in_ended")
    );
    assert_eq!(
        said("authenticated", Some(&of_bert)).await,
        refusal("PT403", "account_banned")
    );
    // The sign-in of another user does not help, and neither does the lack of one.
    let mut mixed = of_alice.clone();
    mixed["session_id"] = of_bert["session_id"].clone();
    assert_eq!(
        said("authenticated", Some(&mixed)).await,
        refusal("PT401", "sign_in_ended")
    );
    mixed["session_id"] = Value::Null;
    assert_eq!(
        said("authenticated", Some(&mixed)).await,
        refusal("PT401", "sign_in_ended")
    );
    // Visitors, the project's own keys, and people who signed in with Supabase Auth.
    assert_eq!(said("anon", None).await, None);
    assert_eq!(
        said("anon", Some(&json!({ "role": "anon", "iss": "supabase" }))).await,
        None
    );
    assert_eq!(
        said("service_role", Some(&json!({ "role": "service_role" }))).await,
        None
    );
    let of_auth =
        json!({ "role": "authenticated", "iss": "https://x.supabase.co/auth/v1", "sub": alice.id });
    assert_eq!(said("authenticated", Some(&of_auth)).await, None);
}
