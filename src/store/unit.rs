//! One decision: what was loaded, what is to change, committed whole or not at all.

use super::{
    Store,
    batch::{Append, Batch, Committed, CounterChange, CounterOp, Doc, Expect, IndexKey, Write},
    document::{self, Document, Keys, Loaded},
    engine::{Coll, Index},
    error::{CommitError, StoreError, Unwritable},
    key::Key,
};
use crate::{clock::Time, id::Id};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// A decision in the making. All that is loaded through it is asserted at commit; it reads what is
/// committed, not what it is about to write.
#[must_use = "nothing happens before commit"]
pub struct Unit<'a> {
    store: &'a Store,
    batch: Batch,
    /// What each row was when the decision first saw it.
    seen: BTreeMap<(Coll, Id), Expect>,
    /// The first value that has no stored form: reported by `commit`.
    unwritable: Option<Unwritable>,
}

impl<'a> Unit<'a> {
    pub(super) fn new(store: &'a Store, id: u128, at: Time) -> Self {
        let batch = Batch {
            id,
            at,
            ..Batch::default()
        };
        Self {
            store,
            batch,
            seen: BTreeMap::new(),
            unwritable: None,
        }
    }

    /// Loads a row and asserts that it stays as it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without such a row; otherwise as [`Store::get`].
    pub async fn load<T: Document>(&mut self, id: &Id) -> Result<Loaded<T>, StoreError> {
        let missing = || StoreError::NotFound {
            coll: T::COLL,
            id: id.clone(),
        };
        self.load_opt(id).await?.ok_or_else(missing)
    }

