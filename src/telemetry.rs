//! The log and metrics of the service.

use std::{convert::Infallible, env, fmt, io::IsTerminal, time::Duration};

use Kind::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
#[cfg(target_os = "linux")]
use metrics_process::Collector;
use tokio::time::interval;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

const ADDED_UP_EVERY: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

const LOGGED_BY_DEFAULT: &str = "warn,speedcoding=info";

/// Logs to standard error. `RUST_LOG` chooses the events that are logged.
#[expect(
    clippy::disallowed_methods,
    reason = "RUST_LOG is every Rust program's setting, read before ours"
)]
pub fn init(format: LogFormat) -> anyhow::Result<()> {
    let wanted = env::var_os(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let wanted = match wanted.to_string_lossy() {
        wanted if wanted.trim().is_empty() => LOGGED_BY_DEFAULT.into(),
        wanted => wanted,
    };
    let mut filter = EnvFilter::try_new(&wanted).map_err(|error| {
        anyhow::anyhow!("RUST_LOG cannot be read ({error}); a valid value is {LOGGED_BY_DEFAULT}")
    })?;
    // At debug level tokio_postgres logs the parameters of statements, such as hashes of passwords. RUST_LOG must not
    // enable that.
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

/// Every metric, as Prometheus shows it, except the metrics of the process itself: its kind, its name and its meaning.
/// A name ends in the unit of its metric. No label has a value that a client chose.
pub const METRICS: &[(Kind, &str, &str)] = &[
    (
        Counter,
        "http_requests_total",
        "Requests that were answered, by operation and status.",
    ),
    (
        Histogram,
        "http_request_duration_seconds",
        "Time from a request's head to its answer's head, by operation.",
    ),
    (Gauge, "http_connections", "Open connections of clients."),
    (
        Gauge,
        "http_connections_max",
        "The maximum number of open connections of clients (MAX_CONNECTIONS).",
    ),
    (
        Gauge,
        "http_held_bytes",
        "Bytes held for clients, by what they are: answers not yet read, bodies being read. Up to 16 KiB each are not counted.",
    ),
    (
        Gauge,
        "http_held_max_bytes",
        "The maximum of http_held_bytes.",
    ),
    (
        Counter,
        "requests_shed_total",
        "Requests and connections refused with 503, by the resource that was used up.",
    ),
    (
        Counter,
        "rate_limited_total",
        "Requests refused with 429, by limit.",
    ),
    (
        Gauge,
        "db_up",
        "1 if the database answers and takes changes, otherwise 0.",
    ),
    (
        Histogram,
        "db_call_duration_seconds",
        "Time of a statement with the wait for its connection, by statement.",
    ),
    (
        Gauge,
        "db_pool_connections",
        "Connections to the database, by state: idle, used.",
    ),
    (
        Gauge,
        "db_pool_connections_max",
        "The maximum number of connections to the database (DB_CONNECTIONS).",
    ),
    (
        Gauge,
        "db_pool_waiting",
        "Requests that wait for a connection to the database.",
    ),
    (
        Histogram,
        "db_pool_wait_seconds",
        "Time that a request waited for a connection to the database, with making one.",
    ),
    (
        Gauge,
        "password_queue_places",
        "Places for passwords that are being hashed or wait for it.",
    ),
    (Gauge, "password_queue_taken", "Places that are taken."),
    (
        Gauge,
        "password_queue_waiting",
        "Passwords that wait for a thread that hashes.",
    ),
    (
        Histogram,
        "password_queue_wait_seconds",
        "Time that a password waited for a thread that hashes.",
    ),
    (
        Counter,
        "auth_events_total",
        "Events of accounts and sign-ins, as the audit log names them; ended sign-ins by cause.",
    ),
    (
        Counter,
        "refreshes_total",
        "Refresh tokens that were presented, by outcome.",
    ),
    (
        Gauge,
        "sessions_running",
        "Sessions that run, on all replicas. NaN while the database does not answer.",
    ),
    (
        Counter,
        "postgrest_requests_total",
        "Requests passed to PostgREST, by its answer's class of status, or by how they failed.",
    ),
    (
        Histogram,
        "postgrest_request_duration_seconds",
        "Time until the head of PostgREST's answer.",
    ),
    (
        Gauge,
        "postgrest_requests_in_flight",
        "Requests that PostgREST has not answered yet.",
    ),
];

/// The kinds of metrics.
#[derive(Clone, Copy)]
pub enum Kind {
    /// It only rises, from 0 at the start of the process.
    Counter,
    /// It rises and falls.
    Gauge,
    /// For each of several bounds, it counts the values up to this bound. It also has the number and the sum of all
    /// values.
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Counter => "counter",
            Gauge => "gauge",
            Histogram => "histogram",
        })
    }
}

