//! A backup that is made while others write holds a state that existed.

use super::{run, write};
use crate::support::postgres::Cluster;
use bytes::Bytes;
use certctl::{
    clock::Time,
    store::{
        AUDIT, Answer, Append, Batch, Coll, Committer, CounterChange, CounterOp, Engine, Expect,
        Memory, Query, Redb, Store,
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
use tokio::time::Instant;

const LEFT: Coll = Coll("team");
const RIGHT: Coll = Coll("owner");
const WRITERS: u64 = 16;
/// Commits that a backup begins after.
const FIRST: u64 = 300;
/// And that must happen while it is made.
const MEANWHILE: u64 = 200;
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
        let mut own = ids[0].iter().filter(|id| id.starts_with(&own));
        let mut next = 0;
        while let Some(id) = own.next() {
            assert_eq!(*id, format!("w{writer}-{next:06}"), "a commit is missing");
            next += 1;
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

/// Waits until so many commits are done.
async fn until(done: &AtomicU64, n: u64) {
    while done.load(SeqCst) < n {
        tokio::task::yield_now().await;
    }
}

/// Makes a base and an increment while others write, and looks at what comes of them.
async fn restores_to_a_state_that_was(
    engine: Arc<dyn Engine>,
    empty: impl AsyncFn() -> Box<dyn Engine>,
) {
    let store = Store::start(engine.clone(), Committer::Thread, Box::new(|_| {})).unwrap();
    let (done, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let writers = (0..WRITERS).map(async |writer| {
        let mut n = 0;
        while !enough.load(SeqCst) {
            store.commit(pair(writer, n)).await.unwrap();
            n += 1;
            done.fetch_add(1, SeqCst);
        }
    });
    let backups = async {
        let mut since = None;
        let mut bundles: Vec<Vec<u8>> = Vec::new();
        for round in 0..3 {
            until(&done, FIRST * (round + 1)).await;
            let before = done.load(SeqCst);
            let minute = Instant::now() + Duration::from_secs(60);
            let state = store.snapshot(minute).await.unwrap();
            let then = done.load(SeqCst);
            let mut header = Header::of(&*state, Time::default(), "").await.unwrap();
            header.since = since.map(|since: Since| since.seq);
            // The state is held while much is written.
            until(&done, then + MEANWHILE).await;
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
        enough.store(true, SeqCst);
    };
    tokio::join!(join_all(writers), backups);
    let n = done.load(SeqCst);
    println!("{} writes/s", n as f64 / began.elapsed().as_secs_f64());
    assert_eq!(
        whole_commits(&*engine).await,
        n,
        "all that was acknowledged"
    );
    store.close().await;
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
