//! Agents and join tokens.

use crate::{
    app::{AgentDetail, AgentView, Dependents, TokenView},
    domain::{AgentStatus, Job, Skew, agent::Retired},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A join token to make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TokenNew {
    /// A name for people.
    pub name: String,
    /// How long it lets agents in.
    pub expires_in_seconds: u64,
    /// How many agents it lets in.
    pub max_uses: u32,
    /// It may replace an agent that has been silent for ten minutes.
    pub replace: bool,
    /// The name it lets in, or the beginning of names and a `*`; absent: any.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
}

impl Default for TokenNew {
    fn default() -> Self {
        Self {
            name: String::new(),
            expires_in_seconds: 3600,
            max_uses: 1,
            replace: false,
            names: None,
        }
    }
}

/// A join token, with its secret, which is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = TokenMade)]
pub struct TokenMadeShape {
    /// Its id.
    pub id: String,
    /// The secret.
    pub token: String,
    /// Its end.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// The system CA's public key, for `--ca-pin`.
    pub ca_pin: String,
    /// What to run on the host. The token goes through a pipe: arguments are seen by every user.
    pub command: String,
}

/// A join token.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenShape {
    /// Its id.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// `valid`, `expired`, `used_up` or `revoked`.
    pub state: String,
    /// How many agents it has let in.
    pub uses: u32,
    /// How many it lets in.
    pub max_uses: u32,
    /// It may replace an agent that has been silent for ten minutes.
    pub replace: bool,
    /// The name it lets in, or the beginning of names and a `*`; absent: any.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Its end.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
}

impl From<&TokenView> for TokenShape {
    fn from(view: &TokenView) -> Self {
        let t = &view.token;
        Self {
            id: t.id.to_string(),
            name: t.name.clone(),
            state: view.state.as_str().into(),
            uses: view.uses,
            max_uses: t.max_uses,
            replace: t.replace,
            names: t.names.as_ref().map(ToString::to_string),
            created_at: t.created_at.to_string(),
            expires_at: t.expires_at.to_string(),
            revoked_at: t.revoked_at.map(|at| at.to_string()),
        }
    }
}

/// An agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Agent)]
pub struct AgentShape {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The host's name.
    pub hostname: String,
    /// `Online`, `Degraded` (heard, but something is wrong) or `Offline`.
    pub status: String,
    /// When it was last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub last_heartbeat_at: Option<String>,
    /// When it enrolled.
    #[schema(format = DateTime)]
    pub registered_at: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub architecture: String,
    /// Not known: an agent may sit behind any number of translations.
    pub ip_address: String,
    /// The version it was last heard with.
    pub version: String,
    /// How that stands to the server's: `same`, `older`, `newer` or `unknown`.
    pub version_skew: String,
    /// By how many milliseconds its clock is ahead of the server's; below 0, behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// Since when its credential is in use.
    #[schema(format = DateTime)]
    pub credential_since: String,
    /// What is wrong, each a sentence with its remedy.
    pub problems: Vec<String>,
    /// What hangs on it.
    pub counts: CountsShape,
    /// When it was retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub retired_at: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_reason: Option<String>,
}

/// What hangs on an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Counts)]
pub struct CountsShape {
    /// Targets that are not retired.
    pub active_targets: u64,
    /// Certificates of which it holds a key.
    pub active_certificates: u64,
    /// Jobs that have not ended.
    pub pending_jobs: u64,
}

impl From<Dependents> for CountsShape {
    fn from(d: Dependents) -> Self {
        Self {
            active_targets: d.targets,
            active_certificates: d.certificates,
            pending_jobs: d.jobs,
        }
    }
}

