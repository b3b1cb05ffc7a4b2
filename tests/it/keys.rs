//! Keys of access tokens: ES256 beside HS256, published keys, refused tokens, and changes of keys while clients work.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    digest, hmac, rand,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        UnparsedPublicKey,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use reqwest::{Method, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::{sync::RwLock, task::JoinHandle};

use crate::support::{
    actor::{Answer, PASSWORD, answer, text},
    app::{JWT_SECRET, TestApp},
    cluster::Database,
    jwt::{part, sign, sign_by},
    program::{Launch, Program, Scratch, until},
};

/// A new private key, as a set with nothing else in it.
async fn generate(scratch: &Scratch) -> Value {
    let ended = scratch.program(&["keys", "generate"]).finish().await.well();
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// The keys of several sets in one.
fn together(sets: &[&Value]) -> Value {
    let keys = sets
        .iter()
        .flat_map(|set| set["keys"].as_array().expect("keys"));
    json!({ "keys": keys.collect::<Vec<_>>() })
}

fn public(set: &Value) -> Value {
    let mut set = set.clone();
    for key in set["keys"].as_array_mut().expect("keys") {
        key.as_object_mut().expect("a key").remove("d");
    }
    set
}

fn kid(set: &Value) -> String {
    text(set, "/keys/0/kid")
}

fn decoded(key: &Value, member: &str) -> Vec<u8> {
    let encoded = key[member].as_str().expect(member);
    URL_SAFE_NO_PAD.decode(encoded).expect("base64url")
}

fn point(key: &Value) -> Vec<u8> {
    [vec![4], decoded(key, "x"), decoded(key, "y")].concat()
}

/// Signs as the holder of the set's first key.
fn sign_es256(header: &Value, claims: &Value, set: &Value) -> String {
    let key = &set["keys"][0];
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &decoded(key, "d"),
        &point(key),
    )
    .expect("a pair");
    sign_by(header, claims, |message| {
        let random = rand::SystemRandom::new();
        pair.sign(&random, message)
            .expect("a signature")
            .as_ref()
            .to_vec()
    })
}

async fn start(keys: &Value) -> TestApp {
    let keys = SecretString::from(keys.to_string());
    TestApp::start_with(|config| config.jwt_keys = Some(keys)).await
}

async fn me_with(app: &TestApp, token: &str) -> Answer {
    app.visitor().with_token(token).get("/auth/me").await
}

async fn published(app: &TestApp) -> Value {
    app.visitor().get("/.well-known/jwks.json").await.ok(200)
}

#[tokio::test]
async fn the_first_private_key_signs_and_everybody_can_verify() {
    let scratch = Scratch::new();
    let (standby, current, retired) = (
        generate(&scratch).await,
        generate(&scratch).await,
        generate(&scratch).await,
    );
    let app = start(&together(&[&public(&standby), &current, &retired])).await;
    let ada = app.runner("ada").await;
    let token = ada.token.clone().expect("a token");
    assert_eq!(
        part(&token, 0),
        json!({ "typ": "JWT", "alg": "ES256", "kid": kid(&current) })
    );
    ada.get("/auth/me").await.ok(200);

    let set = published(&app).await;
    let expected = [&standby, &current, &retired].map(|set| public(set)["keys"][0].clone());
    assert_eq!(set, json!({ "keys": expected }));
    let keys = set["keys"].as_array().expect("keys");
    let key = keys.iter().find(|key| key["kid"] == part(&token, 0)["kid"]);
    let (message, signature) = token.rsplit_once('.').expect("a signature");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(key.expect("the key")))
        .verify(message.as_bytes(), &signature)
        .expect("a signature of the published key");

    // Keys without a private part only verify.
    for other in [&standby, &retired] {
        let header = json!({ "alg": "ES256", "kid": kid(other) });
        let token = sign_es256(&header, &part(&token, 1), other);
        me_with(&app, &token).await.ok(200);
    }
}

