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

use crate::support::TestApp;
use certctl::{
    app::backup::{Bench, Locking, Sink, Source, Stored, Ways, create, machine_key},
    crypt::MachineKey,
    sys::{Disk, Files},
};
use std::path::PathBuf;

/// What a test makes backups with.
pub struct Scene {
    pub app: TestApp,
    pub machine: MachineKey,
    pub dir: tempfile::TempDir,
}

impl Scene {
    pub async fn new() -> Self {
        let app = TestApp::start().await;
        let machine = machine_key(&Disk, &app.app.config).unwrap().unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { app, machine, dir }
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
        }
    }

    pub fn ways<'a>(&'a self, files: &'a dyn Files) -> Ways<'a> {
        Ways {
            files,
            s3: None,
            spool: self.dir.path(),
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

    pub async fn create(&self) -> Stored {
        let (sink, locking) = (self.sink(), Locking::WithoutKeys);
        create(self.source(&Disk), &sink, &locking, None, &mut |_| {})
            .await
            .unwrap()
    }
}
