//! Refresh tokens under attack, in races and in accidents. Each story runs with one replica and with two.

mod refresh;
mod secrets;
mod theft;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::support::actor::text;

/// The claims of an access token.
fn claims(tokens: &Value) -> Value {
    let token = text(tokens, "/accessToken");
    let claims = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("JSON")
}
