//! Use cases: authorise, load, decide, commit.
//!
//! [`App`] holds everything a use case may touch; there is no other way to a clock, a random
//! number, a socket or the store. Each use case takes the acting [`Principal`] and asks it for
//! the permission it needs.

mod access;
mod agents;
mod audit;
pub mod backup;
mod backups;
mod birth;
mod bulk;
mod cas;
mod certificates;
mod compact;
mod configuration;
mod configured;
mod crl;
mod database;
mod demand;
mod deploy;
pub mod doctor;
mod edit;
mod error;
mod expected;
mod export;
mod fence;
mod follow;
mod gap;
mod issue;
mod issuers;
mod jobs;
mod join;
mod journal;
mod keys;
mod lead;
mod lifecycle;
mod limits;
pub mod lists;
mod machine_key;
mod metrics;
mod nodes;
mod observe;
mod once;
mod password;
mod ping;
mod replan;
mod report;
mod restore_plan;
mod restore_steps;
mod retention;
mod retire;
mod revoke;
mod roles;
mod room;
mod rules;
mod schema;
mod secrets;
mod sessions;
mod sight;
mod start;
mod stats;
pub mod storage;
mod system_ca;
mod targets;
pub mod views;
mod work;

pub use crate::sys::size;
pub use access::{AGENT_CREDENTIAL, Credential};
pub use agents::{AgentDetail, AgentFilter, AgentPage, AgentView, Dependents, VERSION};
pub use audit::{Chained, EventExport, EventFilter, EventPage};
pub use backups::{BackupRun, BackupState, BackupStep, EndedBackup, InSink, WantedBackup};
pub use bulk::{Bulk, MOST_NAMED, Selection};
pub use cas::{ImportedCa, NewCa};
pub use certificates::NewCertificate;
pub use compact::{CompactError, Compacted, compact_machine};
pub use configuration::{Change, Configuration};
pub use crl::Crl;
pub use database::login;
pub use demand::Demand;
pub use edit::CertificateEdit;
pub use error::AppError;
pub use expected::Expected;
pub use export::Export;
pub use issuers::{IssuerEdit, IssuerView};
pub use jobs::{JobFilter, JobList, JobPage, JobView};
pub use join::{NewToken, TokenMade, TokenPage, TokenView};
pub use journal::JournalState;
pub use keys::{KeyMade, KeyView, MAX_OVERLAP, NewGrant, NewKey};
pub use metrics::{Issuance, Numbers};
pub use observe::{ServedAt, ServedNow, ServedState};
pub use password::{PasswordChanged, PasswordError, rotate_password};
pub use ping::{PingFailure, Pinged, ping_machine, rotate_machine_password};
pub use restore_plan::{Named, RestorePlan, Unknown};
pub use restore_steps::{Does, Step};
pub use retention::{Kept, RETENTION};
pub use retire::Retirement;
pub use roles::{RoleEdit, RoleView};
pub use room::LowDisk;
pub use rules::{Violation, ViolationPage};
pub use schema::{
    Before, HiddenValues, MigrationView, SchemaChange, SchemaStatus, Standing, Upkeep,
    awaited_schema, backup_before_migration,
};
pub use secrets::{
    DataKey, Resealed, Secrets, SecretsDone, SecretsWork, rotate_machine_key_here,
    secrets_of_machine,
};
pub use sessions::{Browser, SessionView, SessionsOf};
pub use start::{
    FIRST_START, ISSUER_LOCAL, POLICY_DEFAULT, PROFILE_DEFAULT, Parts, SYSTEM_CA_FILE, StartError,
    Started, machine_engine,
};
pub use stats::{Day, Summary};
pub use system_ca::{SystemCa, passing_identity};
pub use targets::{NewTarget, TargetEdit, TargetList, TargetPage, TargetView};

