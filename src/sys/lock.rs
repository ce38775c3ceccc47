//! One process at a time.

use super::files::FileError;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// A lock on a file, held until it is dropped or the process ends, however it ends. The file
/// itself stays.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Lock {
    /// Takes the lock, making the file where it is missing; `None` while another process has it.
    pub fn take(path: &Path) -> Result<Option<Self>, FileError> {
        let failed = |source: io::Error| FileError {
            op: "lock",
            path: path.into(),
            source,
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)
            .map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}
