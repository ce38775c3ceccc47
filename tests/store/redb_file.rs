//! The file engine: what it keeps, who may open it, and what a failing disk does.

use super::{Ask, index_key, run, write, writes};
use bytes::Bytes;
use certctl::store::{
    Append, Batch, Coll, CommitError, Committer, CounterChange, CounterOp, EngineError, Expect,
    Index, Redb, Store,
};
use redb::{StorageBackend, backends::InMemoryBackend};
use std::{
    io,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

const C: Coll = Coll("c");
const I: Index = Index::new(C, "c.i").unique();

fn batch(row: &str) -> Batch {
    Batch {
        writes: vec![write(
            C,
            row,
            Expect::Absent,
            row,
            vec![index_key(I, row.as_bytes())],
        )],
        counters: vec![CounterChange {
            key: b"n".to_vec(),
            op: CounterOp::Add { n: 1, max: 9 },
        }],
        append: vec![Append {
            stream: "s",
            doc: Bytes::from(row.to_owned()),
        }],
        ..Batch::default()
    }
}

#[test]
fn reopening_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let (row, entries, version) = run(async {
        let store = Redb::open(&path).unwrap();
        let ask = Ask(&store);
        ask.accepted(batch("a")).await;
        let version = ask.accepted(batch("b")).await.version;
        (
            ask.row(C, "a").await.unwrap(),
            ask.tail("s", 9, 9).await,
            version,
        )
    });
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    run(async {
        let store = Redb::open(&path).unwrap();
        let ask = Ask(&store);
        assert_eq!(ask.row(C, "a").await.unwrap(), row);
        assert_eq!(ask.holders(I, b"").await, ["a", "b"]);
        assert_eq!(ask.counter(b"n").await, 2);
        assert_eq!(ask.tail("s", 9, 9).await, entries);
        assert_eq!(ask.accepted(batch("c")).await.version, version + 1);
        assert_eq!(ask.tail("s", 9, 1).await[0].number, 3);
        // What it knew about keys still holds.
        let moved = write(C, "a", Expect::Version(row.version), "2", vec![]);
        ask.accepted(writes(vec![moved])).await;
        assert_eq!(ask.holders(I, b"").await, ["b", "c"]);
    });
}

#[test]
fn a_second_opener_is_refused_until_the_first_closes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    run(async {
        let engine = Arc::new(Redb::open(&path).unwrap());
        let store = Store::start(engine, Committer::Thread, Box::new(|_| {})).unwrap();
        let refused = Redb::open(&path).err().unwrap();
        assert!(
            matches!(&refused, EngineError::InUse(p) if p.contains("s.redb")),
            "{refused}"
        );
        store.commit(batch("a")).await.unwrap();
        store.close().await;
        drop(store);
        let again = Redb::open(&path).unwrap();
        assert!(Ask(&again).row(C, "a").await.is_some());
    });
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    std::fs::write(&path, "not a store, but somebody's file").unwrap();
    let refused = Redb::open(&path).err().unwrap();
    assert!(refused.to_string().contains("s.redb"), "{refused}");
    assert_eq!(
        std::fs::read(&path).unwrap(),
        b"not a store, but somebody's file"
    );
    assert!(Redb::open(&dir.path().join("missing/s.redb")).is_err());
}

/// A disk that fails when told to.
#[derive(Debug)]
struct Flaky {
    disk: InMemoryBackend,
    failing: Arc<AtomicBool>,
}

impl Flaky {
    fn check(&self) -> io::Result<()> {
        match self.failing.load(Ordering::SeqCst) {
            true => Err(io::Error::other("no space left")),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Flaky {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check().and_then(|()| self.disk.set_len(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check().and_then(|()| self.disk.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check().and_then(|()| self.disk.write(offset, data))
    }
}

#[test]
fn a_failing_disk_ends_the_store() {
    for mode in [Committer::Thread, Committer::Inline] {
        run(async {
            let failing = Arc::new(AtomicBool::new(false));
            let disk = Flaky {
                disk: InMemoryBackend::new(),
                failing: failing.clone(),
            };
            let engine = Arc::new(Redb::open_on(disk).unwrap());
            let calls = Arc::new(AtomicUsize::new(0));
            let count = calls.clone();
            let on_fatal = move |e: &EngineError| {
                assert!(matches!(e, EngineError::Io(_)), "{e}");
                count.fetch_add(1, Ordering::SeqCst);
            };
            let store = Store::start(engine.clone(), mode, Box::new(on_fatal)).unwrap();
            store.commit(batch("a")).await.unwrap();
            failing.store(true, Ordering::SeqCst);
            let lost = store.commit(batch("b")).await.unwrap_err();
            assert!(matches!(lost, CommitError::Unknown(_)), "{lost}");
            failing.store(false, Ordering::SeqCst);
            store.close().await;
            let after = store.commit(batch("c")).await.unwrap_err();
            assert!(matches!(after, CommitError::Stopped), "{after}");
            assert_eq!(calls.load(Ordering::SeqCst), 1);
            assert_eq!(Ask(&*engine).row(C, "c").await, None);
        });
    }
}
