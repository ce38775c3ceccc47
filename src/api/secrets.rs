//! `/secrets`: the keys that seal secrets.

use super::{
    Problem,
    extract::Caller,
    shapes::{ResealedShape, SecretsShape},
};
use crate::app::App;
use axum::{Json, extract::State};
use std::sync::Arc;

/// The data keys, and how many values each has sealed.
#[utoipa::path(
    get,
    path = "/secrets",
    operation_id = "secrets",
    responses((status = 200, body = SecretsShape)),
    security(("key" = ["secrets.rotate"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<SecretsShape>, Problem> {
    Ok(Json(app.secrets(&who).await?.into()))
}

/// Makes a data key that seals from now on. What is sealed stays as it is.
#[utoipa::path(
    post,
    path = "/secrets/rotate",
    operation_id = "rotate_secrets",
    responses((status = 200, body = SecretsShape)),
    security(("key" = ["secrets.rotate"])),
)]
pub async fn rotate(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<SecretsShape>, Problem> {
    app.rotate_secrets(&who).await?;
    Ok(Json(app.secrets(&who).await?.into()))
}

/// Seals with the present data key all that is sealed with others, and drops those from the ring.
#[utoipa::path(
    post,
    path = "/secrets/reseal",
    operation_id = "reseal_secrets",
    responses((status = 200, body = ResealedShape)),
    security(("key" = ["secrets.rotate"])),
)]
pub async fn reseal(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<ResealedShape>, Problem> {
    let done = app.reseal_secrets(&who).await?;
    let keys = app.secrets(&who).await?;
    Ok(Json(ResealedShape::of(done, keys)))
}
