//! A server that is started in a directory while a backup is restored into it.

use super::Scene;
use certctl::{
    app::backup::{Bench, Locking, Restore, create, restore},
    domain::Principal,
    store::backup::{Keys, Reader},
    sys::{Disk, FileError, Files, Metadata, Owner},
};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// A disk on which somebody makes a file once a scratch directory is made beside it.
struct Meanwhile(&'static str);

impl Files for Meanwhile {
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
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        Disk.rename(from, to)
    }
    fn make_own_dir(&self, path: &Path) -> Result<(), FileError> {
        Disk.make_own_dir(path)?;
        fs::write(path.with_file_name(self.0), "theirs").expect("it is written");
        Ok(())
    }
    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        Disk.link(from, to)
    }
}

#[tokio::test]
async fn what_a_server_made_meanwhile_is_not_replaced() {
    let scene = Scene::new().await;
    let word = Zeroizing::new("correct horse".to_owned());
    let locking = Locking::Passphrase(word.clone());
    let source = scene.source(&Disk);
    let made = create(source, &scene.sink(), &locking, None, &mut |_| {}).await;
    let name = made.unwrap().name;
    let keys = Keys::default().passphrase(word);
    for file in ["certctl.redb", "machine.key"] {
        let into = scene.dir.path().join(file.replace('.', "-"));
        let from = scene.sink().open(scene.ways(&Disk), &name).await.unwrap();
        let bundles = [Reader::new(from, &keys)].into_iter();
        let who = Principal::system("test");
        let wanted = Restore {
            name: &name,
            into: &into,
            dry_run: false,
            who: &who,
        };
        let files = Meanwhile(file);
        let bench = Bench {
            files: &files,
            machine: None,
            ..scene.bench()
        };
        let refused = restore(
            wanted,
            futures_util::stream::iter(bundles),
            bench,
            &mut |_| {},
        )
        .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("made meanwhile"), "{refused}");
        assert_eq!(fs::read(into.join(file)).unwrap(), b"theirs");
        let names = Disk.list(&into).unwrap();
        let left = names.iter().any(|name| {
            let name = name.to_str().unwrap();
            name.ends_with(".scratch") || name == "certctl.redb" && file != name
        });
        assert!(!left, "{names:?}");
    }
}