/// The values of labels that are known from the beginning. Prometheus sees a counter rise only if it has seen an
/// earlier value, so these counters begin with 0.
const KNOWN: &[(&str, &str, &[&str])] = &[
    (
        "refreshes_total",
        "outcome",
        &[
            "rotated",
            "replayed",
            "reused",
            "rolled_back",
            "expired",
            "ended",
            "banned",
            "unknown",
        ],
    ),
    (
        "requests_shed_total",
        "resource",
        &[
            "answers",
            "bodies",
            "connections",
            "database",
            "memory",
            "passwords",
            "postgrest",
        ],
    ),
    (
        "postgrest_requests_total",
        "answer",
        &[
            "2xx",
            "3xx",
            "4xx",
            "5xx",
            "unreachable",
            "timeout",
            "aborted",
        ],
    ),
];

/// The metrics of this process.
pub struct Metrics {
    page: PrometheusHandle,
    #[cfg(target_os = "linux")]
    process: Collector,
}

impl Metrics {
    /// Collects metrics from here on.
    pub fn collect() -> anyhow::Result<Self> {
        let page = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)?
            .install_recorder()?;
        for (kind, name, meaning) in METRICS {
            match kind {
                Counter => metrics::describe_counter!(*name, *meaning),
                Gauge => metrics::describe_gauge!(*name, *meaning),
                Histogram => metrics::describe_histogram!(*name, *meaning),
            }
        }
        for (name, label, values) in KNOWN {
            for value in *values {
                metrics::counter!(*name, *label => *value).increment(0);
            }
        }
        let metrics = Metrics {
            page,
            #[cfg(target_os = "linux")]
            process: Collector::default(),
        };
        #[cfg(target_os = "linux")]
        metrics.process.describe();
        Ok(metrics)
    }

    /// All metrics, in the format that Prometheus reads.
    pub fn page(&self) -> String {
        #[cfg(target_os = "linux")]
        self.process.collect();
        self.page.render()
    }

    /// Adds up the measured times, at intervals. Otherwise each measured time would be kept until the page is
    /// requested.
    pub async fn add_up(&self) -> Infallible {
        let mut turns = interval(ADDED_UP_EVERY);
        loop {
            turns.tick().await;
            self.page.run_upkeep();
        }
    }
}

/// Counts the events that the audit log lists.
pub fn count_event(action: &'static str) {
    metrics::counter!("auth_events_total", "event" => action).increment(1);
}

/// Counts sign-ins that were ended, by cause.
pub fn count_ended(sign_ins: i64, cause: &'static str) {
    let labels = [("event", "sign_in.revoked"), ("cause", cause)];
    metrics::counter!("auth_events_total", &labels).increment(sign_ins.unsigned_abs());
}

/// Counts a use of a refresh token, by its outcome.
pub fn count_refresh(outcome: &'static str) {
    metrics::counter!("refreshes_total", "outcome" => outcome).increment(1);
}

/// Counts a refusal because a resource that all clients share is used up.
pub fn count_shed(resource: &'static str) {
    metrics::counter!("requests_shed_total", "resource" => resource).increment(1);
}
