//! How backups stand, as this process knows it.

use super::super::{
    backup::{Sink, Stored},
    journal::JournalState,
};
use crate::{clock::Time, config::Schedule, id::Id};
use std::{collections::VecDeque, fmt, time::Duration};

/// So many that ended are remembered: who began one finds it, though others ended after it.
const REMEMBERED: usize = 16;

/// What is in a sink.
#[derive(Debug, Clone)]
pub struct InSink {
    /// When it was looked at.
    pub looked_at: Time,
    /// The backups, oldest first.
    pub all: Vec<Stored>,
}

/// How backups stand.
#[derive(Debug, Clone, Default)]
pub struct BackupState {
    /// The one that is being made or proven.
    pub run: Option<BackupRun>,
    /// The sink of the schedule is being looked at.
    pub looking: bool,
    /// What became of the last ones, newest first.
    pub ended: VecDeque<EndedBackup>,
    /// The newest full one that this server knows of.
    pub newest: Option<Stored>,
    /// When one was last seen to be good by restoring it.
    pub proven_at: Option<Time>,
    /// How long making the newest one took, where this server made it.
    pub took: Option<Duration>,
    /// How many were not made, or not proven.
    pub failures: u64,
    /// When backups are made by themselves.
    pub schedule: Option<Schedule>,
    /// The sink of the schedule.
    pub sink: Option<String>,
    /// What is in it, once it was looked at.
    pub held: Option<InSink>,
    /// When it could not be read, and why; nothing once it was read after that.
    pub unread: Option<(Time, String)>,
    /// How what follows the backups stands, where that is configured.
    pub journal: Option<JournalState>,
    /// A full one is made without regard to the schedule, for increments have nothing to follow.
    pub(in crate::app) base_wanted: bool,
    /// The sink is looked at then.
    pub(super) look_at: Option<Time>,
    /// Not before this.
    pub(super) retry_at: Option<Time>,
}

/// A backup on its way.
#[derive(Debug, Clone)]
pub struct BackupRun {
    /// Names it, for who waits for its end.
    pub id: Id,
    /// When it was begun.
    pub began: Time,
    /// Where it goes.
    pub sink: String,
    /// What is done.
    pub step: BackupStep,
    /// So many rows, counters and entries of that are done.
    pub done: u64,
}

/// What is done of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupStep {
    /// It is captured, read back and put into its sink.
    Making,
    /// It is restored into a scratch store.
    Proving,
}

impl fmt::Display for BackupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Making => "making",
            Self::Proving => "proving",
        })
    }
}

/// What became of a backup.
#[derive(Debug, Clone)]
pub struct EndedBackup {
    /// As [`BackupRun::id`].
    pub id: Id,
    /// When it was begun.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// Where it was to go.
    pub sink: String,
    /// The backup, where one was made.
    pub made: Option<Stored>,
    /// The step that failed, and why: of making it, or of what is done with one that was made.
    pub failed: Option<(&'static str, String)>,
}

impl BackupState {
    /// Begins one, unless one is on its way, which is given then.
    pub(super) fn begin(&mut self, id: Id, sink: &Sink, now: Time) -> Result<BackupRun, BackupRun> {
        if let Some(run) = &self.run {
            return Err(run.clone());
        }
        let run = BackupRun {
            id,
            began: now,
            sink: sink.to_string(),
            step: BackupStep::Making,
            done: 0,
        };
        self.run = Some(run.clone());
        Ok(run)
    }

    /// The one on its way is at this.
    pub(super) fn at(&mut self, step: BackupStep, done: u64) {
        if let Some(run) = &mut self.run {
            (run.step, run.done) = (step, done);
        }
    }

    /// The one on its way has ended.
    pub(super) fn end(&mut self, ended: EndedBackup) {
        self.run = None;
        self.ended.push_front(ended);
        self.ended.truncate(REMEMBERED);
    }

    /// When the next one is made by itself, once the sink was looked at and holds one.
    pub fn next_at(&self) -> Option<Time> {
        let newest = self.newest.as_ref().filter(|_| self.held.is_some())?;
        let next = self.schedule?.next(newest.created_at.seconds());
        Some(Time::from_seconds(next))
    }

    /// Knows what is in the sink of the schedule; `store` names this server's store. What others
    /// put there, or what says that it was made later than now, is none of its backups. `known`
    /// names the newest one that was known when the look began: where that is gone, or counts for
    /// nothing any more, nothing follows it, and another full one is made.
    pub(super) fn see(&mut self, all: Vec<Stored>, store: &str, known: Option<&str>, now: Time) {
        let newest = self.newest.as_ref().map(|newest| newest.name.as_str());
        let good = |s: &Stored| s.counts() && Some(s.name.as_str()) == known;
        if known.is_some() && newest == known && !all.iter().any(good) {
            tracing::warn!(
                known,
                "the newest backup is not in its sink any more, or no backup any more"
            );
            self.newest = None;
            self.base_wanted = true;
        }
        let own = |s: &&Stored| s.is_of(store) && s.counts();
        let restored = all.iter().filter(own);
        let restored = restored.filter_map(|stored| stored.proven.as_ref());
        let restored = restored.filter(|proven| proven.restored);
        let proven_at = restored.map(|proven| proven.at).max();
        // One that was made elsewhere, because somebody asked, may be newer.
        self.proven_at = self.proven_at.max(proven_at);
        let known = self.newest.as_ref();
        if let Some(newest) = all.iter().filter(own).rfind(|stored| !stored.increment)
            && known.is_none_or(|known| newest.seq >= known.seq)
        {
            // Only who made it knows its rows, and how long that took.
            let made = known.filter(|known| known.name == newest.name);
            let rows = made.and_then(|known| known.rows);
            self.took = self.took.filter(|_| made.is_some());
            self.newest = Some(Stored {
                rows,
                ..newest.clone()
            });
        }
        self.unread = None;
        self.held = Some(InSink {
            looked_at: now,
            all,
        });
    }
}
