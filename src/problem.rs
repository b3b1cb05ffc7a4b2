//! The one error type, and every mapping from an error to the answer that a client gets (RFC 9457).

use std::{borrow::Cow, error::Error as StdError, fmt};

use poem::{
    Response,
    error::{MethodNotAllowedError, NotFoundError, ReadBodyError, ResponseError},
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{self, ToJSON},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_postgres::error::{DbError, SqlState};

use crate::context;

/// Names a request in answers, in problems and in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROBLEM_JSON: &str = "application/problem+json";

/// Rules on fields that only the database knows: constraints, by the beginning of their names.
const CONSTRAINTS: [(&str, &str, &str, &str); 6] = [
    (
        "sessions_tech_stack",
        "techStack",
        "invalid",
        "must be visible text without control characters, and not too long after normalisation",
    ),
    ("submissions_packages", "packages", "invalid", PLAIN),
    ("submissions_review_reason", "reason", "invalid", PLAIN),
    ("reviews_reason", "reason", "invalid", PLAIN),
    (
        "attestations_checker_version",
        "checkerVersion",
        "invalid",
        PLAIN,
    ),
    (
        "submissions_recording_own",
        "videoUrl",
        "not_yours",
        "must be your own recording, in the folder <your id>/<the session's id>/ of the bucket recordings",
    ),
];
const PLAIN: &str =
    "must be text without control characters and without characters that turn its direction";

/// Why the database cannot serve now, by the beginning of the SQLSTATE.
const AWAY: [(&str, &str); 8] = [
    (
        "25006",
        "The database is read-only for now, so nothing can be changed. Try again in a moment.",
    ),
    (
        "53100",
        "The disk of the database is full, so nothing can be changed. Its operator must make room. Try again later.",
    ),
    (
        "53200",
        "The database is out of memory. Try again in a moment.",
    ),
    (
        "53300",
        "The database has too many connections. Try again in a moment.",
    ),
    (
        "53",
        "The database is short of resources. Try again in a moment.",
    ),
    (
        "57P",
        "The database is stopping or starting. Try again in a moment.",
    ),
    (
        "58",
        "The database has trouble with its files. Its log tells its operator more. Try again later.",
    ),
    ("", "The database cannot be reached. Try again in a moment."),
];

/// The reason why a request was refused. The client gets the code and the sentence. The source is for the log, and
/// never reaches the client.
pub struct Problem(Box<Parts>);

struct Parts {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    members: Map<String, Value>,
    retry_after: Option<u32>,
    allow: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A mistake in one field of a request.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct FieldError {
    /// The field: a name, or a path such as `packages[3]`.
    pub field: String,
    /// The kind of mistake. It is stable.
    pub code: String,
    /// The mistake in words, for people.
    pub message: String,
}

/// A problem (RFC 9457). Some codes add further members, such as the `sessionId` of the running session.
#[derive(Object)]
#[oai(
    rename = "Problem",
    rename_all = "camelCase",
    skip_serializing_if_is_none
)]
struct ProblemDocument {
    /// The problem's type as a URI: `urn:speedcoding:problem:` and the code.
    #[oai(rename = "type")]
    kind: String,
    /// The problem's type in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened, and what to do.
    detail: String,
    /// The code of the problem. It is stable: decide by it.
    code: String,
    /// The name of the request, as in the header `X-Request-Id`.
    request_id: String,
    /// The mistakes in fields, if there are any.
    errors: Option<Vec<FieldError>>,
}

