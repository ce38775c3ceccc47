//! The way into the engine: batches wait in a bounded queue and are committed in groups, so that
//! many share one write to disk.

use super::{
    batch::{Batch, Committed, Outcome},
    engine::{Engine, EngineError},
    error::CommitError,
};
use crate::telemetry::StoreMetrics;
use futures_util::FutureExt;
use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

/// Batches that may wait.
const WAITING: usize = 1_024;
/// A group ends at so many batches,
const GROUP_BATCHES: usize = 256;
/// rows and entries written,
const GROUP_WRITES: usize = 2_000;
/// or bytes of them. One batch that is larger is a group by itself.
const GROUP_BYTES: usize = 1024 * 1024;

/// Where commits run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committer {
    /// On a thread of their own, in groups: production.
    Thread,
    /// In the caller's task, one at a time: simulation.
    Inline,
}

/// Called once when the engine failed in a way that only opening the store again can mend.
pub type OnFatal = Box<dyn FnOnce(&EngineError) + Send + Sync>;

/// Accepts batches until it is closed or the engine fails.
pub(super) enum Queue {
    Thread {
        /// `None` once closed.
        sender: Mutex<Option<mpsc::Sender<Job>>>,
        /// Closed when the thread has let go of the engine.
        ended: watch::Receiver<()>,
        metrics: StoreMetrics,
    },
    /// `None` once closed or failed.
    Inline(tokio::sync::Mutex<Option<Line>>),
}

pub(super) struct Job {
    batch: Batch,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Committed, CommitError>>;

impl Queue {
    /// With [`Committer::Thread`], called within a tokio runtime.
    pub(super) fn start(
        engine: Arc<dyn Engine>,
        mode: Committer,
        on_fatal: OnFatal,
        wake: watch::Sender<u64>,
        metrics: StoreMetrics,
    ) -> std::io::Result<Self> {
        let line = Line {
            engine,
            wake,
            on_fatal,
            metrics: metrics.clone(),
        };
        if mode == Committer::Inline {
            return Ok(Self::Inline(tokio::sync::Mutex::new(Some(line))));
        }
        let (sender, jobs) = mpsc::channel(WAITING);
        let (alive, ended) = watch::channel(());
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || {
                runtime.block_on(line.serve(jobs));
                drop(alive);
            })?;
        Ok(Self::Thread {
            sender: Mutex::new(Some(sender)),
            ended,
            metrics,
        })
    }

    /// Commits a valid batch.
    pub(super) async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        match self {
            Self::Thread {
                sender, metrics, ..
            } => {
                let (reply, answer) = oneshot::channel();
                {
                    let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
                    let sender = sender.as_ref().ok_or(CommitError::Stopped)?;
                    sender.try_send(Job { batch, reply }).map_err(|e| match e {
                        mpsc::error::TrySendError::Full(_) => CommitError::Busy,
                        mpsc::error::TrySendError::Closed(_) => CommitError::Stopped,
                    })?;
                    metrics.waits();
                }
                answer.await.unwrap_or(Err(CommitError::Stopped))
            }
            Self::Inline(line) => {
                let mut open = line.lock().await;
                let line = open.as_ref().ok_or(CommitError::Stopped)?;
                match line.commit(std::slice::from_ref(&batch)).await {
                    Ok(mut results) => results.pop().unwrap_or(Err(CommitError::Stopped)),
                    Err(fatal) => {
                        if let Some(line) = open.take() {
                            (line.on_fatal)(&fatal);
                        }
                        Err(CommitError::Unknown(fatal))
                    }
                }
            }
        }
    }

    /// Takes no more batches; returns when all that waited are committed.
    pub(super) async fn close(&self) {
        match self {
            Self::Thread { sender, ended, .. } => {
                drop(sender.lock().unwrap_or_else(PoisonError::into_inner).take());
                let mut ended = ended.clone();
                // The thread sends nothing; an error is its end.
                while ended.changed().await.is_ok() {}
            }
            Self::Inline(line) => drop(line.lock().await.take()),
        }
    }
}

/// The one place from which an engine's `commit` is called.
pub(super) struct Line {
    engine: Arc<dyn Engine>,
    wake: watch::Sender<u64>,
    on_fatal: OnFatal,
    metrics: StoreMetrics,
}

