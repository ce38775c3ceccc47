//! Backups: made, proven, kept for a while, restored. All of it works beside a running server,
//! and without one on a store that nobody has open.

mod create;
mod keep;
mod machine;
mod prove;
mod restore;
mod s3;
mod scratch;
mod sink;

pub(super) use create::keys_of;
pub use create::{Locking, Source, create};
pub use keep::{Keep, covered, expired};
pub(super) use machine::prove_place;
pub use machine::{Following, Machine, Place};
pub use prove::{Bench, Bundle, Proof, prove, verify};
pub use restore::{Agreed, Restore, Restored, Stores, restore};
pub use s3::S3Access;
pub(super) use scratch::remove_left;
pub use sink::{Doubt, Proven, Stored, Ways};

pub use crate::{
    config::Sink,
    crypt::Recipient,
    store::backup::{Keys, Progress, Since},
};

use crate::{
    app::{StartError, birth::KeyPlace},
    config::ServerConfig,
    crypt::{MachineKey, RingError},
    store::{CommitError, EngineError, StoreError, backup::BackupError},
    sys::{FileError, Files},
};
use std::fmt::Display;

/// The machine key, in the data directory.
pub const MACHINE_KEY: &str = "machine.key";
/// The store, in the data directory.
pub const STORE_FILE: &str = "certctl.redb";

/// Why a backup was not made, is not proven or was not restored; each says at which step.
#[derive(Debug, thiserror::Error)]
pub enum BackupFailure {
    /// The store's state was not captured.
    #[error("the backup was not captured: {0}")]
    Capture(String),
    /// The store does not know any more what came since the backup that is followed.
    #[error("no increment was made: {0}")]
    Gap(String),
    /// What was written, or is there, is not good.
    #[error("{name} is not good: {reason}")]
    Verify {
        /// Which backup.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What lies between two backups that are to be restored together is not there.
    #[error(
        "{hole}. Bring it, or go no further than what is there: leave out {after} and what follows \
         it. `certctl restore` does that by `--before {after}` where a sink was named"
    )]
    Missing {
        /// Between which two, by their sequence numbers.
        hole: String,
        /// The one after the hole.
        after: String,
    },
    /// The sink.
    #[error("{sink}: {reason}")]
    Sink {
        /// Where backups go.
        sink: String,
        /// What it does not do.
        reason: String,
    },
    /// It is in its sink, and nobody knows whether it can be restored.
    #[error("{name} is made, and not proven: {reason}")]
    Unproven {
        /// Which backup.
        name: String,
        /// What stood in the way.
        reason: String,
    },
    /// The process stops.
    #[error("the server stops: it was not done to its end")]
    Stopped,
    /// Something does not allow it.
    #[error("{0}")]
    Refused(String),
    /// There is no store to be backed up.
    #[error("{0}")]
    NoStore(String),
    /// A server that runs stands in the way.
    #[error("{0}")]
    Running(String),
    /// The database is not to be reached.
    #[error("{0}")]
    Away(String),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Where something is read from, or a scratch store is kept.
    #[error("{name} was not looked at to its end: {reason}")]
    Storage {
        /// Which backup.
        name: String,
        /// What happened.
        reason: String,
    },
}

impl BackupFailure {
    pub(super) fn capture(reason: impl ToString) -> Self {
        Self::Capture(reason.to_string())
    }

