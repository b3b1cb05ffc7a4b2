//! Accounts and sign-ins.

use std::{net::IpAddr, sync::Arc};

use poem::{
    Request,
    http::{StatusCode, header},
    web::Data,
};
use poem_openapi::{Object, OpenApi};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    tag::Tag,
    types::{Created, Timestamp},
};
use crate::{
    auth::password::{Password, Permit},
    config::{ACCESS_TOKEN_LIFETIME, SIGN_IN_IDLE_LIFETIME, SIGN_IN_LIFETIME},
    db::{Found, query},
    limits::{client::network, failed_logins::Attempt, rate::NetworkLimit},
    openapi::{
        body::{Body, Json},
        codes::Refusals,
    },
    problem::Problem,
    state::State,
    telemetry,
};

/// Operations under `/auth`.
pub struct AuthApi;

/// A user name and a password.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// 3 to 32 letters (A to Z, a to z), digits, `_` or `-`; upper and lower case are the same name. None begins with
    /// `erased-`: erased accounts are called so.
    #[oai(validator(pattern = "^[A-Za-z0-9_-]{3,32}$"))]
    pub username: String,
    /// 8 to 128 characters of any kind, counted as NFC. One that is easily guessed is refused: a common password, a
    /// keyboard pattern, a date, the user name.
    #[oai(validator(min_length = 8, max_length = 512))]
    pub password: String,
}

/// A user name and its password.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct LoginCredentials {
    /// The user name, in upper or lower case.
    #[oai(validator(pattern = "^[A-Za-z0-9_-]{3,32}$"))]
    pub username: String,
    /// At most 128 characters, counted as NFC. One from an older installation may be shorter than a new one must be.
    #[oai(validator(min_length = 1, max_length = 512))]
    pub password: String,
}

/// An account.
#[derive(Object, FromRow, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub id: Uuid,
    pub username: String,
    /// `runner`, `moderator`, `verifier` or `admin`
    pub role: String,
    pub created_at: Timestamp,
}

/// The tokens of a sign-in (RFC 6749, section 5.1).
#[derive(Object, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    pub user: User,
    /// Send it as `Authorization: Bearer <accessToken>`.
    pub access_token: String,
    /// Send it to `POST /auth/refresh` for the next access token. Keep it secret, and keep only the newest one.
    pub refresh_token: String,
    /// `Bearer`
    pub token_type: String,
    /// How long the access token is valid, in seconds.
    pub expires_in: u64,
}

#[derive(FromRow)]
struct FoundCredentials {
    #[from_row(flatten)]
    user: User,
    banned: bool,
    /// Whether the account has signed in from this network.
    usual: bool,
    password_hash: String,
}

#[derive(FromRow)]
struct Opened {
    /// The number of the account's oldest sign-ins that were ended to make room for this one.
    ended: i64,
}

/// How often a login is tried if its account changes meanwhile.
const LOGIN_ATTEMPTS: usize = 3;

/// The refusals of each operation, beyond those that all operations have in common.
pub const REFUSALS: &[Refusals] = &[
    ("register", &["username_taken"]),
    (
        "login",
        &[
            "wrong_credentials",
            "account_banned",
            "too_many_failed_logins",
        ],
    ),
];

#[OpenApi(prefix_path = "/auth", tag = "Tag::Auth")]
impl AuthApi {
    /// Register
    ///
    /// Creates an account and signs it in.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    async fn register(
        &self,
        state: Data<&Arc<State>>,
        request: &Request,
        body: Body<Credentials>,
    ) -> Result<Created<Tokens>, Problem> {
        let Credentials { username, password } = body.0;
        let password = Password::read("password", password)?;
        let device = Device::of(&state, request);
        let hashing = acquire(&state, &state.limits.register, device.ip)?;
        let hash = hashing.hash("password", password, &username).await?;
        let sign_in = state.auth.refresh.open()?;
        let user: User = state
            .db
            .identity(
                &query::REGISTER,
                &[
                    &username,
                    &hash,
                    &sign_in.id,
                    &sign_in.nonce_digest,
                    &sign_in.key_id,
                    &SIGN_IN_IDLE_LIFETIME.as_secs_f64(),
                    &SIGN_IN_LIFETIME.as_secs_f64(),
                    &device.user_agent,
                    &device.ip,
                ],
            )
            .await?
            .ok_or_else(|| Problem::internal("registering answered with no row"))?;
        telemetry::count_event("user.registered");
        telemetry::count_event("sign_in.opened");
        Ok(Created::Created(Json(tokens(
            &state,
            user,
            sign_in.id,
            None,
            sign_in.token,
        )?)))
    }

    /// Log in
    ///
    /// Signs a device in. An unknown name and a wrong password get the same answer.
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        state: Data<&Arc<State>>,
        request: &Request,
        body: Body<LoginCredentials>,
    ) -> Result<Json<Tokens>, Problem> {
        let LoginCredentials { username, password } = body.0;
        let password = Password::read("password", password)?;
        let device = Device::of(&state, request);
        let mut comparing = acquire(&state, &state.limits.login, device.ip)?;
        for _ in 0..LOGIN_ATTEMPTS {
            let tokens = sign_in(&state, &username, &password, &device, comparing)
                .await
                .inspect_err(|problem| state.limits.failed_logins.note(problem))?;
            if let Some(tokens) = tokens {
                return Ok(Json(tokens));
            }
            comparing = state.auth.passwords.acquire()?;
        }
        Err(Problem::unavailable(
            "busy",
            "This account is being changed: try again.",
        ))
    }
}

