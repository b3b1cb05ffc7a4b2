//! The outermost layer: a request gets its id, every error becomes a problem, and each answer is logged and counted
//! once.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
};
use poem_openapi::OperationId;

use crate::{
    context::{self, Context, LimitState},
    error::describe,
    problem::{Problem, REQUEST_ID},
    random::request_id,
};

/// How the limits of a request stand (draft-ietf-httpapi-ratelimit-headers-10).
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The limits themselves (draft-ietf-httpapi-ratelimit-headers-10).
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The number of characters of a path that are logged. No path of the API is longer.
const LOGGED: usize = 200;

/// Answers every error as a problem, and leaves the problem with the answer for the log.
pub async fn answer_errors<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    Ok(match endpoint.call(request).await {
        Ok(response) => response.into_response(),
        Err(error) => {
            let operation = error.data::<OperationId>().copied();
            let problem = Problem::from(error);
            let mut response = problem.to_response();
            if let Some(operation) = operation {
                response.set_data(operation);
            }
            response.set_data(Arc::new(problem));
            response
        }
    })
}

/// Gives the request its id, turns a remaining error into an answer, and logs and counts the answer once.
pub async fn respond<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let context = Context::new(request_id());
    let method = request.method().clone();
    // A path may have 60,000 characters, which would fill the log.
    let path: String = request.uri().path().chars().take(LOGGED).collect();
    let started = Instant::now();
    let serving = async {
        let mut response = answer_errors(endpoint, request).await?;
        context::current(|context| {
            record(context, &method, &path, started.elapsed(), &response);
            if let Ok(value) = HeaderValue::from_str(context.request_id()) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            show_limits(&context.limits(), response.headers_mut());
        });
        Ok(response)
    };
    context.serve(serving).await
}

fn record(context: &Context, method: &Method, path: &str, took: Duration, response: &Response) {
    let operation = response
        .data::<OperationId>()
        .map_or("none", |operation| operation.0);
    let status = response.status();
    let labels = [
        ("operation", operation.to_owned()),
        ("status", status.as_u16().to_string()),
    ];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", "operation" => operation).record(took);

    let request_id = context.request_id();
    let caller = context.caller().map(|caller| caller.to_string());
    let ms = took.as_micros() as f64 / 1000.0;
    let db_ms = context.database_wait().as_micros() as f64 / 1000.0;
    let status = status.as_u16();
    match response.data::<Arc<Problem>>() {
        Some(problem) if problem.http_status() >= StatusCode::INTERNAL_SERVER_ERROR => {
            let cause = std::error::Error::source(problem).map(describe);
            tracing::error!(request_id, %method, path, operation, caller, status, ms, db_ms, %problem, cause);
        }
        Some(problem) => {
            tracing::info!(request_id, %method, path, operation, caller, status, ms, db_ms, %problem);
        }
        None => tracing::info!(request_id, %method, path, operation, caller, status, ms, db_ms),
    }
}

/// Tells the client how its limits stand.
fn show_limits(limits: &[LimitState], headers: &mut HeaderMap) {
    let (mut states, mut policies) = (String::new(), String::new());
    for LimitState {
        name,
        count,
        seconds,
        remaining,
        reset,
    } in limits
    {
        let comma = if states.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(states, "{comma}\"{name}\";r={remaining};t={reset}");
        let _ = write!(policies, "{comma}\"{name}\";q={count};w={seconds}");
    }
    for (name, value) in [(RATE_LIMIT, states), (RATE_LIMIT_POLICY, policies)] {
        if let Ok(value) = HeaderValue::try_from(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
}
