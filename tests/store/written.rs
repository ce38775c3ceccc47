//! Writers whose every commit can be told from the state: a backup that is made beside them holds
//! one that existed.

use super::{run, write};
use crate::support::postgres::{Cluster, PATIENCE};
use bytes::Bytes;
use certctl::{
    clock::Time,
    store::{
        AUDIT, Answer, Append, Batch, Coll, CommitError, Committer, CounterChange, CounterOp,
        Engine, Expect, Memory, Query, Redb, Store,
        backup::{Header, Keys, Lock, Reader, Since, Writer, capture, load},
    },
};
use futures_util::future::join_all;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout};

const LEFT: Coll = Coll("team");
const RIGHT: Coll = Coll("owner");
const WRITERS: u64 = 16;
/// Commits that a backup begins after.
const FIRST: u64 = 300;
/// And that must happen while it is made.
const MEANWHILE: u64 = 1_000;
const COUNTER: &[u8] = b"written";

/// Each commit writes a pair of rows with its writer's next number, counts one up and appends one
/// entry. So in each state there are as many of each, and no writer's numbers have a gap.
fn pair(writer: u64, n: u64) -> Batch {
    let name = format!("w{writer}-{n:06}");
    let filler = "x".repeat(400);
    let doc = format!(r#"{{"n":{n},"name":"{name}","x":"{filler}"}}"#);
    Batch {
        id: (u128::from(writer) << 64) | u128::from(n),
        at: Time::from_seconds(1_800_000_000),
        writes: vec![
            write(LEFT, &name, Expect::Absent, &doc, vec![]),
            write(RIGHT, &name, Expect::Absent, &doc, vec![]),
        ],
        counters: vec![CounterChange {
            key: COUNTER.to_vec(),
            op: CounterOp::Add {
                n: 1,
                max: i64::MAX,
            },
        }],
        append: vec![Append {
            stream: AUDIT,
            doc: Bytes::from(format!(r#"{{"name":"{name}"}}"#)),
        }],
        ..Batch::default()
    }
}

/// How many commits a restored store is of.
async fn whole_commits(engine: &dyn Engine) -> u64 {
    let ask = async |question| engine.read(vec![question]).await.unwrap().remove(0);
    let limit = usize::MAX >> 1;
    let mut ids: Vec<Vec<String>> = Vec::new();
    for coll in [LEFT, RIGHT] {
        let after = None;
        match ask(Query::All { coll, after, limit }).await {
            Answer::All(rows) => ids.push(rows.iter().map(|row| row.id.to_string()).collect()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ids[0], ids[1], "a pair is written at once");
    let n = ids[0].len() as u64;
    for writer in 0..WRITERS {
        let own = format!("w{writer}-");
        let own = ids[0].iter().filter(|id| id.starts_with(&own));
        for (n, id) in own.enumerate() {
            assert_eq!(*id, format!("w{writer}-{n:06}"), "a commit is missing");
        }
    }
    let counted = ask(Query::Counter(COUNTER.to_vec())).await;
    assert_eq!(counted, Answer::Counter(i64::try_from(n).unwrap()));
    let tail = Query::Tail {
        stream: AUDIT,
        before: u64::MAX,
        limit: 1,
    };
    match ask(tail).await {
        Answer::Entries(entries) => assert_eq!(entries[0].number, n),
        other => panic!("{other:?}"),
    }
    n
}

/// Writers at work on a store, each of whom asks again until it is answered.
pub struct Writing {
    pub store: Store,
    acknowledged: AtomicU64,
    /// Commits that were not done, by what was said.
    refused: AtomicU64,
    /// Commits of which it was not said whether they were done.
    unknown: AtomicU64,
    enough: AtomicBool,
}

impl Writing {
    async fn work(&self, writer: u64) {
        let mut n = 0;
        // Whether the last answer said nothing of what became of it.
        let mut unknown = false;
        while !self.enough.load(SeqCst) {
            match self.store.commit(pair(writer, n)).await {
                Ok(_) => {}
                Err(CommitError::Unknown(_)) => {
                    unknown = true;
                    self.unknown.fetch_add(1, SeqCst);
                    continue;
                }
                Err(e) if e.is_away() => {
                    self.refused.fetch_add(1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                // It took place after all; and one that was refused did not.
                Err(e) if e.is_conflict() && unknown => {}
                Err(e) => panic!("writer {writer}, {n}: {e}"),
            }
            unknown = false;
            n += 1;
            self.acknowledged.fetch_add(1, SeqCst);
        }
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(SeqCst)
    }

    /// Waits until so many more commits are acknowledged.
    pub async fn go_on(&self, n: u64) {
        let wanted = self.acknowledged() + n;
        self.until(wanted).await;
    }

    /// Waits until so many commits are acknowledged.
    pub async fn until(&self, n: u64) {
        comes(|| self.acknowledged() >= n).await;
    }

    /// Waits until each writer has been told that the store is away.
    pub async fn told(&self) {
        let told = || self.refused.load(SeqCst) + self.unknown.load(SeqCst);
        let wanted = told() + WRITERS;
        comes(|| told() >= wanted).await;
    }
}

/// Waits until something is so.
pub async fn comes(so: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.expect("it comes");
}

/// Lets writers write during a story. What they were told is what is then there.
pub async fn beside_writers(engine: Arc<dyn Engine>, story: impl AsyncFnOnce(&Writing)) {
    let store = Store::start(engine.clone(), Committer::Thread, Box::new(|_| {})).unwrap();
    let writing = Writing {
        store,
        acknowledged: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        unknown: AtomicU64::new(0),
        enough: AtomicBool::new(false),
    };
    let began = Instant::now();
    let told = async {
        story(&writing).await;
        writing.enough.store(true, SeqCst);
    };
    let works = (0..WRITERS).map(|writer| writing.work(writer));
    tokio::join!(join_all(works), told);
    let n = writing.acknowledged();
    println!(
        "{:.0} writes/s acknowledged, {} refused, {} unknown",
        n as f64 / began.elapsed().as_secs_f64(),
        writing.refused.load(SeqCst),
        writing.unknown.load(SeqCst)
    );
    let found = whole_commits(&*engine).await;
    // Each writer's last word may have been that nothing is known.
    let open = writing.unknown.load(SeqCst).min(WRITERS);
    assert!((n..=n + open).contains(&found), "{found} of {n} are there");
    writing.store.close().await;
}

/// Makes a base and an increment while others write, and looks at what comes of them.
async fn restores_to_a_state_that_was(
    engine: Arc<dyn Engine>,
    empty: impl AsyncFn() -> Box<dyn Engine>,
) {
    let story = async |writing: &Writing| {
        let mut since = None;
        let mut bundles: Vec<Vec<u8>> = Vec::new();
        for round in 0..3 {
            writing.until(FIRST * (round + 1)).await;
            let before = writing.acknowledged();
            let minute = Instant::now() + Duration::from_secs(60);
            let state = writing.store.snapshot(minute).await.unwrap();
            let then = writing.acknowledged();
            let mut header = Header::of(&*state, Time::default(), "").await.unwrap();
            header.since = since.map(|since: Since| since.seq);
            // The state is held while much is written.
            writing.go_on(MEANWHILE).await;
            let mut out = Writer::new(Vec::new(), &Lock::Open, header.clone()).unwrap();
            capture(&*state, since, &mut out, &mut |_| {})
                .await
                .unwrap();
            bundles.push(out.finish().unwrap().0);
            let new = empty().await;
            let keys = Keys::default();
            let read = bundles.iter().map(|bytes| Reader::new(&bytes[..], &keys));
            let last = |header: &Header| header.seq;
            load(futures_util::stream::iter(read), &*new, last, &mut |_| {})
                .await
                .unwrap();
            let n = whole_commits(&*new).await;
            assert!(
                (before..=then + WRITERS).contains(&n),
                "the state of when it began: {n}, not {before} to {then}"
            );
            since = Some(Since {
                seq: header.seq,
                audit_entries: header.audit_entries,
            });
        }
    };
    beside_writers(engine, story).await;
}

#[test]
fn a_backup_beside_writers_is_of_one_state_on_redb() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = Redb::open(&dir.path().join("s.redb")).unwrap();
        let empty = async || Box::new(Memory::new()) as Box<dyn Engine>;
        restores_to_a_state_that_was(Arc::new(engine), empty).await;
    });
}

#[test]
fn a_backup_beside_writers_is_of_one_state_on_postgres() {
    run(async {
        let cluster = Cluster::shared();
        let (database, others) = (cluster.database(), [(); 3].map(|()| cluster.database()));
        let next = AtomicU64::new(0);
        let empty = async || {
            let n = usize::try_from(next.fetch_add(1, SeqCst)).unwrap();
            Box::new(others[n].open().await) as Box<dyn Engine>
        };
        restores_to_a_state_that_was(Arc::new(database.open().await), empty).await;
    });
}
