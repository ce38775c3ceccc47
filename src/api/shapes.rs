//! The bodies of the REST API: what is read and what is answered.

mod agents;
mod auth;
mod backups;
mod bulk;
mod doctor;
mod issuers;
mod owners;
mod policies;
mod profiles;
mod secrets;
mod stats;

pub use super::body::{Edits, Ignored};
pub use agents::*;
pub use auth::*;
pub use backups::*;
pub use bulk::*;
pub use doctor::*;
pub use issuers::*;
pub use owners::*;
pub use policies::*;
pub use profiles::*;
pub use secrets::*;
pub use stats::*;

use crate::{
    app::{
        JobView,
        views::{CertificateView, Deployed, Event},
    },
    domain::{
        Certificate, Deployment, DeploymentState, Holder, HolderState, JobState, Order, OrderState,
        Plan, Target, Version,
    },
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

pub use super::job_shapes::{
    AttemptShape, DeployTriggered, DeployWish, JobCancelled, JobShape, LeafShape, ServedShape,
    TestTriggered,
};

/// A list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The rows.
    pub data: Vec<T>,
    /// How many there are in all. Left out where two or more filters each leave so many that only
    /// reading them would tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The page, from 1; only where pages are asked for by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<usize>,
    /// Rows a page; only where pages are asked for by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_page: Option<usize>,
    /// Rows a page; only where a page is asked for by cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size: Option<usize>,
    /// Where the next page begins; only where there are more rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// The list with its rows in another form.
    pub fn map<U>(self, form: impl Fn(T) -> U) -> List<U> {
        List {
            data: self.data.into_iter().map(form).collect(),
            total: self.total,
            page: self.page,
            per_page: self.per_page,
            page_size: self.page_size,
            next_cursor: self.next_cursor,
        }
    }
}

/// The time that stands for "never" where a field cannot be left out.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// A certificate to make.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CertificateNew {
    /// Its id; made when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A name for people.
    pub name: String,
    /// The subject's common name.
    pub common_name: String,
    /// Further names.
    pub sans: Vec<String>,
    /// E.g. production.
    pub environment: String,
    /// Who answers for it.
    pub owner_id: String,
    /// The owner's team.
    pub team_id: String,
    /// Where versions come from; `iss-local` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_id: Option<String>,
    /// What may be issued; `prof-default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_profile_id: Option<String>,
    /// When to renew; `rp-default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal_policy_id: Option<String>,
    /// Where versions are put.
    pub target_ids: Vec<String>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// A CSR for the first version, when the key is outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csr_pem: Option<String>,
    /// Importers send it; a status is derived.
    #[serde(skip_serializing)]
    #[schema(ignore)]
    pub status: Ignored,
    /// Importers send it; it is that of the newest version.
    #[serde(skip_serializing)]
    #[schema(ignore)]
    pub serial_number: Ignored,
    /// Importers send it; it is that of the newest version.
    #[serde(skip_serializing)]
    #[schema(ignore)]
    pub expires_at: Ignored,
}

/// What is to change of a certificate: what is absent stays as it is.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CertificateWish {
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The subject's common name; it takes the place of the old one among the names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// All names; the common name is one of them whether or not it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sans: Option<Vec<String>>,
    /// E.g. production.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// The owner's team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
    /// Where versions come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_id: Option<String>,
    /// What may be issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_profile_id: Option<String>,
    /// When to renew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal_policy_id: Option<String>,
    /// Where versions are put: all targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ids: Option<Vec<String>>,
    /// Free labels: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// It follows from what was done: another than the present one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

impl Edits for CertificateWish {
    type Resource = CertificateShape;
}

