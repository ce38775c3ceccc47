//! What handlers take from a request: who calls, the body, the words of the path.

use super::{Problem, router::MAX_BODY};
use crate::{
    app::{App, AppError, Credential},
    domain::Principal,
    id::Id,
    net::Peer,
};
use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;
use std::{error::Error, sync::Arc};
use tower_http::timeout::TimeoutError;

/// The cookie of a browser session. `__Host-`: only over TLS, only for this host, only by us.
pub const SESSION_COOKIE: &str = "__Host-certctl_session";

/// The caller, authenticated.
pub struct Caller(pub Principal);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let credential = credential(parts)?;
        Ok(Self(app.authenticate(credential).await?))
    }
}

fn credential(parts: &Parts) -> Result<Credential<'_>, Problem> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(bearer);
        return token.map(Credential::Bearer).ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "Invalid Authorization header format, expected: Bearer <token>",
            )
        });
    }
    if let Some(session) = session_cookie(&parts.headers) {
        return Ok(Credential::Session(session));
    }
    if let Some(Peer::Unix { uid }) = parts.extensions.get() {
        return Ok(Credential::Local(*uid));
    }
    Err(AppError::Unauthenticated("Authorization header required").into())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The session cookie's value.
pub fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(cookie::Cookie::split_parse)
        .filter_map(Result::ok)
        .find(|cookie| cookie.name() == SESSION_COOKIE)
        .and_then(|cookie| cookie.value_raw())
}

/// A JSON body. Unknown fields are ignored and the content type is not asked for.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        object(&whole(request, state).await?).map(Self)
    }
}

/// A JSON body as [`Body`] reads it, or none at all.
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match whole(request, state).await? {
            none if none.is_empty() => Ok(Self(T::default())),
            bytes => object(&bytes).map(Self),
        }
    }
}

async fn whole<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    // What says that it is too long is not waited for.
    let said = request.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    let read = Bytes::from_request(request, state).await;
    read.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ if is_pause(&e) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body: nothing more of it came for 10 seconds; send it again",
        ),
        status => {
            let message = "body: it ended early, or its length or chunks are wrong";
            Problem::new(status, message)
        }
    })
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body: at most 1 MiB is accepted, 4 KiB to enrol",
    )
}

/// Whether a body was given up because nothing more of it came.
fn is_pause(e: &BytesRejection) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(e);
    while let Some(e) = cause {
        if e.is::<TimeoutError>() {
            return true;
        }
        cause = e.source();
    }
    false
}

fn object<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    // A struct would also be read from a list, field by field.
    if bytes.trim_ascii_start().first().is_some_and(|b| *b != b'{') {
        return Err(Problem::bad("body", "a JSON object is expected"));
    }
    let Json(value) = Json::<T>::from_bytes(bytes)
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    Ok(value)
}

/// An id out of a path: a text that is no id names nothing.
pub fn id_in_path(kind: &'static str, text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(64).collect();
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no {kind} {text:?}: that is no id"),
        )
    })
}

/// An id out of a field.
pub fn id_in_field(field: &'static str, text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|e| Problem::bad(field, e))
}

/// As [`id_in_field`], where the field may be absent or empty.
pub fn optional_id(field: &'static str, text: Option<&String>) -> Result<Option<Id>, Problem> {
    text.filter(|t| !t.is_empty())
        .map(|t| id_in_field(field, t))
        .transpose()
}
