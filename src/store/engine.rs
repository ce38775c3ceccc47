//! The narrow waist: what a storage engine is, and the values that cross it.
//!
//! An engine keeps rows, index keys, counters and append-only streams. It decides nothing: every
//! commit is decided by [`commit`](super::commit), the same code for every engine, from facts the
//! engine reads under its own serial commit.

use crate::id::Id;
use async_trait::async_trait;
use bytes::Bytes;

/// A collection of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coll(pub &'static str);

/// An index over one collection, derived from the rows' documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index {
    /// Its name, unique in the store.
    pub name: &'static str,
    /// The collection it covers.
    pub coll: Coll,
    /// At most one row holds a given key.
    pub unique: bool,
}

/// A row: a document under an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The id, unique in its collection.
    pub id: Id,
    /// The sequence number of the commit that wrote it; never reused.
    pub version: u64,
    /// The document, JSON with strings and integers only.
    pub doc: Bytes,
}

/// A row as an index shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The index key under which it stands.
    pub key: Vec<u8>,
    /// The row.
    pub row: Row,
}

/// An entry of an append-only stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1, without gaps.
    pub number: u64,
    /// The document, stored byte for byte.
    pub doc: Bytes,
    /// The hash link: over the previous entry's link, the number and the document.
    pub link: [u8; 32],
}

/// One question to an engine. All questions of one `read` see the same moment.
#[derive(Debug, Clone)]
pub enum Query {
    /// The rows with these ids, in the order asked.
    Get {
        /// Where.
        coll: Coll,
        /// Which.
        ids: Vec<Id>,
    },
    /// Rows by index key, ascending by (key, id).
    Scan(Scan),
    /// A counter's value; absent is 0.
    Counter(Vec<u8>),
    /// Entries of a stream with a number below `before`, newest first.
    Tail {
        /// The stream's name.
        stream: &'static str,
        /// Exclusive upper bound.
        before: u64,
        /// At most so many.
        limit: usize,
    },
}

/// A walk along one index.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The index.
    pub index: Index,
    /// Only keys that begin with this.
    pub prefix: Vec<u8>,
    /// Only keys below this (a whole key, prefix included).
    pub below: Option<Vec<u8>>,
    /// Only what lies strictly after this (key, id).
    pub after: Option<(Vec<u8>, Id)>,
    /// At most so many.
    pub limit: usize,
}

impl Scan {
    /// A whole index, from its beginning.
    pub fn all(index: Index, limit: usize) -> Self {
        Self {
            index,
            prefix: Vec::new(),
            below: None,
            after: None,
            limit,
        }
    }
}

/// The answer to the [`Query`] of the same position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Get`: `None` where there is no row.
    Rows(Vec<Option<Row>>),
    /// To `Scan`.
    Hits(Vec<Hit>),
    /// To `Counter`.
    Counter(i64),
    /// To `Tail`.
    Entries(Vec<Entry>),
}

/// The engine could not do what was asked. Nothing was changed, save where a commit's outcome is
/// said to be unknown.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another process has the store open.
    #[error("the store {0} is in use by another process")]
    InUse(String),
    /// The store cannot be read or written. From a commit: whether it took place is unknown, and
    /// only opening the store again tells.
    #[error("storage failed: {0}")]
    Io(String),
    /// Another version of the program wrote the store.
    #[error(
        "the store has format {found}, this program reads {known}: use the version that wrote it"
    )]
    Format {
        /// What the store says.
        found: u64,
        /// What this program knows.
        known: u64,
    },
    /// What is stored breaks its own rules.
    #[error("the store is damaged: {0}; restore it from a backup")]
    Corrupt(String),
}

/// A storage engine. Commits are strictly serial; a read sees the state after some whole commit.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Answers all questions from one consistent state.
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError>;

    /// Commits a group of batches in order as one durable write. Each batch is taken whole or
    /// refused whole, by itself; when this returns `Ok`, the accepted ones survive power loss.
    async fn commit(&self, group: &[super::Batch]) -> Result<Vec<super::Outcome>, EngineError>;
}
