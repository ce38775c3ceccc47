//! The words server and agent exchange, under `/api/v1/agents`. All calls but `enrol` carry the
//! agent's bearer credential `cta_<agent>.<secret>`; a retired agent meets 410 on every call.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST agents/enrol` | [`Enrol`] | 201 [`Enrolled`]; 401 bad token, 409 name alive |
//! | `GET agents/{id}/work?wait=50` | | [`Work`]; without `wait` at once; with `fresh=true` the leases it has are ended first, with `holds=job,...` those of other jobs; `version`, `time` (RFC 3339) and `restoring` tell of the agent |
//! | `GET agents/{id}/ping` | | [`Pong`]; it does not count as a poll |
//! | `POST agents/{id}/credential` | [`NextSecret`] | 204: that secret takes the place of the present one when it is first used |
//! | `POST agents/{id}/jobs/{job}/lease` | [`Renew`] | [`Renewed`]; 409 the lease is lost: drop the job |
//! | `POST agents/{id}/jobs/{job}/csr` | [`Csr`] | 202; 400 the CSR is refused; 409 |
//! | `POST agents/{id}/jobs/{job}/report` | [`Report`] | 200, also when repeated; 409 |
//! | `POST agents/{id}/observations` | [`Observations`] | 200; 403 a target is another agent's |

use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Seconds a poll for work waits on the server.
pub const POLL_WAIT_SECONDS: u64 = 50;

/// The most jobs that one poll leases. An agent asks when it can take as many.
pub const JOBS_A_POLL: u32 = 8;

/// Asks for an identity. Repeating it with the same name and secret, and the same or another valid
/// token, answers the same agent.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Enrol {
    /// A join token, `ctj_...`.
    pub token: String,
    /// The agent's name, unique among live agents.
    pub name: String,
    /// The host's name.
    pub hostname: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub architecture: String,
    /// The agent's version.
    pub version: String,
    /// SHA-256 of the agent's secret, lower hex: the secret itself is made and kept on the host.
    pub secret_sha256: String,
}

/// The identity given.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    /// The agent's id, the first half of its credential.
    pub agent_id: Id,
    /// The certificate of the server's system CA, PEM: what the agent trusts from now on.
    pub system_ca_pem: String,
    /// The server's clock, RFC 3339.
    pub server_time: String,
}

/// The answer to an agent that tries its way to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pong {
    /// The agent that the credential is of.
    pub agent_id: Id,
    /// Its name.
    pub name: String,
    /// The server's version.
    pub server_version: String,
    /// The server's clock, RFC 3339.
    pub server_time: String,
    /// Since when the agent's secret is in use, RFC 3339.
    #[schema(format = DateTime)]
    pub credential_since: String,
}

/// The secret that an agent will use next.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NextSecret {
    /// Its SHA-256, lower hex.
    pub secret_sha256: String,
}

/// Leased jobs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Work {
    /// The jobs; empty when the wait ended without any.
    pub jobs: Vec<WorkItem>,
    /// How many.
    pub count: usize,
    /// Jobs of this agent that are no longer wanted: undo and report. Told once each, as soon as
    /// it is known; the renewal of a lease tells it again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancel: Vec<Id>,
    /// Targets of this agent to look at at once, and to tell of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub look: Vec<Id>,
    /// Look at all that was ever put in place, and tell of it, as the server may not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub look_at_all: bool,
    /// Targets to look at so, and to tell of with the certificates that are in place there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub show: Vec<Id>,
}

/// A job leased to this agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkItem {
    /// The job.
    pub id: Id,
    /// What to do.
    #[serde(rename = "type")]
    pub kind: WorkKind,
    /// The certificate; absent when a target is tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_id: Option<Id>,
    /// Always `Running`.
    pub status: String,
    /// The lease under which the job is run.
    pub lease: Lease,
    /// For issuance and renewal: the common name asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// For issuance and renewal: the subject alternative names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<String>,
    /// For issuance and renewal: the kind of key to make, e.g. `ECDSA-P256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<String>,
    /// For all others: the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<Id>,
    /// For all others: the target's type, `File` or `Site`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_type: Option<String>,
    /// For all others: the target's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_config: Option<serde_json::Value>,
    /// For deployment and dry run: the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionItem>,
}

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum WorkKind {
    /// Make a key and a CSR for a first version.
    Issuance,
    /// Make a key and a CSR for the next version.
    Renewal,
    /// Put a version on a target and verify that it is served.
    Deployment,
    /// Go through a deployment up to the change, and say what it would change.
    DryRun,
    /// See whether a target can be used, and what it serves.
    TargetTest,
}

