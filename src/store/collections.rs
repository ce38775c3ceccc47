//! The collections and their indexes, in one place: where each document of the domain is kept and
//! by which keys it is found.

use super::{
    Coll, Collection, Document, Index, Key, Keys,
    migrate::{MIGRATIONS, Record, Schema, format_of},
};
use crate::{
    clock::Time,
    crypt::RingDoc,
    domain::{
        Agent, ApiKey, Attempt, CaNode, Certificate, Chain, CustomRole, Deployment,
        DeploymentState, Found, Holder, Issuer, IssuerTest, Job, JoinToken, KeyUse, Leader, Look,
        Observation, Order, OrderState, Owner, Plan, PolicyRule, Presence, Profile, RenewalPolicy,
        Replan, Restoration, Revocation, Session, Target, Team, Version, job::JobKind,
        once::Outcome,
    },
    id::Id,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The audit log's stream.
pub const AUDIT: &str = "audit";

/// A total of all rows that ever came to count towards it.
pub fn total(of: &str) -> Key {
    Key::new().text("total").text(of)
}

macro_rules! document {
    ($type:ty, $coll:literal, [$($index:ident),*], |$self:ident, $keys:ident| $body:block) => {
        document!($type, $coll, [$($index),*], |$self, $keys| $body,);
    };
    ($type:ty, $coll:literal, [$($index:ident),*], |$self:ident, $keys:ident| $body:block,
     $(|$me:ident, $before:ident| $totals:block)?) => {
        impl Document for $type {
            const COLL: Coll = Coll($coll);
            const FORMAT: u16 = format_of($coll, MIGRATIONS);
            const INDEXES: &'static [Index] = &[$($index),*];
            fn id(&self) -> &Id {
                &self.id
            }
            fn keys(&$self, $keys: &mut Keys) $body
            $(
                const COUNTS: bool = true;
                fn totals(&$me, $before: Option<&Self>) -> Vec<Key> $totals
            )?
        }
    };
}

/// Certificates by creation: (day, time), counted by day.
pub const CERT_CREATED: Index = Index::new(Certificate::COLL, "cert.created").counted_by(8);
/// Certificates by their last edit: (day, time), counted by day.
pub const CERT_UPDATED: Index = Index::new(Certificate::COLL, "cert.updated").counted_by(8);
/// Certificates by common name: (common name in lower case).
pub const CERT_COMMON_NAME: Index = Index::new(Certificate::COLL, "cert.common_name").counted_by(0);
/// Certificates by name: (name in lower case).
pub const CERT_NAME: Index = Index::new(Certificate::COLL, "cert.name").counted_by(0);
/// Certificates by the end of the version that ends first: (archived or revoked, hour, time),
/// counted by hour. One without a version ends [never](NEVER).
pub const CERT_EXPIRY: Index = Index::new(Certificate::COLL, "cert.expiry").counted_by(9);
/// Certificates by the moment at which an order is due: (time).
pub const CERT_DUE: Index = Index::new(Certificate::COLL, "cert.due");
/// Certificates by target: (target id).
pub const CERT_TARGET: Index = Index::new(Certificate::COLL, "cert.target");
/// Certificates by what is the matter with them: (text of [`Condition`]).
pub const CERT_CONDITION: Index = Index::new(Certificate::COLL, "cert.condition").counted();
/// Certificates by environment: (environment).
pub const CERT_ENVIRONMENT: Index = Index::new(Certificate::COLL, "cert.environment").counted();
/// Certificates by issuer: (issuer id).
pub const CERT_ISSUER: Index = Index::new(Certificate::COLL, "cert.issuer").counted();
/// Certificates by profile: (profile id).
pub const CERT_PROFILE: Index = Index::new(Certificate::COLL, "cert.profile").counted();
/// Certificates by renewal policy: (policy id).
pub const CERT_POLICY: Index = Index::new(Certificate::COLL, "cert.policy").counted();
/// Certificates by label: (name, value).
pub const CERT_TAG: Index = Index::new(Certificate::COLL, "cert.tag").counted();
/// Certificates by owner, where one is named: (owner).
pub const CERT_OWNER: Index = Index::new(Certificate::COLL, "cert.owner").counted();
/// Certificates by team, where one is named: (team).
pub const CERT_TEAM: Index = Index::new(Certificate::COLL, "cert.team").counted();
/// Certificates by the agents that hold keys and are not retired: (agent id).
pub const CERT_AGENT: Index = Index::new(Certificate::COLL, "cert.agent").counted();
/// Certificates whose orders are due while their issuer is switched off: (issuer id).
pub const CERT_BLOCKED: Index = Index::new(Certificate::COLL, "cert.blocked").counted_by(0);
/// Revoked certificates of which versions are still to be revoked: (time).
pub const CERT_UNFINISHED: Index = Index::new(Certificate::COLL, "cert.unfinished");
document!(
    Certificate,
    "certificate",
    [
        CERT_CREATED,
        CERT_UPDATED,
        CERT_NAME,
        CERT_COMMON_NAME,
        CERT_EXPIRY,
        CERT_DUE,
        CERT_TARGET,
        CERT_CONDITION,
        CERT_ENVIRONMENT,
        CERT_ISSUER,
        CERT_PROFILE,
        CERT_POLICY,
        CERT_TAG,
        CERT_OWNER,
        CERT_TEAM,
        CERT_AGENT,
        CERT_BLOCKED,
        CERT_UNFINISHED
    ],
    |self, keys| {
        let text = |text: &str| Key::new().text(text);
        keys.put(CERT_CREATED, day_key(self.created_at));
        keys.put(CERT_UPDATED, day_key(self.updated_at));
        keys.put(CERT_NAME, text(&self.name.to_lowercase()));
        keys.put(CERT_COMMON_NAME, text(&self.common_name.to_lowercase()));
        let end = self.expires_at().unwrap_or(NEVER);
        keys.put(CERT_EXPIRY, expiry_key(self.ended().is_some(), end));
        for (_, at) in self.due() {
            keys.put(CERT_DUE, Key::new().time(at));
        }
        for target in &self.targets {
            keys.put(CERT_TARGET, text(target.as_str()));
        }
        for condition in Condition::of(self) {
            keys.put(CERT_CONDITION, text(condition.as_str()));
        }
        keys.put(CERT_ENVIRONMENT, text(&self.environment));
        keys.put(CERT_ISSUER, text(self.issuer_id.as_str()));
        keys.put(CERT_PROFILE, text(self.profile_id.as_str()));
        keys.put(CERT_POLICY, text(self.policy_id.as_str()));
        for (name, value) in &self.tags {
            keys.put(CERT_TAG, text(name).text(value));
        }
        for (index, name) in [(CERT_OWNER, &self.owner_id), (CERT_TEAM, &self.team_id)] {
            if !name.is_empty() {
                keys.put(index, text(name));
            }
        }
        for (holder, line) in &self.holders {
            if let Holder::Agent(agent) = holder
                && line.ended_at.is_none()
            {
                keys.put(CERT_AGENT, text(agent.as_str()));
            }
        }
        if let Some(revoked) = self.revoked.as_ref().filter(|r| r.unfinished) {
            keys.put(CERT_UNFINISHED, Key::new().time(revoked.at));
        }
        let mut lines = self.holders.values();
        if lines.any(|line| line.blocked_since.is_some()) {
            keys.put(CERT_BLOCKED, text(self.issuer_id.as_str()));
        }
    }
);

/// The end of a certificate that has no version.
pub const NEVER: Time = Time::from_micros(i64::MAX);

/// A place among moments that are counted by day.
pub fn day_key(at: Time) -> Key {
    const DAY: i64 = 86_400_000_000;
    Key::new().i64(at.micros().div_euclid(DAY)).time(at)
}

/// A place in [`CERT_EXPIRY`].
pub fn expiry_key(archived: bool, end: Time) -> Key {
    expiry_hour_key(archived, end).time(end)
}

/// The beginning of all places of an hour in [`CERT_EXPIRY`], by which they are counted.
pub fn expiry_hour_key(archived: bool, end: Time) -> Key {
    const HOUR: i64 = 3_600_000_000;
    Key::new().flag(archived).i64(end.micros().div_euclid(HOUR))
}

/// What can be the matter with a certificate, apart from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// An order is open.
    InFlight,
    /// The last attempt of a holder failed.
    Failing,
    /// It was put away; then nothing of the above is said.
    Archived,
    /// It was revoked; then nothing of the above is said but that it was put away.
    Revoked,
}

