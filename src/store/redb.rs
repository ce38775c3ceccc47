//! The engine of a standalone server: one redb file.

use super::{
    batch::{Batch, Outcome},
    commit::{self, Changes, Extent, Facts, Head, Needs, Place, RowFact, epoch_start},
    engine::{Answer, Coll, Engine, EngineError, Entry, Hit, Query, Row, Scan},
};
use crate::id::Id;
use async_trait::async_trait;
use bytes::Bytes;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, WriteTransaction, backends::FileBackend,
};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    ops::Bound,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// The layout of the tables below.
const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// (collection, id)
type RowName = (&'static str, &'static str);
/// (version, document)
type Stored = (u64, &'static [u8]);
/// (index, key)s
type PlaceList = Vec<(&'static str, &'static [u8])>;
/// (link, document)
type Linked = (&'static [u8; 32], &'static [u8]);
/// (index, key, id)
type IndexEntry = (&'static str, &'static [u8], &'static str);

const REC: TableDefinition<RowName, Stored> = TableDefinition::new("rec");
/// All places of a row; no entry for a row that has none.
const KEYS: TableDefinition<RowName, PlaceList> = TableDefinition::new("keys");
const IDX: TableDefinition<IndexEntry, ()> = TableDefinition::new("idx");
const COUNTER: TableDefinition<&[u8], i64> = TableDefinition::new("counter");
/// By (stream, number).
const STREAM: TableDefinition<(&str, u64), Linked> = TableDefinition::new("stream");
/// The (number, link) of a stream's newest entry.
const HEAD: TableDefinition<&str, (u64, &[u8; 32])> = TableDefinition::new("head");
/// "format", and "seq", the last sequence number given out, whose upper part is the epoch.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// A store in one file, held by one process at a time.
pub struct Redb(Database);

impl Redb {
    /// Opens the store in the file at `path`, or makes it, readable by its owner alone. After a
    /// crash this is also the recovery. Blocks.
    ///
    /// # Errors
    /// [`EngineError::InUse`] while another process has it open; otherwise when the file cannot be
    /// opened, is damaged or of another format.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let store = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Self::open_file(file),
            Err(e) if e.kind() == ErrorKind::NotFound => Self::create(path),
            Err(e) => Err(EngineError::Io(e.to_string())),
        };
        store.map_err(|e| match e {
            EngineError::InUse(_) => EngineError::InUse(path.display().to_string()),
            EngineError::Io(e) => EngineError::Io(format!("{}: {e}", path.display())),
            EngineError::Corrupt(e) => EngineError::Corrupt(format!("{}: {e}", path.display())),
            e @ EngineError::Format { .. } => e,
        })
    }

    /// Makes a store beside its place and puts it there when it is whole: a crash or a full disk
    /// on the way leaves nothing that a later start would take for a store.
    fn create(path: &Path) -> Result<Self, EngineError> {
        let failed = |e: io::Error| EngineError::Io(e.to_string());
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        // Emptied only under the lock: another process may be making it right now.
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => EngineError::InUse(String::new()),
            TryLockError::Error(e) => failed(e),
        })?;
        file.set_len(0).map_err(failed)?;
        let store = Self::open_file(file)?;
        // A link, for it never replaces a store that another process has made meanwhile.
        std::fs::hard_link(&new, path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => EngineError::InUse(String::new()),
            _ => failed(e),
        })?;
        std::fs::remove_file(&new).map_err(failed)?;
        // A new file is only durable once its directory is.
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))
            .and_then(|d| d.sync_all())
            .map_err(failed)?;
        Ok(store)
    }

    fn open_file(file: File) -> Result<Self, EngineError> {
        Self::open_on(FileBackend::new(file).map_err(engine_error)?)
    }

    /// Opens or makes the store on other storage than a file. Blocks.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(backend: impl StorageBackend) -> Result<Self, EngineError> {
        let open = || {
            let db = Database::builder()
                .set_cache_size(CACHE_BYTES)
                .set_repair_callback(|repair| {
                    tracing::warn!(progress = repair.progress(), "repairing the store");
                })
                .create_with_backend(backend)
                .map_err(engine_error)?;
            let store = Self(db);
            store.prepare()?;
            Ok(store)
        };
        // Some kinds of damage make redb panic.
        catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|_| Err(EngineError::Corrupt("it cannot be opened".to_owned())))
    }

    /// Makes the tables of a new store; checks the format of an old one.
    fn prepare(&self) -> Result<(), EngineError> {
        let tx = self.begin()?;
        {
            let mut meta = tx.open_table(META).map_err(engine_error)?;
            let format = meta.get("format").map_err(engine_error)?.map(|f| f.value());
            match format {
                Some(FORMAT) => return Ok(()),
                Some(found) => {
                    return Err(EngineError::Format {
                        found,
                        known: FORMAT,
                    });
                }
                None => {}
            }
            meta.insert("format", FORMAT).map_err(engine_error)?;
            meta.insert("seq", epoch_start(1)).map_err(engine_error)?;
            tx.open_table(REC).map_err(engine_error)?;
            tx.open_table(KEYS).map_err(engine_error)?;
            tx.open_table(IDX).map_err(engine_error)?;
            tx.open_table(COUNTER).map_err(engine_error)?;
            tx.open_table(STREAM).map_err(engine_error)?;
            tx.open_table(HEAD).map_err(engine_error)?;
        }
        tx.commit().map_err(engine_error)
    }

    fn begin(&self) -> Result<WriteTransaction, EngineError> {
        let mut tx = self.0.begin_write().map_err(engine_error)?;
        tx.set_durability(Durability::Immediate)
            .map_err(engine_error)?;
        tx.set_quick_repair(true);
        Ok(tx)
    }
}

