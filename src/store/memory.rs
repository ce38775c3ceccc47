//! The engine that keeps everything in memory: for simulation and tests.

use super::{
    batch::{Batch, IndexKey, Outcome},
    commit::{
        self, Changes, Count, Extent, Facts, Head, Needs, Place, RowFact, Stored, epoch_start,
    },
    engine::{
        Answer, Change, Coll, Engine, EngineError, Entry, Feed, Hit, Index, Query, Row, Scan,
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
    rows: BTreeMap<(Coll, Id), (Bytes, RowFact)>,
    /// Holders by index name and key.
    index: BTreeMap<String, BTreeMap<Vec<u8>, BTreeSet<Id>>>,
    counts: BTreeMap<Count, u64>,
    feed: BTreeMap<u64, Change>,
    trimmed: u64,
    counters: BTreeMap<Vec<u8>, i64>,
    streams: BTreeMap<&'static str, BTreeMap<u64, Entry>>,
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
        }
    }

    fn row(&self, coll: Coll, id: Id) -> Option<Row> {
        let key = (coll, id);
        let (doc, fact) = self.rows.get(&key)?;
        Some(Row {
            version: fact.version,
            doc: doc.clone(),
            id: key.1,
        })
    }

    fn all(&self, coll: Coll, after: Option<Id>, limit: usize) -> Vec<Row> {
        let of_coll = self.rows.iter().filter(|((c, _), _)| *c == coll);
        of_coll
            .filter(|((_, id), _)| after.as_ref().is_none_or(|after| id > after))
            .take(limit)
            .map(|((_, id), (doc, fact))| Row {
                id: id.clone(),
                version: fact.version,
                doc: doc.clone(),
            })
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
            let (_, fact) = self.rows.get(&(scan.index.coll, id.clone()))?;
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
            if let Some((_, fact)) = self.rows.get(row) {
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
            let entries = self.streams.get(stream);
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
        for (row, change) in changes.rows {
            for Place { index, key, .. } in change.lost {
                let places = self.index.entry(index).or_default();
                if let Some(holders) = places.get_mut(&key) {
                    holders.remove(&row.1);
                    if holders.is_empty() {
                        places.remove(&key);
                    }
                }
            }
            for Place { index, key, .. } in change.gained {
                let places = self.index.entry(index).or_default();
                places.entry(key).or_default().insert(row.1.clone());
            }
            match change.row {
                Stored::Put(version, doc) => {
                    let keys = change.keys;
                    self.rows.insert(row, (doc, RowFact { version, keys }));
                }
                Stored::Same => {
                    if let Some((_, fact)) = self.rows.get_mut(&row) {
                        fact.keys = change.keys;
                    }
                }
                Stored::Gone => {
                    self.rows.remove(&row);
                }
            }
        }
        self.counters.extend(changes.counters);
        let feed = changes.feed.into_iter().map(|change| (change.seq, change));
        self.feed.extend(feed);
        if changes.trim > self.trimmed {
            self.trimmed = changes.trim;
            self.feed = self.feed.split_off(&(self.trimmed + 1));
        }
        for (stream, entry) in changes.entries {
            self.streams
                .entry(stream)
                .or_default()
                .insert(entry.number, entry);
        }
        Ok(())
    }
}