impl Condition {
    /// The word in the index.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Failing => "failing",
            Self::Archived => "archived",
            Self::Revoked => "revoked",
        }
    }

    fn of(certificate: &Certificate) -> Vec<Self> {
        let archived = certificate.archived_at.is_some();
        let revoked = certificate.revoked.is_some();
        if archived || revoked {
            let all = [(Self::Archived, archived), (Self::Revoked, revoked)];
            return all
                .into_iter()
                .filter(|(_, is)| *is)
                .map(|(c, _)| c)
                .collect();
        }
        let lines = || certificate.holders.values();
        let in_flight = lines().any(|line| matches!(line.plan, Plan::InFlight { .. }));
        let failing = lines().any(|line| line.failure.is_some());
        let all = [(Self::InFlight, in_flight), (Self::Failing, failing)];
        let true_ones = all.into_iter().filter(|(_, is)| *is);
        true_ones.map(|(condition, _)| condition).collect()
    }
}

/// Versions of a certificate: (certificate, time).
pub const VERSION_CERT: Index = Index::new(Version::COLL, "version.cert");
/// Versions by serial number: (issuer, serial).
pub const VERSION_SERIAL: Index = Index::new(Version::COLL, "version.serial").unique();
/// Versions by fingerprint: (SHA-256 hex).
pub const VERSION_FINGERPRINT: Index = Index::new(Version::COLL, "version.fingerprint").unique();
document!(
    Version,
    "version",
    [VERSION_CERT, VERSION_SERIAL, VERSION_FINGERPRINT],
    |self, keys| {
        keys.put(
            VERSION_CERT,
            Key::new()
                .text(self.certificate.as_str())
                .time(self.created_at),
        );
        keys.put(
            VERSION_SERIAL,
            Key::new()
                .text(self.issuer.as_str())
                .text(&self.serial.to_string()),
        );
        keys.put(
            VERSION_FINGERPRINT,
            Key::new().text(&self.fingerprint_sha256),
        );
    }
);

