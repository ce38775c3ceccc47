//! What is done when the disk fills up: nothing new is begun while little room is left, so that what
//! is under way can be written to its end, and reading goes on.

use super::{App, AppError};
use crate::{
    config::ServerConfig,
    sys::{Room, size},
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Of a small disk, this part at most is kept: a twentieth.
const PART: u64 = 20;

/// The room that was found at the last look.
#[derive(Debug, Default)]
pub struct Found {
    free: AtomicU64,
    total: AtomicU64,
    low: AtomicBool,
}

/// Too little room is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowDisk {
    /// Bytes left.
    pub free: u64,
    /// Bytes that are kept for what is under way.
    pub reserve: u64,
}

impl std::fmt::Display for LowDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the server's disk has {} left, and nothing new is begun below {}: free space in its \
             data directory, or enlarge the disk",
            size(self.free),
            size(self.reserve)
        )
    }
}

/// What is kept of such a disk.
pub(super) fn reserve_of(config: &ServerConfig, room: Room) -> u64 {
    config.disk_reserve.min(room.total / PART)
}

impl App {
    /// Looks how much room is left.
    pub(crate) fn look_at_room(&self) {
        let room = match self.rooms.room(&self.config.data_dir) {
            Ok(room) => room,
            Err(error) => {
                tracing::warn!(%error, "the room on the disk is not known");
                return;
            }
        };
        let reserve = self.reserve(room);
        let was = self.found.low.load(Relaxed);
        // A quarter more than what made it low: a disk at the edge is not now one, now the other.
        let bound = if was { reserve + reserve / 4 } else { reserve };
        let low = room.free < bound;
        self.found.free.store(room.free, Relaxed);
        self.found.total.store(room.total, Relaxed);
        self.found.low.store(low, Relaxed);
        if low && !was {
            let said = LowDisk {
                free: room.free,
                reserve,
            };
            tracing::error!("{said}");
        } else if was && !low {
            tracing::info!(free_bytes = room.free, "there is room on the disk again");
        }
    }

    fn reserve(&self, room: Room) -> u64 {
        reserve_of(&self.config, room)
    }

    /// The room at the last look.
    pub fn room(&self) -> Room {
        Room {
            free: self.found.free.load(Relaxed),
            total: self.found.total.load(Relaxed),
        }
    }

    /// Whether too little room is left to begin anything.
    pub fn low_disk(&self) -> Option<LowDisk> {
        let (room, low) = (self.room(), self.found.low.load(Relaxed));
        low.then(|| LowDisk {
            free: room.free,
            reserve: self.reserve(room),
        })
    }

    /// Refuses to begin something while too little room is left on the disk of the store, which a
    /// database's is not.
    pub(crate) fn has_room(&self) -> Result<(), AppError> {
        match self.low_disk() {
            Some(low) if self.config.database.is_none() => Err(AppError::LowDisk(low)),
            _ => Ok(()),
        }
    }
}
