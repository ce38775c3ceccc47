//! A backup that is cut anywhere is not there.

use super::Scene;
use certctl::{
    app::backup::{Locking, create},
    sys::{Disk, FileError, Files, Metadata, Owner, Pending},
};
use std::{
    ffi::OsString,
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
    taken
        .map(drop)
        .map_err(|_| io::Error::other("cut by the test"))
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Byte by byte, so that it is cut within what is written at once, too.
        let mut n = 0;
        while n < bytes.len() && take(&self.left, 1).is_ok() {
            n += 1;
        }
        if n == 0 && !bytes.is_empty() {
            return Err(io::Error::other("cut by the test"));
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

impl Files for Cut {
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
    fn begin(&self, path: &Path, mode: u32) -> Result<Box<dyn Pending>, FileError> {
        let file = Disk.begin(path, mode)?;
        let left = self.0.clone();
        Ok(Box::new(Part { file, left }))
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
        let files = Cut(left);
        let made = create(scene.source(&files), &sink, &locking, None, &mut |_| {}).await;
        let failed = made.expect_err(&format!("{at} bytes of {size}"));
        assert!(["capture", "upload"].contains(&failed.step()), "{failed}");
        let names = Disk.list(&scene.path()).unwrap();
        assert!(names.is_empty(), "after {at} bytes: {names:?}");
    }
    let files = Cut(Arc::new(AtomicUsize::new(size + 1)));
    let made = create(scene.source(&files), &sink, &locking, None, &mut |_| {}).await;
    assert_eq!(made.unwrap().bytes, whole.bytes);
    assert_eq!(Disk.list(&scene.path()).unwrap().len(), 1);
}