use crate::{
    access::Permission,
    clock::{Clock, Rng, Time},
    config::ServerConfig,
    crypt::Crypto,
    domain::{AuditEvent, Principal, PrincipalKind, Scope},
    id::Id,
    jobs::{Doorbell, Heard, Pulse, Seen, Watched},
    net::ServerIdentity,
    store::{
        AUDIT, Batch, CounterChange, CounterOp, Document, Key, Loaded, RingRow, Store, StoreError,
        Unit,
    },
    sys::{Files, Lock, Rooms, Tasks},
    telemetry::{Metrics, Throttle},
};
use std::{ops::RangeInclusive, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How often a decision is made again when what it rested on changed meanwhile.
const DECISIONS: usize = 16;
/// A store that is well answers within this: whoever asks whether it is does not wait for long.
const ANSWER: Duration = Duration::from_secs(5);

/// A server as somebody acts in it.
///
/// Servers that share a store elect one that leads: work which is to be done once is done through
/// [`leading`](App::leading), whose every decision asserts the term that it was begun in.
#[derive(Clone)]
pub struct App {
    server: Arc<Server>,
    /// The version of the row of the term, where this is the work of a leader.
    term: Option<u64>,
}

impl std::ops::Deref for App {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Everything a server was given, and what it remembers.
pub struct Server {
    _alone: Option<Lock>,
    /// Where everything is kept.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub rng: Arc<dyn Rng>,
    /// Makes keys.
    pub crypto: Arc<dyn Crypto>,
    /// The server's own files.
    files: Arc<dyn Files>,
    /// Tells how much room the disk has.
    rooms: Arc<dyn Rooms>,
    /// The room at the last look.
    found: room::Found,
    /// Starts tasks.
    pub tasks: Tasks,
    /// Opens what is sealed.
    pub keyring: secrets::Ring,
    /// The CAs whose keys we hold, those that were opened.
    pub nodes: nodes::Nodes,
    /// Their revocation lists.
    pub crls: crl::Crls,
    /// The policy rules, as they were last read.
    pub rules: rules::Rules,
    /// The system CA: signs the server's own certificate.
    pub system_ca: SystemCa,
    /// The certificates the listener shows.
    pub identity: Arc<ServerIdentity>,
    /// Wakes agents that wait for work.
    pub doorbell: Doorbell,
    /// When agents were last heard.
    pub heard: Heard,
    /// When keys were last used.
    keys_used: Seen,
    /// When browser sessions were last used.
    sessions_used: Seen,
    /// The keys that the configuration brings.
    configured: configured::Configured,
    /// How often callers may call.
    limits: limits::Limits,
    /// Whether this one leads the servers of the store.
    lead: lead::Lead,
    /// What it has seen of leases that seem to have run out.
    leases: sight::Sights,
    /// How far it has followed what others commit.
    followed: follow::Followed,
    /// Whether a restored store may be acted on.
    fence: fence::Fence,
    /// The backups that are made here.
    backups: backups::Backups,
    /// The look at the whole installation.
    doctor: doctor::Doctor,
    /// What was counted of the store.
    storage: storage::Storage,
    /// What agents are to look at, and when they did.
    pub watched: Watched,
    /// When the loops last looked.
    pub pulse: Pulse,
    /// Refused calls, as far as the log tells of them.
    pub refusals: Throttle,
    /// What this process measures of itself.
    pub metrics: Metrics,
    /// When this process began: until a while later an agent's silence says nothing.
    pub started_at: Time,
    /// The settings.
    pub config: ServerConfig,
}

/// Why a server takes no work.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It is about to stop.
    #[error("the server is stopping")]
    Stopping,
    /// A loop has not looked for long.
    #[error("the loop {0} has not looked for long")]
    Loop(&'static str),
    /// A later version has changed the store.
    #[error("a later version has changed the store, and this one may no longer write to it")]
    Outdated,
    /// The store was brought back to the format of an earlier version.
    #[error("the store has the format of an earlier version: `certctl migrate up` brings it up")]
    Behind,
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store says nothing.
    #[error("the store did not answer within {ANSWER:?}")]
    Silent,
}

impl App {
    /// Now.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// A new id.
    pub fn new_id(&self, prefix: &str) -> Id {
        Id::generate(prefix, self.now(), &*self.rng)
    }

    /// A name for one request, for its answer and the log.
    pub fn request_id(&self) -> String {
        let mut bits = [0; 16];
        self.rng.fill(&mut bits);
        uuid::Builder::from_random_bytes(bits)
            .into_uuid()
            .to_string()
    }

    /// Whether the store answers and takes commits, the loops look, and the server is not about to
    /// stop.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let looked = timeout(ANSWER, self.looked_at()).await;
        looked.unwrap_or(Err(NotReady::Silent))
    }

    async fn looked_at(&self) -> Result<(), NotReady> {
        if self.tasks.token().is_cancelled() {
            return Err(NotReady::Stopping);
        }
        if let Some(name) = self.pulse.stalled() {
            return Err(NotReady::Loop(name));
        }
        self.store.get::<RingRow>(&known("ring")).await?;
        if self.store.is_outdated() {
            return Err(NotReady::Outdated);
        }
        if self.store.is_behind() {
            return Err(NotReady::Behind);
        }
        if self.store.is_refusing() {
            self.store
                .commit(self.trial())
                .await
                .map_err(StoreError::from)?;
        }
        Ok(())
    }

    /// Hands on the lead, writes down what is only remembered and closes the store: the last thing
    /// a server does.
    pub async fn close(&self) {
        self.resign().await;
        if let Err(e) = self.write_heard().await {
            tracing::warn!(error = %e, "heartbeats were not written down");
        }
        if let Err(e) = self.write_uses().await {
            tracing::warn!(error = %e, "the last uses of keys were not written down");
        }
        self.store.close().await;
    }

    /// Lets the change feed forget what is older than `kept`.
    pub(crate) async fn trim_feed(&self, kept: Duration) -> Result<(), AppError> {
        let old = self.now().minus(kept);
        match self.store.trim_feed(old, || self.unit()).await {
            Err(StoreError::Commit(e)) => Err(self.refused(e)),
            trimmed => Ok(trimmed?),
        }
    }

    /// A commit that changes nothing of meaning, by which a store that took none is seen to take
    /// them again.
    fn trial(&self) -> Batch {
        Batch {
            id: self.commit_id(),
            at: self.now(),
            counters: vec![CounterChange {
                key: Key::new().text("trial").bytes(),
                op: CounterOp::Add {
                    n: 1,
                    max: i64::MAX,
                },
            }],
            ..Batch::default()
        }
    }

    /// A new decision. That of a leader asserts its term: it cannot be committed after another
    /// server took over.
    pub(crate) fn unit(&self) -> Unit<'_> {
        let mut unit = self.store.unit(self.commit_id(), self.now());
        self.assert_term(&mut unit);
        unit
    }

    fn commit_id(&self) -> u128 {
        let mut id = [0; 16];
        self.rng.fill(&mut id);
        u128::from_be_bytes(id)
    }

    /// Decides and commits; decides again on fresh rows while what the decision rested on changes
    /// under it. A decision that changes nothing is not committed. `decide` fills the unit it is given and hands it back with what the caller gets; it
    /// must have no effect beyond the unit.
    pub(crate) async fn decide<'a, T, F>(
        &'a self,
        mut decide: impl FnMut(Unit<'a>) -> F,
    ) -> Result<T, AppError>
    where
        F: Future<Output = Result<(Unit<'a>, T), AppError>>,
    {
        for _ in 0..DECISIONS {
            let (unit, outcome) = decide(self.unit()).await?;
            if unit.changes_nothing() {
                return Ok(outcome);
            }
            match unit.commit().await {
                Ok(_) => return Ok(outcome),
                // What is remembered of the rules may be what is out of date.
                Err(e) if e.is_conflict() && !self.is_superseded(&e) => self.rules.forget(),
                Err(e) => return Err(self.refused(e)),
            }
        }
        Err(AppError::Busy)
    }
}

/// Asks for a permission everywhere. An agent and the system hold none: what they may do is not in
/// roles.
pub(crate) fn require(who: &Principal, permission: Permission) -> Result<(), AppError> {
    require_on(who, permission, &Scope::Global)
}

/// Asks for a permission on one thing; one that is held everywhere counts there.
pub(crate) fn require_on(
    who: &Principal,
    permission: Permission,
    scope: &Scope,
) -> Result<(), AppError> {
    if who.access.allows_on(permission, scope) {
        Ok(())
    } else if who.access.allows_somewhere(permission) {
        Err(AppError::ForbiddenHere(permission))
    } else {
        Err(AppError::Forbidden(permission))
    }
}

/// Asks that an agent acts, and for itself.
pub(crate) fn require_agent<'a>(who: &'a Principal, id: &Id) -> Result<&'a Id, AppError> {
    match &who.agent {
        Some(agent) if who.kind == PrincipalKind::Agent && agent == id => Ok(agent),
        _ => Err(AppError::NotThisAgent),
    }
}

