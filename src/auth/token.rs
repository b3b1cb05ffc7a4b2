//! Access tokens: short-lived JWTs that PostgREST, Supabase Realtime and Storage accept as well.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::keys::{self, Key};
use crate::{config::ACCESS_TOKEN_LIFETIME, problem::Problem};

/// The audience and the database role of signed-in users, on Supabase and here.
const AUTHENTICATED: &str = "authenticated";
/// The difference of clocks that is allowed, as in PostgREST.
const LEEWAY_SECONDS: u64 = 30;

/// The claims of an access token (RFC 7519). The database takes them as the caller of each request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The user.
    pub sub: Uuid,
    /// The audience: always `authenticated`.
    pub aud: String,
    /// The database role that PostgREST assumes: always `authenticated`.
    pub role: String,
    /// When it expires, in seconds since 1970.
    pub exp: u64,
    /// When it was issued, in seconds since 1970.
    pub iat: u64,
    /// The sign-in that it belongs to.
    pub session_id: Uuid,
    /// The user's role when the token was issued. It is for display; rules read the role from the database.
    pub user_role: String,
    /// The assurance level: one factor.
    pub aal: String,
    /// How the user signed in, and when (RFC 8176).
    pub amr: Vec<Method>,
    /// Supabase reads this claim. It is never true here.
    pub is_anonymous: bool,
}

/// One way in which a user has proven who they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Method {
    /// `password`
    pub method: String,
    /// When, in seconds since 1970.
    pub timestamp: u64,
}

/// Signs and verifies access tokens: ES256 with keys, HS256 with a secret.
pub struct AccessTokens {
    header: Header,
    signing: EncodingKey,
    /// The keys by the `kid` of tokens. Tokens that the secret signs have no `kid`.
    verifying: HashMap<Option<String>, Verifying>,
    issuer: String,
    published: Value,
    postgrest_secret: SecretString,
}

/// A key, and the rules for tokens that are verified with it, above all their algorithm.
struct Verifying {
    key: DecodingKey,
    validation: Validation,
}

impl AccessTokens {
    /// The first private key signs. If there is none, the secret signs. It has at least 32 bytes (RFC 7518, section
    /// 3.2).
    pub fn new(secret: Option<&SecretString>, keys: &[Key], issuer: &str) -> anyhow::Result<Self> {
        let secret = secret.map(SecretString::expose_secret);
        let length = secret.map_or(32, str::len);
        anyhow::ensure!(
            length >= 32,
            "JWT_SECRET has {length} bytes and needs at least 32; `openssl rand -base64 32` makes a good one"
        );
        let by_key = keys.iter().find_map(|key| key.signing().transpose());
        let (header, signing) = match (by_key, secret) {
            (Some(by_key), _) => by_key?,
            (None, Some(secret)) => (
                Header::new(Algorithm::HS256),
                EncodingKey::from_secret(secret.as_bytes()),
            ),
            (None, None) if keys.is_empty() => anyhow::bail!(
                "JWT_SECRET is needed with DATABASE_URL: at least 32 bytes; on Supabase the project's JWT secret, \
                 elsewhere `openssl rand -base64 32` makes one. Or JWT_KEYS: `speedcoding keys generate` makes them"
            ),
            (None, None) => anyhow::bail!(
                "JWT_KEYS has no private key to sign with, such as `speedcoding keys generate` makes, and JWT_SECRET \
                 is not set"
            ),
        };
        let by_secret = secret.map(|secret| {
            let key = DecodingKey::from_secret(secret.as_bytes());
            (None, Verifying::new(key, Algorithm::HS256, issuer))
        });
        let mut verifying: HashMap<_, _> = by_secret.into_iter().collect();
        for key in keys {
            let verifies = Verifying::new(key.verifying()?, Algorithm::ES256, issuer);
            verifying.insert(Some(key.id.clone()), verifies);
        }
        Ok(AccessTokens {
            header,
            signing,
            verifying,
            issuer: issuer.to_owned(),
            published: keys::public_set(keys),
            postgrest_secret: keys::postgrest_secret(secret, keys),
        })
    }

    /// The published JWK set: public keys only.
    pub fn published(&self) -> &Value {
        &self.published
    }

    /// The value with which PostgREST verifies the same tokens (`PGRST_JWT_SECRET`): the secret itself, or a JWK set.
    pub fn postgrest_secret(&self) -> &SecretString {
        &self.postgrest_secret
    }

    /// A token for a user's sign-in, issued now. `signed_in` is the time at which the password was given. If it is
    /// none, the password was given now.
    pub fn issue(
        &self,
        user: Uuid,
        role: &str,
        sign_in: Uuid,
        signed_in: Option<u64>,
    ) -> Result<String, Problem> {
        let now = now()?;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: user,
            aud: AUTHENTICATED.to_owned(),
            role: AUTHENTICATED.to_owned(),
            exp: now + ACCESS_TOKEN_LIFETIME.as_secs(),
            iat: now,
            session_id: sign_in,
            user_role: role.to_owned(),
            aal: "aal1".to_owned(),
            amr: vec![Method {
                method: "password".to_owned(),
                timestamp: signed_in.unwrap_or(now),
            }],
            is_anonymous: false,
        };
        jsonwebtoken::encode(&self.header, &claims, &self.signing).map_err(Problem::internal)
    }

    /// The claims of a token that this service issued and that has not expired.
    pub fn verify(&self, token: &str) -> Result<Claims, Problem> {
        let claims = self.decode(token).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => Problem::unauthorized(
                "expired_token",
                "The access token has expired. Get the next one with `POST /auth/refresh`.",
            ),
            _ => Problem::unauthorized(
                "invalid_token",
                "The access token is not valid. Log in to get one.",
            ),
        })?;
        if claims.iat > now()? + LEEWAY_SECONDS {
            return Err(Problem::unauthorized(
                "invalid_token",
                "The access token was issued in the future. Log in to get one.",
            ));
        }
        Ok(claims)
    }

    /// A token names its key. The key decides which algorithm counts, and the token never does.
    fn decode(&self, token: &str) -> jsonwebtoken::errors::Result<Claims> {
        let header = jsonwebtoken::decode_header(token)?;
        refuse_extensions(token)?;
        let Verifying { key, validation } = self
            .verifying
            .get(&header.kid)
            .ok_or(ErrorKind::InvalidToken)?;
        Ok(jsonwebtoken::decode(token, key, validation)?.claims)
    }
}

/// A token with `crit` is only for verifiers that understand the extensions which it lists (RFC 7515, section 4.1.11).
/// This service understands none, so it refuses the token, whatever the value is.
fn refuse_extensions(token: &str) -> jsonwebtoken::errors::Result<()> {
    let header = token.split('.').next().unwrap_or_default();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    if header.get("crit").is_some() {
        return Err(ErrorKind::InvalidToken.into());
    }
    Ok(())
}

impl Verifying {
    fn new(key: DecodingKey, algorithm: Algorithm, issuer: &str) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[AUTHENTICATED]);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        Verifying { key, validation }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens are dated by the clock of the service that signs them"
)]
fn now() -> Result<u64, Problem> {
    Ok(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(Problem::internal)?
        .as_secs())
}
