//! What is told of every request: its id, a line in the log, and what it cost.

use super::problem::Message;
use crate::{app::App, net::Peer, telemetry::Answered};
use axum::{
    body::HttpBody,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use std::sync::Arc;
use tokio::time::Instant;
use tracing::Instrument;

/// The header of the id, in requests and answers.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id taken from a caller.
const MAX_ID: usize = 128;
/// Called all the time by machines that look whether we live, or for work; told only at `debug`.
const QUIET: [&str; 3] = ["/health", "/ready", "/api/v1/agents/{id}/work"];

/// Refused calls, of which others decide how many there are.
const REFUSALS: [StatusCode; 3] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::TOO_MANY_REQUESTS,
];

/// A request's id: the caller's own where it is sane, else one of ours. A request extension.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Gives the request its id, and tells how it was answered. Every line that is logged meanwhile
/// has the id.
pub fn observe(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    let began = Instant::now();
    let id = sent(request.headers()).unwrap_or_else(|| app.request_id());
    request.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().copied();
    let span = tracing::error_span!("request", request_id = %id);
    let answer = next.run(request).instrument(span.clone());
    async move {
        let mut response = answer.await;
        let route = route.as_ref().map_or("none", MatchedPath::as_str);
        let (took, status) = (began.elapsed(), response.status());
        app.metrics.answered(&Answered {
            method: known(&method),
            route,
            status: status.as_u16(),
            took,
            bytes: response.body().size_hint().exact(),
        });
        span.in_scope(|| {
            let remote_addr = peer.map(|peer| peer.to_string()).unwrap_or_default();
            let (duration_ms, code) = (took.as_millis() as u64, status.as_u16());
            macro_rules! tell {
                ($level:ident $(, $field:ident)*) => {
                    tracing::$level!(
                        %method, path, status = code, duration_ms, remote_addr, $($field,)*
                        "request completed"
                    )
                };
            }
            if REFUSALS.contains(&status) {
                if let Some(untold) = app.refusals.tell() {
                    let message = response.extensions().get::<Message>();
                    let reason = message.map(|m| m.0.as_str()).unwrap_or_default();
                    tell!(warn, reason, untold);
                }
            } else if status.is_server_error() {
                tell!(warn);
            } else if QUIET.contains(&route) {
                tell!(debug);
            } else {
                tell!(info);
            }
        });
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(HEADER, value);
        }
        response
    }
}

/// The id that a caller sent, when it can stand in a log and a header as it is.
fn sent(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(HEADER)?.to_str().ok()?;
    let sane = (1..=MAX_ID).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    sane.then(|| id.to_owned())
}

/// The method, of those that a route may take: others are the caller's invention.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
