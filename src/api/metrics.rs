//! Metrics.

use super::{Caller, Problem};
use crate::app::App;
use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The exposition format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The numbers of a first look.
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = 200, body = MetricsShape)),
    security(("key" = ["metrics.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<MetricsShape>, Problem> {
    let n = app.numbers(&who).await?;
    Ok(Json(MetricsShape {
        gauge: Gauges {
            certificate_total: n.certificates,
            certificate_active: n.with_status("Active"),
            certificate_expiring_soon: n.with_status("Expiring"),
            certificate_expired: n.with_status("Expired"),
            certificate_revoked: n.with_status("Revoked"),
            agent_total: n.agents,
            agent_online: n.agents_online,
            job_pending: n.jobs_pending(),
        },
        counter: Counters {
            job_completed_total: n.jobs_completed,
            job_failed_total: n.jobs_failed,
            notifications_dead_total: 0,
        },
        uptime: Uptime {
            uptime_seconds: n.now.since(n.started_at).as_secs(),
            server_started: n.started_at.whole_seconds().to_string(),
            measured_at: n.now.whole_seconds().to_string(),
        },
    }))
}

/// All series, as Prometheus reads them.
#[utoipa::path(
    get,
    path = "/metrics/prometheus",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")),
    security(("key" = ["metrics.read"])),
)]
pub async fn text(State(app): State<Arc<App>>, Caller(who): Caller) -> Result<Response, Problem> {
    let text = app.scrape(&who).await?;
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}

/// The numbers of a first look.
#[derive(Serialize, ToSchema)]
#[schema(as = Metrics)]
pub struct MetricsShape {
    gauge: Gauges,
    counter: Counters,
    uptime: Uptime,
}

/// How many there are now.
#[derive(Serialize, ToSchema)]
struct Gauges {
    certificate_total: u64,
    certificate_active: u64,
    /// Within 30 days.
    certificate_expiring_soon: u64,
    certificate_expired: u64,
    certificate_revoked: u64,
    agent_total: u64,
    agent_online: u64,
    job_pending: u64,
}

/// How many there were ever.
#[derive(Serialize, ToSchema)]
struct Counters {
    job_completed_total: u64,
    job_failed_total: u64,
    notifications_dead_total: u64,
}

/// How long the process lives.
#[derive(Serialize, ToSchema)]
struct Uptime {
    uptime_seconds: u64,
    #[schema(format = DateTime)]
    server_started: String,
    #[schema(format = DateTime)]
    measured_at: String,
}
