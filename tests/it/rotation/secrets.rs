//! The secrets that sign tokens: what a thief can forge with them, and how to change them.

use aws_lc_rs::{digest, hkdf, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde_json::json;
use speedcoding::config::Config;

use crate::support::{
    actor::PASSWORD,
    app::{JWT_SECRET, TestApp},
    service::{Service, refresh_token, stories},
};

stories! {
    a_token_that_this_service_did_not_sign_changes_nothing
    a_dump_with_the_source_and_the_secrets_forges_no_token
    secrets_are_rotated_without_one_failed_request
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
    // Flips each bit, also those of the generation and the MAC.
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
pub fn mac_key(secret: &str) -> (Vec<u8>, hmac::Key) {
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
        // The attacker signs in, too. For that sign-in, which the attacker knows, the forged token is a genuine one.
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
            assert_eq!(row_key, key_id, "the same key");
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

async fn secrets_are_rotated_without_one_failed_request(replicas: usize) {
    const NEW: &str = "another secret for refresh tokens alone";
    // First all replicas learn to verify with the new secret, then to sign with it. The old one is removed when its
    // last sign-in has ended. (The old one is derived from JWT_SECRET.)
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
            // The replicas change one after another, while the others serve.
            let app = service.replicas[0].replica(set(secrets)).await;
            service.replace(replica, app);
            for turn in 0..replicas {
                let credentials = json!({ "username": "ada", "password": PASSWORD });
                let visitor = service.visitor(turn);
                devices.push(visitor.post("/auth/login", credentials).await.ok(200));
                for device in &mut devices {
                    let token = refresh_token(device);
                    let next = service.refresh(turn, &token).await.ok(200);
                    // A replica at another step answers the same.
                    let again = service.refresh(turn + 1, &token).await.ok(200);
                    assert_eq!(refresh_token(&next), refresh_token(&again));
                    *device = next;
                    service.me(turn + 1, device).await.ok(200);
                }
            }
        }
        if step == 2 {
            // Users who were signed in come back until their thirty days are over.
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

    // In an emergency: without its secret, a sign-in ends on each replica that has lost it. Other sign-ins stay.
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