document!(Chain, "chain", [], |self, _keys| {});

/// Revocations by CA node: (CA node).
pub const REVOCATION_NODE: Index = Index::new(Revocation::COLL, "revocation.node").counted();
/// Revocations by the end of the version revoked: (CA node, time).
pub const REVOCATION_END: Index = Index::new(Revocation::COLL, "revocation.end");
document!(
    Revocation,
    "revocation",
    [REVOCATION_NODE, REVOCATION_END],
    |self, keys| {
        let node = Key::new().text(self.node.as_str());
        keys.put(REVOCATION_NODE, node.clone());
        keys.put(REVOCATION_END, node.time(self.not_after));
    }
);

/// Orders that have not ended: (certificate, holder). At most one each.
pub const ORDER_OPEN: Index = Index::new(Order::COLL, "order.open").unique();
/// Orders that have ended, by what their retention counts from: (time).
pub const ORDER_ENDED: Index = Index {
    revision: 2,
    ..Index::new(Order::COLL, "order.ended")
};
document!(
    Order,
    "order",
    [ORDER_OPEN, ORDER_ENDED],
    |self, keys| {
        if let Some(at) = self.kept_from() {
            keys.put(ORDER_ENDED, Key::new().time(at));
        }
        if self.is_open() {
            keys.put(
                ORDER_OPEN,
                Key::new()
                    .text(self.certificate.as_str())
                    .text(&self.holder.to_string()),
            );
        }
    },
    |self, before| {
        match &self.state {
            _ if before.is_some_and(|before| !before.is_open()) => Vec::new(),
            OrderState::Open => Vec::new(),
            OrderState::Issued { at, .. } => {
                vec![issued_total(&self.issuer), issued_on(day_of(*at))]
            }
            OrderState::Failed { class, .. } => {
                let class = class.error_class(self.is_renewal());
                let refused = class.map(|class| refused_total(&self.issuer, &class));
                refused.into_iter().collect()
            }
        }
    }
);