/// A certificate.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Certificate)]
pub struct CertificateShape {
    /// Its id.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// The subject's common name.
    pub common_name: String,
    /// All names.
    pub sans: Vec<String>,
    /// E.g. production.
    pub environment: String,
    /// Who answers for it.
    pub owner_id: String,
    /// The owner's team.
    pub team_id: String,
    /// Where versions come from.
    pub issuer_id: String,
    /// Where versions are put.
    pub target_ids: Vec<String>,
    /// When to renew.
    pub renewal_policy_id: String,
    /// What may be issued.
    pub certificate_profile_id: String,
    /// Its status now.
    pub status: String,
    /// The end of the version that ends first.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// The line of each holder.
    pub holders: Vec<HolderShape>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last edited.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
    /// Why, a word of RFC 5280.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<String>,
    /// What happens next, a sentence. Only of one certificate, not in lists of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What is wrong, a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What policy rules say against it, a sentence each. Only of one certificate, not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A holder's line of versions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Holder)]
pub struct HolderShape {
    /// `agent:<id>` or `requester`.
    pub holder: String,
    /// The newest version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Its serial number, lower hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// `scheduled`, `in_flight` or `exempt`: always one of them.
    pub plan: String,
    /// When the next order is opened, when scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub next_at: Option<String>,
    /// The open order, when in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// Why nothing is due, when exempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last attempt's failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl From<(&Holder, &HolderState)> for HolderShape {
    fn from((holder, line): (&Holder, &HolderState)) -> Self {
        let current = line.current.as_ref();
        let mut shape = Self {
            holder: holder.to_string(),
            version_id: current.map(|c| c.version.to_string()),
            serial_number: current.map(|c| c.serial.to_string()),
            expires_at: current.map(|c| c.not_after.to_string()),
            plan: String::new(),
            next_at: None,
            order_id: None,
            reason: None,
            last_error: line.failure.as_ref().map(|f| f.message.clone()),
        };
        match &line.plan {
            Plan::Scheduled { at } => {
                shape.plan = "scheduled".into();
                shape.next_at = Some(at.to_string());
            }
            Plan::InFlight { order } => {
                shape.plan = "in_flight".into();
                shape.order_id = Some(order.to_string());
            }
            Plan::Exempt { reason, .. } => {
                shape.plan = "exempt".into();
                shape.reason = Some(reason.clone());
            }
        }
        shape
    }
}

impl CertificateShape {
    /// A certificate with this status.
    pub fn new(cert: &Certificate, status: crate::domain::Status) -> Self {
        Self {
            id: cert.id.to_string(),
            name: cert.name.clone(),
            common_name: cert.common_name.clone(),
            sans: cert.sans.iter().map(ToString::to_string).collect(),
            environment: cert.environment.clone(),
            owner_id: cert.owner_id.clone(),
            team_id: cert.team_id.clone(),
            issuer_id: cert.issuer_id.to_string(),
            target_ids: cert.targets.iter().map(ToString::to_string).collect(),
            renewal_policy_id: cert.policy_id.to_string(),
            certificate_profile_id: cert.profile_id.to_string(),
            status: status.as_str().into(),
            expires_at: cert
                .expires_at()
                .map_or_else(|| NEVER.into(), |t| t.to_string()),
            tags: cert.tags.clone(),
            holders: cert.holders.iter().map(HolderShape::from).collect(),
            created_at: cert.created_at.to_string(),
            updated_at: cert.updated_at.to_string(),
            revoked_at: cert.revoked.as_ref().map(|r| r.at.to_string()),
            revocation_reason: cert.revoked.as_ref().map(|r| r.reason.as_str().into()),
            next: None,
            problem: None,
            warnings: Vec::new(),
        }
    }
}

impl From<&CertificateView> for CertificateShape {
    fn from(view: &CertificateView) -> Self {
        Self {
            next: Some(view.next.clone()),
            problem: view.problem.clone(),
            warnings: view.warnings.clone(),
            ..Self::new(&view.certificate, view.status)
        }
    }
}

/// A version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Version)]
pub struct VersionShape {
    /// Its id.
    pub id: String,
    /// Of this certificate.
    pub certificate_id: String,
    /// Whoever holds the key.
    pub holder: String,
    /// Lower hex.
    pub serial_number: String,
    /// When it begins.
    #[schema(format = DateTime)]
    pub not_before: String,
    /// When it ends.
    #[schema(format = DateTime)]
    pub not_after: String,
    /// SHA-256 of the leaf, lower hex.
    pub fingerprint_sha256: String,
    /// Leaf first, then its issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem_chain: Option<String>,
    /// The kind of its key.
    pub key_algorithm: String,
    /// When it was stored.
    #[schema(format = DateTime)]
    pub created_at: String,
}

impl From<&Version> for VersionShape {
    fn from(v: &Version) -> Self {
        Self {
            id: v.id.to_string(),
            certificate_id: v.certificate.to_string(),
            holder: v.holder.to_string(),
            serial_number: v.serial.to_string(),
            not_before: v.not_before.to_string(),
            not_after: v.not_after.to_string(),
            fingerprint_sha256: v.fingerprint_sha256.clone(),
            pem_chain: None,
            key_algorithm: v.key_algorithm.to_string(),
            created_at: v.created_at.to_string(),
        }
    }
}

/// A CSR from a requester.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionNew {
    /// PKCS#10, PEM.
    pub csr_pem: String,
}