    fn verify(name: &str, reason: impl ToString) -> Self {
        Self::Verify {
            name: name.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn unproven(name: &str, reason: impl ToString) -> Self {
        Self::Unproven {
            name: name.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Of what was not captured.
    fn of_capture(e: BackupError) -> Self {
        match e {
            BackupError::NoSequel(why) => Self::Gap(why),
            BackupError::Engine(e) if e.is_away() => Self::Away(e.to_string()),
            BackupError::Store(e) if e.is_away() => Self::Away(e.to_string()),
            e => Self::capture(e),
        }
    }

    /// The step that failed, as a word.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Capture(_) => "capture",
            Self::Gap(_) => "gap",
            Self::Away(_) => "away",
            Self::Verify { .. } => "verify",
            Self::Unproven { .. } => "prove",
            Self::Sink { .. } => "upload",
            Self::Missing { .. } => "missing",
            Self::Stopped => "stopped",
            Self::Refused(_) => "refused",
            Self::NoStore(_) => "no_store",
            Self::Running(_) => "running",
            Self::File(_) | Self::Storage { .. } => "file",
        }
    }
}

impl From<RingError> for BackupFailure {
    fn from(e: RingError) -> Self {
        Self::Refused(e.to_string())
    }
}

/// Why a backup, or the store that was made of it, does not prove itself.
enum Unproven {
    /// It is not good: what is wrong with a scratch store is wrong with what it was made of.
    Bad(String),
    /// What it is read from or the scratch store is written to fails, which says nothing of it.
    Unread(String),
    /// The database that it is restored into went away.
    Away(String),
    /// What lies between two backups is not there.
    Missing { hole: String, after: String },
    /// Of one of several backups: which, and why.
    Of(String, Box<Unproven>),
}

impl Unproven {
    fn of(self, name: &str) -> BackupFailure {
        let name = name.to_owned();
        match self {
            Self::Bad(reason) => BackupFailure::Verify { name, reason },
            Self::Unread(reason) => BackupFailure::Storage { name, reason },
            Self::Away(why) => BackupFailure::Away(why),
            Self::Missing { hole, after } => BackupFailure::Missing { hole, after },
            Self::Of(name, why) => why.of(&name),
        }
    }

    fn told(bad: bool, e: &dyn Display) -> Self {
        match bad {
            true => Self::Bad(e.to_string()),
            false => Self::Unread(e.to_string()),
        }
    }
}

/// Whether a store's failure is one of what is in it.
fn is_of_content(e: &EngineError) -> bool {
    matches!(e, EngineError::Corrupt(_) | EngineError::Format { .. })
}

impl From<EngineError> for Unproven {
    fn from(e: EngineError) -> Self {
        if e.is_away() {
            return Self::Away(e.to_string());
        }
        Self::told(is_of_content(&e), &e)
    }
}
impl From<BackupError> for Unproven {
    fn from(e: BackupError) -> Self {
        match e {
            BackupError::Engine(e) => e.into(),
            BackupError::Store(e) => e.into(),
            BackupError::Of { name, error } => Self::Of(name, Box::new(Self::from(*error))),
            BackupError::Missing { ref after, .. } => Self::Missing {
                hole: e.to_string(),
                after: after.clone(),
            },
            e => Self::told(!matches!(e, BackupError::Io(_)), &e),
        }
    }
}
impl From<StoreError> for Unproven {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Engine(e) => e.into(),
            StoreError::Commit(e) => e.into(),
            e => Self::Bad(e.to_string()),
        }
    }
}
impl From<CommitError> for Unproven {
    fn from(e: CommitError) -> Self {
        match e {
            CommitError::Engine(e) => e.into(),
            CommitError::Busy | CommitError::Stopped | CommitError::Unknown(_) => {
                Self::Unread(e.to_string())
            }
            e => Self::Bad(e.to_string()),
        }
    }
}
impl From<RingError> for Unproven {
    fn from(e: RingError) -> Self {
        Self::Bad(e.to_string())
    }
}

/// The machine key that is configured, or that of the data directory, where there is one.
///
/// # Errors
/// When there is a file that cannot be read or holds something else.
pub fn machine_key(
    files: &dyn Files,
    config: &ServerConfig,
) -> Result<Option<MachineKey>, BackupFailure> {
    let place = KeyPlace {
        given: config.machine_key.as_ref(),
        file: &config.data_dir.join(MACHINE_KEY),
    };
    place.read(files).map_err(|e| match e {
        StartError::File(e) => e.into(),
        e => BackupFailure::Refused(e.to_string()),
    })
}
