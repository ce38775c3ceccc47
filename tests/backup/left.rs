//! What killed backups leave in a directory.

use super::Scene;
use crate::support::altered::{Altered, Altering, Op, eio};
use certctl::{
    app::backup::{Locking, Machine, Sink, create},
    config::{self, Environment, Flags},
    sys::{Disk, FileError, Files, Lock},
};
use std::{
    fs::File,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime},
};

/// A disk on which one file cannot be removed.
struct Stuck(&'static str);

impl Altering for Stuck {
    fn before(&self, op: Op, path: &Path) -> Result<(), FileError> {
        match op == Op::Remove && path.ends_with(self.0) {
            true => Err(eio(path)),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn the_next_backup_removes_what_nobody_writes_to() {
    let scene = Scene::new().await;
    let dir = scene.path();
    std::fs::create_dir(&dir).unwrap();
    let now = u64::try_from(scene.app.now().seconds()).unwrap();
    let file = |name: &str, age: u64| {
        let path = dir.join(name);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now - age);
        File::create(&path).unwrap().set_modified(at).unwrap();
        path
    };
    file(".certctl-dead", 3_700);
    file(".certctl-a-dead", 3_700);
    let held = file(".certctl-held", 86_400);
    file(".certctl-young", 3_500);
    file("theirs", 86_400);
    symlink("theirs", dir.join(".certctl-link")).unwrap();
    std::fs::create_dir(dir.join(".certctl-dir")).unwrap();
    let lock = Lock::take(&held).unwrap();
    assert!(lock.is_some());
    // One that cannot be removed keeps none that follows it.
    let files = Altered(Stuck(".certctl-a-dead"));
    let (sink, locking) = (scene.sink(), Locking::WithoutKeys);
    let made = create(scene.source(&files), &sink, &locking, None, &mut |_| {}).await;
    let made = made.unwrap().name;
    let mut left = [
        ".certctl-a-dead",
        ".certctl-held",
        ".certctl-young",
        "theirs",
        ".certctl-link",
        ".certctl-dir",
        &made,
    ];
    left.sort_unstable();
    assert_eq!(Disk.list(&dir).unwrap(), left);
    drop(lock);
    scene.app.advance(Duration::from_secs(1));
    scene.create().await;
    assert!(!held.exists());
    assert!(!dir.join(".certctl-a-dead").exists());
}

#[tokio::test]
async fn what_is_being_written_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let pending = Disk.begin(&dir.path().join("x"), 0o600).unwrap();
    let names = Disk.list(dir.path()).unwrap();
    let path = dir.path().join(&names[0]);
    assert!(Lock::take(&path).unwrap().is_none(), "{names:?}");
    pending.place().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn few_of_those_that_are_made_before_migrations_stay() {
    let scene = Scene::new().await;
    let data_dir = scene.dir.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let flags = Flags {
        data_dir: Some(data_dir.clone()),
        ..Flags::default()
    };
    let config = config::server(&Environment::new([]), flags).unwrap().0;
    let machine = Machine::this(config).unwrap();
    let sink = Sink::Dir(data_dir.join("before-migrations"));
    let other = "certctl-20261101T010000Z-10000-7-aaaaaaaaaaaa.backup";
    for n in 0..7 {
        let made = machine.create_of(&scene.app.app.store).await.unwrap();
        assert_eq!(made.sink, sink);
        if n == 0 {
            std::fs::write(data_dir.join("before-migrations").join(other), "").unwrap();
        }
        // Another state has another name.
        let team = serde_json::json!({"id": format!("t{n}"), "name": format!("t{n}")});
        scene.app.post("/api/v1/teams", team).await.expect(201);
    }
    let all = machine.list(&sink).await.unwrap();
    assert_eq!(all.len(), 6, "five, and another store's: {all:?}");
    // What a clock made later that goes on no more is not in the way of what is made now.
    for hour in 1..9 {
        let later = format!("certctl-99991231T0{hour}0000Z-10000-7.backup");
        std::fs::write(data_dir.join("before-migrations").join(later), "").unwrap();
    }
    let made = machine.create_of(&scene.app.app.store).await.unwrap();
    let all = machine.list(&sink).await.unwrap();
    assert!(all.iter().any(|s| s.name == made.name), "{all:?}");
    assert!(all.iter().any(|stored| stored.name == other));
}