/// The answer to a request for renewal.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RenewalTriggered {
    /// `renewal_triggered`.
    pub status: String,
    /// The open orders, one per agent that holds a key.
    pub order_ids: Vec<String>,
}

/// An order, and what came of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Order)]
pub struct OrderShape {
    /// Its id.
    pub id: String,
    /// The certificate.
    pub certificate_id: String,
    /// The holder.
    pub holder: String,
    /// 1 for the first attempt of a cause.
    pub attempt: u32,
    /// `open`, `issued` or `failed`.
    pub state: String,
    /// When it was opened.
    #[schema(format = DateTime)]
    pub opened_at: String,
    /// The version's serial number, when issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the next attempt is due, after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub retry_at: Option<String>,
    /// Where the version was to go.
    pub deployments: Vec<DeploymentShape>,
}

impl OrderShape {
    /// An order with its version and deployments.
    pub fn new(order: &Order, version: Option<&Version>, deployed: &[Deployed]) -> Self {
        let (state, error, retry_at) = match &order.state {
            OrderState::Open => ("open", None, None),
            OrderState::Issued { .. } => ("issued", None, None),
            OrderState::Failed {
                message, retry_at, ..
            } => ("failed", Some(message.clone()), Some(retry_at.to_string())),
        };
        Self {
            id: order.id.to_string(),
            certificate_id: order.certificate.to_string(),
            holder: order.holder.to_string(),
            attempt: order.attempt,
            state: state.into(),
            opened_at: order.opened_at.to_string(),
            serial_number: version.map(|v| v.serial.to_string()),
            error,
            retry_at,
            deployments: deployed
                .iter()
                .filter_map(|d| Some(DeploymentShape::new(d.deployment.as_ref()?, &d.target)))
                .collect(),
        }
    }
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Deployment)]
pub struct DeploymentShape {
    /// The target.
    pub target_id: String,
    /// Its name.
    pub target_name: String,
    /// The serial number that is to be served.
    pub serial_number: String,
    /// `pending`, `confirmed`, `failed` or `superseded`.
    pub state: String,
    /// When it came to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Where the version was seen served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confirmed_at: Vec<String>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is served there instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_served: Vec<StillServed>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub retry_at: Option<String>,
    /// The last attempt that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<AttemptShape>,
}

/// What an endpoint serves in place of what it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StillServed {
    /// The endpoint.
    pub endpoint: String,
    /// The serial number served, lower hex.
    pub serial_number: String,
}

impl DeploymentShape {
    /// A deployment on its target.
    pub fn new(d: &Deployment, target: &Target) -> Self {
        let mut shape = Self {
            target_id: target.id.to_string(),
            target_name: target.name.clone(),
            serial_number: d.serial.to_string(),
            state: "pending".into(),
            at: None,
            confirmed_at: Vec::new(),
            error: None,
            still_served: Vec::new(),
            retry_at: None,
            last_attempt: d.last.as_ref().map(AttemptShape::from),
        };
        match &d.state {
            DeploymentState::Pending => {}
            DeploymentState::Confirmed { at, endpoints } => {
                shape.state = "confirmed".into();
                shape.at = Some(at.to_string());
                shape.confirmed_at = endpoints.clone();
            }
            DeploymentState::Failed {
                at,
                reason,
                served,
                retry_at,
                ..
            } => {
                shape.state = "failed".into();
                shape.at = Some(at.to_string());
                shape.error = Some(reason.clone());
                shape.still_served = served
                    .iter()
                    .map(|(endpoint, serial)| StillServed {
                        endpoint: endpoint.clone(),
                        serial_number: serial.clone(),
                    })
                    .collect();
                shape.retry_at = Some(retry_at.to_string());
            }
            DeploymentState::Superseded { at } => {
                shape.state = "superseded".into();
                shape.at = Some(at.to_string());
            }
        }
        shape
    }
}

/// Why a certificate is revoked.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RevokeWish {
    /// A word of RFC 5280, section 5.3.1; `unspecified` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a version is exported as PKCS#12. Has no `Debug`: the password must not reach a log.
#[derive(Default, Deserialize, ToSchema)]
pub struct Pkcs12Wish {
    /// The file's password; may be empty.
    #[serde(default)]
    pub password: String,
}

/// The answer to one export too many of a caller.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportsSpent {
    /// `rate_limit_exceeded`.
    pub error: String,
    /// When the next one is possible.
    pub retry_after_seconds: u64,
}

