//! What can go wrong between a use case and the store.

use super::{
    batch::{Invalid, Refusal},
    engine::{Coll, EngineError},
};
use crate::id::Id;

/// A read failed, or a decision was not committed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("there is no {} {id}", coll.0)]
    NotFound {
        /// The collection.
        coll: Coll,
        /// The row.
        id: Id,
    },
    /// A stored row does not have its type's shape.
    #[error("the stored {} {id} cannot be read ({reason}): restore it from a backup", coll.0)]
    Corrupt {
        /// The collection.
        coll: Coll,
        /// The row.
        id: Id,
        /// What is wrong with it.
        reason: String,
    },
    /// A stream's entries do not follow from each other.
    #[error("entry {number} of {stream} was changed or removed after it was written")]
    BrokenChain {
        /// The stream.
        stream: &'static str,
        /// The first entry that is missing or does not have the link it must have.
        number: u64,
    },
    /// The decision was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why a decision was not committed. Nothing changed, save where the outcome is said to be unknown.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The store refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No store could take it.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A value cannot be stored.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    /// Too many commits wait: try again in a moment.
    #[error("the store is busy: try again in a moment")]
    Busy,
    /// The store was closed, or ended after a failure.
    #[error("the store has stopped and takes no more changes")]
    Stopped,
    /// The commit was on its way when the store or the way to it ended: its outcome is unknown.
    #[error("{0}; this change may or may not have taken place: look before you try again")]
    Unknown(EngineError),
    /// The engine failed on this batch.
    #[error(transparent)]
    Engine(EngineError),
    /// A later version of the program has changed the store's format.
    #[error(
        "the store was brought to format {format} by a later version, and this one ({program}) may \
         not write to it: stop it and start the later version, or undo with `certctl migrate down`"
    )]
    Outdated {
        /// The store's format.
        format: u16,
        /// This program's.
        program: u16,
    },
    /// The store has the format of an earlier version of the program.
    #[error(
        "the store has format {format}, that of an earlier version, and this one ({program}) may \
         not write to it: stop it and start the earlier version, or bring the store up with \
         `certctl migrate up`"
    )]
    Behind {
        /// The store's format.
        format: u16,
        /// This program's.
        program: u16,
    },
}

/// Why a value cannot be stored.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be stored: {reason}")]
pub struct Unwritable {
    /// Which value, as `collection/id` or a stream's name.
    pub what: String,
    /// What about it.
    pub reason: UnwritableReason,
}

/// What about a value cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum UnwritableReason {
    /// It holds a NUL character, which Postgres cannot keep.
    #[error("{0} holds a NUL character")]
    Nul(String),
    /// It holds a number that is no integer, which engines would not keep alike.
    #[error("{0} is not an integer")]
    Fraction(String),
    /// A document must be an object.
    #[error("it is not an object")]
    NotAnObject,
    /// A row keeps its id.
    #[error("its id was changed from {0}")]
    IdChanged(Id),
    /// It has no JSON form.
    #[error("{0}")]
    NoJson(String),
}

impl CommitError {
    /// Whether the store is away for now: nothing was changed.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Engine(e) if e.is_away())
    }

    /// Whether loading again and deciding again is the remedy.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(Refusal::Conflict { .. }))
    }
}

impl StoreError {
    /// As [`CommitError::is_away`].
    pub fn is_away(&self) -> bool {
        match self {
            Self::Commit(e) => e.is_away(),
            Self::Engine(e) => e.is_away(),
            _ => false,
        }
    }

    /// As [`CommitError::is_conflict`].
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Commit(e) if e.is_conflict())
    }
}
