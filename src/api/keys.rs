//! `/auth/keys`.

use super::{
    Problem,
    extract::{Body, Caller, New, OptionalBody},
    shapes::{GrantWish, KeyMadeShape, KeyNew, KeyShape, KeysShape, Rotate, ScopeWish},
};
use crate::{
    app::{App, NewGrant, NewKey},
    clock::Time,
    domain::Scope,
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::{sync::Arc, time::Duration};

/// Every key.
#[utoipa::path(
    get,
    path = "/auth/keys",
    responses((status = 200, body = KeysShape)),
    security(("key" = ["auth.key.list"])),
)]
pub async fn keys(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<KeysShape>, Problem> {
    let keys = app.keys(&who).await?;
    Ok(Json(KeysShape {
        keys: keys.iter().map(KeyShape::from).collect(),
        configuration_error: app.keys_fault(&who)?,
    }))
}

/// Makes a key.
#[utoipa::path(
    post,
    path = "/auth/keys",
    request_body = KeyNew,
    responses((status = 201, body = KeyMadeShape)),
    security(("key" = ["auth.key.create"])),
)]
pub async fn create_key(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    New(new, once): New<KeyNew>,
) -> Result<Response, Problem> {
    let new = NewKey {
        name: new.name,
        roles: new.role_ids,
        expires_at: moment("expires_at", new.expires_at.as_deref())?,
    };
    let made = app.create_key(&who, &new, once.as_ref()).await?;
    Ok((StatusCode::CREATED, Json(KeyMadeShape::from(&made))).into_response())
}

/// One key, by id or name.
#[utoipa::path(
    get,
    path = "/auth/keys/{id}",
    params(("id" = String, Path, description = "The key's id or name")),
    responses((status = 200, body = KeyShape)),
    security(("key" = ["auth.key.list"])),
)]
pub async fn key(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<KeyShape>, Problem> {
    let key = app.find_key(&who, &id).await?;
    Ok(Json(KeyShape::from(&key)))
}

/// Gives a key a new secret.
#[utoipa::path(
    post,
    path = "/auth/keys/{id}/rotate",
    params(("id" = String, Path, description = "The key's id or name")),
    request_body = Option<Rotate>,
    responses((status = 200, body = KeyMadeShape)),
    security(("key" = ["auth.key.rotate"])),
)]
pub async fn rotate_key(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    OptionalBody(wish): OptionalBody<Rotate>,
) -> Result<Json<KeyMadeShape>, Problem> {
    let overlap = Duration::from_secs(wish.overlap_seconds);
    let made = app.rotate_key(&who, &id, overlap).await?;
    Ok(Json(KeyMadeShape::from(&made)))
}

/// Ends a key.
#[utoipa::path(
    delete,
    path = "/auth/keys/{id}",
    params(("id" = String, Path, description = "The key's id or name")),
    responses((status = 204, description = "It has ended")),
    security(("key" = ["auth.key.delete"])),
)]
pub async fn delete_key(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    app.delete_key(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Grants a role to a key.
#[utoipa::path(
    post,
    path = "/auth/keys/{id}/roles",
    params(("id" = String, Path, description = "The key's id or name")),
    request_body = GrantWish,
    responses((status = 204, description = "It is granted")),
    security(("key" = ["auth.role.assign"])),
)]
pub async fn grant_role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Body(wish): Body<GrantWish>,
) -> Result<StatusCode, Problem> {
    if wish.role_id.is_empty() {
        return Err(Problem::bad("role_id", "the id of a role is required"));
    }
    let new = NewGrant {
        role: wish.role_id,
        scope: scope(wish.scope_type, wish.scope_id)?.unwrap_or(Scope::Global),
        expires_at: moment("expires_at", wish.expires_at.as_deref())?,
    };
    app.grant_role(&who, &id, &new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a role from a key.
#[utoipa::path(
    delete,
    path = "/auth/keys/{id}/roles/{role}",
    params(("id" = String, Path, description = "The key's id or name"),
        ("role" = String, Path, description = "The role's id or name"),
        ScopeWish,
    ),
    responses((status = 204, description = "It is taken away")),
    security(("key" = ["auth.role.revoke"])),
)]
pub async fn ungrant_role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id, role)): Path<(String, String)>,
    Query(wish): Query<ScopeWish>,
) -> Result<StatusCode, Problem> {
    let (role, wish) = with_query(&role, wish);
    let scope = scope(wish.scope_type, wish.scope_id)?;
    app.ungrant_role(&who, &id, &role, scope.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn scope(
    scope_type: Option<String>,
    scope_id: Option<String>,
) -> Result<Option<Scope>, Problem> {
    let wish = ScopeWish {
        scope_type,
        scope_id,
    };
    wish.scope().map_err(|(field, e)| Problem::bad(field, e))
}

fn moment(field: &'static str, text: Option<&str>) -> Result<Option<Time>, Problem> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(|e| Problem::bad(field, e)))
        .transpose()
}

/// A query that a client has put, percent-encoded, into the last part of the path.
pub(super) fn with_query(last: &str, wish: ScopeWish) -> (String, ScopeWish) {
    let Some((last, query)) = last.split_once('?') else {
        return (last.to_owned(), wish);
    };
    let mut wish = wish;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "scope_type" => wish.scope_type = Some(value.into_owned()),
            "scope_id" => wish.scope_id = Some(value.into_owned()),
            _ => {}
        }
    }
    (last.to_owned(), wish)
}
