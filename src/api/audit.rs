//! `/audit`.

use super::{
    Problem,
    extract::Caller,
    pages::Pages,
    shapes::{EventShape, List},
};
use crate::app::App;
use axum::{
    extract::{Query, State},
    response::Response,
};
use std::sync::Arc;

/// Events, newest first.
#[utoipa::path(
    get,
    path = "/audit",
    params(Pages),
    responses((status = 200, body = List<EventShape>)),
    security(("key" = ["audit.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let place = pages.place();
    let newest = app.events(&who, u64::MAX, 1).await?;
    let total = newest.first().map_or(0, |e| e.number);
    let rows = match total.checked_sub(place.skip as u64) {
        Some(last) => app.events(&who, last + 1, place.limit).await?,
        None => Vec::new(),
    };
    let data = rows.iter().map(EventShape::from).collect();
    Ok(pages.answer(place.list(data, Some(total), None)))
}
