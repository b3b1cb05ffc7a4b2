//! The public keys of access tokens (RFC 7517), for services that verify them.

use std::sync::Arc;

use poem::{
    IntoResponse, Request, Response, handler,
    http::{HeaderValue, header},
    web::Data,
};

use super::types::Cacheable;
use crate::state::State;

/// How long other services may keep the set. A new key is in the set for longer than that before it signs
/// (docs/keys.md).
const KEEP: HeaderValue = HeaderValue::from_static("public, max-age=600");

/// The set. It is empty if a secret signs.
#[handler]
pub fn show(request: &Request, Data(state): Data<&Arc<State>>) -> Response {
    let known = request.headers().get(header::IF_NONE_MATCH);
    let known = known.and_then(|tags| tags.to_str().ok());
    let mut response = Cacheable::of(state.auth.access.published().clone(), known).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, KEEP);
    response
}