impl Problem {
    /// A refusal with a stable code and a sentence that says what to do.
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Problem(Box::new(Parts {
            status,
            code: code.into(),
            detail: detail.into(),
            errors: Vec::new(),
            members: Map::new(),
            retry_after: None,
            allow: None,
            source: None,
        }))
    }

    /// 400: one or more fields have mistakes.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{} {}.", only.field, only.message),
            several => format!("{} fields are not valid.", several.len()),
        };
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, "invalid_request", detail);
        problem.0.errors = errors;
        problem
    }

    /// 400: one field has a mistake.
    pub fn invalid_field(field: &str, code: &str, message: impl Into<String>) -> Self {
        Problem::invalid(vec![FieldError {
            field: field.into(),
            code: code.into(),
            message: message.into(),
        }])
    }

    /// 400: the body is not JSON.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "malformed_body", detail)
    }

    /// 401 with a challenge (RFC 6750).
    pub fn unauthorized(code: &'static str, detail: &'static str) -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// Lists the methods that the path takes, as every 405 must (RFC 9110, section 15.5.6).
    pub fn allowing(mut self, methods: String) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// 429: the client may try again after this many seconds.
    pub fn too_many(code: &'static str, detail: String, seconds: u32) -> Self {
        let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, code, detail);
        problem.0.retry_after = Some(seconds);
        problem
    }

    /// 503: the client may try again in a moment.
    pub fn unavailable(code: &'static str, detail: &'static str) -> Self {
        let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        problem.0.retry_after = Some(1);
        problem
    }

    /// 500: the service has a defect. The source is logged under the request id.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "The service has a defect. It is logged under this request id.",
        )
        .because(source)
    }

    /// Adds the members of PostgREST's errors, which its clients show.
    pub fn for_postgrest_clients(mut self) -> Self {
        let message = self.0.detail.to_string();
        for (name, value) in [
            ("message", message),
            ("details", String::new()),
            ("hint", String::new()),
        ] {
            self.0.members.insert(name.to_owned(), value.into());
        }
        self
    }

    /// Keeps the cause for the log.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// From the `refusal` that a database function returned: a problem's members, among them its status and code.
    pub fn from_refusal(mut refusal: Map<String, Value>) -> Self {
        let status = refusal
            .remove("status")
            .and_then(|status| status.as_u64())
            .and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut text = |name| match refusal.remove(name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (code, detail) = (text("code"), text("detail"));
        Problem::refused(status, code, detail, refusal)
    }

    fn refused(
        status: StatusCode,
        code: String,
        detail: String,
        mut members: Map<String, Value>,
    ) -> Self {
        let mut problem = Problem::new(status, code, detail);
        problem.0.errors = members
            .remove("errors")
            .and_then(|errors| serde_json::from_value(errors).ok())
            .unwrap_or_default();
        problem.0.retry_after = members
            .remove("retryAfter")
            .and_then(|seconds| seconds.as_u64()?.try_into().ok());
        problem.0.members = members;
        problem
    }

    /// 503: the database cannot serve now. Its SQLSTATE gives the reason, and is empty if the database cannot be
    /// reached.
    pub fn away(state: &str) -> Self {
        let known = AWAY.iter().find(|(known, _)| state.starts_with(known));
        let detail = known.map_or("", |(_, detail)| detail);
        Problem::unavailable("database_unavailable", detail)
    }

    /// 503: no connection to the database could be made, for any reason. Nothing of the request has run.
    pub fn of_connecting(error: tokio_postgres::Error) -> Self {
        let state = error.code().map_or("", SqlState::code);
        Problem::away(state).because(error)
    }

    /// 503: too many requests are under way.
    pub fn overloaded() -> Self {
        Problem::unavailable(
            "overloaded",
            "Too many requests are under way. Try again in a moment.",
        )
    }

    /// 504: the request took too long and was given up.
    pub fn timeout(detail: &'static str) -> Self {
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail)
    }

    /// Whether PostgreSQL could not load one of its own libraries, which happens when they are upgraded while it runs.
    /// PostgreSQL has no SQLSTATE for this error. The name of its routine is the same in every language.
    pub fn is_of_program_files(error: &DbError) -> bool {
        error.routine() == Some("internal_load_library")
    }

    /// The HTTP status of the answer.
    pub fn http_status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The seconds after which to try again, if they are known.
    pub fn retry_after(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// The body that the client gets.
    pub fn document(&self, request_id: String) -> Value {
        let document = ProblemDocument {
            kind: format!("urn:speedcoding:problem:{}", self.0.code),
            title: title(&self.0.code),
            status: self.0.status.as_u16(),
            detail: self.0.detail.to_string(),
            code: self.0.code.to_string(),
            request_id,
            errors: (!self.0.errors.is_empty()).then(|| self.0.errors.clone()),
        };
        let mut document = document.to_json().unwrap_or_default();
        if let Value::Object(document) = &mut document {
            for (name, value) in &self.0.members {
                document
                    .entry(name.clone())
                    .or_insert_with(|| value.clone());
            }
        }
        document
    }

    /// The answer to the request that is being served; its id ties it to the log.
    pub fn to_response(&self) -> Response {
        let body = self.document(context::request_id());
        let mut response = Response::builder()
            .status(self.0.status)
            .content_type(PROBLEM_JSON)
            .body(body.to_string());
        if self.0.status == StatusCode::UNAUTHORIZED {
            // RFC 6750, section 3: no error code if no access token was sent.
            let challenge = match self.0.code.as_ref() {
                "missing_token"
                | "wrong_credentials"
                | "invalid_refresh_token"
                | "refresh_token_reused" => "Bearer",
                _ => r#"Bearer error="invalid_token""#,
            };
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        if let Some(seconds) = self.0.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(methods) = &self.0.allow
            && let Ok(methods) = HeaderValue::from_str(methods)
        {
            response.headers_mut().insert(header::ALLOW, methods);
        }
        response
    }
}

/// `session_already_running` → `Session already running`.
fn title(code: &str) -> String {
    let mut title = code.replace('_', " ").replace("postgrest", "postgREST");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.0.status.as_u16(),
            self.0.code,
            self.0.detail
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl StdError for Problem {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.0.status
    }

    fn as_response(&self) -> Response {
        self.to_response()
    }
}

impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        let problem = |range: &str, description| MetaResponse {
            description,
            status: None,
            status_range: Some(range.to_owned()),
            content: vec![MetaMediaType {
                content_type: PROBLEM_JSON,
                schema: <ProblemDocument as types::Type>::schema_ref(),
            }],
            headers: vec![],
        };
        MetaResponses {
            responses: vec![
                problem("4XX", "The request is refused. Decide by `code`."),
                problem(
                    "5XX",
                    "The request is not possible now. Try again, after `Retry-After` if it is given.",
                ),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        <ProblemDocument as types::Type>::register(registry);
    }
}

/// A rejection by the framework is a problem too.
impl From<poem::Error> for Problem {
    fn from(error: poem::Error) -> Self {
        let error = match error.downcast::<Problem>() {
            Ok(problem) => return problem,
            Err(error) => error,
        };
        if error.is::<NotFoundError>() {
            return Problem::new(
                StatusCode::NOT_FOUND,
                "unknown_path",
                "There is nothing at this path. /docs lists the paths.",
            );
        }
        if error.is::<MethodNotAllowedError>() {
            return Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This path does not take this method. The header `Allow` lists the methods that it takes.",
            );
        }
        match error.downcast_ref::<ReadBodyError>() {
            Some(ReadBodyError::PayloadTooLarge) => {
                return Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "body_too_large",
                    "The body is larger than 256 KiB.",
                );
            }
            Some(_) => {
                return Problem::malformed("The body cannot be read.").because(error.to_string());
            }
            None => {}
        }
        match error.status() {
            status if status.is_client_error() => Problem::new(
                status,
                "bad_request",
                "This request cannot be understood. /docs describes the requests.",
            )
            .because(error.to_string()),
            _ => Problem::internal(error.to_string()),
        }
    }
}

