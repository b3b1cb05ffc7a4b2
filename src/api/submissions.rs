//! What completed sessions hand in, and what moderators make of it.

use std::{fmt, str::FromStr, sync::Arc};

use poem::web::Data;
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Path, Query},
};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_postgres::{Row, types::ToSql};
use url::Url;
use uuid::Uuid;

use super::{
    tag::Tag,
    types::{List, Page, Timestamp, page_size},
};
use crate::{
    auth::token::Claims,
    config::Config,
    db::{
        columns::{JsonColumn, TextColumn},
        query::{self, Statement},
    },
    http::bearer::{Anyone, SignedIn},
    openapi::{
        Refusals,
        body::{Body, Json},
    },
    problem::Problem,
    state::State,
    text::is_hidden,
};

/// Operations under `/submissions`.
pub struct SubmissionsApi;

/// What moderators made of a submission.
#[derive(Debug, Clone, Copy, Enum, Serialize, Deserialize)]
#[oai(rename_all = "UPPERCASE")]
#[serde(rename_all = "UPPERCASE")]
pub enum SubmissionStatus {
    Pending,
    Approved,
    Rejected,
}

/// What a completed session hands in.
#[derive(Debug, Object, Serialize, Deserialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    pub id: Uuid,
    pub session_id: Uuid,
    pub packages: Vec<String>,
    #[oai(nullable)]
    pub video_url: Option<String>,
    /// When it was handed in, or handed in again after a rejection.
    pub submitted_at: Timestamp,
    pub status: SubmissionStatus,
    /// Counts changes of packages and video, and returns to PENDING: a review names the one it saw.
    pub revision: i32,
    /// The moderator who has taken it, while it is PENDING.
    #[oai(nullable)]
    pub claimed_by: Option<Uuid>,
    /// Why it was last rejected, reopened or approved; shown to its runner and to moderators.
    #[oai(nullable)]
    pub review_reason: Option<String>,
    #[oai(nullable)]
    pub reviewed_at: Option<Timestamp>,
}

/// What is to be changed of a submission; what is left out stays.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSubmission {
    /// The revision that you saw: if it has changed since, nothing happens.
    #[oai(validator(minimum(value = "1"), maximum(value = "2147483647")))]
    pub revision: i32,
    /// The packages that you used: at most 200 names of 1 to 214 characters.
    #[oai(nullable, validator(max_items = 200, min_length = 1, max_length = 214))]
    pub packages: Option<Vec<String>>,
    /// The recording: https, on a host that this service allows (YouTube, Twitch and Vimeo by default), or your own in
    /// the project's storage.
    #[oai(nullable, validator(max_length = 2048))]
    pub video_url: Option<String>,
}

/// What a moderator decides.
#[derive(Debug, Enum, Serialize, Deserialize)]
#[oai(rename_all = "UPPERCASE")]
#[serde(rename_all = "UPPERCASE")]
pub enum Decision {
    /// It counts on the boards; it must have a recording.
    Approved,
    /// It does not, for a reason.
    Rejected,
}

/// A moderator's decision.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct ReviewSubmission {
    pub decision: Decision,
    /// The revision that you saw: if it has changed since, nothing is decided.
    #[oai(validator(minimum(value = "1"), maximum(value = "2147483647")))]
    pub revision: i32,
    /// Why, for its runner; required by a rejection.
    #[oai(nullable, validator(max_length = 2000))]
    pub reason: Option<String>,
}

/// Why a decision is taken back.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct ReopenSubmission {
    /// For its runner.
    #[oai(validator(max_length = 2000, pattern = "\\S"))]
    pub reason: String,
}

