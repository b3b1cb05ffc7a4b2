//! The keys of `JWT_KEYS`: JWK sets for ES256 (RFC 7517; RFC 7518, section 6.2).
//!
//! `jsonwebtoken::jwk` knows only the public members of a key, so it neither reads nor makes one that signs. If it
//! cannot read a key, it refuses the whole set and quotes the unreadable part. An operator needs the number of the key,
//! and no secret in the message.

use std::{collections::HashSet, fs};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::{
    digest,
    encoding::{AsBigEndian, EcPrivateKeyBin},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        ParsedPublicKey,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

const COORDINATE_LENGTH: usize = 32;
/// How an uncompressed point begins (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// A key of ES256 that verifies. With its private part it can sign.
pub struct Key {
    /// Names the key in tokens.
    pub id: String,
    x: String,
    y: String,
    pair: Option<EcdsaKeyPair>,
}

/// Reads the keys of a setting, in their order. The setting is a JWK set, or a comma-separated list of paths of files.
/// Each file holds one JWK set.
///
/// Errors quote nothing of the setting, because it may be a key in the wrong place.
pub fn load(setting: &SecretString) -> Result<Vec<Key>> {
    let keys = read(setting.expose_secret()).context(
        "JWT_KEYS must be a JWK set, or the paths of files with one each, such as JWT_KEYS=keys.json after \
         `speedcoding keys generate >keys.json`",
    )?;
    let ids: HashSet<_> = keys.iter().map(|key| &key.id).collect();
    ensure!(
        ids.len() == keys.len(),
        "JWT_KEYS: two keys have the same `kid`"
    );
    Ok(keys)
}

fn read(setting: &str) -> Result<Vec<Key>> {
    let mut sets = Vec::new();
    if setting.trim_start().starts_with('{') {
        sets.push(setting.to_owned());
    } else {
        for (number, path) in (1..).zip(setting.split(',')) {
            let text = fs::read_to_string(path.trim());
            sets.push(text.with_context(|| format!("file {number} cannot be read"))?);
        }
    }
    let mut keys = Vec::new();
    for (number, text) in (1..).zip(&sets) {
        let set: Value = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            anyhow::anyhow!("set {number} is not JSON: see line {line}, column {column}")
        })?;
        let members = set.get("keys").and_then(Value::as_array);
        let members =
            members.with_context(|| format!(r#"set {number} is not {{"keys": [...]}}"#))?;
        for jwk in members {
            keys.push(Key::parse(jwk).with_context(|| format!("key {}", keys.len() + 1))?);
        }
    }
    ensure!(!keys.is_empty(), "it contains no key");
    Ok(keys)
}

/// A new key, as a set.
pub fn generate() -> Result<SecretString> {
    let no_key = || {
        anyhow::anyhow!("no key can be made, because the operating system gave no random numbers")
    };
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| no_key())?;
    let private: EcPrivateKeyBin = pair.private_key().as_be_bytes().map_err(|_| no_key())?;
    let d = URL_SAFE_NO_PAD.encode(private.as_ref());
    let point = pair.public_key().as_ref();
    let coordinates = point.get(1..).unwrap_or_default();
    let (x, y) = coordinates
        .split_at_checked(COORDINATE_LENGTH)
        .ok_or_else(no_key)?;
    let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
    // The thumbprint (RFC 7638): these members in this order.
    let members = json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y }).to_string();
    let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()));
    let mut jwk = Key {
        id,
        x,
        y,
        pair: None,
    }
    .public();
    let members = jwk.as_object_mut().ok_or_else(no_key)?;
    members.insert("d".to_owned(), d.into());
    Ok(json!({ "keys": [jwk] }).to_string().into())
}

/// The public parts of the keys.
pub fn public_set(keys: &[Key]) -> Value {
    json!({ "keys": keys.iter().map(Key::public).collect::<Vec<_>>() })
}

/// The value that PostgREST verifies with: the secret as it is or, if there are keys, a set with the secret and the
/// keys.
pub(super) fn postgrest_secret(secret: Option<&str>, keys: &[Key]) -> SecretString {
    match secret {
        Some(secret) if keys.is_empty() => secret.into(),
        _ => {
            let secret = secret.map(|secret| {
                json!({ "kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(secret) })
            });
            let keys: Vec<_> = keys.iter().map(Key::public).chain(secret).collect();
            json!({ "keys": keys }).to_string().into()
        }
    }
}

impl Key {
    /// Whether the key has its private part.
    pub fn can_sign(&self) -> bool {
        self.pair.is_some()
    }

    /// The key that signs tokens and the header that names it, or nothing if the key is public.
    pub(super) fn signing(&self) -> Result<Option<(Header, EncodingKey)>> {
        let Some(pair) = &self.pair else {
            return Ok(None);
        };
        let der = pair
            .to_pkcs8v1()
            .ok()
            .context("a key of JWT_KEYS cannot be used")?;
        let header = Header {
            kid: Some(self.id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        Ok(Some((header, EncodingKey::from_ec_der(der.as_ref()))))
    }

    /// The key that verifies its tokens.
    pub(super) fn verifying(&self) -> Result<DecodingKey> {
        Ok(DecodingKey::from_ec_components(&self.x, &self.y)?)
    }

    fn parse(jwk: &Value) -> Result<Self> {
        let member = |name: &str| jwk[name].as_str();
        ensure!(
            member("kty") != Some("oct"),
            "is a shared secret, which belongs in JWT_SECRET"
        );
        let is_es256 = member("kty") == Some("EC")
            && member("crv") == Some("P-256")
            && member("alg").is_none_or(|algorithm| algorithm == "ES256")
            && member("use").is_none_or(|usage| usage == "sig");
        ensure!(is_es256, "is not one of ES256 (kty EC, crv P-256, use sig)");
        let id = member("kid")
            .filter(|id| !id.is_empty())
            .context("has no `kid`")?;

        let coordinates = member("x").zip(member("y"));
        let coordinates = coordinates.context("lacks `x` or `y`")?;
        let point = [coordinates.0, coordinates.1].map(decode);
        let point = match &point {
            [Some(x), Some(y)] => [&[UNCOMPRESSED], &x[..], y].concat(),
            _ => anyhow::bail!("`x` or `y` is not 32 bytes in base64url"),
        };
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
            .ok()
            .context("`x` and `y` are not a point of the curve")?;
        let pair = match &jwk["d"] {
            Value::Null => None,
            d => {
                let d = d.as_str().and_then(decode);
                let d = d.context("`d` is not 32 bytes in base64url")?;
                let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(signing, &d, &point);
                Some(pair.ok().context("`d` does not belong to `x` and `y`")?)
            }
        };
        Ok(Key {
            id: id.to_owned(),
            x: coordinates.0.to_owned(),
            y: coordinates.1.to_owned(),
            pair,
        })
    }

    fn public(&self) -> Value {
        let Key { id, x, y, .. } = self;
        json!({ "kid": id, "kty": "EC", "alg": "ES256", "use": "sig", "crv": "P-256", "x": x, "y": y })
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    (bytes.len() == COORDINATE_LENGTH).then_some(bytes)
}
