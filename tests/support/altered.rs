//! The machine's disk, but for what a test makes of it.

use certctl::sys::{Disk, FileError, Files, Metadata, Owner, Pending};
use std::{
    ffi::OsString,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// What a test makes of a disk.
pub trait Altering: Send + Sync {
    /// Is told before something is done; a fault takes its place.
    fn before(&self, _op: Op, _path: &Path) -> Result<(), FileError> {
        Ok(())
    }
    /// Is told after it was done.
    fn after(&self, _op: Op, _path: &Path) -> Result<(), FileError> {
        Ok(())
    }
    /// What is written in parts goes through this.
    fn begun(&self, file: Box<dyn Pending>) -> Box<dyn Pending> {
        file
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Read,
    Look,
    List,
    Open,
    Write,
    Begin,
    MakeDir,
    MakeOwnDir,
    Flip,
    Link,
    Give,
    Remove,
    Rename,
}

impl Op {
    /// Whether it changes what is on the disk.
    pub fn is_change(self) -> bool {
        !matches!(self, Self::Read | Self::Look | Self::List | Self::Open)
    }
}

/// "Input/output error", as a disk gives it.
pub fn eio(path: &Path) -> FileError {
    FileError {
        op: "use",
        path: path.to_owned(),
        source: io::Error::from_raw_os_error(5),
    }
}

/// Such a disk.
pub struct Altered<A>(pub A);

impl<A: Altering> Altered<A> {
    fn step<T>(
        &self,
        op: Op,
        path: &Path,
        done: impl FnOnce() -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        self.0.before(op, path)?;
        let done = done()?;
        self.0.after(op, path)?;
        Ok(done)
    }
}

impl<A: Altering> Files for Altered<A> {
    fn read(&self, path: &Path, max: usize) -> Result<Vec<u8>, FileError> {
        self.step(Op::Read, path, || Disk.read(path, max))
    }
    fn write_durable(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        self.step(Op::Write, path, || Disk.write_durable(path, bytes, mode))
    }
    fn write_owned(&self, path: &Path, bytes: &[u8], mode: u32, o: Owner) -> Result<(), FileError> {
        self.step(Op::Write, path, || Disk.write_owned(path, bytes, mode, o))
    }
    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        self.step(Op::MakeDir, path, || Disk.make_dir(path, mode))
    }
    fn flip_link(&self, link: &Path, target: &Path) -> Result<(), FileError> {
        self.step(Op::Flip, link, || Disk.flip_link(link, target))
    }
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        self.step(Op::Look, path, || Disk.read_link(path))
    }
    fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.step(Op::Remove, path, || Disk.remove(path))
    }
    fn remove_tree(&self, path: &Path) -> Result<(), FileError> {
        self.step(Op::Remove, path, || Disk.remove_tree(path))
    }
    fn list(&self, dir: &Path) -> Result<Vec<OsString>, FileError> {
        self.step(Op::List, dir, || Disk.list(dir))
    }
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, FileError> {
        self.step(Op::Look, path, || Disk.metadata(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.step(Op::Rename, from, || Disk.rename(from, to))
    }
    fn begin(&self, path: &Path, mode: u32) -> Result<Box<dyn Pending>, FileError> {
        let begun = self.step(Op::Begin, path, || Disk.begin(path, mode));
        Ok(self.0.begun(begun?))
    }
    fn make_own_dir(&self, path: &Path) -> Result<(), FileError> {
        self.step(Op::MakeOwnDir, path, || Disk.make_own_dir(path))
    }
    fn give(&self, path: &Path, owner: Owner) -> Result<(), FileError> {
        self.step(Op::Give, path, || Disk.give(path, owner))
    }
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, FileError> {
        self.step(Op::Open, path, || Disk.open(path))
    }
    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.step(Op::Link, from, || Disk.link(from, to))
    }
}
