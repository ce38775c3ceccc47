//! `/teams`.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{Caller, Edit, New, id_in_path, optional_id},
    pages::Pages,
    shapes::{List, TeamShape, TeamWish},
};
use crate::{app::App, domain::Team};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Every team, by name.
#[utoipa::path(
    get,
    path = "/teams",
    params(Pages),
    responses((status = 200, body = List<TeamShape>)),
    security(("key" = ["team.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let place = pages.place();
    let rows = (place.skip, place.limit);
    let (listed, next) = app.configured::<Team>(&who, place.cursor, rows).await?;
    let data = listed.rows.iter().map(|row| TeamShape::from(&**row));
    Ok(pages.answer(place.list(data.collect(), listed.total, next)))
}

/// Makes a team.
#[utoipa::path(
    post,
    path = "/teams",
    request_body = TeamWish,
    responses((status = 201, body = TeamShape)),
    security(("key" = ["team.edit"])),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    New(wish, once): New<TeamWish>,
) -> Result<Response, Problem> {
    let id = optional_id("id", wish.id.as_ref())?;
    let new = |id, now| wish.onto(Team::new(id, now));
    let made = app
        .configure::<Team>(&who, id.as_ref(), once.as_ref(), new)
        .await?;
    Ok((StatusCode::CREATED, Json(TeamShape::from(&made))).into_response())
}

/// One team.
#[utoipa::path(
    get,
    path = "/teams/{id}",
    responses((status = 200, body = TeamShape)),
    security(("key" = ["team.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Versioned<TeamShape>, Problem> {
    let id = id_in_path("team", &id)?;
    let row = app.configuration::<Team>(&who, &id).await?;
    Ok(Versioned::new(row.version(), TeamShape::from(&*row)))
}

/// Edits a team: what is absent stays as it is.
#[utoipa::path(
    put,
    path = "/teams/{id}",
    request_body = TeamWish,
    responses((status = 200, body = TeamShape), (status = 412)),
    security(("key" = ["team.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Edit(wish): Edit<TeamWish>,
) -> Result<Versioned<TeamShape>, Problem> {
    let id = id_in_path("team", &id)?;
    let row = app
        .reconfigure::<Team>(&who, &id, &expected, &|old| wish.onto(old))
        .await?;
    Ok(Versioned::new(row.version(), TeamShape::from(&*row)))
}

/// Deletes a team that nothing refers to.
#[utoipa::path(
    delete,
    path = "/teams/{id}",
    responses((status = 204, description = "Deleted"), (status = 412)),
    security(("key" = ["team.delete"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("team", &id)?;
    app.unconfigure::<Team>(&who, &id, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}
