//! Looks at all that is stored, and changes nothing: whether rows can be read, and whether indexes
//! and counts are what follows from the rows.

use super::{
    Answer, Collection, EngineError, Index, IndexKey, Query, Row, Scan, Snapshot, Store,
    StoreError, mismatch,
};
use crate::id::Id;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};
use tokio::time::Instant;

/// Rows and entries that are read at once.
const PAGE: usize = 500;
/// So many faults of a collection are told.
const TOLD: usize = 20;

/// Something stored that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A row that cannot be read.
    Row {
        /// Its collection.
        coll: &'static str,
        /// Which.
        id: Id,
        /// What is wrong with it.
        reason: String,
    },
    /// An index that does not hold what follows from the rows.
    Index {
        /// Which.
        index: &'static str,
        /// Entries that it should have and does not.
        missing: u64,
        /// Entries that it has and should not.
        stray: u64,
        /// A row that is affected, where one is.
        example: Option<Id>,
    },
    /// Counts of an index that are not how many entries it should have.
    Counts {
        /// The index.
        index: &'static str,
        /// How many of its counts are wrong.
        wrong: u64,
    },
    /// What cannot be read at all.
    Unreadable {
        /// What was read.
        what: &'static str,
        /// What the engine said.
        reason: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row { coll, id, reason } => {
                write!(f, "the {coll} {id} cannot be read: {reason}")
            }
            Self::Index {
                index,
                missing,
                stray,
                example,
            } => {
                write!(
                    f,
                    "the index {index} lacks {missing} entries and has {stray} that follow from \
                     no row"
                )?;
                match example {
                    Some(id) => write!(f, " (of {id}, for one)"),
                    None => Ok(()),
                }
            }
            Self::Counts { index, wrong } => {
                write!(f, "{wrong} counts of the index {index} are wrong")
            }
            Self::Unreadable { what, reason } => write!(f, "{what} cannot be read: {reason}"),
        }
    }
}

/// What a look at the store has found.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Rows that were looked at.
    pub rows: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Faults beyond those that are told.
    pub more: u64,
    /// Collections whose indexes are built at the next start of a server, and were not looked at.
    pub unbuilt: Vec<&'static str>,
}

impl Checked {
    fn tell(&mut self, told: &mut usize, fault: Fault) {
        *told += 1;
        if *told <= TOLD {
            self.faults.push(fault);
        } else {
            self.more += 1;
        }
    }
}

/// A set of index entries by its size and a hash that knows no order.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct Digest {
    entries: u64,
    sum: u64,
}

impl Digest {
    fn add(&mut self, entry: u64) {
        self.entries += 1;
        self.sum = self.sum.wrapping_add(entry);
    }
}

fn entry(key: &[u8], id: &Id) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    id.as_str().hash(&mut hasher);
    hasher.finish()
}

/// What follows from the rows of a collection.
#[derive(Default)]
struct Derived {
    digests: BTreeMap<&'static str, Digest>,
    counts: BTreeMap<&'static str, BTreeMap<Vec<u8>, u64>>,
    unreadable: bool,
}

impl Store {
    /// Looks at the rows of these collections, their indexes and counts, all of one moment, until
    /// `deadline`. `progress` is told of rows as they are read.
    ///
    /// # Errors
    /// When the engine gives no view of the store, or the view ends before the look does.
    pub async fn check(
        &self,
        collections: &[Collection],
        deadline: Instant,
        progress: &(dyn Fn(&'static str, u64) + Sync),
    ) -> Result<Checked, StoreError> {
        let state = self.snapshot(deadline).await?;
        let mut checked = Checked::default();
        for collection in collections {
            let look = Look {
                store: self,
                state: &*state,
                collection,
            };
            let mut told = 0;
            match look.at(&mut checked, &mut told, progress).await {
                Ok(()) => {}
                Err(StoreError::Engine(e @ EngineError::SnapshotEnded)) => return Err(e.into()),
                Err(e) if e.is_away() => return Err(e),
                Err(e) => checked.tell(
                    &mut told,
                    Fault::Unreadable {
                        what: collection.name(),
                        reason: e.to_string(),
                    },
                ),
            }
        }
        Ok(checked)
    }
}

/// A look at one collection.
struct Look<'a> {
    store: &'a Store,
    state: &'a dyn Snapshot,
    collection: &'a Collection,
}

impl Look<'_> {
    async fn at(
        &self,
        checked: &mut Checked,
        told: &mut usize,
        progress: &(dyn Fn(&'static str, u64) + Sync),
    ) -> Result<(), StoreError> {
        let derived = self.derived(checked, told, progress).await?;
        // Of a row that cannot be read nobody knows the keys.
        if derived.unreadable || self.collection.indexes().is_empty() {
            return Ok(());
        }
        if !self.store.is_built(self.collection).await? {
            checked.unbuilt.push(self.collection.name());
            return Ok(());
        }
        for index in self.collection.indexes() {
            let expected = derived.digests.get(index.name).copied();
            if let Some(fault) = self.index(*index, expected.unwrap_or_default()).await? {
                checked.tell(told, fault);
            }
            let counts = derived.counts.get(index.name);
            if index.counted.is_some()
                && let Some(fault) = self.counts(*index, counts).await?
            {
                checked.tell(told, fault);
            }
        }
        Ok(())
    }

    /// Lets others go first, so that whoever no longer waits for the look can end it.
    async fn ask(&self, question: Query) -> Result<Answer, StoreError> {
        tokio::task::yield_now().await;
        let answers = self.state.read(vec![question]).await?;
        answers.into_iter().next().ok_or_else(mismatch)
    }

    /// Calls `see` with each row.
    async fn rows(&self, mut see: impl FnMut(Row)) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let question = Query::All {
                coll: self.collection.coll(),
                after: after.clone(),
                limit: PAGE,
            };
            let Answer::All(rows) = self.ask(question).await? else {
                return Err(mismatch());
            };
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some(last.id.clone());
            rows.into_iter().for_each(&mut see);
        }
    }

