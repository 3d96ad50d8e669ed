//! The page: files that are part of the program, so that nothing is fetched from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Shared;

/// Path, type and text of each file.
macro_rules! files {
    ($($path:literal $name:literal $kind:literal,)*) => {
        &[$(($path, $kind, include_str!(concat!("page/", $name))),)*]
    };
}

const FILES: &[(&str, &str, &str)] = files! {
    "/" "index.html" "text/html; charset=utf-8",
    "/app.css" "app.css" "text/css; charset=utf-8",
    "/icon.svg" "icon.svg" "image/svg+xml",
    "/app.js" "app.js" "text/javascript; charset=utf-8",
    "/charts.js" "charts.js" "text/javascript; charset=utf-8",
    "/dom.js" "dom.js" "text/javascript; charset=utf-8",
    "/live.js" "live.js" "text/javascript; charset=utf-8",
    "/loop.js" "loop.js" "text/javascript; charset=utf-8",
    "/panels.js" "panels.js" "text/javascript; charset=utf-8",
    "/try.js" "try.js" "text/javascript; charset=utf-8",
};

/// Nothing but what comes from here: no other scripts, styles, pictures or frames, none in line.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What is sent with every answer.
const SECURITY: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Adds to every answer what a browser is to refuse.
pub async fn secured(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in SECURITY {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The page's files.
pub fn routes() -> Router<Arc<Shared>> {
    FILES.iter().fold(Router::new(), |routes, (path, kind, text)| {
        let tag = format!("\"{:016x}\"", crate::ids::stable_hash(text.as_bytes()));
        routes.route(path, get(move |headers: HeaderMap| file(headers, kind, text, tag)))
    })
}

/// A file, or that the browser has it already.
async fn file(headers: HeaderMap, kind: &'static str, text: &'static str, tag: String) -> Response {
    // Asked for each time: a new program brings a new page.
    let own = [(header::CACHE_CONTROL, "no-cache".to_owned()), (header::ETAG, tag.clone())];
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    if known {
        return (StatusCode::NOT_MODIFIED, own).into_response();
    }
    (own, [(header::CONTENT_TYPE, kind)], text).into_response()
}
