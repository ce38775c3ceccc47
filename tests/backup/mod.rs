//! Backups as the control plane makes and proves them.

mod before;
mod cut;
mod journal;
mod keep;
mod left;
mod lives;
mod meanwhile;
mod replaced;
mod runs;
mod s3;
mod schedule;
mod state;
mod stopped;

use crate::support::TestApp;
use certctl::{
    app::backup::{
        BackupFailure, Bench, Keys, Locking, Restore, Restored, Sink, Source, Stored, Ways, create,
        machine_key, restore,
    },
    crypt::MachineKey,
    domain::Principal,
    store::{Committer, Redb, Store, backup::Reader},
    sys::{Disk, Files},
};
use futures_util::stream::iter;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// The store in a directory.
fn store_in(dir: &Path) -> Store {
    let engine = Redb::open(&dir.join("certctl.redb")).unwrap();
    Store::start(Arc::new(engine), Committer::Inline, Box::new(|_| ())).unwrap()
}

/// What a test makes backups with.
pub struct Scene {
    pub app: TestApp,
    pub machine: MachineKey,
    pub dir: tempfile::TempDir,
    pub stop: CancellationToken,
}

impl Scene {
    pub async fn new() -> Self {
        let app = TestApp::start().await;
        let machine = machine_key(&Disk, &app.app.config).unwrap().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        Self {
            app,
            machine,
            dir,
            stop,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    pub fn sink(&self) -> Sink {
        Sink::Dir(self.path())
    }

    pub fn source<'a>(&'a self, files: &'a dyn Files) -> Source<'a> {
        Source {
            store: &self.app.app.store,
            machine: Some(&self.machine),
            ways: self.ways(files),
            clock: &*self.app.app.clock,
            stop: &self.stop,
        }
    }

    pub fn ways<'a>(&'a self, files: &'a dyn Files) -> Ways<'a> {
        Ways {
            files,
            s3: None,
            spool: self.dir.path(),
            clock: &*self.app.app.clock,
        }
    }

    pub fn bench(&self) -> Bench<'_> {
        Bench {
            files: &Disk,
            clock: &*self.app.app.clock,
            rng: &*self.app.app.rng,
            machine: Some(&self.machine),
        }
    }

    /// Restores a backup of its sink into a directory.
    pub async fn restore(
        &self,
        name: &str,
        into: &Path,
        keys: &Keys,
        bench: Bench<'_>,
    ) -> Result<Restored, BackupFailure> {
        let who = Principal::system("test");
        let wanted = Restore {
            name,
            store: "",
            into,
            dry_run: false,
            reconcile: false,
            who: &who,
            agreed: &mut |_| true,
        };
        let from = Disk.open(&self.path().join(name)).unwrap();
        let bundle = Reader::new(from, keys);
        restore(wanted, iter([bundle]), bench, &mut |_| {}).await
    }

    pub async fn create(&self) -> Stored {
        let (sink, locking) = (self.sink(), Locking::WithoutKeys);
        create(self.source(&Disk), &sink, &locking, None, &mut |_| {})
            .await
            .unwrap()
    }
}
