//! What a commit is made of: a declaration of writes and of everything they rest on.

use super::engine::{Coll, Index};
use crate::{clock::Time, id::Id};
use bytes::Bytes;
use std::time::Duration;

/// What a row must be at commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// There is no such row.
    Absent,
    /// The row has this version.
    Version(u64),
}

/// A row's place in an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexKey {
    /// The index.
    pub index: Index,
    /// The key, order-preserving bytes (see [`Key`](super::Key)).
    pub key: Vec<u8>,
}

/// Writes or deletes one row.
#[derive(Debug, Clone)]
pub struct Write {
    /// The collection.
    pub coll: Coll,
    /// The row.
    pub id: Id,
    /// What must be there before.
    pub expect: Expect,
    /// The new document; `None` deletes.
    pub doc: Option<Bytes>,
    /// All index keys of the new document.
    pub keys: Vec<IndexKey>,
}

/// A change to a counter, which may refuse the whole batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterChange {
    /// The counter's name, an encoded key.
    pub key: Vec<u8>,
    /// The change.
    pub op: CounterOp,
}

/// How a counter changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterOp {
    /// Adds `n`; refused when the result would exceed `max`.
    Add {
        /// The amount, at least 1.
        n: i64,
        /// The largest allowed value.
        max: i64,
    },
    /// Takes `cost` tokens from a bucket that holds `burst` and refills `per` each; refused while
    /// too few are left. The stored value is the bucket's theoretical arrival time (GCRA) in
    /// microseconds.
    Take {
        /// Tokens taken, at least 1.
        cost: u32,
        /// The time in which one token comes back.
        per: Duration,
        /// The bucket's size, at least 1.
        burst: u32,
        /// The caller's clock.
        now: Time,
    },
}

/// A new entry of an append-only stream.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub stream: &'static str,
    /// The document, kept byte for byte.
    pub doc: Bytes,
}

/// One decision: applied whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Identifies this commit.
    pub id: u128,
    /// Rows to write. A row may stand here once.
    pub writes: Vec<Write>,
    /// Rows the decision rests on, beyond those written.
    pub asserts: Vec<(Coll, Id, Expect)>,
    /// No row may hold a key of this index that begins with these bytes.
    pub none: Vec<(Index, Vec<u8>)>,
    /// Counters to change.
    pub counters: Vec<CounterChange>,
    /// Entries to append; number and link are set inside the commit.
    pub append: Vec<Append>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Durable.
    Committed(Committed),
    /// Changed nothing.
    Refused(Refusal),
}

/// An accepted batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The commit's sequence number: the version of every row it wrote.
    pub version: u64,
    /// The values after the changes, in the order of [`Batch::counters`].
    pub counters: Vec<i64>,
}

/// Why a batch changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A row is not what the decision was made on: load again and decide again.
    #[error("{}/{id} changed meanwhile", coll.0)]
    Conflict {
        /// The collection.
        coll: Coll,
        /// The row.
        id: Id,
    },
    /// Another row holds a key of a unique index.
    #[error("another row holds this key of {}", index.name)]
    Duplicate {
        /// The index.
        index: Index,
        /// Who holds it.
        holder: Id,
    },
    /// A row holds a key that [`Batch::none`] ruled out.
    #[error("a row holds a key of {} that must be free", index.name)]
    Occupied {
        /// The index.
        index: Index,
        /// Who holds it.
        holder: Id,
    },
    /// A counter is at its limit.
    #[error("a limit is reached")]
    Exhausted {
        /// Position in [`Batch::counters`].
        counter: usize,
        /// When a token is there again; `None` for a limit that time does not lift.
        retry_at: Option<Time>,
    },
}
