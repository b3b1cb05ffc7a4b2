//! Every code that a problem can have: its status and its meaning. Which operations answer with it stands beside them, in
//! `api`; the document's 4xx and 5xx responses and docs/errors.md are made from both.

/// A problem's code.
pub struct Code {
    /// The HTTP status that it comes with.
    pub status: u16,
    /// What clients decide by.
    pub name: &'static str,
    /// What it means and what to do about it, in Markdown.
    pub meaning: &'static str,
    /// The kinds of operations that all answer with it. What single operations answer with stands beside them, in `api`.
    pub answered_by: &'static [By],
    /// What the problem says beyond the members that all have.
    pub members: &'static [Member],
}

/// Operations, by what they have in common.
pub enum By {
    /// Every operation.
    Every,
    /// Those that take parameters or a body.
    Input,
    /// Those that take a body.
    Body,
    /// Those that take a token, be it needed or not.
    Token,
    /// Those that need a token.
    RequiredToken,
}

/// A further member of a problem.
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Its type and format in JSON Schema; an empty format is none.
    pub schema: (&'static str, &'static str),
    /// What it says.
    pub description: &'static str,
    /// An example, in JSON.
    pub example: &'static str,
}

const SESSION_ID: &[Member] = &[Member {
    name: "sessionId",
    schema: ("string", "uuid"),
    description: "The session that is in the way.",
    example: r#""019aafd0-7c00-7000-8000-000000000001""#,
}];
const SUBMISSION_STATUS: &[Member] = &[Member {
    name: "submissionStatus",
    schema: ("string", ""),
    description: "APPROVED or REJECTED.",
    example: r#""APPROVED""#,
}];
const CLAIMED_BY: &[Member] = &[Member {
    name: "claimedBy",
    schema: ("string", "uuid"),
    description: "The moderator who has taken it.",
    example: r#""019aafd0-7c00-7000-8000-000000000005""#,
}];
const REVISION: &[Member] = &[Member {
    name: "revision",
    schema: ("integer", "int32"),
    description: "The current revision.",
    example: "2",
}];
const NEXT_ATTEMPT: &[Member] = &[Member {
    name: "nextAttemptAt",
    schema: ("string", "date-time"),
    description: "From then on the next attempt is judged.",
    example: r#""2026-01-31T12:06:30.250Z""#,
}];
const NEXT_MILESTONE: &[Member] = &[Member {
    name: "nextMilestone",
    schema: ("integer", "int32"),
    description: "The number that is next.",
    example: "2",
}];

use By::{Body, Every, Input, RequiredToken, Token};

