//! Tasks: drain, deadline, panics.

use certctl::sys::{BlockingError, Tasks};
use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::oneshot;

const AMPLE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn shutdown_waits_for_tasks_that_watch_the_token() {
    let tasks = Tasks::new();
    let ended = Arc::new(AtomicBool::new(false));
    let (token, flag) = (tasks.token(), ended.clone());
    tasks.spawn("polite", async move {
        token.cancelled().await;
        tokio::task::yield_now().await;
        flag.store(true, Relaxed);
    });
    assert_eq!(tasks.shutdown(AMPLE).await, BTreeMap::new());
    assert!(ended.load(Relaxed));
}

#[tokio::test]
async fn late_tasks_are_named_and_aborted() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let tasks = Tasks::new();
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Flag(dropped.clone());
    tasks.spawn("deaf", async move {
        let _flag = flag;
        pending().await
    });
    tasks.spawn("deaf", pending());
    tasks.spawn("quick", async {});
    let late = tasks.shutdown(Duration::from_millis(50)).await;
    assert_eq!(late, BTreeMap::from([("deaf", 2)]));
    assert!(
        dropped.load(Relaxed),
        "what an aborted task held is released"
    );
}

#[tokio::test]
async fn a_panic_ends_its_task_only() {
    let tasks = Tasks::new();
    tasks.spawn("faulty", async { panic!("on purpose") });
    let (sender, receiver) = oneshot::channel();
    tasks.spawn("sound", async move { sender.send(7).unwrap() });
    assert_eq!(receiver.await, Ok(7));
    assert_eq!(tasks.shutdown(AMPLE).await, BTreeMap::new());
}

#[tokio::test]
async fn blocking_functions_return_values_and_report_panics() {
    let tasks = Tasks::new();
    assert_eq!(tasks.spawn_blocking("sum", || 1 + 1).await.unwrap(), 2);
    let failed = tasks
        .spawn_blocking("faulty", || -> u8 { panic!("on purpose") })
        .await;
    assert!(matches!(failed, Err(BlockingError::Panicked("faulty"))));
    assert_eq!(tasks.shutdown(AMPLE).await, BTreeMap::new());
}

#[tokio::test]
async fn a_cancelled_token_leaves_the_others_alone() {
    let tasks = Tasks::new();
    tasks.token().cancel();
    assert!(!tasks.token().is_cancelled());
}

#[tokio::test]
async fn abort_all_stops_everything_without_a_drain() {
    let tasks = Tasks::new();
    let (sender, receiver) = oneshot::channel::<()>();
    tasks.spawn("deaf", async move {
        pending::<()>().await;
        drop(sender);
    });
    tasks.abort_all();
    assert!(receiver.await.is_err());
    assert!(!tasks.token().is_cancelled());
}

#[test]
fn starting_a_task_on_an_ended_runtime_does_not_hang() {
    struct Late(Tasks);
    impl Drop for Late {
        fn drop(&mut self) {
            self.0.spawn("late", async {});
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let tasks = Tasks::new();
    let late = Late(tasks.clone());
    runtime.block_on(async {
        tasks.spawn("waiting", async move {
            let _late = late;
            pending().await
        });
        tokio::task::yield_now().await;
    });
    drop(runtime);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_and_then_counted() {
    let throttle = certctl::telemetry::Throttle::default();
    let told = (0..100).filter_map(|_| throttle.tell()).collect::<Vec<_>>();
    assert_eq!(told, [0; 20]);
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    assert_eq!(throttle.tell(), Some(80), "those before that were not");
    assert_eq!(throttle.tell(), Some(0));
}
