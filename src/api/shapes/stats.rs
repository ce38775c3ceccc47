//! Numbers on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How things stand.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Summary)]
pub struct SummaryShape {
    /// Certificates.
    pub total_certificates: u64,
    /// Certificates that end within 30 days and have not ended.
    pub expiring_certificates: u64,
    /// Certificates that have ended.
    pub expired_certificates: u64,
    /// Certificates that were revoked.
    pub revoked_certificates: u64,
    /// Certificates of which the last attempt failed.
    pub failing_certificates: u64,
    /// Agents heard within the last 5 minutes.
    pub active_agents: u64,
    /// The other agents that are not retired.
    pub offline_agents: u64,
    /// Agents that are not retired.
    pub total_agents: u64,
    /// Jobs that have not ended.
    pub pending_jobs: u64,
    /// Jobs that failed.
    pub failed_jobs: u64,
    /// Jobs that were completed.
    pub complete_jobs: u64,
    /// Notifications that were given up.
    pub notifications_dead: u64,
    /// What keeps the server from beginning anything new, as too little room or the fence after a
    /// restore, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// When this was true.
    #[schema(format = DateTime)]
    pub completed_at: String,
}

/// How many certificates a status is true of.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusCount {
    /// The status.
    pub status: String,
    /// The number.
    pub count: u64,
}

/// How many there are on a day.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DayCount {
    /// The day, of UTC.
    pub date: String,
    /// The number.
    pub count: u64,
}

/// How many jobs ended on a day.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DayJobs {
    /// The day, of UTC.
    pub date: String,
    /// Those that were completed.
    pub completed_count: u64,
    /// Those that failed.
    pub failed_count: u64,
    /// Those completed, in percent; 0 on a day without any.
    pub success_rate: f64,
}

/// How many versions were issued on a day.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DayIssued {
    /// The day, of UTC.
    pub date: String,
    /// The number.
    pub issued_count: u64,
}