    /// Calls `see` with key and holder of each entry of an index.
    async fn entries(
        &self,
        index: Index,
        mut see: impl FnMut(&[u8], &Id),
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let scan = Scan {
                after: after.take(),
                ..Scan::all(index, PAGE)
            };
            let Answer::Hits(hits) = self.ask(Query::Scan(scan)).await? else {
                return Err(mismatch());
            };
            for hit in &hits {
                see(&hit.key, &hit.row.id);
            }
            match hits.into_iter().next_back() {
                Some(last) => after = Some((last.key, last.row.id)),
                None => return Ok(()),
            }
        }
    }

    /// Reads every row, and derives its keys.
    async fn derived(
        &self,
        checked: &mut Checked,
        told: &mut usize,
        progress: &(dyn Fn(&'static str, u64) + Sync),
    ) -> Result<Derived, StoreError> {
        let known = self.store.known().await?;
        let (name, mut derived, mut rows) = (self.collection.name(), Derived::default(), 0);
        self.rows(|row| {
            rows += 1;
            if rows % PAGE as u64 == 0 {
                progress(name, PAGE as u64);
            }
            let id = row.id.clone();
            let mut keys = match self.collection.keys(&known, row) {
                Ok(keys) => keys,
                Err(e) => {
                    derived.unreadable = true;
                    let reason = match e {
                        StoreError::Corrupt { reason, .. } => reason,
                        e => e.to_string(),
                    };
                    let coll = name;
                    return checked.tell(told, Fault::Row { coll, id, reason });
                }
            };
            keys.sort_unstable_by(|a, b| (a.index.name, &a.key).cmp(&(b.index.name, &b.key)));
            keys.dedup();
            for IndexKey { index, key } in keys {
                let digest = derived.digests.entry(index.name).or_default();
                digest.add(entry(&key, &id));
                if let Some(bytes) = index.counted {
                    let counted = key[..key.len().min(bytes.into())].to_vec();
                    let counts = derived.counts.entry(index.name).or_default();
                    *counts.entry(counted).or_default() += 1;
                }
            }
        })
        .await?;
        progress(name, rows % PAGE as u64);
        checked.rows += rows;
        Ok(derived)
    }

    async fn index(&self, index: Index, expected: Digest) -> Result<Option<Fault>, StoreError> {
        let mut found = Digest::default();
        let walked = self
            .entries(index, |key, id| found.add(entry(key, id)))
            .await;
        let held = Query::Held {
            index,
            from: Vec::new(),
            below: None,
        };
        let Answer::Held(held) = self.ask(held).await? else {
            return Err(mismatch());
        };
        match walked {
            Ok(()) if found == expected && held == expected.entries => Ok(None),
            Ok(()) => self.compared(index, held).await.map(Some),
            // It names a row that is not there.
            Err(StoreError::Engine(EngineError::Corrupt(_))) => Ok(Some(Fault::Index {
                index: index.name,
                missing: expected.entries.saturating_sub(held),
                stray: held.saturating_sub(expected.entries).max(1),
                example: None,
            })),
            Err(e) => Err(e),
        }
    }

    /// Which entries an index that is wrong lacks and has too many of.
    async fn compared(&self, index: Index, held: u64) -> Result<Fault, StoreError> {
        let mut found = BTreeSet::new();
        self.entries(index, |key, id| {
            found.insert(entry(key, id));
        })
        .await?;
        // Those whose row is not there are passed over by a walk on some engines.
        let rowless = held.saturating_sub(found.len() as u64);
        let known = self.store.known().await?;
        let (mut missing, mut example) = (0, None);
        self.rows(|row| {
            let id = row.id.clone();
            let mut keys = self.collection.keys(&known, row).unwrap_or_default();
            keys.retain(|key| key.index == index);
            keys.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            keys.dedup();
            for key in keys {
                if !found.remove(&entry(&key.key, &id)) {
                    missing += 1;
                    example.get_or_insert_with(|| id.clone());
                }
            }
        })
        .await?;
        Ok(Fault::Index {
            index: index.name,
            missing,
            stray: found.len() as u64 + rowless,
            example,
        })
    }

    async fn counts(
        &self,
        index: Index,
        expected: Option<&BTreeMap<Vec<u8>, u64>>,
    ) -> Result<Option<Fault>, StoreError> {
        let mut left = expected.cloned().unwrap_or_default();
        let (mut from, mut wrong) = (Vec::new(), 0);
        loop {
            let question = Query::Counts {
                index,
                from,
                below: None,
                limit: PAGE,
            };
            let Answer::Counts(counts) = self.ask(question).await? else {
                return Err(mismatch());
            };
            let Some((last, _)) = counts.last() else {
                break;
            };
            from = last.clone();
            from.push(0);
            for (start, n) in &counts {
                wrong += u64::from(left.remove(start).unwrap_or(0) != *n);
            }
        }
        wrong += left.len() as u64;
        let index = index.name;
        Ok((wrong > 0).then_some(Fault::Counts { index, wrong }))
    }
}
