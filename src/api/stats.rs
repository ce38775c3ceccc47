//! `/stats`.

use super::{
    Problem,
    extract::Caller,
    shapes::{DayCount, DayIssued, DayJobs, StatusCount, SummaryShape},
};
use crate::{app::App, clock::Time, domain::Status};
use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Days where nothing is said.
const DAYS: u32 = 30;
/// Days at most.
const MOST_DAYS: u32 = 365;

/// How many days. What is no number of days counts as not given.
#[derive(Debug, Deserialize, IntoParams)]
pub struct DaysQuery {
    /// 1 to 365; 30 when absent.
    days: Option<String>,
}

impl DaysQuery {
    fn number(&self) -> u32 {
        let number = self.days.as_ref().and_then(|text| text.parse().ok());
        number
            .filter(|n| (1..=MOST_DAYS).contains(n))
            .unwrap_or(DAYS)
    }
}

/// How things stand.
#[utoipa::path(
    get,
    path = "/stats/summary",
    responses((status = 200, body = SummaryShape)),
    security(("key" = ["stats.read"])),
)]
pub async fn summary(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<SummaryShape>, Problem> {
    let summary = app.summary(&who).await?;
    Ok(Json(SummaryShape {
        total_certificates: summary.certificates,
        expiring_certificates: summary.with_status(Status::Expiring),
        expired_certificates: summary.with_status(Status::Expired),
        revoked_certificates: summary.with_status(Status::Revoked),
        failing_certificates: summary.with_status(Status::Failed),
        active_agents: summary.agents_online,
        offline_agents: summary.agents.saturating_sub(summary.agents_online),
        total_agents: summary.agents,
        pending_jobs: summary.open_jobs,
        failed_jobs: summary.failed_jobs,
        complete_jobs: summary.completed_jobs,
        notifications_dead: 0,
        warning: app.held_back(),
        completed_at: summary.now.whole_seconds().to_string(),
    }))
}

/// How many certificates each status is true of.
#[utoipa::path(
    get,
    path = "/stats/certificates-by-status",
    responses((status = 200, body = Vec<StatusCount>)),
    security(("key" = ["stats.read"])),
)]
pub async fn by_status(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<Vec<StatusCount>>, Problem> {
    let summary = app.summary(&who).await?;
    let counts = summary.by_status.iter().map(|(status, count)| StatusCount {
        status: status.as_str().into(),
        count: *count,
    });
    Ok(Json(counts.collect()))
}

/// How many certificates end on each of the coming days.
#[utoipa::path(
    get,
    path = "/stats/expiration-timeline",
    params(DaysQuery),
    responses((status = 200, body = Vec<DayCount>)),
    security(("key" = ["stats.read"])),
)]
pub async fn expirations(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(query): Query<DaysQuery>,
) -> Result<Json<Vec<DayCount>>, Problem> {
    let days = app.expirations(&who, query.number()).await?;
    let counts = days.into_iter().map(|day| DayCount {
        date: date(day.begins),
        count: day.value,
    });
    Ok(Json(counts.collect()))
}

/// How many jobs ended on each of the last days.
#[utoipa::path(
    get,
    path = "/stats/job-trends",
    params(DaysQuery),
    responses((status = 200, body = Vec<DayJobs>)),
    security(("key" = ["stats.read"])),
)]
pub async fn job_trends(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(query): Query<DaysQuery>,
) -> Result<Json<Vec<DayJobs>>, Problem> {
    let days = app.job_trends(&who, query.number()).await?;
    let trends = days.into_iter().map(|day| {
        let (completed, failed) = day.value;
        let ended = completed + failed;
        DayJobs {
            date: date(day.begins),
            completed_count: completed,
            failed_count: failed,
            success_rate: match ended {
                0 => 0.0,
                _ => 100.0 * completed as f64 / ended as f64,
            },
        }
    });
    Ok(Json(trends.collect()))
}

/// How many versions were issued on each of the last days.
#[utoipa::path(
    get,
    path = "/stats/issuance-rate",
    params(DaysQuery),
    responses((status = 200, body = Vec<DayIssued>)),
    security(("key" = ["stats.read"])),
)]
pub async fn issuance_rate(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(query): Query<DaysQuery>,
) -> Result<Json<Vec<DayIssued>>, Problem> {
    let days = app.issuance_rate(&who, query.number()).await?;
    let counts = days.into_iter().map(|day| DayIssued {
        date: date(day.begins),
        issued_count: day.value,
    });
    Ok(Json(counts.collect()))
}

/// A day, as `2026-01-31`.
fn date(begins: Time) -> String {
    begins.to_string().chars().take(10).collect()
}
