//! The typed layer: documents, units of decision, reads.

use super::{id, run, write, writes};
use bytes::Bytes;
use certctl::{
    clock::Time,
    id::Id,
    store::{
        Answer, Append, Batch, Coll, CommitError, Committer, Document, Engine, EngineError, Entry,
        Expect, Feed, Index, Key, Keys, Load, Memory, Outcome, Query, Redb, Refusal, Scan,
        Snapshot, Store, StoreError,
    },
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

const COLL: Coll = Coll("tally");
const NOW: Time = Time::from_micros(1);
const BY_NAME: Index = Index::new(COLL, "tally.name").unique();
const BY_COUNT: Index = Index::new(COLL, "tally.count");

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tally {
    id: Id,
    name: String,
    count: u64,
}

impl Document for Tally {
    const COLL: Coll = COLL;
    const FORMAT: u16 = 1;
    const INDEXES: &'static [Index] = &[BY_NAME, BY_COUNT];
    fn id(&self) -> &Id {
        &self.id
    }
    fn keys(&self, keys: &mut Keys) {
        keys.put(BY_NAME, Key::new().text(&self.name));
        keys.put(BY_COUNT, Key::new().u64(self.count));
    }
}

impl Tally {
    fn new(name: &str, count: u64) -> Self {
        Self {
            id: id(name),
            name: name.to_owned(),
            count,
        }
    }
    fn more(self) -> Self {
        Self {
            count: self.count + 1,
            ..self
        }
    }
}

/// A later program's view of the same rows.
#[derive(Serialize, Deserialize)]
struct Wider {
    id: Id,
    name: String,
    count: u64,
    #[serde(default)]
    note: Option<String>,
}

impl Document for Wider {
    const COLL: Coll = COLL;
    const FORMAT: u16 = 1;
    const INDEXES: &'static [Index] = &[BY_NAME, BY_COUNT];
    fn id(&self) -> &Id {
        &self.id
    }
    fn keys(&self, _: &mut Keys) {}
}

fn start(engine: Arc<dyn Engine>) -> Store {
    Store::start(engine, Committer::Inline, Box::new(|_| {})).unwrap()
}

fn memory() -> Store {
    start(Arc::new(Memory::new()))
}

async fn insert(store: &Store, values: impl IntoIterator<Item = Tally>) {
    let mut u = store.unit(1, NOW);
    for value in values {
        u.insert(value);
    }
    u.commit().await.unwrap();
}

#[test]
fn a_row_goes_through_its_life() {
    run(async {
        let store = memory();
        insert(&store, [Tally::new("a", 1)]).await;
        let mut u = store.unit(2, NOW);
        let row = u.load::<Tally>(&id("a")).await.unwrap();
        assert_eq!(*row, Tally::new("a", 1));
        u.put(row.map(Tally::more));
        let committed = u.commit().await.unwrap();
        let row = store.get::<Tally>(&id("a")).await.unwrap().unwrap();
        assert_eq!((row.count, row.version()), (2, committed.version));
        assert_eq!(*store.wake().borrow(), committed.version);

        let mut u = store.unit(3, NOW);
        u.delete(row);
        u.commit().await.unwrap();
        assert!(store.get::<Tally>(&id("a")).await.unwrap().is_none());
        let missing = store
            .unit(4, NOW)
            .load::<Tally>(&id("a"))
            .await
            .unwrap_err();
        assert_eq!(missing.to_string(), "there is no tally a");
    });
}

#[test]
fn what_was_loaded_is_asserted_and_what_was_peeked_is_not() {
    run(async {
        let store = memory();
        insert(&store, [Tally::new("a", 1), Tally::new("b", 1)]).await;
        let bump = async |name: &str| {
            let mut u = store.unit(9, NOW);
            let row = u.load::<Tally>(&id(name)).await.unwrap();
            u.put(row.map(Tally::more));
            u.commit().await.unwrap();
        };

        let mut u = store.unit(1, NOW);
        u.peek::<Tally>(&id("a")).await.unwrap().unwrap();
        u.insert(Tally::new("peeked", 1));
        bump("a").await;
        u.commit().await.unwrap();

        let mut u = store.unit(2, NOW);
        u.load::<Tally>(&id("a")).await.unwrap();
        u.insert(Tally::new("loaded", 1));
        bump("a").await;
        assert!(u.commit().await.unwrap_err().is_conflict());

        let mut u = store.unit(3, NOW);
        assert!(u.load_opt::<Tally>(&id("c")).await.unwrap().is_none());
        u.insert(Tally::new("absent", 1));
        insert(&store, [Tally::new("c", 1)]).await;
        assert!(u.commit().await.unwrap_err().is_conflict());

        let mut u = store.unit(4, NOW);
        let found = store
            .first::<Tally>(BY_NAME, Key::new().text("b"))
            .await
            .unwrap()
            .unwrap();
        u.rely_on(&found);
        bump("b").await;
        assert!(u.commit().await.unwrap_err().is_conflict());

        // Of two loads the first is what the decision began with.
        let mut u = store.unit(5, NOW);
        u.load::<Tally>(&id("a")).await.unwrap();
        bump("a").await;
        let second = u.load::<Tally>(&id("a")).await.unwrap();
        u.put(second.map(Tally::more));
        assert!(u.commit().await.unwrap_err().is_conflict());
    });
}

#[test]
fn fields_that_a_type_does_not_know_are_kept() {
    run(async {
        let store = memory();
        let mut u = store.unit(1, NOW);
        let note = Some("keep me".to_owned());
        u.insert(Wider {
            id: id("a"),
            name: "a".to_owned(),
            count: 1,
            note,
        });
        u.commit().await.unwrap();
        let mut u = store.unit(2, NOW);
        let row = u.load::<Tally>(&id("a")).await.unwrap();
        u.put(row.map(Tally::more));
        u.commit().await.unwrap();
        let row = store.get::<Wider>(&id("a")).await.unwrap().unwrap();
        assert_eq!((row.count, row.note.as_deref()), (2, Some("keep me")));
        let mut u = store.unit(3, NOW);
        u.put(row.map(|wider| Wider {
            note: None,
            ..wider
        }));
        u.commit().await.unwrap();
        let row = store.get::<Wider>(&id("a")).await.unwrap().unwrap();
        assert_eq!(row.note, None, "a known field is replaced");
    });
}

#[test]
fn a_row_that_does_not_decode_is_corrupt_and_named() {
    run(async {
        let store = memory();
        let docs = [
            ("no-json", "{"),
            ("no-format", r#"{"id":"no-format","name":"a","count":1}"#),
            (
                "newer",
                r#"{"_format":2,"id":"newer","name":"a","count":1}"#,
            ),
            ("lacks", r#"{"_format":1,"id":"lacks"}"#),
            ("other", r#"{"_format":1,"id":"a","name":"a","count":1}"#),
        ];
        for (row, doc) in docs {
            store
                .commit(writes(vec![write(COLL, row, Expect::Absent, doc, vec![])]))
                .await
                .unwrap();
            let e = store.get::<Tally>(&id(row)).await.unwrap_err();
            assert!(
                matches!(&e, StoreError::Corrupt { id, .. } if id.as_str() == row),
                "{e}"
            );
        }
    });
}

#[test]
fn what_not_every_engine_keeps_is_refused() {
    #[derive(Serialize)]
    struct Odd {
        inner: Vec<f64>,
    }
    run(async {
        let store = memory();
        let mut u = store.unit(1, NOW);
        u.insert(Tally {
            name: "a\0b".to_owned(),
            ..Tally::new("a", 1)
        });
        let e = u.commit().await.unwrap_err();
        assert_eq!(
            e.to_string(),
            "tally/a cannot be stored: /name holds a NUL character"
        );

        let mut u = store.unit(2, NOW);
        u.insert(Tally::new("a", 1));
        u.append(
            "audit",
            &Odd {
                inner: vec![1.0, 1.5],
            },
        );
        let e = u.commit().await.unwrap_err();
        assert_eq!(
            e.to_string(),
            "audit cannot be stored: /inner/0 is not an integer"
        );

        insert(&store, [Tally::new("a", 1)]).await;
        let mut u = store.unit(3, NOW);
        let row = u.load::<Tally>(&id("a")).await.unwrap();
        u.put(row.map(|_| Tally::new("b", 1)));
        let e = u.commit().await.unwrap_err();
        assert!(matches!(e, CommitError::Unwritable(_)), "{e}");

        let mut u = store.unit(4, NOW);
        u.insert(Tally::new("c", 1));
        u.insert(Tally::new("c", 2));
        let e = u.commit().await.unwrap_err();
        assert_eq!(e.to_string(), "one change names tally/c twice");
    });
}

#[test]
fn a_unit_carries_all_that_a_batch_can() {
    run(async {
        let store = memory();
        let (budget, bucket) = (|| Key::new().text("budget"), || Key::new().text("bucket"));
        let open = async |name: &str| {
            let mut u = store.unit(1, Time::from_seconds(1000));
            u.none(BY_COUNT, Key::new().u64(7));
            u.insert(Tally::new(name, 7));
            u.add(budget(), 1, 2);
            u.take(bucket(), 1, Duration::from_secs(60), 1);
            u.append("audit", &Tally::new(name, 0));
            u.commit().await
        };
        let committed = open("a").await.unwrap();
        assert_eq!(committed.counters, [1, 1_060_000_000]);
        assert_eq!(store.counter(budget()).await.unwrap(), 1);
        let e = open("b").await.unwrap_err();
        let CommitError::Refused(Refusal::Occupied { holder, .. }) = &e else {
            panic!("{e}")
        };
        assert_eq!(*holder, id("a"));

        let mut u = store.unit(2, Time::from_seconds(1001));
        u.take(bucket(), 1, Duration::from_secs(60), 1);
        let e = u.commit().await.unwrap_err();
        let CommitError::Refused(Refusal::Exhausted { retry_in, .. }) = e else {
            panic!("{e}")
        };
        assert_eq!(retry_in, Some(Duration::from_secs(59)));
        assert_eq!(store.tail("audit", u64::MAX, 9).await.unwrap().len(), 1);
    });
}

#[test]
fn pages_join_up_to_the_whole() {
    run(async {
        let store = memory();
        insert(&store, (0..10).map(|n| Tally::new(&format!("t{n}"), n / 3))).await;
        let scan = Scan::all(BY_COUNT, 4);
        let (mut names, mut after, mut pages) = (vec![], None, 0);
        loop {
            let page = store
                .page::<Tally>(Scan {
                    after,
                    ..scan.clone()
                })
                .await
                .unwrap();
            names.extend(page.rows.into_iter().map(|row| row.into_value().name));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(names, (0..10).map(|n| format!("t{n}")).collect::<Vec<_>>());
        assert_eq!(pages, 3);
        let below = Some(Key::new().u64(1).bytes());
        assert_eq!(
            store
                .scan::<Tally>(Scan { below, ..scan })
                .await
                .unwrap()
                .len(),
            3
        );
        let some = store
            .get_many::<Tally>(vec![id("t9"), id("no"), id("t0")])
            .await
            .unwrap();
        let some: Vec<_> = some.into_iter().map(|r| r.map(|r| r.count)).collect();
        assert_eq!(some, [Some(3), None, Some(0)]);
        assert!(
            store
                .first::<Tally>(BY_NAME, Key::new().text("t"))
                .await
                .unwrap()
                .is_none()
        );
    });
}

/// A store whose audit entries can be tampered with.
struct Tampered(Memory, fn(&mut Vec<Entry>));

#[async_trait::async_trait]
impl Engine for Tampered {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        let mut answers = self.0.read(questions).await?;
        for answer in &mut answers {
            if let Answer::Entries(entries) = answer {
                (self.1)(entries);
            }
        }
        Ok(answers)
    }
    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        self.0.commit(group).await
    }
    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        self.0.snapshot(deadline).await
    }
    async fn load(&self, part: Load) -> Result<(), EngineError> {
        self.0.load(part).await
    }
}

#[test]
fn a_stream_tells_the_first_entry_at_fault() {
    let verify = |tamper| {
        run(async move {
            let store = start(Arc::new(Tampered(Memory::new(), tamper)));
            let entry = |n: u32| Append {
                stream: "s",
                doc: Bytes::from(n.to_string()),
            };
            assert_eq!(store.verify_stream("s").await.unwrap(), 0);
            let append = (1..=1200).map(entry).collect();
            store
                .commit(Batch {
                    append,
                    ..Batch::default()
                })
                .await
                .unwrap();
            match store.verify_stream("s").await {
                Ok(newest) => Ok(newest),
                Err(StoreError::BrokenChain { number, .. }) => Err(number),
                Err(e) => panic!("{e}"),
            }
        })
    };
    assert_eq!(verify(|_| {}), Ok(1200));
    assert_eq!(
        verify(|entries| {
            for e in entries
                .iter_mut()
                .filter(|e| e.number == 3 || e.number == 900)
            {
                e.doc = Bytes::from_static(b"forged");
            }
        }),
        Err(3)
    );
    assert_eq!(
        verify(|entries| {
            for e in entries.iter_mut().filter(|e| e.number == 700) {
                e.link[0] ^= 1;
            }
        }),
        Err(700)
    );
    assert_eq!(
        verify(|entries| entries.retain(|e| e.number != 1199)),
        Err(1199)
    );
}

#[test]
fn concurrent_decisions_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let redb = Redb::open(&dir.path().join("s.redb")).unwrap();
    for engine in [Arc::new(Memory::new()) as Arc<dyn Engine>, Arc::new(redb)] {
        run(async {
            let store = Store::start(engine, Committer::Thread, Box::new(|_| {})).unwrap();
            insert(&store, [Tally::new("a", 0)]).await;
            let bump = async || -> Result<(), StoreError> {
                let mut u = store.unit(7, NOW);
                let row = u.load::<Tally>(&id("a")).await?;
                u.put(row.map(Tally::more));
                u.commit().await?;
                Ok(())
            };
            let tasks = (0..64).map(|_| async {
                // One of those that decided on the same version wins each round.
                for _ in 0..64 {
                    match bump().await {
                        Err(e) if e.is_conflict() => {}
                        done => return done,
                    }
                }
                panic!("no decision came through");
            });
            for done in join_all(tasks).await {
                done.unwrap();
            }
            assert_eq!(
                store.get::<Tally>(&id("a")).await.unwrap().unwrap().count,
                64
            );
            store.close().await;
        });
    }
}

#[test]
fn the_feed_forgets_what_is_old_and_nothing_else() {
    run(async {
        let store = memory();
        for n in 0..5_000 {
            let time = Time::from_micros(n);
            let mut unit = store.unit(1, time);
            unit.add(Key::new().u64(7), 1, i64::MAX);
            unit.commit().await.unwrap();
        }
        let now = Time::from_micros(9_000);
        store
            .trim_feed(Time::from_micros(4_500), || store.unit(2, now))
            .await
            .unwrap();
        let Feed::Trimmed { upto } = store.changes(0, 9).await.unwrap() else {
            panic!("it was trimmed");
        };
        let Feed::Changes(left) = store.changes(upto, 9_000).await.unwrap() else {
            panic!("the rest is kept");
        };
        assert_eq!(left[0].at, Time::from_micros(4_500));
        // The trimming itself took a commit for each slice.
        assert_eq!(left.len(), 500 + 3);
        store
            .trim_feed(Time::from_micros(4_500), || store.unit(2, now))
            .await
            .unwrap();
        assert_eq!(
            store.changes(upto, 9_000).await.unwrap(),
            Feed::Changes(left)
        );
    });
}

#[test]
fn decisions_can_run_on_any_thread() {
    async fn bump(store: Store, name: Id) -> Result<(), StoreError> {
        loop {
            let mut u = store.unit(7, NOW);
            let row = u.load::<Tally>(&name).await?;
            u.put(row.map(Tally::more));
            match u.commit().await {
                Err(e) if e.is_conflict() => {}
                done => return Ok(done.map(|_| ())?),
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = memory();
        insert(&store, [Tally::new("a", 0)]).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            tasks.spawn(bump(store.clone(), id("a")));
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
        assert_eq!(
            store.get::<Tally>(&id("a")).await.unwrap().unwrap().count,
            4
        );
    });
}
