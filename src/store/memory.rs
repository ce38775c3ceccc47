//! The engine that keeps everything in memory: for simulation and tests.

use super::{
    batch::{Batch, IndexKey, Outcome},
    commit::{
        self, Changes, Count, Extent, Facts, Head, Needs, Place, RowFact, Stored, epoch_start,
    },
    engine::{
        Answer, Change, Coll, Engine, EngineError, Entry, Feed, Hit, Index, Load, Query, Row, Scan,
        Snapshot,
    },
};
use crate::id::Id;
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// A store that is gone when dropped.
#[derive(Default)]
pub struct Memory(Mutex<State>);

#[derive(Clone)]
struct State {
    seq: u64,
    /// By collection.
    rows: BTreeMap<String, BTreeMap<Id, (Bytes, RowFact)>>,
    /// Holders by index name and key.
    index: BTreeMap<String, BTreeMap<Vec<u8>, BTreeSet<Id>>>,
    counts: BTreeMap<Count, u64>,
    feed: BTreeMap<u64, Change>,
    trimmed: u64,
    counters: BTreeMap<Vec<u8>, i64>,
    streams: BTreeMap<String, BTreeMap<u64, Entry>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            seq: epoch_start(1),
            rows: BTreeMap::new(),
            index: BTreeMap::new(),
            counts: BTreeMap::new(),
            feed: BTreeMap::new(),
            trimmed: 0,
            counters: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Engine for Memory {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        let state = self.state();
        Ok(questions.into_iter().map(|q| state.answer(q)).collect())
    }

    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        let mut state = self.state();
        if state.seq == commit::LOADING {
            return Err(EngineError::HalfLoaded);
        }
        let facts = state.facts(&commit::needs(group));
        let (changes, outcomes) = commit::decide(group, facts);
        if let Some(changes) = changes {
            state.apply(changes)?;
        }
        Ok(outcomes)
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        let state = self.state().clone();
        Ok(Box::new(Past { state, deadline }))
    }

    async fn load(&self, part: Load) -> Result<(), EngineError> {
        let mut state = self.state();
        state.seq = commit::loading(state.seq, part.last)?;
        state.trimmed = part.last.unwrap_or(0);
        for (coll, row) in part.rows {
            let fact = RowFact {
                version: row.version,
                keys: BTreeSet::new(),
            };
            state
                .rows
                .entry(coll)
                .or_default()
                .insert(row.id, (row.doc, fact));
        }
        for (coll, id) in part.gone {
            if let Some(rows) = state.rows.get_mut(&coll) {
                rows.remove(&id);
            }
        }
        state.counters.extend(part.counters);
        for (stream, entry) in part.entries {
            let entries = state.streams.entry(stream).or_default();
            entries.insert(entry.number, entry);
        }
        Ok(())
    }
}

/// A copy of what was.
struct Past {
    state: State,
    deadline: Instant,
}

#[async_trait]
impl Snapshot for Past {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        if Instant::now() >= self.deadline {
            return Err(EngineError::SnapshotEnded);
        }
        let answers = questions.into_iter().map(|q| self.state.answer(q));
        Ok(answers.collect())
    }
}

impl State {
    fn answer(&self, question: Query) -> Answer {
        match question {
            Query::Get { coll, ids } => {
                Answer::Rows(ids.into_iter().map(|id| self.row(coll, id)).collect())
            }
            Query::All { coll, after, limit } => Answer::All(self.all(coll, after, limit)),
            Query::Scan(scan) => Answer::Hits(self.scan(&scan)),
            Query::Keys { scan, of } => Answer::Keys(self.keys(&scan, &of)),
            Query::Held { index, from, below } => {
                let held = self.holders(index, &from, below.as_deref());
                Answer::Held(held.count() as u64)
            }
            Query::Counts {
                index,
                from,
                below,
                limit,
            } => Answer::Counts(self.counts(index, from, below, limit)),
            Query::Counter(key) => Answer::Counter(self.counters.get(&key).copied().unwrap_or(0)),
            Query::Tail {
                stream,
                before,
                limit,
            } => {
                let entries = self.streams.get(stream).into_iter();
                let below = entries.flat_map(|e| e.range(..before).rev());
                Answer::Entries(below.map(|(_, entry)| entry.clone()).take(limit).collect())
            }
            Query::Feed { after, .. } if after < self.trimmed => {
                Answer::Feed(Feed::Trimmed { upto: self.trimmed })
            }
            Query::Feed { after, limit } => {
                let later = self.feed.range((Bound::Excluded(after), Bound::Unbounded));
                let changes = later.map(|(_, change)| change.clone()).take(limit);
                Answer::Feed(Feed::Changes(changes.collect()))
            }
            Query::EveryRow { after, limit } => Answer::EveryRow(self.every_row(after, limit)),
            Query::EveryCounter { after, limit } => {
                let counters = self.counters.iter();
                let later = counters.filter(|(key, _)| after.as_ref().is_none_or(|a| *key > a));
                let counters = later.map(|(key, value)| (key.clone(), *value)).take(limit);
                Answer::EveryCounter(counters.collect())
            }
            Query::EveryEntry { after, limit } => {
                Answer::EveryEntry(self.every_entry(after, limit))
            }
            Query::Sequence => Answer::Sequence(self.seq),
        }
    }

