//! What a session has passed.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{Object, OpenApi};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Tag, types::Timestamp};
use crate::{
    app::State,
    auth::bearer::SignedIn,
    contract::{Body, Json},
    db::query,
    problem::Problem,
};

/// Operations under `/milestones`.
pub struct MilestonesApi;

/// A milestone to be judged.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct VerifyMilestone {
    /// Your running session.
    pub session_id: Uuid,
    /// Which milestone of the session's challenge, from 1.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub milestone_number: i32,
}

/// A milestone that a session has passed or tried.
#[derive(Debug, Object, FromRow, Serialize, Deserialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Milestone {
    pub id: Uuid,
    pub session_id: Uuid,
    pub milestone_number: i32,
    /// What has been built when it is passed.
    #[oai(nullable)]
    pub title: Option<String>,
    /// Passed stays passed.
    pub passed: bool,
    /// Waiting for a verifier.
    pub pending: bool,
    /// The server's time when it was passed.
    #[oai(nullable)]
    pub completed_at: Option<Timestamp>,
    /// The split: milliseconds from the start of the session.
    #[oai(nullable)]
    pub split_ms: Option<i64>,
    /// How often it was judged.
    pub attempts: i32,
    /// Before then further attempts are refused.
    #[oai(nullable)]
    pub next_attempt_at: Option<Timestamp>,
}

#[OpenApi(prefix_path = "/milestones", tag = "Tag::Milestones")]
impl MilestonesApi {
    /// Verify a milestone
    ///
    /// Passes a milestone of your running session at the server's time. Retrying is safe: one that is passed
    /// already answers with its original time.
    #[oai(path = "/verify", method = "post", operation_id = "verify_milestone")]
    async fn verify_milestone(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        body: Body<VerifyMilestone>,
    ) -> Result<Json<Milestone>, Problem> {
        let VerifyMilestone {
            session_id,
            milestone_number,
        } = body.0;
        state
            .db
            .call(
                Some(&caller.0),
                &query::VERIFY_MILESTONE,
                &[&session_id, &milestone_number],
            )
            .await
            .map(Json)
    }
}
