//! The caller's own account: shown, given another password, erased.

use std::sync::Arc;

use poem::{http::StatusCode, web::Data};
use poem_openapi::{Object, OpenApi};
use postgres_from_row::FromRow;
use secrecy::SecretString;
use serde::Deserialize;

use super::{Tag, auth::User, sign_ins::count_ended, types::Done};
use crate::{
    app::State,
    auth::{bearer::SignedIn, token::Claims},
    contract::{Body, Json},
    db::query,
    problem::Problem,
};

/// Operations under `/auth` on the caller's own account.
pub struct AccountApi;

/// A new password.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct ChangePassword {
    /// The password until now.
    #[oai(validator(max_length = 128))]
    pub current_password: String,
    /// 8 to 128 characters of any kind; very common passwords are refused.
    #[oai(validator(min_length = 8, max_length = 128))]
    pub new_password: String,
}

/// That it is really you.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMe {
    /// Your password.
    #[oai(validator(max_length = 128))]
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
    erased: bool,
}

#[OpenApi(prefix_path = "/auth", tag = "Tag::Auth")]
impl AccountApi {
    /// Who am I
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
    /// The password, all sign-ins and every run that is not approved are removed. Approved runs stay on the boards
    /// under an anonymous name; without any, nothing of the account is left. The user name is free again.
    #[oai(path = "/me", method = "delete", operation_id = "delete_me")]
    async fn delete_me(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        body: Body<DeleteMe>,
    ) -> Result<Done, Problem> {
        let password = SecretString::from(body.0.password);
        // Where nothing is found it was erased before: answered as the first time.
        if confirm(&state, &caller.0, &password).await?.is_some() {
            let Deleted { erased } = state
                .db
                .call(Some(&caller.0), &query::DELETE_ME, &[])
                .await?;
            if erased {
                metrics::counter!("auth_events_total", "event" => "user.erased").increment(1);
            }
        }
        Ok(Done::Done)
    }

    /// Change your password
    ///
    /// Your other sign-ins end; this one stays.
    #[oai(path = "/password", method = "post", operation_id = "change_password")]
    async fn change_password(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        body: Body<ChangePassword>,
    ) -> Result<Done, Problem> {
        let ChangePassword {
            current_password,
            new_password,
        } = body.0;
        let confirmed = confirm(&state, &caller.0, &current_password.into()).await?;
        let (username, old_hash) = confirmed.ok_or_else(|| {
            Problem::unauthorized("sign_in_ended", "This sign-in has ended: log in again.")
        })?;
        let hashing = state.auth.passwords.admit()?;
        let new_hash = hashing
            .hash("newPassword", &new_password.into(), &username)
            .await?;
        let Changed { ended } = state
            .db
            .call(
                Some(&caller.0),
                &query::CHANGE_PASSWORD,
                &[&old_hash, &new_hash],
            )
            .await?;
        let ended = ended.ok_or_else(|| {
            Problem::unavailable("busy", "The password was changed meanwhile: try again.")
        })?;
        metrics::counter!("auth_events_total", "event" => "user.password_changed").increment(1);
        count_ended(ended, "password_changed");
        Ok(Done::Done)
    }
}

/// The caller's name and password hash, once the password has been given again; nothing of an erased account.
///
/// 403, not 401: clients take that for an access token to be refreshed.
async fn confirm(
    state: &State,
    caller: &Claims,
    password: &SecretString,
) -> Result<Option<(String, String)>, Problem> {
    let comparing = state.auth.passwords.admit()?;
    let found: OwnCredentials = state
        .db
        .call(Some(caller), &query::FIND_OWN_CREDENTIALS, &[])
        .await?;
    let Some((username, hash)) = found.username.zip(found.password_hash) else {
        return Ok(None);
    };
    let stored = Some((caller.sub, hash.clone()));
    if !comparing.verify(password, stored).await?.correct {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "wrong_password",
            "This is not your password.",
        ));
    }
    Ok(Some((username, hash)))
}