#[tokio::test]
async fn the_published_set_may_be_kept_for_a_while_and_holds_no_secret() {
    let app = TestApp::start().await;
    assert_eq!(
        published(&app).await,
        json!({ "keys": [] }),
        "HS256 has no public key"
    );

    let scratch = Scratch::new();
    let keys = generate(&scratch).await;
    let secret = text(&keys, "/keys/0/d");
    let config_keys = SecretString::from(keys.to_string());
    let app = TestApp::start_with(|config| {
        config.jwt_secret = Some(JWT_SECRET.into());
        config.jwt_keys = Some(config_keys);
    })
    .await;
    let first = app.visitor().get("/.well-known/jwks.json").await;
    assert_eq!(
        first.headers["content-type"],
        "application/json; charset=utf-8"
    );
    assert_eq!(first.headers["cache-control"], "public, max-age=600");
    let tag = first.headers["etag"].clone();
    let body = first.ok(200);
    assert_eq!(body, public(&keys));
    assert!(!body.to_string().contains(&secret));

    let request = app.visitor().request(Method::GET, "/.well-known/jwks.json");
    let again = answer(request.header(header::IF_NONE_MATCH, &tag)).await;
    assert_eq!(again.status, 304);
    assert_eq!(again.headers["etag"], tag);
    assert_eq!(again.headers["cache-control"], "public, max-age=600");
}

#[tokio::test]
async fn each_key_verifies_its_own_algorithm_and_no_other() {
    let scratch = Scratch::new();
    let (own, other, stranger) = (
        generate(&scratch).await,
        generate(&scratch).await,
        generate(&scratch).await,
    );
    let keys = together(&[&own, &other]);
    let app = start(&keys).await;
    let both = {
        let (database, keys) = (app.database.clone(), SecretString::from(keys.to_string()));
        TestApp::start_on(database, |config| {
            config.jwt_secret = Some(JWT_SECRET.into());
            config.jwt_keys = Some(keys);
        })
        .await
    };
    let token = app.runner("ada").await.token.expect("a token");
    let claims = part(&token, 1);
    let es256 = |kid: &str| json!({ "alg": "ES256", "typ": "JWT", "kid": kid });
    let genuine = sign_es256(&es256(&kid(&own)), &claims, &own);
    let by_secret = sign(
        &json!({ "alg": "HS256" }),
        &claims,
        hmac::HMAC_SHA256,
        JWT_SECRET,
    );
    for app in [&app, &both] {
        me_with(app, &genuine).await.ok(200);
    }
    me_with(&both, &by_secret).await.ok(200);
    me_with(&app, &by_secret)
        .await
        .problem(401, "invalid_token");

    let mut forged = Vec::new();
    // A published key, used as a secret of HS256.
    let point = point(&own["keys"][0]);
    let header = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
    let bytes = (0..header.len()).step_by(2);
    let header = bytes.map(|at| u8::from_str_radix(&header[at..at + 2], 16).expect("hex"));
    let der = [header.collect(), point.clone()].concat();
    let base64 = STANDARD.encode(&der);
    let (first, second) = base64.split_at(64);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n");
    for known in [
        &point,
        &point[1..].to_vec(),
        &decoded(&own["keys"][0], "x"),
        &text(&own, "/keys/0/x").into_bytes(),
        &der,
        &pem.trim_end().as_bytes().to_vec(),
        &pem.into_bytes(),
        &public(&own)["keys"][0].to_string().into_bytes(),
        &public(&keys).to_string().into_bytes(),
        &kid(&own).into_bytes(),
        &Vec::new(),
    ] {
        for header in [
            json!({ "alg": "HS256" }),
            json!({ "alg": "HS256", "kid": kid(&own) }),
            es256(&kid(&own)),
        ] {
            forged.push(sign(&header, &claims, hmac::HMAC_SHA256, known));
        }
    }
    // The secret under a key's name.
    let header = json!({ "alg": "HS256", "kid": kid(&own) });
    forged.push(sign(&header, &claims, hmac::HMAC_SHA256, JWT_SECRET));
    // A stranger sends the key in the token.
    let jwk = public(&stranger)["keys"][0].clone();
    for header in [
        es256(&kid(&own)),
        es256(&kid(&stranger)),
        json!({ "alg": "ES256", "kid": kid(&own), "jwk": jwk }),
        json!({ "alg": "ES256", "jwk": jwk }),
        json!({ "alg": "ES256", "kid": kid(&own), "jku": "https://stranger.example/jwks.json" }),
    ] {
        forged.push(sign_es256(&header, &claims, &stranger));
    }
    // One of our keys under another id, or with another algorithm.
    for header in [
        es256(&kid(&other)),
        es256(""),
        json!({ "alg": "ES256" }),
        json!({ "alg": "ES384", "kid": kid(&own) }),
        json!({ "alg": "RS256", "kid": kid(&own) }),
        json!({ "alg": "none", "kid": kid(&own) }),
        json!({ "kid": kid(&own) }),
    ] {
        forged.push(sign_es256(&header, &claims, &own));
    }
    // Texts that are no signatures.
    for signature in [
        vec![],
        vec![0; 64],
        vec![0xff; 64],
        vec![0; 63],
        vec![0; 72],
    ] {
        forged.push(sign_by(&es256(&kid(&own)), &claims, |_| signature));
    }
    let (message, _) = genuine.rsplit_once('.').expect("a signature");
    forged.push(format!("{message}."));
    forged.push(message.to_owned());
    for token in forged {
        for app in [&app, &both] {
            let answer = me_with(app, &token).await;
            assert_eq!(answer.status, 401, "{}: {token}", part(&token, 0));
            answer.problem(401, "invalid_token");
        }
    }
}

