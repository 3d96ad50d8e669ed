//! Logs, metrics and health. Metric names are constants of [`names`].

mod http;
pub mod names;

use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use http::{HealthReport, HealthSource, HttpServer};

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error, so that standard output stays a program's answer.
///
/// # Errors
/// Where `level` is no filter such as `info` or `driftline=debug,warn`.
pub fn start_logging(level: &str, format: LogFormat) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .map_err(|e| format!("log.level {level:?}: {e}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|e| format!("logging: {e}"))
}

/// Seconds; from a tenth of a millisecond, a cached read, to ten seconds, a stuck broker.
const LATENCY_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// Installs the recorder behind `metrics::counter!` and its like. Once a process.
///
/// # Errors
/// Where a recorder is installed already.
pub fn install_metrics() -> Result<Arc<PrometheusHandle>, BuildError> {
    // Without buckets the exporter renders summaries, which cannot be added up across workers.
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), LATENCY_BUCKETS)?;
    let recorder = builder.build_recorder();
    let handle = Arc::new(recorder.handle());
    metrics::set_global_recorder(recorder)?;
    names::describe();
    Ok(handle)
}
