//! The commit queue: bounds, groups, order, failures.

use super::{Ask, id, run, write, writes};
use async_trait::async_trait;
use certctl::store::{
    Answer, Batch, Coll, CommitError, Committer, Doc, Engine, EngineError, Expect, Invalid, Load,
    Memory, Outcome, Query, Snapshot, Store,
};
use futures_util::{FutureExt, future::join_all};
use std::sync::{Arc, Mutex};
use tokio::{sync::Semaphore, time::Instant};

const C: Coll = Coll("c");

fn insert(row: impl ToString) -> Batch {
    writes(vec![write(
        C,
        &row.to_string(),
        Expect::Absent,
        "1",
        vec![],
    )])
}

/// An engine whose commits wait for a permit, fail on batch 13 and panic on batch 99.
struct Gate {
    memory: Memory,
    open: Semaphore,
    entered: Semaphore,
    groups: Mutex<Vec<usize>>,
}

impl Gate {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(),
            open: Semaphore::new(permits),
            entered: Semaphore::new(0),
            groups: Mutex::default(),
        })
    }
}

#[async_trait]
impl Engine for Gate {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        self.memory.read(questions).await
    }
    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        self.entered.add_permits(1);
        self.open.acquire().await.unwrap().forget();
        self.groups.lock().unwrap().push(group.len());
        assert!(
            group.iter().all(|batch| batch.id != 99),
            "a panic in the engine"
        );
        if group.iter().any(|batch| batch.id == 13) {
            return Err(EngineError::Corrupt("row".to_owned()));
        }
        self.memory.commit(group).await
    }
    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        self.memory.snapshot(deadline).await
    }
    async fn load(&self, part: Load) -> Result<(), EngineError> {
        self.memory.load(part).await
    }
}

fn start(engine: Arc<Gate>, mode: Committer) -> Store {
    Store::start(engine, mode, Box::new(|_| {})).unwrap()
}

#[test]
fn a_full_queue_is_busy_and_what_waits_shares_groups() {
    run(async {
        let gate = Gate::new(0);
        let store = start(gate.clone(), Committer::Thread);
        let mut waiting = vec![Box::pin(store.commit(insert("first")))];
        assert!(waiting[0].as_mut().now_or_never().is_none());
        gate.entered.acquire().await.unwrap().forget();
        for n in 0..1024 {
            let mut commit = Box::pin(store.commit(insert(n)));
            assert!(commit.as_mut().now_or_never().is_none(), "{n} waits");
            waiting.push(commit);
        }
        let refused = store.commit(insert("late")).await.unwrap_err();
        assert!(matches!(refused, CommitError::Busy), "{refused}");

        gate.open.add_permits(100);
        let versions: Vec<_> = join_all(waiting)
            .await
            .into_iter()
            .map(|r| r.unwrap().version)
            .collect();
        assert!(
            versions.is_sorted_by(|a, b| a + 1 == *b),
            "first come, first committed"
        );
        assert_eq!(*gate.groups.lock().unwrap(), [1, 256, 256, 256, 256]);
        assert_eq!(*store.wake().borrow(), versions[1024]);
        assert_eq!(Ask(&*gate).row(C, "late").await, None);
    });
}

#[test]
fn a_group_ends_at_its_size() {
    run(async {
        let gate = Gate::new(0);
        let store = start(gate.clone(), Committer::Thread);
        let large = |name: &str, rows: usize, bytes: usize| {
            let doc = "x".repeat(bytes);
            let row = |n| write(C, &format!("{name}{n}"), Expect::Absent, &doc, vec![]);
            writes((0..rows).map(row).collect())
        };
        let mut waiting = vec![Box::pin(store.commit(insert("first")))];
        assert!(waiting[0].as_mut().now_or_never().is_none());
        gate.entered.acquire().await.unwrap().forget();
        // By writes: 1,500 + 500 fit; 1 more does not. By bytes: 2 MiB is a group by itself.
        for batch in [
            large("a", 1500, 1),
            large("b", 500, 1),
            large("c", 1, 1),
            large("d", 8, 256 * 1024),
            large("e", 1, 1),
        ] {
            let mut commit = Box::pin(store.commit(batch));
            assert!(commit.as_mut().now_or_never().is_none());
            waiting.push(commit);
        }
        gate.open.add_permits(100);
        assert!(join_all(waiting).await.iter().all(Result::is_ok));
        assert_eq!(*gate.groups.lock().unwrap(), [1, 2, 1, 1, 1]);
    });
}

