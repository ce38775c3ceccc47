//! How much room a file system has.

use super::{Disk, FileError};
use std::path::Path;

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Those that this user may still write.
    pub free: u64,
    /// All.
    pub total: u64,
}

/// Tells how much room there is.
pub trait Rooms: Send + Sync {
    /// Of the file system that holds `path`.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn room(&self, path: &Path) -> Result<Room, FileError>;
}

impl Rooms for Disk {
    fn room(&self, path: &Path) -> Result<Room, FileError> {
        let stat = nix::sys::statvfs::statvfs(path).map_err(|e| FileError {
            op: "see the room at",
            path: path.to_owned(),
            source: e.into(),
        })?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        Ok(Room {
            free: bytes(stat.blocks_available()),
            total: bytes(stat.blocks()),
        })
    }
}