    fn stored(&self, coll: Coll, id: &Id) -> Option<&(Bytes, RowFact)> {
        self.rows.get(coll.0)?.get(id)
    }

    fn row(&self, coll: Coll, id: Id) -> Option<Row> {
        let (doc, fact) = self.stored(coll, &id)?;
        Some(Row {
            version: fact.version,
            doc: doc.clone(),
            id,
        })
    }

    fn all(&self, coll: Coll, after: Option<Id>, limit: usize) -> Vec<Row> {
        let rows = self.rows.get(coll.0).into_iter().flatten();
        rows.filter(|(id, _)| after.as_ref().is_none_or(|after| *id > after))
            .take(limit)
            .map(shown)
            .collect()
    }

    fn every_row(&self, after: Option<(String, Id)>, limit: usize) -> Vec<(String, Row)> {
        let rows = self.rows.iter();
        let rows = rows.flat_map(|(coll, rows)| rows.iter().map(move |row| (coll, row)));
        let after = after.as_ref().map(|(coll, id)| (coll, id));
        rows.filter(|(coll, (id, _))| after.is_none_or(|after| (*coll, *id) > after))
            .take(limit)
            .map(|(coll, row)| (coll.clone(), shown(row)))
            .collect()
    }

    fn every_entry(&self, after: Option<(String, u64)>, limit: usize) -> Vec<(String, Entry)> {
        let streams = self.streams.iter();
        let entries = streams.flat_map(|(name, entries)| entries.values().map(move |e| (name, e)));
        let after = after.as_ref().map(|(name, number)| (name, *number));
        entries
            .filter(|(name, entry)| after.is_none_or(|after| (*name, entry.number) > after))
            .take(limit)
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect()
    }

    fn scan(&self, scan: &Scan) -> Vec<Hit> {
        let hits = self.walk(scan).filter_map(|(key, id)| {
            let row = self.row(scan.index.coll, id.clone())?;
            Some(Hit {
                key: key.clone(),
                row,
            })
        });
        hits.collect()
    }

    fn keys(&self, scan: &Scan, of: &[Index]) -> Vec<(Id, Vec<IndexKey>)> {
        let rows = self.walk(scan).filter_map(|(_, id)| {
            let (_, fact) = self.stored(scan.index.coll, id)?;
            let held = fact.keys.iter().filter_map(|place| place.among(of));
            Some((id.clone(), held.collect()))
        });
        rows.collect()
    }