/// The total of what an issuer has issued.
pub fn issued_total(issuer: &Id) -> Key {
    total("issuance").text(issuer.as_str())
}

/// The total of versions that were issued on a day.
pub fn issued_on(day: i64) -> Key {
    total("issuance_day").i64(day)
}

/// The total of what an issuer, or the way to it, has refused, by the class of the error.
pub fn refused_total(issuer: &Id, class: &str) -> Key {
    total("issuance_failure").text(issuer.as_str()).text(class)
}

/// Jobs by creation: (time).
pub const JOB_CREATED: Index = Index::new(Job::COLL, "job.created").counted_by(0);
/// Jobs by status on the wire: (status).
pub const JOB_STATUS: Index = Index::new(Job::COLL, "job.status").counted();
/// Jobs by type on the wire: (type).
pub const JOB_TYPE: Index = Index::new(Job::COLL, "job.type").counted();
/// Jobs by who runs them: (executor).
pub const JOB_EXECUTOR: Index = Index::new(Job::COLL, "job.executor").counted();
/// Jobs of a certificate: (certificate).
pub const JOB_CERT: Index = Index::new(Job::COLL, "job.cert");
/// Jobs of a target: (target, type on the wire, time).
pub const JOB_TARGET: Index = Index::new(Job::COLL, "job.target");
/// Jobs that may be begun: (executor, time).
pub const JOB_DUE: Index = Index::new(Job::COLL, "job.due");
/// Jobs being run, by the end of their lease: (time).
pub const JOB_LEASE: Index = Index::new(Job::COLL, "job.lease");
/// Jobs being run, by who runs them: (executor).
pub const JOB_LEASED: Index = Index::new(Job::COLL, "job.leased");
/// Jobs being run that are to be stopped, by who runs them: (executor).
pub const JOB_STOPPING: Index = Index::new(Job::COLL, "job.stopping");
/// Jobs that have not ended, by what they are for: see [`open_job_key`]. At most one each.
pub const JOB_OPEN: Index = Index::new(Job::COLL, "job.open").unique();
/// Jobs that have ended: (time).
pub const JOB_ENDED: Index = Index::new(Job::COLL, "job.ended");
document!(
    Job,
    "job",
    [
        JOB_CREATED,
        JOB_STATUS,
        JOB_TYPE,
        JOB_EXECUTOR,
        JOB_CERT,
        JOB_TARGET,
        JOB_DUE,
        JOB_LEASE,
        JOB_LEASED,
        JOB_STOPPING,
        JOB_OPEN,
        JOB_ENDED
    ],
    |self, keys| {
        let text = |text: &str| Key::new().text(text);
        let executor = || text(&self.executor.to_string());
        keys.put(JOB_CREATED, Key::new().time(self.created_at));
        keys.put(JOB_STATUS, text(self.wire_status()));
        keys.put(JOB_TYPE, text(self.kind.wire_type()));
        keys.put(JOB_EXECUTOR, executor());
        if let Some(id) = &self.certificate {
            keys.put(JOB_CERT, text(id.as_str()));
        }
        if let Some(id) = &self.target {
            let of_type = text(id.as_str()).text(self.kind.wire_type());
            keys.put(JOB_TARGET, of_type.time(self.created_at));
        }
        if let Some(at) = self.ready_at() {
            keys.put(JOB_DUE, executor().time(at));
        }
        if let Some(lease) = self.lease() {
            keys.put(JOB_LEASE, Key::new().time(lease.until));
            keys.put(JOB_LEASED, executor());
        }
        if self.is_stopping() {
            keys.put(JOB_STOPPING, executor());
        }
        match self.ended_at() {
            None => keys.put(JOB_OPEN, open_job_key(&self.kind, self.target.as_ref())),
            Some(at) => keys.put(JOB_ENDED, Key::new().time(at)),
        }
    },
    |self, before| {
        match self.ended_at() {
            Some(at) if before.is_none_or(Job::is_open) => {
                let status = self.wire_status();
                vec![jobs_total(status), jobs_ended_on(status, day_of(at))]
            }
            _ => Vec::new(),
        }
    }
);