/// A permit to hash. It counts as one attempt from this network. A client that gets no permit must try again later, and
/// its attempt is not counted.
pub(super) fn acquire(
    state: &State,
    limit: &NetworkLimit,
    address: IpAddr,
) -> Result<Permit, Problem> {
    let permit = state.auth.passwords.acquire()?;
    limit.check(address)?;
    Ok(permit)
}

/// Signs a device in. Returns nothing if the account was deleted or got another hash after its password was compared.
async fn sign_in(
    state: &State,
    username: &str,
    password: &Password,
    device: &Device,
    comparing: Permit,
) -> Result<Option<Tokens>, Problem> {
    let attempt = state.limits.failed_logins.attempt(username, device.ip);
    let found: Option<FoundCredentials> = state
        .db
        .identity(
            &query::FIND_CREDENTIALS,
            &[
                &username,
                &attempt.account,
                &attempt.network,
                &network(device.ip),
            ],
        )
        .await?;
    if !found.as_ref().is_some_and(|found| found.usual) {
        state.limits.failed_logins.check_site(username, device.ip)?;
    }
    let stored = found.as_ref();
    let stored = stored.map(|found| (found.user.id, found.password_hash.clone()));
    let verdict = comparing.verify(password, stored).await?;
    let found = match found {
        Some(found) if verdict.correct => found,
        found => {
            let user = found.map(|found| found.user.id);
            return Err(wrong_password(state, &attempt, user, device.ip).await?);
        }
    };
    let new = state.auth.refresh.open()?;
    let params: [&(dyn ToSql + Sync); 12] = [
        &found.user.id,
        &new.id,
        &new.nonce_digest,
        &new.key_id,
        &SIGN_IN_IDLE_LIFETIME.as_secs_f64(),
        &SIGN_IN_LIFETIME.as_secs_f64(),
        &device.user_agent,
        &device.ip,
        &found.password_hash,
        &verdict.rehashed,
        &attempt.account,
        &attempt.network,
    ];
    let opened: Option<Opened> = state.db.identity(&query::OPEN_SIGN_IN, &params).await?;
    if found.banned {
        return Err(banned());
    }
    let Some(Opened { ended }) = opened else {
        return Ok(None);
    };
    telemetry::count_event("sign_in.opened");
    telemetry::count_ended(ended, "too_many");
    tokens(state, found.user, new.id, None, new.token).map(Some)
}

/// Records a wrong password, also for a user name that does not exist.
pub(super) async fn wrong_password(
    state: &State,
    attempt: &Attempt,
    user: Option<Uuid>,
    address: IpAddr,
) -> Result<Problem, Problem> {
    let (free, longest_wait) = state.limits.failed_logins.rate().unzip();
    let params: [&(dyn ToSql + Sync); 6] = [
        &attempt.account,
        &attempt.network,
        &user,
        &network(address),
        &free,
        &longest_wait,
    ];
    let _: Option<Found> = state
        .db
        .identity(&query::RECORD_FAILED_LOGIN, &params)
        .await?;
    telemetry::count_event("sign_in.failed");
    Ok(Problem::unauthorized(
        "wrong_credentials",
        "The user name or the password is wrong.",
    ))
}

/// The tokens of a sign-in. `signed_in` is the time at which the password was given. If it is none, the password was
/// given now.
pub(super) fn tokens(
    state: &State,
    user: User,
    sign_in: Uuid,
    signed_in: Option<u64>,
    refresh_token: String,
) -> Result<Tokens, Problem> {
    Ok(Tokens {
        access_token: state
            .auth
            .access
            .issue(user.id, &user.role, sign_in, signed_in)?,
        user,
        refresh_token,
        token_type: "Bearer".to_owned(),
        expires_in: ACCESS_TOKEN_LIFETIME.as_secs(),
    })
}

pub(super) fn banned() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "account_banned",
        "This account is banned.",
    )
}

/// The device that signs in, so that its owner recognises it in the list of sign-ins.
struct Device {
    user_agent: Option<String>,
    ip: IpAddr,
}

impl Device {
    fn of(state: &State, request: &Request) -> Self {
        let user_agent = request
            .headers()
            .get(header::USER_AGENT)
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .map(|text| text.chars().filter(|c| !c.is_control()).take(200).collect());
        Device {
            user_agent,
            ip: state.limits.client(request),
        }
    }
}
