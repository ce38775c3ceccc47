//! Backups and restores on the wire.

use crate::{
    app::{
        BackupRun, BackupState, EndedBackup, JournalState, Named, RestorePlan, Step, Unknown,
        backup::Stored,
    },
    clock::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A backup that is wanted. One of `encrypt_to`, `passphrase` and `without_keys` says who can open
/// it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct NewBackup {
    /// Where it goes: `dir:` and an absolute path, or `s3://bucket/prefix`.
    pub sink: String,
    /// age recipients (`age1...`), each of which can open it.
    #[serde(default)]
    pub encrypt_to: Vec<String>,
    /// Whoever knows it can open it.
    pub passphrase: Option<String>,
    /// Not encrypted, and without the key that opens its secrets: it can only be restored beside
    /// the machine key.
    #[serde(default)]
    pub without_keys: bool,
    /// Only what came after this sequence number.
    pub since: Option<Seq>,
    /// The length of the audit log at that number.
    pub since_audit_entries: Option<u64>,
}

/// A sequence number, as text: those of a store that was restored are above 2^53, where programs that
/// read numbers as floating point round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, as = Seq)]
pub struct Seq(pub u64);

impl TryFrom<String> for Seq {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = |_| format!("{text:?} is no sequence number");
        text.parse().map(Self).map_err(digits)
    }
}

impl From<Seq> for String {
    fn from(seq: Seq) -> Self {
        seq.0.to_string()
    }
}

/// A backup.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Backup)]
pub struct BackupShape {
    /// Its name in the sink.
    pub name: String,
    /// When the state that it holds was the present.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The last sequence number of that state.
    pub seq: Seq,
    /// The audit log's length.
    pub audit_entries: u64,
    /// It holds only what came since another.
    pub increment: bool,
    /// Its size.
    pub bytes: u64,
    /// The rows in it.
    pub rows: Option<u64>,
    /// When it was last seen to be good.
    #[schema(format = DateTime)]
    pub proven_at: Option<String>,
    /// It was restored into a scratch store to see that.
    pub proven_by_restore: bool,
    /// Why it does not count as a backup, though it is called as one, and what to do about it.
    #[serde(default)]
    pub unusable_because: Option<String>,
}

impl From<Stored> for BackupShape {
    fn from(stored: Stored) -> Self {
        let proven = stored.proven;
        Self {
            name: stored.name,
            created_at: stored.created_at.to_string(),
            seq: Seq(stored.seq),
            audit_entries: stored.audit_entries,
            increment: stored.increment,
            bytes: stored.bytes,
            rows: stored.rows,
            proven_at: proven.as_ref().map(|p| p.at.whole_seconds().to_string()),
            proven_by_restore: proven.is_some_and(|p| p.restored),
            unusable_because: stored.doubt.map(|doubt| {
                let (what, remedy) = doubt.told();
                format!("{what}: {remedy}")
            }),
        }
    }
}

/// How backups stand.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BackupState)]
pub struct BackupStateShape {
    /// One is being made or proven.
    pub running: bool,
    /// Which.
    pub run: Option<BackupRunShape>,
    /// The sink of the schedule is being looked at.
    pub looking: bool,
    /// What became of the last one that this server made.
    pub last: Option<EndedBackupShape>,
    /// What became of the last ones that this server made, newest first, at most sixteen.
    pub ended: Vec<EndedBackupShape>,
    /// The newest full backup that this server knows of.
    pub newest: Option<BackupShape>,
    /// When one was last seen to be good by restoring it.
    #[schema(format = DateTime)]
    pub proven_at: Option<String>,
    /// How long making the newest one took.
    pub took_milliseconds: Option<u64>,
    /// How many were not made, or not proven, since the server was started.
    pub failures: u64,
    /// When backups are made by themselves.
    pub schedule: Option<String>,
    /// When the next one is.
    #[schema(format = DateTime)]
    pub next_at: Option<String>,
    /// The sink of the schedule.
    pub sink: Option<String>,
    /// When it was last looked at.
    #[schema(format = DateTime)]
    pub looked_at: Option<String>,
    /// When it could last not be read; nothing once it was read after that.
    #[schema(format = DateTime)]
    pub unread_at: Option<String>,
    /// Why not.
    pub unread_because: Option<String>,
    /// The newest backups in it, newest first, at most a hundred.
    pub data: Vec<BackupShape>,
    /// How many it holds.
    pub total: u64,
    /// The increments that follow the backups, where they are configured.
    pub journal: Option<JournalShape>,
}

/// A backup on its way.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BackupRun)]
pub struct BackupRunShape {
    /// Names it; it is found by this among those that ended.
    pub id: String,
    /// When it was begun.
    #[schema(format = DateTime)]
    pub began_at: String,
    /// Where it goes.
    pub sink: String,
    /// What is done: `making` or `proving`.
    pub step: String,
    /// So many rows, counters and entries of that are done.
    pub done: u64,
}