/// The refusals of each operation, beyond those that all have in common.
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
    /// Your own, the oldest first. For moderators: everybody's, which with `status=PENDING` is the review queue; their
    /// own with `mine=true`.
    #[oai(path = "/", method = "get", operation_id = "list_submissions")]
    #[allow(clippy::too_many_arguments, reason = "one for each parameter")]
    async fn list_submissions(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// Only those with this status.
        status: Query<Option<SubmissionStatus>>,
        /// Only those of this challenge, such as `slack-clone`.
        challenge: Query<Option<String>>,
        /// Only your own; what runners get in any case.
        #[oai(default)]
        mine: Query<bool>,
        /// At most so many.
        #[oai(
            default = "page_size",
            validator(minimum(value = "1"), maximum(value = "100"))
        )]
        limit: Query<i32>,
        /// `nextCursor` of the page before.
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
    /// Your own; anybody's, once it is approved. For moderators: any. A token is optional.
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
    /// Changes packages or recording until it is approved. One that was rejected is handed in again by that, and is
    /// PENDING.
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
        if let Some(video_url) = &video_url {
            check_video_url(video_url, &state.config)?;
        }
        state.limits.runs.check(&caller.0.sub)?;
        answer(
            &state,
            Some(&caller.0),
            &query::UPDATE_SUBMISSION,
            &[&id.0, &revision, &packages, &video_url],
        )
        .await
    }

    /// Take a submission
    ///
    /// For moderators: says that you are reviewing it. Until you give it back or decide, no other moderator can take it or
    /// decide on it; an admin can.
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

    /// Give a submission back
    ///
    /// For moderators: leaves one that you have taken to others.
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
    /// For moderators: approves or rejects the revision that you saw. Nobody reviews their own.
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
    /// For moderators: takes a decision back. The submission is PENDING again, and off the boards.
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

/// https, no credentials, no port, on an allowed host or beneath one, or in the project's own storage: whether that
/// recording is the runner's own, the database knows. The parser is the browsers' own (WHATWG URL), so that what is
/// checked is what will be opened.
pub(super) fn check_video_url(video_url: &str, config: &Config) -> Result<(), Problem> {
    let refuse = |message: String| Err(Problem::invalid_field("videoUrl", "video_url", message));
    let Ok(url) = Url::parse(video_url) else {
        return refuse("must be a URL such as https://www.youtube.com/watch?v=…".into());
    };
    if url.scheme() != "https" {
        return refuse("must begin with https://".into());
    }
    // The parser forgives white space, backslashes, other numbers of slashes, an empty user, the default
    // port, and look-alikes of letters; who copies the text may not.
    let host = url.host_str().unwrap_or_default();
    let written = video_url
        .strip_prefix("https://")
        .and_then(|rest| rest.split(['/', '?', '#']).next())
        .unwrap_or_default();
    if written.contains(['@', ':']) {
        return refuse("must name neither a user nor a port".into());
    }
    if !written.eq_ignore_ascii_case(host)
        || host.split('.').any(str::is_empty)
        || video_url.contains(|c: char| c.is_whitespace() || c == '\\' || is_hidden(c))
    {
        return refuse("must be a plain URL".into());
    }
    let hosts = &config.video_hosts;
    let is_allowed = hosts.iter().any(|allowed| {
        host == allowed
            || host
                .strip_suffix(allowed.as_str())
                .is_some_and(|sub| sub.ends_with('.'))
    });
    let project = config.supabase_url.as_ref().and_then(Url::host_str);
    let path = &video_url["https://".len() + written.len()..];
    let is_recording = project == Some(host)
        && ["public", "sign", "authenticated"]
            .iter()
            .any(|kind| path.starts_with(&format!("/storage/v1/object/{kind}/recordings/")));
    if is_allowed || is_recording {
        Ok(())
    } else {
        let storage = project.map(|host| format!(", or in the bucket recordings of {host}"));
        refuse(format!(
            "must be on one of {}{}",
            hosts.join(", "),
            storage.unwrap_or_default()
        ))
    }
}

impl FromRow for Submission {
    // The trait asks for it; nothing here calls it.
    fn from_row(row: &Row) -> Self {
        Self::try_from_row(row).expect("a row with a submission")
    }

    fn try_from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(row.try_get::<_, JsonColumn<_>>("submission")?.0)
    }
}