impl From<&AgentView> for AgentShape {
    fn from(view: &AgentView) -> Self {
        let a = &view.agent;
        let retired: Option<&Retired> = a.retired.as_ref();
        Self {
            id: a.id.to_string(),
            name: a.name.clone(),
            hostname: a.hostname.clone(),
            status: AgentStatus::as_str(view.status).into(),
            last_heartbeat_at: view.heard_at.map(|at| at.to_string()),
            registered_at: a.enrolled_at.to_string(),
            os: a.os.clone(),
            architecture: a.architecture.clone(),
            ip_address: String::new(),
            version: a.version.clone(),
            version_skew: Skew::as_str(view.skew).into(),
            clock_ahead_ms: view.said.clock_ahead_ms,
            credential_since: a.secret_since().to_string(),
            problems: view.problems.clone(),
            counts: view.dependents.into(),
            retired_at: retired.map(|r| r.at.to_string()),
            retired_reason: retired.map(|r| r.reason.clone()),
        }
    }
}

/// One agent, with what hangs on it: of each kind the first hundred.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AgentDetail)]
pub struct AgentDetailShape {
    /// The agent.
    #[serde(flatten)]
    pub agent: AgentShape,
    /// Its targets.
    pub targets: Vec<AgentTarget>,
    /// Certificates of which it holds a key.
    pub certificates: Vec<AgentCertificate>,
    /// Its jobs that have not ended.
    pub jobs: Vec<AgentJob>,
}

/// A target of an agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentTarget {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why a deployment there failed that is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A certificate of which an agent holds a key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentCertificate {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A job of an agent that has not ended.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentJob {
    /// Its id.
    pub id: String,
    /// E.g. `Renewal`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The certificate; none when a target is tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_id: Option<String>,
    /// `Pending` or `Running`.
    pub status: String,
    /// How often it was begun.
    pub attempts: u32,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl From<&Job> for AgentJob {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id.to_string(),
            kind: job.kind.wire_type().into(),
            certificate_id: job.certificate.as_ref().map(ToString::to_string),
            status: job.wire_status().into(),
            attempts: job.attempts,
            last_error: job.last_error.clone(),
        }
    }
}

impl From<&AgentDetail> for AgentDetailShape {
    fn from(detail: &AgentDetail) -> Self {
        let targets = detail.targets.iter().map(|(t, problem)| AgentTarget {
            id: t.id.to_string(),
            name: t.name.clone(),
            kind: t.kind.clone(),
            problem: problem.clone(),
        });
        let certificates = detail.certificates.iter().map(|c| AgentCertificate {
            id: c.id.to_string(),
            name: c.name.clone(),
        });
        Self {
            agent: AgentShape::from(&detail.view),
            targets: targets.collect(),
            certificates: certificates.collect(),
            jobs: detail.jobs.iter().map(AgentJob::from).collect(),
        }
    }
}

/// The wish to retire an agent.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
pub struct Retire {
    /// Also when something hangs on it, which is ended then.
    pub force: bool,
    /// Why.
    pub reason: String,
}

/// A retired agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Retired)]
pub struct RetiredShape {
    /// When.
    #[schema(format = DateTime)]
    pub retired_at: String,
    /// Always false: one that was retired before is answered 204.
    pub already_retired: bool,
    /// Something hung on it, and was ended.
    pub cascade: bool,
    /// What hung on it.
    pub counts: CountsShape,
}

/// An agent is not retired, since something hangs on it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Blocked)]
pub struct BlockedShape {
    /// `blocked_by_dependencies`
    pub error: String,
    /// What to do.
    pub message: String,
    /// What hangs on it.
    pub counts: CountsShape,
}

impl BlockedShape {
    /// Says what hangs on an agent.
    pub fn new(counts: Dependents) -> Self {
        Self {
            error: "blocked_by_dependencies".into(),
            message: format!(
                "{}, {} and {} hang on this agent: give them to another one, or retire it with \
                 force and a reason, which ends them",
                some(counts.targets, "target"),
                some(counts.certificates, "certificate"),
                some(counts.jobs, "open job"),
            ),
            counts: counts.into(),
        }
    }
}

fn some(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