#[tokio::test]
async fn keys_are_made_by_the_program_and_named_by_their_thumbprint() {
    let scratch = Scratch::new();
    let (one, two) = (generate(&scratch).await, generate(&scratch).await);
    assert_ne!(one, two);
    let key = &one["keys"][0];
    let canonical = format!(
        r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
        text(key, "/x"),
        text(key, "/y")
    );
    let thumbprint = digest::digest(&digest::SHA256, canonical.as_bytes());
    assert_eq!(kid(&one), URL_SAFE_NO_PAD.encode(thumbprint));
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &decoded(key, "d"),
        &point(key),
    );
    assert_eq!(pair.expect("a pair").public_key().as_ref(), point(key));

    fs::write(scratch.path("one.json"), one.to_string()).expect("a file");
    fs::write(scratch.path("two.json"), two.to_string()).expect("a file");
    let show = async |keys: &str| {
        let launch = scratch.program(&["keys", "public"]).env("JWT_KEYS", keys);
        let stdout = launch.finish().await.well().stdout;
        serde_json::from_str::<Value>(&stdout).expect("JSON")
    };
    let both = together(&[&one, &two]);
    assert_eq!(show("one.json, two.json").await, public(&both));
    assert_eq!(show(&both.to_string()).await, public(&both));
    let nothing = scratch.program(&["keys", "public"]).finish().await;
    nothing.told(&["JWT_KEYS", "keys generate"]);
}

/// Two replicas behind a load balancer that knows which of them are up.
struct Replicas {
    scratch: Scratch,
    database: Database,
    programs: [RwLock<Option<Program>>; 2],
}

/// A device that goes on working at either replica.
struct Device {
    requests: AtomicUsize,
    token: Mutex<String>,
    over: AtomicBool,
}

type Settings<'a> = &'a [(&'a str, &'a str)];

impl Replicas {
    async fn start(scratch: Scratch, settings: Settings<'_>) -> Arc<Self> {
        let replicas = Replicas {
            scratch,
            database: Database::migrated().await,
            programs: [RwLock::new(None), RwLock::new(None)],
        };
        for place in &replicas.programs {
            *place.write().await = Some(replicas.launch(settings).serve().await);
        }
        Arc::new(replicas)
    }

