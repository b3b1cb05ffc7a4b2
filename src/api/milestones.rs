//! What a session has passed.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{Enum, Object, OpenApi};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{tag::Tag, types::Timestamp};
use crate::{
    db::{columns::TextColumn, query},
    http::bearer::SignedIn,
    openapi::{
        Refusals,
        body::{Body, Json},
    },
    problem::Problem,
    state::State,
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
    /// What you make of your input, for milestones that are passed by an answer; white space around it does not count.
    #[oai(nullable, validator(max_length = 1000, pattern = "\\S"))]
    pub answer: Option<String>,
}

/// What a verifier found.
#[derive(Debug, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is passed, at the time when the runner asked.
    Pass,
    /// It is not: an attempt that failed.
    Fail,
    /// It could not be judged: it waits on, and costs the runner nothing.
    Error,
}

/// A verifier's verdict.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct AttestMilestone {
    /// Somebody else's running session.
    pub session_id: Uuid,
    /// A milestone of it that is pending.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub milestone_number: i32,
    pub verdict: Verdict,
    /// What the verdict rests on, such as a log or a link; kept, and shown to nobody through the API.
    #[oai(nullable, validator(max_length = 10000))]
    pub evidence: Option<String>,
    /// Which version of your checker found it; kept likewise.
    #[oai(nullable, validator(max_length = 100))]
    pub checker_version: Option<String>,
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

/// The refusals of each operation, beyond those that all have in common.
pub const REFUSALS: &[Refusals] = &[
    (
        "verify_milestone",
        &[
            "unknown_milestone",
            "session_not_found",
            "input_not_found",
            "session_already_ended",
            "session_expired",
            "milestone_out_of_order",
            "attempt_cooldown",
        ],
    ),
    (
        "attest_milestone",
        &[
            "unknown_milestone",
            "role_required",
            "own_run",
            "session_not_found",
            "session_already_ended",
            "session_expired",
            "milestone_not_pending",
            "milestone_passed",
        ],
    ),
];

#[OpenApi(prefix_path = "/milestones", tag = "Tag::Milestones")]
impl MilestonesApi {
    /// Verify a milestone
    ///
    /// Passes a milestone of your running session at the server's time, if it is the runner who says so; judges your
    /// `answer`; or asks for a verifier, and `pending` is true until one attests. An answer that is wrong
    /// (`passed` is false) makes the next attempt wait until `nextAttemptAt`. Retrying is safe: one that is passed already
    /// answers with its original time.
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
            answer,
        } = body.0;
        state
            .db
            .call(
                Some(&caller.0),
                &query::VERIFY_MILESTONE,
                &[&session_id, &milestone_number, &answer],
            )
            .await
            .map(Json)
    }

    /// Attest a milestone
    ///
    /// For verifiers: judges a milestone that is pending in somebody else's running session. One that passes is passed as
    /// of the moment when its runner asked. Retrying is safe.
    #[oai(path = "/attest", method = "post", operation_id = "attest_milestone")]
    async fn attest_milestone(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        body: Body<AttestMilestone>,
    ) -> Result<Json<Milestone>, Problem> {
        let AttestMilestone {
            session_id,
            milestone_number,
            verdict,
            evidence,
            checker_version,
        } = body.0;
        state
            .db
            .call(
                Some(&caller.0),
                &query::ATTEST_MILESTONE,
                &[
                    &session_id,
                    &milestone_number,
                    &TextColumn(verdict),
                    &evidence,
                    &checker_version,
                ],
            )
            .await
            .map(Json)
    }
}
