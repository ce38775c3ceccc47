//! `certctl status`: how things stand, on one screen.

use super::{CliError, Global, Output, client::Client, output};
use crate::{
    api::shapes::{CertificateShape, DayCount, List, SummaryShape},
    config::Environment,
};
use clap::Args;
use serde::Serialize;

/// So many certificates are named.
const NAMED: usize = 5;

/// How things stand: certificates, what expires and fails, agents, jobs.
#[derive(Debug, Args)]
pub struct Status {}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    summary: SummaryShape,
    expiring_by_day: Vec<DayCount>,
    failing: Vec<CertificateShape>,
}

/// Runs it.
pub async fn run(_: Status, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    let summary: SummaryShape = client.get("/stats/summary").await?;
    let days = client.get("/stats/expiration-timeline?days=30").await?;
    let path = format!("/certificates?status=Failed&sort=expiresAt&per_page={NAMED}");
    let failing: List<CertificateShape> = client.get(&path).await?;
    let shown = Shown {
        summary,
        expiring_by_day: days,
        failing: failing.data,
    };
    if global.output == Output::Json {
        return output::json(&shown);
    }
    let s = &shown.summary;
    if let Some(warning) = &s.warning {
        output::line(&format!("{:<12} {}", "warning", global.typed(warning)));
    }
    for (name, value) in [
        (
            "certificates",
            format!(
                "{}: {} expire within 30 days, {} expired, {} failing, {} revoked",
                s.total_certificates,
                s.expiring_certificates,
                s.expired_certificates,
                s.failing_certificates,
                s.revoked_certificates
            ),
        ),
        (
            "agents",
            format!(
                "{}: {} online, {} offline",
                s.total_agents, s.active_agents, s.offline_agents
            ),
        ),
        (
            "jobs",
            format!(
                "{} open, {} failed, {} completed",
                s.pending_jobs, s.failed_jobs, s.complete_jobs
            ),
        ),
    ] {
        output::line(&format!("{name:<12} {value}"));
    }
    let soon = shown.expiring_by_day.iter().filter(|day| day.count > 0);
    let soon: Vec<String> = soon
        .take(NAMED)
        .map(|d| format!("{} on {}", d.count, d.date))
        .collect();
    if !soon.is_empty() {
        output::line(&format!("{:<12} {}", "expiring", soon.join(", ")));
    }
    for certificate in &shown.failing {
        let problem = certificate
            .problem
            .as_deref()
            .unwrap_or("its last attempt failed");
        output::line(&format!("{:<12} {}: {problem}", "failing", certificate.id));
    }
    Ok(())
}
