//! Timed attempts at a challenge.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Path, Query},
};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Json as SqlJson;
use uuid::Uuid;

use super::{
    milestones::Milestone,
    submissions::Submission,
    tag::Tag,
    types::{Created, List, Page, Timestamp, page_size},
    video::plain_video_url,
};
use crate::{
    db::{
        columns::{JsonColumn, TextColumn},
        query,
    },
    http::bearer::{Anyone, SignedIn},
    openapi::{
        body::{Body, Json},
        codes::Refusals,
    },
    problem::{FieldError, Problem},
    state::State,
    text::is_hidden,
};

/// Operations under `/sessions`.
pub struct SessionsApi;

/// A session to be started.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct StartSession {
    /// Your tech stack, such as `Rust, Postgres`: 1 to 100 characters.
    #[oai(validator(min_length = 1, max_length = 100, pattern = "\\S"))]
    pub tech_stack: String,
    /// The slug of the challenge; `freestyle` if it is not given.
    #[oai(
        nullable,
        validator(pattern = "^[a-z0-9]+(-[a-z0-9]+)*$", max_length = 64)
    )]
    pub challenge: Option<String>,
}

/// A session to be ended. If it is completed, the packages and the recording are handed in.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct EndSession {
    /// Your running session.
    pub session_id: Uuid,
    /// The packages that you used: at most 200 names of 1 to 214 characters. Others are left out, and `warnings` tells
    /// why.
    #[oai(nullable)]
    pub packages: Option<Vec<String>>,
    /// The URL of the recording: https, on a host that this service allows (YouTube, Twitch and Vimeo by default), or
    /// of your own upload in the project's storage; at most 2048 characters. Another is left out, and `warnings` tells
    /// why. It can be added until the review.
    #[oai(nullable)]
    pub video_url: Option<String>,
}

/// A session to be abandoned.
#[derive(Object, Deserialize)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct AbandonSession {
    /// Your running session.
    pub session_id: Uuid,
}

/// The state of a session. `running`: the clock runs. `judging`: it ended while a verdict was pending, and waits for the
/// verdict. `completed`: it ended with enough milestones passed. `incomplete`: it ended with too few. `abandoned`: its
/// runner gave it up. `expired`: it ran past its deadline.
#[derive(Debug, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// The clock runs.
    Running,
    /// It ended while a verdict was pending. The last verdict makes it completed or incomplete; its end time stays.
    Judging,
    /// It ended with enough milestones passed.
    Completed,
    /// It ended with too few milestones passed.
    Incomplete,
    /// Its runner gave it up.
    Abandoned,
    /// It ran past its deadline.
    Expired,
}

/// The input that a runner finds the answer to.
#[derive(Debug, Object, FromRow, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct MilestoneInput {
    /// The input of this session. Another session may have another one.
    pub input: String,
}

/// A timed attempt at a challenge.
#[derive(Debug, Object, FromRow, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub id: Uuid,
    pub user_id: Uuid,
    /// The slug of the challenge.
    pub challenge: String,
    pub tech_stack: String,
    #[from_row(from = "TextColumn<SessionStatus>")]
    pub status: SessionStatus,
    pub start_time: Timestamp,
    #[oai(nullable)]
    pub end_time: Option<Timestamp>,
    /// The time at which a running session expires.
    pub deadline: Timestamp,
    /// The time from start to end, in milliseconds.
    #[oai(nullable)]
    #[from_row(rename = "total_ms")]
    pub total_time_ms: Option<i64>,
    /// The same time for people, such as `45m 12s`.
    #[oai(nullable)]
    pub total_time: Option<String>,
    /// The milestones that were passed or tried, by number.
    #[from_row(from = "JsonColumn<Vec<Milestone>>")]
    pub milestones: Vec<Milestone>,
    /// The submission of a completed session, unless its runner has withdrawn it.
    #[oai(nullable)]
    #[from_row(from = "JsonColumn<Option<Submission>>")]
    pub submission: Option<Submission>,
    /// The server's time now. Use it to show the clock of a running session.
    pub server_time: Timestamp,
    /// The packages or the video that the end left out, and why. `PATCH /submissions/{id}` adds them. Only the session's
    /// runner sees this.
    #[from_row(from = "JsonColumn<Vec<FieldError>>")]
    pub warnings: Vec<FieldError>,
    /// During the run the server's clock was found this many milliseconds behind a time that the run had recorded, so the
    /// run's time is too short by at least as much. Null if it was not: a clock that goes back, but not behind the last
    /// recorded time, is not noticed. Everyone who sees the session sees this.
    #[oai(nullable)]
    pub clock_went_back_ms: Option<i64>,
}

