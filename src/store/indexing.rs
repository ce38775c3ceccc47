//! Building indexes where this program derives them in another way than the one before it did.

use super::{
    Answer, Batch, Coll, Doc, Document, Expect, Index, IndexKey, Keys, Known, Query, Row, Store,
    StoreError, Write, mismatch,
};
use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};

/// Rows indexed by one commit.
const PAGE: usize = 500;
/// Progress is told each time so many rows are done.
const TELL_EVERY: u64 = 100_000;

/// A collection, as far as its indexes are concerned.
#[derive(Clone, Copy)]
pub struct Collection {
    coll: Coll,
    format: u16,
    indexes: &'static [Index],
    keys: fn(&Known, Row) -> Result<Vec<IndexKey>, StoreError>,
}

impl Collection {
    /// The collection of a document.
    pub const fn of<T: Document>() -> Self {
        Self {
            coll: T::COLL,
            format: T::FORMAT,
            indexes: T::INDEXES,
            keys: |known, row| Ok(Keys::of(&*known.decode::<T>(row)?)),
        }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.coll.0
    }

    /// The number of its documents' JSON form.
    pub const fn format(&self) -> u16 {
        self.format
    }

    /// The collection.
    pub const fn coll(&self) -> Coll {
        self.coll
    }

    /// Its indexes.
    pub(super) const fn indexes(&self) -> &'static [Index] {
        self.indexes
    }

    /// The index keys of one of its rows.
    pub(super) fn keys(&self, known: &Known, row: Row) -> Result<Vec<IndexKey>, StoreError> {
        (self.keys)(known, row)
    }

    /// What its indexes are, in words that differ whenever the keys of a row may.
    fn layout(&self) -> Vec<String> {
        let words = |index: &Index| {
            let unique = if index.unique { " unique" } else { "" };
            let counted = index.counted.map(|bytes| format!(" counted by {bytes}"));
            let counted = counted.unwrap_or_default();
            format!("{} r{}{unique}{counted}", index.name, index.revision)
        };
        self.indexes.iter().map(words).collect()
    }
}

/// The collection that says which indexes are built: of this store, and of none that takes its
/// rows over.
pub const LAYOUT: &str = "layout";

/// The indexes that a collection's rows stand in.
#[derive(Debug, Serialize, Deserialize)]
struct Layout {
    /// The collection.
    id: Id,
    /// As [`Collection::layout`] says; empty while they are being built.
    built: Vec<String>,
}

impl Document for Layout {
    const COLL: Coll = Coll(LAYOUT);
    const FORMAT: u16 = 1;
    const INDEXES: &'static [Index] = &[];
    fn id(&self) -> &Id {
        &self.id
    }
    fn keys(&self, _: &mut Keys) {}
}

impl Store {
    /// Whether a collection's rows stand in its indexes as this program derives them.
    pub(super) async fn is_built(&self, collection: &Collection) -> Result<bool, StoreError> {
        let layout = self.get::<Layout>(&row_of(collection.coll)?).await?;
        let built = layout.as_ref().map_or(&[][..], |layout| &layout.built);
        Ok(built == collection.layout())
    }

    /// Builds the indexes of every collection that were last built otherwise, or not to the end;
    /// gives the number of rows that were indexed. Goes before all use of the store. Rows keep
    /// their versions, and the feed tells nothing. `commit_id` names commits.
    ///
    /// # Errors
    /// When a row cannot be read, or a unique index would hold two. What was built stays, and the
    /// next call goes over it again.
    pub async fn build_indexes(
        &self,
        collections: &[Collection],
        now: Time,
        mut commit_id: impl FnMut() -> u128,
    ) -> Result<u64, StoreError> {
        let ids = collections.iter().map(|c| row_of(c.coll));
        let found = self
            .get_many::<Layout>(ids.collect::<Result<_, _>>()?)
            .await?;
        // While rows differ, no program may take the indexes for built: not this one after a
        // crash, and not the one before it.
        let mut stale = Vec::new();
        let mut unit = self.unit(commit_id(), now);
        for (collection, layout) in collections.iter().zip(found) {
            let built = layout.as_ref().map_or(&[][..], |layout| &layout.built);
            if built == collection.layout() {
                continue;
            }
            stale.push(collection);
            if let Some(mut layout) = layout {
                layout.built.clear();
                unit.put(layout);
            }
        }
        if stale.is_empty() {
            return Ok(0);
        }
        unit.commit().await?;
        let mut rows = 0;
        for collection in &stale {
            rows += self.index_rows(collection, now, &mut commit_id).await?;
        }
        let mut unit = self.unit(commit_id(), now);
        for collection in stale {
            let (id, built) = (row_of(collection.coll)?, collection.layout());
            match unit.load_opt::<Layout>(&id).await? {
                Some(mut layout) => {
                    layout.built = built;
                    unit.put(layout);
                }
                None => unit.insert(Layout { id, built }),
            }
        }
        unit.commit().await?;
        Ok(rows)
    }

    async fn index_rows(
        &self,
        collection: &Collection,
        now: Time,
        commit_id: &mut impl FnMut() -> u128,
    ) -> Result<u64, StoreError> {
        let coll = collection.coll;
        let (mut after, mut done, mut told) = (None, 0_u64, 0);
        loop {
            let question = Query::All {
                coll,
                after: after.clone(),
                limit: PAGE,
            };
            let Answer::All(rows) = self.ask(question).await? else {
                return Err(mismatch());
            };
            let Some(last) = rows.last() else {
                break;
            };
            after = Some(last.id.clone());
            done += rows.len() as u64;
            let known = self.known().await?;
            let writes = rows.into_iter().map(|row| {
                Ok(Write {
                    coll,
                    id: row.id.clone(),
                    expect: Expect::Version(row.version),
                    doc: Doc::Keep,
                    keys: (collection.keys)(&known, row)?,
                })
            });
            let batch = Batch {
                id: commit_id(),
                at: now,
                writes: writes.collect::<Result<_, StoreError>>()?,
                ..Batch::default()
            };
            self.commit(batch).await?;
            tokio::task::yield_now().await;
            if done - told >= TELL_EVERY {
                told = done;
                tracing::info!(collection = coll.0, rows = done, "building indexes");
            }
        }
        Ok(done)
    }
}

fn row_of(coll: Coll) -> Result<Id, StoreError> {
    coll.0.parse().map_err(|_| StoreError::Corrupt {
        coll: Layout::COLL,
        id: Id::derived("coll", coll.0.as_bytes()),
        reason: "its name is no id".into(),
    })
}