/// By status.
pub const CODES: &[Code] = &[
    code(
        400,
        "malformed_body",
        &[Body],
        "The body is missing or is not JSON.",
    ),
    code(
        400,
        "invalid_request",
        &[Input],
        "Fields are missing, unknown or not valid: `errors` names each.",
    ),
    code(
        400,
        "invalid_value",
        &[Input],
        "A value cannot be stored, such as one with the character U+0000.",
    ),
    code(
        400,
        "unknown_milestone",
        &[],
        "The challenge has no milestone of this number.",
    ),
    code(400, "bad_request", &[], "The request cannot be understood."),
    code(
        401,
        "missing_token",
        &[RequiredToken],
        "Send an access token: log in to get one.",
    ),
    code(
        401,
        "invalid_token",
        &[Token],
        "The access token is not one of this service: log in to get one.",
    ),
    code(
        401,
        "expired_token",
        &[Token],
        "The access token has expired: `POST /auth/refresh` gets the next one.",
    ),
    code(
        401,
        "sign_in_ended",
        &[Token],
        "The sign-in that the token belongs to has ended: log in again.",
    ),
    code(
        401,
        "wrong_credentials",
        &[],
        "The user name or the password is wrong.",
    ),
    code(
        401,
        "invalid_refresh_token",
        &[],
        "The refresh token is none of this service, or its sign-in has ended: log in again.",
    ),
    code(
        401,
        "refresh_token_reused",
        &[],
        "The refresh token was used before: somebody may have a copy, so its sign-in has ended. Log in again.",
    ),
    code(403, "account_banned", &[Token], "The account is banned."),
    code(
        403,
        "wrong_password",
        &[],
        "The password that was asked for again is wrong.",
    ),
    code(
        403,
        "role_required",
        &[],
        "It takes another role: a moderator's or a verifier's.",
    ),
    code(403, "own_run", &[], "Nobody judges their own run."),
    code(
        403,
        "audit_log_append_only",
        &[],
        "In the dashboard: nothing in the audit log can be changed or removed.",
    ),
    code(404, "unknown_path", &[], "There is nothing at this path."),
    code(
        404,
        "sign_in_not_found",
        &[],
        "There is no such sign-in of yours: `GET /auth/sign-ins` lists them.",
    ),
    code(
        404,
        "challenge_not_found",
        &[],
        "There is no such challenge: `GET /challenges` lists them.",
    ),
    code(
        404,
        "challenge_not_ranked",
        &[],
        "The challenge has no boards: its runs are not ranked.",
    ),
    code(404, "user_not_found", &[], "There is no user of this name."),
    code(
        404,
        "session_not_found",
        &[],
        "There is no such session, or it is not yours to see.",
    ),
    code(
        404,
        "no_running_session",
        &[],
        "No session of yours is running.",
    ),
    code(
        404,
        "input_not_found",
        &[],
        "The milestone has no input: it is not passed by an answer.",
    ),
    code(
        404,
        "submission_not_found",
        &[],
        "There is no such submission, or it is not yours to see.",
    ),
    code(
        405,
        "method_not_allowed",
        &[],
        "The path does not take this method; the header `Allow` names those that it takes.",
    ),
    code(
        409,
        "username_taken",
        &[],
        "This user name is taken: choose another.",
    ),
    code(
        409,
        "session_already_running",
        &[],
        "A session of yours is running, `sessionId`: end or abandon it first.",
    )
    .with(SESSION_ID),
    code(
        409,
        "session_already_ended",
        &[],
        "The session has already ended; an end that is repeated must send the same data.",
    )
    .with(SESSION_ID),
    code(
        409,
        "session_expired",
        &[],
        "The session ran past its deadline.",
    )
    .with(SESSION_ID),
    code(
        409,
        "milestone_out_of_order",
        &[],
        "The challenge's milestones come in order: `nextMilestone` is next.",
    )
    .with(NEXT_MILESTONE),
    code(
        409,
        "milestone_not_pending",
        &[],
        "The milestone does not wait for a verdict.",
    ),
    code(
        409,
        "milestone_passed",
        &[],
        "The milestone is passed, and stays passed.",
    ),
    code(
        409,
        "submission_pending",
        &[],
        "The submission is PENDING: there is nothing to reopen.",
    ),
    code(
        409,
        "submission_already_reviewed",
        &[],
        "The submission is decided on: it is `submissionStatus`.",
    )
    .with(SUBMISSION_STATUS),
    code(
        409,
        "submission_approved",
        &[],
        "An approved submission cannot be edited.",
    ),
    code(
        409,
        "submission_claimed",
        &[],
        "Another moderator, `claimedBy`, has taken the submission.",
    )
    .with(CLAIMED_BY),
    code(
        409,
        "stale_revision",
        &[],
        "The submission has changed since: it is at `revision` now.",
    )
    .with(REVISION),
    code(
        409,
        "video_required",
        &[],
        "A run without a recording cannot be approved.",
    ),
    code(
        409,
        "reason_required",
        &[],
        "In the dashboard: a rejection needs a `review_reason`.",
    ),
    code(
        409,
        "submission_exists",
        &[],
        "In the dashboard: the session has handed in already.",
    ),
    code(
        409,
        "session_not_completed",
        &[],
        "In the dashboard: only a completed session hands in.",
    ),
    code(
        409,
        "submission_fixed",
        &[],
        "In the dashboard: a submission keeps its session, and takes its stack and its times from it.",
    ),
    code(
        409,
        "session_fixed",
        &[],
        "In the dashboard: a session keeps its runner and its challenge, and is public while its submission is approved.",
    ),
    code(
        409,
        "session_handed_in",
        &[],
        "In the dashboard: a session that has handed in stays completed.",
    ),
    code(
        409,
        "session_times",
        &[],
        "In the dashboard: a session ends after it starts and after its milestones, and has an end if it is over.",
    ),
    code(
        409,
        "milestone_fixed",
        &[],
        "In the dashboard: a milestone keeps its session and its number, and is public with its session.",
    ),
    code(
        409,
        "milestone_times",
        &[],
        "In the dashboard: a milestone has the time when it was passed if it is, between its session's start and end.",
    ),
    code(
        409,
        "challenge_used",
        &[],
        "In the dashboard: a challenge that has been run stays, with its slug and its milestones.",
    ),
    code(
        409,
        "challenge_running",
        &[],
        "In the dashboard: a challenge that is being run keeps its rules.",
    ),
    code(
        409,
        "challenge_incomplete",
        &[],
        "In the dashboard: milestones are numbered without a gap; an active challenge has all that it requires.",
    ),
    code(
        409,
        "input_given",
        &[],
        "In the dashboard: an input that a session was given stays with its answer.",
    ),
    code(
        413,
        "body_too_large",
        &[Body],
        "The body is larger than 256 KiB; under `/rest/v1`, than 10 MiB.",
    ),
    code(
        414,
        "target_too_long",
        &[],
        "The path and its query are too long.",
    ),
    code(
        415,
        "unsupported_media_type",
        &[Body],
        "The body must be sent as `Content-Type: application/json`, and without `Content-Encoding`.",
    ),
    code(
        429,
        "rate_limited",
        &[Every],
        "Too many requests: try again after `Retry-After`.",
    ),
    code(
        429,
        "attempt_cooldown",
        &[],
        "The last attempt failed: the next is judged from `nextAttemptAt` on.",
    )
    .with(NEXT_ATTEMPT),
    code(
        429,
        "too_many_failed_logins",
        &[],
        "Too many wrong passwords: try again after `Retry-After`.",
    ),
    code(
        431,
        "headers_too_large",
        &[],
        "The headers of the request are too many or too long.",
    ),
    code(
        500,
        "internal_error",
        &[Every],
        "A defect of the service, logged under `requestId`.",
    ),
    code(
        501,
        "postgrest_missing",
        &[],
        "No PostgREST is known here: install one, or set `POSTGREST_URL` or `SUPABASE_URL`.",
    ),
    code(
        502,
        "upstream_unavailable",
        &[],
        "PostgREST cannot be reached, or broke off: try again.",
    ),
    code(
        503,
        "database_unavailable",
        &[Every],
        "The database cannot be reached: try again after `Retry-After`.",
    ),
    code(
        503,
        "overloaded",
        &[Every],
        "Too many requests are under way: try again after `Retry-After`.",
    ),
    code(
        503,
        "busy",
        &[Every],
        "Others are changing the same data: try again after `Retry-After`.",
    ),
    code(
        504,
        "timeout",
        &[Every],
        "It took too long and was given up: try again.",
    ),
    code(
        504,
        "upstream_timeout",
        &[],
        "PostgREST did not answer in time: try again, or ask for less.",
    ),
];

const fn code(
    status: u16,
    name: &'static str,
    answered_by: &'static [By],
    meaning: &'static str,
) -> Code {
    Code {
        status,
        name,
        meaning,
        answered_by,
        members: &[],
    }
}

impl Code {
    const fn with(self, members: &'static [Member]) -> Self {
        Code { members, ..self }
    }
}
