//! Storage: typed collections with declared indexes over a narrow engine.
//!
//! A use case loads documents through a [`Unit`], decides, and commits it whole. The unit becomes
//! one [`Batch`], a declaration of writes and of all they rest on; batches wait in a bounded queue
//! and are committed in groups. What a batch may do is decided in `commit.rs`, the same for every
//! [`Engine`]; engines read facts and apply changes.

pub mod backup;
mod batch;
mod check;
mod collections;
mod commit;
mod counting;
mod cursor;
mod document;
mod engine;
mod error;
mod formats;
mod indexing;
mod key;
mod list;
mod memory;
pub mod migrate;
mod postgres;
mod queue;
mod redb;
mod unit;

pub use self::redb::Redb;
pub use batch::{
    Append, Batch, Committed, CounterChange, CounterOp, Doc, Expect, IndexKey, Invalid, Outcome,
    Refusal, Write,
};
pub use check::{Checked, Fault};
pub use collections::*;
pub use commit::{epoch_start, link, next_life};
pub use counting::{Counting, Work};
pub use cursor::{Cursor, CursorError};
pub use document::{Document, Keys, Loaded};
pub use engine::{
    Answer, Change, Coll, Engine, EngineError, Entry, Feed, Hit, Hold, Index, Load, Query, Row,
    Scan, Snapshot,
};
pub use error::{CommitError, StoreError, Unwritable, UnwritableReason};
pub use indexing::Collection;
pub use key::{Key, MAX_KEY};
pub use list::{Facet, List, Listed};
pub use memory::Memory;
pub use postgres::{Login, LoginBinding, Passwords, Ping, Postgres, Replacement, TableSize};
pub use queue::{Committer, OnFatal};
pub use unit::Unit;

use crate::{clock::Time, id::Id, telemetry::StoreMetrics};
use arc_swap::ArcSwap;
use migrate::{Known, MIGRATIONS, Migration};
use queue::Queue;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{sync::watch, time::Instant};

/// Commits that the feed forgets at once.
const TRIMMED_AT_ONCE: usize = 2_000;
/// Entries read at a time when a stream is verified.
const VERIFY_PAGE: usize = 500;

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    queue: Arc<Queue>,
    metrics: StoreMetrics,
    wake: watch::Receiver<u64>,
    known: Arc<ArcSwap<Known>>,
    /// The last commit found the store away.
    refusing: Arc<AtomicBool>,
}

/// A stretch of an index.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows, by (key, id).
    pub rows: Vec<Loaded<T>>,
    /// Where the next page goes on ([`Scan::after`]); `None` at the end.
    pub next: Option<(Vec<u8>, Id)>,
}

