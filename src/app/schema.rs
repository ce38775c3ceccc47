//! The schema gate: which version of the program may use which store, and how a store's format is
//! changed while no server runs on it.

use super::{
    StartError, VERSION,
    backup::{BackupFailure, Machine},
    birth::Birth,
    known, start,
};
use crate::{
    clock::{Clock, Rng, SystemClock, Time},
    config::ServerConfig,
    crypt::{OsRng, RingCrypto},
    domain::{AuditEvent, Category, Principal},
    store::{
        AUDIT, Committer, Engine, EngineError, RingRow, Store, StoreError, Unit,
        migrate::{Known, MigrateError, Migration, Migrator, Record},
    },
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// How a store's format stands to this program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is the same.
    Current,
    /// Migrations of this program are not made, or not to the end.
    Behind,
    /// A later version changed it, and this one may use it.
    Ahead,
    /// A later version changed it, and this one may not use it.
    TooNew,
}

impl Standing {
    /// What is known of a store.
    pub(super) fn of(known: &Known) -> Self {
        let program = known.program_format();
        if known.min_reader() > program || known.min_writer() > program {
            Self::TooNew
        } else if known.pending().next().is_some() || known.is_unfinished() {
            Self::Behind
        } else if known.format() > program {
            Self::Ahead
        } else {
            Self::Current
        }
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind this version",
            Self::Ahead => "ahead of this version, which may use it",
            Self::TooNew => "ahead of this version, which may not use it",
        }
    }
}

/// The format of a store, and what was and is to be done to it.
#[derive(Debug, Clone, Serialize)]
pub struct SchemaStatus {
    /// How it stands to this program.
    pub standing: Standing,
    /// The store's format.
    pub format: u16,
    /// This program's.
    pub program_format: u16,
    /// The oldest format of programs that may read it.
    pub min_reader: u16,
    /// The oldest format of programs that may write to it.
    pub min_writer: u16,
    /// Rows are still to be written in the store's format.
    pub unfinished: bool,
    /// Numbers of migrations that say something else than when they were made, or than here.
    pub altered: Vec<u16>,
    /// Those that were made, then those to be made.
    pub migrations: Vec<MigrationView>,
}

/// A migration, as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct MigrationView {
    /// Its number.
    pub number: u16,
    /// What it does.
    pub name: String,
    /// The collection.
    pub collection: String,
    /// What it does to documents.
    pub edits: Vec<String>,
    /// One of eight kinds.
    pub class: &'static str,
    /// How safe the version before it is on a store that has it.
    pub safety: &'static str,
    /// Whether it can be undone.
    pub reversible: bool,
    /// `applied`, `undoing` or `pending`.
    pub state: &'static str,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<String>,
    /// Which version made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_by: Option<String>,
    /// The backup that was made before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

impl MigrationView {
    fn pending(migration: &Migration) -> Self {
        Self {
            number: migration.number,
            name: migration.name.to_string(),
            collection: migration.collection.to_string(),
            edits: migration.edits.iter().map(ToString::to_string).collect(),
            class: migration.class.as_str(),
            safety: migration.class.safety(),
            reversible: migration.reversible,
            state: "pending",
            applied_at: None,
            applied_by: None,
            backup: None,
        }
    }

    fn applied(record: &Record) -> Self {
        Self {
            state: if record.undoing { "undoing" } else { "applied" },
            applied_at: Some(record.applied_at.to_string()),
            applied_by: Some(record.applied_by.clone()),
            backup: record.backup.clone(),
            ..Self::pending(&record.migration)
        }
    }
}

/// Values that an older format has no place for; they stay in their rows, out of its sight.
#[derive(Debug, Clone, Serialize)]
pub struct HiddenValues {
    /// The collection.
    pub collection: String,
    /// The field.
    pub field: String,
    /// How many rows hold another value there than the default.
    pub rows: u64,
}

/// What a way up or down does, or has done.
#[derive(Debug, Clone, Serialize)]
pub struct SchemaChange {
    /// The format before.
    pub from: u16,
    /// The format after.
    pub to: u16,
    /// The migrations that are made or undone, in that order.
    pub migrations: Vec<MigrationView>,
    /// What is put out of sight.
    pub hidden: Vec<HiddenValues>,
    /// The backup that was made before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// What is done before a store that holds data is changed: makes a backup, proves it, and gives
/// its name. None was made where that was waived.
pub trait Before: AsyncFnOnce(&Store) -> Result<Option<String>, BackupFailure> {}
impl<F: AsyncFnOnce(&Store) -> Result<Option<String>, BackupFailure>> Before for F {}

/// A store, looked after.
pub struct Upkeep {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl Upkeep {
    /// Opens this machine's store, which no server may have open.
    ///
    /// # Errors
    /// [`StartError::InUse`] while one runs.
    pub async fn open(config: &ServerConfig) -> Result<Self, StartError> {
        Self::over(start::machine_engine(config).await?)
    }

    /// As [`open`](Self::open), and makes no store where there is none.
    ///
    /// # Errors
    /// As there; and where there is none.
    pub async fn find(config: &ServerConfig) -> Result<Self, StartError> {
        Self::over(start::found_engine(config).await?)
    }

