//! Lists: filtered, ordered, in pages, with a total, at a cost that is bounded however many rows
//! there are.

use super::{
    Answer, Cursor, Document, Index, IndexKey, Key, Keys, Loaded, Query, Scan, Store, StoreError,
    engine::above, mismatch,
};
use crate::id::Id;
use std::collections::BTreeSet;

/// So many rows are sorted in memory at most.
const SORTED: u64 = 5_000;
/// A walk along the order looks at so many rows for one page.
const BUDGET: usize = 2_000;
/// Rows read at a time on such a walk.
const STEP: usize = 250;

/// Where a row stands in an index: its key, then its id.
type Place = (Vec<u8>, Id);

/// A filter by an index: rows that hold a key of it from one on and below another. A row is
/// expected to hold one at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facet {
    index: Index,
    from: Vec<u8>,
    below: Option<Vec<u8>>,
}

impl Facet {
    /// Rows in the index.
    pub fn any(index: Index) -> Self {
        let (from, below) = (Vec::new(), None);
        Self { index, from, below }
    }

    /// Rows whose key begins with these whole values.
    pub fn is(index: Index, key: Key) -> Self {
        let from = key.bytes();
        let below = above(from.clone());
        Self { index, from, below }
    }

    /// Rows whose key lies from `from` on and below `below`.
    pub fn between(index: Index, from: Key, below: Key) -> Self {
        let (from, below) = (from.bytes(), Some(below.bytes()));
        Self { index, from, below }
    }

    fn has(&self, keys: &[IndexKey]) -> bool {
        keys.iter().any(|IndexKey { index, key }| {
            *index == self.index
                && *key >= self.from
                && self.below.as_ref().is_none_or(|below| key < below)
        })
    }
}

/// What to list.
pub struct List<'a, T> {
    /// The order: an index in which every listed row stands once.
    pub order: Index,
    /// From the end of the order.
    pub backward: bool,
    /// Only rows in all of these.
    pub facets: Vec<Facet>,
    /// Only rows of which this is true; without it the store may know the total unread.
    pub keep: Option<&'a (dyn Fn(&T) -> bool + Sync)>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// So many rows are passed over first.
    pub skip: usize,
    /// Rows in a page.
    pub limit: usize,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The rows. There may be fewer than asked for, even none, before the end: `next` tells.
    pub rows: Vec<Loaded<T>>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
    /// How many rows there are on all pages; `None` where only walking them would tell.
    pub total: Option<u64>,
}

