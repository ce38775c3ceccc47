//! The store: one conformance suite for all engines, and what lies above them.

mod backup;
mod check;
mod conformance;
mod crash;
pub mod disk;
mod documents;
mod faults;
mod indexing;
mod keys;
mod lists;
pub mod migrate;
mod model;
mod postgres;
mod queue;
mod redb_file;
mod whole;
mod written;

use bytes::Bytes;
use certctl::{
    id::Id,
    store::{
        Answer, Batch, Coll, Committed, Doc, Engine, Entry, Expect, Feed, Hit, Index, IndexKey,
        Outcome, Query, Refusal, Row, Scan, Write,
    },
};
use std::future::Future;

/// An identifier.
pub fn id(text: &str) -> Id {
    text.parse().expect("a valid id")
}

/// Runs a future on a fresh runtime.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

pub fn index_key(index: Index, key: &[u8]) -> IndexKey {
    IndexKey {
        index,
        key: key.to_vec(),
    }
}

pub fn write(coll: Coll, row: &str, expect: Expect, doc: &str, keys: Vec<IndexKey>) -> Write {
    Write {
        coll,
        id: id(row),
        expect,
        doc: Doc::Put(Bytes::from(doc.to_owned())),
        keys,
    }
}

pub fn delete(coll: Coll, row: &str, version: u64) -> Write {
    Write {
        coll,
        id: id(row),
        expect: Expect::Version(version),
        doc: Doc::Delete,
        keys: vec![],
    }
}

pub fn writes(writes: Vec<Write>) -> Batch {
    Batch {
        writes,
        ..Batch::default()
    }
}

/// Questions to an engine, one at a time, with the answer's kind checked.
pub struct Ask<'a>(pub &'a dyn Engine);

impl Ask<'_> {
    pub async fn group(&self, group: &[Batch]) -> Vec<Outcome> {
        for batch in group {
            batch.validate().expect("a valid batch");
        }
        self.0.commit(group).await.expect("the engine works")
    }

    pub async fn outcome(&self, batch: Batch) -> Outcome {
        self.group(&[batch]).await.remove(0)
    }

    pub async fn accepted(&self, batch: Batch) -> Committed {
        match self.outcome(batch).await {
            Outcome::Committed(committed) => committed,
            Outcome::Refused(refusal) => panic!("refused: {refusal}"),
        }
    }

    pub async fn refused(&self, batch: Batch) -> Refusal {
        match self.outcome(batch).await {
            Outcome::Refused(refusal) => refusal,
            Outcome::Committed(committed) => panic!("accepted as {committed:?}"),
        }
    }

    async fn one(&self, question: Query) -> Answer {
        let mut answers = self.0.read(vec![question]).await.expect("the engine works");
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    pub async fn row(&self, coll: Coll, row: &str) -> Option<Row> {
        match self
            .one(Query::Get {
                coll,
                ids: vec![id(row)],
            })
            .await
        {
            Answer::Rows(mut rows) if rows.len() == 1 => rows.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub async fn scan(&self, scan: Scan) -> Vec<Hit> {
        match self.one(Query::Scan(scan)).await {
            Answer::Hits(hits) => hits,
            other => panic!("{other:?}"),
        }
    }

    /// The ids that an index holds, in order.
    pub async fn holders(&self, index: Index, prefix: &[u8]) -> Vec<String> {
        let hits = self.scan(all(index, prefix)).await;
        hits.into_iter().map(|hit| hit.row.id.to_string()).collect()
    }

    pub async fn all_rows(&self, coll: Coll, after: Option<&str>, limit: usize) -> Vec<Row> {
        let after = after.map(id);
        match self.one(Query::All { coll, after, limit }).await {
            Answer::All(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    /// The counts of an index from one beginning on and below another.
    pub async fn counts(
        &self,
        index: Index,
        from: &[u8],
        below: Option<&[u8]>,
    ) -> Vec<(Vec<u8>, u64)> {
        let question = Query::Counts {
            index,
            from: from.to_vec(),
            below: below.map(<[u8]>::to_vec),
            limit: 1000,
        };
        match self.one(question).await {
            Answer::Counts(counts) => counts,
            other => panic!("{other:?}"),
        }
    }

    pub async fn keys(&self, scan: Scan, of: &[Index]) -> Vec<(Id, Vec<IndexKey>)> {
        let of = of.to_vec();
        match self.one(Query::Keys { scan, of }).await {
            Answer::Keys(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    pub async fn held(&self, index: Index, from: &[u8], below: Option<&[u8]>) -> u64 {
        let question = Query::Held {
            index,
            from: from.to_vec(),
            below: below.map(<[u8]>::to_vec),
        };
        match self.one(question).await {
            Answer::Held(n) => n,
            other => panic!("{other:?}"),
        }
    }

    pub async fn feed(&self, after: u64, limit: usize) -> Feed {
        match self.one(Query::Feed { after, limit }).await {
            Answer::Feed(feed) => feed,
            other => panic!("{other:?}"),
        }
    }

    pub async fn counter(&self, key: &[u8]) -> i64 {
        match self.one(Query::Counter(key.to_vec())).await {
            Answer::Counter(value) => value,
            other => panic!("{other:?}"),
        }
    }

    pub async fn tail(&self, stream: &'static str, before: u64, limit: usize) -> Vec<Entry> {
        match self
            .one(Query::Tail {
                stream,
                before,
                limit,
            })
            .await
        {
            Answer::Entries(entries) => entries,
            other => panic!("{other:?}"),
        }
    }
}

/// A scan of all that begins with `prefix`.
pub fn all(index: Index, prefix: &[u8]) -> Scan {
    Scan::under(index, prefix.to_vec(), 1000)
}
