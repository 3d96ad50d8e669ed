//! `/metrics`, `/health/live`, `/health/ready` over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

/// Whether a process can take traffic, and why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    /// Whether it can.
    pub ready: bool,
    /// One line a part, in English.
    pub details: Vec<String>,
}

/// Asked at each probe.
pub type HealthSource = Arc<dyn Fn() -> HealthReport + Send + Sync>;

/// A running server; ends with the runtime that it was started on.
pub struct HttpServer {
    /// Where it listens: the port that was found where port 0 was asked for.
    pub address: SocketAddr,
}

impl HttpServer {
    /// Starts serving on `listen`.
    ///
    /// # Errors
    /// Where the address cannot be bound; says what to change.
    pub async fn start(
        listen: &str,
        metrics: Arc<PrometheusHandle>,
        health: HealthSource,
    ) -> Result<Self, String> {
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .map_err(|e| format!("http.listen {listen}: {e}; choose another port, or 0 for any"))?;
        let address = listener.local_addr().map_err(|e| format!("http.listen {listen}: {e}"))?;
        let upkeep = Arc::clone(&metrics);
        tokio::spawn(async move {
            // Moves histogram samples into their buckets; without it they pile up until a scrape.
            let mut every = tokio::time::interval(std::time::Duration::from_secs(5));
            loop {
                every.tick().await;
                upkeep.run_upkeep();
            }
        });
        let app = Router::new()
            .route("/metrics", get(move || async move { metrics.render() }))
            .route("/health/live", get(|| async { "live\n" }))
            .route("/health/ready", get(move || async move { ready(&health()) }));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
        Ok(Self { address })
    }
}

fn ready(report: &HealthReport) -> impl IntoResponse + use<> {
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = String::from(if report.ready { "ready\n" } else { "not ready\n" });
    for detail in &report.details {
        body.push_str(detail);
        body.push('\n');
    }
    (status, body)
}