/// The total of jobs that ended in a status, by its word on the wire.
pub fn jobs_total(status: &str) -> Key {
    total("job").text(status)
}

/// The total of jobs that ended in a status on a day.
pub fn jobs_ended_on(status: &str, day: i64) -> Key {
    total("job_day").text(status).i64(day)
}

/// The number of a moment's day of UTC, since 1970.
pub fn day_of(at: Time) -> i64 {
    at.seconds().div_euclid(86_400)
}

/// The key under which an open job stands: its order, its deployment, a version's trial on a
/// target, or a target's test.
pub fn open_job_key(kind: &JobKind, target: Option<&Id>) -> Key {
    let key = Key::new();
    let target = target.map_or("", Id::as_str);
    match kind {
        JobKind::Issue { order, .. } => key.text(order.as_str()),
        JobKind::Deploy { deployment } => key.text(deployment.as_str()),
        // No id begins so.
        JobKind::Rehearse { version } => key.text("/trial").text(target).text(version.as_str()),
        JobKind::Test => key.text("/test").text(target),
    }
}

/// Deployments of a certificate: (certificate, time).
pub const DEPLOYMENT_CERT: Index = Index::new(Deployment::COLL, "deployment.cert");
/// Deployments that an order led to: (order).
pub const DEPLOYMENT_ORDER: Index = Index::new(Deployment::COLL, "deployment.order");
/// Deployments that are not settled, by target: (target, certificate).
pub const DEPLOYMENT_OPEN: Index = Index::new(Deployment::COLL, "deployment.open");
/// Failed deployments by the moment of their next try: (time).
pub const DEPLOYMENT_RETRY: Index = Index::new(Deployment::COLL, "deployment.retry").counted_by(0);
document!(
    Deployment,
    "deployment",
    [
        DEPLOYMENT_CERT,
        DEPLOYMENT_ORDER,
        DEPLOYMENT_OPEN,
        DEPLOYMENT_RETRY
    ],
    |self, keys| {
        keys.put(
            DEPLOYMENT_CERT,
            Key::new()
                .text(self.certificate.as_str())
                .time(self.created_at),
        );
        keys.put(DEPLOYMENT_ORDER, Key::new().text(self.order.as_str()));
        if self.is_open() {
            keys.put(
                DEPLOYMENT_OPEN,
                Key::new()
                    .text(self.target.as_str())
                    .text(self.certificate.as_str()),
            );
        }
        if let DeploymentState::Failed { retry_at, .. } = self.state {
            keys.put(DEPLOYMENT_RETRY, Key::new().time(retry_at));
        }
    },
    |self, before| {
        let which = |attempt: &Attempt| (attempt.job.clone(), attempt.number);
        let before = before.and_then(|before| before.last.as_ref()).map(which);
        let last = self.last.as_ref();
        let new = last.filter(|last| Some(which(last)) != before);
        new.map(|attempt| attempts_total(attempt.ending.as_str()))
            .into_iter()
            .collect()
    }
);

/// The total of attempts at deployments that ended so, by the ending's word.
pub fn attempts_total(ending: &str) -> Key {
    total("deploy_attempt").text(ending)
}

/// Observations that found something wrong, by certificate: (certificate).
pub const OBSERVATION_WRONG: Index =
    Index::new(Observation::COLL, "observation.wrong").counted_by(0);
document!(
    Observation,
    "observation",
    [OBSERVATION_WRONG],
    |self, keys| {
        if self.fault().is_some() {
            keys.put(
                OBSERVATION_WRONG,
                Key::new().text(self.certificate.as_str()),
            );
        }
    }
);

/// Targets that are not retired, by name.
pub const TARGET_NAME: Index = Index::new(Target::COLL, "target.name")
    .unique()
    .counted_by(0);
