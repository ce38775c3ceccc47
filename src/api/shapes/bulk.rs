//! Calls on many certificates on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which certificates: all that fit every part that is given; one is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Selected {
    /// Those of a profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_id: Option<String>,
    /// Those of an owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// Those with a key on an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Those of an issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_id: Option<String>,
    /// Those of a team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
    /// These.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificate_ids: Vec<String>,
}

/// Which certificates are revoked, and why.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct SelectedRevoke {
    /// A word of RFC 5280, section 5.3.1.
    pub reason: String,
    /// Those of a profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_id: Option<String>,
    /// Those of an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// Those with a key on an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Those of an issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_id: Option<String>,
    /// Those of a team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
    /// These.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificate_ids: Vec<String>,
}

impl SelectedRevoke {
    /// Revokes those of a selection.
    pub fn of(selected: Selected, reason: String) -> Self {
        Self {
            reason,
            profile_id: selected.profile_id,
            owner_id: selected.owner_id,
            agent_id: selected.agent_id,
            issuer_id: selected.issuer_id,
            team_id: selected.team_id,
            certificate_ids: selected.certificate_ids,
        }
    }

    /// Which.
    pub fn selected(self) -> Selected {
        Selected {
            profile_id: self.profile_id,
            owner_id: self.owner_id,
            agent_id: self.agent_id,
            issuer_id: self.issuer_id,
            team_id: self.team_id,
            certificate_ids: self.certificate_ids,
        }
    }
}

/// Which certificates get another owner.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReassignWish {
    /// These.
    pub certificate_ids: Vec<String>,
    /// The owner.
    pub owner_id: String,
    /// The team; it stays when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
}

/// Why it could not be done for one certificate.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkError {
    /// The certificate.
    pub certificate_id: String,
    /// Why.
    pub error: String,
}

/// A job that was queued.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkJob {
    /// For this certificate.
    pub certificate_id: String,
    /// The job.
    pub job_id: String,
}

/// What became of many certificates that were to be revoked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkRevoked {
    /// Those that fit.
    pub total_matched: u64,
    /// Those that are revoked now.
    pub total_revoked: u64,
    /// Those that had ended already.
    pub total_skipped: u64,
    /// Those that could not be, or are not there.
    pub total_failed: u64,
    /// Why; the first 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<BulkError>,
}

/// What became of many certificates that were to be renewed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkRenewed {
    /// Those that fit.
    pub total_matched: u64,
    /// Those for which an order is open now.
    pub total_enqueued: u64,
    /// Those that have ended or are being renewed already.
    pub total_skipped: u64,
    /// Those that could not be, or are not there.
    pub total_failed: u64,
    /// The jobs; the first 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enqueued_jobs: Vec<BulkJob>,
    /// Why; the first 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<BulkError>,
}

/// What became of many certificates that were to get another owner.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkReassigned {
    /// Those that fit.
    pub total_matched: u64,
    /// Those that have another owner now.
    pub total_reassigned: u64,
    /// Those that had it already.
    pub total_skipped: u64,
    /// Those that could not be, or are not there.
    pub total_failed: u64,
    /// Why; the first 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<BulkError>,
}
