//! Access tokens: short-lived JWTs that PostgREST, Supabase Realtime and Storage accept as well.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{config::ACCESS_TOKEN_LIFETIME, problem::Problem};

/// The audience and the database role of whoever is signed in, on Supabase and here.
const AUTHENTICATED: &str = "authenticated";
/// Clocks differ; PostgREST allows as much.
const LEEWAY_SECONDS: u64 = 30;

/// What an access token says (RFC 7519); the database takes it as the caller of each request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// The user.
    pub sub: Uuid,
    /// For whom: always `authenticated`.
    pub aud: String,
    /// The database role that PostgREST assumes: always `authenticated`.
    pub role: String,
    /// When it expires, in seconds since 1970.
    pub exp: u64,
    /// When it was issued, in seconds since 1970.
    pub iat: u64,
    /// The sign-in that it belongs to.
    pub session_id: Uuid,
    /// The user's role when it was issued: for display; rules read the database.
    pub user_role: String,
    /// How sure we are of the user: one factor.
    pub aal: String,
    /// How the user signed in, and when (RFC 8176).
    pub amr: Vec<Method>,
    /// Supabase asks; never true here.
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

/// Signs and verifies access tokens (HS256).
pub struct AccessTokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    issuer: String,
}

impl AccessTokens {
    /// HS256 with a secret of at least 32 bytes (RFC 7518, section 3.2).
    pub fn new(secret: &SecretString, issuer: &str) -> anyhow::Result<Self> {
        let secret = secret.expose_secret().as_bytes();
        anyhow::ensure!(
            secret.len() >= 32,
            "JWT_SECRET has {} bytes and needs at least 32; `openssl rand -base64 32` makes a good one",
            secret.len()
        );
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.set_audience(&[AUTHENTICATED]);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        Ok(AccessTokens {
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
            validation,
            issuer: issuer.to_owned(),
        })
    }

    /// A token for a user's sign-in, issued now; the password was given at `signed_in`, or else now, too.
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
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(Problem::internal)
    }

    /// The claims of a token that this service issued and that has not expired.
    pub fn verify(&self, token: &str) -> Result<Claims, Problem> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Problem::unauthorized(
                    "expired_token",
                    "The access token has expired: `POST /auth/refresh` gets the next one.",
                ),
                _ => Problem::unauthorized(
                    "invalid_token",
                    "The access token is not valid: log in to get one.",
                ),
            })?
            .claims;
        if claims.iat > now()? + LEEWAY_SECONDS {
            return Err(Problem::unauthorized(
                "invalid_token",
                "The access token is from the future.",
            ));
        }
        Ok(claims)
    }
}

fn now() -> Result<u64, Problem> {
    Ok(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(Problem::internal)?
        .as_secs())
}