/// Targets that are not retired, by agent: (agent).
pub const TARGET_AGENT: Index = Index::new(Target::COLL, "target.agent").counted();
document!(
    Target,
    "target",
    [TARGET_NAME, TARGET_AGENT],
    |self, keys| {
        if self.retired.is_none() {
            keys.put(TARGET_NAME, Key::new().text(&self.name));
            keys.put(TARGET_AGENT, Key::new().text(self.agent.as_str()));
        }
    }
);

/// Agents that are not retired, by name.
pub const AGENT_NAME: Index = Index::new(Agent::COLL, "agent.name").unique();
/// Agents that are not retired, by enrolment: (time).
pub const AGENT_ENROLLED: Index = Index::new(Agent::COLL, "agent.enrolled").counted_by(0);
/// Agents that are not retired, by version.
pub const AGENT_VERSION: Index = Index::new(Agent::COLL, "agent.version").counted();
/// Agents that are not retired, by operating system.
pub const AGENT_OS: Index = Index::new(Agent::COLL, "agent.os").counted();
/// Retired agents, by their end: (time).
pub const AGENT_RETIRED: Index = Index::new(Agent::COLL, "agent.retired").counted_by(0);
/// Retired agents, by the hash of their secret.
pub const AGENT_GONE: Index = Index::new(Agent::COLL, "agent.gone");
/// Retired agents on which something may still hang: (time).
pub const AGENT_LEAVING: Index = Index::new(Agent::COLL, "agent.leaving");
/// Agents that lost keys, until all of them are made good: (time).
pub const AGENT_KEYS_LOST: Index = Index::new(Agent::COLL, "agent.keys_lost");
document!(
    Agent,
    "agent",
    [
        AGENT_NAME,
        AGENT_ENROLLED,
        AGENT_VERSION,
        AGENT_OS,
        AGENT_RETIRED,
        AGENT_GONE,
        AGENT_LEAVING,
        AGENT_KEYS_LOST
    ],
    |self, keys| {
        if let Some(retired) = &self.retired {
            keys.put(AGENT_RETIRED, Key::new().time(retired.at));
            keys.put(AGENT_GONE, Key::new().text(&self.secret_sha256));
        } else {
            keys.put(AGENT_NAME, Key::new().text(&self.name));
            keys.put(AGENT_ENROLLED, Key::new().time(self.enrolled_at));
            keys.put(AGENT_VERSION, Key::new().text(&self.version));
            keys.put(AGENT_OS, Key::new().text(&self.os));
        }
        for (index, at) in [
            (AGENT_LEAVING, self.leaving_since),
            (AGENT_KEYS_LOST, self.keys_lost_at),
        ] {
            if let Some(at) = at {
                keys.put(index, Key::new().time(at));
            }
        }
    }
);

/// When agents were last heard, as far as it was written down: (time).
pub const PRESENCE_HEARD: Index = Index::new(Presence::COLL, "presence.heard");
document!(Presence, "presence", [PRESENCE_HEARD], |self, keys| {
    keys.put(PRESENCE_HEARD, Key::new().time(self.heard_at));
});

/// Join tokens by the hash of their secret.
pub const TOKEN_SECRET: Index = Index::new(JoinToken::COLL, "join_token.secret").unique();
/// Join tokens by creation: (time).
pub const TOKEN_CREATED: Index = Index::new(JoinToken::COLL, "join_token.created").counted_by(0);
document!(
    JoinToken,
    "join_token",
    [TOKEN_SECRET, TOKEN_CREATED],
    |self, keys| {
        keys.put(TOKEN_SECRET, Key::new().text(&self.secret_sha256));
        keys.put(TOKEN_CREATED, Key::new().time(self.created_at));
    }
);

