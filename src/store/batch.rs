//! What a commit is made of: a declaration of writes and of everything they rest on.

use super::{
    engine::{Coll, Index},
    key::MAX_KEY,
};
use crate::{clock::Time, id::Id};
use bytes::Bytes;
use std::{collections::BTreeSet, time::Duration};

/// The largest document, in bytes.
pub const MAX_DOC: usize = 256 * 1024;
/// The most rows that one batch writes, asserts, appends, and so on; each kind by itself.
pub const MAX_PARTS: usize = 2_000;
/// The most index keys of one row.
pub const MAX_ROW_KEYS: usize = 512;
/// The most bytes of documents and keys in one batch.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

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
    /// The document.
    pub doc: Doc,
    /// All index keys of the document; none where they [stay](Doc::Amend).
    pub keys: Vec<IndexKey>,
}

/// What becomes of a row's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doc {
    /// It is this one.
    Put(Bytes),
    /// The row goes.
    Delete,
    /// Document and version stay, only the index keys are set: an index is being built.
    Keep,
    /// The document says the same in the form of another format: version and index keys stay, and
    /// the feed does not tell.
    Amend(Bytes),
}

impl Doc {
    fn len(&self) -> usize {
        match self {
            Self::Put(doc) | Self::Amend(doc) => doc.len(),
            Self::Delete | Self::Keep => 0,
        }
    }

    /// Whether the row is another afterwards, for whoever reads it.
    pub(super) fn is_news(&self) -> bool {
        matches!(self, Self::Put(_) | Self::Delete)
    }
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
    /// Adds `n`; refused when the result would exceed `max`, or by taking away become negative.
    Add {
        /// The amount, not 0.
        n: i64,
        /// The largest allowed value.
        max: i64,
    },
    /// Takes `cost` tokens from a bucket that holds `burst` and refills `per` each; refused while
    /// too few are left. The time is that of the engine, where several servers share it, else that
    /// of the [batch](Batch::at). The stored value is the bucket's theoretical arrival time (GCRA) in
    /// microseconds.
    Take {
        /// Tokens taken, at least 1.
        cost: u32,
        /// The time in which one token comes back.
        per: Duration,
        /// The bucket's size, at least 1.
        burst: u32,
    },
    /// Forgets a bucket that is full, as one is that nobody ever took from; refused while it is
    /// not.
    Forget,
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
    /// When it was decided.
    pub at: Time,
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
    /// The feed forgets commits up to this number; 0 forgets nothing.
    pub trim: u64,
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
        /// How long until enough is there again; `None` for a limit that time does not lift.
        retry_in: Option<Duration>,
    },
}

/// Why a batch cannot be committed by any engine, whatever is stored. A fault of the program or a
/// request that is too large; nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// One row is named twice among writes and asserts.
    #[error("one change names {}/{id} twice", coll.0)]
    RowTwice {
        /// The collection.
        coll: Coll,
        /// The row.
        id: Id,
    },
    /// A delete or another form of a row expected to be absent, or with index keys; or keys for an
    /// absent row.
    #[error("{}/{id} can be deleted or amended only by its version and without keys, and indexed only where it is", coll.0)]
    NoRow {
        /// The collection.
        coll: Coll,
        /// The row.
        id: Id,
    },
    /// An index key of another collection's index.
    #[error("{}/{id} has a key of {}, an index over {}", coll.0, index.name, index.coll.0)]
    ForeignIndex {
        /// The collection.
        coll: Coll,
        /// The row.
        id: Id,
        /// The index.
        index: Index,
    },
    /// A counter change by nothing, or a bucket without size or refill time.
    #[error("a counter changes, and a bucket holds and refills at least 1")]
    EmptyCounter,
    /// Something is larger than the store takes.
    #[error("{what} is {found}, at most {limit} is possible: split the request into smaller ones")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

impl Batch {
    /// Checks all that can be known without reading: row named twice, sizes, senseless changes.
    ///
    /// # Errors
    /// The first fault found.
    pub fn validate(&self) -> Result<(), Invalid> {
        within("the number of rows written", self.writes.len(), MAX_PARTS)?;
        within("the number of rows asserted", self.asserts.len(), MAX_PARTS)?;
        within("the number of keys ruled out", self.none.len(), MAX_PARTS)?;
        within("the number of counters", self.counters.len(), MAX_PARTS)?;
        within("the number of entries", self.append.len(), MAX_PARTS)?;
        within("the change in bytes", self.bytes(), MAX_BATCH_BYTES)?;

        let mut rows = BTreeSet::new();
        let written = self.writes.iter().map(|w| (w.coll, &w.id));
        let asserted = self.asserts.iter().map(|(coll, id, _)| (*coll, id));
        for (coll, id) in written.chain(asserted) {
            if !rows.insert((coll, id)) {
                return Err(Invalid::RowTwice {
                    coll,
                    id: id.clone(),
                });
            }
        }
        self.writes.iter().try_for_each(Write::validate)?;
        for (_, prefix) in &self.none {
            within("an index key in bytes", prefix.len(), MAX_KEY)?;
        }
        for change in &self.counters {
            within("a counter's name in bytes", change.key.len(), MAX_KEY)?;
            if !change.op.is_sound() {
                return Err(Invalid::EmptyCounter);
            }
        }
        for entry in &self.append {
            within("an entry in bytes", entry.doc.len(), MAX_DOC)?;
        }
        Ok(())
    }

    /// Bytes of documents and keys, by which groups are bounded.
    pub(super) fn bytes(&self) -> usize {
        let writes = self.writes.iter().map(Write::bytes).sum::<usize>();
        writes + self.append.iter().map(|a| a.doc.len()).sum::<usize>()
    }
}

impl Write {
    fn validate(&self) -> Result<(), Invalid> {
        let (coll, id) = (self.coll, || self.id.clone());
        let absent = self.expect == Expect::Absent;
        let senseless = match self.doc {
            Doc::Put(_) => false,
            Doc::Delete | Doc::Amend(_) => absent || !self.keys.is_empty(),
            Doc::Keep => absent,
        };
        if senseless {
            return Err(Invalid::NoRow { coll, id: id() });
        }
        within("a document in bytes", self.doc.len(), MAX_DOC)?;
        within(
            "the number of a row's index keys",
            self.keys.len(),
            MAX_ROW_KEYS,
        )?;
        for IndexKey { index, key } in &self.keys {
            within("an index key in bytes", key.len(), MAX_KEY)?;
            if index.coll != coll {
                return Err(Invalid::ForeignIndex {
                    coll,
                    id: id(),
                    index: *index,
                });
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let keys = self.keys.iter().map(|k| k.key.len()).sum::<usize>();
        self.doc.len() + keys
    }
}

impl CounterOp {
    fn is_sound(self) -> bool {
        match self {
            Self::Add { n, .. } => n != 0,
            Self::Forget => true,
            Self::Take { cost, per, burst } => {
                cost >= 1 && burst >= 1 && per >= Duration::from_micros(1)
            }
        }
    }
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), Invalid> {
    if found <= limit {
        Ok(())
    } else {
        Err(Invalid::TooLarge { what, found, limit })
    }
}
