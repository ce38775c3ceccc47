//! Metrics.

use super::{Caller, Problem};
use crate::app::App;
use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The exposition format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<Value>, Problem> {
    let n = app.numbers(&who).await?;
    Ok(Json(json!({
        "gauge": {
            "certificate_total": n.certificates,
            "certificate_active": n.with_status("Active"),
            "certificate_expiring_soon": n.with_status("Expiring"),
            "certificate_expired": n.with_status("Expired"),
            "certificate_revoked": n.with_status("Revoked"),
            "agent_total": n.agents,
            "agent_online": n.agents_online,
            "job_pending": n.jobs_pending(),
        },
        "counter": {
            "job_completed_total": n.jobs_completed,
            "job_failed_total": n.jobs_failed,
            "notifications_dead_total": 0,
        },
        "uptime": {
            "uptime_seconds": n.now.since(n.started_at).as_secs(),
            "server_started": n.started_at.whole_seconds().to_string(),
            "measured_at": n.now.whole_seconds().to_string(),
        },
    })))
}

/// `GET /metrics/prometheus`
pub async fn text(State(app): State<Arc<App>>, Caller(who): Caller) -> Result<Response, Problem> {
    let text = app.scrape(&who).await?;
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}
