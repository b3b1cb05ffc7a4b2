//! The log and metrics of the service.

use std::{env, io::IsTerminal};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

const LOGGED_BY_DEFAULT: &str = "warn,speedcoding=info";

/// Logs to standard error. `RUST_LOG` chooses what.
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
    // At debug level it logs the parameters of statements, such as hashes of passwords. RUST_LOG must not enable that.
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

/// Counts the events that the audit log lists.
pub fn count_event(action: &'static str) {
    metrics::counter!("auth_events_total", "event" => action).increment(1);
}

/// Counts sign-ins that were ended, by cause.
pub fn count_ended(sign_ins: i64, cause: &'static str) {
    let labels = [("event", "sign_in.revoked"), ("cause", cause)];
    metrics::counter!("auth_events_total", &labels).increment(sign_ins.unsigned_abs());
}
