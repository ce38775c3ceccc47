//! Backups that a running server makes, because somebody asks or by itself.

use super::{
    App, AppError, StartError, audit,
    backup::{
        BackupFailure, Bench, Keep, Locking, Place, Proven, S3Access, Sink, Source, Stored, Ways,
        create, expired, machine_key, prove_place,
    },
    journal::{Journal, JournalState},
    require,
};
use crate::{
    access::Permission,
    clock::Time,
    config::{BackupConfig, Schedule},
    crypt::MachineKey,
    domain::{AuditEvent, Category, Principal},
    store::backup::Since,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// After one that failed, the next is made no sooner.
const AFTER_FAILURE: Duration = Duration::from_secs(600);

/// What is in the sink of the schedule is looked at again after so long.
const LOOKED_FOR: Duration = Duration::from_secs(300);

/// The backups of this process: one at a time.
#[derive(Default)]
pub(super) struct Backups {
    state: Mutex<BackupState>,
    scheduled: Option<Scheduled>,
    pub(super) journal: Option<Journal>,
}

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
    /// One is being made, and so many rows, counters and entries are done.
    pub running: Option<u64>,
    /// What became of the last one.
    pub last: Option<LastBackup>,
    /// The newest full one that this server knows of.
    pub newest: Option<Stored>,
    /// When one was last seen to be good by restoring it.
    pub proven_at: Option<Time>,
    /// How long making the newest one took.
    pub took: Option<Duration>,
    /// How many were not made, or not proven.
    pub failures: u64,
    /// When backups are made by themselves.
    pub schedule: Option<Schedule>,
    /// When the next one is.
    pub next_at: Option<Time>,
    /// The sink of the schedule.
    pub sink: Option<String>,
    /// What is in it, once it was looked at.
    pub held: Option<InSink>,
    /// How what follows the backups stands, where that is configured.
    pub journal: Option<JournalState>,
    /// A full one is made without regard to the schedule, for increments have nothing to follow.
    pub(super) base_wanted: bool,
    /// The sink is looked at then.
    look_at: Option<Time>,
    /// Not before this.
    retry_at: Option<Time>,
}

/// What became of a backup.
#[derive(Debug, Clone)]
pub struct LastBackup {
    /// When it was begun.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// Where it was to go.
    pub sink: String,
    /// The backup; or the step that failed, and why.
    pub outcome: Result<Stored, (&'static str, String)>,
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
    schedule: Schedule,
    wanted: WantedBackup,
    keep: Keep,
}

impl BackupState {
    /// Knows what is in the sink of the schedule.
    fn see(&mut self, all: Vec<Stored>, now: Time) {
        let restored = all.iter().filter_map(|stored| stored.proven.as_ref());
        let restored = restored.filter(|proven| proven.restored);
        let proven_at = restored.map(|proven| proven.at).max();
        // One that was made elsewhere, because somebody asked, may be newer.
        self.proven_at = self.proven_at.max(proven_at);
        let known = self.newest.as_ref();
        if let Some(newest) = all.iter().rfind(|stored| !stored.increment)
            && known.is_none_or(|known| newest.seq >= known.seq)
        {
            // Only who made it knows its rows.
            let rows = known.filter(|known| known.name == newest.name);
            self.newest = Some(Stored {
                rows: rows.and_then(|known| known.rows),
                ..newest.clone()
            });
        }
        self.held = Some(InSink {
            looked_at: now,
            all,
        });
    }
}

impl Backups {
    /// As configured.
    pub fn new(config: Option<&BackupConfig>) -> Result<Self, StartError> {
        let bad = |setting: &str, e: String| StartError::Scheduled(format!("{setting}: {e}"));
        let Some(config) = config else {
            return Ok(Self::default());
        };
        let sink = config.sink.parse();
        let sink = sink.map_err(|e| bad("CERTCTL_BACKUP_SINK", e))?;
        let locking = Locking::configured(config);
        let locking = locking.map_err(|e| bad("CERTCTL_BACKUP_ENCRYPT_TO", e.to_string()))?;
        let [daily, weekly, monthly] = config.keep;
        let journal = config.journal.as_ref().map(|journal| {
            let sink = journal.sink.parse();
            let sink = sink.map_err(|e| bad("CERTCTL_BACKUP_JOURNAL_SINK", e))?;
            Ok::<_, StartError>(Journal::new(sink, journal.every, &locking))
        });
        let journal = journal.transpose()?;
        Ok(Self {
            state: Mutex::new(BackupState {
                schedule: Some(config.schedule),
                sink: Some(config.sink.clone()),
                journal: journal.as_ref().map(Journal::begun),
                ..BackupState::default()
            }),
            journal,
            scheduled: Some(Scheduled {
                schedule: config.schedule,
                wanted: WantedBackup {
                    sink,
                    locking,
                    since: None,
                },
                keep: Keep {
                    daily,
                    weekly,
                    monthly,
                },
            }),
        })
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
        Ok(self.backups.state().clone())
    }

