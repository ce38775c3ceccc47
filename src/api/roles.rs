//! `/auth/roles`.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{Body, Caller, New},
    keys::{scope, with_query},
    shapes::{PermissionWish, RoleDetailShape, RoleShape, RoleWish, RolesShape, ScopeWish},
};
use crate::{
    access::Permission,
    app::{App, AppError, RoleEdit},
    domain::{RolePermission, Scope},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Every role.
#[utoipa::path(
    get,
    path = "/auth/roles",
    responses((status = 200, body = RolesShape)),
    security(("key" = ["auth.role.list"])),
)]
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
#[utoipa::path(
    post,
    path = "/auth/roles",
    request_body = RoleWish,
    responses((status = 201, body = RoleShape)),
    security(("key" = ["auth.role.create"])),
)]
pub async fn create_role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    New(wish, once): New<RoleWish>,
) -> Result<Response, Problem> {
    let role = app.create_role(&who, &edit(wish)?, once.as_ref()).await?;
    Ok((StatusCode::CREATED, Json(RoleShape::from(&role))).into_response())
}

/// One role, by id or name, and what it holds.
#[utoipa::path(
    get,
    path = "/auth/roles/{id}",
    params(("id" = String, Path, description = "The role's id or name")),
    responses((status = 200, body = RoleDetailShape)),
    security(("key" = ["auth.role.list"])),
)]
pub async fn role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Versioned<RoleDetailShape>, Problem> {
    let role = app.role(&who, &id).await?;
    Ok(Versioned::new(role.version, RoleDetailShape::from(&role)))
}

/// Edits a role.
#[utoipa::path(
    put,
    path = "/auth/roles/{id}",
    params(("id" = String, Path, description = "The role's id or name")),
    request_body = RoleWish,
    responses((status = 200, body = RoleShape), (status = 412)),
    security(("key" = ["auth.role.edit"])),
)]
pub async fn edit_role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(wish): Body<RoleWish>,
) -> Result<Versioned<RoleShape>, Problem> {
    let role = app.edit_role(&who, &id, &expected, &edit(wish)?).await?;
    Ok(Versioned::new(role.version, RoleShape::from(&role)))
}

/// Deletes a role.
#[utoipa::path(
    delete,
    path = "/auth/roles/{id}",
    params(("id" = String, Path, description = "The role's id or name")),
    responses((status = 204, description = "It is gone"), (status = 412)),
    security(("key" = ["auth.role.delete"])),
)]
pub async fn delete_role(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    app.delete_role(&who, &id, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a role a permission.
#[utoipa::path(
    post,
    path = "/auth/roles/{id}/permissions",
    params(("id" = String, Path, description = "The role's id or name")),
    request_body = PermissionWish,
    responses((status = 204, description = "It holds it")),
    security(("key" = ["auth.role.edit"])),
)]
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
#[utoipa::path(
    delete,
    path = "/auth/roles/{id}/permissions/{permission}",
    params(("id" = String, Path, description = "The role's id or name"),
        ("permission" = String, Path, description = "The permission's name"),
        ScopeWish,
    ),
    responses((status = 204, description = "It does not hold it")),
    security(("key" = ["auth.role.edit"])),
)]
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
