//! Submissions of completed sessions, and their review.

use std::{fmt, str::FromStr, sync::Arc};

use poem::web::Data;
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Path, Query},
    types::MaybeUndefined,
};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    tag::Tag,
    types::{Done, List, Page, Timestamp, page_size},
    video::plain_video_url,
};
use crate::{
    auth::token::Claims,
    db::{
        Found,
        columns::{JsonColumn, TextColumn},
        query::{self, Statement},
    },
    http::bearer::{Anyone, SignedIn},
    openapi::{
        body::{Body, Json},
        codes::Refusals,
    },
    problem::Problem,
    state::State,
};

/// Operations under `/submissions`.
pub struct SubmissionsApi;

/// The state of a submission.
#[derive(Debug, Clone, Copy, Enum, Serialize, Deserialize)]
#[oai(rename_all = "UPPERCASE")]
#[serde(rename_all = "UPPERCASE")]
pub enum SubmissionStatus {
    Pending,
    Approved,
    Rejected,
}

/// The submission of a completed session.
#[derive(Debug, Object, Serialize, Deserialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    pub id: Uuid,
    pub session_id: Uuid,
    pub packages: Vec<String>,
    #[oai(nullable)]
    pub video_url: Option<String>,
    /// The time when it was handed in, or handed in again after a rejection.
    pub submitted_at: Timestamp,
    pub status: SubmissionStatus,
    /// The number of the revision. Changes of packages or video, and returns to PENDING, raise it. A review names the
    /// revision that the moderator saw.
    pub revision: i32,
    /// The moderator who reviews it, while it is PENDING, until `claimExpiresAt`.
    #[oai(nullable)]
    pub claimed_by: Option<Uuid>,
    /// The time of the claim.
    #[oai(nullable)]
    pub claimed_at: Option<Timestamp>,
    /// The end of the claim, 30 minutes after `claimedAt`. From then on any moderator can claim the submission.
    #[oai(nullable)]
    pub claim_expires_at: Option<Timestamp>,
    /// The reason for the last rejection, reopening or approval. Only its runner and moderators see it.
    #[oai(nullable)]
    pub review_reason: Option<String>,
    #[oai(nullable)]
    pub reviewed_at: Option<Timestamp>,
    /// The session's `clockWentBackMs`: the run's time is too short by at least this many milliseconds. Null if nothing was
    /// noticed. Everyone who sees the submission sees this.
    #[oai(nullable)]
    pub clock_went_back_ms: Option<i64>,
    /// For moderators: up to 20 submissions of other runners with the same video. Null for everybody else.
    #[oai(nullable)]
    pub same_video: Option<Vec<Uuid>>,
}

/// The changes to a submission. Fields that are left out stay as they are.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSubmission {
    /// The revision that you saw. If it has changed since, the edit is refused.
    #[oai(validator(minimum(value = "1"), maximum(value = "2147483647")))]
    pub revision: i32,
    /// The packages that you used: at most 200 names of 1 to 214 characters. Null removes all.
    #[oai(
        nullable,
        validator(max_items = 200, max_length = 214, pattern = "\\S")
    )]
    #[serde(default)]
    pub packages: MaybeUndefined<Vec<String>>,
    /// The URL of the recording: https, on a host that this service allows (YouTube, Twitch and Vimeo by default), or
    /// of your own upload in the project's storage. It has to name a video, rather than a channel or the site. Null
    /// removes it.
    #[oai(nullable, validator(max_length = 2048))]
    #[serde(default)]
    pub video_url: MaybeUndefined<String>,
}

/// The decision of a moderator.
#[derive(Debug, Enum, Serialize, Deserialize)]
#[oai(rename_all = "UPPERCASE")]
#[serde(rename_all = "UPPERCASE")]
pub enum Decision {
    /// The run counts on the boards. It must have a recording.
    Approved,
    /// The run does not count. A reason is required.
    Rejected,
}

/// A review of a submission.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct ReviewSubmission {
    pub decision: Decision,
    /// The revision that you saw. If it has changed since, the review is refused.
    #[oai(validator(minimum(value = "1"), maximum(value = "2147483647")))]
    pub revision: i32,
    /// The reason, for the runner. A rejection requires it.
    #[oai(nullable, validator(max_length = 2000))]
    pub reason: Option<String>,
}

