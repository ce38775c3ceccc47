//! Gives back the space that a store holds and does not use.

use super::{StartError, backup::STORE_FILE, database, start::disk};
use crate::{
    config::ServerConfig,
    store::{EngineError, Postgres, Redb, TableSize},
    sys::{Disk, Files, Rooms},
};

/// Compacting writes into free space of the file; should it find none, it needs so much of the
/// disk, and a sixteenth of the file.
const LEAST: u64 = 16 << 20;

/// What was compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compacted {
    /// The store's file; bytes before and after.
    File {
        /// Before.
        before: u64,
        /// After.
        after: u64,
    },
    /// The tables of the database.
    Tables(Vec<TableSize>),
}

/// Why nothing was compacted.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A server runs.
    #[error("a server runs on {0}: stop it first; the file cannot be compacted under it")]
    Running(String),
    /// The disk is too full.
    #[error("{free} bytes are free, and {needed} are needed: make room first")]
    Room {
        /// What is free.
        free: u64,
        /// What is needed.
        needed: u64,
    },
    /// The store or its files.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Compacts this machine's store. Each step of it is a commit: it can be cut anywhere.
///
/// # Errors
/// When a server has the file open, the disk is too full, or the store fails.
pub async fn compact_machine(config: &ServerConfig) -> Result<Compacted, CompactError> {
    if let Some(database) = &config.database {
        let login = database::login(database, &disk())?;
        let tables = Postgres::vacuum(login).await.map_err(StartError::from)?;
        return Ok(Compacted::Tables(tables));
    }
    let path = config.data_dir.join(STORE_FILE);
    let dir = config.data_dir.display().to_string();
    let len = |e: &dyn Files| {
        let there = e.metadata(&path).map_err(StartError::from)?;
        Ok::<_, CompactError>(there.map(|there| there.len))
    };
    let before = len(&Disk)?
        .filter(|len| *len > 0)
        .ok_or_else(|| StartError::from(EngineError::NoStore(dir.clone())))?;
    let free = Disk.room(&config.data_dir).map_err(StartError::from)?.free;
    let needed = LEAST + before / 16;
    if free < needed {
        return Err(CompactError::Room { free, needed });
    }
    Redb::compact(&path).map_err(|e| match e {
        EngineError::InUse(_) => CompactError::Running(dir.clone()),
        e => StartError::from(e).into(),
    })?;
    let after = len(&Disk)?.unwrap_or_default();
    Ok(Compacted::File { before, after })
}
