//! From a data directory to a working control plane. Everything here can be cut at any point and
//! run again: each step finds what the step before left.

use super::{
    App, Server, SystemCa,
    backup::{BackupFailure, MACHINE_KEY, STORE_FILE, remove_left},
    backups::Backups,
    birth::{Birth, ISSUING_NODE, KeyPlace, MAX_PEM, ROOT_NODE, SYSTEM_NODE},
    configured::Configured,
    crl::Crls,
    database,
    lead::Lead,
    limits::Limits,
    nodes::Nodes,
    rules::Rules,
    schema::{HiddenValues, Upkeep, backup_before_migration},
    sight::Sights,
};
use crate::{
    ca::{LocalCa, local},
    clock::{Clock, Rng, SystemClock, Time},
    config::ServerConfig,
    crypt::{Crypto, OsRng, RingCrypto, RingError},
    domain::job::LEASE,
    id::Id,
    jobs::{Doorbell, Heard, Pulse, Seen, Watched},
    net::{AGENT_NAME, ServerIdentity},
    pki::San,
    store::{
        CommitError, Committer, Engine, EngineError, Postgres, Redb, Store, StoreError,
        migrate::MigrateError,
    },
    sys::{Disk, FileError, Files, Lock, Reach, Rooms, Tasks, remove_temporaries},
    telemetry::{Metrics, Throttle},
};
use std::{path::Path, sync::Arc, time::Duration};

/// The issuer that is always there.
pub const ISSUER_LOCAL: &str = "iss-local";
/// The profile that is always there.
pub const PROFILE_DEFAULT: &str = "prof-default";
/// The renewal policy that is always there.
pub const POLICY_DEFAULT: &str = "rp-default";
/// The file that the first start leaves for the administrator.
pub const FIRST_START: &str = "first-start.txt";

/// The system CA's certificate, in the data directory.
pub const SYSTEM_CA_FILE: &str = "tls/system-ca.pem";
const LOCAL_ROOT_FILE: &str = "tls/local-root-ca.pem";

/// For a database that does not answer yet when the server starts.
const PATIENCE: Duration = Duration::from_secs(60);

/// A step of a start is done so often, at most.
const STARTS: usize = 16;

/// What a control plane is made of, apart from what it stores.
pub struct Parts {
    /// Where everything is kept.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub rng: Arc<dyn Rng>,
    /// Makes keys.
    pub crypto: Arc<dyn Crypto>,
    /// The server's own files.
    pub files: Arc<dyn Files>,
    /// Tells how much room the disk has.
    pub rooms: Arc<dyn Rooms>,
    /// Starts tasks.
    pub tasks: Tasks,
    /// The settings.
    pub config: ServerConfig,
    /// Names under which the server is reached, for its own certificate.
    pub names: Vec<San>,
    /// Keeps others out of the data directory while the server lives, where the store does not.
    pub alone: Option<Lock>,
}

impl Parts {
    /// A control plane of this machine: its clock, its random bytes, and the store in the
    /// configured database, or in a redb file in the data directory. Either is made when it is
    /// missing. A commit that the disk refuses ends the process: what was acknowledged is safe,
    /// and opening the store again is the recovery. A database that is away is waited for.
    pub async fn of_machine(
        config: ServerConfig,
        tasks: Tasks,
        names: Vec<San>,
    ) -> Result<Self, StartError> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        let on_fatal = |e: &EngineError| {
            tracing::error!(error = %e, "the store cannot be written: the process ends");
            std::process::exit(STORE_FAILED);
        };
        let alone = alone(&config)?;
        let engine = machine_engine(&config).await?;
        let store = Store::start(engine, Committer::Thread, Box::new(on_fatal));
        let store = store.map_err(|e| EngineError::Io(e.to_string()))?;
        Ok(Self {
            store,
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            crypto: Arc::new(RingCrypto),
            files,
            rooms: Arc::new(Disk),
            tasks,
            config,
            names,
            alone,
        })
    }
}

/// Keeps other servers out of the data directory. A store in it does that by itself.
fn alone(config: &ServerConfig) -> Result<Option<Lock>, StartError> {
    if config.database.is_none() {
        return Ok(None);
    }
    let made = Disk.make_dir(&config.data_dir, 0o700);
    made.map_err(StartError::DataDir)?;
    match Lock::take(&config.data_dir.join("server.lock"))? {
        Some(lock) => Ok(Some(lock)),
        None => Err(StartError::InUse(config.data_dir.display().to_string())),
    }
}