/// The refusals of each operation, beyond those that all operations have in common.
pub const REFUSALS: &[Refusals] = &[
    (
        "start_session",
        &["challenge_not_found", "session_already_running"],
    ),
    (
        "end_session",
        &[
            "session_not_found",
            "session_already_ended",
            "session_expired",
        ],
    ),
    (
        "abandon_session",
        &[
            "session_not_found",
            "session_already_ended",
            "session_expired",
        ],
    ),
    ("get_current_session", &["no_running_session"]),
    ("get_session", &["session_not_found"]),
    (
        "get_milestone_input",
        &[
            "session_not_found",
            "input_not_found",
            "session_already_ended",
            "session_expired",
            "milestone_out_of_order",
            "verification_unknown",
        ],
    ),
];

/// The maximum number of packages.
const MOST_PACKAGES: usize = 200;
/// The maximum length of a package's name, in characters.
const LONGEST_PACKAGE: usize = 214;
/// The maximum number of warnings about packages.
const MOST_WARNINGS: usize = 100;

#[OpenApi(prefix_path = "/sessions", tag = "Tag::Sessions")]
impl SessionsApi {
    /// Start a session
    ///
    /// Starts your clock. Only one session of yours can run at a time.
    #[oai(path = "/start", method = "post", operation_id = "start_session")]
    async fn start_session(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        body: Body<StartSession>,
    ) -> Result<Created<Session>, Problem> {
        let StartSession {
            tech_stack,
            challenge,
        } = body.0;
        state.limits.runs.check(&caller.0.sub)?;
        let session = state
            .db
            .call(
                Some(&caller.0),
                &query::START_SESSION,
                &[&tech_stack, &challenge],
            )
            .await?;
        Ok(Created::Created(Json(session)))
    }

    /// End a session
    ///
    /// Stops your clock. If enough milestones are passed, the session is `completed` and its submission is PENDING.
    /// With fewer it is `incomplete`, and nothing is handed in. If a verifier has yet to judge a milestone, the session is
    /// `judging` until the last verdict. Packages and videos that cannot be taken never refuse the end: they are left
    /// out, and `warnings` tells why. Only a body of another form (not JSON, a number for a text, an unknown field) is
    /// refused. Retrying with the same data is safe.
    #[oai(path = "/end", method = "post", operation_id = "end_session")]
    async fn end_session(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        body: Body<EndSession>,
    ) -> Result<Json<Session>, Problem> {
        let EndSession {
            session_id,
            packages,
            video_url,
        } = body.0;
        let packages = packages.unwrap_or_default();
        let (kept_packages, mut warnings) = sift(&packages);
        let kept_video_url = video_url
            .as_ref()
            .map(|sent| plain_video_url(sent, &state.config));
        if let Some(Err(fault)) = &kept_video_url {
            warnings.push(warning("videoUrl", "video_url", fault.clone()));
        }
        // The data as the client sent them. They tell a retry from a different end. (PostgreSQL's text cannot hold
        // U+0000.)
        let sent = |text: &String| text.replace('\0', "\u{fffd}");
        state
            .db
            .call(
                Some(&caller.0),
                &query::END_SESSION,
                &[
                    &session_id,
                    &packages.iter().map(sent).collect::<Vec<_>>(),
                    &video_url.as_ref().map(sent),
                    &kept_packages,
                    &kept_video_url.and_then(Result::ok),
                    &SqlJson(&warnings),
                ],
            )
            .await
            .map(Json)
    }

