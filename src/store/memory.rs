//! The engine that keeps everything in memory: for simulation and tests.

use super::{
    batch::{Batch, Outcome},
    commit::{self, Changes, Extent, Facts, Head, Needs, Place, RowFact, epoch_start},
    engine::{Answer, Coll, Engine, EngineError, Entry, Hit, Query, Row, Scan},
};
use crate::id::Id;
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A store that is gone when dropped.
#[derive(Default)]
pub struct Memory(Mutex<State>);

struct State {
    seq: u64,
    rows: BTreeMap<(Coll, Id), (Bytes, RowFact)>,
    index: BTreeMap<Place, BTreeSet<Id>>,
    counters: BTreeMap<Vec<u8>, i64>,
    streams: BTreeMap<&'static str, BTreeMap<u64, Entry>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            seq: epoch_start(1),
            rows: BTreeMap::new(),
            index: BTreeMap::new(),
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
            state.apply(changes);
        }
        Ok(outcomes)
    }
}

impl State {
    fn answer(&self, question: Query) -> Answer {
        match question {
            Query::Get { coll, ids } => {
                Answer::Rows(ids.into_iter().map(|id| self.row(coll, id)).collect())
            }
            Query::Scan(scan) => Answer::Hits(self.scan(&scan)),
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

    fn scan(&self, scan: &Scan) -> Vec<Hit> {
        let after_key = scan
            .after
            .as_ref()
            .map(|(key, _)| key.as_slice())
            .unwrap_or_default();
        let start = Place {
            index: scan.index.name.to_owned(),
            key: scan.prefix.as_slice().max(after_key).to_vec(),
        };
        self.holders(&start)
            .take_while(|(key, _)| {
                key.starts_with(&scan.prefix)
                    && scan
                        .below
                        .as_ref()
                        .is_none_or(|below| *key < below.as_slice())
            })
            .filter(|(key, id)| {
                scan.after
                    .as_ref()
                    .is_none_or(|(k, i)| (*key, *id) > (k.as_slice(), i))
            })
            .filter_map(|(key, id)| {
                let row = self.row(scan.index.coll, id.clone())?;
                Some(Hit {
                    key: key.to_vec(),
                    row,
                })
            })
            .take(scan.limit)
            .collect()
    }

    /// Holders of one index from `start` on, by (key, id).
    fn holders<'a>(&'a self, start: &'a Place) -> impl Iterator<Item = (&'a [u8], &'a Id)> {
        self.index
            .range((Bound::Included(start), Bound::Unbounded))
            .take_while(|(place, _)| place.index == start.index)
            .flat_map(|(place, ids)| ids.iter().map(|id| (place.key.as_slice(), id)))
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
            let start = Place {
                index: probe.index.name.to_owned(),
                key: probe.key.clone(),
            };
            for (key, id) in self.holders(&start) {
                let belongs = match probe.extent {
                    Extent::Exact => key == probe.key,
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

    fn apply(&mut self, changes: Changes) {
        self.seq = changes.seq;
        for (row, change) in changes.rows {
            for place in change.lost {
                if let Some(ids) = self.index.get_mut(&place) {
                    ids.remove(&row.1);
                    if ids.is_empty() {
                        self.index.remove(&place);
                    }
                }
            }
            for place in change.gained {
                self.index.entry(place).or_default().insert(row.1.clone());
            }
            match change.row {
                Some((version, doc)) => {
                    self.rows.insert(
                        row,
                        (
                            doc,
                            RowFact {
                                version,
                                keys: change.keys,
                            },
                        ),
                    );
                }
                None => {
                    self.rows.remove(&row);
                }
            }
        }
        self.counters.extend(changes.counters);
        for (stream, entry) in changes.entries {
            self.streams
                .entry(stream)
                .or_default()
                .insert(entry.number, entry);
        }
    }
}