/// The one place where SQLSTATEs become HTTP statuses.
impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(database) = error.as_db_error() else {
            return Problem::away("").because(error);
        };
        let state = database.code().code();
        // Raised by private.refuse().
        if let Some(status) = state
            .strip_prefix("PT")
            .and_then(|status| status.parse().ok())
        {
            let members = database
                .detail()
                .and_then(|detail| serde_json::from_str(detail).ok());
            return Problem::refused(
                status,
                database.hint().unwrap_or("refused").to_owned(),
                database.message().to_owned(),
                members.unwrap_or_default(),
            );
        }
        if database.constraint() == Some("users_username_key") {
            return Problem::new(
                StatusCode::CONFLICT,
                "username_taken",
                "This user name is taken. Choose another one.",
            );
        }
        let name = database.constraint().unwrap_or_default();
        let known = CONSTRAINTS
            .iter()
            .find(|(known, ..)| name.starts_with(known));
        if let Some((_, field, code, message)) = known {
            return Problem::invalid_field(field, code, *message);
        }
        // Class 22 is a data exception, such as a NUL in a path. 23514 is a check constraint.
        if state.starts_with("22") || *database.code() == SqlState::CHECK_VIOLATION {
            return Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_value",
                "The database cannot store a value of this request.",
            )
            .because(error);
        }
        match state {
            state
                if ["08", "25006", "53", "57P", "58"]
                    .iter()
                    .any(|known| state.starts_with(known)) =>
            {
                Problem::away(state)
            }
            _ if Problem::is_of_program_files(database) => Problem::away("58"),
            _ if *database.code() == SqlState::QUERY_CANCELED => {
                Problem::timeout("This request took too long and was cancelled. Try again.")
            }
            _ if [
                SqlState::LOCK_NOT_AVAILABLE,
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::T_R_SERIALIZATION_FAILURE,
                // The user or the challenge has just been deleted. The next try gets an answer that says so.
                SqlState::FOREIGN_KEY_VIOLATION,
            ]
            .contains(database.code()) =>
            {
                Problem::unavailable("busy", "Others are changing the same data. Try again.")
            }
            _ => return Problem::internal(error),
        }
        .because(error)
    }
}

impl From<deadpool_postgres::PoolError> for Problem {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => Problem::of_connecting(error),
            error => Problem::away("").because(error),
        }
    }
}
