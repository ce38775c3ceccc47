//! `/storage`: how much room the store takes.

use super::{Problem, extract::Caller, shapes::StorageShape};
use crate::app::App;
use axum::{Json, extract::State};
use std::sync::Arc;

/// How much room the store takes, and will take. It is counted when somebody asks, once an hour at
/// most: while `counting` is true, another call tells more.
#[utoipa::path(
    get,
    path = "/storage",
    operation_id = "storage",
    responses((status = 200, body = StorageShape)),
    security(("key" = ["metrics.read"])),
)]
pub async fn state(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<StorageShape>, Problem> {
    Ok(Json(StorageShape::of(app.storage(&who)?, app.kept_days())))
}
