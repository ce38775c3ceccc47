//! `/targets`.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{Caller, Edit, New, id_in_field, id_in_path, optional_id},
    pages::Pages,
    shapes::{JobShape, List, TargetChange, TargetNew, TargetShape, TestTriggered},
};
use crate::app::{App, NewTarget, TargetEdit, TargetList};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which targets.
#[derive(Debug, Deserialize, IntoParams)]
pub struct TargetQuery {
    /// Those of an agent.
    agent_id: Option<String>,
}

/// Targets that are not retired, by name.
#[utoipa::path(
    get,
    path = "/targets",
    params(TargetQuery, Pages),
    responses((status = 200, body = List<TargetShape>)),
    security(("key" = ["target.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(which): Query<TargetQuery>,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let place = pages.place();
    let list = TargetList {
        agent: which.agent_id.filter(|id| !id.is_empty()),
        cursor: place.cursor.map(str::to_owned),
        skip: place.skip,
        limit: place.limit,
    };
    let page = app.list_targets(&who, &list).await?;
    let mut data = Vec::with_capacity(page.rows.len());
    for target in &page.rows {
        let mut shape = TargetShape::from(&**target);
        shape.tested(app.last_test(&target.id).await?.as_ref());
        data.push(shape);
    }
    Ok(pages.answer(place.list(data, page.total, page.next)))
}

/// Makes a target.
#[utoipa::path(
    post,
    path = "/targets",
    request_body = TargetNew,
    responses((status = 201, body = TargetShape)),
    security(("key" = ["target.edit"])),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    New(new, once): New<TargetNew>,
) -> Result<Response, Problem> {
    let new = NewTarget {
        id: optional_id("id", new.id.as_ref())?,
        agent: id_in_field("agent_id", &new.agent_id)?,
        name: new.name,
        kind: new.kind,
        config: new.config,
    };
    let target = app.create_target(&who, &new, once.as_ref()).await?;
    Ok((StatusCode::CREATED, Json(TargetShape::from(&target))).into_response())
}

/// One target.
#[utoipa::path(
    get,
    path = "/targets/{id}",
    responses((status = 200, body = TargetShape)),
    security(("key" = ["target.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Versioned<TargetShape>, Problem> {
    let id = id_in_path("target", &id)?;
    let target = app.target(&who, &id).await?;
    let mut shape = TargetShape::from(&*target);
    shape.tested(app.last_test(&id).await?.as_ref());
    Ok(Versioned::new(target.version(), shape))
}

/// Edits a target; another configuration is deployed to at once.
#[utoipa::path(
    put,
    path = "/targets/{id}",
    request_body = TargetChange,
    responses((status = 200, body = TargetShape), (status = 412)),
    security(("key" = ["target.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Edit(change): Edit<TargetChange>,
) -> Result<Versioned<TargetShape>, Problem> {
    let id = id_in_path("target", &id)?;
    let edit = TargetEdit {
        agent: change.agent_id,
        enabled: change.enabled,
        name: change.name,
        kind: change.kind,
        config: change.config,
    };
    let target = app.edit_target(&who, &id, &expected, &edit).await?;
    let mut shape = TargetShape::from(&*target);
    shape.tested(app.last_test(&id).await?.as_ref());
    Ok(Versioned::new(target.version(), shape))
}

/// Deletes a target that no certificate has.
#[utoipa::path(
    delete,
    path = "/targets/{id}",
    responses((status = 204, description = "Deleted"), (status = 412)),
    security(("key" = ["target.delete"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("target", &id)?;
    app.delete_target(&who, &id, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has its agent see whether a target can be used.
#[utoipa::path(
    post,
    path = "/targets/{id}/test",
    responses((status = 202, body = TestTriggered)),
    security(("key" = ["target.edit"])),
)]
pub async fn test(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = id_in_path("target", &id)?;
    let job = app.test_target(&who, &id).await?;
    let body = TestTriggered {
        status: "test_triggered".into(),
        job_id: job.job.id.to_string(),
        message: job.waits_for.clone().unwrap_or_default(),
        job: JobShape::from(&job),
    };
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}
