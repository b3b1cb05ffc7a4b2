//! Access and refresh tokens: their content, their rows in the database, and the tokens that are refused.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::support::{
    actor::{Answer, PASSWORD, answer, text},
    app::{JWT_SECRET, TestApp},
    jwt::{part, sign},
};

async fn registered(app: &TestApp) -> Value {
    app.visitor()
        .post(
            "/auth/register",
            json!({ "username": "ada", "password": PASSWORD }),
        )
        .await
        .ok(201)
}

/// As the service signs.
pub fn forge(claims: &Value) -> String {
    sign(
        &json!({ "alg": "HS256", "typ": "JWT" }),
        claims,
        hmac::HMAC_SHA256,
        JWT_SECRET,
    )
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().expect("claims").remove(name);
    claims
}

async fn me_with(app: &TestApp, token: &str) -> Answer {
    let actor = app.visitor().with_token(token);
    actor.get("/auth/me").await
}

fn seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

#[tokio::test]
async fn an_access_token_says_what_supabase_needs_and_no_more() {
    let app = TestApp::start().await;
    let tokens = registered(&app).await;
    let token = text(&tokens, "/accessToken");
    assert_eq!(part(&token, 0), json!({ "typ": "JWT", "alg": "HS256" }));

    let claims = part(&token, 1);
    let sign_in: String = app
        .sql()
        .await
        .query_one("select id::text from private.refresh_tokens", &[])
        .await
        .expect("a sign-in")
        .get(0);
    let issued = claims["iat"].as_u64().expect("an integer");
    assert_eq!(
        claims,
        json!({
            "iss": "speedcoding",
            "sub": tokens["user"]["id"],
            "aud": "authenticated",
            "role": "authenticated",
            "exp": issued + 900,
            "iat": issued,
            "session_id": sign_in,
            "user_role": "runner",
            "aal": "aal1",
            "amr": [{ "method": "password", "timestamp": issued }],
            "is_anonymous": false,
        })
    );
}

#[tokio::test]
async fn the_database_keeps_nothing_that_makes_a_token_or_a_password() {
    let app = TestApp::start().await;
    let tokens = registered(&app).await;
    let token = text(&tokens, "/refreshToken");
    let encoded = token.strip_prefix("rt_").expect("a refresh token");
    assert_eq!(encoded.len(), 96);
    let bytes = URL_SAFE_NO_PAD.decode(encoded).expect("base64url");
    let (head, mac) = bytes.split_at(40);
    let nonce = &head[24..];
    assert_eq!(&head[20..24], [0, 0, 0, 1], "the first generation");

    let everything = app.dump().await;
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert!(
        everything.contains(&hex(digest::digest(&digest::SHA256, nonce).as_ref())),
        "the dump shows the stored rows: {everything}"
    );
    for secret in [
        encoded.to_owned(),
        hex(&bytes),
        hex(nonce),
        hex(mac),
        hex(&mac[..8]),
        STANDARD.encode(nonce),
        STANDARD.encode(mac),
        URL_SAFE_NO_PAD.encode(nonce),
        URL_SAFE_NO_PAD.encode(mac),
        encoded[32..64].to_owned(),
        encoded[64..].to_owned(),
        text(&tokens, "/accessToken"),
        PASSWORD.to_owned(),
        hex(PASSWORD.as_bytes()),
    ] {
        assert!(!everything.contains(&secret), "{secret} is in {everything}");
    }
    assert!(
        everything.contains("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{everything}"
    );
}

#[tokio::test]
async fn no_two_tokens_are_alike() {
    let app = TestApp::start().await;
    let first = registered(&app).await;
    let second = app
        .visitor()
        .post(
            "/auth/login",
            json!({ "username": "ada", "password": PASSWORD }),
        )
        .await
        .ok(200);
    for pointer in ["/accessToken", "/refreshToken"] {
        assert_ne!(text(&first, pointer), text(&second, pointer));
    }
}

#[tokio::test]
async fn only_a_token_that_this_service_signed_counts() {
    let app = TestApp::start().await;
    let token = text(&registered(&app).await, "/accessToken");
    let claims = part(&token, 1);
    let header = |alg: &str| json!({ "alg": alg, "typ": "JWT" });
    me_with(&app, &forge(&claims)).await.ok(200);

    let unsigned = |alg: &str| {
        let token = sign(&header(alg), &claims, hmac::HMAC_SHA256, JWT_SECRET);
        let (message, _) = token.rsplit_once('.').expect("a signature");
        format!("{message}.")
    };
    let (message, signature) = token.rsplit_once('.').expect("a signature");
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    flipped[0] ^= 1;
    let raised = URL_SAFE_NO_PAD.encode(with(&claims, "user_role", json!("admin")).to_string());
    for (what, forged) in [
        (
            "another key",
            sign(
                &header("HS256"),
                &claims,
                hmac::HMAC_SHA256,
                JWT_SECRET.replace('a', "b"),
            ),
        ),
        (
            "an empty key",
            sign(&header("HS256"), &claims, hmac::HMAC_SHA256, ""),
        ),
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("no signature", unsigned("HS256")),
        (
            "alg none, signed",
            sign(&header("none"), &claims, hmac::HMAC_SHA256, JWT_SECRET),
        ),
        (
            "HS512",
            sign(&header("HS512"), &claims, hmac::HMAC_SHA512, JWT_SECRET),
        ),
        (
            "HS384",
            sign(&header("HS384"), &claims, hmac::HMAC_SHA384, JWT_SECRET),
        ),
        (
            "RS256",
            sign(&header("RS256"), &claims, hmac::HMAC_SHA256, JWT_SECRET),
        ),
        (
            "ES256",
            sign(&header("ES256"), &claims, hmac::HMAC_SHA256, JWT_SECRET),
        ),
        (
            "no alg",
            sign(
                &json!({ "typ": "JWT" }),
                &claims,
                hmac::HMAC_SHA256,
                JWT_SECRET,
            ),
        ),
        (
            "a changed signature",
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(flipped)),
        ),
        (
            "changed claims",
            format!(
                "{}.{raised}.{signature}",
                token.split('.').next().expect("a header")
            ),
        ),
    ] {
        let answer = me_with(&app, &forged).await;
        assert_eq!(answer.status, 401, "{what}");
        assert_eq!(
            answer.headers["www-authenticate"], "Bearer error=\"invalid_token\"",
            "{what}"
        );
        answer.problem(401, "invalid_token");
    }
}

