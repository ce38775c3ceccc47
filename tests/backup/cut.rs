//! A backup that is cut anywhere is not there.

use super::Scene;
use crate::support::{
    altered::{Altered, Altering, Op, eio},
    invariants,
};
use certctl::{
    app::backup::{Locking, create},
    sys::{Disk, FileError, Files, Pending},
};
use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A disk that takes so many bytes and syncs in parts, and then nothing more.
struct Cut(Arc<AtomicUsize>);

struct Part {
    file: Box<dyn Pending>,
    left: Arc<AtomicUsize>,
}

fn take(left: &AtomicUsize, n: usize) -> io::Result<()> {
    let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(n)
    });
    taken.map(drop).map_err(|_| io::Error::from_raw_os_error(5))
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Byte by byte, so that it is cut within what is written at once, too.
        let mut n = 0;
        while n < bytes.len() && take(&self.left, 1).is_ok() {
            n += 1;
        }
        if n == 0 && !bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.write_all(&bytes[..n])?;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Pending for Part {
    fn reread(&mut self) -> Result<Box<dyn Read + Send>, FileError> {
        self.file.reread()
    }
    fn place(self: Box<Self>) -> Result<(), FileError> {
        take(&self.left, 1).map_err(|source| FileError {
            op: "write",
            path: PathBuf::new(),
            source,
        })?;
        self.file.place()
    }
}

impl Altering for Cut {
    fn begun(&self, file: Box<dyn Pending>) -> Box<dyn Pending> {
        let left = self.0.clone();
        Box::new(Part { file, left })
    }
}

#[tokio::test]
async fn a_backup_that_is_cut_at_any_byte_leaves_nothing() {
    let scene = Scene::new().await;
    let (sink, locking) = (scene.sink(), Locking::WithoutKeys);
    let whole = scene.create().await;
    std::fs::remove_file(scene.path().join(&whole.name)).unwrap();
    let size = usize::try_from(whole.bytes).unwrap();
    // Each of the first and the last bytes, and some between; the last is the rename's.
    let between = (64..size.saturating_sub(64)).step_by(size / 64);
    let cuts = (0..64).chain(between).chain(size - 64..=size);
    for at in cuts {
        let left = Arc::new(AtomicUsize::new(at));
        let files = Altered(Cut(left));
        let made = create(scene.source(&files), &sink, &locking, None, &mut |_| {}).await;
        let failed = made.expect_err(&format!("{at} bytes of {size}"));
        assert_eq!(failed.step(), "upload", "{failed}");
        assert!(
            failed.to_string().to_lowercase().contains("input/output"),
            "{failed}"
        );
        let names = Disk.list(&scene.path()).unwrap();
        assert!(names.is_empty(), "after {at} bytes: {names:?}");
    }
    let files = Altered(Cut(Arc::new(AtomicUsize::new(size + 1))));
    let made = create(scene.source(&files), &sink, &locking, None, &mut |_| {}).await;
    assert_eq!(made.unwrap().bytes, whole.bytes);
    assert_eq!(Disk.list(&scene.path()).unwrap().len(), 1);
}

/// A disk that does so many things, and then fails at everything.
struct Failing(AtomicUsize);

impl Altering for Failing {
    fn before(&self, _: Op, path: &Path) -> Result<(), FileError> {
        take(&self.0, 1).map_err(|_| eio(path))
    }
}

#[tokio::test]
async fn a_backup_whose_disk_fails_at_any_step_leaves_what_was_there() {
    let scene = Scene::new().await;
    let (sink, locking) = (scene.sink(), Locking::WithoutKeys);
    let before = scene.create().await.name;
    let mut failed = 0;
    loop {
        scene.app.advance(std::time::Duration::from_secs(1));
        let files = Altered(Failing(AtomicUsize::new(failed)));
        let made = create(scene.source(&files), &sink, &locking, None, &mut |_| {}).await;
        invariants::check(&scene.app.app.store).await;
        let names = Disk.list(&scene.path()).unwrap();
        if made.is_ok() {
            assert_eq!(names.len(), 2, "{names:?}");
            break;
        }
        assert!(
            names.iter().all(|name| *name == *before),
            "{failed}: {names:?}"
        );
        failed += 1;
    }
    assert!(failed >= 3, "{failed}");
}
