//! How calls are let in, and what is said where one is refused.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::BytesRejection;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Shared, State};
use crate::client::ClientError;
use crate::event::{ErrorKind, Rejection};
use crate::telemetry::names;

/// Why there is no answer: a status, a kind for programs, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    kind: &'static str,
    pub message: String,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    /// 400: mend the call.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// 401: show the key.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    /// 403: nobody may.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// 503: try again soon.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
    }

    /// 504: nobody answered in time.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "TIMEOUT", message)
    }

    /// 500: a fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message)
    }

    /// What a worker said, as HTTP says it.
    pub fn of_worker(kind: ErrorKind, message: &str) -> Self {
        let (status, name) = match kind {
            ErrorKind::BadRequest => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
            ErrorKind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED"),
            ErrorKind::Expired => (StatusCode::GATEWAY_TIMEOUT, "EXPIRED"),
            ErrorKind::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "NOT_READY"),
            ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        };
        Self::new(status, name, message)
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::bad(rejection.to_string())
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Encode(rejection) => rejection.into(),
            other => Self::unavailable(other.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let told = json!({"error": {"type": self.kind, "message": self.message}});
        let mut response = as_json(self.status, &told);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// A body of JSON.
pub fn as_json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    match serde_json::to_vec(value) {
        Ok(body) => (status, headers, body).into_response(),
        // Only keys that are no texts make this happen, and there are none.
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What a body says, and nothing that is no JSON object. That it must say so in its header keeps other
/// sites' pages from sending any.
pub fn object(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Map<String, Value>, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        let message = "send JSON, and say so: `content-type: application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Refusal::new(status, "UNSUPPORTED_MEDIA_TYPE", message));
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TOO_LARGE",
            "the body is longer than gateway.max_body_bytes; send less at a time",
        ),
        _ => Refusal::bad(format!("the body did not come whole: {rejection}")),
    })?;
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Refusal::bad("the body is no JSON object: send {…} with the schema's fields")),
        Err(error) => Err(Refusal::bad(format!("the body is no JSON: {error}"))),
    }
}

/// Lets a call in where there is room, and ends it when its time is over.
pub async fn admit(shared: State, path: MatchedPath, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let path = path.as_str().to_owned();
    let response = admitted(&shared, request, next).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!(names::GATEWAY_CALLS, "path" => path.clone(), "status" => status)
        .increment(1);
    metrics::histogram!(names::GATEWAY_SECONDS, "path" => path)
        .record(begun.elapsed().as_secs_f64());
    response
}

async fn admitted(shared: &Arc<Shared>, request: Request, next: Next) -> Response {
    let Ok(_permit) = shared.in_flight.try_acquire() else {
        let message = "too many calls are under way (gateway.max_in_flight): try again soon";
        return Refusal::of_worker(ErrorKind::Overloaded, message).into_response();
    };
    // Calls keep their own, shorter time; this ends those whose body never comes.
    let most = std::time::Duration::from_millis(shared.config.gateway.deadline_ms + 1_000);
    match tokio::time::timeout(most, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::timeout("the call took longer than gateway.deadline_ms").into_response(),
    }
}

/// 404 with what there is.
pub async fn nothing_here(uri: Uri) -> Refusal {
    Refusal::not_found(format!(
        "there is nothing at {}: POST /v1/recommendations, POST /v1/events/{{watch,click,feedback}}, \
         GET /v1/health, and the page at /",
        uri.path()
    ))
}

/// 405.
pub async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        format!("{method} is not for {}; docs/gateway.md shows how it is called", uri.path()),
    )
}
