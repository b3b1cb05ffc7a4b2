//! Who somebody is: passwords, access tokens, refresh tokens, and the bearer of a request.

pub mod bearer;
pub mod password;
mod pool;
pub mod refresh;
pub mod token;

use secrecy::SecretString;

use crate::config::Config;

/// What authentication needs, once for the service.
pub struct Auth {
    /// Hashes and compares passwords.
    pub passwords: password::Passwords,
    /// Signs and verifies access tokens.
    pub access: token::AccessTokens,
    /// Makes refresh tokens.
    pub refresh: refresh::RefreshTokens,
}

impl Auth {
    /// Takes its keys from the settings. `jwt_secret` must have 32 bytes at least.
    pub fn new(config: &Config, jwt_secret: &SecretString) -> anyhow::Result<Self> {
        Ok(Auth {
            passwords: password::Passwords::new()?,
            access: token::AccessTokens::new(jwt_secret, &config.jwt_issuer)?,
            refresh: refresh::RefreshTokens::new(&config.refresh_secrets(), jwt_secret)?,
        })
    }
}