    fn launch(&self, settings: Settings<'_>) -> Launch {
        let launch = self.scratch.program(&["serve"]);
        let launch = launch.env("DATABASE_URL", self.database.url().expose_secret());
        settings
            .iter()
            .fold(launch, |launch, (name, value)| launch.env(name, value))
    }

    /// Replaces one replica after another. The new one is up before the old one stops. The old one still answers its
    /// last request.
    async fn restart(&self, settings: Settings<'_>, devices: &[(Arc<Device>, JoinHandle<()>)]) {
        for place in &self.programs {
            let new = self.launch(settings).serve().await;
            let old = place.write().await.replace(new);
            old.expect("a program").stop().await.well();
            for (device, _) in devices {
                let before = device.requests.load(Ordering::SeqCst);
                until("the device has gone on", async || {
                    let made = device.requests.load(Ordering::SeqCst) - before;
                    (made >= 6).then_some(())
                })
                .await;
            }
        }
    }

    async fn request(
        &self,
        number: usize,
        token: Option<&str>,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let program = self.programs[number % 2].read().await;
        let mut visitor = program.as_ref().expect("a program").visitor();
        visitor.token = token.map(str::to_owned);
        match body {
            None => visitor.get(path).await,
            Some(body) => visitor.post(path, body).await,
        }
    }

    /// Registers, and then works and refreshes in turns, each time at the other replica. Nothing may fail.
    async fn device(self: &Arc<Self>, username: &str) -> (Arc<Device>, JoinHandle<()>) {
        let body = json!({ "username": username, "password": PASSWORD });
        let mut tokens = self
            .request(0, None, "/auth/register", Some(body))
            .await
            .ok(201);
        let device = Arc::new(Device {
            requests: AtomicUsize::new(0),
            token: Mutex::new(text(&tokens, "/accessToken")),
            over: AtomicBool::new(false),
        });
        let (replicas, own) = (self.clone(), device.clone());
        let working = tokio::spawn(async move {
            while !own.over.load(Ordering::SeqCst) {
                let number = own.requests.fetch_add(1, Ordering::SeqCst) + 1;
                if number.is_multiple_of(3) {
                    let body = json!({ "refreshToken": tokens["refreshToken"] });
                    let answer = replicas
                        .request(number, None, "/auth/refresh", Some(body))
                        .await;
                    tokens = answer.ok(200);
                    *own.token.lock().expect("it") = text(&tokens, "/accessToken");
                } else {
                    let token = text(&tokens, "/accessToken");
                    replicas
                        .request(number, Some(&token), "/auth/me", None)
                        .await
                        .ok(200);
                }
            }
        });
        (device, working)
    }

    async fn published(&self) -> Value {
        self.request(0, None, "/.well-known/jwks.json", None)
            .await
            .ok(200)
    }
}

/// Waits until no device has a token of an older key. In real life this takes as long as a token lives.
async fn until_all_renewed(devices: &[(Arc<Device>, JoinHandle<()>)], kid: &str) {
    for (device, _) in devices {
        until("the device has a new token", async || {
            let token = device.token.lock().expect("it").clone();
            (part(&token, 0)["kid"] == kid).then_some(())
        })
        .await;
    }
}

async fn finish(devices: Vec<(Arc<Device>, JoinHandle<()>)>) {
    for (device, working) in devices {
        device.over.store(true, Ordering::SeqCst);
        working.await.expect("no request has failed");
    }
}

async fn key_file(scratch: &Scratch, name: &str) -> Value {
    let set = generate(scratch).await;
    fs::write(scratch.path(name), set.to_string()).expect("a file");
    set
}

