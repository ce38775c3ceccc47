//! Starting and ending tasks: the only way anything runs beside its caller.

use super::process::step_back;
use futures_util::{
    FutureExt,
    future::{AbortHandle, abortable},
};
use std::{
    any::Any,
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// All tasks of one server, agent or test. A clone is the same set.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    drain: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    started: u64,
    /// By order of start; a blocking function cannot be aborted.
    tasks: BTreeMap<u64, (&'static str, Option<AbortHandle>)>,
}

/// Why a blocking function gave no value.
#[derive(Debug, thiserror::Error)]
pub enum BlockingError {
    /// It panicked; the log has the message.
    #[error("{0} failed by a fault in the program; the log has the details")]
    Panicked(&'static str),
    /// The system has no room for a thread.
    #[error("{0} has no thread to run on: {1}")]
    NoThread(&'static str, std::io::Error),
    /// The program is ending, so it was not started.
    #[error("{0} was not started because the program is ending")]
    Cancelled(&'static str),
}

/// How long aborted tasks get to drop what they hold.
const ABORT_GRACE: Duration = Duration::from_secs(1);

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. A panic in it is logged under `name` and ends only this task.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (task, abort) = abortable(task);
        let entry = self.enter(name, Some(abort));
        // No async block: it would hold the task twice, and there may be one for each connection.
        let task = AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            let _entry = entry;
            if let Err(panic) = ended {
                log_panic(name, &*panic);
            }
        });
        #[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
        tokio::spawn(self.0.tracker.track_future(task));
    }

    /// Runs a blocking function on a thread of its own and waits for its value. It runs to its end
    /// even when the caller stops waiting.
    pub async fn spawn_blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let entry = self.enter(name, None);
        let token = self.0.tracker.token();
        #[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
        let handle = tokio::task::spawn_blocking(move || {
            let _held = (entry, token);
            function()
        });
        handle.await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => {
                log_panic(name, &*panic);
                BlockingError::Panicked(name)
            }
            Err(_) => BlockingError::Cancelled(name),
        })
    }

    /// As [`spawn_blocking`](Self::spawn_blocking), for long work that is in no hurry: its thread
    /// leaves the processors to all others that want them.
    pub async fn spawn_in_background<T: Send + 'static>(
        &self,
        name: &'static str,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        // A thread that has stepped back may not come forward again: it is not one of the pool.
        let behind = move || {
            let thread = std::thread::Builder::new().name(name.to_owned());
            let thread = thread.spawn(|| {
                step_back();
                function()
            });
            let joined = thread?.join();
            Ok(joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        };
        let done = self.spawn_blocking(name, behind).await?;
        done.map_err(|e: std::io::Error| BlockingError::NoThread(name, e))
    }

    /// A token that is cancelled when the set drains. Cancelling it does not touch the others.
    pub fn token(&self) -> CancellationToken {
        self.0.drain.child_token()
    }

    /// Cancels every token and waits for the tasks. Those still running after `deadline` are
    /// aborted; the answer counts them by name.
    pub async fn shutdown(&self, deadline: Duration) -> BTreeMap<&'static str, usize> {
        self.0.drain.cancel();
        self.0.tracker.close();
        if tokio::time::timeout(deadline, self.0.tracker.wait())
            .await
            .is_ok()
        {
            return BTreeMap::new();
        }
        let mut late = BTreeMap::new();
        for (name, _) in self.running().tasks.values() {
            *late.entry(*name).or_default() += 1;
        }
        self.abort_all();
        // A blocking function cannot be aborted; the process ends under it.
        let _ = tokio::time::timeout(ABORT_GRACE, self.0.tracker.wait()).await;
        late
    }

    /// Aborts every task at its next await, without draining: what a crash looks like from inside.
    pub fn abort_all(&self) {
        let handles: Vec<_> = self
            .running()
            .tasks
            .values()
            .filter_map(|(_, abort)| abort.clone())
            .collect();
        for handle in handles {
            handle.abort();
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, name: &'static str, abort: Option<AbortHandle>) -> Entry {
        let mut running = self.running();
        running.started += 1;
        let id = running.started;
        running.tasks.insert(id, (name, abort));
        Entry {
            id,
            tasks: self.clone(),
        }
    }
}

/// A place in the list of running tasks, left on drop, however the task ends.
struct Entry {
    id: u64,
    tasks: Tasks,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tasks.running().tasks.remove(&self.id);
    }
}

fn log_panic(name: &str, panic: &(dyn Any + Send)) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(task = name, message, "a task panicked");
}
