//! The machine key made anew, cut between any two steps of it.

use super::issuer;
use crate::support::TestApp;
use certctl::{
    app::Secrets,
    clock::SystemClock,
    crypt::{MachineKey, OsRng},
    domain::Principal,
    sys::{Disk, FileError, Files, Metadata, Owner},
};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A disk on which nothing can be put in the place of something else.
struct NoRename;

impl Files for NoRename {
    fn read(&self, path: &Path, max_bytes: usize) -> Result<Vec<u8>, FileError> {
        Disk.read(path, max_bytes)
    }
    fn write_durable(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        Disk.write_durable(path, bytes, mode)
    }
    fn write_owned(&self, path: &Path, bytes: &[u8], mode: u32, o: Owner) -> Result<(), FileError> {
        Disk.write_owned(path, bytes, mode, o)
    }
    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        Disk.make_dir(path, mode)
    }
    fn flip_link(&self, link: &Path, target: &Path) -> Result<(), FileError> {
        Disk.flip_link(link, target)
    }
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        Disk.read_link(path)
    }
    fn remove(&self, path: &Path) -> Result<(), FileError> {
        Disk.remove(path)
    }
    fn remove_tree(&self, path: &Path) -> Result<(), FileError> {
        Disk.remove_tree(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<OsString>, FileError> {
        Disk.list(dir)
    }
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, FileError> {
        Disk.metadata(path)
    }
    fn rename(&self, _: &Path, to: &Path) -> Result<(), FileError> {
        Err(FileError {
            op: "move",
            path: to.to_owned(),
            source: io::Error::other("cut by the test"),
        })
    }
}

fn text(app: &TestApp) -> String {
    fs::read_to_string(app.file("machine.key")).unwrap()
}

async fn rotate(app: &TestApp, files: &dyn Files) -> Result<(), String> {
    let machine = MachineKey::from_text(&text(app)).unwrap();
    let who = Principal::system("test");
    let secrets = Secrets::of(&app.app.store, &machine, (&OsRng, &SystemClock), &who);
    let place = app.file("machine.key");
    let rotated = secrets.rotate_machine_key(files, &place);
    rotated.await.map_err(|e| e.to_string())
}

/// It starts by the key that is there, and its CAs sign.
async fn works(app: &mut TestApp) {
    app.restart().await;
    let test = "/api/v1/issuers/iss-local/test";
    app.post(test, Value::Null).await.expect(200);
}

#[tokio::test]
async fn the_new_key_alone_opens_the_store_and_what_is_sealed_stays() {
    let mut app = TestApp::start().await;
    issuer(&app, "corp").await;
    let old = text(&app);
    rotate(&app, &Disk).await.unwrap();
    let new = text(&app);
    assert_ne!(new, old);
    let mode = fs::metadata(app.file("machine.key")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    assert!(!app.file("machine.key.next").exists());
    works(&mut app).await;
    let test = "/api/v1/issuers/corp/test";
    app.post(test, Value::Null).await.expect(200);
    let actions = app.actions().await;
    assert!(
        actions.iter().any(|a| a == "machine_key_rotated"),
        "{actions:?}"
    );
    fs::write(app.file("machine.key"), &old).unwrap();
    let refused = app.start_again().await.err().unwrap().to_string();
    assert!(refused.contains("does not fit this store"), "{refused}");
}

#[tokio::test]
async fn it_is_cut_between_any_two_steps_and_the_store_opens() {
    let cuts: [(u64, &dyn Files); 3] = [
        // The new key is written; it is in the ring, too; it is in the place of the old one.
        (0, &Disk),
        (1, &NoRename),
        (1, &Disk),
    ];
    for (commits, files) in cuts {
        let mut app = TestApp::start().await;
        let old = text(&app);
        app.cut_after(commits);
        rotate(&app, files).await.unwrap_err();
        works(&mut app).await;
        rotate(&app, &Disk).await.unwrap();
        works(&mut app).await;
        assert_ne!(text(&app), old);
        fs::write(app.file("machine.key"), &old).unwrap();
        app.start_again().await.err().unwrap();
    }
}