/// Keys by the hashes of their secrets.
pub const KEY_SECRET: Index = Index::new(ApiKey::COLL, "api_key.secret").unique();
/// Keys by name, without regard to case.
pub const KEY_NAME: Index = Index::new(ApiKey::COLL, "api_key.name").unique();
/// Keys by the roles they are granted, over or not: (role id).
pub const KEY_ROLE: Index = Index::new(ApiKey::COLL, "api_key.role");
document!(
    ApiKey,
    "api_key",
    [KEY_SECRET, KEY_NAME, KEY_ROLE],
    |self, keys| {
        keys.put(KEY_SECRET, Key::new().text(&self.secret_sha256));
        if let Some(former) = &self.former {
            keys.put(KEY_SECRET, Key::new().text(&former.secret_sha256));
        }
        keys.put(KEY_NAME, Key::new().text(&self.name.to_lowercase()));
        let roles: BTreeSet<&str> = self.grants.iter().map(|g| g.role.as_str()).collect();
        for role in roles {
            keys.put(KEY_ROLE, Key::new().text(role));
        }
    }
);

document!(KeyUse, "api_key_use", [], |self, _keys| {});

/// Roles that were made here, by name, without regard to case.
pub const ROLE_NAME: Index = Index::new(CustomRole::COLL, "role.name").unique();
document!(CustomRole, "role", [ROLE_NAME], |self, keys| {
    keys.put(ROLE_NAME, Key::new().text(&self.name.to_lowercase()));
});

/// Sessions by the hash of their cookie.
pub const SESSION_SECRET: Index = Index::new(Session::COLL, "session.secret").unique();
/// Sessions by their end: (time).
pub const SESSION_EXPIRY: Index = Index::new(Session::COLL, "session.expiry");
/// Sessions by the key they were opened with: (key id).
pub const SESSION_KEY: Index = Index::new(Session::COLL, "session.key");
document!(
    Session,
    "session",
    [SESSION_SECRET, SESSION_EXPIRY, SESSION_KEY],
    |self, keys| {
        keys.put(SESSION_SECRET, Key::new().text(&self.secret_sha256));
        keys.put(SESSION_EXPIRY, Key::new().time(self.expires_at));
        keys.put(SESSION_KEY, Key::new().text(self.key.as_str()));
    }
);

/// Profiles by name.
pub const PROFILE_NAME: Index = Index::new(Profile::COLL, "profile.name")
    .unique()
    .counted_by(0);
document!(Profile, "profile", [PROFILE_NAME], |self, keys| {
    keys.put(PROFILE_NAME, Key::new().text(&self.name));
});

/// Renewal policies by name.
pub const POLICY_NAME: Index = Index::new(RenewalPolicy::COLL, "renewal_policy.name")
    .unique()
    .counted_by(0);
document!(
    RenewalPolicy,
    "renewal_policy",
    [POLICY_NAME],
    |self, keys| {
        keys.put(POLICY_NAME, Key::new().text(&self.name));
    }
);

/// Policy rules by name.
pub const RULE_NAME: Index = Index::new(PolicyRule::COLL, "policy_rule.name")
    .unique()
    .counted_by(0);
document!(PolicyRule, "policy_rule", [RULE_NAME], |self, keys| {
    keys.put(RULE_NAME, Key::new().text(&self.name));
});

/// Written whenever a policy rule is: whoever knows its version knows all rules.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RulesHead {
    /// `rules`.
    pub id: Id,
    /// When a rule was last made, edited or deleted.
    pub changed_at: Time,
}
document!(RulesHead, "rules_head", [], |self, _keys| {});

/// Owners by name.
pub const OWNER_NAME: Index = Index::new(Owner::COLL, "owner.name").counted_by(0);
/// Owners by team: (team id).
pub const OWNER_TEAM: Index = Index::new(Owner::COLL, "owner.team").counted();
document!(Owner, "owner", [OWNER_NAME, OWNER_TEAM], |self, keys| {
    keys.put(OWNER_NAME, Key::new().text(&self.name));
    if let Some(team) = &self.team_id {
        keys.put(OWNER_TEAM, Key::new().text(team.as_str()));
    }
});

/// Teams by name.
pub const TEAM_NAME: Index = Index::new(Team::COLL, "team.name").counted_by(0);
document!(Team, "team", [TEAM_NAME], |self, keys| {
    keys.put(TEAM_NAME, Key::new().text(&self.name));
});

