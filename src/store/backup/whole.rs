//! A store's state into a bundle, and bundles into an empty store.

use super::{BACKUP_FORMAT, BackupError, Ending, Header, Reader, Writer, formats, read::Item};
use crate::{
    clock::Time,
    id::Id,
    store::{
        AUDIT, Answer, COLLECTIONS, Coll, Document, Engine, EngineError, Entry, Feed, Load, Query,
        Row, Snapshot,
        indexing::LAYOUT,
        migrate::{Record, Schema},
    },
};
use data_encoding::HEXLOWER;
use futures_util::{Stream, StreamExt};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
};

/// Rows and entries read at a time: few, since others wait meanwhile.
const PAGE: usize = 100;
/// Rows and entries written at a time.
const PART: usize = 2_000;
/// Bytes of documents written at a time.
const PART_BYTES: usize = 4 << 20;

/// Is told how many rows, counters and entries are done.
pub type Progress<'a> = &'a mut (dyn FnMut(u64) + Send);

/// What an increment follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// The last sequence number that is known already.
    pub seq: u64,
    /// How many events of the audit log are known already.
    pub audit_entries: u64,
}

async fn ask(state: &dyn Snapshot, question: Query) -> Result<Answer, BackupError> {
    let answers = state.read(vec![question]).await?;
    answers.into_iter().next().ok_or_else(mismatch)
}

fn mismatch() -> BackupError {
    EngineError::Corrupt("the engine answered another question".to_owned()).into()
}

impl Header {
    /// Of a state.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn of(state: &dyn Snapshot, now: Time, product: &str) -> Result<Self, BackupError> {
        let Answer::Sequence(seq) = ask(state, Query::Sequence).await? else {
            return Err(mismatch());
        };
        let link = async |before| {
            let tail = Query::Tail {
                stream: AUDIT,
                before,
                limit: 1,
            };
            match ask(state, tail).await? {
                Answer::Entries(mut entries) => Ok(entries.pop()),
                _ => Err(mismatch()),
            }
        };
        let named = |entry: Option<Entry>| match entry {
            Some(entry) => (entry.number, HEXLOWER.encode(&entry.link)),
            None => (0, String::new()),
        };
        let (audit_entries, audit_head) = named(link(u64::MAX).await?);
        let (_, store) = named(link(2).await?);
        Ok(Self {
            format: BACKUP_FORMAT,
            product: product.to_owned(),
            created_at: now,
            store,
            seq,
            since: None,
            audit_entries,
            audit_head,
            formats: formats(),
            machine_key: None,
        })
    }
}