/// The engine of this machine's store, made when it is missing: in the data directory, or in the
/// database that the settings name.
pub async fn machine_engine(config: &ServerConfig) -> Result<Arc<dyn Engine>, StartError> {
    let made = Disk.make_dir(&config.data_dir, 0o700);
    made.map_err(StartError::DataDir)?;
    Ok(match &config.database {
        Some(database) => {
            let login = database::login(database, &disk())?;
            Arc::new(Postgres::open(login, PATIENCE).await?)
        }
        None => {
            let path = config.data_dir.join(STORE_FILE);
            if has_lost_store(&config.data_dir)? {
                return Err(StartError::StoreMissing(path.display().to_string()));
            }
            Arc::new(Redb::open(&path)?)
        }
    })
}

/// Whether a server left something in a data directory, and no store: a first start makes the
/// store before the key, and that before the file of the CA.
pub(super) fn has_lost_store(dir: &Path) -> Result<bool, FileError> {
    let there = |name: &str| Disk.metadata(&dir.join(name));
    Ok(there(STORE_FILE)?.is_none_or(|file| file.len == 0)
        && (there(MACHINE_KEY)?.is_some() || there(SYSTEM_CA_FILE)?.is_some()))
}

/// This machine's files.
pub(super) fn disk() -> Arc<dyn Files> {
    Arc::new(Disk)
}

/// As [`machine_engine`], for commands: nothing is made, and nothing is waited for.
pub(super) async fn found_engine(config: &ServerConfig) -> Result<Arc<dyn Engine>, StartError> {
    if let Some(database) = &config.database {
        let login = database::login(database, &disk())?;
        return Ok(Arc::new(Postgres::find(login, Duration::ZERO).await?));
    }
    let path = config.data_dir.join(STORE_FILE);
    if Disk.metadata(&path)?.is_none_or(|file| file.len == 0) {
        let dir = config.data_dir.display().to_string();
        return Err(EngineError::NoStore(dir).into());
    }
    Ok(Arc::new(Redb::open(&path)?))
}

/// The exit code when the store failed while the server ran (EX_IOERR of sysexits.h).
pub const STORE_FAILED: i32 = 74;

