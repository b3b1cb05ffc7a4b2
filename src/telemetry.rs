//! What every request leaves behind: its id, one line in the log, its metrics, and its answer, be it a problem.

use std::{
    env,
    io::IsTerminal,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::ValueEnum;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    http::{HeaderValue, StatusCode},
};
use poem_openapi::OperationId;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use crate::{
    limits::{self, Standing},
    problem::{Problem, REQUEST_ID},
};

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

const LOGGED_BY_DEFAULT: &str = "warn,speedcoding=info";

/// So much of a path is logged: more than any of ours has.
const LOGGED: usize = 200;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

tokio::task_local! {
    static CONTEXT: Context;
}

/// What becomes known of a request while it is served.
struct Context {
    request_id: String,
    caller: OnceLock<Uuid>,
    database_us: AtomicU64,
    limits: Mutex<Vec<Standing>>,
    problem: Mutex<Option<Problem>>,
}

/// Logs to standard error. `RUST_LOG` chooses what.
pub fn init(format: LogFormat) -> anyhow::Result<()> {
    let wanted = env::var_os(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let wanted = match wanted.to_string_lossy() {
        wanted if wanted.trim().is_empty() => LOGGED_BY_DEFAULT.into(),
        wanted => wanted,
    };
    let mut filter = EnvFilter::try_new(&wanted).map_err(|error| {
        anyhow::anyhow!("RUST_LOG cannot be read ({error}); one looks like {LOGGED_BY_DEFAULT}")
    })?;
    // At debug it logs the parameters of statements, hashes of passwords among them: whatever RUST_LOG says.
    for quiet in ["tokio_postgres=info", "tokio_postgres::query=info"] {
        filter = filter.add_directive(quiet.parse()?);
    }
    let is_terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        .with_writer(std::io::stderr);
    let text = match format {
        LogFormat::Auto => is_terminal,
        format => format == LogFormat::Text,
    };
    if text {
        log.init()
    } else {
        log.json().flatten_event(true).init()
    }
    Ok(())
}

/// Collects metrics from here on; the handle prints them as Prometheus reads them.
pub fn collect_metrics() -> anyhow::Result<PrometheusHandle> {
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)?
        .install_recorder()?)
}

/// The id of the request that is being served.
pub fn request_id() -> String {
    CONTEXT
        .try_with(|context| context.request_id.clone())
        .unwrap_or_default()
}

/// Who sent the request that is being served.
pub fn note_caller(user: Uuid) {
    // A request has one caller: a second note changes nothing.
    let _ = CONTEXT.try_with(|context| context.caller.set(user));
}

/// How long the request that is being served waited for the database.
pub fn note_database(waited: Duration) {
    let us = waited.as_micros().try_into().unwrap_or(u64::MAX);
    // Outside of a request nobody asks.
    let _ = CONTEXT.try_with(|context| context.database_us.fetch_add(us, Ordering::Relaxed));
}

/// Counts what the audit log tells one by one.
pub fn count_event(action: &'static str) {
    metrics::counter!("auth_events_total", "event" => action).increment(1);
}

/// Counts sign-ins that were ended, by cause.
pub fn count_ended(sign_ins: i64, cause: &'static str) {
    let labels = [("event", "sign_in.revoked"), ("cause", cause)];
    metrics::counter!("auth_events_total", &labels).increment(sign_ins.unsigned_abs());
}

/// How a limit stands that counts the request that is being served.
pub fn note_limit(standing: Standing) {
    let _ = CONTEXT.try_with(|context| held(&context.limits).push(standing));
}

/// What another thread left when it panicked is as good as before.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers every error as a problem, and keeps the problem for the log.
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
            let _ = CONTEXT.try_with(|context| *held(&context.problem) = Some(problem));
            response
        }
    })
}

/// The outermost layer: names the request, answers what is still an error, logs and counts once.
pub async fn respond<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let context = Context {
        request_id: Uuid::new_v4().to_string(),
        caller: OnceLock::new(),
        database_us: AtomicU64::new(0),
        limits: Mutex::default(),
        problem: Mutex::new(None),
    };
    let method = request.method().clone();
    // Whoever asks for 60,000 characters that are not there does not fill the log with them.
    let path: String = request.uri().path().chars().take(LOGGED).collect();
    let started = Instant::now();
    CONTEXT
        .scope(context, async {
            let mut response = answer_errors(endpoint, request).await?;
            CONTEXT.with(|context| {
                record(context, &method, &path, started.elapsed(), &response);
                if let Ok(value) = HeaderValue::from_str(&context.request_id) {
                    response.headers_mut().insert(REQUEST_ID, value);
                }
                limits::show(&held(&context.limits), response.headers_mut());
            });
            Ok(response)
        })
        .await
}

fn record(
    context: &Context,
    method: &poem::http::Method,
    path: &str,
    took: Duration,
    response: &Response,
) {
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

    let request_id = context.request_id.as_str();
    let caller = context.caller.get().map(ToString::to_string);
    let ms = took.as_micros() as f64 / 1000.0;
    let db_ms = context.database_us.load(Ordering::Relaxed) as f64 / 1000.0;
    let status = status.as_u16();
    let problem = held(&context.problem);
    match problem.as_ref() {
        Some(problem) if problem.http_status() >= StatusCode::INTERNAL_SERVER_ERROR => {
            let cause = std::error::Error::source(problem).map(crate::db::describe);
            tracing::error!(request_id, %method, path, operation, caller, status, ms, db_ms, %problem, cause);
        }
        Some(problem) => {
            tracing::info!(request_id, %method, path, operation, caller, status, ms, db_ms, %problem);
        }
        None => tracing::info!(request_id, %method, path, operation, caller, status, ms, db_ms),
    }
}
