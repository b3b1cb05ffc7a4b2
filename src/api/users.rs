//! Public profiles of users.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Path};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{tag::Tag, types::Timestamp};
use crate::{
    db::{columns::JsonColumn, query},
    openapi::{body::Json, codes::Refusals},
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
    /// The slug of the challenge.
    pub challenge: String,
    /// The board's tech stack, normalised. Send it as `techStack` to get the board. Null on the board of all runs.
    #[oai(nullable)]
    pub tech_stack_key: Option<String>,
    pub rank: i64,
    /// The number of runners on this board.
    pub of: i64,
    pub session_id: Uuid,
    pub tech_stack: String,
    pub total_time_ms: i64,
    /// The same time for people, such as `45m 12s`.
    pub total_time: String,
    #[oai(nullable)]
    pub video_url: Option<String>,
    /// The time when the run ended.
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
    /// The number of approved runs.
    pub approved_runs: i64,
    /// The number of challenges on whose boards of all runs the user stands.
    pub challenges: i64,
    /// The number of boards on which nobody is faster.
    pub first_places: i64,
    /// At most 100 personal bests: first those on boards of all runs, then the newest of the others.
    #[from_row(from = "JsonColumn<Vec<PersonalBest>>")]
    pub personal_bests: Vec<PersonalBest>,
}

/// The refusals of each operation, beyond those that all operations have in common.
pub const REFUSALS: &[Refusals] = &[("get_user", &["user_not_found"])];

#[OpenApi(prefix_path = "/users", tag = "Tag::Users")]
impl UsersApi {
    /// Get a profile
    ///
    /// A user's personal bests with their ranks. The profile of a banned user has no ranked runs. An erased user has no
    /// profile.
    #[oai(path = "/:username", method = "get", operation_id = "get_user")]
    async fn get_user(
        &self,
        state: Data<&Arc<State>>,
        /// The user name, in upper or lower case.
        username: Path<String>,
    ) -> Result<Json<Profile>, Problem> {
        state
            .db
            .call(None, &query::GET_USER, &[&username.0])
            .await
            .map(Json)
    }
}