impl From<BackupRun> for BackupRunShape {
    fn from(run: BackupRun) -> Self {
        Self {
            id: run.id.to_string(),
            began_at: run.began.to_string(),
            sink: run.sink,
            step: run.step.to_string(),
            done: run.done,
        }
    }
}

/// Increments that follow the backups.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Journal)]
pub struct JournalShape {
    /// Where they go.
    pub sink: String,
    /// How often one is made, while something changes.
    pub every_seconds: u64,
    /// What was committed before this is in the journal or in the newest backup.
    #[schema(format = DateTime)]
    pub covers: Option<String>,
    /// The newest increment that this server made.
    pub newest: Option<BackupShape>,
    /// How many it made since it was started.
    pub made: u64,
    /// How many were not made.
    pub failures: u64,
    /// Why the last one was not made.
    pub error: Option<String>,
    /// Why none is made now.
    pub waits: Option<String>,
}

impl From<JournalState> for JournalShape {
    fn from(state: JournalState) -> Self {
        Self {
            sink: state.sink,
            every_seconds: state.every.as_secs(),
            covers: state.covers.map(|at| at.to_string()),
            newest: state.newest.map(BackupShape::from),
            made: state.made,
            failures: state.failures,
            error: state.failed.map(|(_, why)| why),
            waits: state.waits.map(str::to_owned),
        }
    }
}

/// What became of a backup.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = EndedBackup)]
pub struct EndedBackupShape {
    /// The id of its run.
    pub id: String,
    /// When it was begun.
    #[schema(format = DateTime)]
    pub began_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    pub ended_at: String,
    /// Where it was to go.
    pub sink: String,
    /// The backup, where one was made.
    pub backup: Option<BackupShape>,
    /// The step that failed: `capture`, `verify`, `upload`, `file` or `refused`; `away` where the
    /// database was not to be reached, `gap` where the store has forgotten what the increment would
    /// begin with, `stopped` where the server was told to stop. With a backup beside it, that is made: `prove` says that it is not proven,
    /// another word that those which are kept no longer are still there.
    pub failed_step: Option<String>,
    /// Why.
    pub error: Option<String>,
}

/// The most backups of a sink that one answer names.
const MOST_LISTED: usize = 100;

impl From<BackupState> for BackupStateShape {
    fn from(state: BackupState) -> Self {
        let held = state.held.as_ref();
        let all = held.map_or(&[][..], |held| &held.all);
        let next_at = state.next_at();
        let (unread_at, unread_because) = state.unread.unzip();
        let newest_first = all.iter().rev().take(MOST_LISTED).cloned();
        Self {
            sink: state.sink,
            looked_at: held.map(|held| held.looked_at.to_string()),
            unread_at: unread_at.map(|at: Time| at.to_string()),
            unread_because,
            data: newest_first.map(BackupShape::from).collect(),
            total: all.len() as u64,
            journal: state.journal.map(JournalShape::from),
            running: state.run.is_some(),
            run: state.run.map(BackupRunShape::from),
            looking: state.looking,
            last: state.ended.front().cloned().map(EndedBackupShape::from),
            ended: state
                .ended
                .into_iter()
                .map(EndedBackupShape::from)
                .collect(),
            newest: state.newest.map(BackupShape::from),
            proven_at: state.proven_at.map(|at| at.whole_seconds().to_string()),
            took_milliseconds: state
                .took
                .map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            failures: state.failures,
            schedule: state.schedule.map(|schedule| schedule.to_string()),
            next_at: next_at.map(|at| at.to_string()),
        }
    }
}

impl From<EndedBackup> for EndedBackupShape {
    fn from(last: EndedBackup) -> Self {
        let (failed_step, error) = last.failed.unzip();
        Self {
            id: last.id.to_string(),
            began_at: last.began.to_string(),
            ended_at: last.ended.to_string(),
            sink: last.sink,
            backup: last.made.map(BackupShape::from),
            failed_step: failed_step.map(str::to_owned),
            error,
        }
    }
}

/// The last restore, and what the server would do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Restore)]
pub struct RestoreShape {
    /// The store came out of a backup, and nobody has lifted the fence yet: nothing is issued,
    /// planned or handed out.
    pub fenced: bool,
    /// The backup; nothing where the store was never restored.
    pub backup: Option<String>,
    /// When the restored state was the present.
    #[schema(format = DateTime)]
    pub taken_at: Option<String>,
    /// When it was restored.
    #[schema(format = DateTime)]
    pub restored_at: Option<String>,
    /// When the fence was lifted.
    #[schema(format = DateTime)]
    pub unfenced_at: Option<String>,
    /// What it would do: first what is due, of that what can least be undone, and of that what is
    /// due first.
    pub steps: Vec<RestoreStepShape>,
    /// There are more than are named.
    pub more: bool,
    /// Agents are asked for what was issued after the backup.
    pub reconcile: bool,
    /// What they have and the restored store did not know: first what asks for somebody, and of
    /// that what ends first.
    pub found: Vec<FoundShape>,
}

