//! What handlers take from a request: who calls, and the words of the path.

pub(super) use super::body::{AgentBody, Body, Edit, New, OptionalBody, once_key};

use super::{Problem, limit, openapi};
use crate::{
    app::{AGENT_CREDENTIAL, App, AppError, Credential},
    domain::Principal,
    id::Id,
    net::Peer,
};
use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use std::sync::Arc;

/// The cookie of a browser session. `__Host-`: only over TLS, only for this host, only by us.
pub const SESSION_COOKIE: &str = "__Host-certctl_session";

/// The caller, authenticated.
pub struct Caller(pub Principal);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let credential = credential(parts)?;
        // Boxed: a call that waits holds no room for this.
        let who = Box::pin(app.authenticate(credential, limit::address(parts))).await?;
        Box::pin(app.admit_key(&who)).await?;
        // Before the body is read: what is wrong with it is told to those who may send one.
        let route = parts.extensions.get::<MatchedPath>();
        let needed = route.and_then(|route| openapi::needed_to_send(&parts.method, route.as_str()));
        match needed {
            Some(permission) if !who.access.allows_somewhere(permission) => {
                Err(AppError::Forbidden(permission).into())
            }
            _ => Ok(Self(who)),
        }
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

/// Whether an agent's credential is shown, good or not.
pub fn is_agent(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION);
    let token = value.and_then(|v| v.to_str().ok()).and_then(bearer);
    token.is_some_and(|token| token.starts_with(AGENT_CREDENTIAL))
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
