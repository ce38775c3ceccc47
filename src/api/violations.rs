//! `/policies/{id}/violations`.

use super::{
    Problem,
    extract::{Caller, id_in_path},
    pages::Pages,
    shapes::{List, ViolationShape},
};
use crate::app::App;
use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use std::sync::Arc;

/// Certificates that are not as a rule wants them, the newest first. They are looked for as they
/// are asked for: a page may be short, or empty, while `next_cursor` says that there is more.
#[utoipa::path(
    get,
    path = "/policies/{id}/violations",
    operation_id = "violations",
    params(Pages),
    responses((status = 200, body = List<ViolationShape>)),
    security(("key" = ["policy.read"])),
)]
pub async fn list(
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
