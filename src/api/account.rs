//! The caller's own account: showing it, changing its password, erasing it.

use std::{net::IpAddr, sync::Arc};

use poem::{Request, http::StatusCode, web::Data};
use poem_openapi::{Object, OpenApi};
use postgres_from_row::FromRow;
use serde::Deserialize;
use tokio_postgres::types::ToSql;

use super::{
    auth::{User, acquire, wrong_password},
    tag::Tag,
    types::Done,
};
use crate::{
    auth::{
        password::{Password, Permit},
        token::Claims,
    },
    db::{Found, query},
    http::bearer::SignedIn,
    limits::failed_logins::Attempt,
    openapi::{
        body::{Body, Json},
        codes::Refusals,
    },
    problem::Problem,
    state::State,
    telemetry,
};

/// Operations under `/auth` on the caller's own account.
pub struct AccountApi;

/// A new password.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct ChangePassword {
    /// The password until now: at most 128 characters, counted as NFC.
    #[oai(validator(max_length = 512))]
    pub current_password: String,
    /// 8 to 128 characters of any kind, counted as NFC. One that is easily guessed is refused: a common password, a
    /// keyboard pattern, a date, the user name.
    #[oai(validator(min_length = 8, max_length = 512))]
    pub new_password: String,
}

/// The proof that the request is yours.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMe {
    /// Your password: at most 128 characters, counted as NFC.
    #[oai(validator(max_length = 512))]
    pub password: String,
}

#[derive(FromRow)]
struct OwnCredentials {
    username: Option<String>,
    password_hash: Option<String>,
}

#[derive(FromRow)]
struct Changed {
    ended: Option<i64>,
}

#[derive(FromRow)]
struct Deleted {
    erased: Option<bool>,
}

/// The caller's user name and stored password hash, and the digests by which wrong passwords are counted.
struct OwnAccount {
    username: String,
    password_hash: String,
    attempt: Attempt,
}

/// The refusals of each operation, beyond those that all operations have in common.
pub const REFUSALS: &[Refusals] = &[
    ("delete_me", &["wrong_password", "too_many_failed_logins"]),
    (
        "change_password",
        &["wrong_password", "too_many_failed_logins"],
    ),
];

#[OpenApi(prefix_path = "/auth", tag = "Tag::Account")]
impl AccountApi {
    /// Get your account
    ///
    /// The account that the token belongs to.
    #[oai(path = "/me", method = "get", operation_id = "get_me")]
    async fn get_me(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
    ) -> Result<Json<User>, Problem> {
        state
            .db
            .call(Some(&caller.0), &query::GET_ME, &[])
            .await
            .map(Json)
    }

    /// Erase your account
    ///
    /// Removes the password, all sign-ins and every run that is not approved. Approved runs stay on the boards under an
    /// anonymous name. If there are none, nothing of the account is left. The user name is free again.
    #[oai(path = "/me", method = "delete", operation_id = "delete_me")]
    async fn delete_me(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        request: &Request,
        body: Body<DeleteMe>,
    ) -> Result<Done, Problem> {
        let password = Password::read("password", body.0.password)?;
        let address = state.limits.client(request);
        delete_me(&state, &caller.0, &password, address)
            .await
            .inspect_err(|problem| state.limits.failed_logins.note(problem))
            .map(|()| Done::Done)
    }

    /// Change your password
    ///
    /// Ends your other sign-ins. The sign-in that asks stays.
    #[oai(path = "/password", method = "post", operation_id = "change_password")]
    async fn change_password(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        request: &Request,
        body: Body<ChangePassword>,
    ) -> Result<Done, Problem> {
        let address = state.limits.client(request);
        change_password(&state, &caller.0, body.0, address)
            .await
            .inspect_err(|problem| state.limits.failed_logins.note(problem))
            .map(|()| Done::Done)
    }
}