    fn over(engine: Arc<dyn Engine>) -> Result<Self, StartError> {
        let store = Store::start(engine, Committer::Inline, Box::new(|_| {}));
        let store = store.map_err(|e| EngineError::Io(e.to_string()))?;
        Ok(Self::of(store, Arc::new(SystemClock), Arc::new(OsRng)))
    }

    /// Looks after a store that is open.
    pub fn of(store: Store, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self { store, clock, rng }
    }

    /// Whether anything was ever kept in it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn holds_data(&self) -> Result<bool, StoreError> {
        Ok(self.store.get::<RingRow>(&known("ring")).await?.is_some())
    }

    /// The store's format, and what was and is to be done to it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn status(&self) -> Result<SchemaStatus, StoreError> {
        let known = self.store.refresh_known().await?;
        let made = known.ledger().values().map(MigrationView::applied);
        Ok(SchemaStatus {
            standing: Standing::of(&known),
            format: known.format(),
            program_format: known.program_format(),
            min_reader: known.min_reader(),
            min_writer: known.min_writer(),
            unfinished: known.is_unfinished(),
            altered: known.altered(),
            migrations: made
                .chain(known.pending().map(MigrationView::pending))
                .collect(),
        })
    }

    /// What going up does: to a number, or as far as this program knows.
    ///
    /// # Errors
    /// When the store fails or there is no such format.
    pub async fn plan_up(&self, to: Option<u16>) -> Result<SchemaChange, StartError> {
        let known = self.store.refresh_known().await?;
        let to = to.unwrap_or(known.program_format().max(known.format()));
        self.migrator(&|_, _| {}).reaches_up(to, &known)?;
        let pending = known.pending().filter(|m| m.number <= to);
        Ok(SchemaChange {
            from: known.format(),
            to,
            migrations: pending.map(MigrationView::pending).collect(),
            hidden: Vec::new(),
            backup: None,
        })
    }

    /// What going down to a number does.
    ///
    /// # Errors
    /// When the store fails, there is no such format, or one of the migrations cannot be undone.
    pub async fn plan_down(&self, to: u16) -> Result<SchemaChange, StartError> {
        let migrator = self.migrator(&|_, _| {});
        let hidden = migrator.losses(to).await?.into_iter();
        let known = self.store.known().await?;
        let undone = migrator.undone_by(to, &known)?;
        Ok(SchemaChange {
            from: known.format(),
            to,
            migrations: undone.iter().map(MigrationView::pending).collect(),
            hidden: hidden
                .map(|loss| HiddenValues {
                    collection: loss.collection,
                    field: loss.field,
                    rows: loss.rows,
                })
                .collect(),
            backup: None,
        })
    }

    /// Makes migrations, up to a number or as far as this program knows, and finishes what was
    /// cut. `before` comes first where there is something to do and to lose. Where servers of
    /// older versions are at work on the store, what they could not live with is refused.
    ///
    /// # Errors
    /// As [`plan_up`](Self::plan_up), and when `before` fails: then nothing was changed.
    pub async fn up(
        &self,
        to: Option<u16>,
        before: impl Before,
        progress: &(dyn Fn(&str, u64) + Sync),
    ) -> Result<SchemaChange, StartError> {
        let _held = self.store.hold().await?;
        let mut change = self.plan_up(to).await?;
        if !change.migrations.is_empty() && self.holds_data().await? {
            change.backup = before(&self.store).await.map_err(StartError::Backup)?;
        }
        let (others, program) = (self.store.others().await?, known_format(&self.store).await?);
        let alone = others.iter().all(|format| *format >= program);
        let migrator = self.migrator(progress);
        let made = migrator
            .up(change.to, change.backup.as_deref(), alone)
            .await?;
        change.migrations = made.into_iter().map(MigrationView::pending).collect();
        for migration in &change.migrations {
            tracing::info!(number = migration.number, name = migration.name, "migrated");
        }
        Ok(change)
    }

    /// Undoes migrations down to a number. `before` comes first where there is something to do
    /// and to lose.
    ///
    /// # Errors
    /// As [`plan_down`](Self::plan_down); [`StartError::OthersAtWork`]; [`StartError::DataLoss`]
    /// where values would be put out of sight and that was not accepted; and when `before` fails.
    /// Nothing was changed then.
    pub async fn down(
        &self,
        to: u16,
        accept_data_loss: bool,
        before: impl Before,
        progress: &(dyn Fn(&str, u64) + Sync),
    ) -> Result<SchemaChange, StartError> {
        let _held = self.store.hold().await?;
        let mut change = self.plan_down(to).await?;
        let something = !change.migrations.is_empty();
        if something {
            self.alone().await?;
        }
        if !change.hidden.is_empty() && !accept_data_loss {
            return Err(StartError::DataLoss(change.hidden));
        }
        if something && self.holds_data().await? {
            change.backup = before(&self.store).await.map_err(StartError::Backup)?;
            // A backup takes a while.
            self.alone().await?;
        }
        self.migrator(progress).down(to).await?;
        for migration in &change.migrations {
            tracing::info!(number = migration.number, name = migration.name, "undone");
        }
        Ok(change)
    }

