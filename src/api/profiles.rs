//! `/profiles`.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{Caller, Edit, New, id_in_path, optional_id},
    pages::Pages,
    shapes::{List, ProfileShape, ProfileWish, ReplanShape},
};
use crate::{
    app::App,
    domain::{Edited, Profile},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Every profile, by name.
#[utoipa::path(
    get,
    path = "/profiles",
    params(Pages),
    responses((status = 200, body = List<ProfileShape>)),
    security(("key" = ["profile.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let place = pages.place();
    let rows = (place.skip, place.limit);
    let (listed, next) = app.configured::<Profile>(&who, place.cursor, rows).await?;
    let data = listed.rows.iter().map(|row| ProfileShape::from(&**row));
    Ok(pages.answer(place.list(data.collect(), listed.total, next)))
}

/// Makes a profile.
#[utoipa::path(
    post,
    path = "/profiles",
    request_body = ProfileWish,
    responses((status = 201, body = ProfileShape)),
    security(("key" = ["profile.edit"])),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    New(wish, once): New<ProfileWish>,
) -> Result<Response, Problem> {
    let id = optional_id("id", wish.id.as_ref())?;
    let new = |id, now| wish.onto(Profile::new(id, now));
    let made = app
        .configure::<Profile>(&who, id.as_ref(), once.as_ref(), new)
        .await?;
    Ok((StatusCode::CREATED, Json(ProfileShape::from(&made))).into_response())
}

/// One profile.
#[utoipa::path(
    get,
    path = "/profiles/{id}",
    responses((status = 200, body = ProfileShape)),
    security(("key" = ["profile.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Versioned<ProfileShape>, Problem> {
    let id = id_in_path("profile", &id)?;
    let row = app.configuration::<Profile>(&who, &id).await?;
    let mut shape = ProfileShape::from(&*row);
    let edited = Edited::Profile(id);
    shape.replan = app
        .replanning(&who, &edited)
        .await?
        .as_ref()
        .map(ReplanShape::from);
    Ok(Versioned::new(row.version(), shape))
}

/// Edits a profile: what is absent stays as it is.
#[utoipa::path(
    put,
    path = "/profiles/{id}",
    request_body = ProfileWish,
    responses((status = 200, body = ProfileShape), (status = 412)),
    security(("key" = ["profile.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Edit(wish): Edit<ProfileWish>,
) -> Result<Versioned<ProfileShape>, Problem> {
    let id = id_in_path("profile", &id)?;
    let row = app
        .reconfigure::<Profile>(&who, &id, &expected, &|old| wish.onto(old))
        .await?;
    Ok(Versioned::new(row.version(), ProfileShape::from(&*row)))
}

/// Deletes a profile that nothing refers to.
#[utoipa::path(
    delete,
    path = "/profiles/{id}",
    responses((status = 204, description = "Deleted"), (status = 412)),
    security(("key" = ["profile.delete"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("profile", &id)?;
    app.unconfigure::<Profile>(&who, &id, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}
