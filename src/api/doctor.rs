//! `/doctor`: a look at the whole installation.

use super::{
    Problem,
    extract::{Body, Caller},
    shapes::{DoctorStateShape, LookShape},
};
use crate::app::App;
use axum::{Json, extract::State, http::StatusCode};
use std::sync::Arc;

/// Whether the doctor looks, and what it found last.
#[utoipa::path(
    get,
    path = "/doctor",
    operation_id = "doctor",
    responses((status = 200, body = DoctorStateShape)),
    security(("key" = ["doctor.run"])),
)]
pub async fn state(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<DoctorStateShape>, Problem> {
    Ok(Json(app.doctor_state(&who)?.into()))
}

/// Begins a look, which changes nothing; while another goes on, that is the one. What it found is answered by a `GET` of the same path.
#[utoipa::path(
    post,
    path = "/doctor",
    operation_id = "start_doctor",
    request_body = LookShape,
    responses((status = 202, body = DoctorStateShape)),
    security(("key" = ["doctor.run"])),
)]
pub async fn start(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Body(look): Body<LookShape>,
) -> Result<(StatusCode, Json<DoctorStateShape>), Problem> {
    let state = app.start_doctor(&who, look.quick)?;
    Ok((StatusCode::ACCEPTED, Json(state.into())))
}
