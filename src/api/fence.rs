//! What a server that was restored from a backup does not do yet.

use super::Problem;
use crate::app::{App, AppError};
use axum::{
    extract::Request,
    http::Method,
    response::{IntoResponse, Response},
};

/// While the fence stands only these change anything: people sign in and out, agents say what they
/// see, backups are made, and the fence is lifted.
const ALLOWED: &[(Method, &str)] = &[
    (Method::POST, "/login"),
    (Method::POST, "/logout"),
    (Method::POST, "/auth/logout"),
    (Method::DELETE, "/api/v1/auth/sessions"),
    (Method::DELETE, "/api/v1/auth/sessions/*"),
    (Method::POST, "/api/v1/agents/*/observations"),
    (Method::POST, "/api/v1/agents/*/credential"),
    (Method::POST, "/api/v1/certificates/*/check"),
    (Method::POST, "/api/v1/audit/verify"),
    (Method::POST, "/api/v1/backups"),
    (Method::POST, "/api/v1/doctor"),
    (Method::POST, "/api/v1/restore/unfence"),
];

/// The answer to a change while the fence stands; the caller may try again later.
pub fn refusal(app: &App, request: &Request) -> Option<Response> {
    let refused = app.is_fenced() && !allowed(request.method(), request.uri().path());
    refused.then(|| Problem::from(AppError::Fenced).into_response())
}

fn allowed(method: &Method, path: &str) -> bool {
    method.is_safe() || ALLOWED.iter().any(|(m, p)| m == method && matches(p, path))
}

/// Whether a path is of a pattern, in which `*` stands for one part.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}
