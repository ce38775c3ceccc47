//! The engine of a standalone server: one redb file.

use super::{
    batch::{Batch, Outcome},
    commit::{
        self, Changes, Extent, Facts, Head, Needs, Place, RowFact, Stored as Fate, epoch_start,
    },
    engine::{
        Answer, Change, Coll, Engine, EngineError, Entry, Feed, Hit, Index, Query, Row, Scan,
        Snapshot,
    },
};
use crate::{clock::Time, id::Id};
use async_trait::async_trait;
use bytes::Bytes;
use redb::{
    AccessGuard, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, TableDefinition, WriteTransaction, backends::FileBackend,
};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    ops::Bound,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::time::Instant;

/// The layout of the tables below.
const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// (collection, id)
type RowName = (&'static str, &'static str);
/// (version, document)
type Stored = (u64, &'static [u8]);
/// (index, key, counted)s
type PlaceList = Vec<(&'static str, &'static [u8], Option<u16>)>;
/// (time, (collection, id)s)
type FeedRow = (i64, Vec<RowName>);
/// (link, document)
type Linked = (&'static [u8; 32], &'static [u8]);
/// (index, key, id)
type IndexEntry = (&'static str, &'static [u8], &'static str);

const REC: TableDefinition<RowName, Stored> = TableDefinition::new("rec");
/// All places of a row; no entry for a row that has none.
const KEYS: TableDefinition<RowName, PlaceList> = TableDefinition::new("keys");
const IDX: TableDefinition<IndexEntry, ()> = TableDefinition::new("idx");
/// By (index, counted beginning of its keys).
const COUNT: TableDefinition<(&str, &[u8]), u64> = TableDefinition::new("count");
/// By commit number.
const FEED: TableDefinition<u64, FeedRow> = TableDefinition::new("feed");
const COUNTER: TableDefinition<&[u8], i64> = TableDefinition::new("counter");
/// By (stream, number).
const STREAM: TableDefinition<(&str, u64), Linked> = TableDefinition::new("stream");
/// The (number, link) of a stream's newest entry.
const HEAD: TableDefinition<&str, (u64, &[u8; 32])> = TableDefinition::new("head");
/// "format"; "seq", the last sequence number given out, whose upper part is the epoch; "trimmed",
/// the newest commit that the feed has forgotten.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// A store in one file, held by one process at a time.
pub struct Redb {
    db: Database,
    /// Those that may still be held, with their deadlines.
    snapshots: Mutex<Vec<Weak<Past>>>,
}

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
            e @ (EngineError::Format { .. } | EngineError::SnapshotEnded) => e,
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
            let store = Self {
                db,
                snapshots: Mutex::default(),
            };
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
            tx.open_table(COUNT).map_err(engine_error)?;
            tx.open_table(FEED).map_err(engine_error)?;
            tx.open_table(COUNTER).map_err(engine_error)?;
            tx.open_table(STREAM).map_err(engine_error)?;
            tx.open_table(HEAD).map_err(engine_error)?;
        }
        tx.commit().map_err(engine_error)
    }

    /// How many bytes of the file are in use. Walks the whole store, which takes no commits
    /// meanwhile. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn used_bytes(&self) -> Result<u64, EngineError> {
        let tx = self.begin()?;
        let stats = tx.stats().map_err(engine_error)?;
        tx.abort().map_err(engine_error)?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    }

    fn begin(&self) -> Result<WriteTransaction, EngineError> {
        let mut tx = self.db.begin_write().map_err(engine_error)?;
        tx.set_durability(Durability::Immediate)
            .map_err(engine_error)?;
        tx.set_quick_repair(true);
        Ok(tx)
    }

    /// Lets go of snapshots past their deadline: only commits need the space they keep.
    fn end_snapshots(&self) {
        let mut held = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.retain(|past| past.upgrade().is_some_and(|past| past.lives()));
    }
}

/// A read transaction until its deadline.
struct Past {
    tx: Mutex<Option<Arc<ReadTransaction>>>,
    deadline: Instant,
}

impl Past {
    /// Whether the deadline is still to come; ends the transaction when it is not.
    fn lives(&self) -> bool {
        let lives = Instant::now() < self.deadline;
        if !lives {
            self.tx
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
        lives
    }
}

#[async_trait]
impl Snapshot for Arc<Past> {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        self.lives();
        let tx = self
            .tx
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let tx = tx.ok_or(EngineError::SnapshotEnded)?;
        questions.into_iter().map(|q| answer(&tx, q)).collect()
    }
}

#[async_trait]
impl Engine for Redb {
    /// Reads inline: from a warm cache that takes microseconds a row.
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        let tx = self.db.begin_read().map_err(engine_error)?;
        questions.into_iter().map(|q| answer(&tx, q)).collect()
    }

    /// Blocks until the disk has it: for the committer's own thread.
    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        self.end_snapshots();
        let tx = self.begin()?;
        let facts = facts(&tx, &commit::needs(group))?;
        let (changes, outcomes) = commit::decide(group, facts);
        match changes {
            Some(changes) => {
                apply(&tx, changes)?;
                tx.commit().map_err(engine_error)?;
            }
            None => tx.abort().map_err(engine_error)?,
        }
        Ok(outcomes)
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        let tx = self.db.begin_read().map_err(engine_error)?;
        let past = Arc::new(Past {
            tx: Mutex::new(Some(Arc::new(tx))),
            deadline,
        });
        let mut held = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.retain(|past| past.strong_count() > 0);
        held.push(Arc::downgrade(&past));
        Ok(Box::new(past))
    }
}

