//! Randomness, from the operating system. Clippy forbids its sources elsewhere (clippy.toml).
#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use aws_lc_rs::rand;
use uuid::{Builder, Uuid};

#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random numbers")]
pub struct NoRandomness;

/// As many random bytes as the array is long, good for secrets.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// An id that nobody can guess (UUID version 4).
pub fn random_id() -> Result<Uuid, NoRandomness> {
    Ok(Builder::from_random_bytes(random_bytes()?).into_uuid())
}

/// The id of a request. Without randomness it is nil, and whatever needs a secret fails.
pub fn request_id() -> String {
    random_id().unwrap_or_default().to_string()
}
