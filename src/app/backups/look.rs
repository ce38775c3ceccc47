//! What is in the sinks, learned beside whoever wants to know.

use super::{
    super::{
        App,
        backup::{BackupFailure, Sink, Stored},
    },
    AFTER_FAILURE,
};
use crate::store::AUDIT;
use data_encoding::HEXLOWER;
use std::{sync::Arc, time::Duration};
use tokio::{runtime::Handle, time::sleep};

/// What is in the sink of the schedule is looked at again after so long.
const LOOKED_FOR: Duration = Duration::from_secs(300);
/// A look at a sink ends after so long, whatever it waits for.
const LONGEST: Duration = Duration::from_secs(240);

impl App {
    /// Learns what is in the sink of the schedule when that is due, beside the caller; for the
    /// reconciler of each server.
    pub(crate) fn look_at_backups(self: &Arc<Self>) {
        let Some(scheduled) = &self.backups.scheduled else {
            return;
        };
        let (now, sink) = (self.now(), scheduled.wanted.sink.clone());
        let known = {
            let mut state = self.backups.state();
            if state.looking || state.look_at.is_some_and(|at| now < at) {
                return;
            }
            state.look_at = Some(now);
            state.looking = true;
            state.newest.as_ref().map(|newest| newest.name.clone())
        };
        let app = Arc::clone(self);
        self.tasks.spawn("backups", async move {
            let listed = async {
                let store = app.store_name().await?;
                let all = app.in_sink(&sink).await?;
                Ok::<_, BackupFailure>((store, all))
            };
            let listed = listed.await;
            let mut state = app.backups.state();
            let ended = app.now();
            state.looking = false;
            let mut again = LOOKED_FOR;
            match listed {
                Ok((store, all)) => state.see(all, &store, known.as_deref(), ended),
                Err(e @ BackupFailure::Stopped) => {
                    tracing::info!(reason = %e, "the sink of the backups was not looked at");
                }
                Err(e) => {
                    tracing::error!(error = %e, "the sink of the backups cannot be read");
                    if state.held.is_none() {
                        state.failures += 1;
                        again = AFTER_FAILURE;
                    }
                    state.unread = Some((ended, e.to_string()));
                }
            }
            // Where somebody asked for another look meanwhile, that is due.
            if state.look_at.is_some() {
                state.look_at = Some(ended.plus(again));
            }
        });
    }

    /// What names this server's store in the names of backups.
    pub(in crate::app) async fn store_name(&self) -> Result<String, BackupFailure> {
        let first = self.store.tail(AUDIT, 2, 1).await;
        let first = first.map_err(BackupFailure::capture)?;
        let link = first.first().map(|entry| HEXLOWER.encode(&entry.link));
        Ok(link.unwrap_or_default())
    }

    /// The backups in a sink; not waited for longer than a look may take, nor when the server
    /// stops.
    pub(in crate::app) async fn in_sink(
        self: &Arc<Self>,
        sink: &Sink,
    ) -> Result<Vec<Stored>, BackupFailure> {
        let sink = sink.clone();
        let look = async move |app: &Arc<Self>| {
            let s3 = app.s3()?;
            let stop = app.tasks.token();
            tokio::select! {
                held = sink.held(app.ways(s3.as_ref())) => held,
                () = stop.cancelled() => Err(BackupFailure::Stopped),
                () = sleep(LONGEST) => {
                    let long = LONGEST.as_secs();
                    Err(sink.failed(format!("it was not listed within {long} s")))
                }
            }
        };
        self.at_sink("sink of backups", look).await
    }

    /// Works on a sink on a thread of its own: a disk may keep it waiting, and one in a network
    /// for ever.
    pub(in crate::app) async fn at_sink<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        work: impl AsyncFnOnce(&Arc<Self>) -> Result<T, BackupFailure> + Send + 'static,
    ) -> Result<T, BackupFailure> {
        let (app, runtime) = (Arc::clone(self), Handle::current());
        let work = move || runtime.block_on(work(&app));
        let done = self.tasks.spawn_blocking(what, work).await;
        done.unwrap_or_else(|e| Err(BackupFailure::capture(e)))
    }

    /// As [`at_sink`](Self::at_sink), for long work, which steps back behind whoever is being served.
    pub(in crate::app) async fn behind_others<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        work: impl AsyncFnOnce(&Arc<Self>) -> Result<T, BackupFailure> + Send + 'static,
    ) -> Result<T, BackupFailure> {
        let (app, runtime) = (Arc::clone(self), Handle::current());
        let work = move || runtime.block_on(work(&app));
        let done = self.tasks.spawn_in_background(what, work).await;
        done.unwrap_or_else(|e| Err(BackupFailure::capture(e)))
    }
}
