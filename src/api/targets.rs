//! `/targets`.

use super::{
    Problem,
    certificates::Paging,
    extract::{Body, Caller, id_in_field, id_in_path, optional_id},
    shapes::{List, TargetNew, TargetShape},
};
use crate::app::{App, NewTarget, lists::REACH};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Every target, by name.
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<List<TargetShape>>, Problem> {
    let rows = app.targets(&who, REACH).await?;
    Ok(Json(paging.list(&rows, |t| TargetShape::from(&**t))))
}

/// Makes a target.
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Body(new): Body<TargetNew>,
) -> Result<Response, Problem> {
    let new = NewTarget {
        id: optional_id("id", new.id.as_ref())?,
        agent: id_in_field("agent_id", &new.agent_id)?,
        name: new.name,
        kind: new.kind,
        config: new.config,
    };
    let target = app.create_target(&who, &new).await?;
    Ok((StatusCode::CREATED, Json(TargetShape::from(&target))).into_response())
}

/// One target.
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<TargetShape>, Problem> {
    let id = id_in_path("target", &id)?;
    let target = app.target(&who, &id).await?;
    Ok(Json(TargetShape::from(&*target)))
}
