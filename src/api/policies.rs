//! `/policies`.

use super::{
    Problem,
    certificates::{Paging, given},
    extract::{Body, Caller, Edit, id_in_path, optional_id},
    shapes::{List, RuleShape, RuleWish, ViolationShape},
};
use crate::{app::App, domain::PolicyRule};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Every policy rule, by name.
#[utoipa::path(
    get,
    path = "/policies",
    params(Paging),
    responses((status = 200, body = List<RuleShape>)),
    security(("key" = ["policy.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<List<RuleShape>>, Problem> {
    let (page, per_page) = paging.numbers();
    let skip = (page - 1).saturating_mul(per_page);
    let listed = app.configured::<PolicyRule>(&who, skip, per_page).await?;
    let data = listed.rows.iter().map(|row| RuleShape::from(&**row));
    let list = List::numbered(data.collect(), listed.total, (page, per_page));
    Ok(Json(list))
}

/// Makes a policy rule.
#[utoipa::path(
    post,
    path = "/policies",
    request_body = RuleWish,
    responses((status = 201, body = RuleShape)),
    security(("key" = ["policy.edit"])),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Body(wish): Body<RuleWish>,
) -> Result<Response, Problem> {
    let id = optional_id("id", wish.id.as_ref())?;
    let new = |id, now| wish.onto(PolicyRule::new(id, wish.wants()?, now));
    let made = app.configure::<PolicyRule>(&who, id.as_ref(), new).await?;
    Ok((StatusCode::CREATED, Json(RuleShape::from(&made))).into_response())
}

/// One policy rule.
#[utoipa::path(
    get,
    path = "/policies/{id}",
    responses((status = 200, body = RuleShape)),
    security(("key" = ["policy.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<RuleShape>, Problem> {
    let id = id_in_path("policy rule", &id)?;
    let row = app.configuration::<PolicyRule>(&who, &id).await?;
    Ok(Json(RuleShape::from(&*row)))
}

/// Edits a policy rule: what is absent stays as it is.
#[utoipa::path(
    put,
    path = "/policies/{id}",
    request_body = RuleWish,
    responses((status = 200, body = RuleShape)),
    security(("key" = ["policy.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Edit(wish): Edit<RuleWish>,
) -> Result<Json<RuleShape>, Problem> {
    let id = id_in_path("policy rule", &id)?;
    let row = app
        .reconfigure::<PolicyRule>(&who, &id, &|old| wish.onto(old))
        .await?;
    Ok(Json(RuleShape::from(&*row)))
}

/// Deletes a policy rule that nothing refers to.
#[utoipa::path(
    delete,
    path = "/policies/{id}",
    responses((status = 204, description = "Deleted")),
    security(("key" = ["policy.delete"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("policy rule", &id)?;
    app.unconfigure::<PolicyRule>(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which violations, from where on.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ViolationQuery {
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// The page, from 1.
    #[param(value_type = Option<u32>, minimum = 1)]
    page: Option<String>,
    /// Rows a page, 50 where this is none of 1 to 500.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    per_page: Option<String>,
}

/// Certificates that are not as a rule wants them, the newest first. They are looked for as they
/// are asked for: a page may be short, or empty, while `next_cursor` says that there is more.
#[utoipa::path(
    get,
    path = "/policies/{id}/violations",
    params(ViolationQuery),
    responses((status = 200, body = List<ViolationShape>)),
    security(("key" = ["policy.read"])),
)]
pub async fn violations(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(query): Query<ViolationQuery>,
) -> Result<Json<List<ViolationShape>>, Problem> {
    let id = id_in_path("policy rule", &id)?;
    let cursor = given(query.cursor);
    let (page, per_page) = Paging::new(query.page, query.per_page).numbers();
    let skip = match cursor {
        Some(_) => 0,
        None => (page - 1).saturating_mul(per_page),
    };
    let found = app
        .violations(&who, &id, (skip, per_page), cursor.as_deref())
        .await?;
    let rows = found.rows.iter();
    let data = rows.map(|v| ViolationShape::new(v, &id, found.severity));
    let mut list = List::numbered(data.collect(), found.total, (page, per_page));
    if cursor.is_some() {
        (list.page, list.per_page, list.page_size) = (None, None, Some(per_page));
    }
    list.next_cursor = found.next;
    Ok(Json(list))
}
