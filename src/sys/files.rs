//! Files, written so that a reader and a crash see the old content or the new, never a part.

use super::Lock;
use nix::fcntl::OFlag;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown},
    path::{Path, PathBuf},
};

/// How the names of temporary files start. One is left behind only by a crash, and
/// [`remove_temporaries`] removes it.
pub const TEMP_PREFIX: &str = ".certctl-";

/// How far [`remove_temporaries`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In the directory alone.
    Directory,
    /// In the directories below it, too; links are not followed.
    Tree,
}

/// Removes the temporary files that a crash left in `dir`: parts of what was being written, private
/// keys among them. Only for whoever alone writes there. No directory is success.
///
/// # Errors
/// The first that happens; what follows it is left.
pub fn remove_temporaries(files: &dyn Files, dir: &Path, reach: Reach) -> Result<(), FileError> {
    let names = match files.list(dir) {
        Ok(names) => names,
        Err(e) if e.is_not_found() => return Ok(()),
        Err(e) => return Err(e),
    };
    for name in names {
        let path = dir.join(&name);
        if name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
            files.remove(&path)?;
        } else if reach == Reach::Tree
            && files.read_link(&path)?.is_none()
            && files.metadata(&path)?.is_some_and(|m| m.kind == Kind::Dir)
        {
            remove_temporaries(files, &path, reach)?;
        }
    }
    Ok(())
}

/// The file system as the server and the agent see it. Durable means: on disk when the call
/// returns. Modes are the permission bits exactly as they become, whatever the umask.
pub trait Files: Send + Sync {
    /// The content of a regular file; one longer than `max_bytes` is refused.
    fn read(&self, path: &Path, max_bytes: usize) -> Result<Vec<u8>, FileError>;
    /// Replaces or creates a file, durable and at once. No byte is ever readable under other
    /// permissions than `mode`.
    fn write_durable(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError>;
    /// As [`write_durable`](Self::write_durable), for the given user and group. Refused where
    /// only root may give a file away.
    fn write_owned(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        owner: Owner,
    ) -> Result<(), FileError>;
    /// Makes a directory and its missing parents, durable. Those that exist are left as they are.
    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), FileError>;
    /// Points the symbolic link `link` to `target`, durable and at once; makes it where it is
    /// missing.
    fn flip_link(&self, link: &Path, target: &Path) -> Result<(), FileError>;
    /// Where a symbolic link points; `None` where there is nothing or no link.
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError>;
    /// Removes a file or link, durable. Nothing there is success.
    fn remove(&self, path: &Path) -> Result<(), FileError>;
    /// Removes a directory and all in it, following no link. Nothing there is success.
    fn remove_tree(&self, path: &Path) -> Result<(), FileError>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<OsString>, FileError>;
    /// What is at `path`, links followed; `None` where there is nothing.
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, FileError>;
    /// Moves within one file system, replacing a file at `to`, durable and at once.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError>;
    /// Begins a file that is too long to be held in memory; there is nothing at `path` before
    /// [`Pending::place`]. Until then it has a name with [`TEMP_PREFIX`], and a lock on it.
    fn begin(&self, path: &Path, mode: u32) -> Result<Box<dyn Pending>, FileError> {
        let _ = mode;
        Err(at("write in parts", path)(
            io::ErrorKind::Unsupported.into(),
        ))
    }
    /// Makes a directory for its owner alone, durable. Its parent is there; whatever is at `path`
    /// is left, and refused.
    fn make_own_dir(&self, path: &Path) -> Result<(), FileError> {
        Err(at("make directory", path)(
            io::ErrorKind::Unsupported.into(),
        ))
    }
    /// Gives a file or directory to a user and group, durable; a link is not followed.
    fn give(&self, path: &Path, owner: Owner) -> Result<(), FileError> {
        let _ = owner;
        Err(at("give away", path)(io::ErrorKind::Unsupported.into()))
    }
    /// Opens a regular file that is too long to be held in memory.
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, FileError> {
        Err(at("read in parts", path)(io::ErrorKind::Unsupported.into()))
    }
    /// Gives a file a second name in the same file system, durable; a file at `to` is left, and
    /// refused.
    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let _ = to;
        Err(at("keep", from)(io::ErrorKind::Unsupported.into()))
    }
}