    /// Refuses where others have the store open.
    async fn alone(&self) -> Result<(), StartError> {
        match self.store.others().await?.len() {
            0 => Ok(()),
            others => Err(StartError::OthersAtWork(others)),
        }
    }

    /// Reads the ledger and every row of the collections that it names; gives how many rows of
    /// each are still to be written in the store's format.
    ///
    /// # Errors
    /// The first thing at fault.
    pub async fn verify(&self) -> Result<BTreeMap<String, u64>, StartError> {
        Ok(self.migrator(&|_, _| {}).verify().await?)
    }

    /// What a program must do before it serves a store: makes what is missing, and refuses a store
    /// that is not for it. With `via_hook`, a store that is behind and holds data is left to
    /// `certctl server --migrate-only`. Says whether the store is ahead.
    ///
    /// # Errors
    /// [`StartError::SchemaTooNew`], [`StartError::SchemaBehind`], or what goes wrong on the way up.
    pub async fn admit(&self, via_hook: bool, before: impl Before) -> Result<bool, StartError> {
        let known = self.store.refresh_known().await?;
        if let Some(number) = known.altered().first() {
            return Err(MigrateError::Altered(*number).into());
        }
        let (format, program) = (known.format(), known.program_format());
        match Standing::of(&known) {
            Standing::Current => Ok(false),
            Standing::Ahead => {
                tracing::warn!(
                    format,
                    program,
                    "a later version has changed the store; this one may use it: see `certctl \
                     migrate status`"
                );
                Ok(true)
            }
            Standing::TooNew => Err(StartError::SchemaTooNew {
                format,
                program,
                since: known.min_reader().max(known.min_writer()),
            }),
            Standing::Behind if via_hook && self.holds_data().await? => {
                Err(StartError::SchemaBehind { format, program })
            }
            Standing::Behind => {
                self.up(None, before, &|_, _| {}).await?;
                Ok(self.store.known().await?.is_ahead())
            }
        }
    }

    /// The records that are always there, and the indexes: no key is loaded or made.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn seed(&self) -> Result<(), StartError> {
        let birth = Birth {
            store: &self.store,
            rng: &*self.rng,
            crypto: &RingCrypto,
            now: self.clock.now(),
        };
        birth.indexes().await?;
        birth.records().await
    }

    /// Lets go of the store.
    pub async fn close(self) {
        self.store.close().await;
    }

    fn migrator<'a>(&'a self, progress: &'a (dyn Fn(&str, u64) + Sync)) -> Migrator<'a> {
        Migrator {
            store: &self.store,
            now: self.clock.now(),
            by: VERSION,
            commit_id: Box::new(|| {
                let mut id = [0; 16];
                self.rng.fill(&mut id);
                u128::from_be_bytes(id)
            }),
            note: &audit,
            progress,
        }
    }
}

/// The format of the store's program.
async fn known_format(store: &Store) -> Result<u16, StoreError> {
    Ok(store.known().await?.program_format())
}

/// What the audit log has of a migration, in the very commit.
fn audit(unit: &mut Unit<'_>, now: Time, migration: &Migration, up: bool) {
    let action = if up {
        "schema_migrated"
    } else {
        "schema_reverted"
    };
    let number = migration.number.to_string();
    let event = AuditEvent::new(
        &Principal::system("migrate"),
        Category::Config,
        action,
        ("schema", &number),
        now,
    );
    unit.append(AUDIT, &event.with("migration", &migration.name));
}

/// Makes the backup that goes before a migration: where backups go, or in the data directory.
///
/// # Errors
/// When no backup could be made.
pub async fn backup_before_migration(
    config: &ServerConfig,
    store: &Store,
) -> Result<Option<String>, BackupFailure> {
    let machine = Machine::this(config.clone())?;
    let place = machine.create_of(store).await?;
    tracing::info!(backup = %place.name, "made before the migration");
    Ok(Some(format!("{}/{}", place.sink, place.name)))
}

/// Why the store of this machine is to be waited for, where migrations are left to
/// `certctl server --migrate-only`: it is behind, or being migrated. `None` when it is ready.
///
/// # Errors
/// When it cannot be opened or read.
pub async fn awaited_schema(config: &ServerConfig) -> Result<Option<String>, StartError> {
    let upkeep = match Upkeep::open(config).await {
        Ok(upkeep) => upkeep,
        Err(StartError::InUse(path)) => {
            return Ok(Some(format!(
                "{path} is in use: it is being migrated, perhaps"
            )));
        }
        Err(e) => return Err(e),
    };
    let status = upkeep.status().await?;
    let behind = status.standing == Standing::Behind && upkeep.holds_data().await?;
    upkeep.close().await;
    Ok(behind.then(|| {
        format!(
            "the store has format {}, this version {}: `certctl server --migrate-only` brings it up",
            status.format, status.program_format
        )
    }))
}