/// Writes a state into a bundle: all of it, or what is new.
///
/// # Errors
/// When the state cannot be read or the bundle not be written; [`BackupError::NoSequel`] when the
/// store does not know any more what is new.
pub async fn capture<W: Write + Send>(
    state: &dyn Snapshot,
    since: Option<Since>,
    out: &mut Writer<W>,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let mut done = 0;
    let mut tell = |n: usize| {
        done += n as u64;
        progress(done);
    };
    match since {
        None => all_rows(state, out, &mut tell).await?,
        Some(since) => new_rows(state, since.seq, out, &mut tell).await?,
    }
    let mut after = None;
    loop {
        let limit = PAGE;
        let Answer::EveryCounter(counters) =
            ask(state, Query::EveryCounter { after, limit }).await?
        else {
            return Err(mismatch());
        };
        for (name, value) in &counters {
            out.counter(name, *value)?;
        }
        tell(counters.len());
        match counters.into_iter().next_back() {
            Some((name, _)) => after = Some(name),
            None => break,
        }
    }
    let mut after = since.map(|since| (AUDIT.to_owned(), since.audit_entries));
    loop {
        let limit = PAGE;
        let Answer::EveryEntry(entries) = ask(state, Query::EveryEntry { after, limit }).await?
        else {
            return Err(mismatch());
        };
        for (stream, entry) in &entries {
            out.entry(stream, entry)?;
        }
        tell(entries.len());
        match entries.into_iter().next_back() {
            Some((stream, entry)) => after = Some((stream, entry.number)),
            None => break,
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn all_rows<W: Write + Send>(
    state: &dyn Snapshot,
    out: &mut Writer<W>,
    tell: &mut (impl FnMut(usize) + Send),
) -> Result<(), BackupError> {
    let mut after: Option<(String, Id)> = None;
    loop {
        let limit = PAGE;
        let Answer::EveryRow(rows) = ask(state, Query::EveryRow { after, limit }).await? else {
            return Err(mismatch());
        };
        for (coll, row) in rows.iter().filter(|(coll, _)| coll != LAYOUT) {
            out.row(coll, row)?;
        }
        tell(rows.len());
        match rows.into_iter().next_back() {
            Some((coll, row)) => after = Some((coll, row.id)),
            None => return Ok(()),
        }
        tokio::task::yield_now().await;
    }
}

async fn new_rows<W: Write + Send>(
    state: &dyn Snapshot,
    since: u64,
    out: &mut Writer<W>,
    tell: &mut (impl FnMut(usize) + Send),
) -> Result<(), BackupError> {
    let mut changed: BTreeSet<(Coll, Id)> = BTreeSet::new();
    let mut after = since;
    loop {
        let limit = PAGE;
        let Answer::Feed(feed) = ask(state, Query::Feed { after, limit }).await? else {
            return Err(mismatch());
        };
        let Feed::Changes(changes) = feed else {
            return Err(BackupError::NoSequel(format!(
                "the store does not know any more what came after {since}: make a full backup"
            )));
        };
        let Some(last) = changes.last() else { break };
        after = last.seq;
        for (coll, id) in changes.into_iter().flat_map(|change| change.rows) {
            if coll == LAYOUT {
                continue;
            }
            // The sweep of a migration rewrites rows of which the feed does not tell.
            if coll == Schema::COLL.0 || coll == Record::COLL.0 {
                return Err(BackupError::NoSequel(
                    "a migration was made or undone meanwhile: make a full backup".to_owned(),
                ));
            }
            let known = COLLECTIONS.iter().find(|c| c.name() == coll);
            let known = known.ok_or_else(|| {
                BackupError::NoSequel(format!(
                    "another version of certctl wrote to {coll}: make a full backup"
                ))
            })?;
            changed.insert((Coll(known.name()), id));
        }
    }
    for (coll, id) in changed {
        let ids = vec![id.clone()];
        let Answer::Rows(rows) = ask(state, Query::Get { coll, ids }).await? else {
            return Err(mismatch());
        };
        match rows.into_iter().next().flatten() {
            Some(row) => out.row(coll.0, &row)?,
            None => out.gone(coll.0, &id)?,
        }
        tell(1);
    }
    Ok(())
}

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The header of the last bundle, with the machine key of the last one that has one: it opens
    /// what follows too.
    pub header: Header,
    /// The ending of the only bundle; `None` where increments followed a base.
    pub ending: Option<Ending>,
}

/// Loads a base and the increments that follow it, in order, into an empty store, whose next
/// commit comes after `last`. Each bundle is read to its end before the load is ended.
///
/// # Errors
/// When a bundle is not good or does not follow the one before it, or the store cannot be written
/// or is not empty; what was loaded is then no store.
pub async fn load<R: Read + Send>(
    mut bundles: impl Stream<Item = Result<Reader<R>, BackupError>> + Send + Unpin,
    engine: &dyn Engine,
    last: impl FnOnce(&Header) -> u64 + Send,
    progress: Progress<'_>,
) -> Result<Loaded, BackupError> {
    let mut loaded: Option<Loaded> = None;
    let mut before = String::new();
    let mut done = 0;
    // One at a time, so that files are open one at a time, too.
    while let Some(bundle) = bundles.next().await {
        let mut bundle = bundle?;
        let name = bundle.name().to_owned();
        let header_before = loaded.as_ref().map(|l| (before.as_str(), &l.header));
        sequel(header_before, (&name, bundle.header())).map_err(|e| e.of(&name))?;
        let ending = loop {
            let (part, ending) = next_part(&mut bundle).map_err(|e| e.of(&name))?;
            done += (part.rows.len() + part.gone.len() + part.counters.len() + part.entries.len())
                as u64;
            engine.load(part).await?;
            progress(done);
            tokio::task::yield_now().await;
            if let Some(ending) = ending {
                break ending;
            }
        };
        let mut header = bundle.header().clone();
        let alone = loaded.is_none();
        if let Some(before) = loaded
            && header.machine_key.is_none()
        {
            header.machine_key = before.header.machine_key;
        }
        loaded = Some(Loaded {
            header,
            ending: alone.then_some(ending),
        });
        before = name;
    }
    let loaded = loaded.ok_or(BackupError::NoBackup)?;
    let last = Some(last(&loaded.header));
    let end = Load {
        last,
        ..Load::default()
    };
    engine.load(end).await?;
    Ok(loaded)
}

/// Whether a bundle follows the one before it; both with what they are called.
fn sequel(
    before: Option<(&str, &Header)>,
    (name, header): (&str, &Header),
) -> Result<(), BackupError> {
    let refused = |why: &str| Err(BackupError::NoSequel(why.to_owned()));
    match (before, header.since) {
        (None, None) => Ok(()),
        (None, Some(_)) => refused("it is an increment: name the backup that it follows first"),
        (Some(_), None) => refused("it is no increment: it follows nothing"),
        (Some((named, before)), Some(since)) => {
            if before.store != header.store {
                refused("the increment is of another store")
            } else if since >> 40 != before.seq >> 40 {
                refused("a restore lies between the increment and the one before it")
            } else if since > before.seq {
                Err(BackupError::Missing {
                    before: named.to_owned(),
                    end: before.seq,
                    after: name.to_owned(),
                    since,
                })
            } else if header.seq < before.seq {
                refused("the increment is older than the one before it")
            } else {
                Ok(())
            }
        }
    }
}

/// What comes next, as much as is written at a time; with the ending where it is the last.
fn next_part<R: Read>(bundle: &mut Reader<R>) -> Result<(Load, Option<Ending>), BackupError> {
    let mut part = Load::default();
    let mut bytes = 0;
    for _ in 0..PART {
        match bundle.next_item()? {
            Err(ending) => return Ok((part, Some(ending))),
            Ok(Item::Row(coll, row)) => {
                bytes += row.doc.len();
                part.rows.push((coll, row));
            }
            Ok(Item::Gone(coll, id)) => part.gone.push((coll, id)),
            Ok(Item::Counter(name, value)) => part.counters.push((name, value)),
            Ok(Item::Entry(stream, entry)) => {
                bytes += entry.doc.len();
                part.entries.push((stream, entry));
            }
        }
        if bytes > PART_BYTES {
            break;
        }
    }
    Ok((part, None))
}

/// Compares a store with what was loaded into it: the rows of each collection, and the end of the
/// audit log.
///
/// # Errors
/// [`BackupError::Damaged`] with the first difference.
pub async fn compare(state: &dyn Snapshot, loaded: &Loaded) -> Result<(), BackupError> {
    let found = Header::of(state, loaded.header.created_at, "").await?;
    let log = |header: &Header| (header.audit_entries, header.audit_head.clone());
    if log(&found) != log(&loaded.header) {
        return Err(BackupError::Damaged(format!(
            "the audit log ends at event {}, not at {}",
            found.audit_entries, loaded.header.audit_entries
        )));
    }
    let Some(ending) = &loaded.ending else {
        return Ok(());
    };
    let mut counted = Ending::default();
    let mut after: Option<(String, Id)> = None;
    loop {
        let limit = PART;
        let Answer::EveryRow(rows) = ask(state, Query::EveryRow { after, limit }).await? else {
            return Err(mismatch());
        };
        for (coll, _) in rows.iter().filter(|(coll, _)| coll != LAYOUT) {
            *counted.rows.entry(coll.clone()).or_default() += 1;
        }
        match rows.into_iter().next_back() {
            Some((coll, Row { id, .. })) => after = Some((coll, id)),
            None => break,
        }
        tokio::task::yield_now().await;
    }
    for (coll, n) in &ending.rows {
        let found = counted.rows.get(coll).copied().unwrap_or(0);
        if found != *n {
            let what = format!("{found} rows of {coll} were restored, not {n}");
            return Err(BackupError::Damaged(what));
        }
    }
    Ok(())
}