/// What was done, in a word.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Status)]
pub struct StatusShape {
    /// E.g. `revoked`.
    pub status: String,
}

impl StatusShape {
    /// A word.
    pub fn new(status: &str) -> Self {
        Self {
            status: status.into(),
        }
    }
}

/// A version, PEM.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Export)]
pub struct ExportShape {
    /// The leaf.
    pub cert_pem: String,
    /// Its issuers, nearest first.
    pub chain_pem: String,
    /// Leaf and issuers.
    pub full_pem: String,
}

/// A target to make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TargetNew {
    /// Its id; made when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The agent that owns it.
    pub agent_id: String,
    /// Its configuration.
    #[serde(default)]
    pub config: serde_json::Value,
    /// A new target is in use, whatever this says.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub enabled: Ignored,
}

/// What is to change of a target; what is absent stays.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct TargetChange {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its agent, which does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Its configuration, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
    /// True as long as it is not retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl Edits for TargetChange {
    type Resource = TargetShape;
}

/// A target.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Target)]
pub struct TargetShape {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The agent that owns it.
    pub agent_id: String,
    /// Its configuration.
    pub config: serde_json::Value,
    /// False once it is retired.
    pub enabled: bool,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last edited.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// When it was retired, with its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub retired_at: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_reason: Option<String>,
    /// `untested`, `pending`, `success` or `failed`; not among one certificate's targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_status: Option<String>,
    /// When the last test ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub last_tested_at: Option<String>,
    /// The last test's job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_job_id: Option<String>,
    /// Of one certificate's targets: its newest deployment there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentShape>,
}

impl From<&Target> for TargetShape {
    fn from(t: &Target) -> Self {
        let config = match &t.config {
            serde_json::Value::Null => serde_json::json!({}),
            config => config.clone(),
        };
        Self {
            id: t.id.to_string(),
            name: t.name.clone(),
            kind: t.kind.clone(),
            agent_id: t.agent.to_string(),
            config,
            enabled: t.retired.is_none(),
            created_at: t.created_at.to_string(),
            updated_at: t.updated_at.to_string(),
            retired_at: t.retired.as_ref().map(|r| r.at.to_string()),
            retired_reason: t.retired.as_ref().map(|r| r.reason.clone()),
            test_status: None,
            last_tested_at: None,
            test_job_id: None,
            deployment: None,
        }
    }
}

impl TargetShape {
    /// Says how the target's newest test stands.
    pub fn tested(&mut self, test: Option<&JobView>) {
        let job = test.map(|view| &view.job);
        let status = job.map_or("untested", |job| match job.state {
            JobState::Succeeded { .. } => "success",
            JobState::Failed { .. } | JobState::Cancelled { .. } => "failed",
            _ => "pending",
        });
        self.test_status = Some(status.into());
        self.last_tested_at = job.and_then(|job| Some(job.ended_at()?.to_string()));
        self.test_job_id = job.map(|job| job.id.to_string());
    }
}

impl From<&Deployed> for TargetShape {
    fn from(d: &Deployed) -> Self {
        Self {
            deployment: d
                .deployment
                .as_ref()
                .map(|deployment| DeploymentShape::new(deployment, &d.target)),
            ..Self::from(&d.target)
        }
    }
}

/// An event of the audit log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct EventShape {
    /// `audit-<number>`.
    pub id: String,
    /// Who.
    pub actor: String,
    /// What the actor is.
    pub actor_type: String,
    /// What was done.
    pub action: String,
    /// The kind of thing it was done to.
    pub resource_type: String,
    /// The thing.
    pub resource_id: String,
    /// More, by name.
    pub details: BTreeMap<String, String>,
    /// When.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// `cert_lifecycle`, `auth` or `config`.
    #[schema(value_type = String)]
    pub event_category: crate::domain::Category,
}

impl From<&Event> for EventShape {
    fn from(e: &Event) -> Self {
        Self {
            id: format!("audit-{}", e.number),
            actor: e.event.actor.clone(),
            actor_type: e.event.actor_type.as_str().into(),
            action: e.event.action.clone(),
            resource_type: e.event.resource_type.clone(),
            resource_id: e.event.resource_id.clone(),
            details: e.event.details.clone(),
            timestamp: e.event.at.to_string(),
            event_category: e.event.category,
        }
    }
}

/// Whether the audit log is as it was written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditChain)]
pub struct ChainShape {
    /// Each entry follows from the one before it.
    pub intact: bool,
    /// How many there are, when it is intact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// The first that does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_fault: Option<String>,
}
