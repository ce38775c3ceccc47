//! The certificate lifecycle: its words, its states and the decisions between them. Pure: the
//! moment is an argument, and nothing here reads or writes the outside world.

pub mod access;
pub mod agent;
pub mod attempt;
pub mod audit;
pub mod certificate;
pub mod deployment;
pub mod fault;
pub mod finding;
pub mod found;
pub mod issuer;
pub mod job;
pub mod key;
pub mod leader;
pub mod naming;
pub mod observation;
pub mod once;
pub mod order;
pub mod owner;
pub mod policy;
pub mod profile;
pub mod renewal;
pub mod replan;
pub mod restoration;
pub mod revocation;
pub mod rule;
pub mod target;
pub mod version;

pub use access::{Access, Holdings, Principal, PrincipalKind, Scope};
pub use agent::{
    Agent, AgentStatus, JoinToken, NameScope, Presence, Retired, Said, Skew, TokenState,
};
pub use attempt::{Attempt, Ending};
pub use audit::{AuditEvent, Category};
pub use certificate::{
    Certificate, Current, EXPIRING_WITHIN, Holder, HolderState, Plan, Revoked, Status,
};
pub use deployment::{Deployment, DeploymentState};
pub use fault::Fault;
pub use finding::{Finding, Grade};
pub use found::Found;
pub use issuer::{CaNode, Issuer, IssuerKind, IssuerTest};
pub use job::{Executor, Job, JobKind, JobState, Lease};
pub use key::{
    ApiKey, CustomRole, Former, Grant, KeyUse, RolePermission, SESSION_IDLE, SESSION_LIFETIME,
    SecretShown, Session, SessionEnd,
};
pub use leader::Leader;
pub use naming::Naming;
pub use observation::{Look, Observation};
pub use order::{Cause, FailureClass, Order, OrderState};
pub use owner::{Owner, Team};
pub use policy::{Channel, RenewalPolicy, Retry, Tier};
pub use profile::{KeyRule, Profile};
pub use replan::{Edited, Replan};
pub use restoration::Restoration;
pub use revocation::Revocation;
pub use rule::{PolicyRule, Severity, Subject, Wants};
pub use target::Target;
pub use version::{Chain, Version};