/// The steps are those of docs/keys.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_replaced_while_devices_work_and_no_request_fails() {
    let scratch = Scratch::new();
    let old = key_file(&scratch, "old.json").await;
    let new = key_file(&scratch, "new.json").await;
    let refresh = (
        "REFRESH_SECRETS",
        "a secret for refresh tokens of these tests",
    );
    let replicas = Replicas::start(scratch, &[("JWT_KEYS", "old.json"), refresh]).await;
    let devices = vec![replicas.device("ada").await, replicas.device("bob").await];
    let early = devices[0].0.token.lock().expect("it").clone();
    assert_eq!(part(&early, 0)["kid"], kid(&old));

    // The new key is on standby.
    let settings = [("JWT_KEYS", "old.json,new.json"), refresh];
    replicas.restart(&settings, &devices).await;
    assert_eq!(replicas.published().await, public(&together(&[&old, &new])));
    // The new key signs.
    let settings = [("JWT_KEYS", "new.json,old.json"), refresh];
    replicas.restart(&settings, &devices).await;
    until_all_renewed(&devices, &kid(&new)).await;
    replicas
        .request(0, Some(&early), "/auth/me", None)
        .await
        .ok(200);
    // The old key is retired.
    let settings = [("JWT_KEYS", "new.json"), refresh];
    replicas.restart(&settings, &devices).await;
    assert_eq!(replicas.published().await, public(&new));
    let late = replicas.request(0, Some(&early), "/auth/me", None).await;
    late.problem(401, "invalid_token");
    finish(devices).await;
}

/// The steps are those of docs/keys.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_secret_is_replaced_by_a_key_and_no_request_fails() {
    let scratch = Scratch::new();
    let new = key_file(&scratch, "keys.json").await;
    fs::write(scratch.path("public.json"), public(&new).to_string()).expect("a file");
    let secret = "a secret that has signed everything so far";
    let replicas = Replicas::start(scratch, &[("JWT_SECRET", secret)]).await;
    let devices = vec![replicas.device("ada").await, replicas.device("bob").await];
    let early = devices[0].0.token.lock().expect("it").clone();
    assert_eq!(part(&early, 0)["alg"], "HS256");

    // All replicas learn to verify with the key.
    let settings = [("JWT_SECRET", secret), ("JWT_KEYS", "public.json")];
    replicas.restart(&settings, &devices).await;
    assert_eq!(replicas.published().await, public(&new));
    // The key signs.
    let settings = [("JWT_SECRET", secret), ("JWT_KEYS", "keys.json")];
    replicas.restart(&settings, &devices).await;
    until_all_renewed(&devices, &kid(&new)).await;
    replicas
        .request(0, Some(&early), "/auth/me", None)
        .await
        .ok(200);
    // The secret no longer signs access tokens. Refresh tokens keep it, so that everybody stays signed in.
    let settings = [("REFRESH_SECRETS", secret), ("JWT_KEYS", "keys.json")];
    replicas.restart(&settings, &devices).await;
    let late = replicas.request(0, Some(&early), "/auth/me", None).await;
    late.problem(401, "invalid_token");
    finish(devices).await;
}

