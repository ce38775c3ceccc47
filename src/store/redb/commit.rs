//! The facts that a group needs, and the changes it makes, in a write transaction.

use super::{
    engine_error,
    read::{entries, holder, last},
    tables::{COUNT, COUNTER, FEED, HEAD, IDX, KEYS, META, REC, STREAM},
};
use crate::store::{
    commit::{self, Changes, Extent, Facts, Head, LOADING, Needs, Place, RowFact, Stored},
    engine::{EngineError, Load},
};
use redb::{ReadableTable, WriteTransaction};
use std::ops::Bound;

/// Reads what deciding the group needs.
pub fn facts(tx: &WriteTransaction, needs: &Needs) -> Result<Facts, EngineError> {
    let seq = last(&tx.open_table(META).map_err(engine_error)?)?;
    if seq == LOADING {
        return Err(EngineError::HalfLoaded);
    }
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

/// Writes what was decided.
pub fn apply(tx: &WriteTransaction, changes: Changes) -> Result<(), EngineError> {
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
            Stored::Put(version, doc) => drop(rec.insert(row, (*version, doc.as_ref()))?),
            Stored::Gone => drop(rec.remove(row)?),
            Stored::Same => {}
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
        match value {
            None => drop(counter.remove(key.as_slice())?),
            Some(value) => drop(counter.insert(key.as_slice(), *value)?),
        }
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

/// Takes over a part of another store.
pub fn load(tx: &WriteTransaction, part: Load) -> Result<(), EngineError> {
    let mut meta = tx.open_table(META).map_err(engine_error)?;
    let seq = commit::loading(last(&meta)?, part.last)?;
    meta.insert("seq", seq).map_err(engine_error)?;
    if let Some(last) = part.last {
        meta.insert("trimmed", last).map_err(engine_error)?;
    }
    put(tx, &part).map_err(engine_error)
}

fn put(tx: &WriteTransaction, part: &Load) -> Result<(), redb::Error> {
    let mut rec = tx.open_table(REC)?;
    for (coll, row) in &part.rows {
        rec.insert(
            (coll.as_str(), row.id.as_str()),
            (row.version, row.doc.as_ref()),
        )?;
    }
    for (coll, id) in &part.gone {
        rec.remove((coll.as_str(), id.as_str()))?;
    }
    let mut counter = tx.open_table(COUNTER)?;
    for (key, value) in &part.counters {
        counter.insert(key.as_slice(), *value)?;
    }
    let mut entries = tx.open_table(STREAM)?;
    let mut heads = tx.open_table(HEAD)?;
    for (stream, entry) in &part.entries {
        let stream = stream.as_str();
        entries.insert((stream, entry.number), (&entry.link, entry.doc.as_ref()))?;
        heads.insert(stream, (entry.number, &entry.link))?;
    }
    Ok(())
}
