//! Sign-ins: refreshing, listing and ending them.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Path, Query},
};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    auth::{Tokens, User, banned, tokens},
    tag::Tag,
    types::{Done, List, Page, Timestamp, page_size},
};
use crate::{
    auth::refresh::Presented,
    config::SIGN_IN_IDLE_LIFETIME,
    context,
    db::{columns::TextColumn, query},
    http::bearer::SignedIn,
    openapi::{
        body::{Body, Json},
        codes::Refusals,
    },
    problem::Problem,
    state::State,
    telemetry,
};

/// Operations under `/auth` on sign-ins.
pub struct SignInsApi;

/// A refresh token.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// The newest refresh token of the sign-in.
    #[oai(validator(max_length = 256))]
    pub refresh_token: String,
}

/// Which sign-ins to end.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct Logout {
    /// Any refresh token of the sign-in.
    #[oai(validator(max_length = 256))]
    pub refresh_token: String,
    /// Which sign-ins end.
    #[oai(default)]
    #[serde(default)]
    pub scope: Scope,
}

/// Which sign-ins of the user end. `local`: the sign-in of the token. `others`: all but that one. `global`: all.
#[derive(Clone, Copy, Debug, Default, Enum, Deserialize, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The sign-in of the token.
    #[default]
    Local,
    /// All sign-ins but that of the token.
    Others,
    /// All sign-ins.
    Global,
}

/// A device that is signed in.
#[derive(Object, FromRow, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    pub id: Uuid,
    /// The `User-Agent` that the device sent when it signed in.
    #[oai(nullable)]
    pub device: Option<String>,
    /// The address that it signed in from.
    #[oai(nullable)]
    pub address: Option<String>,
    pub created_at: Timestamp,
    /// When it was last refreshed.
    pub last_used_at: Timestamp,
    /// Whether this sign-in made the request.
    pub current: bool,
}

#[derive(FromRow)]
struct Redeemed {
    #[from_row(flatten)]
    user: User,
    signed_in_at: i64,
    generation: i32,
    /// Whether this request redeemed the token. Otherwise another request had redeemed it a moment before.
    rotated: bool,
}

#[derive(FromRow)]
struct Refused {
    cause: Option<String>,
}

#[derive(FromRow)]
struct Ended {
    ended: i64,
}

#[derive(FromRow)]
struct EndedOne {
    ended: bool,
}

/// The refusals of each operation, beyond those that all operations have in common.
pub const REFUSALS: &[Refusals] = &[
    (
        "refresh",
        &[
            "invalid_refresh_token",
            "refresh_token_reused",
            "account_banned",
        ],
    ),
    ("end_sign_in", &["sign_in_not_found"]),
];