    /// Loads a row if there is one and asserts that it stays as it is, or stays absent.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn load_opt<T: Document>(
        &mut self,
        id: &Id,
    ) -> Result<Option<Loaded<T>>, StoreError> {
        let found = self.store.get::<T>(id).await?;
        let state = found
            .as_ref()
            .map_or(Expect::Absent, |row| Expect::Version(row.version()));
        self.see(T::COLL, id, state);
        Ok(found)
    }

    /// Loads a row that the decision does not rest on.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn peek<T: Document>(&self, id: &Id) -> Result<Option<Loaded<T>>, StoreError> {
        self.store.get(id).await
    }

    /// The first row whose key begins with `key`; the decision does not rest on it.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn first<T: Document>(
        &self,
        index: Index,
        key: Key,
    ) -> Result<Option<Loaded<T>>, StoreError> {
        self.store.first(index, key).await
    }

    /// Asserts that a row found by a scan stays as it is.
    pub fn rely_on<T: Document>(&mut self, row: &Loaded<T>) {
        self.see(T::COLL, row.row_id(), Expect::Version(row.version()));
    }

    /// Asserts that a row that is remembered still has this version, or is still absent: what was
    /// decided by it is refused otherwise.
    pub fn recall<T: Document>(&mut self, id: &Id, version: Option<u64>) {
        let state = version.map_or(Expect::Absent, Expect::Version);
        self.see(T::COLL, id, state);
    }

    /// Writes a new row.
    pub fn insert<T: Document>(&mut self, value: T) {
        self.count_towards(value.totals(None));
        let doc = document::encode(&value);
        self.write::<T>(
            value.id().clone(),
            Expect::Absent,
            doc.map(Doc::Put),
            Keys::of(&value),
        );
    }

    /// Writes a row that was loaded, expecting the loaded version.
    pub fn put<T: Document>(&mut self, row: Loaded<T>) {
        self.count_towards(row.new_totals());
        let expect = Expect::Version(row.version());
        let doc = row.encode();
        self.write::<T>(
            row.row_id().clone(),
            expect,
            doc.map(Doc::Put),
            Keys::of(&*row),
        );
    }

    /// Deletes a row that was loaded, expecting the loaded version.
    pub fn delete<T: Document>(&mut self, row: Loaded<T>) {
        let expect = Expect::Version(row.version());
        self.write::<T>(row.row_id().clone(), expect, Ok(Doc::Delete), Vec::new());
    }

    /// Rules out that a row has a key beginning with `prefix`, apart from rows that this decision
    /// adds, deletes, or moves away from there.
    pub fn none(&mut self, index: Index, prefix: Key) {
        self.batch.none.push((index, prefix.bytes()));
    }

    /// Adds `n` to a counter; the commit is refused when that would exceed `max`.
    pub fn add(&mut self, counter: Key, n: i64, max: i64) {
        self.count(counter, CounterOp::Add { n, max });
    }

    /// Takes `cost` tokens from a bucket that holds `burst` and regains one each `per`; the commit
    /// is refused while too few are left.
    pub fn take(&mut self, bucket: Key, cost: u32, per: Duration, burst: u32) {
        self.count(bucket, CounterOp::Take { cost, per, burst });
    }

    /// Forgets a bucket, by the name that [`Store::counters_under`] gave; the commit is refused
    /// when it is not full.
    pub fn forget_bucket(&mut self, name: Vec<u8>) {
        let op = CounterOp::Forget;
        self.batch.counters.push(CounterChange { key: name, op });
    }

    /// Appends an entry to a stream.
    pub fn append(&mut self, stream: &'static str, entry: &impl Serialize) {
        match document::encode_entry(stream, entry) {
            Ok(doc) => self.batch.append.push(Append { stream, doc }),
            Err(e) => self.refuse(e),
        }
    }

    /// Lets the feed forget all that was committed: who goes by it looks at everything.
    pub(super) fn forget_feed(&mut self) {
        self.trim_feed(u64::MAX);
    }

    /// Lets the feed forget commits up to this one.
    pub(super) fn trim_feed(&mut self, upto: u64) {
        self.batch.trim = upto;
    }

    /// Whether there is nothing to commit: no write, no counter, no entry.
    pub fn changes_nothing(&self) -> bool {
        let Batch {
            writes,
            counters,
            append,
            ..
        } = &self.batch;
        writes.is_empty() && counters.is_empty() && append.is_empty() && self.unwritable.is_none()
    }

    /// Commits: when this returns `Ok`, all of it survives power loss.
    ///
    /// # Errors
    /// Nothing changed, save with [`CommitError::Unknown`]. A conflict means that the decision
    /// must be made again from what is stored now.
    pub async fn commit(self) -> Result<Committed, CommitError> {
        let store = self.store;
        store.commit(self.into_batch()?).await
    }

    /// As [`commit`](Self::commit), also by a program that may write nothing else.
    pub(super) async fn commit_migrating(self) -> Result<Committed, CommitError> {
        let store = self.store;
        store.commit_migrating(self.into_batch()?).await
    }

    fn into_batch(mut self) -> Result<Batch, CommitError> {
        if let Some(e) = self.unwritable {
            return Err(e.into());
        }
        for write in &self.batch.writes {
            self.seen.remove(&(write.coll, write.id.clone()));
        }
        let asserts = self
            .seen
            .into_iter()
            .map(|((coll, id), expect)| (coll, id, expect));
        self.batch.asserts = asserts.collect();
        Ok(self.batch)
    }

    /// What the decision takes the row to be. The first sight counts: when a row changes between
    /// two loads, the commit must fail.
    fn see(&mut self, coll: Coll, id: &Id, state: Expect) -> Expect {
        *self.seen.entry((coll, id.clone())).or_insert(state)
    }

    fn write<T: Document>(
        &mut self,
        id: Id,
        expect: Expect,
        doc: Result<Doc, Unwritable>,
        keys: Vec<IndexKey>,
    ) {
        match doc {
            Ok(doc) => {
                let expect = self.see(T::COLL, &id, expect);
                self.batch.writes.push(Write {
                    coll: T::COLL,
                    id,
                    expect,
                    doc,
                    keys,
                });
            }
            Err(e) => self.refuse(e),
        }
    }

    /// Counts one more towards each of these totals.
    pub fn count_towards(&mut self, totals: impl IntoIterator<Item = Key>) {
        for total in totals {
            self.add(total, 1, i64::MAX);
        }
    }

    fn count(&mut self, key: Key, op: CounterOp) {
        self.batch.counters.push(CounterChange {
            key: key.bytes(),
            op,
        });
    }

    fn refuse(&mut self, e: Unwritable) {
        self.unwritable.get_or_insert(e);
    }
}