/// A control plane, and what its first start made.
pub struct Started {
    /// The control plane.
    pub app: Arc<App>,
    /// The administrator's key, on the first start only.
    pub admin_key: Option<String>,
}

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no data directory, and none can be made.
    #[error("{0}: choose another data directory (--data-dir)")]
    DataDir(FileError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process has the data directory's store open.
    #[error(
        "another certctl runs on {0}: use that one, stop it, or choose another data directory (--data-dir)"
    )]
    InUse(String),
    /// The CAs that are to vouch for the database.
    #[error("CERTCTL_DATABASE_URL: sslrootcert {0}")]
    DatabaseTrust(String),
    /// The storage engine.
    #[error(transparent)]
    Engine(EngineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The clock was never set: what is made now would have ended when it is.
    #[error("the clock says {0}, which cannot be: set it, then start again")]
    Clock(Time),
    /// The keys of the configuration.
    #[error("{0}")]
    Keys(String),
    /// A later version has changed the store, and this one may not use it.
    #[error(
        "a later version brought the store to format {format}, which versions of format {since} \
         and later may use, and this one has format {program}: undo that with `certctl migrate \
         down --to {program}`, or put a backup from before it back with `certctl restore`"
    )]
    SchemaTooNew {
        /// The store's format.
        format: u16,
        /// This program's.
        program: u16,
        /// The oldest that may use it.
        since: u16,
    },
    /// The store is behind, and migrations are left to a hook.
    #[error(
        "the store has format {format} and this version {program}, and migrations are left to a \
         hook: `certctl server --migrate-only` brings the store up"
    )]
    SchemaBehind {
        /// The store's format.
        format: u16,
        /// This program's.
        program: u16,
    },
    /// Migrations were not made or undone.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// Others have the store open.
    #[error("{0} other servers or commands have the store open: stop them all, then try again")]
    OthersAtWork(usize),
    /// No backup could be made before a migration.
    #[error(
        "no backup could be made first, and nothing was changed: {0}; mend that, or go on without \
         one by --no-backup"
    )]
    Backup(BackupFailure),
    /// An older format has no place for what is stored.
    #[error(
        "that format has no place for {}: the values stay in their rows, but out of its sight; \
         accept that by --accept-data-loss", hidden(.0)
    )]
    DataLoss(Vec<HiddenValues>),
    /// The key ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The machine key is gone.
    #[error(
        "{0} is missing, and the store beside it was sealed with it: put it back from your backup"
    )]
    MachineKeyMissing(String),
    /// The machine key is not a file of ours.
    #[error(
        "the machine key is given by CERTCTL_MACHINE_KEY or CERTCTL_MACHINE_KEY_FILE, which this \
         does not change: stop all servers, write the key into machine.key of a data directory, run \
         this there without that setting, then give every server what machine.key holds"
    )]
    MachineKeyGiven,
    /// The machine key is with another server.
    #[error(
        "{0} is missing, and the store in this database was sealed by another server: copy its \
         machine.key there from that server's data directory or from your backup, or give its \
         content by CERTCTL_MACHINE_KEY or CERTCTL_MACHINE_KEY_FILE, then start again"
    )]
    MachineKeyElsewhere(String),
    /// The machine key is another one than other servers have.
    #[error(
        "{0} is not the machine key that the store in this database was sealed with: put in its \
         place the machine.key of a server that runs on this database, or that of your backup"
    )]
    MachineKeyOther(String),
    /// The store is gone: there is only what lies beside it.
    #[error(
        "{0} is missing or empty, but what a server left beside it is there: `certctl restore BACKUP` \
         puts a store there. Keep machine.key, where it is there still: it opens what was sealed since \
         it was made. To begin anew, with new CAs that nobody trusts yet, take an empty directory"
    )]
    StoreMissing(String),
    /// The store is gone from the database: there is only what lies in the data directory.
    #[error(
        "the database of CERTCTL_DATABASE_URL holds no store, and {0} is of a server that had one: \
         is it the right database? `certctl restore BACKUP` brings a store back, and one begins \
         anew in an empty directory (--data-dir)"
    )]
    DatabaseEmpty(String),
    /// The machine key's file holds something else.
    #[error("{0} cannot be used ({1}): put it back from your backup")]
    MachineKeyUnreadable(String, RingError),
    /// A CA.
    #[error(transparent)]
    Ca(#[from] local::CreateError),
    /// Something stored cannot be used.
    #[error("{what} in the store cannot be used: {reason}")]
    Stored {
        /// The thing.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl StartError {
    /// Whether something else was committed meanwhile: also what was sealed anew after the ring was
    /// read.
    fn is_conflict(&self) -> bool {
        match self {
            Self::Ring(RingError::NoKey) => true,
            Self::Store(e) => e.is_conflict(),
            Self::Commit(e) => e.is_conflict(),
            Self::Migrate(MigrateError::Store(e)) => e.is_conflict(),
            _ => false,
        }
    }
}

/// Does a step of a start, and does it again when a server that starts at the same time was first:
/// then it finds what that one made.
async fn again<T, F>(step: impl Fn() -> F) -> Result<T, StartError>
where
    F: Future<Output = Result<T, StartError>>,
{
    for _ in 1..STARTS {
        match step().await {
            Err(e) if e.is_conflict() => {}
            done => return done,
        }
    }
    step().await
}

impl StartError {
    /// Whether the database is not to be reached now.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Engine(e) => e.is_away(),
            Self::Store(e) | Self::Migrate(MigrateError::Store(e)) => e.is_away(),
            Self::Commit(e) => e.is_away(),
            _ => false,
        }
    }

    /// The machine key is gone from beside this machine's store, or was never copied there.
    pub(super) fn no_machine_key(config: &ServerConfig) -> Self {
        let place = config.data_dir.join(MACHINE_KEY).display().to_string();
        match config.database {
            Some(_) => Self::MachineKeyElsewhere(place),
            None => Self::MachineKeyMissing(place),
        }
    }

    /// Whether there is no store where one is looked for.
    pub fn is_no_store(&self) -> bool {
        matches!(
            self,
            Self::Engine(EngineError::NoStore(_)) | Self::StoreMissing(_) | Self::DatabaseEmpty(_)
        )
    }

    /// Whether a migration, up or down, is not to be had as it was asked for.
    pub fn is_of_the_way(&self) -> bool {
        match self {
            Self::DataLoss(_) => true,
            Self::Migrate(e) => !matches!(e, MigrateError::Store(_)),
            _ => false,
        }
    }

    /// Whether others that run are in the way.
    pub fn is_of_others(&self) -> bool {
        matches!(
            self,
            Self::InUse(_)
                | Self::OthersAtWork(_)
                | Self::Migrate(MigrateError::OthersAtWork { .. })
        )
    }

    /// Whether the settings are what is wrong: no other start will do better with them.
    pub fn is_of_settings(&self) -> bool {
        matches!(
            self,
            Self::Keys(_)
                | Self::MachineKeyGiven
                | Self::DatabaseTrust(_)
                | Self::Engine(EngineError::Password(_) | EngineError::Unusable(_))
        )
    }
}

fn hidden(values: &[HiddenValues]) -> String {
    let each = values.iter().map(|value| {
        let HiddenValues {
            collection,
            field,
            rows,
        } = value;
        format!("{collection}.{field} ({rows} rows)")
    });
    each.collect::<Vec<_>>().join(", ")
}

impl From<EngineError> for StartError {
    fn from(e: EngineError) -> Self {
        match e {
            EngineError::InUse(path) => Self::InUse(path),
            e => Self::Engine(e),
        }
    }
}