/// The reason for taking a decision back.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct ReopenSubmission {
    /// The reason, for the runner.
    #[oai(validator(max_length = 2000, pattern = "\\S"))]
    pub reason: String,
}

/// The refusals of each operation, beyond those that all operations have in common.
pub const REFUSALS: &[Refusals] = &[
    ("list_submissions", &["challenge_not_found"]),
    ("get_submission", &["submission_not_found"]),
    (
        "update_submission",
        &[
            "submission_not_found",
            "submission_approved",
            "stale_revision",
        ],
    ),
    (
        "withdraw_submission",
        &["submission_not_found", "submission_approved"],
    ),
    (
        "claim_submission",
        &[
            "role_required",
            "own_run",
            "submission_not_found",
            "submission_already_reviewed",
            "submission_claimed",
        ],
    ),
    (
        "release_submission",
        &[
            "role_required",
            "own_run",
            "submission_not_found",
            "submission_claimed",
        ],
    ),
    (
        "review_submission",
        &[
            "role_required",
            "own_run",
            "submission_not_found",
            "submission_already_reviewed",
            "submission_claimed",
            "stale_revision",
            "video_required",
        ],
    ),
    (
        "reopen_submission",
        &[
            "role_required",
            "own_run",
            "submission_not_found",
            "submission_pending",
            "submission_claimed",
        ],
    ),
];

