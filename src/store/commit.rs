//! The committer: what a group of batches needs to know, and what becomes of each. Pure, and the
//! same for every engine; an engine only reads the facts and applies the changes.

use super::{
    batch::{
        Batch, Committed, CounterChange, CounterOp, Doc, Expect, IndexKey, Outcome, Refusal, Write,
    },
    engine::{Change, Coll, EngineError, Entry, Index},
};
use crate::{clock::Time, id::Id};
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The sequence number before the first commit of an epoch. A restore starts a new epoch, so a
/// version seen before it never comes again.
pub const fn epoch_start(epoch: u32) -> u64 {
    (epoch as u64) << 40
}

/// So long is an epoch that is counted by time. Numbers are signed in documents and databases, which
/// leaves 23 bits for epochs: 79 years of these.
const SLOT: u64 = 300;

/// The sequence number before the first commit of a life that begins so long after the earliest
/// time there is. Another life that begins a second later has other numbers: no store commits a
/// billion times in a second, nor fills the upper half of its epoch within its time.
const fn epoch_at(time: Duration) -> u64 {
    let seconds = time.as_secs();
    ((seconds / SLOT) << 40) + ((seconds % SLOT) << 30)
}

/// The sequence number before the first commit of a life that begins at `time`,
/// after one that came to `seq`: in a later epoch, at the place of its second.
pub fn next_life(seq: u64, time: Duration) -> u64 {
    let (next, at) = ((seq >> 40) + 1, epoch_at(time));
    (next.max(at >> 40) << 40) | (at & ((1 << 40) - 1))
}

/// The sequence number of a store while it is being loaded.
pub const LOADING: u64 = 0;

/// The sequence number that a part of a load leaves behind it.
///
/// # Errors
/// [`EngineError::NotEmpty`] where `seq` is that of a store that something was committed to.
pub fn loading(seq: u64, last: Option<u64>) -> Result<u64, EngineError> {
    if seq == LOADING || seq == epoch_start(1) {
        Ok(last.unwrap_or(LOADING))
    } else {
        Err(EngineError::NotEmpty)
    }
}

/// A key's place among all indexes. Engines keep those of each row beside it, so that a row can be
/// unindexed by a program that no longer knows the index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The index's name.
    pub index: String,
    /// The key.
    pub key: Vec<u8>,
    /// How the index counted when the key was put there ([`Index::counted`]).
    pub counted: Option<u16>,
}

impl Place {
    fn new(index: Index, key: &[u8]) -> Self {
        Self {
            index: index.name.to_owned(),
            key: key.to_vec(),
            counted: index.counted,
        }
    }

    /// The count it belongs to: (index, beginning of the key).
    fn count(&self) -> Option<Count> {
        let length = self.key.len().min(self.counted?.into());
        Some((self.index.clone(), self.key[..length].to_vec()))
    }

    /// As a key of one of some indexes.
    pub fn among(&self, indexes: &[Index]) -> Option<IndexKey> {
        let index = *indexes.iter().find(|index| index.name == self.index)?;
        Some(IndexKey {
            index,
            key: self.key.clone(),
        })
    }

    fn begins_with(&self, start: &Self) -> bool {
        self.index == start.index && self.key.starts_with(&start.key)
    }
}

/// Which keys of an index a probe is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// This key alone.
    Exact,
    /// All that begin with it.
    Prefix,
}

/// A question about who holds a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// The index.
    pub index: Index,
    /// The key or its beginning.
    pub key: Vec<u8>,
    /// Which of the two.
    pub extent: Extent,
}

/// What must be read to decide a group.
#[derive(Debug, Default)]
pub struct Needs {
    /// Rows: version and index keys, where they exist.
    pub rows: BTreeSet<(Coll, Id)>,
    /// Holders of keys, in the order (key, id), up to and including the first that
    /// [settles](Self::settles) the question.
    pub probes: BTreeSet<Probe>,
    /// Counters.
    pub counters: BTreeSet<Vec<u8>>,
    /// Heads of streams.
    pub streams: BTreeSet<&'static str>,
    written: BTreeSet<(Coll, Id)>,
}

