//! Backups that a running server makes, because somebody asks or by itself.

mod look;
mod state;

pub use state::{BackupRun, BackupState, BackupStep, EndedBackup, InSink};

use super::{
    App, AppError, audit,
    backup::{
        BackupFailure, Bench, Keep, Locking, Place, Proven, S3Access, STORE_FILE, Sink, Source,
        Stored, Ways, create, expired, machine_key, prove_place,
    },
    journal::Journal,
    require,
    room::{LowDisk, reserve_of},
};
use crate::{
    access::Permission,
    config::BackupConfig,
    crypt::MachineKey,
    domain::{AuditEvent, Category, Principal},
    store::backup::Since,
    sys::size,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// After one that failed, the next is made no sooner.
const AFTER_FAILURE: Duration = Duration::from_secs(600);

/// A backup takes so many times its size, at most, when it is a store.
const UNPACKED: u64 = 12;

/// The backups of this process: one at a time.
#[derive(Default)]
pub(super) struct Backups {
    state: Mutex<BackupState>,
    scheduled: Option<Scheduled>,
    pub(super) journal: Option<Journal>,
}

/// A backup that is wanted.
#[derive(Clone)]
pub struct WantedBackup {
    /// Where it goes.
    pub sink: Sink,
    /// Who can open it.
    pub locking: Locking,
    /// Only what came since another.
    pub since: Option<Since>,
}

/// Backups that are made by themselves.
struct Scheduled {
    wanted: WantedBackup,
    keep: Keep,
}

impl Backups {
    /// As configured.
    pub fn new(config: Option<&BackupConfig>) -> Self {
        let Some(config) = config else {
            return Self::default();
        };
        let locking = Locking::configured(config);
        let [daily, weekly, monthly] = config.keep;
        let journal = config.journal.as_ref();
        let journal = journal.map(|j| Journal::new(j.sink.clone(), j.every, &locking));
        Self {
            state: Mutex::new(BackupState {
                schedule: Some(config.schedule),
                sink: Some(config.sink.to_string()),
                journal: journal.as_ref().map(Journal::begun),
                ..BackupState::default()
            }),
            journal,
            scheduled: Some(Scheduled {
                wanted: WantedBackup {
                    sink: config.sink.clone(),
                    locking,
                    since: None,
                },
                keep: Keep {
                    daily,
                    weekly,
                    monthly,
                },
            }),
        }
    }

    /// Has the sinks looked at again before the next backup is made: others may have made some.
    pub fn look_again(&self) {
        self.state().look_at = None;
        if let Some(journal) = &self.journal {
            journal.find_again();
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, BackupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// How backups stand.
    pub fn backup_state(&self, who: &Principal) -> Result<BackupState, AppError> {
        require(who, Permission::BackupRead)?;
        let mut state = self.backup_numbers();
        if let Some(journal) = &mut state.journal
            && self.leads() == Some(false)
        {
            journal.waits = Some("another server leads, and writes it");
        }
        Ok(state)
    }

    /// How backups stand, for a scrape.
    pub(super) fn backup_numbers(&self) -> BackupState {
        self.backups.state().clone()
    }

    /// Begins a backup, which goes on when the caller has gone.
    ///
    /// # Errors
    /// [`AppError::Conflict`] while another is being made or proven: which, and since when.
    pub async fn start_backup(
        self: &Arc<Self>,
        who: &Principal,
        wanted: WantedBackup,
    ) -> Result<BackupRun, AppError> {
        require(who, Permission::BackupRun)?;
        if let Some(low) = self.lacks_room_for(&wanted.sink) {
            return Err(AppError::LowDisk(low));
        }
        self.begin_backup(who, wanted, None).await
    }

    /// Makes the backup that is due by the schedule, if one is; for the reconciler.
    pub(crate) async fn due_backup(self: &Arc<Self>) -> Result<(), AppError> {
        let Some(scheduled) = &self.backups.scheduled else {
            return Ok(());
        };
        let now = self.now();
        if self.lacks_room_for(&scheduled.wanted.sink).is_some() {
            return Ok(());
        }
        {
            let state = self.backups.state();
            // Others may have made some: the sink is looked at first.
            let looked = state.look_at.is_some() && !state.looking && state.held.is_some();
            let rests = state.retry_at.is_some_and(|at| now < at);
            if state.run.is_some() || !looked || rests {
                return Ok(());
            }
            if !state.base_wanted && state.next_at().is_some_and(|next| now < next) {
                return Ok(());
            }
        }
        let who = Principal::system("backups");
        let keep = Some(scheduled.keep);
        let begun = self
            .begin_backup(&who, scheduled.wanted.clone(), keep)
            .await;
        begun.map(drop)
    }

    async fn begin_backup(
        self: &Arc<Self>,
        who: &Principal,
        wanted: WantedBackup,
        keep: Option<Keep>,
    ) -> Result<BackupRun, AppError> {
        let begun = {
            let mut state = self.backups.state();
            state.begin(self.new_id("bkp"), &wanted.sink, self.now())
        };
        let run = begun.map_err(|other| {
            AppError::Conflict(format!(
                "the server is {} the backup {} to {} since {}: try again when that has ended",
                other.step,
                other.id,
                other.sink,
                other.began.whole_seconds()
            ))
        })?;
        let (app, own, who) = (Arc::clone(self), run.clone(), who.clone());
        let (told, noted) = oneshot::channel();
        // All of it in a task: a caller who hangs up leaves no run behind that nobody ends.
        self.tasks.spawn("backup", async move {
            let noted = app.note_backup(&who, &own).await;
            let goes_on = noted.is_ok();
            if !goes_on {
                app.backups.state().run = None;
            }
            let _ = told.send(noted);
            if goes_on {
                app.run_backup(own, wanted, keep).await;
            }
        });
        noted.await.unwrap_or(Err(AppError::Unknown))?;
        Ok(run)
    }

    /// Who takes all secrets with them is told of before it happens.
    async fn note_backup(&self, who: &Principal, run: &BackupRun) -> Result<(), AppError> {
        self.decide(|mut unit| async {
            let resource = ("backup", run.sink.as_str());
            let now = self.now();
            let event = AuditEvent::new(who, Category::Config, "backup_started", resource, now);
            audit(&mut unit, &event);
            Ok((unit, ()))
        })
        .await
    }

    /// Makes a backup and keeps what became of it.
    async fn run_backup(
        self: &Arc<Self>,
        run: BackupRun,
        wanted: WantedBackup,
        keep: Option<Keep>,
    ) {
        let work = async move |app: &Arc<Self>| app.whole_backup(&wanted, keep).await;
        let (made, failed) = match self.behind_others("backup", work).await {
            Ok((made, after)) => (Some(made), after.err()),
            Err(e) => (None, Some(e)),
        };
        let mut state = self.backups.state();
        let ended = self.now();
        match &failed {
            None => {}
            Some(e @ BackupFailure::Stopped) => {
                tracing::info!(reason = %e, "no backup was made, or it was not proven");
            }
            Some(e) => {
                tracing::error!(error = %e, "no backup was made, or it is not good");
                state.failures += 1;
                state.look_at = None;
            }
        }
        // What somebody asked for is theirs to ask for again. What was made is not made again
        // before its time, whatever failed after that: others like it would fill the sink.
        if made.is_none() && keep.is_some() {
            state.retry_at = Some(ended.plus(AFTER_FAILURE));
        }
        state.end(EndedBackup {
            id: run.id,
            began: run.began,
            ended,
            sink: run.sink,
            made,
            failed: failed.map(|e| (e.step(), e.to_string())),
        });
    }

    /// Makes a backup; one of the schedule is then proven, and others are removed. What became of
    /// that is told beside the backup, which is there however that goes.
    async fn whole_backup(
        &self,
        wanted: &WantedBackup,
        keep: Option<Keep>,
    ) -> Result<(Stored, Result<(), BackupFailure>), BackupFailure> {
        let began = self.now();
        let machine = machine_key(&*self.files, &self.config)?;
        let machine = machine.ok_or_else(|| {
            BackupFailure::Refused("the machine.key is not in the data directory".to_owned())
        })?;
        let s3 = self.s3()?;
        let ways = self.ways(s3.as_ref());
        let stop = self.tasks.token();
        let source = Source {
            store: &self.store,
            machine: Some(&machine),
            ways,
            clock: &*self.clock,
            stop: &stop,
        };
        let progress = &mut |done| self.backups.state().at(BackupStep::Making, done);
        let (sink, locking) = (&wanted.sink, &wanted.locking);
        let stored = create(source, sink, locking, wanted.since, progress).await?;
        // One that goes elsewhere is no backup of the schedule's, and none that a journal follows.
        let scheduled = self.backups.scheduled.as_ref();
        if !stored.increment && scheduled.is_none_or(|s| s.wanted.sink == *sink) {
            let mut state = self.backups.state();
            state.newest = Some(stored.clone());
            state.took = Some(self.now().since(began));
            state.base_wanted &= keep.is_none();
        }
        let after = async {
            let proven = match keep {
                Some(_) => self.prove_backup(wanted, &stored, &machine, ways).await,
                None => Ok(()),
            };
            let proven = proven.map_err(|e| match e {
                BackupFailure::Stopped => e,
                e => BackupFailure::unproven(&stored.name, e),
            });
            let elsewhere = scheduled.is_none_or(|scheduled| scheduled.wanted.sink != *sink);
            if elsewhere || stop.is_cancelled() {
                return proven;
            }
            let listed = sink.list(ways).await;
            let mut all = match (&proven, listed) {
                (Err(_), Err(_)) => return proven,
                (_, listed) => listed?,
            };
            if let Some(keep) = keep {
                let beside = all.clone();
                // Those that were not proven go, too: no proven one goes for their sake.
                let removed = self
                    .remove_expired(&mut all, &stored, keep, wanted, ways)
                    .await;
                if let (Err(_), Err(e)) = (&proven, &removed) {
                    tracing::error!(error = %e, "backups that are kept no longer are still there");
                }
                proven.and(removed)?;
                self.prune_journal(&stored, &beside, ways).await?;
            }
            let store = self.store_name().await?;
            let (known, now) = (Some(stored.name.as_str()), self.now());
            self.backups.state().see(all, &store, known, now);
            Ok(())
        };
        let after = after.await;
        Ok((stored, after))
    }

    /// Removes those of this server's store that are kept no longer, once this one was made.
    async fn remove_expired(
        &self,
        all: &mut Vec<Stored>,
        made: &Stored,
        keep: Keep,
        wanted: &WantedBackup,
        ways: Ways<'_>,
    ) -> Result<(), BackupFailure> {
        let own = all.iter().filter(|other| other.is_beside(made)).cloned();
        let own: Vec<Stored> = own.collect();
        for stored in expired(&own, keep) {
            // Behind the fence, what the restore should have taken may be among them.
            if self.is_fenced() || !self.still_leads() {
                break;
            }
            wanted.sink.remove(ways, &stored.name).await?;
            all.retain(|other| other.name != stored.name);
        }
        Ok(())
    }

    /// Whether the server's disk has too little room for a backup that is written there first.
    fn lacks_room_for(&self, sink: &Sink) -> Option<LowDisk> {
        self.low_disk().filter(|_| matches!(sink, Sink::S3 { .. }))
    }

    /// Refuses to prove a backup where the scratch store would fill the disk of the store itself.
    fn has_room_to_prove(&self, stored: &Stored) -> Result<(), BackupFailure> {
        let file = self.config.data_dir.join(STORE_FILE);
        let file = self.files.metadata(&file).ok().flatten();
        let needed = match file {
            Some(file) => file.len,
            None => stored.bytes.saturating_mul(UNPACKED),
        };
        self.look_at_room();
        let room = self.room();
        let left = room.free.saturating_sub(reserve_of(&self.config, room));
        if room.total > 0 && left < needed {
            return Err(BackupFailure::Refused(format!(
                "restoring it here takes up to {}, and {} may be used: free space in the data \
                 directory, or prove it elsewhere by `certctl backup verify --restore`",
                size(needed),
                size(left)
            )));
        }
        Ok(())
    }

    async fn prove_backup(
        &self,
        wanted: &WantedBackup,
        stored: &Stored,
        machine: &MachineKey,
        ways: Ways<'_>,
    ) -> Result<(), BackupFailure> {
        self.has_room_to_prove(stored)?;
        self.backups.state().at(BackupStep::Proving, 0);
        let bench = Bench {
            files: &*self.files,
            clock: &*self.clock,
            rng: &*self.rng,
            machine: Some(machine),
        };
        let place = Place {
            sink: wanted.sink.clone(),
            name: stored.name.clone(),
        };
        let keys = wanted.locking.keys(machine);
        let progress = &mut |done| self.backups.state().at(BackupStep::Proving, done);
        let stop = self.tasks.token();
        let proven = prove_place(&place, keys, bench, ways, progress);
        let proven = stop.run_until_cancelled(proven).await;
        proven.unwrap_or(Err(BackupFailure::Stopped))?;
        let at = self.now();
        let proven = Proven { at, restored: true };
        place.sink.note(ways, &place.name, &proven).await?;
        self.backups.state().proven_at = Some(at);
        Ok(())
    }

    pub(super) fn s3(&self) -> Result<Option<S3Access>, BackupFailure> {
        let access = self.config.s3.as_ref().map(S3Access::new).transpose()?;
        Ok(access.map(|access| S3Access {
            stop: self.tasks.token(),
            ..access
        }))
    }

    pub(super) fn ways<'a>(&'a self, s3: Option<&'a S3Access>) -> Ways<'a> {
        Ways {
            files: &*self.files,
            s3,
            spool: &self.config.data_dir,
            clock: &*self.clock,
        }
    }
}
