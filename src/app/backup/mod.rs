//! Backups: made, proven, kept for a while, restored. All of it works beside a running server,
//! and without one on a store that nobody has open.

mod create;
mod keep;
mod machine;
mod prove;
mod restore;
mod s3;
mod sink;

pub(super) use create::keys_of;
pub use create::{Locking, Source, create};
pub use keep::{Keep, covered, expired};
pub(super) use machine::prove_place;
pub use machine::{Machine, Place};
pub use prove::{Bench, Bundle, Proof, prove, verify};
pub use restore::{Restore, Restored, restore};
pub use s3::S3Access;
pub use sink::{Proven, Sink, Stored, Ways};

pub use crate::store::backup::{Keys, Recipient, Since};

use crate::{
    crypt::{MachineKey, RingError},
    net::CallError,
    store::{CommitError, StoreError, backup::BackupError},
    sys::{FileError, Files},
};
use std::path::Path;

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
    /// The sink.
    #[error("{sink}: {reason}")]
    Sink {
        /// Where backups go.
        sink: String,
        /// What it does not do.
        reason: String,
    },
    /// Something does not allow it.
    #[error("{0}")]
    Refused(String),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl BackupFailure {
    fn capture(reason: impl ToString) -> Self {
        Self::Capture(reason.to_string())
    }

    fn verify(name: &str, reason: impl ToString) -> Self {
        Self::Verify {
            name: name.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Of what was not captured.
    fn of_capture(e: BackupError) -> Self {
        match e {
            BackupError::NoSequel(why) => Self::Gap(why),
            e => Self::capture(e),
        }
    }

    /// The step that failed, as a word.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Capture(_) | Self::Gap(_) => "capture",
            Self::Verify { .. } => "verify",
            Self::Sink { .. } => "upload",
            Self::Refused(_) => "refused",
            Self::File(_) => "file",
        }
    }
}

impl From<RingError> for BackupFailure {
    fn from(e: RingError) -> Self {
        Self::Refused(e.to_string())
    }
}

/// What is wrong with a scratch store is wrong with the backup that it was made of.
struct Unproven(String);

impl From<BackupError> for Unproven {
    fn from(e: BackupError) -> Self {
        Self(e.to_string())
    }
}
impl From<StoreError> for Unproven {
    fn from(e: StoreError) -> Self {
        Self(e.to_string())
    }
}
impl From<CommitError> for Unproven {
    fn from(e: CommitError) -> Self {
        Self(e.to_string())
    }
}
impl From<FileError> for Unproven {
    fn from(e: FileError) -> Self {
        Self(e.to_string())
    }
}
impl From<RingError> for Unproven {
    fn from(e: RingError) -> Self {
        Self(e.to_string())
    }
}
impl From<CallError> for Unproven {
    fn from(e: CallError) -> Self {
        Self(e.to_string())
    }
}

/// The machine key of a data directory, where it has one.
///
/// # Errors
/// When there is a file that cannot be read or holds something else.
pub fn machine_key(
    files: &dyn Files,
    data_dir: &Path,
) -> Result<Option<MachineKey>, BackupFailure> {
    match files.read(&data_dir.join(MACHINE_KEY), 1024) {
        Ok(text) => Ok(Some(MachineKey::from_text(&String::from_utf8_lossy(
            &text,
        ))?)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}