/// One thing that a restored server would do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = RestoreStep)]
pub struct RestoreStepShape {
    /// `revoke`: finish a revocation; `deploy`: put a version on a target; `issue`: have an agent
    /// make a key for an open order; `renew`: open an order; `dry_run`; `test`: look at a target.
    pub does: String,
    /// The certificate.
    pub certificate_id: Option<String>,
    /// Its name.
    pub certificate_name: Option<String>,
    /// The target.
    pub target_id: Option<String>,
    /// Its name.
    pub target_name: Option<String>,
    /// The agent that does it.
    pub agent_id: Option<String>,
    /// Its name.
    pub agent_name: Option<String>,
    /// The job that is handed out.
    pub job_id: Option<String>,
    /// Since when it is due, or from when on.
    #[schema(format = DateTime)]
    pub due_at: String,
    /// That moment had not come yet.
    #[serde(default)]
    pub later: bool,
    /// When the version in force ends.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

impl From<Step> for RestoreStepShape {
    fn from(step: Step) -> Self {
        let (certificate_id, certificate_name) = parts(step.certificate);
        let (target_id, target_name) = parts(step.target);
        let (agent_id, agent_name) = parts(step.agent);
        Self {
            does: step.does.as_str().to_owned(),
            certificate_id,
            certificate_name,
            target_id,
            target_name,
            agent_id,
            agent_name,
            job_id: step.job.map(|id| id.to_string()),
            due_at: step.due.to_string(),
            later: step.later,
            expires_at: step.ends.map(|at| at.to_string()),
        }
    }
}

/// Id and name.
fn parts(named: Option<Named>) -> (Option<String>, Option<String>) {
    let id = named.as_ref().map(|named| named.id.to_string());
    (id, named.and_then(|named| named.name))
}

/// A version that was issued after the backup.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = FoundVersion)]
pub struct FoundShape {
    /// The certificate, as the agent names it.
    pub certificate_id: String,
    /// Its name; nothing where this store has no such certificate.
    pub certificate_name: Option<String>,
    /// The names in the version; none while the agent was not asked to show it.
    pub names: Vec<String>,
    /// The agent that has it.
    pub agent_id: String,
    /// Its name.
    pub agent_name: Option<String>,
    /// The target where it was found first.
    pub target_id: String,
    /// Its name; nothing where this store has no such target.
    pub target_name: Option<String>,
    /// Its serial number, lower hex.
    pub serial_number: String,
    /// When it ends, where the agent has shown it.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// When it was found.
    #[schema(format = DateTime)]
    pub found_at: String,
    /// The version that it became.
    pub version_id: Option<String>,
    /// Why it became none.
    pub refused: Option<String>,
    /// What somebody should do about it, where it does not come right by itself.
    pub advice: Option<String>,
}

impl From<Unknown> for FoundShape {
    fn from(unknown: Unknown) -> Self {
        let found = unknown.found;
        Self {
            certificate_id: found.certificate.to_string(),
            certificate_name: unknown.certificate.name,
            names: unknown.names,
            agent_id: found.agent.to_string(),
            agent_name: unknown.agent.name,
            target_id: found.target.to_string(),
            target_name: unknown.target.name,
            serial_number: found.serial.to_string(),
            expires_at: unknown.ends.map(|at| at.to_string()),
            found_at: found.at.to_string(),
            version_id: found.version.map(|id| id.to_string()),
            refused: found.refused,
            advice: unknown.advice,
        }
    }
}

impl From<Option<RestorePlan>> for RestoreShape {
    fn from(plan: Option<RestorePlan>) -> Self {
        let Some(plan) = plan else {
            return Self {
                fenced: false,
                backup: None,
                taken_at: None,
                restored_at: None,
                unfenced_at: None,
                steps: Vec::new(),
                more: false,
                reconcile: false,
                found: Vec::new(),
            };
        };
        let restoration = plan.restoration;
        Self {
            fenced: restoration.fenced,
            backup: Some(restoration.backup),
            taken_at: Some(restoration.taken_at.to_string()),
            restored_at: Some(restoration.restored_at.to_string()),
            unfenced_at: restoration.unfenced_at.map(|at| at.to_string()),
            steps: plan.steps.into_iter().map(RestoreStepShape::from).collect(),
            more: plan.more,
            reconcile: restoration.reconcile,
            found: plan.found.into_iter().map(FoundShape::from).collect(),
        }
    }
}
