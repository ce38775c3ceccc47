//! A restore whose disk fails at each of its steps leaves the old store or the new one, whole.

use super::{Scene, store_in};
use crate::support::altered::{Altered, Altering, Op, eio};
use certctl::{
    app::backup::{Bench, Keys, Locking, Restored, create},
    domain::Owner,
    store::{OWNER_NAME, Scan},
    sys::{Disk, FileError, Files},
};
use serde_json::json;
use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// A disk that does so many things, and then fails at everything.
struct Failing(AtomicUsize);

impl Altering for Failing {
    fn before(&self, _: Op, path: &Path) -> Result<(), FileError> {
        let left = &self.0;
        let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        taken.map(drop).map_err(|_| eio(path))
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
    let bench = Bench {
        files,
        ..scene.bench()
    };
    let restored = scene.restore(name, into, &Keys::default(), bench).await;
    restored.map_err(|e| e.to_string())
}

/// How many owners the store in a directory has, read to its end.
async fn owners(dir: &Path) -> usize {
    let store = store_in(dir);
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
        let files = Altered(Failing(AtomicUsize::new(steps)));
        let done = replace(&scene, &files, &names[1], &dir).await;
        let there = owners(&dir).await;
        left.push(there);
        match done {
            Ok(_) => {
                assert_eq!(there, 6);
                assert_eq!(
                    files.0.0.load(Ordering::SeqCst),
                    0,
                    "each step was failed at"
                );
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
