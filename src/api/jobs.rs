//! `/jobs`.

use super::{
    Problem,
    extract::{Caller, id_in_field, id_in_path},
    pages::{Pages, given},
    shapes::{JobCancelled, JobShape, List},
};
use crate::app::{App, JobFilter, JobList};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which jobs, from where on.
#[derive(Debug, Deserialize, IntoParams)]
pub struct JobQuery {
    /// Those of a status or, finer, a state.
    status: Option<String>,
    /// Those of a type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Those of a certificate.
    certificate_id: Option<String>,
    /// Those of an agent.
    agent_id: Option<String>,
    /// Those on a target.
    target_id: Option<String>,
}

impl JobQuery {
    fn filter(&self) -> Result<JobFilter, Problem> {
        let id = |field, text: &Option<String>| {
            let text = given(text.as_deref());
            text.map(|text| id_in_field(field, text)).transpose()
        };
        let status = given(self.status.as_deref()).map(JobFilter::status_of);
        let kind = given(self.kind.as_deref()).map(JobFilter::kind_of);
        Ok(JobFilter {
            status: status.transpose()?,
            kind: kind.transpose()?,
            certificate: id("certificate_id", &self.certificate_id)?,
            agent: id("agent_id", &self.agent_id)?,
            target: id("target_id", &self.target_id)?,
        })
    }
}

/// Jobs, newest first.
#[utoipa::path(
    get,
    path = "/jobs",
    params(JobQuery, Pages),
    responses((status = 200, body = List<JobShape>)),
    security(("key" = ["job.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(query): Query<JobQuery>,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let place = pages.place();
    let list = JobList {
        filter: query.filter()?,
        cursor: place.cursor.map(str::to_owned),
        skip: place.skip,
        limit: place.limit,
    };
    let page = app.list_jobs(&who, &list).await?;
    let data = page.rows.iter().map(JobShape::from).collect();
    Ok(pages.answer(place.list(data, page.total, page.next)))
}

/// One job.
#[utoipa::path(
    get,
    path = "/jobs/{id}",
    responses((status = 200, body = JobShape)),
    security(("key" = ["job.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<JobShape>, Problem> {
    let id = id_in_path("job", &id)?;
    Ok(Json(JobShape::from(&app.job(&who, &id).await?)))
}

/// Ends a job: 200 when it has ended, 202 while its agent stops it.
#[utoipa::path(
    post,
    path = "/jobs/{id}/cancel",
    responses(
        (status = 200, body = JobCancelled),
        (status = 202, description = "Its agent stops it", body = JobCancelled),
    ),
    security(("key" = ["job.cancel"])),
)]
pub async fn cancel(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = id_in_path("job", &id)?;
    let view = app.cancel_job(&who, &id).await?;
    let (status, word) = match view.job.is_open() {
        false => (StatusCode::OK, "job_cancelled"),
        true => (StatusCode::ACCEPTED, "cancel_requested"),
    };
    let body = JobCancelled {
        status: word.into(),
        job: JobShape::from(&view),
    };
    Ok((status, Json(body)).into_response())
}