    /// Abandon a session
    ///
    /// Gives up your running session. Retrying is safe.
    #[oai(path = "/abandon", method = "post", operation_id = "abandon_session")]
    async fn abandon_session(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        body: Body<AbandonSession>,
    ) -> Result<Json<Session>, Problem> {
        let AbandonSession { session_id } = body.0;
        state
            .db
            .call(Some(&caller.0), &query::ABANDON_SESSION, &[&session_id])
            .await
            .map(Json)
    }

    /// List your sessions
    ///
    /// Your own sessions, the newest first.
    #[oai(path = "/", method = "get", operation_id = "list_sessions")]
    async fn list_sessions(
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
    ) -> Result<Json<Page<Session>>, Problem> {
        let list = List::of("list_sessions", &());
        let before: Option<Uuid> = list.key(cursor.0.as_deref())?;
        let sessions = state
            .db
            .list(
                Some(&caller.0),
                &query::LIST_SESSIONS,
                &[&(limit.0 + 1), &before],
            )
            .await?;
        Ok(Json(list.page(sessions, limit.0, |session: &Session| {
            session.id.to_string()
        })))
    }

    /// Get your running session
    ///
    /// The running session, on whichever device it was started. The answer is 404 if none runs.
    #[oai(
        path = "/current",
        method = "get",
        operation_id = "get_current_session"
    )]
    async fn get_current_session(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
    ) -> Result<Json<Session>, Problem> {
        state
            .db
            .call(Some(&caller.0), &query::GET_CURRENT_SESSION, &[])
            .await
            .map(Json)
    }

    /// Get a session
    ///
    /// Any session of yours, and any session whose submission is approved. A token is optional.
    #[oai(path = "/:id", method = "get", operation_id = "get_session")]
    async fn get_session(
        &self,
        state: Data<&Arc<State>>,
        caller: Anyone,
        /// The session's id.
        id: Path<Uuid>,
    ) -> Result<Json<Session>, Problem> {
        state
            .db
            .call(caller.0.as_ref(), &query::GET_SESSION, &[&id.0])
            .await
            .map(Json)
    }

    /// Get your input
    ///
    /// The input of a milestone that is passed by an answer. It is shown once the milestone is next, while your session
    /// runs.
    #[oai(
        path = "/:id/milestones/:number/input",
        method = "get",
        operation_id = "get_milestone_input"
    )]
    async fn get_milestone_input(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The id of your running session.
        id: Path<Uuid>,
        /// The number of the milestone in its challenge, from 1.
        number: Path<i32>,
    ) -> Result<Json<MilestoneInput>, Problem> {
        state
            .db
            .call(
                Some(&caller.0),
                &query::GET_MILESTONE_INPUT,
                &[&id.0, &number.0],
            )
            .await
            .map(Json)
    }
}

/// The packages that can be handed in, without white space around them, and warnings about the others.
fn sift(packages: &[String]) -> (Vec<&str>, Vec<FieldError>) {
    let mut warnings = Vec::new();
    let mut kept = Vec::new();
    for (index, package) in packages.iter().enumerate() {
        let package = package.trim();
        let (code, message) = if package.is_empty() {
            ("blank", "is blank".to_owned())
        } else if package.chars().count() > LONGEST_PACKAGE {
            let message = format!("has more than {LONGEST_PACKAGE} characters");
            ("too_long", message)
        } else if package.contains(is_hidden) {
            let message = "has a control character, or one that turns the direction of text";
            ("invalid", message.to_owned())
        } else {
            kept.push(package);
            continue;
        };
        if warnings.len() < MOST_WARNINGS {
            warnings.push(warning(&format!("packages[{index}]"), code, message));
        }
    }
    if kept.len() > MOST_PACKAGES {
        let message = format!("has more than {MOST_PACKAGES} items: the first of them are kept");
        warnings.push(warning("packages", "too_long", message));
        kept.truncate(MOST_PACKAGES);
    }
    (kept, warnings)
}

fn warning(field: &str, code: &str, message: String) -> FieldError {
    FieldError {
        field: field.to_owned(),
        code: code.to_owned(),
        message,
    }
}

impl From<TextColumn<SessionStatus>> for SessionStatus {
    fn from(column: TextColumn<SessionStatus>) -> Self {
        column.0
    }
}
