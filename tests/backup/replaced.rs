//! A restore whose disk fails at each of its steps leaves the old store or the new one, whole.

use super::Scene;
use certctl::{
    app::backup::{Bench, Locking, Restore, Restored, create, restore},
    domain::{Owner, Principal},
    store::{
        Committer, OWNER_NAME, Redb, Scan, Store,
        backup::{BackupError, Keys, Reader},
    },
    sys::{Disk, FileError, Files, Metadata, Owner as FileOwner},
};
use futures_util::stream::iter;
use serde_json::json;
use std::{
    ffi::OsString,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A disk that does so many things, and then fails at everything.
struct Failing(AtomicUsize);

impl Failing {
    fn step(&self, op: &'static str, path: &Path) -> Result<(), FileError> {
        let left = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        left.map(drop).map_err(|_| FileError {
            op,
            path: path.to_owned(),
            source: io::Error::from_raw_os_error(5),
        })
    }
}

impl Files for Failing {
    fn read(&self, path: &Path, max_bytes: usize) -> Result<Vec<u8>, FileError> {
        self.step("read", path)?;
        Disk.read(path, max_bytes)
    }
    fn write_durable(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        self.step("write", path)?;
        Disk.write_durable(path, bytes, mode)
    }
    fn write_owned(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        owner: FileOwner,
    ) -> Result<(), FileError> {
        self.step("write", path)?;
        Disk.write_owned(path, bytes, mode, owner)
    }
    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        self.step("make", path)?;
        Disk.make_dir(path, mode)
    }
    fn flip_link(&self, link: &Path, target: &Path) -> Result<(), FileError> {
        self.step("link", link)?;
        Disk.flip_link(link, target)
    }
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        self.step("read", path)?;
        Disk.read_link(path)
    }
    fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.step("remove", path)?;
        Disk.remove(path)
    }
    fn remove_tree(&self, path: &Path) -> Result<(), FileError> {
        self.step("remove", path)?;
        Disk.remove_tree(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<OsString>, FileError> {
        self.step("list", dir)?;
        Disk.list(dir)
    }
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, FileError> {
        self.step("look at", path)?;
        Disk.metadata(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.step("rename", from)?;
        Disk.rename(from, to)
    }
    fn make_own_dir(&self, path: &Path) -> Result<(), FileError> {
        self.step("make", path)?;
        Disk.make_own_dir(path)
    }
    fn give(&self, path: &Path, owner: FileOwner) -> Result<(), FileError> {
        self.step("give", path)?;
        Disk.give(path, owner)
    }
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, FileError> {
        self.step("open", path)?;
        Disk.open(path)
    }
    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.step("link", from)?;
        Disk.link(from, to)
    }
}

async fn replace(
    scene: &Scene,
    files: &dyn Files,
    name: &str,
    into: &Path,
) -> Result<Restored, String> {
    // Each restore has a moment of its own, after which what it replaces is called.
    scene.app.advance(Duration::from_secs(1));
    let who = Principal::system("test");
    let wanted = Restore {
        name,
        into,
        dry_run: false,
        reconcile: false,
        who: &who,
    };
    let from = Disk.open(&scene.path().join(name)).unwrap();
    let bundle: Result<_, BackupError> = Reader::new(from, &Keys::default());
    let bench = Bench {
        files,
        ..scene.bench()
    };
    let restored = restore(wanted, iter([bundle]), bench, &mut |_| {}).await;
    restored.map_err(|e| e.to_string())
}

/// How many owners the store in a directory has, read to its end.
async fn owners(dir: &Path) -> usize {
    let engine = Redb::open(&dir.join("certctl.redb")).unwrap();
    let store = Store::start(Arc::new(engine), Committer::Inline, Box::new(|_| ())).unwrap();
    crate::support::invariants::check(&store).await;
    let all = store.scan::<Owner>(Scan::all(OWNER_NAME, 1_000)).await;
    all.unwrap().len()
}

#[tokio::test]
async fn a_restore_that_fails_at_any_step_leaves_one_store_whole() {
    let scene = Scene::new().await;
    let owner = |n: u32| json!({"name": format!("o{n}"), "email": "a@b.example"});
    let mut names = Vec::new();
    for n in 0..2 {
        for m in 0..3 {
            let body = owner(n * 10 + m);
            scene.app.post("/api/v1/owners", body).await.expect(201);
        }
        let (sink, locking) = (scene.sink(), Locking::WithoutKeys);
        let made = create(scene.source(&Disk), &sink, &locking, None, &mut |_| {}).await;
        names.push(made.unwrap().name);
    }
    let dir = scene.dir.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("machine.key"), scene.machine.to_text().as_bytes()).unwrap();
    replace(&scene, &Disk, &names[0], &dir).await.unwrap();
    assert_eq!(owners(&dir).await, 3);
    let mut left = Vec::new();
    for steps in 0.. {
        // Always from the first to the second.
        replace(&scene, &Disk, &names[0], &dir).await.unwrap();
        let files = Failing(AtomicUsize::new(steps));
        let done = replace(&scene, &files, &names[1], &dir).await;
        let there = owners(&dir).await;
        left.push(there);
        match done {
            Ok(_) => {
                assert_eq!(there, 6);
                assert_eq!(files.0.load(Ordering::SeqCst), 0, "each step was failed at");
                break;
            }
            Err(why) => {
                assert!(why.to_lowercase().contains("input/output error"), "{why}");
                assert!(
                    there == 3 || there == 6,
                    "{there} owners after {steps} steps"
                );
            }
        }
        assert!(dir.join("machine.key").exists());
        // Whatever is left is in nobody's way.
        replace(&scene, &Disk, &names[1], &dir).await.unwrap();
        assert_eq!(owners(&dir).await, 6);
        assert!(!dir.join("restore.scratch").exists());
    }
    assert!(left.is_sorted() && left.len() > 5, "{left:?}");
}