fn answer(tx: &ReadTransaction, question: Query) -> Result<Answer, EngineError> {
    Ok(match question {
        Query::Get { coll, ids } => {
            let rec = tx.open_table(REC).map_err(engine_error)?;
            let rows = ids.into_iter().map(|id| row(&rec, coll, id));
            Answer::Rows(rows.collect::<Result<_, _>>()?)
        }
        Query::All { coll, after, limit } => Answer::All(all(tx, coll, after.as_ref(), limit)?),
        Query::Scan(scan) => Answer::Hits(hits(tx, &scan)?),
        Query::Held { index, from, below } => {
            let idx = tx.open_table(IDX).map_err(engine_error)?;
            let to = below.as_deref().map(|below| (below, ""));
            let to = to.map_or(Bound::Unbounded, Bound::Excluded);
            let held = entries(&idx, index.name, Bound::Included((from.as_slice(), "")), to)?;
            Answer::Held(held.count() as u64)
        }
        Query::Counts {
            index,
            from,
            below,
            limit,
        } => Answer::Counts(counts(tx, index, &from, below.as_deref(), limit)?),
        Query::Feed { after, limit } => Answer::Feed(feed(tx, after, limit)?),
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

/// The rows of a collection after one id.
fn all(
    tx: &ReadTransaction,
    coll: Coll,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Row>, EngineError> {
    let rec = tx.open_table(REC).map_err(engine_error)?;
    let start = match after {
        Some(id) => Bound::Excluded((coll.0, id.as_str())),
        None => Bound::Included((coll.0, "")),
    };
    let range = rec
        .range::<(&str, &str)>((start, Bound::Unbounded))
        .map_err(engine_error)?;
    let rows = range.map(|item| {
        let (name, stored) = item.map_err(engine_error)?;
        let (of, id) = name.value();
        if of != coll.0 {
            return Ok(None);
        }
        let (version, doc) = stored.value();
        Ok(Some(Row {
            id: parsed(id, coll.0)?,
            version,
            doc: Bytes::copy_from_slice(doc),
        }))
    });
    rows.map_while(Result::transpose).take(limit).collect()
}

fn hits(tx: &ReadTransaction, scan: &Scan) -> Result<Vec<Hit>, EngineError> {
    let idx = tx.open_table(IDX).map_err(engine_error)?;
    let rec = tx.open_table(REC).map_err(engine_error)?;
    let after = scan
        .after
        .as_ref()
        .map(|(key, id)| (key.as_slice(), id.as_str()));
    let first = (scan.from.as_slice(), "");
    let last = scan.below.as_deref().map(|below| (below, ""));
    let (mut from, mut to) = (
        Bound::Included(first),
        last.map_or(Bound::Unbounded, Bound::Excluded),
    );
    match after {
        Some(after) if scan.backward && last.is_none_or(|last| after < last) => {
            to = Bound::Excluded(after);
        }
        Some(after) if !scan.backward && after >= first => from = Bound::Excluded(after),
        _ => {}
    }
    let hit = |entry: Result<AccessGuard<'_, IndexEntry>, EngineError>| {
        let (key, id) = holder(&entry?)?;
        let missing = || EngineError::Corrupt(format!("{} names a missing row", scan.index.name));
        let row = row(&rec, scan.index.coll, id)?.ok_or_else(missing)?;
        Ok(Hit { key, row })
    };
    let entries = entries(&idx, scan.index.name, from, to)?;
    let (skip, limit) = (scan.skip, scan.limit);
    if scan.backward {
        entries.rev().skip(skip).take(limit).map(hit).collect()
    } else {
        entries.skip(skip).take(limit).map(hit).collect()
    }
}

/// The entries of one index within bounds on (key, id), in their order.
fn entries<'a, T: ReadableTable<IndexEntry, ()>>(
    idx: &'a T,
    index: &'static str,
    from: Bound<(&[u8], &str)>,
    to: Bound<(&[u8], &str)>,
) -> Result<
    impl DoubleEndedIterator<Item = Result<AccessGuard<'a, IndexEntry>, EngineError>> + use<'a, T>,
    EngineError,
> {
    // No index name begins with another and a NUL, so this follows all entries of the index.
    let next = format!("{index}\0");
    let from = from.map(|(key, id)| (index, key, id));
    let to = match to {
        Bound::Unbounded => Bound::Excluded((next.as_str(), &[][..], "")),
        to => to.map(|(key, id)| (index, key, id)),
    };
    let range = idx
        .range::<(&str, &[u8], &str)>((from, to))
        .map_err(engine_error)?;
    Ok(range.map(|item| item.map(|(entry, _)| entry).map_err(engine_error)))
}

/// Key and holder of an entry.
fn holder(entry: &AccessGuard<'_, IndexEntry>) -> Result<(Vec<u8>, Id), EngineError> {
    let (index, key, id) = entry.value();
    Ok((key.to_vec(), parsed(id, index)?))
}

fn parsed(id: &str, of: &str) -> Result<Id, EngineError> {
    id.parse()
        .map_err(|_| EngineError::Corrupt(format!("{of} holds a bad id")))
}

fn counts(
    tx: &ReadTransaction,
    index: Index,
    from: &[u8],
    below: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, u64)>, EngineError> {
    let count = tx.open_table(COUNT).map_err(engine_error)?;
    let range = count
        .range::<(&str, &[u8])>((index.name, from)..)
        .map_err(engine_error)?;
    let counts = range.map(|item| {
        let (start, n) = item.map_err(engine_error)?;
        let (name, start) = start.value();
        let belongs = name == index.name && below.is_none_or(|below| start < below);
        Ok(belongs.then(|| (start.to_vec(), n.value())))
    });
    counts.map_while(Result::transpose).take(limit).collect()
}

fn feed(tx: &ReadTransaction, after: u64, limit: usize) -> Result<Feed, EngineError> {
    let meta = tx.open_table(META).map_err(engine_error)?;
    let trimmed = meta.get("trimmed").map_err(engine_error)?;
    match trimmed.map(|t| t.value()) {
        Some(upto) if after < upto => return Ok(Feed::Trimmed { upto }),
        _ => {}
    }
    let feed = tx.open_table(FEED).map_err(engine_error)?;
    let range = feed
        .range((Bound::Excluded(after), Bound::Unbounded))
        .map_err(engine_error)?;
    let changes = range.take(limit).map(|item| {
        let (seq, change) = item.map_err(engine_error)?;
        let (at, rows) = change.value();
        let rows = rows.into_iter();
        let rows = rows.map(|(coll, id)| Ok((coll.to_owned(), parsed(id, "the feed")?)));
        Ok(Change {
            seq: seq.value(),
            at: Time::from_micros(at),
            rows: rows.collect::<Result<_, EngineError>>()?,
        })
    });
    Ok(Feed::Changes(changes.collect::<Result<_, EngineError>>()?))
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
            .map(|(index, key, counted)| Place {
                index: index.to_owned(),
                key: key.to_vec(),
                counted,
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
        for entry in entries(&idx, probe.index.name, start, Bound::Unbounded)? {
            let (key, id) = holder(&entry?)?;
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

fn apply(tx: &WriteTransaction, changes: Changes) -> Result<(), EngineError> {
    let mut counts = Vec::with_capacity(changes.counts.len());
    {
        let table = tx.open_table(COUNT).map_err(engine_error)?;
        for (count, delta) in &changes.counts {
            let (index, start) = (count.0.as_str(), count.1.as_slice());
            let n = table.get((index, start)).map_err(engine_error)?;
            let n = n.map_or(0, |n| n.value());
            counts.push((index, start, commit::counted(count, n, *delta)?));
        }
    }
    write(tx, &changes, counts).map_err(engine_error)
}

fn write(
    tx: &WriteTransaction,
    changes: &Changes,
    counts: Vec<(&str, &[u8], u64)>,
) -> Result<(), redb::Error> {
    let mut meta = tx.open_table(META)?;
    meta.insert("seq", changes.seq)?;
    if changes.trim > 0 {
        let before = meta.get("trimmed")?.map_or(0, |t| t.value());
        if changes.trim > before {
            tx.open_table(FEED)?
                .retain_in(..=changes.trim, |_, _| false)?;
            meta.insert("trimmed", changes.trim)?;
        }
    }

    let mut rec = tx.open_table(REC)?;
    let mut keys = tx.open_table(KEYS)?;
    let mut idx = tx.open_table(IDX)?;
    for ((coll, id), change) in &changes.rows {
        let row = (coll.0, id.as_str());
        match &change.row {
            Fate::Put(version, doc) => drop(rec.insert(row, (*version, doc.as_ref()))?),
            Fate::Gone => drop(rec.remove(row)?),
            Fate::Same => {}
        }
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
            .map(|p| (p.index.as_str(), p.key.as_slice(), p.counted))
            .collect();
        if all.is_empty() {
            keys.remove(row)?;
        } else if !(change.lost.is_empty() && change.gained.is_empty()) {
            keys.insert(row, all)?;
        }
    }
    let mut count = tx.open_table(COUNT)?;
    for (index, start, n) in counts {
        match n {
            0 => drop(count.remove((index, start))?),
            n => drop(count.insert((index, start), n)?),
        }
    }
    let mut feed = tx.open_table(FEED)?;
    for change in changes.feed.iter().filter(|c| c.seq > changes.trim) {
        let rows = change.rows.iter();
        let rows: Vec<_> = rows
            .map(|(coll, id)| (coll.as_str(), id.as_str()))
            .collect();
        feed.insert(change.seq, (change.at.micros(), rows))?;
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