/// A lease. The token fences: a call that carries another job's or an older token is refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// Opaque; stays the same while the lease is renewed.
    pub token: String,
    /// When the lease ends by the server's clock, RFC 3339.
    #[schema(format = DateTime)]
    pub until: String,
    /// Seconds the lease lasts; renew it after a third of them.
    pub seconds: u64,
}

/// A version to deploy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VersionItem {
    /// The version's id.
    pub id: Id,
    /// The serial number, lower hex.
    pub serial: String,
    /// SHA-256 of the leaf, lower hex.
    pub fingerprint_sha256: String,
    /// SHA-256 of the leaf's SubjectPublicKeyInfo, lower hex: names the private key.
    pub spki_sha256: String,
    /// Leaf first, then its issuers, PEM.
    pub fullchain_pem: String,
}

/// Renews a lease.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Renew {
    /// The lease's token.
    pub token: String,
}

/// A renewed lease.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Renewed {
    /// Its new end, RFC 3339.
    #[schema(format = DateTime)]
    pub until: String,
    /// The job is no longer wanted: undo and report.
    pub cancel: bool,
}

/// A certificate signing request for an issuance or renewal.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Csr {
    /// The lease's token.
    pub token: String,
    /// PKCS#10, PEM.
    pub csr_pem: String,
}

/// How a job ended on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The lease's token.
    pub token: String,
    /// What happened.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// For deployment: SHA-256 of the leaf that was in place before, lower hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_fingerprint_sha256: Option<String>,
    /// For deployment: SHA-256 of the leaf that was to be put in place, lower hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_fingerprint_sha256: Option<String>,
    /// The end of what the programs it ran have written, such as those of a reload.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// How long it took.
    #[serde(default)]
    pub duration_ms: u64,
}

impl Report {
    /// A report of an outcome and nothing else.
    pub fn new(token: &str, outcome: Outcome) -> Self {
        Self {
            token: token.into(),
            outcome,
            old_fingerprint_sha256: None,
            new_fingerprint_sha256: None,
            output: String::new(),
            duration_ms: 0,
        }
    }
}

/// The end of a job on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The version is in place, and every endpoint was seen to serve its leaf and chain.
    Confirmed {
        /// False when it was in place already.
        changed: bool,
        /// What each endpoint was seen to serve.
        served: Vec<Served>,
    },
    /// Something failed after the new version was in place; what was there before is back.
    RolledBack {
        /// What failed, for a person.
        reason: String,
        /// What each endpoint was last seen to serve.
        served: Vec<Served>,
    },
    /// As `RolledBack`, but what was there before could not be brought back.
    RollbackFailed {
        /// What failed, for a person.
        reason: String,
        /// What each endpoint was last seen to serve.
        served: Vec<Served>,
    },
    /// Of a dry run or a test of a target, which change nothing: what was found.
    Examined {
        /// What stands in the way of a deployment, a sentence each; none when it would work.
        faults: Vec<String>,
        /// What is there, and what a deployment would do, a sentence each.
        findings: Vec<String>,
        /// What each endpoint was seen to serve.
        served: Vec<Served>,
    },
    /// Nothing was changed.
    Failed {
        /// May it help to try again?
        class: FailureClass,
        /// What failed, for a person.
        reason: String,
    },
}

/// What may help after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Trying again later.
    Transient,
    /// Nothing short of another request.
    Permanent,
    /// Another version: the private key of this one is not on the host.
    KeyMissing,
    /// A change made by an operator.
    Operator,
}

/// What one endpoint was seen to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Served {
    /// `host:port`, or a path for files.
    pub endpoint: String,
    /// The leaf's serial number, lower hex; absent when nothing answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// SHA-256 of the leaf, lower hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint_sha256: Option<String>,
    /// Why nothing was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The most observations that are sent at once.
pub const OBSERVATIONS_A_CALL: usize = 64;

/// What an agent found on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Observations {
    /// One for each certificate on each target that was looked at.
    pub observations: Vec<Observation>,
}

/// A version that was put in place, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Observation {
    /// The target.
    pub target_id: Id,
    /// The certificate.
    pub certificate_id: Id,
    /// The serial number of the version that was put there, lower hex.
    pub serial: String,
    /// What on the host is not as it was put there, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
    /// What each endpoint serves; for files, what is in their directory.
    #[serde(default)]
    pub served: Vec<Shown>,
    /// The version that was put there with its chain, PEM; only where the server asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fullchain_pem: Option<String>,
}

/// What one endpoint serves now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shown {
    /// Which, and which leaf.
    #[serde(flatten)]
    pub served: Served,
    /// Whether that is the leaf of the version, with its whole chain.
    pub chain_ok: bool,
}

/// Writes a moment as the protocol does.
pub fn wire_time(t: Time) -> String {
    t.to_string()
}
