//! What everyone may know of a user.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Path};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{tag::Tag, types::Timestamp};
use crate::{
    db::{columns::JsonColumn, query},
    openapi::{Refusals, body::Json},
    problem::Problem,
    state::State,
};

/// Operations under `/users`.
pub struct UsersApi;

/// A user's best run on a board.
#[derive(Debug, Object, Serialize, Deserialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct PersonalBest {
    /// The slug of what was built.
    pub challenge: String,
    /// The board's tech stack, normalised: send it as `techStack`. Null on the board of all runs.
    #[oai(nullable)]
    pub tech_stack_key: Option<String>,
    pub rank: i64,
    /// How many runners are on this board.
    pub of: i64,
    pub session_id: Uuid,
    pub tech_stack: String,
    pub total_time_ms: i64,
    /// The same for people, such as `45m 12s`.
    pub total_time: String,
    #[oai(nullable)]
    pub video_url: Option<String>,
    /// When the run ended.
    pub achieved_at: Timestamp,
}

/// A user as everyone sees them.
#[derive(Debug, Object, FromRow, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub id: Uuid,
    pub username: String,
    /// `runner`, `moderator`, `verifier` or `admin`
    pub role: String,
    pub created_at: Timestamp,
    /// Since when the account is banned: then none of its runs count.
    #[oai(nullable)]
    pub banned_at: Option<Timestamp>,
    /// How many runs were approved.
    pub approved_runs: i64,
    /// On how many challenges' boards of all runs the user stands.
    pub challenges: i64,
    /// On how many boards nobody is faster.
    pub first_places: i64,
    /// At most 100: those on boards of all runs, then the newest of the others.
    #[from_row(from = "JsonColumn<Vec<PersonalBest>>")]
    pub personal_bests: Vec<PersonalBest>,
}

/// The refusals of each operation, beyond those that all have in common.
pub const REFUSALS: &[Refusals] = &[("get_user", &["user_not_found"])];

#[OpenApi(prefix_path = "/users", tag = "Tag::Users")]
impl UsersApi {
    /// Get a profile
    ///
    /// A user's personal bests with their ranks. A banned user has a profile, on which nothing counts; an erased one
    /// has none.
    #[oai(path = "/:username", method = "get", operation_id = "get_user")]
    async fn get_user(
        &self,
        state: Data<&Arc<State>>,
        /// In upper or lower case.
        username: Path<String>,
    ) -> Result<Json<Profile>, Problem> {
        state
            .db
            .call(None, &query::GET_USER, &[&username.0])
            .await
            .map(Json)
    }
}