/// A file that is being written. Dropped, it is gone.
pub trait Pending: Write + Send {
    /// Reads what was written so far, from the disk.
    fn reread(&mut self) -> Result<Box<dyn Read + Send>, FileError>;
    /// Puts the file in its place, durable and at once.
    fn place(self: Box<Self>) -> Result<(), FileError>;
}

/// Whose a file is, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// File, directory or another thing.
    pub kind: Kind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// The owner's user number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Length in bytes.
    pub len: u64,
    /// Device and inode: another pair is another file.
    pub inode: (u64, u64),
    /// Last change of the content, nanoseconds since the epoch.
    pub modified: i128,
}

/// The kinds of things in a directory that differ to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A socket, pipe or device.
    Other,
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}: {}", path.display(), reason(source))]
pub struct FileError {
    /// The operation, as a verb: read, write, ...
    pub op: &'static str,
    /// The path as given.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl FileError {
    /// Whether something was at the path that was to be new.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether nothing was at the path.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// "permission denied" rather than "Permission denied (os error 13)".
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let mut letters = text.split(" (os error ").next().unwrap_or(&text).chars();
    letters
        .next()
        .map(|first| first.to_ascii_lowercase())
        .into_iter()
        .chain(letters)
        .collect()
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, max_bytes: usize) -> Result<Vec<u8>, FileError> {
        read(path, max_bytes).map_err(at("read", path))
    }

    fn write_durable(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        write(path, bytes, mode, None).map_err(at("write", path))
    }

    fn write_owned(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        owner: Owner,
    ) -> Result<(), FileError> {
        write(path, bytes, mode, Some(owner)).map_err(at("write", path))
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        make_dir(path, mode).map_err(at("make directory", path))
    }

    fn flip_link(&self, link: &Path, target: &Path) -> Result<(), FileError> {
        flip_link(link, target).map_err(at("link", link))
    }

    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        match fs::read_link(path) {
            Ok(target) => Ok(Some(target)),
            // EINVAL: something else than a link, readlink(2).
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(at("read link", path)(e)),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        present(fs::remove_file(path))
            .and_then(|removed| if removed { sync_parent(path) } else { Ok(()) })
            .map_err(at("remove", path))
    }

    fn remove_tree(&self, path: &Path) -> Result<(), FileError> {
        present(fs::remove_dir_all(path))
            .and_then(|removed| if removed { sync_parent(path) } else { Ok(()) })
            .map_err(at("remove", path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>, FileError> {
        let names = fs::read_dir(dir)
            .and_then(|entries| entries.map(|e| e.map(|e| e.file_name())).collect())
            .map_err(at("list", dir));
        names.map(|mut names: Vec<_>| {
            names.sort();
            names
        })
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, FileError> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Metadata::from(&found))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at("look at", path)(e)),
        }
    }

    fn begin(&self, path: &Path, mode: u32) -> Result<Box<dyn Pending>, FileError> {
        let begun = parent(path).and_then(|dir| {
            let file = tempfile::Builder::new()
                .prefix(TEMP_PREFIX)
                .tempfile_in(dir)?;
            file.as_file()
                .set_permissions(Permissions::from_mode(mode))?;
            Ok(file)
        });
        let file = begun.map_err(at("write", path))?;
        // Where the file system knows no locks, only its age tells that it is left.
        let lock = Lock::take(file.path()).ok().flatten();
        Ok(Box::new(Begun {
            file,
            path: path.to_owned(),
            _lock: lock,
        }))
    }

    fn make_own_dir(&self, path: &Path) -> Result<(), FileError> {
        let made = fs::DirBuilder::new().mode(0o700).create(path);
        made.and_then(|()| sync_parent(path))
            .map_err(at("make directory", path))
    }

    fn give(&self, path: &Path, Owner { uid, gid }: Owner) -> Result<(), FileError> {
        lchown(path, Some(uid), Some(gid))
            .and_then(|()| File::open(path)?.sync_all())
            .map_err(at("give away", path))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, FileError> {
        let file = regular(path).map_err(at("read", path))?;
        Ok(Box::new(file))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        fs::hard_link(from, to)
            .and_then(|()| sync_parent(to))
            .map_err(at("keep", from))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        fs::rename(from, to)
            .and_then(|()| sync_parent(to))
            .and_then(|()| {
                if from.parent() == to.parent() {
                    Ok(())
                } else {
                    sync_parent(from)
                }
            })
            .map_err(at("rename", from))
    }
}

