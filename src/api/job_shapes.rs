//! The bodies of jobs and their attempts.

use crate::{
    app::JobView,
    domain::{
        Attempt, Executor,
        attempt::{Leaf, Served},
    },
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Job)]
pub struct JobShape {
    /// Its id.
    pub id: String,
    /// `Issuance`, `Renewal`, `Deployment`, `DryRun` or `TargetTest`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The certificate it serves; absent when a target is tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_id: Option<String>,
    /// The target it is carried out on; absent when a key and a CSR are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<String>,
    /// The agent that runs it.
    pub agent_id: String,
    /// `Pending`, `Running`, `Completed`, `Failed` or `Cancelled`.
    pub status: String,
    /// Finer: `ready`, `leased`, `cancel_requested`, `backoff`, `succeeded`, `failed` or
    /// `cancelled`.
    pub state: String,
    /// How often it was begun.
    pub attempts: u32,
    /// How often it may be begun.
    pub max_attempts: u32,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What it waits for, a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Why it is to be stopped or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwanted: Option<String>,
    /// From when on it may be begun; when it was made, once it was begun.
    #[schema(format = DateTime)]
    pub scheduled_at: String,
    /// When it was last begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub completed_at: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Of a deployment: `pending`, `success` or `failed`; else empty.
    pub verification_status: String,
    /// When the version was seen served, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub verified_at: Option<String>,
    /// Why the version was not seen served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_error: Option<String>,
    /// SHA-256 of the leaf that was seen served, lower hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_fingerprint: Option<String>,
    /// The last attempt that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<AttemptShape>,
}

/// What to deploy where.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeployWish {
    /// One of the certificate's targets; all of them when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_id: Option<String>,
    /// Say what it would change, and change nothing.
    pub dry_run: bool,
}

/// The answer to a wish to deploy.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeployTriggered {
    /// `deployment_triggered` or `dry_run_triggered`.
    pub status: String,
    /// The jobs, one for each target.
    pub jobs: Vec<JobShape>,
}

/// The answer to a wish to end a job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobCancelled {
    /// `job_cancelled`, or `cancel_requested` while its agent stops it.
    pub status: String,
    /// The job.
    pub job: JobShape,
}

/// The answer to a wish to test a target.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TestTriggered {
    /// `test_triggered`.
    pub status: String,
    /// The job.
    pub job_id: String,
    /// What it waits for, a sentence.
    pub message: String,
    /// The job whole.
    pub job: JobShape,
}

/// An attempt at a job that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptShape {
    /// The job.
    pub job_id: String,
    /// 1 for the first attempt of the job.
    pub attempt: u32,
    /// The agent that made it.
    pub agent_id: String,
    /// `changed`, `unchanged`, `rolled_back`, `rollback_failed`, `failed`, `passed` or `lost`.
    pub outcome: String,
    /// Of a failure before any change: `transient`, `permanent`, `key_missing` or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was found and what would be done, a sentence each: of a dry run or a test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// The leaf that was in place before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<LeafShape>,
    /// The leaf that was to be put in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<LeafShape>,
    /// What each endpoint was last seen to serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub served: Vec<ServedShape>,
    /// The end of what the programs it ran have written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// When the agent took the job.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// When the server learnt of the end.
    #[schema(format = DateTime)]
    pub ended_at: String,
    /// How long it took on the host.
    pub duration_ms: u64,
}

/// A leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Leaf)]
pub struct LeafShape {
    /// SHA-256, lower hex.
    pub fingerprint_sha256: String,
    /// Its serial number, lower hex, where it is a version of this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
}

/// What one endpoint was seen to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = EndpointSeen)]
pub struct ServedShape {
    /// `host:port`, or a path.
    pub endpoint: String,
    /// The leaf's serial number, lower hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// SHA-256 of the leaf, lower hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint_sha256: Option<String>,
    /// Why nothing was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<&JobView> for JobShape {
    fn from(view: &JobView) -> Self {
        let JobView { job, waits_for } = view;
        let Executor::Agent(agent) = &job.executor;
        let text = |id: &crate::id::Id| id.to_string();
        let verified = view.verification();
        let attempt = job.last.as_ref().filter(|_| verified.is_some());
        let (verified, pending) = (verified.unwrap_or_default(), "pending");
        Self {
            id: job.id.to_string(),
            kind: job.kind.wire_type().into(),
            certificate_id: job.certificate.as_ref().map(text),
            target_id: job.target.as_ref().map(text),
            agent_id: agent.to_string(),
            status: job.wire_status().into(),
            state: job.wire_state().into(),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            last_error: job.last_error.clone(),
            waits_for: waits_for.clone(),
            unwanted: job.unwanted.clone(),
            scheduled_at: job.ready_at().unwrap_or(job.created_at).to_string(),
            started_at: job.started_at.map(|t| t.to_string()),
            completed_at: job.ended_at().map(|t| t.to_string()),
            created_at: job.created_at.to_string(),
            verification_status: verified.into(),
            verified_at: attempt
                .filter(|_| verified != pending)
                .map(|a| a.ended_at.to_string()),
            verification_error: attempt.and_then(|a| a.reason.clone()),
            verification_fingerprint: attempt
                .and_then(|a| a.served.iter().find_map(|s| s.fingerprint_sha256.clone())),
            last_attempt: job.last.as_ref().map(AttemptShape::from),
        }
    }
}

impl From<&Attempt> for AttemptShape {
    fn from(a: &Attempt) -> Self {
        Self {
            job_id: a.job.to_string(),
            attempt: a.number,
            agent_id: a.agent.to_string(),
            outcome: a.ending.as_str().into(),
            class: a.ending.class().map(|class| class.as_str().into()),
            reason: a.reason.clone(),
            findings: a.findings.clone(),
            old: a.old.as_ref().map(LeafShape::from),
            new: a.new.as_ref().map(LeafShape::from),
            served: a.served.iter().map(ServedShape::from).collect(),
            output: a.output.clone(),
            started_at: a.started_at.to_string(),
            ended_at: a.ended_at.to_string(),
            duration_ms: a.duration_ms,
        }
    }
}

impl From<&Leaf> for LeafShape {
    fn from(leaf: &Leaf) -> Self {
        Self {
            fingerprint_sha256: leaf.fingerprint_sha256.clone(),
            serial_number: leaf.serial.as_ref().map(ToString::to_string),
        }
    }
}

impl From<&Served> for ServedShape {
    fn from(s: &Served) -> Self {
        Self {
            endpoint: s.endpoint.clone(),
            serial_number: s.serial.clone(),
            fingerprint_sha256: s.fingerprint_sha256.clone(),
            error: s.error.clone(),
        }
    }
}
