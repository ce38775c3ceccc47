//! What is served where, now; and what agents found.

use super::{
    Problem,
    extract::{AgentBody, Caller, id_in_path},
    shapes::StatusShape,
};
use crate::{
    agent::protocol::Observations,
    app::{App, ServedAt, ServedNow},
};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What a certificate's places serve.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ServedNow)]
pub struct ServedShape {
    /// Whether all of it was seen since it was asked for; always, where nobody was asked to look.
    pub fresh: bool,
    /// Place by place.
    pub data: Vec<PlaceShape>,
    /// How many.
    pub total: usize,
}

/// What one place serves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Place)]
pub struct PlaceShape {
    /// The target.
    pub target_id: String,
    /// Its name.
    pub target_name: String,
    /// `host:port`, or the path of a directory of files; absent where nobody has looked, and of
    /// what is wrong on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The serial number of what is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// `this_version`, `changed`, `other_version`, `other_certificate`, `nothing` or `not_seen`.
    pub state: String,
    /// Since when it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// When somebody last looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub seen_at: Option<String>,
    /// Why nothing was seen, or what is not as it was put on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<ServedNow> for ServedShape {
    fn from(served: ServedNow) -> Self {
        let data: Vec<_> = served.places.into_iter().map(PlaceShape::from).collect();
        Self {
            fresh: served.fresh,
            total: data.len(),
            data,
        }
    }
}

impl From<ServedAt> for PlaceShape {
    fn from(place: ServedAt) -> Self {
        Self {
            target_id: place.target.to_string(),
            target_name: place.target_name,
            endpoint: place.endpoint,
            serial_number: place.serial,
            state: place.state.as_str().into(),
            since: place.since.map(|at| at.to_string()),
            seen_at: place.seen_at.map(|at| at.to_string()),
            error: place.fault,
        }
    }
}

/// What was last seen.
#[utoipa::path(
    get,
    path = "/certificates/{id}/served",
    operation_id = "served",
    responses((status = 200, body = ServedShape)),
    security(("key" = ["cert.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<ServedShape>, Problem> {
    let id = id_in_path("certificate", &id)?;
    Ok(Json(app.served(&who, &id).await?.into()))
}

/// Has the agents look, and waits a few seconds for that.
#[utoipa::path(
    post,
    path = "/certificates/{id}/check",
    responses((status = 200, body = ServedShape)),
    security(("key" = ["cert.read"])),
)]
pub async fn check(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<ServedShape>, Problem> {
    let id = id_in_path("certificate", &id)?;
    Ok(Json(app.check_served(&who, &id).await?.into()))
}

/// Takes what an agent found.
#[utoipa::path(
    post,
    path = "/agents/{id}/observations",
    request_body = Observations,
    responses((status = 200, body = StatusShape)),
    security(("agent" = [])),
)]
pub async fn observe(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    AgentBody(found): AgentBody<Observations>,
) -> Result<Json<StatusShape>, Problem> {
    let id = id_in_path("agent", &id)?;
    app.observe(&who, &id, &found).await?;
    Ok(Json(StatusShape::new("updated")))
}
