//! Milestones: verifying and attesting them.

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
        body::{Body, Json},
        codes::Refusals,
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
    /// The number of the milestone in the session's challenge, from 1.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub milestone_number: i32,
    /// Your answer to your input, for milestones that are passed by an answer. White space around it is ignored.
    #[oai(nullable, validator(max_length = 1000, pattern = "\\S"))]
    pub answer: Option<String>,
}

/// The verdict of a verifier.
#[derive(Debug, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The milestone is passed, at the time when the runner asked.
    Pass,
    /// The milestone is not passed. The attempt counts as failed.
    Fail,
    /// The verifier could not judge the milestone. It stays pending, and no attempt is counted.
    Error,
}

/// A verifier's verdict.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct AttestMilestone {
    /// Somebody else's running session.
    pub session_id: Uuid,
    /// The number of a pending milestone in it.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub milestone_number: i32,
    pub verdict: Verdict,
    /// The evidence for the verdict, such as a log or a link. It is kept, and the API never shows it.
    #[oai(nullable, validator(max_length = 10000))]
    pub evidence: Option<String>,
    /// The version of your checker. It is kept, and the API never shows it.
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
    /// What the runner has built when it is passed.
    #[oai(nullable)]
    pub title: Option<String>,
    /// Whether it is passed. A passed milestone stays passed.
    pub passed: bool,
    /// Whether it waits for a verifier.
    pub pending: bool,
    /// The server's time when it was passed.
    #[oai(nullable)]
    pub completed_at: Option<Timestamp>,
    /// The split: milliseconds from the start of the session.
    #[oai(nullable)]
    pub split_ms: Option<i64>,
    /// The number of times that it was judged.
    pub attempts: i32,
    /// The time from which a further attempt is judged. Earlier ones are refused.
    #[oai(nullable)]
    pub next_attempt_at: Option<Timestamp>,
}

/// The refusals of each operation, beyond those that all operations have in common.
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
            "verification_unknown",
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
            "verification_unknown",
        ],
    ),
];

#[OpenApi(prefix_path = "/milestones", tag = "Tag::Milestones")]
impl MilestonesApi {
    /// Verify a milestone
    ///
    /// What happens depends on the milestone's `verification`: it is passed at the server's time, or your `answer` is
    /// judged, or it is `pending` until somebody else judges it. After a wrong answer (`passed` is false) the next attempt
    /// must wait until `nextAttemptAt`. Retrying is safe: a passed milestone keeps its original time.
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
    /// For verifiers: judges a pending milestone in somebody else's running session. If it passes, its time is the
    /// moment when its runner asked. Retrying is safe.
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
