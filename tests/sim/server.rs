//! The server's process: redb on a disk that loses what is not synced, and everything else given.

use super::{
    chance::{Chance, SeededCrypto},
    files::{SimFiles, Volume},
    machine::{Fault, Machine},
    network::{Network, Server},
    trace::{SimClock, Trace},
};
use crate::store::disk::{LosingDisk, Loss};
use async_trait::async_trait;
use certctl::{
    api,
    app::{App, Parts, StartError},
    config::ServerConfig,
    reconcile,
    store::{
        Answer, Batch, Committer, Engine, EngineError, Load, Outcome, Query, Redb, Snapshot, Store,
    },
    sys::{Files, Tasks},
};
use redb::StorageBackend;
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{task::yield_now, time::Instant};

/// The pace of the server's loops.
const TICK: Duration = Duration::from_secs(30);

/// What the server's process is given, and leaves behind.
pub struct ServerHost {
    pub clock: SimClock,
    pub chance: Arc<Chance>,
    pub trace: Trace,
    pub volume: Volume,
    /// The store's file, as the last process left it.
    pub store: Mutex<Vec<u8>>,
    /// The administrator's key, once it was made.
    pub admin_key: Mutex<Option<String>>,
}

/// A server that runs.
pub struct ServerProcess {
    pub app: Arc<App>,
    pub machine: Machine,
    /// The store itself, without the process around it: for looking, at no simulated time.
    pub stored: Store,
    disk: LosingDisk,
}

impl ServerHost {
    /// Starts a process on what the last one left.
    pub async fn start(&self, machine: Machine) -> Result<ServerProcess, StartError> {
        let (disk, stored, parts) = self.parts(&machine)?;
        let started = App::start(parts).await?;
        if let Some(key) = started.admin_key {
            *self.admin_key.lock().unwrap() = Some(key);
        }
        Ok(ServerProcess {
            app: started.app,
            machine,
            stored,
            disk,
        })
    }

    /// A start whose machine loses its power at the `k`-th step after the store was opened.
    /// Whether that step came.
    pub async fn start_cut_at(&self, k: u64) -> bool {
        let machine = Machine::boot("server", &self.trace);
        let (disk, _, parts) = self.parts(&machine).unwrap();
        let tasks = parts.tasks.clone();
        machine.plan(k, Fault::PowerLoss);
        tokio::select! {
            biased;
            () = machine.off() => {}
            _ = App::start(parts) => {}
        }
        tasks.abort_all();
        self.power_lost(&disk);
        machine.struck()
    }

    /// What a process is made of.
    fn parts(&self, machine: &Machine) -> Result<(LosingDisk, Store, Parts), StartError> {
        let files = Arc::new(SimFiles {
            volume: self.volume.clone(),
            machine: machine.clone(),
        });
        let data_dir = PathBuf::from("/data");
        files.make_dir(&data_dir, 0o700)?;
        let disk = LosingDisk::found(std::mem::take(&mut *self.store.lock().unwrap()));
        let redb = Arc::new(Redb::open_on(SteppedDisk {
            disk: disk.clone(),
            machine: machine.clone(),
        })?);
        let start = |engine: Arc<dyn Engine>, machine: Machine| {
            Store::start(engine, Committer::Inline, Box::new(move |_| machine.cut())).unwrap()
        };
        let stored = start(redb.clone(), machine.clone());
        let engine = SimEngine {
            redb,
            machine: machine.clone(),
            trace: self.trace.clone(),
        };
        let parts = Parts {
            store: start(Arc::new(engine), machine.clone()),
            clock: Arc::new(self.clock.clone()),
            rng: self.chance.clone(),
            crypto: Arc::new(SeededCrypto(self.chance.clone())),
            files,
            rooms: Arc::new(certctl::sys::Disk),
            tasks: Tasks::new(),
            config: ServerConfig::new(data_dir, ([127, 0, 0, 1], 8443).into()),
            names: Vec::new(),
            alone: None,
        };
        Ok((disk, stored, parts))
    }

    /// What is found after the power's loss.
    fn power_lost(&self, disk: &LosingDisk) {
        let loss = match self.chance.below(4) {
            0 => Loss::None,
            1 => Loss::All,
            _ => Loss::Torn(self.chance.below(u64::MAX)),
        };
        self.trace.note(format_args!("server: {loss:?}"));
        *self.store.lock().unwrap() = disk.lose_power(loss);
        self.volume.lose_power(&self.chance);
    }

    /// Ends a process without a last word. With the power gone, what was not synced is lost, kept
    /// or torn.
    pub fn end(&self, process: &ServerProcess, power_lost: bool) {
        process.machine.cut();
        process.app.tasks.abort_all();
        if power_lost {
            self.power_lost(&process.disk);
        } else {
            *self.store.lock().unwrap() = process.disk.lose_power(Loss::None);
        }
    }
}

impl ServerProcess {
    /// Starts what a running server does: it listens, and its loops look.
    pub fn serve(&self, network: &Network) {
        reconcile::start_at(&self.app, TICK);
        network.up(Server {
            router: api::router(self.app.clone()),
            tasks: self.app.tasks.clone(),
            machine: self.machine.clone(),
        });
    }
}

/// The disk under redb: each write, change of length and sync is a step of the machine.
#[derive(Debug)]
struct SteppedDisk {
    disk: LosingDisk,
    machine: Machine,
}

impl StorageBackend for SteppedDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.machine.step(format_args!("store length {len}"))?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.machine.step("store sync")?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.machine.step(format_args!("store write {offset}"))?;
        self.disk.write(offset, data)
    }
}

/// The engine: each use lets others go first, so that calls made at once interleave, and once the
/// machine is off nothing comes back.
struct SimEngine {
    redb: Arc<Redb>,
    machine: Machine,
    trace: Trace,
}

#[async_trait]
impl Engine for SimEngine {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        yield_now().await;
        self.machine.alive().await;
        self.redb.read(questions).await
    }

    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        yield_now().await;
        self.machine.alive().await;
        let outcomes = self.redb.commit(group).await;
        let what = format!("{group:?}");
        let what = ring::digest::digest(&ring::digest::SHA256, what.as_bytes());
        self.trace
            .note(format_args!("server: commit {what:?}: {outcomes:?}"));
        yield_now().await;
        outcomes
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        self.redb.snapshot(deadline).await
    }

    async fn load(&self, part: Load) -> Result<(), EngineError> {
        self.redb.load(part).await
    }
}
