//! A server that is started in a directory while a backup is restored into it.

use super::Scene;
use crate::support::altered::{Altered, Altering, Op};
use certctl::{
    app::backup::{Bench, Keys, Locking, create},
    sys::{Disk, FileError, Files},
};
use std::{fs, path::Path};
use zeroize::Zeroizing;

/// A disk on which somebody makes a file once a scratch directory is made beside it.
struct Meanwhile(&'static str);

impl Altering for Meanwhile {
    fn after(&self, op: Op, path: &Path) -> Result<(), FileError> {
        if op == Op::MakeOwnDir {
            fs::write(path.with_file_name(self.0), "theirs").expect("it is written");
        }
        Ok(())
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
        let files = Altered(Meanwhile(file));
        let bench = Bench {
            files: &files,
            machine: None,
            ..scene.bench()
        };
        let refused = scene.restore(&name, &into, &keys, bench).await;
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
