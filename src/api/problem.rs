//! Errors on the wire: `{"error": reason phrase, "message": detail, "request_id": uuid}`, or a page
//! for the reader of one.

use super::observe::RequestId;
use crate::{app::AppError, domain::SessionEnd, web};
use axum::{
    Json,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::{any::Any, time::Duration};

/// The challenge to a session that has ended, and why (RFC 6750, section 3).
macro_rules! ended {
    ($why:literal) => {
        concat!(
            r#"Bearer realm="certctl", error="invalid_token", error_description=""#,
            $why,
            "\""
        )
    };
}

/// An answer that says what went wrong.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
    session_end: Option<SessionEnd>,
}

impl Problem {
    /// A problem without more to it.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
            session_end: None,
        }
    }

    /// A field of the request that cannot be taken.
    pub fn bad(field: &str, message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("{field}: {message}"))
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The longest message, in bytes.
const MAX_MESSAGE: usize = 1000;

/// A message of bearable length: a parser may have repeated what it was given. Its beginning names
/// the field and its end what is expected.
fn bounded(message: String) -> String {
    if message.len() <= MAX_MESSAGE {
        return message;
    }
    let half = MAX_MESSAGE / 2 - 2;
    let (head, _) = message.split_at(message.floor_char_boundary(half));
    let (_, tail) = message.split_at(message.ceil_char_boundary(message.len() - half));
    format!("{head}…{tail}")
}

impl From<AppError> for Problem {
    fn from(e: AppError) -> Self {
        let (mut retry_after, mut session_end) = (None, None);
        let status = match &e {
            AppError::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            AppError::SessionEnded(end) => {
                session_end = Some(*end);
                StatusCode::UNAUTHORIZED
            }
            AppError::Forbidden(_)
            | AppError::ForbiddenHere(_)
            | AppError::NotThisAgent
            | AppError::Reserved(_) => StatusCode::FORBIDDEN,
            AppError::Retired { .. } => StatusCode::GONE,
            AppError::NotFound { .. } => StatusCode::NOT_FOUND,
            AppError::Invalid { .. } => StatusCode::BAD_REQUEST,
            AppError::Stale => StatusCode::PRECONDITION_FAILED,
            AppError::Conflict(_) | AppError::IssuerOff(_) => StatusCode::CONFLICT,
            AppError::Limited { retry_in, .. } => {
                retry_after = Some(*retry_in);
                StatusCode::TOO_MANY_REQUESTS
            }
            AppError::Issuer(_) => StatusCode::BAD_GATEWAY,
            AppError::Fenced => {
                retry_after = Some(Duration::from_secs(60));
                StatusCode::SERVICE_UNAVAILABLE
            }
            AppError::Busy | AppError::NotLeading => {
                retry_after = Some(Duration::from_secs(1));
                StatusCode::SERVICE_UNAVAILABLE
            }
            AppError::Away => {
                retry_after = Some(Duration::from_secs(2));
                StatusCode::SERVICE_UNAVAILABLE
            }
            AppError::Unknown | AppError::Outdated(_) => StatusCode::SERVICE_UNAVAILABLE,
            AppError::LowDisk(_) => {
                retry_after = Some(Duration::from_secs(60));
                StatusCode::SERVICE_UNAVAILABLE
            }
            AppError::Store(message) => {
                tracing::error!(%message, "the store failed");
                return Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the store failed; the log says why",
                );
            }
        };
        Self {
            status,
            message: e.to_string(),
            retry_after,
            session_end,
        }
    }
}

impl IntoResponse for Problem {
    /// Status and headers; `dress` writes the body.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = match self.session_end {
                None => r#"Bearer realm="certctl""#,
                Some(SessionEnd::Idle) => ended!("idle_timeout"),
                Some(SessionEnd::Absolute) => ended!("absolute_timeout"),
                Some(SessionEnd::Unknown) => ended!("invalid_token"),
            };
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        if let Some(after) = self.retry_after {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(after.as_secs_f64().ceil().max(1.0) as u64),
            );
        }
        response
            .extensions_mut()
            .insert(Message(bounded(self.message)));
        response
    }
}

/// What an error answer is to say. A response extension.
#[derive(Clone)]
pub(super) struct Message(pub(super) String);

/// The longest text that a layer of the HTTP stack says of its own accord.
const MAX_TEXT: usize = 4096;

/// Gives every error answer that is no page yet the error body or the error page, whichever layer
/// it comes from.
pub fn dress(request: Request, next: Next) -> impl Future<Output = Response> + Send {
    let id = request.extensions().get::<RequestId>().cloned();
    let id = id.map(|RequestId(id)| id).unwrap_or_default();
    let reader = web::wants_page(request.uri().path(), request.headers());
    let answer = next.run(request);
    async move {
        let response = answer.await;
        let status = response.status();
        let page = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
        if (status.is_client_error() || status.is_server_error()) && !page {
            return Box::pin(with_body(response, &id, reader)).await;
        }
        response
    }
}

async fn with_body(mut response: Response, id: &str, reader: bool) -> Response {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or("Error");
    let json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|t| t.as_bytes() == b"application/json");
    if json {
        return response;
    }
    let said = response.extensions().get::<Message>().cloned();
    let message = match &said {
        Some(Message(text)) => text.clone(),
        None => {
            let body = std::mem::take(response.body_mut());
            let text = axum::body::to_bytes(body, MAX_TEXT)
                .await
                .unwrap_or_default();
            match String::from_utf8_lossy(&text) {
                text if text.is_empty() => reason.to_owned(),
                text => text.into_owned(),
            }
        }
    };
    let (parts, _) = response.into_parts();
    let mut dressed = if reader {
        web::failure(status, &message, id)
    } else {
        let body = json!({"error": reason, "message": message, "request_id": id});
        (status, Json(body)).into_response()
    };
    for (name, value) in &parts.headers {
        if !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH) {
            dressed.headers_mut().append(name, value.clone());
        }
    }
    if let Some(said) = said {
        dressed.extensions_mut().insert(said);
    }
    dressed
}

/// No such path.
pub async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such path")
}

/// The path does not take this method.
pub async fn no_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take this method",
    )
}

/// A handler panicked: a fault of ours, said in the log with its place.
pub fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "a fault in the server; the log says where",
    )
    .into_response()
}
