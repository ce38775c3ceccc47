//! The narrow waist: what a storage engine is, and the values that cross it.
//!
//! An engine keeps rows, index keys, counters and append-only streams. It decides nothing: every
//! commit is decided by [`commit`](super::commit), the same code for every engine, from facts the
//! engine reads under its own serial commit.

use super::batch::IndexKey;
use crate::{clock::Time, id::Id};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use tokio::{sync::watch, time::Instant};

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
    /// Each commit keeps how many keys begin with the same so many bytes (all of a shorter key);
    /// `None`: nothing is counted.
    pub counted: Option<u16>,
    /// Raised when a document's keys are derived in another way; the index is then built anew.
    pub revision: u16,
}

impl Index {
    /// An index that any number of rows may share keys of.
    pub const fn new(coll: Coll, name: &'static str) -> Self {
        Self {
            name,
            coll,
            unique: false,
            counted: None,
            revision: 1,
        }
    }

    /// At most one row holds a given key.
    #[must_use]
    pub const fn unique(self) -> Self {
        Self {
            unique: true,
            ..self
        }
    }

    /// Counted by the first `bytes` of the key: 0 counts all, 4 by a leading number of that size.
    #[must_use]
    pub const fn counted_by(self, bytes: u16) -> Self {
        Self {
            counted: Some(bytes),
            ..self
        }
    }

    /// Counted by the whole key.
    #[must_use]
    pub const fn counted(self) -> Self {
        self.counted_by(u16::MAX)
    }
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
    /// All rows of a collection, ascending by id.
    All {
        /// Where.
        coll: Coll,
        /// Only ids after this one.
        after: Option<Id>,
        /// At most so many.
        limit: usize,
    },
    /// Rows by index key, by (key, id).
    Scan(Scan),
    /// As `Scan`, but only what the rows of the walk hold in some indexes of their collection.
    Keys {
        /// The walk.
        scan: Scan,
        /// The indexes.
        of: Vec<Index>,
    },
    /// How many keys an index has from one on and below another: walked, not counted.
    Held {
        /// The index.
        index: Index,
        /// Only keys from this one on.
        from: Vec<u8>,
        /// Only keys below this one.
        below: Option<Vec<u8>>,
    },
    /// The counts of a counted index, ascending by the counted beginning of its keys.
    Counts {
        /// The index.
        index: Index,
        /// Only from this beginning on.
        from: Vec<u8>,
        /// Only below this one.
        below: Option<Vec<u8>>,
        /// At most so many.
        limit: usize,
    },
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
    /// The commits numbered above `after`, ascending.
    Feed {
        /// The last one known.
        after: u64,
        /// At most so many.
        limit: usize,
    },
    /// The rows of all collections, ascending by the bytes of (collection, id).
    EveryRow {
        /// Only what comes after this row.
        after: Option<(String, Id)>,
        /// At most so many.
        limit: usize,
    },
    /// All counters, ascending by name.
    EveryCounter {
        /// Only what comes after this name.
        after: Option<Vec<u8>>,
        /// At most so many.
        limit: usize,
    },
    /// The entries of all streams, ascending by the bytes of the stream's name, then by number.
    EveryEntry {
        /// Only what comes after this entry.
        after: Option<(String, u64)>,
        /// At most so many.
        limit: usize,
    },
    /// The last sequence number given out.
    Sequence,
}

/// A walk along one index.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The index.
    pub index: Index,
    /// Only keys from this one on.
    pub from: Vec<u8>,
    /// Only keys below this one.
    pub below: Option<Vec<u8>>,
    /// Only what comes strictly after this (key, id) in the order of the walk.
    pub after: Option<(Vec<u8>, Id)>,
    /// From the last (key, id) to the first.
    pub backward: bool,
    /// So many are passed over first.
    pub skip: usize,
    /// At most so many.
    pub limit: usize,
}

