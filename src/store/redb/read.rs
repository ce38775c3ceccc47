//! Answers out of a read transaction.

use super::{
    engine_error,
    tables::{COUNT, COUNTER, FEED, IDX, IndexEntry, KEYS, META, REC, RowName, STREAM, Stored},
};
use crate::{
    clock::Time,
    id::Id,
    store::{
        batch::IndexKey,
        engine::{Answer, Change, Coll, EngineError, Entry, Feed, Hit, Index, Query, Row, Scan},
    },
};
use bytes::Bytes;
use redb::{AccessGuard, ReadTransaction, ReadableTable};
use std::ops::Bound;

/// The answer to a question.
pub fn answer(tx: &ReadTransaction, question: Query) -> Result<Answer, EngineError> {
    Ok(match question {
        Query::Get { coll, ids } => {
            let rec = tx.open_table(REC).map_err(engine_error)?;
            let rows = ids.into_iter().map(|id| row(&rec, coll, id));
            Answer::Rows(rows.collect::<Result<_, _>>()?)
        }
        Query::All { coll, after, limit } => Answer::All(all(tx, coll, after.as_ref(), limit)?),
        Query::Scan(scan) => Answer::Hits(hits(tx, &scan)?),
        Query::Keys { scan, of } => Answer::Keys(keys(tx, &scan, &of)?),
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
        Query::EveryRow { after, limit } => Answer::EveryRow(every_row(tx, after.as_ref(), limit)?),
        Query::EveryCounter { after, limit } => {
            let counter = tx.open_table(COUNTER).map_err(engine_error)?;
            let after = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let range = counter
                .range::<&[u8]>((after, Bound::Unbounded))
                .map_err(engine_error)?;
            let counters = range.take(limit).map(|item| {
                let (key, value) = item.map_err(engine_error)?;
                Ok((key.value().to_vec(), value.value()))
            });
            Answer::EveryCounter(counters.collect::<Result<_, EngineError>>()?)
        }
        Query::EveryEntry { after, limit } => {
            Answer::EveryEntry(every_entry(tx, after.as_ref(), limit)?)
        }
        Query::Sequence => Answer::Sequence(last(&tx.open_table(META).map_err(engine_error)?)?),
    })
}

/// The last sequence number given out.
pub fn last(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, EngineError> {
    let seq = meta.get("seq").map_err(engine_error)?;
    seq.map(|seq| seq.value())
        .ok_or_else(|| EngineError::Corrupt("it has no sequence number".to_owned()))
}

fn every_row(
    tx: &ReadTransaction,
    after: Option<&(String, Id)>,
    limit: usize,
) -> Result<Vec<(String, Row)>, EngineError> {
    let rec = tx.open_table(REC).map_err(engine_error)?;
    let after = after.map(|(coll, id)| (coll.as_str(), id.as_str()));
    let after = after.map_or(Bound::Unbounded, Bound::Excluded);
    let range = rec
        .range::<(&str, &str)>((after, Bound::Unbounded))
        .map_err(engine_error)?;
    let rows = range.take(limit).map(|item| {
        let (name, stored) = item.map_err(engine_error)?;
        let ((coll, id), (version, doc)) = (name.value(), stored.value());
        let row = Row {
            id: parsed(id, coll)?,
            version,
            doc: Bytes::copy_from_slice(doc),
        };
        Ok((coll.to_owned(), row))
    });
    rows.collect()
}

fn every_entry(
    tx: &ReadTransaction,
    after: Option<&(String, u64)>,
    limit: usize,
) -> Result<Vec<(String, Entry)>, EngineError> {
    let entries = tx.open_table(STREAM).map_err(engine_error)?;
    let after = after.map(|(stream, number)| (stream.as_str(), *number));
    let after = after.map_or(Bound::Unbounded, Bound::Excluded);
    let range = entries
        .range::<(&str, u64)>((after, Bound::Unbounded))
        .map_err(engine_error)?;
    let entries = range.take(limit).map(|item| {
        let (key, value) = item.map_err(engine_error)?;
        let ((stream, number), (link, doc)) = (key.value(), value.value());
        let entry = Entry {
            number,
            doc: Bytes::copy_from_slice(doc),
            link: *link,
        };
        Ok((stream.to_owned(), entry))
    });
    entries.collect()
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
    let rec = tx.open_table(REC).map_err(engine_error)?;
    walk(tx, scan, |key, id| {
        let missing = || EngineError::Corrupt(format!("{} names a missing row", scan.index.name));
        let row = row(&rec, scan.index.coll, id)?.ok_or_else(missing)?;
        Ok(Hit { key, row })
    })
}

fn keys(
    tx: &ReadTransaction,
    scan: &Scan,
    of: &[Index],
) -> Result<Vec<(Id, Vec<IndexKey>)>, EngineError> {
    let keys = tx.open_table(KEYS).map_err(engine_error)?;
    walk(tx, scan, |_, id| {
        let held = keys
            .get((scan.index.coll.0, id.as_str()))
            .map_err(engine_error)?;
        let mut found = Vec::with_capacity(of.len());
        for (name, key, _) in held.iter().flat_map(|held| held.value()) {
            if let Some(index) = of.iter().find(|index| index.name == name) {
                let (index, key) = (*index, key.to_vec());
                found.push(IndexKey { index, key });
            }
        }
        Ok((id, found))
    })
}

/// What `see` makes of each (key, holder) of a walk.
fn walk<T>(
    tx: &ReadTransaction,
    scan: &Scan,
    see: impl Fn(Vec<u8>, Id) -> Result<T, EngineError>,
) -> Result<Vec<T>, EngineError> {
    let idx = tx.open_table(IDX).map_err(engine_error)?;
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
    let see = |entry: Result<AccessGuard<'_, IndexEntry>, EngineError>| {
        let (key, id) = holder(&entry?)?;
        see(key, id)
    };
    let entries = entries(&idx, scan.index.name, from, to)?;
    let (skip, limit) = (scan.skip, scan.limit);
    if scan.backward {
        entries.rev().skip(skip).take(limit).map(see).collect()
    } else {
        entries.skip(skip).take(limit).map(see).collect()
    }
}

/// The entries of one index within bounds on (key, id), in their order.
pub fn entries<'a, T: ReadableTable<IndexEntry, ()>>(
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
pub fn holder(entry: &AccessGuard<'_, IndexEntry>) -> Result<(Vec<u8>, Id), EngineError> {
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
