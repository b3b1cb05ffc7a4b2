//! Every code that a problem can have: its status and its meaning. The operations that answer with a code name it
//! beside themselves, in `api`. The document's 4xx and 5xx responses and docs/errors.md are made from both.

/// The id of an operation, and the codes of its refusals beyond those that all operations have in common.
pub type Refusals = (&'static str, &'static [&'static str]);

/// A problem's code.
pub struct Code {
    /// The HTTP status that it comes with.
    pub status: u16,
    /// The text that clients decide by.
    pub name: &'static str,
    /// What it means, and what to do about it, in Markdown.
    pub meaning: &'static str,
    /// The kinds of operations that all answer with it. Single operations name their codes beside themselves, in `api`.
    pub answered_by: &'static [By],
    /// The members that the problem has beyond those of every problem.
    pub members: &'static [Member],
}

/// Operations, by what they have in common.
pub enum By {
    /// Every operation.
    Every,
    /// Operations that take parameters or a body.
    Input,
    /// Operations that take a body.
    Body,
    /// Operations that take a token, needed or optional.
    Token,
    /// Operations that need a token.
    RequiredToken,
}

/// A further member of a problem.
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Its type and format in JSON Schema; an empty format is none.
    pub schema: (&'static str, &'static str),
    /// Its meaning.
    pub description: &'static str,
    /// An example, in JSON.
    pub example: &'static str,
}

const SESSION_ID: &[Member] = &[Member {
    name: "sessionId",
    schema: ("string", "uuid"),
    description: "The session that the refusal is about.",
    example: r#""019aafd0-7c00-7000-8000-000000000001""#,
}];
const SUBMISSION_STATUS: &[Member] = &[Member {
    name: "submissionStatus",
    schema: ("string", ""),
    description: "The decision: APPROVED or REJECTED.",
    example: r#""APPROVED""#,
}];
const CLAIM: &[Member] = &[
    Member {
        name: "claimedBy",
        schema: ("string", "uuid"),
        description: "The moderator who has claimed it.",
        example: r#""019aafd0-7c00-7000-8000-000000000005""#,
    },
    Member {
        name: "claimExpiresAt",
        schema: ("string", "date-time"),
        description: "The end of the claim. From then on any moderator can claim the submission.",
        example: r#""2026-01-31T12:30:00.000Z""#,
    },
];
const REVISION: &[Member] = &[Member {
    name: "revision",
    schema: ("integer", "int32"),
    description: "The current revision.",
    example: "2",
}];
const NEXT_ATTEMPT: &[Member] = &[Member {
    name: "nextAttemptAt",
    schema: ("string", "date-time"),
    description: "The time from which the next attempt is judged.",
    example: r#""2026-01-31T12:06:30.250Z""#,
}];
const NEXT_MILESTONE: &[Member] = &[Member {
    name: "nextMilestone",
    schema: ("integer", "int32"),
    description: "The number of the next milestone.",
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
        "Fields are missing, unknown or not valid. `errors` names each of them.",
    ),
    code(
        400,
        "invalid_value",
        &[Input],
        "The database cannot store a value, such as one with the character U+0000.",
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
        "The access token is not valid. Log in to get one.",
    ),
    code(
        401,
        "expired_token",
        &[Token],
        "The access token has expired. Get the next one with `POST /auth/refresh`.",
    ),
    code(
        401,
        "sign_in_ended",
        &[Token],
        "The sign-in of the token has ended. Log in again.",
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
        "The refresh token is not valid, or its sign-in has ended. Log in again.",
    ),
    code(
        401,
        "refresh_token_reused",
        &[],
        "The refresh token was used before. Somebody may have a copy, so its sign-in has ended. Log in again.",
    ),
    code(403, "account_banned", &[Token], "The account is banned."),
    code(
        403,
        "wrong_password",
        &[],
        "The password in the body is wrong.",
    ),
    code(
        403,
        "role_required",
        &[],
        "The operation needs another role, such as moderator or verifier.",
    ),
    code(403, "own_run", &[], "Nobody may judge their own run."),
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
        "You have no such sign-in. `GET /auth/sign-ins` lists your sign-ins.",
    ),
    code(
        404,
        "challenge_not_found",
        &[],
        "There is no such challenge. `GET /challenges` lists all challenges.",
    ),
    code(
        404,
        "challenge_not_ranked",
        &[],
        "The challenge has no boards, because its runs are not ranked.",
    ),
    code(404, "user_not_found", &[], "There is no user of this name."),
    code(
        404,
        "session_not_found",
        &[],
        "There is no such session, or you may not see it.",
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
        "The milestone has no input, because it is not passed by an answer.",
    ),
    code(
        404,
        "submission_not_found",
        &[],
        "There is no such submission, or you may not see it.",
    ),
    code(
        405,
        "method_not_allowed",
        &[],
        "The path does not take this method. The header `Allow` lists the methods that it takes.",
    ),
    code(
        409,
        "username_taken",
        &[],
        "This user name is taken. Choose another one.",
    ),
    code(
        409,
        "session_already_running",
        &[],
        "Your session `sessionId` is running. End or abandon it first.",
    )
    .with(SESSION_ID),
    code(
        409,
        "session_already_ended",
        &[],
        "The session has already ended. A repeated end must send the same data.",
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
        "The milestones of the challenge must be passed in order. The next one is `nextMilestone`.",
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
        "The milestone is passed. A passed milestone stays passed.",
    ),
    code(
        409,
        "submission_pending",
        &[],
        "The submission is PENDING, so there is nothing to reopen.",
    ),
    code(
        409,
        "submission_already_reviewed",
        &[],
        "The submission is already reviewed. It is `submissionStatus`.",
    )
    .with(SUBMISSION_STATUS),
    code(
        409,
        "submission_approved",
        &[],
        "An approved submission can be neither edited nor withdrawn.",
    ),
    code(
        409,
        "submission_claimed",
        &[],
        "Another moderator, `claimedBy`, has claimed the submission.",
    )
    .with(CLAIM),
    code(
        409,
        "stale_revision",
        &[],
        "The submission has changed since you saw it. It is at `revision` now.",
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
        "In the dashboard: the session has a submission already.",
    ),
    code(
        409,
        "session_not_completed",
        &[],
        "In the dashboard: only a completed session may have a submission.",
    ),
    code(
        409,
        "submission_fixed",
        &[],
        "In the dashboard: a submission keeps its session. Its stack and its times are those of the session.",
    ),
    code(
        409,
        "synonym_chain",
        &[],
        "In the dashboard: the name of a tech-stack synonym cannot be a synonym of another name.",
    ),
    code(
        409,
        "synonym_split",
        &[],
        "In the dashboard: the name of a tech-stack synonym has a separator in it, and no row says that it is one name.",
    ),
    code(
        409,
        "session_fixed",
        &[],
        "In the dashboard: a session keeps its runner and its challenge. It is public exactly while its submission is approved.",
    ),
    code(
        409,
        "session_handed_in",
        &[],
        "In the dashboard: a session that has a submission stays completed.",
    ),
    code(
        409,
        "session_times",
        &[],
        "In the dashboard: a session that is over needs an end, and it ends after its start and after its milestones.",
    ),
    code(
        409,
        "milestone_fixed",
        &[],
        "In the dashboard: a milestone keeps its session and its number. It is public exactly while its session is.",
    ),
    code(
        409,
        "milestone_times",
        &[],
        "In the dashboard: a passed milestone needs a time between the start and the end of its session. Others have no time.",
    ),
    code(
        409,
        "challenge_used",
        &[],
        "In the dashboard: a challenge that has sessions stays, with its slug and its milestones.",
    ),
    code(
        409,
        "challenge_running",
        &[],
        "In the dashboard: a challenge keeps its rules while sessions of it run.",
    ),
    code(
        409,
        "challenge_incomplete",
        &[],
        "In the dashboard: milestones are numbered without a gap. An active challenge has at least the milestones that it requires.",
    ),
    code(
        409,
        "input_given",
        &[],
        "In the dashboard: an input that a session has got stays, with its answer.",
    ),
    code(
        413,
        "body_too_large",
        &[Body],
        "The body is larger than 256 KiB. Under `/rest/v1` the maximum is 10 MiB.",
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
        "Send the body with `Content-Type: application/json` and without `Content-Encoding`.",
    ),
    code(
        429,
        "rate_limited",
        &[Every],
        "There were too many requests. Try again after `Retry-After`.",
    ),
    code(
        429,
        "attempt_cooldown",
        &[],
        "The last attempt failed. Try again at `nextAttemptAt`.",
    )
    .with(NEXT_ATTEMPT),
    code(
        429,
        "too_many_failed_logins",
        &[],
        "There were too many wrong passwords. Try again after `Retry-After`.",
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
        "The service has a defect. It is logged under `requestId`.",
    ),
    code(
        501,
        "verification_unknown",
        &[],
        "The service does not know the milestone's kind of verification. Nothing was changed; its operator can help.",
    ),
    code(
        501,
        "postgrest_missing",
        &[],
        "The service has no PostgREST. Install one, or set `POSTGREST_URL` or `SUPABASE_URL`.",
    ),
    code(
        502,
        "upstream_unavailable",
        &[],
        "PostgREST cannot be reached, or broke off. Try again.",
    ),
    code(
        503,
        "database_unavailable",
        &[Every],
        "The database cannot be reached, or cannot serve now: it is read-only, its disk is full, and the like (`detail` says which). Try again after `Retry-After`.",
    ),
    code(
        503,
        "overloaded",
        &[Every],
        "Too many requests are under way. Try again after `Retry-After`.",
    ),
    code(
        503,
        "busy",
        &[Every],
        "Others are changing the same data. Try again after `Retry-After`.",
    ),
    code(
        504,
        "timeout",
        &[Every],
        "The request took too long. Try again.",
    ),
    code(
        504,
        "upstream_timeout",
        &[],
        "PostgREST did not answer in time. Try again, or ask for less.",
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