/// What is to be planned anew, by the moment of the edit: (time).
pub const REPLAN_SINCE: Index = Index::new(Replan::COLL, "replan.since");
document!(Replan, "replan", [REPLAN_SINCE], |self, keys| {
    keys.put(REPLAN_SINCE, Key::new().time(self.since));
});

/// Issuers by name.
pub const ISSUER_NAME: Index = Index::new(Issuer::COLL, "issuer.name").unique();
document!(Issuer, "issuer", [ISSUER_NAME], |self, keys| {
    keys.put(ISSUER_NAME, Key::new().text(&self.name));
});

/// What came of requests, by the moment at which it is forgotten: (time).
pub const OUTCOME_UNTIL: Index = Index::new(Outcome::COLL, "outcome.until");
document!(Outcome, "outcome", [OUTCOME_UNTIL], |self, keys| {
    keys.put(OUTCOME_UNTIL, Key::new().time(self.until));
});

document!(IssuerTest, "issuer_test", [], |self, _keys| {});

document!(CaNode, "ca_node", [], |self, _keys| {});

/// The key ring; there is one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RingRow {
    /// `ring`.
    pub id: Id,
    /// The ring.
    pub ring: RingDoc,
}
document!(RingRow, "ring", [], |self, _keys| {});

document!(Restoration, "restoration", [], |self, _keys| {});

/// What agents had and a restored store did not know: (taken up, refused, not shown, time), counted
/// by whether it was taken up.
pub const FOUND_STATE: Index = Index::new(Found::COLL, "found.state").counted_by(1);
/// What of it was not taken up, by agent: (agent).
pub const FOUND_AGENT: Index = Index::new(Found::COLL, "found.agent").counted();
/// What of it may still be taken up, by certificate: (certificate).
pub const FOUND_CERT: Index = Index::new(Found::COLL, "found.cert");
document!(
    Found,
    "found",
    [FOUND_STATE, FOUND_AGENT, FOUND_CERT],
    |self, keys| {
        let state = self.state().into_iter().fold(Key::new(), Key::flag);
        keys.put(FOUND_STATE, state.time(self.at));
        if self.version.is_none() {
            keys.put(FOUND_AGENT, Key::new().text(self.agent.as_str()));
        }
        if self.is_judged_again() {
            keys.put(FOUND_CERT, Key::new().text(self.certificate.as_str()));
        }
    }
);

document!(Leader, "leader", [], |self, _keys| {});

document!(Look, "look", [], |self, _keys| {});

/// The key under which an open order stands.
pub fn open_order_key(certificate: &Id, holder: &Holder) -> Key {
    Key::new()
        .text(certificate.as_str())
        .text(&holder.to_string())
}

/// All collections, for the building of their indexes.
pub const COLLECTIONS: &[Collection] = &[
    Collection::of::<Certificate>(),
    Collection::of::<Version>(),
    Collection::of::<Chain>(),
    Collection::of::<Revocation>(),
    Collection::of::<Order>(),
    Collection::of::<Job>(),
    Collection::of::<Deployment>(),
    Collection::of::<Observation>(),
    Collection::of::<Target>(),
    Collection::of::<Agent>(),
    Collection::of::<Presence>(),
    Collection::of::<JoinToken>(),
    Collection::of::<ApiKey>(),
    Collection::of::<KeyUse>(),
    Collection::of::<CustomRole>(),
    Collection::of::<Session>(),
    Collection::of::<Profile>(),
    Collection::of::<RenewalPolicy>(),
    Collection::of::<PolicyRule>(),
    Collection::of::<RulesHead>(),
    Collection::of::<Owner>(),
    Collection::of::<Team>(),
    Collection::of::<Replan>(),
    Collection::of::<Issuer>(),
    Collection::of::<IssuerTest>(),
    Collection::of::<CaNode>(),
    Collection::of::<Outcome>(),
    Collection::of::<RingRow>(),
    Collection::of::<Restoration>(),
    Collection::of::<Found>(),
    Collection::of::<Leader>(),
    Collection::of::<Look>(),
    Collection::of::<Schema>(),
    Collection::of::<Record>(),
];