impl Needs {
    /// Whether no later holder matters after this one: no batch of the group can take the key
    /// from a row that none of them writes.
    pub fn settles(&self, probe: &Probe, holder: &Id) -> bool {
        !self.written.contains(&(probe.index.coll, holder.clone()))
    }

    /// The rows that some batch of the group writes; they are among [`rows`](Self::rows).
    pub fn written(&self) -> &BTreeSet<(Coll, Id)> {
        &self.written
    }
}

/// A row as the committer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFact {
    /// Its version.
    pub version: u64,
    /// All its index keys.
    pub keys: BTreeSet<Place>,
}

/// The newest entry of a stream; all zero before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its link.
    pub link: [u8; 32],
}

/// What an engine read for [`Needs`], all from one moment.
#[derive(Debug, Default)]
pub struct Facts {
    /// The last sequence number given out.
    pub seq: u64,
    /// The engine's own time, where several servers share it: their clocks may differ.
    pub now: Option<Time>,
    /// The rows that exist.
    pub rows: BTreeMap<(Coll, Id), RowFact>,
    /// Who holds the probed keys.
    pub held: BTreeMap<Place, BTreeSet<Id>>,
    /// The counters that exist; any other is 0.
    pub counters: BTreeMap<Vec<u8>, i64>,
    /// The streams that exist.
    pub heads: BTreeMap<&'static str, Head>,
}

impl Facts {
    /// Notes a holder of a probed key.
    pub fn hold(&mut self, index: Index, key: &[u8], id: Id) {
        self.held
            .entry(Place::new(index, key))
            .or_default()
            .insert(id);
    }
}

/// A number that a counted index keeps: (index, beginning of its keys).
pub type Count = (String, Vec<u8>);

/// What becomes of a row's version and document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// They are these.
    Put(u64, Bytes),
    /// The row goes.
    Gone,
    /// They stay.
    Same,
}

/// What a row becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// Version and document.
    pub row: Stored,
    /// All its index keys from now on.
    pub keys: BTreeSet<Place>,
    /// Keys it held and no longer does.
    pub lost: Vec<Place>,
    /// Keys it did not hold before.
    pub gained: Vec<Place>,
}