    /// How backups stand, for a scrape.
    pub(super) fn backup_numbers(&self) -> BackupState {
        self.backups.state().clone()
    }

    /// Begins a backup, which goes on when the caller has gone.
    ///
    /// # Errors
    /// [`AppError::Conflict`] while another is being made.
    pub async fn start_backup(
        self: &Arc<Self>,
        who: &Principal,
        wanted: WantedBackup,
    ) -> Result<BackupState, AppError> {
        require(who, Permission::BackupRun)?;
        self.begin_backup(who, wanted, None).await
    }

    /// Makes the backup that is due by the schedule, if one is; for the reconciler.
    pub(crate) async fn due_backup(self: &Arc<Self>) -> Result<(), AppError> {
        let Some(scheduled) = &self.backups.scheduled else {
            return Ok(());
        };
        let now = self.now();
        {
            let mut state = self.backups.state();
            if state.running.is_some() || state.retry_at.is_some_and(|at| now < at) {
                return Ok(());
            }
            if state.look_at.is_none_or(|at| now >= at) {
                state.look_at = Some(now.plus(LOOKED_FOR));
                state.running = Some(0);
                drop(state);
                self.look_at_sink();
                return Ok(());
            }
            let newest = state.newest.as_ref().map(|stored| stored.created_at);
            let next = newest.map(|at| Time::from_seconds(scheduled.schedule.next(at.seconds())));
            state.next_at = next;
            if !state.base_wanted && next.is_some_and(|next| now < next) {
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

    /// Learns what is in the sink already, beside the caller.
    fn look_at_sink(self: &Arc<Self>) {
        let app = Arc::clone(self);
        self.tasks.spawn("backups", async move {
            let Some(scheduled) = &app.backups.scheduled else {
                return;
            };
            let listed = app.in_sink(&scheduled.wanted.sink).await;
            let mut state = app.backups.state();
            state.running = None;
            match listed {
                Ok(all) => state.see(all, app.now()),
                Err(e) => {
                    tracing::error!(error = %e, "the sink of the backups cannot be read");
                    if state.held.is_none() {
                        state.failures += 1;
                        state.look_at = None;
                        state.retry_at = Some(app.now().plus(AFTER_FAILURE));
                    }
                }
            }
        });
    }

    pub(super) async fn in_sink(&self, sink: &Sink) -> Result<Vec<Stored>, BackupFailure> {
        let s3 = self.s3()?;
        sink.list(self.ways(s3.as_ref())).await
    }

    async fn begin_backup(
        self: &Arc<Self>,
        who: &Principal,
        wanted: WantedBackup,
        keep: Option<Keep>,
    ) -> Result<BackupState, AppError> {
        {
            let mut state = self.backups.state();
            if state.running.is_some() {
                return Err(AppError::Conflict(
                    "a backup is being made: wait for its end".into(),
                ));
            }
            state.running = Some(0);
        }
        // Who takes all secrets with them is told of before it happens.
        let sink = wanted.sink.to_string();
        let noted = self
            .decide(|mut unit| async {
                let resource = ("backup", sink.as_str());
                let event = AuditEvent::new(
                    who,
                    Category::Config,
                    "backup_started",
                    resource,
                    self.now(),
                );
                audit(&mut unit, &event);
                Ok((unit, ()))
            })
            .await;
        if let Err(e) = noted {
            self.backups.state().running = None;
            return Err(e);
        }
        let app = Arc::clone(self);
        let runtime = tokio::runtime::Handle::current();
        self.tasks.spawn("backup", async move {
            let began = app.now();
            let maker = Arc::clone(&app);
            // On a thread of its own: it compresses, encrypts and waits for the disk.
            let outcome = app.tasks.spawn_blocking("backup", move || {
                runtime.block_on(maker.whole_backup(&wanted, keep))
            });
            let outcome = match outcome.await {
                Ok(outcome) => outcome,
                Err(e) => Err(BackupFailure::Capture(e.to_string())),
            };
            if let Err(e) = &outcome {
                tracing::error!(error = %e, "no backup was made, or it is not good");
            }
            let mut state = app.backups.state();
            let ended = app.now();
            if outcome.is_err() {
                state.failures += 1;
                state.retry_at = Some(ended.plus(AFTER_FAILURE));
            }
            state.running = None;
            state.last = Some(LastBackup {
                began,
                ended,
                sink,
                outcome: outcome.map_err(|e| (e.step(), e.to_string())),
            });
        });
        Ok(self.backups.state().clone())
    }

    /// Makes a backup; one of the schedule is then proven, and others are removed.
    async fn whole_backup(
        &self,
        wanted: &WantedBackup,
        keep: Option<Keep>,
    ) -> Result<Stored, BackupFailure> {
        let began = self.now();
        let machine = machine_key(&*self.files, &self.config)?;
        let machine = machine.ok_or_else(|| {
            BackupFailure::Refused("the machine.key is not in the data directory".to_owned())
        })?;
        let s3 = self.s3()?;
        let ways = self.ways(s3.as_ref());
        let source = Source {
            store: &self.store,
            machine: Some(&machine),
            ways,
            clock: &*self.clock,
        };
        let progress = &mut |done| {
            if let Some(running) = &mut self.backups.state().running {
                *running = done;
            }
        };
        let (sink, locking) = (&wanted.sink, &wanted.locking);
        let stored = create(source, sink, locking, wanted.since, progress).await?;
        if !stored.increment {
            let mut state = self.backups.state();
            state.newest = Some(stored.clone());
            state.took = Some(self.now().since(began));
            state.retry_at = None;
        }
        if let Some(keep) = keep {
            self.prove_backup(wanted, &stored, &machine, ways).await?;
            self.backups.state().base_wanted = false;
            let all = sink.list(ways).await?;
            for stored in expired(&all, keep) {
                if !self.still_leads() {
                    break;
                }
                sink.remove(ways, &stored.name).await?;
            }
            self.prune_journal(&stored, ways).await?;
        }
        let scheduled = self.backups.scheduled.as_ref();
        if scheduled.is_some_and(|scheduled| scheduled.wanted.sink == *sink) {
            let all = sink.list(ways).await?;
            self.backups.state().see(all, self.now());
        }
        Ok(stored)
    }

    async fn prove_backup(
        &self,
        wanted: &WantedBackup,
        stored: &Stored,
        machine: &MachineKey,
        ways: Ways<'_>,
    ) -> Result<(), BackupFailure> {
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
        prove_place(&place, keys, bench, ways, &mut |_| {}).await?;
        let at = self.now();
        let proven = Proven { at, restored: true };
        place.sink.note(ways, &place.name, &proven).await?;
        self.backups.state().proven_at = Some(at);
        Ok(())
    }

    pub(super) fn s3(&self) -> Result<Option<S3Access>, BackupFailure> {
        self.config.s3.as_ref().map(S3Access::new).transpose()
    }

    pub(super) fn ways<'a>(&'a self, s3: Option<&'a S3Access>) -> Ways<'a> {
        Ways {
            files: &*self.files,
            s3,
            spool: &self.config.data_dir,
        }
    }
}
