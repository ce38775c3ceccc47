//! The backup format, one for all engines.
//!
//! A bundle is text: a header, one JSON line for each row, counter and entry, and an ending with
//! counts and the SHA-256 of all lines before it. The text is compressed (zlib), and what comes of
//! that is either an [age](https://age-encryption.org/v1) file, or, where nothing in it is to be
//! hidden, follows a magic line and is followed by its own SHA-256. Hence whoever reads a bundle
//! to its end has seen that not one bit of it is another.
//!
//! Index keys are not in it: whoever loads it derives them, which proves them too.

mod lock;
mod read;
mod whole;
mod write;

pub use lock::{BEGINNING, Keys, Lock, begins};
pub use read::{Item, Reader};
pub use whole::{Loaded, Progress, Since, capture, compare, load};
pub use write::Writer;

use super::{COLLECTIONS, EngineError, StoreError};
use crate::clock::Time;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind},
};
use zeroize::Zeroize;

/// The number of the format; a program reads its own and those before it.
pub const BACKUP_FORMAT: u32 = 1;
/// The longest line: a document and what stands around it.
const MAX_LINE: u64 = 1 << 20;

/// What a bundle says of itself, in its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`BACKUP_FORMAT`] of whoever wrote it.
    pub format: u32,
    /// The version of the program that wrote it.
    pub product: String,
    /// When the state that it holds was the present.
    pub created_at: Time,
    /// Names the store: the link of its first audit event, or nothing before that.
    pub store: String,
    /// The last sequence number of that state.
    pub seq: u64,
    /// For an increment: the sequence number that it follows. What was written since is in it.
    pub since: Option<u64>,
    /// The audit log's length.
    pub audit_entries: u64,
    /// The link of its newest event, in hexadecimal digits.
    pub audit_head: String,
    /// The format number of the documents of each collection, as far as the program knew it.
    pub formats: BTreeMap<String, u16>,
    /// The machine key that opens the key ring; only in an encrypted bundle.
    pub machine_key: Option<Hidden>,
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Header {
    /// Refuses what a later program wrote.
    fn check(&self) -> Result<(), BackupError> {
        let newer = |what: String| BackupError::Newer {
            product: self.product.clone(),
            what,
        };
        if self.format > BACKUP_FORMAT {
            return Err(newer(format!("the backup's format {}", self.format)));
        }
        let known = formats();
        for (coll, format) in &self.formats {
            match known.get(coll) {
                Some(known) if format <= known => {}
                Some(_) => return Err(newer(format!("format {format} of {coll}"))),
                None => return Err(newer(format!("the collection {coll}"))),
            }
        }
        Ok(())
    }
}

/// The format number of each collection that this program knows.
pub fn formats() -> BTreeMap<String, u16> {
    let collections = COLLECTIONS.iter();
    collections
        .map(|c| (c.name().to_owned(), c.format()))
        .collect()
}

/// What a bundle holds, in its last line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Rows by collection.
    pub rows: BTreeMap<String, u64>,
    /// Rows that were deleted, of an increment.
    pub gone: u64,
    /// Counters.
    pub counters: u64,
    /// Entries by stream.
    pub entries: BTreeMap<String, u64>,
    /// SHA-256 of all lines before this one.
    pub sha256: String,
}

impl Ending {
    /// Rows of all collections.
    pub fn all_rows(&self) -> u64 {
        self.rows.values().sum()
    }

    fn count(&mut self, line: &Line<'_>) {
        let add = |counts: &mut BTreeMap<String, u64>, name: &str| match counts.get_mut(name) {
            Some(n) => *n += 1,
            None => drop(counts.insert(name.to_owned(), 1)),
        };
        match line {
            Line::Row(coll, ..) => add(&mut self.rows, coll),
            Line::Gone(..) => self.gone += 1,
            Line::Counter(..) => self.counters += 1,
            Line::Entry(stream, ..) => add(&mut self.entries, stream),
            Line::Header(_) | Line::End(_) => {}
        }
    }
}

/// A line of a bundle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Header(Box<Header>),
    /// Collection, id, version, document.
    Row(
        #[serde(borrow)] Cow<'a, str>,
        #[serde(borrow)] Cow<'a, str>,
        u64,
        #[serde(borrow)] &'a RawValue,
    ),
    /// Collection and id of a row that was deleted.
    Gone(Cow<'a, str>, Cow<'a, str>),
    /// Name in hexadecimal digits, value.
    Counter(String, i64),
    /// Stream, number, link in hexadecimal digits, document.
    Entry(
        #[serde(borrow)] Cow<'a, str>,
        u64,
        String,
        #[serde(borrow)] &'a RawValue,
    ),
    End(Ending),
}

/// Why a backup was not written or is not good.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file, the disk.
    #[error("{0}")]
    Io(io::Error),
    /// The file is something else.
    #[error("it is no backup of certctl, or its beginning is damaged")]
    NoBackup,
    /// What was read is not what was written.
    #[error("it is damaged: {0}; use another backup")]
    Damaged(String),
    /// None of the keys opens it.
    #[error("it is encrypted, and {0}")]
    Locked(&'static str),
    /// It cannot be encrypted like that.
    #[error("the backup cannot be encrypted: {0}")]
    CannotLock(String),
    /// A later program wrote it.
    #[error(
        "it was written by certctl {product} and holds {what}, which this version does not know: \
         use that version or a later one"
    )]
    Newer {
        /// The version that wrote it.
        product: String,
        /// What is unknown.
        what: String,
    },
    /// An increment that does not follow what it is applied to.
    #[error("{0}")]
    NoSequel(String),
    /// What lies between two bundles is not among them.
    #[error(
        "an increment is missing between {before}, which ends at {end}, and {after}, which holds \
         only what came after {since}: the one with -{since}- in its name"
    )]
    Missing {
        /// The one before the hole.
        before: String,
        /// Its last sequence number.
        end: u64,
        /// The one after it.
        after: String,
        /// The sequence number that it follows.
        since: u64,
    },
    /// Of one of several bundles.
    #[error("{name}: {error}")]
    Of {
        /// Which.
        name: String,
        /// What is wrong with it.
        error: Box<BackupError>,
    },
    /// The store.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A row, or the log's links.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// This, of the bundle of a name; a bundle without one is the only one.
    #[must_use]
    pub fn of(self, name: &str) -> Self {
        match self {
            // It names both.
            Self::Missing { .. } => self,
            error if name.is_empty() => error,
            error => Self::Of {
                name: name.to_owned(),
                error: Box::new(error),
            },
        }
    }
}

impl From<io::Error> for BackupError {
    /// Decompression and decryption report what does not fit as bad data.
    fn from(e: io::Error) -> Self {
        match e.kind() {
            ErrorKind::InvalidData | ErrorKind::InvalidInput => Self::Damaged(e.to_string()),
            ErrorKind::UnexpectedEof => Self::Damaged("it ends too early".to_owned()),
            _ => Self::Io(e),
        }
    }
}