#[tokio::test]
async fn keys_that_will_not_do_are_told_before_anything_is_started() {
    let scratch = Scratch::new();
    let (set, other) = (generate(&scratch).await, generate(&scratch).await);
    let key = &set["keys"][0];
    let with = |name: &str, value: Value| {
        let mut set = set.clone();
        set["keys"][0][name] = value;
        set.to_string()
    };
    let without = |name: &str| {
        let mut set = set.clone();
        set["keys"][0].as_object_mut().expect("a key").remove(name);
        set.to_string()
    };
    let secret = json!({ "keys": [{ "kty": "oct", "kid": "a", "k": "c2VjcmV0c2VjcmV0" }] });
    let rsa = json!({ "keys": [{ "kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB" }] });
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}", text(key, "/d"));
    fs::write(scratch.path("empty.json"), "").expect("a file");
    fs::write(scratch.path("keys.json"), set.to_string()).expect("a file");
    fs::create_dir(scratch.path("directory")).expect("a directory");
    let cases: &[(String, &[&str])] = &[
        ("nowhere.json".into(), &["file 1", "No such file"]),
        ("keys.json,nowhere.json".into(), &["file 2", "No such file"]),
        ("keys.json,".into(), &["file 2"]),
        ("directory".into(), &["file 1", "directory"]),
        (pem, &["file 1", "cannot be read"]),
        (set["keys"].to_string(), &["file 1", "cannot be read"]),
        (text(key, "/d"), &["file 1", "cannot be read"]),
        ("empty.json".into(), &["set 1", "not JSON", "line 1"]),
        (
            set.to_string()[..150].to_owned(),
            &["set 1", "not JSON", "line 1"],
        ),
        (key.to_string(), &[r#"not {"keys": [...]}"#]),
        (r#"{"keys": {}}"#.into(), &[r#"not {"keys": [...]}"#]),
        (r#"{"keys": []}"#.into(), &["no key"]),
        (r#"{"keys": ["text"]}"#.into(), &["key 1", "ES256"]),
        (
            secret.to_string(),
            &["key 1", "shared secret", "JWT_SECRET"],
        ),
        (rsa.to_string(), &["key 1", "ES256"]),
        (with("crv", json!("P-384")), &["key 1", "P-256"]),
        (with("alg", json!("ES384")), &["key 1", "ES256"]),
        (with("use", json!("enc")), &["key 1", "use sig"]),
        (without("kid"), &["key 1", "`kid`"]),
        (with("kid", json!("")), &["key 1", "`kid`"]),
        (with("kid", json!(7)), &["key 1", "`kid`"]),
        (without("x"), &["key 1", "`x`"]),
        (with("y", json!("AQAB")), &["key 1", "32 bytes"]),
        (with("y", key["x"].clone()), &["key 1", "not a point"]),
        (with("d", json!(17)), &["key 1", "`d`"]),
        (with("d", json!("AQAB")), &["key 1", "`d`"]),
        (
            with("d", other["keys"][0]["d"].clone()),
            &["key 1", "does not belong"],
        ),
        (
            "keys.json,keys.json".into(),
            &["speedcoding: JWT_KEYS: two keys have the same `kid`"],
        ),
        (public(&set).to_string(), &["private key", "JWT_SECRET"]),
        (set.to_string(), &["REFRESH_SECRETS", "openssl rand"]),
    ];
    for (keys, words) in cases {
        let launch = scratch.program(&["serve"]).env("JWT_KEYS", keys);
        // Nothing listens there.
        let launch = launch.env("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none");
        let told = launch.finish().await.told(words);
        assert!(told.contains("JWT_KEYS"), "{told}");
        assert!(!told.contains(&text(key, "/d")), "{told}");
    }
    assert!(!scratch.path("data").exists());
}

#[tokio::test]
async fn with_the_private_postgresql_a_key_takes_over_and_sign_ins_go_on() {
    let scratch = Scratch::new();
    let keys = key_file(&scratch, "keys.json").await;
    let program = scratch.program(&["serve"]).serve().await;
    let body = json!({ "username": "ada", "password": PASSWORD });
    let tokens = program.visitor().post("/auth/register", body).await.ok(201);
    program.stop().await.well();

    let program = scratch
        .program(&["serve"])
        .env("JWT_KEYS", "keys.json")
        .serve()
        .await;
    let before = program.visitor().with_tokens(&tokens);
    before.get("/auth/me").await.problem(401, "invalid_token");
    let body = json!({ "refreshToken": tokens["refreshToken"] });
    let tokens = program.visitor().post("/auth/refresh", body).await.ok(200);
    let token = text(&tokens, "/accessToken");
    assert_eq!(part(&token, 0)["kid"], kid(&keys));
    program
        .visitor()
        .with_token(token)
        .get("/auth/me")
        .await
        .ok(200);
    program.stop().await.well();
}