/// What an engine has to write, as one durable step.
#[derive(Debug, Default)]
pub struct Changes {
    /// The last sequence number given out.
    pub seq: u64,
    /// Rows, each once, as the group's last writer left it.
    pub rows: BTreeMap<(Coll, Id), RowChange>,
    /// What is to be added to counts, where that is not 0. A count that becomes 0 is removed.
    pub counts: BTreeMap<Count, i64>,
    /// Counters' new values; `None`: it is forgotten.
    pub counters: BTreeMap<Vec<u8>, Option<i64>>,
    /// The feed's new rows, in order.
    pub feed: Vec<Change>,
    /// The feed forgets commits up to this number, 0 for none.
    pub trim: u64,
    /// New entries, in order.
    pub entries: Vec<(&'static str, Entry)>,
    /// New heads of the streams that grew.
    pub heads: BTreeMap<&'static str, Head>,
}

/// What a group requires to be read.
pub fn needs(group: &[Batch]) -> Needs {
    let mut needs = Needs::default();
    for batch in group {
        for write in &batch.writes {
            let row = (write.coll, write.id.clone());
            needs.written.insert(row.clone());
            needs.rows.insert(row);
            let unique = write.keys.iter().filter(|k| k.index.unique);
            needs.probes.extend(unique.map(|k| Probe {
                index: k.index,
                key: k.key.clone(),
                extent: Extent::Exact,
            }));
        }
        let asserted = batch.asserts.iter();
        needs
            .rows
            .extend(asserted.map(|(coll, id, _)| (*coll, id.clone())));
        needs
            .probes
            .extend(batch.none.iter().map(|(index, prefix)| Probe {
                index: *index,
                key: prefix.clone(),
                extent: Extent::Prefix,
            }));
        needs
            .counters
            .extend(batch.counters.iter().map(|c| c.key.clone()));
        needs.streams.extend(batch.append.iter().map(|a| a.stream));
    }
    needs
}

/// Decides a group in order; a later batch sees what earlier accepted ones did, and a refused one
/// leaves no trace. Returns what to write, `None` when nothing was accepted, and each batch's
/// outcome.
pub fn decide(group: &[Batch], facts: Facts) -> (Option<Changes>, Vec<Outcome>) {
    let mut state = State {
        facts,
        changes: Changes::default(),
    };
    let outcomes = group
        .iter()
        .map(|batch| match state.check(batch) {
            Ok(counters) => Outcome::Committed(state.apply(batch, counters)),
            Err(refusal) => Outcome::Refused(refusal),
        })
        .collect::<Vec<_>>();
    let accepted = outcomes.iter().any(|o| matches!(o, Outcome::Committed(_)));
    (accepted.then(|| state.finish()), outcomes)
}

/// The link of an entry: SHA-256 over a tag, the stream, the previous entry's link (zeros before
/// the first), the number, and the document. Lengths go before all that varies.
pub fn link(stream: &str, previous: &[u8; 32], number: u64, doc: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(b"certctl stream entry v1\0");
    hash.update(&(stream.len() as u64).to_be_bytes());
    hash.update(stream.as_bytes());
    hash.update(previous);
    hash.update(&number.to_be_bytes());
    hash.update(&(doc.len() as u64).to_be_bytes());
    hash.update(doc);
    let mut link = [0; 32];
    link.copy_from_slice(hash.finish().as_ref());
    link
}

/// A count after a change.
///
/// # Errors
/// When more is taken away than was there: what is stored contradicts itself.
pub fn counted((index, _): &Count, n: u64, delta: i64) -> Result<u64, EngineError> {
    n.checked_add_signed(delta)
        .ok_or_else(|| EngineError::Corrupt(format!("a count of {index} is too small")))
}

/// The store as the batches accepted so far have left it, as far as the group can see it.
struct State {
    facts: Facts,
    changes: Changes,
}

impl State {
    /// Whether the batch holds against the state; gives the counters' new values. Changes nothing.
    fn check(&self, batch: &Batch) -> Result<Vec<i64>, Refusal> {
        for write in &batch.writes {
            self.check_row(write.coll, &write.id, write.expect)?;
        }
        for (coll, id, expect) in &batch.asserts {
            self.check_row(*coll, id, *expect)?;
        }
        let after: BTreeMap<_, _> = batch
            .writes
            .iter()
            .map(|w| ((w.coll, &w.id), self.places(w)))
            .collect();
        for (index, prefix) in &batch.none {
            self.check_none(*index, prefix, &after)?;
        }
        self.check_unique(batch, &after)?;
        self.check_counters(&batch.counters, self.facts.now.unwrap_or(batch.at))
    }

    fn check_row(&self, coll: Coll, id: &Id, expect: Expect) -> Result<(), Refusal> {
        let found = match self.facts.rows.get(&(coll, id.clone())) {
            Some(row) => Expect::Version(row.version),
            None => Expect::Absent,
        };
        if found == expect {
            Ok(())
        } else {
            Err(Refusal::Conflict {
                coll,
                id: id.clone(),
            })
        }
    }