impl Store {
    /// A page of a list. The filter with the fewest rows leads: when they are few they are read
    /// and sorted, else the order is walked, at most so far that a page costs the same on any
    /// store.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn list<T: Document>(&self, list: List<'_, T>) -> Result<Listed<T>, StoreError> {
        let mut counts = Vec::with_capacity(list.facets.len());
        for facet in &list.facets {
            counts.push((self.count(facet).await?, facet));
        }
        let fewest = counts.iter().min_by_key(|(n, _)| *n);
        if let Some((n, facet)) = fewest.filter(|(n, _)| *n <= SORTED) {
            return self.sorted(&list, facet, *n).await;
        }
        let total = match (&counts[..], list.keep) {
            ([], None) => Some(self.count(&Facet::any(list.order)).await?),
            ([(n, _)], None) => Some(*n),
            _ => None,
        };
        let page = self.walked(list).await?;
        Ok(Listed { total, ..page })
    }

    /// How many keys a filter has. With a counted index this costs a step for each count in the
    /// range, and for each key of the two that the range cuts.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn count(&self, facet: &Facet) -> Result<u64, StoreError> {
        let Facet { index, from, below } = facet;
        let Some(bytes) = index.counted else {
            return self.held(*index, from, below.as_deref()).await;
        };
        let group = |key: &[u8]| key[..key.len().min(bytes.into())].to_vec();
        let last = below.as_ref().map(|below| group(below));
        let mut first = group(from);
        let mut n = 0;
        if first != *from {
            // The range begins within a group.
            if last.as_ref() == Some(&first) {
                return self.held(*index, from, below.as_deref()).await;
            }
            let Some(next) = above(first) else {
                return self.held(*index, from, below.as_deref()).await;
            };
            n += self.held(*index, from, Some(&next)).await?;
            first = next;
        }
        if let (Some(last), Some(below)) = (&last, below)
            && last != below
            && *last >= first
        {
            n += self.held(*index, last, Some(below)).await?;
        }
        let counts = Query::Counts {
            index: *index,
            from: first,
            below: last,
            limit: usize::MAX,
        };
        let Answer::Counts(counts) = self.ask(counts).await? else {
            return Err(mismatch());
        };
        Ok(n + counts.into_iter().map(|(_, n)| n).sum::<u64>())
    }

    /// The numbers of rows by value of a counted index: its counted key beginnings, ascending.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn counts(
        &self,
        index: Index,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, u64)>, StoreError> {
        let counts = Query::Counts {
            index,
            from: Vec::new(),
            below: None,
            limit,
        };
        match self.ask(counts).await? {
            Answer::Counts(counts) => Ok(counts),
            _ => Err(mismatch()),
        }
    }

    async fn held(
        &self,
        index: Index,
        from: &[u8],
        below: Option<&[u8]>,
    ) -> Result<u64, StoreError> {
        let (from, below) = (from.to_vec(), below.map(<[u8]>::to_vec));
        match self.ask(Query::Held { index, from, below }).await? {
            Answer::Held(n) => Ok(n),
            _ => Err(mismatch()),
        }
    }

    /// The page, out of all rows that `lead` has: sorted by their keys, so that only the page's
    /// documents are read.
    async fn sorted<T: Document>(
        &self,
        list: &List<'_, T>,
        lead: &Facet,
        n: u64,
    ) -> Result<Listed<T>, StoreError> {
        let scan = Scan {
            from: lead.from.clone(),
            below: lead.below.clone(),
            // What was counted, and what may have come since.
            ..Scan::all(
                lead.index,
                usize::try_from(n * 2 + 100).unwrap_or(usize::MAX),
            )
        };
        let mut of: Vec<Index> = list.facets.iter().map(|facet| facet.index).collect();
        of.push(list.order);
        let Answer::Keys(rows) = self.ask(Query::Keys { scan, of }).await? else {
            return Err(mismatch());
        };
        let mut found = BTreeSet::new();
        for (id, keys) in rows {
            let place = keys.iter().find(|key| key.index == list.order);
            if let Some(place) = place.filter(|_| list.facets.iter().all(|f| f.has(&keys))) {
                found.insert((place.key.clone(), id));
            }
        }
        if let Some(keep) = list.keep {
            let ids = found.iter().map(|(_, id)| id.clone()).collect();
            let mut rows = self.get_many::<T>(ids).await?.into_iter();
            found.retain(|_| rows.next().flatten().is_some_and(|row| keep(&row)));
        }
        let total = Some(found.len() as u64);
        let beyond = |(k, i): &Place| match &list.after {
            None => true,
            Some(Cursor { key, id }) if list.backward => (k, i) < (key, id),
            Some(Cursor { key, id }) => (k, i) > (key, id),
        };
        let mut found: Vec<_> = found.into_iter().filter(beyond).collect();
        if list.backward {
            found.reverse();
        }
        found.drain(..list.skip.min(found.len()));
        let more = found.len() > list.limit;
        found.truncate(list.limit);
        let last = found.last().filter(|_| more);
        let next = last.map(|(key, id)| Cursor {
            key: key.clone(),
            id: id.clone(),
        });
        let ids = found.into_iter().map(|(_, id)| id).collect();
        let rows = self.get_many(ids).await?;
        Ok(Listed {
            // One that was deleted meanwhile is not there.
            rows: rows.into_iter().flatten().collect(),
            next,
            total,
        })
    }

    /// The page, along the order.
    async fn walked<T: Document>(&self, list: List<'_, T>) -> Result<Listed<T>, StoreError> {
        let mut rows: Vec<(Place, Loaded<T>)> = Vec::new();
        let mut looked_at = 0;
        let mut after = list.after.map(|cursor| (cursor.key, cursor.id));
        // An unfiltered list passes over index keys, without reading their rows.
        let plain = list.facets.is_empty() && list.keep.is_none();
        // One more than the page holds tells whether there is another page.
        let step = if plain { list.limit + 1 } else { STEP };
        let (skip, mut passed) = if plain {
            (list.skip, list.skip)
        } else {
            (0, 0)
        };
        loop {
            let page = self
                .located::<T>(Scan {
                    after: after.take(),
                    backward: list.backward,
                    skip,
                    ..Scan::all(list.order, step)
                })
                .await?;
            looked_at += page.len();
            let last = page.len() < step;
            let mut page = page.into_iter();
            for (key, row) in page.by_ref() {
                let place = (key, row.row_id().clone());
                after = Some(place.clone());
                let keys = Keys::of(&*row);
                if list.facets.iter().all(|facet| facet.has(&keys))
                    && list.keep.is_none_or(|keep| keep(&row))
                {
                    if passed < list.skip {
                        passed += 1;
                    } else {
                        rows.push((place, row));
                    }
                }
                if rows.len() > list.limit {
                    break;
                }
            }
            let full = rows.len() > list.limit;
            if full || last || looked_at >= BUDGET {
                rows.truncate(list.limit);
                let next = match rows.last() {
                    Some((place, _)) if full => Some(place.clone()),
                    _ => after.filter(|_| !last),
                };
                return Ok(Listed {
                    rows: rows.into_iter().map(|(_, row)| row).collect(),
                    next: next.map(|(key, id)| Cursor { key, id }),
                    total: None,
                });
            }
        }
    }
}