#[tokio::test]
async fn a_token_with_an_extension_that_must_be_understood_is_refused() {
    let app = TestApp::start().await;
    let claims = part(&text(&registered(&app).await, "/accessToken"), 1);
    for critical in [
        json!(["b64"]),
        json!(["exp"]),
        json!(["https://example.org/extension"]),
        json!([]),
        json!("exp"),
        json!(null),
    ] {
        let header = json!({ "alg": "HS256", "typ": "JWT", "b64": true, "crit": critical });
        let token = sign(&header, &claims, hmac::HMAC_SHA256, JWT_SECRET);
        let answer = me_with(&app, &token).await;
        assert_eq!(answer.status, 401, "{header}");
        answer.problem(401, "invalid_token");
    }
    // A bad token is ignored if none is needed.
    let header = json!({ "alg": "HS256", "typ": "JWT", "extension": true });
    let token = sign(&header, &claims, hmac::HMAC_SHA256, JWT_SECRET);
    me_with(&app, &token).await.ok(200);
}

#[tokio::test]
async fn a_token_counts_for_this_service_and_this_time_only() {
    let app = TestApp::start().await;
    let claims = part(&text(&registered(&app).await, "/accessToken"), 1);
    let hour = 3600;
    for wrong in [
        with(&claims, "aud", json!("anon")),
        with(&claims, "aud", json!(["anon", "other"])),
        with(&claims, "iss", json!("https://elsewhere.example")),
        with(&claims, "iat", json!(seconds() + hour)),
        with(&claims, "exp", json!("tomorrow")),
        with(&claims, "exp", json!(-1)),
        with(&claims, "nbf", json!(seconds() + hour)),
        with(&claims, "nbf", json!("yesterday")),
        with(&claims, "nbf", json!(-1)),
        with(&claims, "nbf", json!([1])),
        with(&claims, "nbf", json!(null)),
        with(&claims, "sub", json!("ada")),
        with(&claims, "session_id", json!("")),
        without(&claims, "aud"),
        without(&claims, "iss"),
        without(&claims, "exp"),
        without(&claims, "iat"),
        without(&claims, "sub"),
        without(&claims, "session_id"),
        // Supabase's anon key.
        json!({ "iss": "supabase", "ref": "abcdefghijklmnop", "role": "anon", "iat": 1, "exp": seconds() + hour }),
        json!([]),
        json!("text"),
    ] {
        let answer = me_with(&app, &forge(&wrong)).await;
        assert_eq!(answer.status, 401, "{wrong}");
        answer.problem(401, "invalid_token");
    }
    for begun in [json!(1), json!(1.5), json!(seconds() + 20)] {
        let token = forge(&with(&claims, "nbf", begun));
        me_with(&app, &token).await.ok(200);
    }
    let expired = with(&claims, "exp", json!(seconds() - hour));
    me_with(&app, &forge(&expired))
        .await
        .problem(401, "expired_token");
}