    /// The places of a walk, as (key, holder).
    fn walk<'a>(&'a self, scan: &'a Scan) -> impl Iterator<Item = (&'a Vec<u8>, &'a Id)> {
        let after = scan.after.as_ref().map(|(key, id)| (key, id));
        let within = self.holders(scan.index, &scan.from, scan.below.as_deref());
        let mut holders: Vec<_> = within.collect();
        if scan.backward {
            holders.reverse();
        }
        let beyond = holders.into_iter().filter(move |place| match after {
            None => true,
            Some(after) if scan.backward => *place < after,
            Some(after) => *place > after,
        });
        beyond.skip(scan.skip).take(scan.limit)
    }

    /// Holders of an index's keys from one on and below another, by (key, id).
    fn holders<'a>(
        &'a self,
        index: Index,
        from: &'a [u8],
        below: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Id)> {
        let places = self.index.get(index.name).into_iter();
        places
            .flat_map(|places| places.range(from.to_vec()..))
            .take_while(move |(key, _)| below.is_none_or(|below| key.as_slice() < below))
            .flat_map(|(key, ids)| ids.iter().map(move |id| (key, id)))
    }

    fn counts(
        &self,
        index: Index,
        from: Vec<u8>,
        below: Option<Vec<u8>>,
        limit: usize,
    ) -> Vec<(Vec<u8>, u64)> {
        let from = (index.name.to_owned(), from);
        let counts = self.counts.range(from..);
        counts
            .take_while(|((name, start), _)| {
                name == index.name && below.as_ref().is_none_or(|below| start < below)
            })
            .map(|((_, start), n)| (start.clone(), *n))
            .take(limit)
            .collect()
    }

    fn facts(&self, needs: &Needs) -> Facts {
        let mut facts = Facts {
            seq: self.seq,
            ..Facts::default()
        };
        for row in &needs.rows {
            if let Some((_, fact)) = self.stored(row.0, &row.1) {
                facts.rows.insert(row.clone(), fact.clone());
            }
        }
        for probe in &needs.probes {
            for (key, id) in self.holders(probe.index, &probe.key, None) {
                let belongs = match probe.extent {
                    Extent::Exact => *key == probe.key,
                    Extent::Prefix => key.starts_with(&probe.key),
                };
                if !belongs {
                    break;
                }
                facts.hold(probe.index, key, id.clone());
                if needs.settles(probe, id) {
                    break;
                }
            }
        }
        for key in &needs.counters {
            if let Some(value) = self.counters.get(key) {
                facts.counters.insert(key.clone(), *value);
            }
        }
        for stream in &needs.streams {
            let entries = self.streams.get(*stream);
            if let Some((_, last)) = entries.and_then(BTreeMap::last_key_value) {
                facts.heads.insert(
                    stream,
                    Head {
                        number: last.number,
                        link: last.link,
                    },
                );
            }
        }
        facts
    }

    fn apply(&mut self, changes: Changes) -> Result<(), EngineError> {
        for (count, delta) in changes.counts {
            let n = self.counts.entry(count.clone()).or_default();
            *n = commit::counted(&count, *n, delta)?;
            if *n == 0 {
                self.counts.remove(&count);
            }
        }
        self.seq = changes.seq;
        for ((coll, id), change) in changes.rows {
            for Place { index, key, .. } in change.lost {
                let places = self.index.entry(index).or_default();
                if let Some(holders) = places.get_mut(&key) {
                    holders.remove(&id);
                    if holders.is_empty() {
                        places.remove(&key);
                    }
                }
            }
            for Place { index, key, .. } in change.gained {
                let places = self.index.entry(index).or_default();
                places.entry(key).or_default().insert(id.clone());
            }
            let rows = self.rows.entry(coll.0.to_owned()).or_default();
            match change.row {
                Stored::Put(version, doc) => {
                    let keys = change.keys;
                    rows.insert(id, (doc, RowFact { version, keys }));
                }
                Stored::Same => {
                    if let Some((_, fact)) = rows.get_mut(&id) {
                        fact.keys = change.keys;
                    }
                }
                Stored::Gone => {
                    rows.remove(&id);
                }
            }
        }
        for (name, value) in changes.counters {
            match value {
                None => self.counters.remove(&name),
                Some(value) => self.counters.insert(name, value),
            };
        }
        let feed = changes.feed.into_iter().map(|change| (change.seq, change));
        self.feed.extend(feed);
        if changes.trim > self.trimmed {
            self.trimmed = changes.trim;
            self.feed = self.feed.split_off(&(self.trimmed + 1));
        }
        for (stream, entry) in changes.entries {
            self.streams
                .entry(stream.to_owned())
                .or_default()
                .insert(entry.number, entry);
        }
        Ok(())
    }
}

fn shown((id, (doc, fact)): (&Id, &(Bytes, RowFact))) -> Row {
    Row {
        id: id.clone(),
        version: fact.version,
        doc: doc.clone(),
    }
}