impl Scan {
    /// A whole index, from its beginning.
    pub fn all(index: Index, limit: usize) -> Self {
        Self {
            index,
            from: Vec::new(),
            below: None,
            after: None,
            backward: false,
            skip: 0,
            limit,
        }
    }

    /// The keys of an index that begin with `prefix`.
    pub fn under(index: Index, prefix: Vec<u8>, limit: usize) -> Self {
        Self {
            below: above(prefix.clone()),
            from: prefix,
            ..Self::all(index, limit)
        }
    }
}

/// The first key above all that begin with `prefix`; `None` where there is none.
pub fn above(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while prefix.pop_if(|byte| *byte == u8::MAX).is_some() {}
    *prefix.last_mut()? += 1;
    Some(prefix)
}

/// What one commit did, as the feed remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The commit's number.
    pub seq: u64,
    /// When it was decided.
    pub at: Time,
    /// The rows it wrote or deleted, as (collection, id).
    pub rows: Vec<(String, Id)>,
}

/// A stretch of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// Commits, without gaps.
    Changes(Vec<Change>),
    /// What was asked for is no longer kept: look at everything, then go on after this number.
    Trimmed {
        /// The newest commit that was trimmed.
        upto: u64,
    },
}

/// The answer to the [`Query`] of the same position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Get`: `None` where there is no row.
    Rows(Vec<Option<Row>>),
    /// To `All`.
    All(Vec<Row>),
    /// To `Scan`.
    Hits(Vec<Hit>),
    /// To `Keys`: each row with the keys it holds.
    Keys(Vec<(Id, Vec<IndexKey>)>),
    /// To `Held`.
    Held(u64),
    /// To `Counts`: the counted beginnings of keys, each with how many keys have it.
    Counts(Vec<(Vec<u8>, u64)>),
    /// To `Counter`.
    Counter(i64),
    /// To `Tail`.
    Entries(Vec<Entry>),
    /// To `Feed`.
    Feed(Feed),
    /// To `EveryRow`, each with its collection.
    EveryRow(Vec<(String, Row)>),
    /// To `EveryCounter`.
    EveryCounter(Vec<(Vec<u8>, i64)>),
    /// To `EveryEntry`, each with its stream.
    EveryEntry(Vec<(String, Entry)>),
    /// To `Sequence`.
    Sequence(u64),
}

/// What a store takes over from another, as it was there. Of two parts of one load that name the
/// same thing the later one holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// Rows by collection, with their versions and without index keys: whoever loads builds the
    /// indexes.
    pub rows: Vec<(String, Row)>,
    /// Rows that are not there any more.
    pub gone: Vec<(String, Id)>,
    /// Counters.
    pub counters: Vec<(Vec<u8>, i64)>,
    /// Entries by stream, ascending within each.
    pub entries: Vec<(String, Entry)>,
    /// Ends the load: the last sequence number given out. The next commit has the one after it,
    /// and the feed begins with that.
    pub last: Option<u64>,
}