#[async_trait]
impl Engine for Redb {
    /// Reads inline: from a warm cache that takes microseconds a row.
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        let tx = self.0.begin_read().map_err(engine_error)?;
        questions.into_iter().map(|q| answer(&tx, q)).collect()
    }

    /// Blocks until the disk has it: for the committer's own thread.
    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        let tx = self.begin()?;
        let facts = facts(&tx, &commit::needs(group))?;
        let (changes, outcomes) = commit::decide(group, facts);
        match changes {
            Some(changes) => {
                apply(&tx, changes).map_err(engine_error)?;
                tx.commit().map_err(engine_error)?;
            }
            None => tx.abort().map_err(engine_error)?,
        }
        Ok(outcomes)
    }
}

fn answer(tx: &ReadTransaction, question: Query) -> Result<Answer, EngineError> {
    Ok(match question {
        Query::Get { coll, ids } => {
            let rec = tx.open_table(REC).map_err(engine_error)?;
            let rows = ids.into_iter().map(|id| row(&rec, coll, id));
            Answer::Rows(rows.collect::<Result<_, _>>()?)
        }
        Query::Scan(scan) => Answer::Hits(hits(tx, &scan)?),
        Query::Counter(key) => {
            let counter = tx.open_table(COUNTER).map_err(engine_error)?;
            let value = counter.get(key.as_slice()).map_err(engine_error)?;
            Answer::Counter(value.map_or(0, |v| v.value()))
        }
        Query::Tail {
            stream,
            before,
            limit,
        } => {
            let entries = tx.open_table(STREAM).map_err(engine_error)?;
            let range = entries
                .range((stream, 0)..(stream, before))
                .map_err(engine_error)?;
            let newest = range.rev().take(limit).map(|item| {
                let (key, value) = item.map_err(engine_error)?;
                let (link, doc) = value.value();
                let doc = Bytes::copy_from_slice(doc);
                Ok(Entry {
                    number: key.value().1,
                    doc,
                    link: *link,
                })
            });
            Answer::Entries(newest.collect::<Result<_, EngineError>>()?)
        }
    })
}

fn row(
    rec: &impl ReadableTable<RowName, Stored>,
    coll: Coll,
    id: Id,
) -> Result<Option<Row>, EngineError> {
    let found = rec.get((coll.0, id.as_str())).map_err(engine_error)?;
    Ok(found.map(|guard| {
        let (version, doc) = guard.value();
        Row {
            version,
            doc: Bytes::copy_from_slice(doc),
            id,
        }
    }))
}

fn hits(tx: &ReadTransaction, scan: &Scan) -> Result<Vec<Hit>, EngineError> {
    let idx = tx.open_table(IDX).map_err(engine_error)?;
    let rec = tx.open_table(REC).map_err(engine_error)?;
    let after = scan
        .after
        .as_ref()
        .map(|(key, id)| (key.as_slice(), id.as_str()));
    let start = match after {
        Some((key, id)) if key >= scan.prefix.as_slice() => Bound::Excluded((key, id)),
        _ => Bound::Included((scan.prefix.as_slice(), "")),
    };
    let mut hits = Vec::new();
    for place in holders(&idx, scan.index.name, start)? {
        let (key, id) = place?;
        let ended = !key.starts_with(&scan.prefix)
            || scan.below.as_ref().is_some_and(|below| key >= *below)
            || hits.len() >= scan.limit;
        if ended {
            break;
        }
        let missing = || EngineError::Corrupt(format!("{} names a missing row", scan.index.name));
        let row = row(&rec, scan.index.coll, id)?.ok_or_else(missing)?;
        hits.push(Hit { key, row });
    }
    Ok(hits)
}

/// Holders of one index from `start` on, by (key, id).
fn holders<'a>(
    idx: &'a impl ReadableTable<IndexEntry, ()>,
    index: &'static str,
    start: Bound<(&[u8], &str)>,
) -> Result<impl Iterator<Item = Result<(Vec<u8>, Id), EngineError>> + 'a, EngineError> {
    let start = start.map(|(key, id)| (index, key, id));
    let range = idx
        .range::<(&str, &[u8], &str)>((start, Bound::Unbounded))
        .map_err(engine_error)?;
    Ok(range
        .map(move |item| {
            let (entry, _) = item.map_err(engine_error)?;
            let (name, key, id) = entry.value();
            if name != index {
                return Ok(None);
            }
            let bad = |_| EngineError::Corrupt(format!("{index} holds a bad id"));
            Ok(Some((key.to_vec(), id.parse::<Id>().map_err(bad)?)))
        })
        .map_while(Result::transpose))
}

