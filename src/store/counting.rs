//! Counted work: what a use case costs, told without a clock.

use super::{
    batch::{Batch, Doc, IndexKey, Outcome},
    engine::{Answer, Coll, Engine, EngineError, Load, Query, Snapshot},
};
use crate::id::Id;
use async_trait::async_trait;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    ops::Sub,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// Work that an engine was asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Groups of batches: each waits for the disk once.
    pub groups: u64,
    /// Batches that were accepted.
    pub commits: u64,
    /// Documents written or deleted, and entries appended, by those.
    pub documents: u64,
    /// Index keys that a row gained or lost by those.
    pub index_keys: u64,
    /// Reads, each of one moment.
    pub reads: u64,
    /// Rows, entries, counts and commits of the feed that the reads returned.
    pub rows: u64,
}

impl Sub for Work {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            groups: self.groups - before.groups,
            commits: self.commits - before.commits,
            documents: self.documents - before.documents,
            index_keys: self.index_keys - before.index_keys,
            reads: self.reads - before.reads,
            rows: self.rows - before.rows,
        }
    }
}

/// An engine that counts what is asked of another, which is empty to begin with. It remembers the
/// index keys of every row.
pub struct Counting<E> {
    engine: E,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    work: Work,
    keys: BTreeMap<(Coll, Id), Vec<IndexKey>>,
}

impl<E> Counting<E> {
    /// Counts from now on.
    pub fn new(engine: E) -> Self {
        let seen = Mutex::default();
        Self { engine, seen }
    }

    /// All work so far.
    pub fn work(&self) -> Work {
        self.seen().work
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn accepted(&mut self, batch: &Batch) {
        self.work.commits += 1;
        self.work.documents += batch.append.len() as u64;
        for write in &batch.writes {
            if write.doc != Doc::Keep {
                self.work.documents += 1;
            }
            if let Doc::Amend(_) = write.doc {
                continue;
            }
            let row = (write.coll, write.id.clone());
            let before = self.keys.remove(&row).unwrap_or_default();
            let only_in = |a: &[IndexKey], b: &[IndexKey]| {
                let only = a.iter().filter(|key| !b.contains(key));
                only.count() as u64
            };
            self.work.index_keys += only_in(&before, &write.keys) + only_in(&write.keys, &before);
            if write.doc != Doc::Delete {
                self.keys.insert(row, write.keys.clone());
            }
        }
    }
}

#[async_trait]
impl<E: Engine> Engine for Counting<E> {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        let answers = self.engine.read(questions).await?;
        let rows = answers.iter().map(rows).sum::<usize>();
        let mut seen = self.seen();
        seen.work.reads += 1;
        seen.work.rows += rows as u64;
        drop(seen);
        Ok(answers)
    }

    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        let outcomes = self.engine.commit(group).await?;
        let mut seen = self.seen();
        seen.work.groups += 1;
        for (batch, outcome) in group.iter().zip(&outcomes) {
            if matches!(outcome, Outcome::Committed(_)) {
                seen.accepted(batch);
            }
        }
        drop(seen);
        Ok(outcomes)
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        self.engine.snapshot(deadline).await
    }

    /// Not counted.
    async fn load(&self, part: Load) -> Result<(), EngineError> {
        self.engine.load(part).await
    }
}

fn rows(answer: &Answer) -> usize {
    match answer {
        Answer::Rows(rows) => rows.iter().flatten().count(),
        Answer::All(rows) => rows.len(),
        Answer::Hits(hits) => hits.len(),
        Answer::Keys(rows) => rows.len(),
        Answer::Held(walked) => usize::try_from(*walked).unwrap_or(usize::MAX),
        Answer::Counts(counts) => counts.len(),
        Answer::Counter(_) | Answer::Sequence(_) => 1,
        Answer::Entries(entries) => entries.len(),
        Answer::EveryRow(rows) => rows.len(),
        Answer::EveryCounter(counters) => counters.len(),
        Answer::EveryEntry(entries) => entries.len(),
        Answer::Feed(super::engine::Feed::Changes(changes)) => changes.len(),
        Answer::Feed(super::engine::Feed::Trimmed { .. }) => 0,
    }
}