/// The engine could not do what was asked. Nothing was changed, save where a commit's outcome is
/// said to be unknown.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// The database does not answer now. Nothing was changed; it is tried again by itself.
    #[error("the database cannot be used now: {0}")]
    Away(String),
    /// From a commit: the connection broke at its very end and the database has not come back to
    /// say whether it took place.
    #[error("the database went away during this change")]
    Unresolved,
    /// The database knows neither the user nor the password.
    #[error(
        "the database refuses the user or the password of CERTCTL_DATABASE_URL (SQLSTATE 28P01: \
         {0}). See that both are right, there or in CERTCTL_DATABASE_PASSWORD: `certctl db ping` \
         tries them. Where they are, the database has another password: give it the configured one \
         (`ALTER ROLE <user> PASSWORD '<the configured one>'`), then start the server again. A \
         database in a container takes its password once, at its first boot with an empty data \
         directory, and keeps it whatever its settings say later: there, too, ALTER ROLE changes it, \
         and on Kubernetes `helm upgrade --reuse-values --set postgresql.auth.password=<it>` gives \
         the same to the server. Only to begin anew and LOSE ALL DATA: uninstall, delete the \
         database's volume (on Kubernetes `kubectl delete pvc -l \
         app.kubernetes.io/name=certctl,app.kubernetes.io/component=postgres`), and install again"
    )]
    Password(String),
    /// Somebody must change the database or its address first.
    #[error("the database of CERTCTL_DATABASE_URL cannot be used: {0}")]
    Unusable(String),
    /// The database does not do what was asked. Nothing was changed.
    #[error("the database refused: {0}")]
    Refused(String),
    /// Something was committed to the store: nothing can be loaded into it.
    #[error("the store is not empty: restore into one that is")]
    NotEmpty,
    /// A load into the store was begun and not ended.
    #[error("a restore into this store was cut short: remove the store and restore again")]
    HalfLoaded,
    /// There is no store, and none was to be made.
    #[error(
        "{0} holds no store: see that --data-dir, or CERTCTL_DATABASE_URL, names the server's. The \
         first start of a server makes one; where there was one, `certctl restore BACKUP` brings it \
         back"
    )]
    NoStore(String),
    /// A snapshot was held for longer than it said it would be.
    #[error("the snapshot was held too long and has ended: begin again")]
    SnapshotEnded,
}

impl EngineError {
    /// Whether it will be gone some time, with nobody doing anything to this program.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

/// A store that is held; dropped, it is let go of.
pub type Hold = Box<dyn Send + Sync>;

/// A storage engine. Commits are strictly serial; a read sees the state after some whole commit.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Answers all questions from one consistent state.
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError>;

    /// Commits a group of batches in order as one durable write. Each batch is taken whole or
    /// refused whole, by itself; when this returns `Ok`, the accepted ones survive power loss.
    async fn commit(&self, group: &[super::Batch]) -> Result<Vec<super::Outcome>, EngineError>;

    /// The present state, to be read for some time, at most until `deadline`: whoever holds the
    /// past keeps its space from being used again.
    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError>;

    /// The newest sequence number that this process has heard of from others that write the same
    /// store; `None` where there are no others. A hint: it may come late or not at all.
    fn notices(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Takes over a part of another store: durable when this returns, save that a power loss
    /// before the part that ends the load may undo all of it. From the first part to that one the
    /// store takes no commits, and cannot be opened as a store.
    ///
    /// # Errors
    /// [`EngineError::NotEmpty`] where something was ever committed, or a load was ended.
    async fn load(&self, part: Load) -> Result<(), EngineError>;

    /// Waits until nobody else holds the store, and holds it until what is given is dropped:
    /// whoever changes its format does. Where one process alone can open it there is nothing to
    /// hold.
    ///
    /// # Errors
    /// When the engine fails, or somebody else holds it for long.
    async fn hold(&self) -> Result<Option<Hold>, EngineError> {
        Ok(None)
    }

    /// The formats of other programs that have the store open. Where one process alone can open
    /// it there are none.
    ///
    /// # Errors
    /// When that cannot be seen.
    async fn others(&self) -> Result<Vec<u16>, EngineError> {
        Ok(Vec::new())
    }
}

/// Whoever holds one of several engines has one.
#[async_trait]
impl Engine for Arc<dyn Engine> {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        (**self).read(questions).await
    }
    async fn commit(&self, group: &[super::Batch]) -> Result<Vec<super::Outcome>, EngineError> {
        (**self).commit(group).await
    }
    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        (**self).snapshot(deadline).await
    }
    fn notices(&self) -> Option<watch::Receiver<u64>> {
        (**self).notices()
    }
    async fn load(&self, part: Load) -> Result<(), EngineError> {
        (**self).load(part).await
    }
    async fn others(&self) -> Result<Vec<u16>, EngineError> {
        (**self).others().await
    }
}

/// A state of the store that commits no longer change.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// Answers from that state.
    ///
    /// # Errors
    /// [`EngineError::SnapshotEnded`] after the deadline; otherwise as [`Engine::read`].
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError>;
}
