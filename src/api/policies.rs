//! `/policies`.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{Caller, Edit, New, id_in_path, optional_id},
    pages::Pages,
    shapes::{List, RuleShape, RuleWish, ViolationShape},
};
use crate::{app::App, domain::PolicyRule};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Every policy rule, by name.
#[utoipa::path(
    get,
    path = "/policies",
    params(Pages),
    responses((status = 200, body = List<RuleShape>)),
    security(("key" = ["policy.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let place = pages.place();
    let rows = (place.skip, place.limit);
    let (listed, next) = app
        .configured::<PolicyRule>(&who, place.cursor, rows)
        .await?;
    let data = listed.rows.iter().map(|row| RuleShape::from(&**row));
    Ok(pages.answer(place.list(data.collect(), listed.total, next)))
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
    New(wish, once): New<RuleWish>,
) -> Result<Response, Problem> {
    let id = optional_id("id", wish.id.as_ref())?;
    let new = |id, now| wish.onto(PolicyRule::new(id, wish.wants()?, now));
    let made = app
        .configure::<PolicyRule>(&who, id.as_ref(), once.as_ref(), new)
        .await?;
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
) -> Result<Versioned<RuleShape>, Problem> {
    let id = id_in_path("policy rule", &id)?;
    let row = app.configuration::<PolicyRule>(&who, &id).await?;
    Ok(Versioned::new(row.version(), RuleShape::from(&*row)))
}

/// Edits a policy rule: what is absent stays as it is.
#[utoipa::path(
    put,
    path = "/policies/{id}",
    request_body = RuleWish,
    responses((status = 200, body = RuleShape), (status = 412)),
    security(("key" = ["policy.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Edit(wish): Edit<RuleWish>,
) -> Result<Versioned<RuleShape>, Problem> {
    let id = id_in_path("policy rule", &id)?;
    let row = app
        .reconfigure::<PolicyRule>(&who, &id, &expected, &|old| wish.onto(old))
        .await?;
    Ok(Versioned::new(row.version(), RuleShape::from(&*row)))
}

/// Deletes a policy rule that nothing refers to.
#[utoipa::path(
    delete,
    path = "/policies/{id}",
    responses((status = 204, description = "Deleted"), (status = 412)),
    security(("key" = ["policy.delete"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("policy rule", &id)?;
    app.unconfigure::<PolicyRule>(&who, &id, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Certificates that are not as a rule wants them, the newest first. They are looked for as they
/// are asked for: a page may be short, or empty, while `next_cursor` says that there is more.
#[utoipa::path(
    get,
    path = "/policies/{id}/violations",
    params(Pages),
    responses((status = 200, body = List<ViolationShape>)),
    security(("key" = ["policy.read"])),
)]
pub async fn violations(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let id = id_in_path("policy rule", &id)?;
    let place = pages.place();
    let found = app
        .violations(&who, &id, (place.skip, place.limit), place.cursor)
        .await?;
    let rows = found.rows.iter();
    let data = rows.map(|v| ViolationShape::new(v, &id, found.severity));
    Ok(pages.answer(place.list(data.collect(), found.total, found.next)))
}