impl App {
    /// Brings up a control plane over a store, making on the first start what must be there.
    pub async fn start(parts: Parts) -> Result<Started, StartError> {
        let Parts {
            store,
            clock,
            rng,
            crypto,
            files,
            rooms,
            tasks,
            config,
            mut names,
            alone,
        } = parts;
        let configured = Configured::read(config.keys.clone(), &*files);
        let configured = configured.map_err(StartError::Keys)?;
        let backups = Backups::new(config.backup.as_ref());
        let upkeep = Upkeep::of(store.clone(), clock.clone(), rng.clone());
        let settings = &config;
        let admitted = || {
            upkeep.admit(settings.migrations_via_hook, async |store: &Store| {
                backup_before_migration(settings, store).await
            })
        };
        again(admitted).await?;
        let birth = Birth {
            store: &store,
            rng: &*rng,
            crypto: &*crypto,
            now: clock.now(),
        };
        let rows = again(|| birth.indexes()).await?;
        if rows > 0 {
            tracing::info!(rows, "indexes were built");
        }
        let key = KeyPlace {
            given: config.machine_key.as_ref(),
            file: &config.data_dir.join(MACHINE_KEY),
        };
        let beside = &config.data_dir.join(SYSTEM_CA_FILE);
        let nodes = || async {
            let (ring, keyring) = birth.keyring(&*files, key, beside).await?;
            birth.records().await?;
            birth.cas(&keyring).await?;
            let issuing = birth.node(&keyring, ISSUING_NODE).await?;
            let system = birth.node(&keyring, SYSTEM_NODE).await?;
            let (root, _) = birth.node(&keyring, ROOT_NODE).await?;
            Ok((ring, keyring, issuing, system, root))
        };
        let (ring, keyring, issuing, system, root) = again(nodes).await?;
        let ((issuing, issuing_key), (system, system_key)) = (issuing, system);
        let admin_key = birth
            .first_key(&*files, &config.data_dir.join(FIRST_START))
            .await?;

        let trust = config.data_dir.join("tls");
        for dir in [&config.data_dir, &trust] {
            if let Err(error) = remove_temporaries(&*files, dir, Reach::Directory) {
                tracing::warn!(%error, "what a crash left half written was not removed");
            }
        }
        if let Err(error) = remove_left(&*files, &config.data_dir) {
            tracing::warn!(%error, "what a crash left of a scratch store was not removed");
        }
        files.make_dir(&trust, 0o755)?;
        for (name, ca) in [(SYSTEM_CA_FILE, &system), (LOCAL_ROOT_FILE, &root)] {
            let path = config.data_dir.join(name);
            // What is there needs no room on a disk that may be full.
            let pem = ca.pem();
            if files.read(&path, MAX_PEM).ok().as_deref() != Some(pem.as_bytes()) {
                files.write_durable(&path, pem.as_bytes(), 0o644)?;
            }
        }

        names.push(San::Dns(AGENT_NAME.into()));
        let system_ca = SystemCa::new(system, system_key, names, clock.now());
        let identity = system_ca.identity(&*crypto, &*rng, clock.now()).await?;
        let pointers = super::nodes::pointers(&config, ISSUING_NODE);
        let local = LocalCa::new(issuing, issuing_key)
            .below(vec![root])
            .published(pointers);
        let metrics = Metrics::new(store.metrics());
        let server = Server {
            _alone: alone,
            started_at: clock.now(),
            lead: Lead::new(Id::generate("srv", clock.now(), &*rng)),
            leases: Sights::new(LEASE / 2),
            store,
            clock,
            rng,
            crypto,
            tasks,
            keyring: super::secrets::Ring::new(ring, keyring),
            nodes: Nodes::with(super::known(ISSUING_NODE), local),
            crls: Crls::default(),
            rules: Rules::default(),
            system_ca,
            identity: ServerIdentity::new(identity),
            doorbell: Doorbell::default(),
            heard: Heard::default(),
            watched: Watched::default(),
            pulse: Pulse::default(),
            followed: Default::default(),
            fence: Default::default(),
            backups,
            doctor: Default::default(),
            storage: Default::default(),
            refusals: Throttle::default(),
            metrics,
            files,
            rooms,
            found: super::room::Found::default(),
            keys_used: Seen::default(),
            sessions_used: Seen::default(),
            configured,
            limits: Limits::new(&config),
            config,
        };
        let app = App::of(server);
        app.begin_to_follow().await?;
        app.know_fence().await?;
        app.look_at_room();
        app.remember_heard().await?;
        app.know_issuers().await?;
        app.tell_of_keys_without_role().await?;
        Ok(Started {
            app: Arc::new(app),
            admin_key,
        })
    }
}
