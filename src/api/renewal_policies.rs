//! `/renewal-policies`.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{Caller, Edit, New, id_in_path, optional_id},
    pages::Pages,
    shapes::{List, RenewalPolicyShape, RenewalPolicyWish, ReplanShape},
};
use crate::{
    app::App,
    domain::{Edited, RenewalPolicy},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Every renewal policy, by name.
#[utoipa::path(
    get,
    path = "/renewal-policies",
    params(Pages),
    responses((status = 200, body = List<RenewalPolicyShape>)),
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
        .configured::<RenewalPolicy>(&who, place.cursor, rows)
        .await?;
    let data = listed
        .rows
        .iter()
        .map(|row| RenewalPolicyShape::from(&**row));
    Ok(pages.answer(place.list(data.collect(), listed.total, next)))
}

/// Makes a renewal policy.
#[utoipa::path(
    post,
    path = "/renewal-policies",
    request_body = RenewalPolicyWish,
    responses((status = 201, body = RenewalPolicyShape)),
    security(("key" = ["policy.edit"])),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    New(wish, once): New<RenewalPolicyWish>,
) -> Result<Response, Problem> {
    let id = optional_id("id", wish.id.as_ref())?;
    let new = |id, now| wish.onto(RenewalPolicy::new(id, now));
    let made = app
        .configure::<RenewalPolicy>(&who, id.as_ref(), once.as_ref(), new)
        .await?;
    Ok((StatusCode::CREATED, Json(RenewalPolicyShape::from(&made))).into_response())
}

/// One renewal policy.
#[utoipa::path(
    get,
    path = "/renewal-policies/{id}",
    responses((status = 200, body = RenewalPolicyShape)),
    security(("key" = ["policy.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Versioned<RenewalPolicyShape>, Problem> {
    let id = id_in_path("renewal policy", &id)?;
    let row = app.configuration::<RenewalPolicy>(&who, &id).await?;
    let mut shape = RenewalPolicyShape::from(&*row);
    let edited = Edited::RenewalPolicy(id);
    shape.replan = app
        .replanning(&who, &edited)
        .await?
        .as_ref()
        .map(ReplanShape::from);
    Ok(Versioned::new(row.version(), shape))
}

/// Edits a renewal policy: what is absent stays as it is.
#[utoipa::path(
    put,
    path = "/renewal-policies/{id}",
    request_body = RenewalPolicyWish,
    responses((status = 200, body = RenewalPolicyShape), (status = 412)),
    security(("key" = ["policy.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Edit(wish): Edit<RenewalPolicyWish>,
) -> Result<Versioned<RenewalPolicyShape>, Problem> {
    let id = id_in_path("renewal policy", &id)?;
    let row = app
        .reconfigure::<RenewalPolicy>(&who, &id, &expected, &|old| wish.onto(old))
        .await?;
    Ok(Versioned::new(
        row.version(),
        RenewalPolicyShape::from(&*row),
    ))
}

/// Deletes a renewal policy that nothing refers to.
#[utoipa::path(
    delete,
    path = "/renewal-policies/{id}",
    responses((status = 204, description = "Deleted"), (status = 412)),
    security(("key" = ["policy.delete"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("renewal policy", &id)?;
    app.unconfigure::<RenewalPolicy>(&who, &id, &expected)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