async fn delete_me(
    state: &State,
    caller: &Claims,
    password: &Password,
    address: IpAddr,
) -> Result<(), Problem> {
    let comparing = acquire(state, &state.limits.login, address)?;
    // If nothing is found, the account was erased before. The answer is that of the first time.
    let Some(account) = find(state, caller, address).await? else {
        return Ok(());
    };
    confirm(state, caller, &account, comparing, password, address).await?;
    let params: [&(dyn ToSql + Sync); 3] = [
        &account.password_hash,
        &account.attempt.account,
        &account.attempt.network,
    ];
    let deleted: Deleted = state
        .db
        .call(Some(caller), &query::DELETE_ME, &params)
        .await?;
    if deleted.erased.ok_or_else(changed_meanwhile)? {
        telemetry::count_event("user.erased");
    }
    Ok(())
}

async fn change_password(
    state: &State,
    caller: &Claims,
    passwords: ChangePassword,
    address: IpAddr,
) -> Result<(), Problem> {
    let ChangePassword {
        current_password,
        new_password,
    } = passwords;
    let current = Password::read("currentPassword", current_password)?;
    let new = Password::read("newPassword", new_password)?;
    let hashing = acquire(state, &state.limits.login, address)?;
    let account = find(state, caller, address).await?.ok_or_else(|| {
        Problem::unauthorized("sign_in_ended", "This sign-in has ended: log in again.")
    })?;
    // This comes first, so that the refusal of a new password does not tell whether the current one was right.
    let new_hash = hashing.hash("newPassword", new, &account.username).await?;
    let comparing = state.auth.passwords.acquire()?;
    confirm(state, caller, &account, comparing, &current, address).await?;
    let params: [&(dyn ToSql + Sync); 4] = [
        &account.password_hash,
        &new_hash,
        &account.attempt.account,
        &account.attempt.network,
    ];
    let changed: Changed = state
        .db
        .call(Some(caller), &query::CHANGE_PASSWORD, &params)
        .await?;
    let ended = changed.ended.ok_or_else(changed_meanwhile)?;
    telemetry::count_event("user.password_changed");
    telemetry::count_ended(ended, "password_changed");
    Ok(())
}

/// The caller's own account, or nothing if it is erased. A caller who has failed too often is refused before anything
/// is hashed.
async fn find(
    state: &State,
    caller: &Claims,
    address: IpAddr,
) -> Result<Option<OwnAccount>, Problem> {
    let found: OwnCredentials = state
        .db
        .call(Some(caller), &query::FIND_OWN_CREDENTIALS, &[])
        .await?;
    let Some((username, password_hash)) = found.username.zip(found.password_hash) else {
        return Ok(None);
    };
    // Here only a client with the caller's token can add to this count.
    state.limits.failed_logins.check_site(&username, address)?;
    let attempt = state.limits.failed_logins.attempt(&username, address);
    let params: [&(dyn ToSql + Sync); 2] = [&attempt.account, &attempt.network];
    let _: Option<Found> = state.db.identity(&query::LOGIN_DELAY, &params).await?;
    Ok(Some(OwnAccount {
        username,
        password_hash,
        attempt,
    }))
}

/// Asks for the password again. Guessing is as slow as at login.
///
/// The status is 403, because on 401 a client refreshes its access token.
async fn confirm(
    state: &State,
    caller: &Claims,
    account: &OwnAccount,
    comparing: Permit,
    password: &Password,
    address: IpAddr,
) -> Result<(), Problem> {
    let stored = Some((caller.sub, account.password_hash.clone()));
    if comparing.verify(password, stored).await?.correct {
        return Ok(());
    }
    // A caller who has failed too often is told to wait instead.
    wrong_password(state, &account.attempt, Some(caller.sub), address).await?;
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "wrong_password",
        "This is not your password.",
    ))
}

fn changed_meanwhile() -> Problem {
    Problem::unavailable("busy", "The password was changed meanwhile: try again.")
}
