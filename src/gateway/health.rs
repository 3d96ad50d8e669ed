//! `GET /v1/health`: whether calls can be answered, and why not.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::answer::as_json;
use super::{Shared, State};
use crate::telemetry::HealthReport;

/// 200 where the broker answers and the topics are there, else 503.
pub async fn show(shared: State) -> Response {
    let HealthReport { ready, details } = report(&shared);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    as_json(status, &json!({"ready": ready, "details": details}))
}

/// The same for the health port.
pub fn report(shared: &Shared) -> HealthReport {
    let broker = shared.live.check_broker().map_err(|refusal| refusal.message);
    let link = shared.link.clients().map(drop).map_err(|refusal| refusal.message);
    let ready = broker.is_ok() && link.is_ok();
    let told = |what: &str, state: Result<(), String>| match state {
        Ok(()) => format!("{what}: ok"),
        Err(why) => format!("{what}: {why}"),
    };
    HealthReport { ready, details: vec![told("broker", broker), told("clients", link)] }
}
