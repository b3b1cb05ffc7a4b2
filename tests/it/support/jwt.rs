//! JWTs (RFC 7519), read and made by hand.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

/// The header (0) or the claims (1) of a token.
pub fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("three parts");
    let json = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&json).expect("JSON")
}

/// A token that `sign` signs.
pub fn sign_by(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token with an HMAC.
pub fn sign(
    header: &Value,
    claims: &Value,
    algorithm: hmac::Algorithm,
    key: impl AsRef<[u8]>,
) -> String {
    sign_by(header, claims, |message| {
        let key = hmac::Key::new(algorithm, key.as_ref());
        hmac::sign(&key, message).as_ref().to_vec()
    })
}
