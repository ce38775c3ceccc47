//! `/auth/keys` and `/auth/roles`.

use super::{
    Problem,
    extract::{Body, Caller, OptionalBody},
    shapes::{
        GrantWish, KeyMadeShape, KeyNew, KeyShape, KeysShape, PermissionWish, RoleDetailShape,
        RoleShape, RoleWish, RolesShape, Rotate, ScopeWish,
    },
};
use crate::{
    access::Permission,
    app::{App, AppError, NewGrant, NewKey, RoleEdit},
    clock::Time,
    domain::{RolePermission, Scope},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::{sync::Arc, time::Duration};

/// Every key.
pub async fn list(
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
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Body(new): Body<KeyNew>,
) -> Result<Response, Problem> {
    let new = NewKey {
        name: new.name,
        roles: new.role_ids,
        expires_at: moment("expires_at", new.expires_at.as_deref())?,
    };
    let made = app.create_key(&who, &new).await?;
    Ok((StatusCode::CREATED, Json(KeyMadeShape::from(&made))).into_response())
}

/// One key, by id or name.
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<KeyShape>, Problem> {
    let key = app.find_key(&who, &id).await?;
    Ok(Json(KeyShape::from(&key)))
}

/// Gives a key a new secret.
pub async fn rotate(
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
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    app.delete_key(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Grants a role to a key.
pub async fn grant(
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
pub async fn ungrant(
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

/// Every role.
pub async fn roles(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<RolesShape>, Problem> {
    let roles = app.roles(&who).await?;
    Ok(Json(RolesShape {
        roles: roles.iter().map(RoleShape::from).collect(),
    }))
}

/// Makes a role.
pub async fn create_role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Body(wish): Body<RoleWish>,
) -> Result<Response, Problem> {
    let role = app.create_role(&who, &edit(wish)?).await?;
    Ok((StatusCode::CREATED, Json(RoleShape::from(&role))).into_response())
}

/// One role, by id or name, and what it holds.
pub async fn role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<RoleDetailShape>, Problem> {
    let role = app.role(&who, &id).await?;
    Ok(Json(RoleDetailShape::from(&role)))
}

/// Edits a role.
pub async fn edit_role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Body(wish): Body<RoleWish>,
) -> Result<Json<RoleShape>, Problem> {
    let role = app.edit_role(&who, &id, &edit(wish)?).await?;
    Ok(Json(RoleShape::from(&role)))
}

/// Deletes a role.
pub async fn delete_role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    app.delete_role(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a role a permission.
pub async fn add_permission(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Body(wish): Body<PermissionWish>,
) -> Result<StatusCode, Problem> {
    let added = permission(wish, "permission")?;
    app.add_permission(&who, &id, &added).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a permission from a role.
pub async fn remove_permission(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id, name)): Path<(String, String)>,
    Query(wish): Query<ScopeWish>,
) -> Result<StatusCode, Problem> {
    let (name, wish) = with_query(&name, wish);
    let permission: Permission = name.parse().map_err(|_| AppError::NotFound {
        kind: "permission",
        id: name,
    })?;
    let scope = scope(wish.scope_type, wish.scope_id)?.unwrap_or(Scope::Global);
    let removed = RolePermission { permission, scope };
    app.remove_permission(&who, &id, &removed).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn edit(wish: RoleWish) -> Result<RoleEdit, Problem> {
    let each = |wishes: Vec<PermissionWish>| {
        let each = wishes.into_iter();
        each.map(|wish| permission(wish, "permissions")).collect()
    };
    Ok(RoleEdit {
        name: wish.name,
        description: wish.description,
        permissions: wish.permissions.map(each).transpose()?,
    })
}

fn permission(wish: PermissionWish, field: &str) -> Result<RolePermission, Problem> {
    let permission = wish.permission.parse();
    Ok(RolePermission {
        permission: permission.map_err(|e| Problem::bad(field, e))?,
        scope: scope(wish.scope_type, wish.scope_id)?.unwrap_or(Scope::Global),
    })
}

fn scope(scope_type: Option<String>, scope_id: Option<String>) -> Result<Option<Scope>, Problem> {
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
fn with_query(last: &str, wish: ScopeWish) -> (String, ScopeWish) {
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
