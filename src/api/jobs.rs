//! `/jobs`.

use super::{
    Problem,
    certificates::{Paging, given},
    extract::{Caller, id_in_field, id_in_path},
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
    /// The `next_cursor` of the page before, asked for with the same filter.
    cursor: Option<String>,
    /// Rows a page, where it is asked for by cursor.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    page_size: Option<String>,
    /// The page, from 1.
    #[param(value_type = Option<u32>, minimum = 1)]
    page: Option<String>,
    /// Rows a page, 50 where this is none of 1 to 500.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    per_page: Option<String>,
}

impl JobQuery {
    fn filter(&mut self) -> Result<JobFilter, Problem> {
        let id = |field, text: Option<String>| {
            let text = given(text);
            text.map(|text| id_in_field(field, &text)).transpose()
        };
        let status = given(self.status.take()).map(|word| JobFilter::status_of(&word));
        let kind = given(self.kind.take()).map(|word| JobFilter::kind_of(&word));
        Ok(JobFilter {
            status: status.transpose()?,
            kind: kind.transpose()?,
            certificate: id("certificate_id", self.certificate_id.take())?,
            agent: id("agent_id", self.agent_id.take())?,
            target: id("target_id", self.target_id.take())?,
        })
    }
}

/// Jobs, newest first.
#[utoipa::path(
    get,
    path = "/jobs",
    params(JobQuery),
    responses((status = 200, body = List<JobShape>)),
    security(("key" = ["job.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(mut query): Query<JobQuery>,
) -> Result<Json<List<JobShape>>, Problem> {
    let filter = query.filter()?;
    let paging = Paging {
        page: query.page,
        per_page: query.per_page.or(query.page_size),
    };
    let (number, per_page) = paging.numbers();
    let cursor = given(query.cursor);
    let by_number = cursor.is_none();
    let list = JobList {
        filter,
        cursor,
        skip: if by_number {
            (number - 1).saturating_mul(per_page)
        } else {
            0
        },
        limit: per_page,
    };
    let page = app.list_jobs(&who, &list).await?;
    let data = page.rows.iter().map(JobShape::from).collect();
    let mut list = List::numbered(data, page.total, (number, per_page));
    if !by_number {
        (list.page, list.per_page, list.page_size) = (None, None, Some(per_page));
    }
    list.next_cursor = page.next;
    Ok(Json(list))
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