impl Store {
    /// Starts accepting commits. [`Committer::Thread`] needs a tokio runtime around the call.
    /// `on_fatal` is called once, on the committer, when the engine failed beyond repair; the
    /// store has then stopped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        engine: Arc<dyn Engine>,
        mode: Committer,
        on_fatal: OnFatal,
    ) -> std::io::Result<Self> {
        Self::start_with(engine, mode, on_fatal, MIGRATIONS)
    }

    /// As [`start`](Self::start), for a program with these migrations.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start_with(
        engine: Arc<dyn Engine>,
        mode: Committer,
        on_fatal: OnFatal,
        program: &'static [Migration],
    ) -> std::io::Result<Self> {
        let (sender, wake) = watch::channel(0);
        let metrics = StoreMetrics::default();
        let queue = Queue::start(engine.clone(), mode, on_fatal, sender, metrics.clone())?;
        Ok(Self {
            engine,
            metrics,
            queue: Arc::new(queue),
            wake,
            known: Arc::new(ArcSwap::from_pointee(Known::of(program))),
            refusing: Arc::default(),
        })
    }

    /// What the store measures of itself.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// Takes no more commits; returns when all that waited are durable. Reads go on.
    pub async fn close(&self) {
        self.queue.close().await;
    }

    /// Changes to the last committed version after each group: a hint to look for work, which may
    /// skip numbers and starts at 0.
    pub fn wake(&self) -> watch::Receiver<u64> {
        self.wake.clone()
    }

    /// Whether other processes may have this store open.
    pub fn is_shared(&self) -> bool {
        self.engine.notices().is_some()
    }

    /// Begins a decision; `id` names its commit, `now` is when it is made.
    pub fn unit(&self, id: u128, now: Time) -> Unit<'_> {
        Unit::new(self, id, now)
    }

    /// Commits a batch as it is; use cases go through [`unit`](Self::unit).
    ///
    /// # Errors
    /// Nothing changed, save with [`CommitError::Unknown`].
    pub async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        batch.validate()?;
        let outcome = self
            .commit_as_known(batch, |known| known.may_write() && !known.is_behind())
            .await;
        // Told of here, once: whoever commits again and again need not.
        match &outcome {
            Ok(_) => {
                if self.refusing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the store takes commits again");
                }
            }
            Err(error) if error.is_away() || matches!(error, CommitError::Unknown(_)) => {
                if !self.refusing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the store takes no commits");
                }
            }
            Err(_) => {}
        }
        outcome
    }

    /// Whether the last commit found that the store takes none now, though it may answer reads.
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// A row, if there is one.
    ///
    /// # Errors
    /// When the engine fails, or the row does not have the type's shape.
    pub async fn get<T: Document>(&self, id: &Id) -> Result<Option<Loaded<T>>, StoreError> {
        let rows = self.get_many(vec![id.clone()]).await?;
        Ok(rows.into_iter().next().flatten())
    }

    /// Rows by id, in the order asked, all from one moment.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_many<T: Document>(
        &self,
        ids: Vec<Id>,
    ) -> Result<Vec<Option<Loaded<T>>>, StoreError> {
        match self.ask(Query::Get { coll: T::COLL, ids }).await? {
            Answer::Rows(rows) => {
                let mut found = Vec::with_capacity(rows.len());
                for row in rows {
                    found.push(match row {
                        Some(row) => Some(self.decode(row).await?),
                        None => None,
                    });
                }
                Ok(found)
            }
            _ => Err(mismatch()),
        }
    }

    /// All rows of a collection that has few.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn every<T: Document>(&self) -> Result<Vec<Loaded<T>>, StoreError> {
        let question = Query::All {
            coll: T::COLL,
            after: None,
            limit: usize::MAX,
        };
        match self.ask(question).await? {
            Answer::All(rows) => {
                let mut found = Vec::with_capacity(rows.len());
                for row in rows {
                    found.push(self.decode(row).await?);
                }
                Ok(found)
            }
            _ => Err(mismatch()),
        }
    }

    /// Rows along an index. A row that stands there under several keys comes once for each.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn scan<T: Document>(&self, scan: Scan) -> Result<Vec<Loaded<T>>, StoreError> {
        Ok(self.page(scan).await?.rows)
    }

    /// Rows along an index, with the place where the next page goes on.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn page<T: Document>(&self, scan: Scan) -> Result<Page<T>, StoreError> {
        let limit = scan.limit;
        let hits = self.located::<T>(scan).await?;
        let last = hits.last().filter(|_| hits.len() >= limit);
        let next = last.map(|(key, row)| (key.clone(), row.row_id().clone()));
        let rows = hits.into_iter().map(|(_, row)| row).collect();
        Ok(Page { rows, next })
    }

    /// The first row, by (key, id), whose key begins with `key`: with the whole key of a unique
    /// index, the one that holds it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn first<T: Document>(
        &self,
        index: Index,
        key: Key,
    ) -> Result<Option<Loaded<T>>, StoreError> {
        Ok(self.scan(Scan::under(index, key.bytes(), 1)).await?.pop())
    }

    /// A counter's value, 0 where there is none.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn counter(&self, key: Key) -> Result<i64, StoreError> {
        match self.ask(Query::Counter(key.bytes())).await? {
            Answer::Counter(value) => Ok(value),
            _ => Err(mismatch()),
        }
    }

    /// Counters whose names begin with `under`, ascending by name after `after`.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn counters_under(
        &self,
        under: Key,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, i64)>, StoreError> {
        let under = under.bytes();
        let after = Some(after.unwrap_or_else(|| under.clone()));
        match self.ask(Query::EveryCounter { after, limit }).await? {
            Answer::EveryCounter(mut found) => {
                found.retain(|(name, _)| name.starts_with(&under));
                Ok(found)
            }
            _ => Err(mismatch()),
        }
    }

    /// How many rows ever came to count towards a total ([`Document::totals`]), also those that
    /// are gone.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn total(&self, of: Key) -> Result<u64, StoreError> {
        let value = self.counter(of).await?;
        Ok(u64::try_from(value).unwrap_or(0))
    }

    /// What commits after `after` did, oldest first. A hint to look for work or to draw anew: all
    /// work is found by index, whether or not this told of it.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn changes(&self, after: u64, limit: usize) -> Result<Feed, StoreError> {
        match self.ask(Query::Feed { after, limit }).await? {
            Answer::Feed(feed) => Ok(feed),
            _ => Err(mismatch()),
        }
    }

    /// The number of the last commit.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn last_commit(&self) -> Result<u64, StoreError> {
        match self.ask(Query::Sequence).await? {
            Answer::Sequence(last) => Ok(last),
            _ => Err(mismatch()),
        }
    }

    /// Lets the feed forget commits older than `time`, in slices; `begin` begins a decision.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn trim_feed<'a>(
        &'a self,
        time: Time,
        begin: impl Fn() -> Unit<'a> + Send,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let changes = match self.changes(after, TRIMMED_AT_ONCE).await? {
                Feed::Changes(changes) => changes,
                Feed::Trimmed { upto } => {
                    after = upto;
                    continue;
                }
            };
            let old = changes.iter().take_while(|change| change.at < time);
            let (n, last) = old.fold((0, 0), |(n, _), change| (n + 1, change.seq));
            if n > 0 {
                let mut unit = begin();
                unit.trim_feed(last);
                unit.commit().await?;
            }
            if n < TRIMMED_AT_ONCE {
                return Ok(());
            }
            after = last;
        }
    }

    /// The present state, for reading until `deadline` whatever is committed meanwhile.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(self.engine.snapshot(deadline).await?)
    }

    /// Entries of a stream with a number below `before`, newest first.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn tail(
        &self,
        stream: &'static str,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        match self
            .ask(Query::Tail {
                stream,
                before,
                limit,
            })
            .await?
        {
            Answer::Entries(entries) => Ok(entries),
            _ => Err(mismatch()),
        }
    }

    /// Follows a stream's links from the newest entry to the first; gives the number of entries.
    ///
    /// # Errors
    /// [`StoreError::BrokenChain`] with the first entry at fault, or when the engine fails.
    pub async fn verify_stream(&self, stream: &'static str) -> Result<u64, StoreError> {
        let mut newest = 0;
        let mut at_fault = None;
        // The entry whose predecessor comes next.
        let mut later: Option<Entry> = None;
        loop {
            let before = later.as_ref().map_or(u64::MAX, |entry| entry.number);
            let entries = self.tail(stream, before, VERIFY_PAGE).await?;
            tokio::task::yield_now().await;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                match &later {
                    None => newest = entry.number,
                    Some(later) => {
                        at_fault = fault(stream, (entry.number, &entry.link), later).or(at_fault);
                    }
                }
                later = Some(entry);
            }
        }
        if let Some(first) = later {
            at_fault = fault(stream, (0, &[0; 32]), &first).or(at_fault);
        }
        match at_fault {
            None => Ok(newest),
            Some(number) => Err(StoreError::BrokenChain { stream, number }),
        }
    }

    /// Rows along an index, each with the key under which it stands there.
    async fn located<T: Document>(
        &self,
        scan: Scan,
    ) -> Result<Vec<(Vec<u8>, Loaded<T>)>, StoreError> {
        debug_assert_eq!(scan.index.coll, T::COLL);
        let Answer::Hits(hits) = self.ask(Query::Scan(scan)).await? else {
            return Err(mismatch());
        };
        let mut located = Vec::with_capacity(hits.len());
        for hit in hits {
            located.push((hit.key, self.decode(hit.row).await?));
        }
        Ok(located)
    }

    async fn ask(&self, question: Query) -> Result<Answer, StoreError> {
        let began = Instant::now();
        let answers = self.engine.read(vec![question]).await;
        self.metrics.read(began.elapsed());
        answers?.pop().ok_or_else(mismatch)
    }
}

/// The first number at fault when `entry` does not follow from the one before it.
fn fault(stream: &str, (number, link): (u64, &[u8; 32]), entry: &Entry) -> Option<u64> {
    let expected = number.saturating_add(1);
    let follows = entry.number == expected
        && commit::link(stream, link, entry.number, &entry.doc) == entry.link;
    (!follows).then_some(expected)
}

fn mismatch() -> StoreError {
    EngineError::Corrupt("the engine answered another question".to_owned()).into()
}