impl From<&fs::Metadata> for Metadata {
    fn from(m: &fs::Metadata) -> Self {
        Self {
            kind: match m.file_type() {
                t if t.is_file() => Kind::File,
                t if t.is_dir() => Kind::Dir,
                _ => Kind::Other,
            },
            mode: m.mode() & 0o7777,
            uid: m.uid(),
            gid: m.gid(),
            len: m.len(),
            inode: (m.dev(), m.ino()),
            modified: i128::from(m.mtime()) * 1_000_000_000 + i128::from(m.mtime_nsec()),
        }
    }
}

pub(super) fn at(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError {
        op,
        path: path.into(),
        source,
    }
}

/// Whether a removal found something.
fn present(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// A file of the disk that is being written.
struct Begun {
    file: tempfile::NamedTempFile,
    path: PathBuf,
    /// Held, so that others see that it is being written.
    _lock: Option<Lock>,
}

impl Write for Begun {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Pending for Begun {
    fn reread(&mut self) -> Result<Box<dyn Read + Send>, FileError> {
        let file = self.file.reopen().map_err(at("read", &self.path))?;
        Ok(Box::new(file))
    }

    fn place(self: Box<Self>) -> Result<(), FileError> {
        let Self { file, path, _lock } = *self;
        let synced = file.as_file().sync_all();
        synced
            .and_then(|()| file.persist(&path).map(drop).map_err(|e| e.error))
            .and_then(|()| sync_parent(&path))
            .map_err(at("write", &path))
    }
}

/// Opens a regular file; opening a pipe would wait for its writer.
fn regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

fn read(path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
    let file = regular(path)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        return Err(io::Error::other(format!(
            "it is longer than {max_bytes} bytes"
        )));
    }
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()> {
    // Born with 0600 and an unguessable name; the umask can only take from that.
    let mut file = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .tempfile_in(parent(path)?)?;
    if let Some(Owner { uid, gid }) = owner {
        // Before the mode, whose set-id bits it would take away.
        fchown(file.as_file(), Some(uid), Some(gid))?;
    }
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    sync_parent(path)
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return keep_dir(path);
    }
    let above = parent(path)?;
    make_dir(above, mode)?;
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode))?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(e) => return Err(e),
    }
    sync_dir(above)
}

/// Makes a directory that is there durable: whoever made it may have failed or been killed before
/// it was. One whose parent we may not read, or cannot sync, is not ours.
fn keep_dir(path: &Path) -> io::Result<()> {
    match parent(path).and_then(sync_dir) {
        Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EIO as i32) => Err(e),
        _ => Ok(()),
    }
}

fn flip_link(link: &Path, target: &Path) -> io::Result<()> {
    let temporary = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .make_in(parent(link)?, |path| {
            std::os::unix::fs::symlink(target, path)
        })?;
    temporary
        .into_temp_path()
        .persist(link)
        .map_err(|e| e.error)?;
    sync_parent(link)
}

/// The directory that holds `path`: "." for a bare name.
fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(dir) => Ok(dir),
        None => Err(io::Error::other("it has no parent directory")),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(parent(path)?)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
