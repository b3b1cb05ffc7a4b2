//! Refresh tokens: what a sign-in's next access token is asked with. The database keeps only a digest.

use std::sync::Arc;

use aws_lc_rs::{digest, hkdf, hmac, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::problem::Problem;

const PREFIX: &str = "rt_";
const KEY_ID_LENGTH: usize = 4;
const NONCE_LENGTH: usize = 16;

/// Makes refresh tokens: `rt_` and base64url of
/// key id (4) ‖ sign-in id (16) ‖ generation (4, big endian) ‖ nonce (16) ‖ HMAC-SHA-256 over all that (32).
///
/// The database has SHA-256 of the nonce and the key id only: neither a stolen database nor a stolen key
/// forges a token.
#[derive(Clone)]
pub struct RefreshTokens {
    signing: Arc<Key>,
}

struct Key {
    id: [u8; KEY_ID_LENGTH],
    hmac: hmac::Key,
}

/// A sign-in that is about to be stored.
pub struct NewSignIn {
    /// Random, for it stands in the token.
    pub id: Uuid,
    /// SHA-256 of the nonce.
    pub nonce_digest: Vec<u8>,
    /// Which key signed the token.
    pub key_id: Vec<u8>,
    /// The token of the first generation.
    pub token: String,
}

impl RefreshTokens {
    /// The first secret signs. Without any, one is derived from the JWT secret (HKDF, RFC 5869).
    pub fn new(secrets: &[SecretString], jwt_secret: &SecretString) -> anyhow::Result<Self> {
        for secret in secrets {
            let length = secret.expose_secret().len();
            anyhow::ensure!(
                length >= 32,
                "one of REFRESH_SECRETS has {length} bytes and needs at least 32; `openssl rand -base64 32` makes a good one"
            );
        }
        let secret = secrets
            .first()
            .unwrap_or(jwt_secret)
            .expose_secret()
            .as_bytes();
        Ok(RefreshTokens {
            signing: Arc::new(Key::derive(secret)?),
        })
    }

    /// A new sign-in with its first token.
    pub fn open(&self) -> Result<NewSignIn, Problem> {
        let id = Uuid::new_v4();
        let mut nonce = [0; NONCE_LENGTH];
        rand::fill(&mut nonce).map_err(|_| Problem::internal("no randomness"))?;
        Ok(NewSignIn {
            id,
            nonce_digest: digest::digest(&digest::SHA256, &nonce).as_ref().to_vec(),
            key_id: self.signing.id.to_vec(),
            token: self.signing.token(id, 1, &nonce),
        })
    }
}

impl Key {
    /// The HMAC key and its id come from the secret by HKDF: the id tells nothing about the key.
    fn derive(secret: &[u8]) -> anyhow::Result<Self> {
        let material = hkdf::Salt::new(hkdf::HKDF_SHA256, b"speedcoding").extract(secret);
        let mut derived = [0; KEY_ID_LENGTH + 32];
        material
            .expand(&[b"refresh tokens"], Length(derived.len()))
            .and_then(|okm| okm.fill(&mut derived))
            .map_err(|_| {
                anyhow::anyhow!("no key can be derived from REFRESH_SECRETS or JWT_SECRET")
            })?;
        let (id, key) = derived.split_at(KEY_ID_LENGTH);
        Ok(Key {
            id: id.try_into()?,
            hmac: hmac::Key::new(hmac::HMAC_SHA256, key),
        })
    }

    fn token(&self, sign_in: Uuid, generation: u32, nonce: &[u8; NONCE_LENGTH]) -> String {
        let mut bytes = [
            &self.id[..],
            sign_in.as_bytes(),
            &generation.to_be_bytes(),
            nonce,
        ]
        .concat();
        bytes.extend_from_slice(hmac::sign(&self.hmac, &bytes).as_ref());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
