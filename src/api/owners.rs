//! `/owners`.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{Caller, Edit, New, id_in_path, optional_id},
    pages::Pages,
    shapes::{List, OwnerShape, OwnerWish},
};
use crate::{app::App, domain::Owner};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Every owner, by name.
#[utoipa::path(
    get,
    path = "/owners",
    params(Pages),
    responses((status = 200, body = List<OwnerShape>)),
    security(("key" = ["owner.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let place = pages.place();
    let rows = (place.skip, place.limit);
    let (listed, next) = app.configured::<Owner>(&who, place.cursor, rows).await?;
    let data = listed.rows.iter().map(|row| OwnerShape::from(&**row));
    Ok(pages.answer(place.list(data.collect(), listed.total, next)))
}

/// Makes an owner.
#[utoipa::path(
    post,
    path = "/owners",
    request_body = OwnerWish,
    responses((status = 201, body = OwnerShape)),
    security(("key" = ["owner.edit"])),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    New(wish, once): New<OwnerWish>,
) -> Result<Response, Problem> {
    let id = optional_id("id", wish.id.as_ref())?;
    let new = |id, now| wish.onto(Owner::new(id, now));
    let made = app
        .configure::<Owner>(&who, id.as_ref(), once.as_ref(), new)
        .await?;
    Ok((StatusCode::CREATED, Json(OwnerShape::from(&made))).into_response())
}

/// One owner.
#[utoipa::path(
    get,
    path = "/owners/{id}",
    responses((status = 200, body = OwnerShape)),
    security(("key" = ["owner.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Versioned<OwnerShape>, Problem> {
    let id = id_in_path("owner", &id)?;
    let row = app.configuration::<Owner>(&who, &id).await?;
    Ok(Versioned::new(row.version(), OwnerShape::from(&*row)))
}

/// Edits an owner: what is absent stays as it is.
#[utoipa::path(
    put,
    path = "/owners/{id}",
    request_body = OwnerWish,
    responses((status = 200, body = OwnerShape), (status = 412)),
    security(("key" = ["owner.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Edit(wish): Edit<OwnerWish>,
) -> Result<Versioned<OwnerShape>, Problem> {
    let id = id_in_path("owner", &id)?;
    let row = app
        .reconfigure::<Owner>(&who, &id, &expected, &|old| wish.onto(old))
        .await?;
    Ok(Versioned::new(row.version(), OwnerShape::from(&*row)))
}

/// Deletes an owner that nothing refers to.
#[utoipa::path(
    delete,
    path = "/owners/{id}",
    responses((status = 204, description = "Deleted"), (status = 412)),
    security(("key" = ["owner.delete"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("owner", &id)?;
    app.unconfigure::<Owner>(&who, &id, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}
