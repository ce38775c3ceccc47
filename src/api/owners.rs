//! `/owners`.

use super::{
    Problem,
    certificates::Paging,
    extract::{Body, Caller, Edit, id_in_path, optional_id},
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
    params(Paging),
    responses((status = 200, body = List<OwnerShape>)),
    security(("key" = ["owner.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<List<OwnerShape>>, Problem> {
    let (page, per_page) = paging.numbers();
    let skip = (page - 1).saturating_mul(per_page);
    let listed = app.configured::<Owner>(&who, skip, per_page).await?;
    let data = listed.rows.iter().map(|row| OwnerShape::from(&**row));
    let list = List::numbered(data.collect(), listed.total, (page, per_page));
    Ok(Json(list))
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
    Body(wish): Body<OwnerWish>,
) -> Result<Response, Problem> {
    let id = optional_id("id", wish.id.as_ref())?;
    let new = |id, now| wish.onto(Owner::new(id, now));
    let made = app.configure::<Owner>(&who, id.as_ref(), new).await?;
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
) -> Result<Json<OwnerShape>, Problem> {
    let id = id_in_path("owner", &id)?;
    let row = app.configuration::<Owner>(&who, &id).await?;
    Ok(Json(OwnerShape::from(&*row)))
}

/// Edits an owner: what is absent stays as it is.
#[utoipa::path(
    put,
    path = "/owners/{id}",
    request_body = OwnerWish,
    responses((status = 200, body = OwnerShape)),
    security(("key" = ["owner.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Edit(wish): Edit<OwnerWish>,
) -> Result<Json<OwnerShape>, Problem> {
    let id = id_in_path("owner", &id)?;
    let row = app
        .reconfigure::<Owner>(&who, &id, &|old| wish.onto(old))
        .await?;
    Ok(Json(OwnerShape::from(&*row)))
}

/// Deletes an owner that nothing refers to.
#[utoipa::path(
    delete,
    path = "/owners/{id}",
    responses((status = 204, description = "Deleted")),
    security(("key" = ["owner.delete"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("owner", &id)?;
    app.unconfigure::<Owner>(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