fn facts(tx: &WriteTransaction, needs: &Needs) -> Result<Facts, EngineError> {
    let meta = tx.open_table(META).map_err(engine_error)?;
    let seq = meta
        .get("seq")
        .map_err(engine_error)?
        .map(|seq| seq.value());
    let seq = seq.ok_or_else(|| EngineError::Corrupt("it has no sequence number".to_owned()))?;
    let mut facts = Facts {
        seq,
        ..Facts::default()
    };

    let rec = tx.open_table(REC).map_err(engine_error)?;
    let keys = tx.open_table(KEYS).map_err(engine_error)?;
    for (coll, id) in &needs.rows {
        let row = (coll.0, id.as_str());
        let Some(version) = rec.get(row).map_err(engine_error)?.map(|r| r.value().0) else {
            continue;
        };
        let held = keys.get(row).map_err(engine_error)?;
        let places = held
            .iter()
            .flat_map(|held| held.value())
            .map(|(index, key)| Place {
                index: index.to_owned(),
                key: key.to_vec(),
            });
        let fact = RowFact {
            version,
            keys: places.collect(),
        };
        facts.rows.insert((*coll, id.clone()), fact);
    }

    let idx = tx.open_table(IDX).map_err(engine_error)?;
    for probe in &needs.probes {
        let start = Bound::Included((probe.key.as_slice(), ""));
        for place in holders(&idx, probe.index.name, start)? {
            let (key, id) = place?;
            let belongs = match probe.extent {
                Extent::Exact => key == probe.key,
                Extent::Prefix => key.starts_with(&probe.key),
            };
            if !belongs {
                break;
            }
            let settled = needs.settles(probe, &id);
            facts.hold(probe.index, &key, id);
            if settled {
                break;
            }
        }
    }

    let counter = tx.open_table(COUNTER).map_err(engine_error)?;
    for key in &needs.counters {
        if let Some(value) = counter.get(key.as_slice()).map_err(engine_error)? {
            facts.counters.insert(key.clone(), value.value());
        }
    }
    let heads = tx.open_table(HEAD).map_err(engine_error)?;
    for stream in &needs.streams {
        if let Some(head) = heads.get(*stream).map_err(engine_error)? {
            let (number, link) = head.value();
            facts.heads.insert(
                stream,
                Head {
                    number,
                    link: *link,
                },
            );
        }
    }
    Ok(facts)
}

fn apply(tx: &WriteTransaction, changes: Changes) -> Result<(), redb::Error> {
    tx.open_table(META)?.insert("seq", changes.seq)?;

    let mut rec = tx.open_table(REC)?;
    let mut keys = tx.open_table(KEYS)?;
    let mut idx = tx.open_table(IDX)?;
    for ((coll, id), change) in &changes.rows {
        let row = (coll.0, id.as_str());
        match &change.row {
            Some((version, doc)) => rec.insert(row, (*version, doc.as_ref()))?,
            None => rec.remove(row)?,
        };
        for place in &change.lost {
            idx.remove((place.index.as_str(), place.key.as_slice(), id.as_str()))?;
        }
        for place in &change.gained {
            idx.insert(
                (place.index.as_str(), place.key.as_slice(), id.as_str()),
                (),
            )?;
        }
        let all: Vec<_> = change
            .keys
            .iter()
            .map(|p| (p.index.as_str(), p.key.as_slice()))
            .collect();
        if all.is_empty() {
            keys.remove(row)?;
        } else if !(change.lost.is_empty() && change.gained.is_empty()) {
            keys.insert(row, all)?;
        }
    }

    let mut counter = tx.open_table(COUNTER)?;
    for (key, value) in &changes.counters {
        counter.insert(key.as_slice(), *value)?;
    }
    let mut entries = tx.open_table(STREAM)?;
    for (stream, entry) in &changes.entries {
        entries.insert((*stream, entry.number), (&entry.link, entry.doc.as_ref()))?;
    }
    let mut heads = tx.open_table(HEAD)?;
    for (stream, head) in &changes.heads {
        heads.insert(*stream, (head.number, &head.link))?;
    }
    Ok(())
}

fn engine_error(error: impl Into<redb::Error>) -> EngineError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => EngineError::InUse("file".to_owned()),
        redb::Error::Corrupted(reason) => EngineError::Corrupt(reason),
        redb::Error::Io(e) if e.kind() == ErrorKind::InvalidData => {
            EngineError::Corrupt(e.to_string())
        }
        other => EngineError::Io(other.to_string()),
    }
}
