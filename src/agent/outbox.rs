//! Reports until the server has taken them.

use super::{
    Paths,
    backoff::Backoff,
    protocol::Report,
    server::{Refusal, Server},
};
use crate::{clock::Rng, id::Id, sys::Files};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::Notify, time::sleep};

const MAX_BYTES: usize = 256 * 1024;

/// Reports that the server has not acknowledged, the last of each job, as
/// `<state>/outbox/<job>.json`. Memory leads: a full disk delays no report, it only risks it in a
/// crash, after which the job is run again.
pub struct Outbox {
    files: Arc<dyn Files>,
    dir: PathBuf,
    waiting: Mutex<BTreeMap<Id, Report>>,
    wake: Notify,
}

impl Outbox {
    /// The outbox in `paths`, with what an earlier run left in it.
    pub fn open(files: Arc<dyn Files>, paths: &Paths) -> Self {
        let dir = paths.state.join("outbox");
        let waiting = load(&*files, &dir);
        Self {
            files,
            dir,
            waiting: Mutex::new(waiting),
            wake: Notify::new(),
        }
    }

    /// The jobs whose reports wait.
    pub fn jobs(&self) -> Vec<Id> {
        self.waiting().keys().cloned().collect()
    }

    /// Adds the report of a job, in place of an earlier one.
    pub fn add(&self, job: &Id, report: Report) {
        if let Err(error) = self.write(job, &report) {
            tracing::warn!(%job, %error, "the report is kept in memory only");
        }
        self.waiting().insert(job.clone(), report);
        self.wake.notify_one();
    }

    /// Delivers until the server retires the agent; returns what it says of that.
    pub async fn deliver(&self, server: &Server, rng: &dyn Rng) -> String {
        let mut backoff = Backoff::default();
        loop {
            let round = self.waiting().clone();
            let mut failed = None;
            for (job, report) in round {
                match server.report(&job, &report).await {
                    Ok(()) => self.done(&job, &report),
                    Err(Refusal::Retired(why)) => return why,
                    Err(error @ (Refusal::Lost(_) | Refusal::Rejected { .. })) => {
                        tracing::warn!(%job, %error, "the server does not take the report");
                        self.done(&job, &report);
                    }
                    Err(error) => failed = Some((job, error)),
                }
            }
            match failed {
                None => {
                    backoff = Backoff::default();
                    self.wake.notified().await;
                }
                Some((job, error)) => {
                    let pause = backoff.next(rng, error.retry_after());
                    if backoff.is_news() {
                        tracing::warn!(%job, %error, ?pause, "a report is not delivered yet");
                    }
                    sleep(pause).await;
                }
            }
        }
    }

    /// Forgets a report, unless a newer one of the same job has taken its place.
    fn done(&self, job: &Id, report: &Report) {
        let mut waiting = self.waiting();
        if waiting.get(job) == Some(report) {
            waiting.remove(job);
            if let Err(error) = self.files.remove(&self.path(job)) {
                tracing::warn!(%job, %error, "a delivered report stays on disk and will be repeated");
            }
        }
    }

    fn write(&self, job: &Id, report: &Report) -> anyhow::Result<()> {
        self.files.make_dir(&self.dir, 0o700)?;
        Ok(self
            .files
            .write_durable(&self.path(job), &serde_json::to_vec(report)?, 0o600)?)
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Id, Report>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, job: &Id) -> PathBuf {
        self.dir.join(format!("{job}.json"))
    }
}

/// Reads what is there; what cannot be read is told and left.
fn load(files: &dyn Files, dir: &Path) -> BTreeMap<Id, Report> {
    let names = match files.list(dir) {
        Ok(names) => names,
        Err(e) if e.is_not_found() => Vec::new(),
        Err(error) => {
            tracing::error!(%error, "earlier reports cannot be read");
            Vec::new()
        }
    };
    let mut waiting = BTreeMap::new();
    for name in names {
        let job = name
            .to_str()
            .and_then(|name| name.strip_suffix(".json")?.parse::<Id>().ok());
        let Some(job) = job else { continue };
        let report = files
            .read(&dir.join(&name), MAX_BYTES)
            .map_err(|e| e.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()));
        match report {
            Ok(report) => {
                waiting.insert(job, report);
            }
            Err(error) => tracing::error!(%job, error, "an earlier report cannot be read"),
        }
    }
    waiting
}