#[test]
fn only_the_guilty_of_a_group_fails() {
    run(async {
        let gate = Gate::new(0);
        let store = start(gate.clone(), Committer::Thread);
        let mut waiting = vec![];
        for n in 10..16 {
            let batch = Batch { id: n, ..insert(n) };
            let mut commit = Box::pin(store.commit(batch));
            assert!(commit.as_mut().now_or_never().is_none());
            waiting.push(commit);
        }
        gate.open.add_permits(100);
        for (n, result) in (10..16).zip(join_all(waiting).await) {
            match n {
                13 => assert!(matches!(result, Err(CommitError::Engine(_))), "{result:?}"),
                _ => assert!(result.is_ok(), "{n}: {result:?}"),
            }
        }
        store.commit(insert("later")).await.unwrap();
    });
}

#[test]
fn closing_commits_what_waits_and_takes_no_more() {
    for mode in [Committer::Thread, Committer::Inline] {
        run(async {
            let gate = Gate::new(0);
            let store = start(gate.clone(), mode);
            let mut waiting = vec![];
            for n in 0..5 {
                let mut commit = Box::pin(store.commit(insert(n)));
                assert!(commit.as_mut().now_or_never().is_none());
                waiting.push(commit);
            }
            let mut closing = Box::pin(store.close());
            assert!(
                closing.as_mut().now_or_never().is_none(),
                "{mode:?} waits for the engine"
            );
            gate.open.add_permits(100);
            let (results, ()) = tokio::join!(join_all(waiting), closing);
            assert!(results.iter().all(Result::is_ok), "{mode:?}: {results:?}");
            let late = store.commit(insert("late")).await.unwrap_err();
            assert!(matches!(late, CommitError::Stopped), "{late}");
            store.close().await;
            assert!(Ask(&*gate).row(C, "4").await.is_some());
        });
    }
}

#[test]
fn a_panic_in_the_engine_ends_the_store() {
    for mode in [Committer::Thread, Committer::Inline] {
        run(async {
            let called = Arc::new(Semaphore::new(0));
            let hook = called.clone();
            let on_fatal = move |_: &EngineError| hook.add_permits(1);
            let store = Store::start(Gate::new(100), mode, Box::new(on_fatal)).unwrap();
            let lost = store
                .commit(Batch {
                    id: 99,
                    ..insert("a")
                })
                .await
                .unwrap_err();
            assert!(matches!(lost, CommitError::Unknown(_)), "{lost}");
            called.acquire().await.unwrap().forget();
            store.close().await;
            let late = store.commit(insert("late")).await.unwrap_err();
            assert!(matches!(late, CommitError::Stopped), "{late}");
        });
    }
}

#[test]
fn a_senseless_batch_is_refused_before_it_queues() {
    let gate = Gate::new(0);
    let row = |n: usize| write(C, &n.to_string(), Expect::Absent, "1", vec![]);
    let twice = Batch {
        asserts: vec![(C, id("1"), Expect::Absent)],
        ..writes(vec![row(1)])
    };
    let many = writes((0..2001).map(row).collect());
    let big = writes(vec![write(
        C,
        "1",
        Expect::Absent,
        &"x".repeat(256 * 1024 + 1),
        vec![],
    )]);
    let mut gone = row(1);
    gone.doc = Doc::Delete;
    run(async {
        let store = start(gate, Committer::Inline);
        for batch in [twice, writes(vec![row(1), row(1)])] {
            let e = store.commit(batch).await.unwrap_err();
            assert!(
                matches!(e, CommitError::Invalid(Invalid::RowTwice { .. })),
                "{e}"
            );
        }
        for batch in [many, big] {
            let e = store.commit(batch).await.unwrap_err();
            assert!(
                matches!(e, CommitError::Invalid(Invalid::TooLarge { .. })),
                "{e}"
            );
        }
        let e = store.commit(writes(vec![gone])).await.unwrap_err();
        assert!(
            matches!(e, CommitError::Invalid(Invalid::NoRow { .. })),
            "{e}"
        );
    });
}
