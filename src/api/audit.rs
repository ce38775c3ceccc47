//! `/audit`.

use super::{
    Problem,
    certificates::Paging,
    extract::Caller,
    shapes::{EventShape, List},
};
use crate::app::App;
use axum::{
    Json,
    extract::{Query, State},
};
use std::sync::Arc;

/// Events, newest first.
#[utoipa::path(
    get,
    path = "/audit",
    params(Paging),
    responses((status = 200, body = List<EventShape>)),
    security(("key" = ["audit.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<List<EventShape>>, Problem> {
    let (page, per_page) = paging.numbers();
    let newest = app.events(&who, u64::MAX, 1).await?;
    let total = newest.first().map_or(0, |e| e.number);
    let skipped = (page - 1).saturating_mul(per_page) as u64;
    let rows = match total.checked_sub(skipped) {
        Some(last) => app.events(&who, last + 1, per_page).await?,
        None => Vec::new(),
    };
    let data = rows.iter().map(EventShape::from).collect();
    Ok(Json(List::numbered(data, Some(total), (page, per_page))))
}