#[OpenApi(prefix_path = "/submissions", tag = "Tag::Submissions")]
impl SubmissionsApi {
    /// List submissions
    ///
    /// Your own submissions, the oldest first. Moderators get everybody's submissions: with `status=PENDING` the review
    /// queue, with `mine=true` their own.
    #[oai(path = "/", method = "get", operation_id = "list_submissions")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter")]
    async fn list_submissions(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// Only submissions with this status.
        status: Query<Option<SubmissionStatus>>,
        /// Only submissions of this challenge, such as `slack-clone`.
        challenge: Query<Option<String>>,
        /// Only your own. Runners always get only their own.
        #[oai(default)]
        mine: Query<bool>,
        /// The maximum number of items.
        #[oai(
            default = "page_size",
            validator(minimum(value = "1"), maximum(value = "100"))
        )]
        limit: Query<i32>,
        /// The `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
    ) -> Result<Json<Page<Submission>>, Problem> {
        let list = List::of("list_submissions", &(&status.0, &challenge.0, mine.0));
        let after: Option<QueueCursor> = list.key(cursor.0.as_deref())?;
        let submissions = state
            .db
            .list(
                Some(&caller.0),
                &query::LIST_SUBMISSIONS,
                &[
                    &(limit.0 + 1),
                    &mine.0,
                    &status.0.map(TextColumn),
                    &challenge.0,
                    &after.as_ref().map(|after| after.submitted_at),
                    &after.as_ref().map(|after| after.id),
                ],
            )
            .await?;
        Ok(Json(list.page(
            submissions,
            limit.0,
            |last: &Submission| {
                QueueCursor {
                    submitted_at: last.submitted_at.into(),
                    id: last.id,
                }
                .to_string()
            },
        )))
    }

    /// Get a submission
    ///
    /// Any submission of yours, and any approved one. Moderators get every submission. A token is optional.
    #[oai(path = "/:id", method = "get", operation_id = "get_submission")]
    async fn get_submission(
        &self,
        state: Data<&Arc<State>>,
        caller: Anyone,
        /// The submission's id.
        id: Path<Uuid>,
    ) -> Result<Json<Submission>, Problem> {
        answer(&state, caller.0.as_ref(), &query::GET_SUBMISSION, &[&id.0]).await
    }

    /// Edit your submission
    ///
    /// Changes the packages or the recording until the submission is approved. An edit hands a rejected submission in
    /// again: it is PENDING.
    #[oai(path = "/:id", method = "patch", operation_id = "update_submission")]
    async fn update_submission(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The submission's id.
        id: Path<Uuid>,
        body: Body<UpdateSubmission>,
    ) -> Result<Json<Submission>, Problem> {
        let UpdateSubmission {
            revision,
            packages,
            video_url,
        } = body.0;
        let packages: Option<Vec<_>> = match &packages {
            MaybeUndefined::Null => Some(Vec::new()),
            packages => packages.value().map(|names| {
                let names = names.iter();
                names.map(|name| name.trim()).collect()
            }),
        };
        let without_video = video_url.is_null();
        let video_url = video_url
            .take()
            .map(|sent| plain_video_url(&sent, &state.config))
            .transpose()
            .map_err(|fault| Problem::invalid_field("videoUrl", "video_url", fault))?;
        state.limits.runs.check(&caller.0.sub)?;
        answer(
            &state,
            Some(&caller.0),
            &query::UPDATE_SUBMISSION,
            &[&id.0, &revision, &packages, &video_url, &without_video],
        )
        .await
    }

    /// Withdraw your submission
    ///
    /// Takes your submission back while it is not approved. The session stays `completed`; it cannot be handed in again.
    /// Retrying is safe.
    #[oai(path = "/:id", method = "delete", operation_id = "withdraw_submission")]
    async fn withdraw_submission(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The submission's id.
        id: Path<Uuid>,
    ) -> Result<Done, Problem> {
        let Found = state
            .db
            .call(Some(&caller.0), &query::WITHDRAW_SUBMISSION, &[&id.0])
            .await?;
        Ok(Done::Done)
    }

    /// Claim a submission
    ///
    /// For moderators: says that you are reviewing the submission. For 30 minutes, or until you release it or decide, no
    /// other moderator can claim it or decide on it. An admin can.
    #[oai(
        path = "/:id/claim",
        method = "post",
        operation_id = "claim_submission"
    )]
    async fn claim_submission(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The submission's id.
        id: Path<Uuid>,
    ) -> Result<Json<Submission>, Problem> {
        answer(&state, Some(&caller.0), &query::CLAIM_SUBMISSION, &[&id.0]).await
    }

    /// Release a submission
    ///
    /// For moderators: ends your claim, so that others can review the submission.
    #[oai(
        path = "/:id/claim",
        method = "delete",
        operation_id = "release_submission"
    )]
    async fn release_submission(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The submission's id.
        id: Path<Uuid>,
    ) -> Result<Json<Submission>, Problem> {
        answer(
            &state,
            Some(&caller.0),
            &query::RELEASE_SUBMISSION,
            &[&id.0],
        )
        .await
    }

    /// Review a submission
    ///
    /// For moderators: approves or rejects the revision that you saw. Nobody reviews their own run.
    #[oai(
        path = "/:id/review",
        method = "post",
        operation_id = "review_submission"
    )]
    async fn review_submission(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The submission's id.
        id: Path<Uuid>,
        body: Body<ReviewSubmission>,
    ) -> Result<Json<Submission>, Problem> {
        let ReviewSubmission {
            decision,
            revision,
            reason,
        } = body.0;
        answer(
            &state,
            Some(&caller.0),
            &query::REVIEW_SUBMISSION,
            &[&id.0, &TextColumn(decision), &revision, &reason],
        )
        .await
    }

    /// Reopen a submission
    ///
    /// For moderators: takes a decision back. The submission is PENDING again, and its run leaves the boards.
    #[oai(
        path = "/:id/reopen",
        method = "post",
        operation_id = "reopen_submission"
    )]
    async fn reopen_submission(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The submission's id.
        id: Path<Uuid>,
        body: Body<ReopenSubmission>,
    ) -> Result<Json<Submission>, Problem> {
        answer(
            &state,
            Some(&caller.0),
            &query::REOPEN_SUBMISSION,
            &[&id.0, &body.0.reason],
        )
        .await
    }
}

async fn answer(
    state: &State,
    caller: Option<&Claims>,
    statement: &Statement,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Json<Submission>, Problem> {
    state.db.call(caller, statement, params).await.map(Json)
}

/// A cursor of the queue: the last submission's place in it.
struct QueueCursor {
    submitted_at: OffsetDateTime,
    id: Uuid,
}

impl fmt::Display for QueueCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.submitted_at.unix_timestamp_nanos(),
            self.id
        )
    }
}

impl FromStr for QueueCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (nanos, id) = text.split_once(' ').ok_or(())?;
        let nanos = nanos.parse().map_err(drop)?;
        Ok(QueueCursor {
            submitted_at: OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(drop)?,
            id: id.parse().map_err(drop)?,
        })
    }
}

impl FromRow for Submission {
    #[expect(
        clippy::expect_used,
        reason = "the trait asks for it; nothing here calls it"
    )]
    fn from_row(row: &Row) -> Self {
        Self::try_from_row(row).expect("a row with a submission")
    }

    fn try_from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(row.try_get::<_, JsonColumn<_>>("submission")?.0)
    }
}