/// Loads a row that the decision rests on; `kind` names it when it is not there.
pub(crate) async fn need<T: Document>(
    unit: &mut Unit<'_>,
    kind: &'static str,
    id: &Id,
) -> Result<Loaded<T>, AppError> {
    unit.load_opt(id)
        .await?
        .ok_or_else(|| AppError::not_found(kind, id))
}

/// Refuses an id of the caller's choice that is taken.
pub(crate) async fn free<T: Document>(
    unit: &mut Unit<'_>,
    kind: &'static str,
    id: &Id,
) -> Result<(), AppError> {
    match unit.load_opt::<T>(id).await? {
        None => Ok(()),
        Some(_) => Err(AppError::Conflict(format!(
            "id: {kind} {id} exists already"
        ))),
    }
}

/// Refuses a text of another length (in bytes), or with control characters: terminals obey them.
pub(crate) fn printable(
    field: &'static str,
    text: &str,
    length: RangeInclusive<usize>,
) -> Result<(), AppError> {
    if length.contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let (least, most) = (length.start(), length.end());
    let message = format!("{least} to {most} printable characters are accepted");
    Err(AppError::invalid(field, message))
}

/// Adds an event to the batch.
pub(crate) fn audit(unit: &mut Unit<'_>, event: &AuditEvent) {
    unit.append(AUDIT, event);
}

/// A text of ours that is an id.
pub(crate) fn known(id: &'static str) -> Id {
    id.parse()
        .unwrap_or_else(|_| Id::derived("id", id.as_bytes()))
}
