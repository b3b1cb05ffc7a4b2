//! Refresh tokens, which get a sign-in its next access token. The database keeps only a digest.

use std::sync::Arc;

use anyhow::Context;
use aws_lc_rs::{digest, hkdf, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::{
    problem::Problem,
    random::{random_bytes, random_id},
};

const PREFIX: &str = "rt_";
const KEY_ID_LENGTH: usize = 4;
const NONCE_LENGTH: usize = 16;
const SIGNED_LENGTH: usize = KEY_ID_LENGTH + 16 + 4 + NONCE_LENGTH;

/// Makes and reads refresh tokens: `rt_` and base64url of
/// key id (4) ‖ sign-in id (16) ‖ generation (4, big endian) ‖ nonce (16) ‖ HMAC-SHA-256 over all that (32).
///
/// Each sign-in has its own nonce. The database has only its SHA-256 and the key id, so neither a stolen database nor a
/// stolen key forges a token.
#[derive(Clone)]
pub struct RefreshTokens {
    /// The first key signs new sign-ins. All keys verify.
    keys: Arc<[Key]>,
}

struct Key {
    id: [u8; KEY_ID_LENGTH],
    hmac: hmac::Key,
}

/// A sign-in that is about to be stored.
pub struct NewSignIn {
    /// The random id, which the token contains.
    pub id: Uuid,
    /// SHA-256 of the nonce.
    pub nonce_digest: Vec<u8>,
    /// Which key signed the token.
    pub key_id: Vec<u8>,
    /// The token of the first generation.
    pub token: String,
}

/// A token that one of our keys has signed. The database knows whether its sign-in lives and which generation is next.
pub struct Presented<'a> {
    key: &'a Key,
    nonce: [u8; NONCE_LENGTH],
    /// The sign-in that it belongs to.
    pub sign_in: Uuid,
    /// Which token of the sign-in it is; 1 is the first.
    pub generation: i32,
    /// SHA-256 of the nonce.
    pub nonce_digest: Vec<u8>,
}

impl RefreshTokens {
    /// Each key is derived from its secret (HKDF, RFC 5869).
    pub fn new(secrets: &[SecretString]) -> anyhow::Result<Self> {
        for secret in secrets {
            let length = secret.expose_secret().len();
            anyhow::ensure!(
                length >= 32,
                "one of REFRESH_SECRETS (they are separated by commas) has {length} bytes and needs at least 32; `openssl rand -base64 32` makes a good one"
            );
        }
        let keys = secrets
            .iter()
            .map(|secret| Key::derive(secret.expose_secret().as_bytes()))
            .collect::<anyhow::Result<_>>()?;
        Ok(RefreshTokens { keys })
    }

    /// A key for another purpose, the same on all replicas. It tells nothing about the keys that sign.
    pub fn key_for(&self, purpose: &str) -> anyhow::Result<hmac::Key> {
        let key = self.keys.first().context("no key for refresh tokens")?;
        let derived = hmac::sign(&key.hmac, purpose.as_bytes());
        Ok(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// A new sign-in with its first token.
    pub fn open(&self) -> Result<NewSignIn, Problem> {
        let key = self
            .keys
            .first()
            .ok_or_else(|| Problem::internal("no key for refresh tokens"))?;
        let id = random_id().map_err(Problem::internal)?;
        let nonce: [u8; NONCE_LENGTH] = random_bytes().map_err(Problem::internal)?;
        Ok(NewSignIn {
            id,
            nonce_digest: sha256(&nonce),
            key_id: key.id.to_vec(),
            token: key.token(id, 1, &nonce),
        })
    }

    /// Reads a token, if it is one of ours: the MAC is compared in constant time.
    pub fn read(&self, token: &str) -> Option<Presented<'_>> {
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
        let (signed, mac) = bytes.split_at_checked(SIGNED_LENGTH)?;
        let (key_id, rest) = signed.split_first_chunk::<KEY_ID_LENGTH>()?;
        let (sign_in, rest) = rest.split_first_chunk::<16>()?;
        let (generation, nonce) = rest.split_first_chunk::<4>()?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id == *key_id && hmac::verify(&key.hmac, signed, mac).is_ok())?;
        Some(Presented {
            key,
            nonce: nonce.try_into().ok()?,
            sign_in: Uuid::from_bytes(*sign_in),
            // There must always be a next generation.
            generation: i32::from_be_bytes(*generation).checked_add(1)? - 1,
            nonce_digest: sha256(nonce),
        })
    }
}

impl Presented<'_> {
    /// The id of the key that has signed it. A sign-in keeps its key.
    pub fn key_id(&self) -> &[u8] {
        &self.key.id
    }

    /// The token of this generation of the same sign-in: always the same one.
    pub fn of_generation(&self, generation: i32) -> String {
        self.key.token(self.sign_in, generation, &self.nonce)
    }
}

impl Key {
    /// HKDF derives the HMAC key and its id from the secret. The id tells nothing about the key.
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

    fn token(&self, sign_in: Uuid, generation: i32, nonce: &[u8; NONCE_LENGTH]) -> String {
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

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