#[OpenApi(prefix_path = "/auth", tag = "Tag::SignIns")]
impl SignInsApi {
    /// Refresh
    ///
    /// Gets the next access token and the newest refresh token. The refresh token that was sent is used up. A client that
    /// sends it again in the next seconds, from another tab, gets the very same newest token. So does a client whose
    /// answer was lost, for about a minute. A later use means that somebody has copied it, and ends the sign-in.
    #[oai(path = "/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(
        &self,
        state: Data<&Arc<State>>,
        body: Body<Refresh>,
    ) -> Result<Json<Tokens>, Problem> {
        let Some(token) = state.auth.refresh.read(&body.0.refresh_token) else {
            telemetry::count_refresh("unknown");
            return Err(invalid());
        };
        state.limits.refresh.check(&token.sign_in)?;
        let redeemed: Option<Redeemed> = state
            .db
            .identity(
                &query::REFRESH,
                &[
                    &token.sign_in,
                    &token.key_id(),
                    &token.nonce_digest,
                    &token.generation,
                    &(state.config.refresh_grace as f64),
                    &SIGN_IN_IDLE_LIFETIME.as_secs_f64(),
                    &(state.config.refresh_patience() as f64),
                ],
            )
            .await?;
        let Some(Redeemed {
            user,
            signed_in_at,
            generation,
            rotated,
        }) = redeemed
        else {
            return Err(refusal(&state, &token).await?);
        };
        context::note_caller(user.id);
        telemetry::count_refresh(if rotated { "rotated" } else { "replayed" });
        let signed_in = u64::try_from(signed_in_at).ok();
        let newest = token.of_generation(generation);
        tokens(&state, user, token.sign_in, signed_in, newest).map(Json)
    }

    /// Log out
    ///
    /// Ends sign-ins, and with them their access tokens. A token that is unknown, or whose sign-in has ended, gets the
    /// same answer.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(&self, state: Data<&Arc<State>>, body: Body<Logout>) -> Result<Done, Problem> {
        let Logout {
            refresh_token,
            scope,
        } = body.0;
        if let Some(token) = state.auth.refresh.read(&refresh_token) {
            let ended: Option<Ended> = state
                .db
                .identity(
                    &query::LOGOUT,
                    &[
                        &token.sign_in,
                        &token.key_id(),
                        &token.nonce_digest,
                        &TextColumn(scope),
                    ],
                )
                .await?;
            telemetry::count_ended(ended.map_or(0, |ended| ended.ended), "logout");
        }
        Ok(Done::Done)
    }

    /// List your sign-ins
    ///
    /// The devices that are signed in, the newest first.
    #[oai(path = "/sign-ins", method = "get", operation_id = "list_sign_ins")]
    async fn list_sign_ins(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The maximum number of items.
        #[oai(
            default = "page_size",
            validator(minimum(value = "1"), maximum(value = "100"))
        )]
        limit: Query<i32>,
        /// The `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
    ) -> Result<Json<Page<SignIn>>, Problem> {
        let list = List::of("list_sign_ins", &());
        let before: Option<Uuid> = list.key(cursor.0.as_deref())?;
        let sign_ins = state
            .db
            .list(
                Some(&caller.0),
                &query::LIST_SIGN_INS,
                &[&(limit.0 + 1), &before],
            )
            .await?;
        Ok(Json(list.page(sign_ins, limit.0, |sign_in: &SignIn| {
            sign_in.id.to_string()
        })))
    }

    /// End a sign-in
    ///
    /// Signs out one of your devices, this one or another.
    #[oai(
        path = "/sign-ins/:id",
        method = "delete",
        operation_id = "end_sign_in"
    )]
    async fn end_sign_in(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The id of the sign-in.
        id: Path<Uuid>,
    ) -> Result<Done, Problem> {
        let EndedOne { ended } = state
            .db
            .call(Some(&caller.0), &query::END_SIGN_IN, &[&id.0])
            .await?;
        telemetry::count_ended(ended.into(), "signed_out");
        Ok(Done::Done)
    }
}

fn invalid() -> Problem {
    Problem::unauthorized(
        "invalid_refresh_token",
        "This refresh token does not count, or its sign-in has ended: log in again.",
    )
}

/// Why a token was not redeemed. A token that was used before has ended its sign-in.
async fn refusal(state: &State, token: &Presented<'_>) -> Result<Problem, Problem> {
    let refused: Option<Refused> = state
        .db
        .identity(
            &query::REFUSE_REFRESH,
            &[
                &token.sign_in,
                &token.key_id(),
                &token.nonce_digest,
                &token.generation,
                &(state.config.refresh_grace as f64),
                &(state.config.refresh_patience() as f64),
            ],
        )
        .await?;
    let cause = refused.and_then(|refused| refused.cause);
    let (outcome, problem) = match cause.as_deref() {
        None => ("unknown", invalid()),
        Some("ended") => ("ended", invalid()),
        Some("expired") => ("expired", invalid()),
        Some("ban") => ("banned", banned()),
        Some("rollback") => {
            telemetry::count_ended(1, "rollback");
            ("rolled_back", invalid())
        }
        Some(_) => {
            telemetry::count_ended(1, "reuse");
            let reused = Problem::unauthorized(
                "refresh_token_reused",
                "This refresh token was used before: somebody may have a copy, so its sign-in has ended. Log in again.",
            );
            ("reused", reused)
        }
    };
    telemetry::count_refresh(outcome);
    Ok(problem)
}
