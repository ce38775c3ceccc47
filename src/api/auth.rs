//! `/auth`: who one is, and the browser sessions that are open.

use super::{
    Problem,
    extract::{Caller, id_in_path},
    shapes::{
        AuthInfoShape, CheckShape, MeShape, PermissionShape, PermissionsShape, ProgramShape,
        SessionShape, SessionsEndedShape, SessionsShape, permission_id,
    },
};
use crate::{
    access::Permission,
    app::{App, SessionsOf, VERSION},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// What runs here.
#[utoipa::path(
    get,
    path = "/version",
    responses((status = 200, body = ProgramShape)),
    security(()),
)]
pub async fn version() -> Json<ProgramShape> {
    Json(ProgramShape {
        version: VERSION.into(),
        commit: String::new(),
        modified: false,
        build_time: String::new(),
        go_version: String::new(),
    })
}

/// How one signs in.
#[utoipa::path(
    get,
    path = "/auth/info",
    responses((status = 200, body = AuthInfoShape)),
    security(()),
)]
pub async fn info() -> Json<AuthInfoShape> {
    Json(AuthInfoShape {
        auth_type: "api-key".into(),
        required: true,
    })
}

/// Whether one is let in, and as whom.
#[utoipa::path(
    get,
    path = "/auth/check",
    responses((status = 200, body = CheckShape)),
    security(("key" = [])),
)]
pub async fn check(Caller(who): Caller) -> Json<CheckShape> {
    Json(CheckShape::from(&who))
}

/// Who one is.
#[utoipa::path(
    get,
    path = "/auth/me",
    responses((status = 200, body = MeShape)),
    security(("key" = [])),
)]
pub async fn me(Caller(who): Caller) -> Json<MeShape> {
    Json(MeShape::from(&who))
}

/// The catalogue of permissions.
#[utoipa::path(
    get,
    path = "/auth/permissions",
    responses((status = 200, body = PermissionsShape)),
    security(("key" = [])),
)]
pub async fn permissions(Caller(_who): Caller) -> Json<PermissionsShape> {
    let permissions = Permission::ALL
        .into_iter()
        .map(|permission| PermissionShape {
            id: permission_id(permission.as_str()),
            name: permission.as_str().into(),
            namespace: permission.namespace().into(),
        });
    Json(PermissionsShape {
        permissions: permissions.collect(),
    })
}

/// Whose sessions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
pub struct Whose {
    /// Those of the key with this name.
    actor_id: Option<String>,
    /// Everybody's.
    all: bool,
}

/// Browser sessions: the caller's own, or by permission others'.
#[utoipa::path(
    get,
    path = "/auth/sessions",
    params(Whose),
    responses((status = 200, body = SessionsShape)),
    security(("key" = [])),
)]
pub async fn sessions(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(whose): Query<Whose>,
) -> Result<Json<SessionsShape>, Problem> {
    let of = match whose.actor_id.as_deref().filter(|actor| !actor.is_empty()) {
        Some(actor) => SessionsOf::Actor(actor),
        None if whose.all => SessionsOf::All,
        None => SessionsOf::Own,
    };
    let sessions = app.sessions(&who, of).await?;
    Ok(Json(SessionsShape {
        sessions: sessions.iter().map(SessionShape::from).collect(),
    }))
}

/// Ends a session.
#[utoipa::path(
    delete,
    path = "/auth/sessions/{id}",
    params(("id" = String, Path, description = "The session's id")),
    responses((status = 204, description = "It has ended")),
    security(("key" = ["auth.session.revoke"])),
)]
pub async fn end_session(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("session", &id)?;
    app.end_session(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which sessions stay.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
pub struct Except {
    /// `current`.
    except: Option<String>,
}

/// Ends all of the caller's sessions but the one it came with.
#[utoipa::path(
    delete,
    path = "/auth/sessions",
    params(Except),
    responses((status = 200, body = SessionsEndedShape)),
    security(("key" = [])),
)]
pub async fn end_other_sessions(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(Except { except }): Query<Except>,
) -> Result<Json<SessionsEndedShape>, Problem> {
    if except.as_deref() != Some("current") {
        let message = "say except=current: all of your sessions but this one are ended";
        return Err(Problem::bad("except", message));
    }
    let revoked_count = app.end_other_sessions(&who).await?;
    Ok(Json(SessionsEndedShape { revoked_count }))
}
