//! Files: permissions, atomicity, error texts.

use certctl::sys::{Disk, Files, Kind};
use proptest::prelude::*;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_written_is_read_and_nothing_is_left_beside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    Disk.write_durable(&path, b"one", 0o600).unwrap();
    Disk.write_durable(&path, b"two", 0o640).unwrap();
    assert_eq!(Disk.read(&path, 3).unwrap(), b"two");
    assert_eq!(mode(&path), 0o640);
    assert_eq!(Disk.list(dir.path()).unwrap(), ["key.pem"]);
}

#[test]
fn no_reader_sees_a_part_of_a_write_or_wider_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let done = AtomicBool::new(false);
    let long: Vec<u8> = vec![b'x'; 256 << 10];
    Disk.write_durable(&path, &long, 0o600).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                Disk.write_durable(&path, &long, 0o600).unwrap();
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            assert_eq!(Disk.read(&path, long.len()).unwrap().len(), long.len());
            for entry in fs::read_dir(dir.path()).unwrap() {
                // A temporary file may be gone by now; one that is there is closed to others.
                if let Ok(found) = entry.unwrap().metadata() {
                    assert_eq!(found.mode() & 0o077, 0);
                }
            }
        }
    });
}

#[test]
fn a_link_flips_without_a_moment_in_which_it_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("live");
    let (a, b) = (PathBuf::from("versions/a"), PathBuf::from("versions/b"));
    assert_eq!(Disk.read_link(&link).unwrap(), None);
    Disk.flip_link(&link, &a).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                Disk.flip_link(&link, &b).unwrap();
                Disk.flip_link(&link, &a).unwrap();
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            let target = Disk.read_link(&link).unwrap().unwrap();
            assert!(target == a || target == b);
        }
    });
    assert_eq!(Disk.list(dir.path()).unwrap(), ["live"]);
}

#[test]
fn writing_through_a_link_replaces_the_link_and_spares_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let link = dir.path().join("link");
    fs::write(&target, b"kept").unwrap();
    symlink(&target, &link).unwrap();
    Disk.write_durable(&link, b"new", 0o600).unwrap();
    assert_eq!(Disk.read(&target, 10).unwrap(), b"kept");
    assert_eq!(Disk.read_link(&link).unwrap(), None);
}

#[test]
fn directories_get_their_mode_and_existing_ones_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    Disk.make_dir(&deep, 0o750).unwrap();
    assert_eq!(mode(&deep), 0o750);
    assert_eq!(mode(&dir.path().join("a")), 0o750);
    Disk.make_dir(&deep, 0o700).unwrap();
    assert_eq!(mode(&deep), 0o750);
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(Disk.make_dir(&file, 0o700).is_err());
}

#[test]
fn errors_name_the_operation_the_path_and_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let error = Disk.read(&absent, 10).unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(
        error.to_string(),
        format!(
            "cannot read {}: no such file or directory",
            absent.display()
        )
    );

    let error = Disk
        .write_durable(&absent.join("x"), b"", 0o600)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot write {}/x: no such file or directory",
            absent.display()
        )
    );

    let file = dir.path().join("file");
    fs::write(&file, b"1234").unwrap();
    let error = Disk.read(&file, 3).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("file: it is longer than 3 bytes"),
        "{error}"
    );
    let error = Disk.read(dir.path(), 3).unwrap_err();
    assert!(
        error.to_string().ends_with("it is not a regular file"),
        "{error}"
    );
}

#[test]
fn a_pipe_does_not_block_a_read() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Disk.read(&pipe, 10).is_err());
    assert_eq!(Disk.metadata(&pipe).unwrap().unwrap().kind, Kind::Other);
}

#[test]
fn removing_what_is_gone_succeeds_and_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), b"").unwrap();
    let tree = dir.path().join("tree");
    Disk.make_dir(&tree.join("deep"), 0o700).unwrap();
    symlink(outside.path(), tree.join("link")).unwrap();
    for _ in 0..2 {
        Disk.remove_tree(&tree).unwrap();
        Disk.remove(&tree).unwrap();
        assert_eq!(Disk.metadata(&tree).unwrap(), None);
    }
    assert_eq!(Disk.list(outside.path()).unwrap(), ["kept"]);
}

#[test]
fn metadata_follows_links_and_a_new_file_is_another_inode() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    Disk.write_durable(&file, b"1", 0o604).unwrap();
    Disk.flip_link(&link, Path::new("file")).unwrap();
    let before = Disk.metadata(&link).unwrap().unwrap();
    assert_eq!(
        (before.kind, before.mode, before.len),
        (Kind::File, 0o604, 1)
    );
    assert_eq!(before.uid, nix::unistd::getuid().as_raw());
    // Two files that exist at once differ; the old one is held open by nobody.
    let other = dir.path().join("other");
    Disk.write_durable(&other, b"1", 0o604).unwrap();
    Disk.rename(&other, &file).unwrap();
    assert_ne!(Disk.metadata(&link).unwrap().unwrap().inode, before.inode);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_mode_becomes_exact(mode_bits in 0o000u32..=0o777, bytes: Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        Disk.write_durable(&path, &bytes, mode_bits).unwrap();
        prop_assert_eq!(mode(&path), mode_bits);
        prop_assert_eq!(Disk.metadata(&path).unwrap().unwrap().len, bytes.len() as u64);
    }
}