impl Line {
    /// Commits what comes, until the queue closes or the engine fails.
    async fn serve(self, mut jobs: mpsc::Receiver<Job>) {
        let mut notices = self.engine.notices();
        let mut next = self.wait(&mut jobs, &mut notices).await;
        while let Some(first) = next.take() {
            let (batches, replies, left) = gather(first, &mut jobs);
            next = left;
            self.metrics.taken(batches.len());
            match self.commit(&batches).await {
                Ok(results) => {
                    for (reply, result) in replies.into_iter().zip(results) {
                        // Whoever no longer waits does not care.
                        let _ = reply.send(result);
                    }
                }
                Err(fatal) => {
                    for reply in replies {
                        let _ = reply.send(Err(CommitError::Unknown(fatal.clone())));
                    }
                    return (self.on_fatal)(&fatal);
                }
            }
            if next.is_none() {
                next = self.wait(&mut jobs, &mut notices).await;
            }
        }
    }

    /// The next job; meanwhile passes on what other processes commit. `None` at the end.
    async fn wait(
        &self,
        jobs: &mut mpsc::Receiver<Job>,
        notices: &mut Option<watch::Receiver<u64>>,
    ) -> Option<Job> {
        loop {
            let Some(others) = notices else {
                return jobs.recv().await;
            };
            tokio::select! {
                biased;
                job = jobs.recv() => return job,
                told = others.changed() => match told {
                    Ok(()) => self.tell(*others.borrow_and_update()),
                    Err(_) => *notices = None,
                },
            }
        }
    }

    /// Wakes those who look for work, unless they know of this commit.
    fn tell(&self, seq: u64) {
        self.wake.send_if_modified(|last| {
            let newer = seq > *last;
            *last = seq.max(*last);
            newer
        });
    }

    /// Commits a group. An engine's error on several is tried again one by one, so that only the
    /// guilty fails.
    ///
    /// # Errors
    /// One that ends the store.
    async fn commit(
        &self,
        group: &[Batch],
    ) -> Result<Vec<Result<Committed, CommitError>>, EngineError> {
        let results = match self.attempt(group).await {
            Ok(outcomes) => outcomes.into_iter().map(result).collect(),
            Err(fatal @ EngineError::Io(_)) => return Err(fatal),
            // Nobody's fault, and again would not be better.
            Err(e @ EngineError::Unresolved) => {
                let unknown = |_| Err(CommitError::Unknown(e.clone()));
                group.iter().map(unknown).collect()
            }
            Err(EngineError::Away(why)) => {
                let away = || CommitError::Engine(EngineError::Away(why.clone()));
                group.iter().map(|_| Err(away())).collect()
            }
            Err(e) if group.len() == 1 => vec![Err(CommitError::Engine(e))],
            Err(_) => {
                let mut results = Vec::with_capacity(group.len());
                for batch in group {
                    match self.attempt(std::slice::from_ref(batch)).await {
                        Ok(outcomes) => results.extend(outcomes.into_iter().map(result)),
                        Err(fatal @ EngineError::Io(_)) => return Err(fatal),
                        Err(e @ EngineError::Unresolved) => {
                            results.push(Err(CommitError::Unknown(e)));
                        }
                        Err(e) => results.push(Err(CommitError::Engine(e))),
                    }
                }
                results
            }
        };
        let last = results
            .iter()
            .flatten()
            .map(|committed| committed.version)
            .max();
        if let Some(last) = last {
            self.tell(last);
        }
        Ok(results)
    }

    async fn attempt(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        let began = Instant::now();
        // A panic in an engine leaves its state unknown, as a failed write does.
        let outcomes = AssertUnwindSafe(self.engine.commit(group))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(EngineError::Io("the engine panicked".to_owned())));
        let mut counts = [0; 3];
        match &outcomes {
            Ok(outcomes) => {
                for outcome in outcomes {
                    counts[usize::from(matches!(outcome, Outcome::Refused(_)))] += 1;
                }
            }
            Err(_) => counts[2] = group.len() as u64,
        }
        self.metrics.tried(began.elapsed(), counts);
        outcomes
    }
}

fn result(outcome: Outcome) -> Result<Committed, CommitError> {
    match outcome {
        Outcome::Committed(committed) => Ok(committed),
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

/// Takes what waits behind `first` into one group; also gives the job that no longer fitted.
fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>) -> (Vec<Batch>, Vec<Reply>, Option<Job>) {
    let (mut batches, mut replies) = (Vec::new(), Vec::new());
    let (mut writes, mut bytes) = (0, 0);
    let mut next = Some(first);
    while let Some(job) = next {
        writes += job.batch.writes.len() + job.batch.append.len();
        bytes += job.batch.bytes();
        let fits = batches.len() < GROUP_BATCHES && writes <= GROUP_WRITES && bytes <= GROUP_BYTES;
        if !fits && !batches.is_empty() {
            return (batches, replies, Some(job));
        }
        batches.push(job.batch);
        replies.push(job.reply);
        next = jobs.try_recv().ok();
    }
    (batches, replies, None)
}