    /// Rows that this batch itself adds under the prefix do not count: "open one if none is open".
    fn check_none(&self, index: Index, prefix: &[u8], after: &After<'_>) -> Result<(), Refusal> {
        let start = Place::new(index, prefix);
        let under = |keys: &BTreeSet<Place>| {
            keys.range(&start..)
                .next()
                .is_some_and(|place| place.begins_with(&start))
        };
        let held = self.facts.held.range(&start..);
        let mut holders = held
            .take_while(|(place, _)| place.begins_with(&start))
            .flat_map(|(_, ids)| ids);
        match holders.find(|id| after.get(&(index.coll, *id)).is_none_or(under)) {
            None => Ok(()),
            Some(holder) => Err(Refusal::Occupied {
                index,
                holder: holder.clone(),
            }),
        }
    }

    fn check_unique(&self, batch: &Batch, after: &After<'_>) -> Result<(), Refusal> {
        let mut claims = BTreeMap::new();
        let amended = batch.writes.iter();
        let amended = amended.filter(|w| matches!(w.doc, Doc::Amend(_)));
        let amended: BTreeSet<_> = amended.map(|w| (w.coll, &w.id)).collect();
        for write in &batch.writes {
            for key in write.keys.iter().filter(|k| k.index.unique) {
                let index = key.index;
                let place = Place::new(index, &key.key);
                let mut holders = self.facts.held.get(&place).into_iter().flatten();
                // A row that this batch writes gives up its old keys, unless they stay; its new ones
                // are claims.
                let stays = |row: &(Coll, &Id)| !after.contains_key(row) || amended.contains(row);
                if let Some(holder) = holders.find(|id| stays(&(index.coll, *id))) {
                    return Err(Refusal::Duplicate {
                        index,
                        holder: holder.clone(),
                    });
                }
                match claims.insert(place, &write.id) {
                    Some(other) if *other != write.id => {
                        return Err(Refusal::Duplicate {
                            index,
                            holder: other.clone(),
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn check_counters(&self, changes: &[CounterChange], now: Time) -> Result<Vec<i64>, Refusal> {
        let mut own = BTreeMap::new();
        let mut values = Vec::with_capacity(changes.len());
        for (counter, CounterChange { key, op }) in changes.iter().enumerate() {
            let stored = self.facts.counters.get(key).copied().unwrap_or(0);
            let value = count(*op, own.get(key).copied().unwrap_or(stored), now)
                .map_err(|retry_in| Refusal::Exhausted { counter, retry_in })?;
            own.insert(key, value);
            values.push(value);
        }
        Ok(values)
    }

    /// Takes over a batch that was checked against this very state.
    fn apply(&mut self, batch: &Batch, counters: Vec<i64>) -> Committed {
        self.facts.seq += 1;
        let version = self.facts.seq;
        for write in &batch.writes {
            self.write(write, version);
        }
        for (change, value) in batch.counters.iter().zip(&counters) {
            self.facts.counters.insert(change.key.clone(), *value);
            let kept = (!matches!(change.op, CounterOp::Forget)).then_some(*value);
            self.changes.counters.insert(change.key.clone(), kept);
        }
        for append in &batch.append {
            let head = self.facts.heads.entry(append.stream).or_default();
            let number = head.number + 1;
            let link = link(append.stream, &head.link, number, &append.doc);
            *head = Head { number, link };
            self.changes.heads.insert(append.stream, *head);
            let entry = Entry {
                number,
                doc: append.doc.clone(),
                link,
            };
            self.changes.entries.push((append.stream, entry));
        }
        let changed = batch.writes.iter().filter(|w| w.doc.is_news());
        self.changes.feed.push(Change {
            seq: version,
            at: batch.at,
            rows: changed
                .map(|w| (w.coll.0.to_owned(), w.id.clone()))
                .collect(),
        });
        self.changes.trim = self.changes.trim.max(batch.trim.min(version));
        Committed { version, counters }
    }

    fn write(&mut self, write: &Write, version: u64) {
        let row = (write.coll, write.id.clone());
        let new = self.places(write);
        let (before, old) = match self.facts.rows.remove(&row) {
            Some(fact) => (fact.version, fact.keys),
            None => (version, BTreeSet::new()),
        };
        for place in old.difference(&new) {
            if let Some(ids) = self.facts.held.get_mut(place) {
                ids.remove(&write.id);
            }
        }
        for place in new.difference(&old) {
            self.facts
                .held
                .entry(place.clone())
                .or_default()
                .insert(write.id.clone());
        }
        let version = if write.doc.is_news() { version } else { before };
        if write.doc != Doc::Delete {
            let keys = new.clone();
            self.facts
                .rows
                .insert(row.clone(), RowFact { version, keys });
        }
        let change = self.changes.rows.entry(row).or_insert_with(|| RowChange {
            row: Stored::Same,
            keys: BTreeSet::new(),
            // Until `finish`, all that the row held before the group.
            lost: old.into_iter().collect(),
            gained: Vec::new(),
        });
        match &write.doc {
            Doc::Put(doc) | Doc::Amend(doc) => change.row = Stored::Put(version, doc.clone()),
            Doc::Delete => change.row = Stored::Gone,
            Doc::Keep => {}
        }
        change.keys = new;
    }

    /// The index keys of a row as a batch leaves them.
    fn places(&self, write: &Write) -> BTreeSet<Place> {
        if let Doc::Amend(_) = write.doc {
            let row = self.facts.rows.get(&(write.coll, write.id.clone()));
            return row.map(|row| row.keys.clone()).unwrap_or_default();
        }
        let keys = write.keys.iter();
        keys.map(|k| Place::new(k.index, &k.key)).collect()
    }

    fn finish(self) -> Changes {
        let mut changes = self.changes;
        changes.seq = self.facts.seq;
        for change in changes.rows.values_mut() {
            let before: BTreeSet<_> = std::mem::take(&mut change.lost).into_iter().collect();
            change.lost = before.difference(&change.keys).cloned().collect();
            change.gained = change.keys.difference(&before).cloned().collect();
            let lost = change.lost.iter().map(|place| (place, -1));
            let gained = change.gained.iter().map(|place| (place, 1));
            for (place, n) in lost.chain(gained) {
                if let Some(count) = place.count() {
                    *changes.counts.entry(count).or_default() += n;
                }
            }
        }
        changes.counts.retain(|_, n| *n != 0);
        changes
    }
}

/// The index keys of the rows that a batch writes, as they will be.
type After<'a> = BTreeMap<(Coll, &'a Id), BTreeSet<Place>>;

/// A counter's next value at this time, or how long to wait.
fn count(op: CounterOp, value: i64, now: Time) -> Result<i64, Option<Duration>> {
    match op {
        CounterOp::Add { n, max } => match value.checked_add(n) {
            Some(sum) if sum <= max && (n > 0 || sum >= 0) => Ok(sum),
            _ => Err(None),
        },
        CounterOp::Forget if value <= now.micros() => Ok(0),
        CounterOp::Forget => Err(None),
        CounterOp::Take { cost, per, burst } => {
            let now = now.micros();
            let (full, taken) = (tokens(per, burst), tokens(per, cost));
            // More than an empty bucket can owe is from a clock that was ahead, or from a bucket
            // that was larger: this once, what is asked for is given, and leaves the bucket empty.
            // A refusal would change nothing, and so be the answer until that clock's time.
            let most = now.saturating_add(full);
            let owed_until = if value > most {
                most.saturating_sub(taken)
            } else {
                value.max(now)
            };
            let next = owed_until.saturating_add(taken);
            if next.saturating_sub(now) <= full {
                Ok(next)
            } else if cost <= burst {
                let free = Time::from_micros(next.saturating_sub(full));
                Err(Some(free.since(Time::from_micros(now))))
            } else {
                Err(None)
            }
        }
    }
}

/// Microseconds in which `n` tokens come back.
fn tokens(per: Duration, n: u32) -> i64 {
    i64::try_from(per.as_micros().saturating_mul(n.into())).unwrap_or(i64::MAX)
}