#[tokio::test]
async fn a_token_must_name_a_sign_in_of_its_user() {
    let app = TestApp::start().await;
    let claims = part(&text(&registered(&app).await, "/accessToken"), 1);
    let bob = app.runner("bob").await;
    let bobs = part(bob.token.as_deref().expect("a token"), 1);
    for mixed in [
        with(&claims, "sub", bobs["sub"].clone()),
        with(&claims, "session_id", bobs["session_id"].clone()),
        with(
            &claims,
            "session_id",
            json!("00000000-0000-0000-0000-000000000000"),
        ),
    ] {
        me_with(&app, &forge(&mixed))
            .await
            .problem(401, "sign_in_ended");
    }
}

#[tokio::test]
async fn the_role_in_a_token_gives_nothing() {
    let app = TestApp::start().await;
    let claims = part(&text(&registered(&app).await, "/accessToken"), 1);
    let bobs = app.runner("bob").await.start("freestyle").await;
    let posing = app
        .visitor()
        .with_token(forge(&with(&claims, "user_role", json!("admin"))));
    assert_eq!(posing.get("/auth/me").await.ok(200)["role"], "runner");
    posing
        .session(&bobs)
        .await
        .problem(404, "session_not_found");
}

#[tokio::test]
async fn the_authorization_header_holds_a_bearer_token_or_nothing() {
    let app = TestApp::start().await;
    let token = text(&registered(&app).await, "/accessToken");
    let me = async |value: &str| {
        let request = app
            .visitor()
            .request(Method::GET, "/auth/me")
            .header(header::AUTHORIZATION, value);
        answer(request).await
    };
    me(&format!("Bearer {token}")).await.ok(200);
    me(&format!("bearer {token}")).await.ok(200);
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer garbage",
        "Bearer a.b.c",
        "Bearer ..",
        "Bearer null",
        "Basic YWRhOnBhc3N3b3Jk",
        &token,
        &format!("Token {token}"),
        &format!("Bearer {token}, Bearer {token}"),
        &format!("Bearer {token}.{token}"),
        &format!("Bearer {}", "x".repeat(6000)),
    ] {
        let refused = me(value).await;
        assert_eq!(refused.status, 401, "{value}");
        refused.problem(401, "invalid_token");
    }
    let missing = app.visitor().get("/auth/me").await;
    assert_eq!(
        missing.headers["www-authenticate"], "Bearer",
        "RFC 6750: no error where no token was sent"
    );
    missing.problem(401, "missing_token");
}

#[tokio::test]
async fn a_bad_token_is_refused_where_none_is_needed_too() {
    let app = TestApp::start().await;
    let posing = app.visitor().with_token("garbage");
    let nobodys = "/sessions/00000000-0000-0000-0000-000000000000";
    posing.get(nobodys).await.problem(401, "invalid_token");
    app.visitor()
        .get(nobodys)
        .await
        .problem(404, "session_not_found");
}

#[tokio::test]
async fn a_refresh_token_is_no_access_token() {
    let app = TestApp::start().await;
    let refresh_token = text(&registered(&app).await, "/refreshToken");
    me_with(&app, &refresh_token)
        .await
        .problem(401, "invalid_token");
}

#[tokio::test]
async fn who_is_not_signed_in_learns_nothing_else() {
    let app = TestApp::start().await;
    let visitor = app.visitor();
    for path in ["/sessions/start", "/sessions/end", "/milestones/verify"] {
        let post = || visitor.request(Method::POST, path);
        for request in [
            post(),
            post().body("{"),
            post()
                .header(header::CONTENT_TYPE, "application/json")
                .body("{"),
            post().header(header::CONTENT_TYPE, "text/plain").body("{}"),
            post().json(&json!({ "nonsense": 1 })),
        ] {
            answer(request).await.problem(401, "missing_token");
        }
        let bad_token = post().bearer_auth("garbage").body("{");
        answer(bad_token).await.problem(401, "invalid_token");
    }
    let bad_id = visitor
        .request(Method::GET, "/sessions/17")
        .bearer_auth("garbage");
    answer(bad_id).await.problem(401, "invalid_token");
}
