//! Authentication: passwords, access tokens, refresh tokens.

pub mod keys;
pub mod password;
mod pool;
pub mod refresh;
pub mod token;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};

use crate::config::Config;

/// The parts of authentication, made once for the service.
pub struct Auth {
    /// Hashes and compares passwords.
    pub passwords: password::Passwords,
    /// Signs and verifies access tokens.
    pub access: token::AccessTokens,
    /// Makes refresh tokens.
    pub refresh: refresh::RefreshTokens,
}

impl Auth {
    /// Takes its keys from the settings. The generated secret signs the tokens for which the settings have no key.
    pub fn new(config: &Config, generated: Option<&SecretString>) -> anyhow::Result<Self> {
        let keys = config.jwt_keys.as_ref().map(keys::load).transpose()?;
        let keys = keys.unwrap_or_default();
        let unsigned = !keys.iter().any(keys::Key::can_sign);
        let given = config.jwt_secret.as_ref();
        let secret = given.or(generated.filter(|_| unsigned));
        let access = token::AccessTokens::new(secret, &keys, &config.jwt_issuer)?;
        if let (Some(secret), Some(list)) = (given, &config.refresh_secrets) {
            let (secret, list) = (secret.expose_secret(), list.expose_secret());
            // The comma would split the secret into other secrets, and everybody would be signed out.
            anyhow::ensure!(
                !secret.contains(',') || !list.contains(secret),
                "JWT_SECRET has a comma and cannot be one of REFRESH_SECRETS, because commas separate those"
            );
        }
        let mut refresh_secrets = config.refresh_secrets();
        if refresh_secrets.is_empty() {
            let derived = given.or(generated).context(
                "REFRESH_SECRETS is needed if JWT_KEYS is set without JWT_SECRET: at least 32 bytes. The former JWT_SECRET \
                 keeps everybody signed in; `openssl rand -base64 32` makes a new secret",
            )?;
            refresh_secrets.push(derived.clone());
        }
        Ok(Auth {
            passwords: password::Passwords::new()?,
            access,
            refresh: refresh::RefreshTokens::new(&refresh_secrets)?,
        })
    }
}
