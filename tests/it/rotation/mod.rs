//! Refresh tokens under attack, in races and in accidents; each story with one replica and with two.

mod refresh;
mod secrets;
mod theft;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::support::actor::text;

/// What an access token says.
fn claims(tokens: &Value) -> Value {
    let token = text(tokens, "/accessToken");
    let claims = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("JSON")
}
