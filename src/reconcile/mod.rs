//! Loops that make what is so what should be. A loop takes no input: it finds all its work by
//! index, on a timer, and doing it again after any crash is harmless.

use crate::{
    app::{App, AppError},
    clock::Time,
    domain::{Agent, Certificate, Deployment, Job, Replan},
    id::Id,
    store::{
        AGENT_KEYS_LOST, AGENT_LEAVING, CERT_DUE, CERT_UNFINISHED, DEPLOYMENT_RETRY, Document,
        Index, JOB_LEASE, Key, REPLAN_SINCE, Scan,
    },
};
use futures_util::FutureExt;
use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// A loop looks this often. A look that finds nothing reads one place of one index.
pub const TICK: Duration = Duration::from_secs(1);
/// Agents' heartbeats are written down this often.
const HEARD_EVERY: Duration = Duration::from_secs(60);
/// The files of configured keys are read this often.
const KEYS_EVERY: Duration = Duration::from_secs(5);
/// The room on the disk is looked at this often.
const ROOM_EVERY: Duration = Duration::from_secs(5);
/// The server's own certificate is looked at this often.
const SERVER_CERTIFICATE_EVERY: Duration = Duration::from_secs(60);
/// The ends of CAs are looked at this often.
const ENDS_EVERY: Duration = Duration::from_secs(86_400);
/// Jobs that ended long ago, and what came of requests, are looked for this often.
const JOBS_EVERY: Duration = Duration::from_secs(3600);
/// Shared counters of callers who are gone are forgotten this often.
const RATES_EVERY: Duration = Duration::from_secs(300);
/// The change feed is trimmed this often.
const FEED_EVERY: Duration = Duration::from_secs(60);
/// The change feed remembers this long.
const FEED_KEPT: Duration = Duration::from_secs(3600);
/// What others commit is looked for this often, also where nothing was heard.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);
/// Between two such looks.
const FOLLOW_REST: Duration = Duration::from_millis(10);
/// Rows are read this many at a time.
const PAGE: usize = 256;

/// Starts the loops.
pub fn start(app: &Arc<App>) {
    start_at(app, TICK);
}

/// Starts the loops at another pace than [`TICK`]: nothing rests on the pace but how late things
/// are, and a simulation of a month has not the time for a look each second.
pub fn start_at(app: &Arc<App>, tick: Duration) {
    every(
        app,
        "lead",
        tick,
        |app| async move { app.seek_lead().await },
    );
    // What is to be done once is done by the server that leads.
    looking(app, "lost keys", tick, lost_keys);
    looking(app, "retirement", tick, retirement);
    looking(app, "replanning", tick, replanning);
    leading(
        app,
        "issuers",
        tick,
        |app| async move { app.unblock().await },
    );
    looking(app, "renewals", tick, renewals);
    looking(app, "revocations", tick, revocations);
    looking(app, "leases", tick, leases);
    looking(app, "deployments", tick, deployments);
    leading(app, "revocation lists", tick, |app| async move {
        app.refresh_crls().await
    });
    leading(app, "ended jobs", JOBS_EVERY, |app| async move {
        app.forget_jobs().await
    });
    leading(app, "outcomes of requests", JOBS_EVERY, |app| async move {
        app.forget_outcomes().await
    });
    leading(app, "ended sessions", JOBS_EVERY, |app| async move {
        app.forget_sessions().await
    });
    leading(app, "ended join tokens", JOBS_EVERY, |app| async move {
        app.forget_tokens().await
    });
    leading(app, "ended orders", JOBS_EVERY, |app| async move {
        app.forget_orders().await
    });
    leading(app, "rates", RATES_EVERY, |app| async move {
        app.forget_rates().await
    });
    leading(app, "feed", FEED_EVERY, |app| async move {
        app.trim_feed(FEED_KEPT).await
    });
    leading(
        app,
        "backups",
        tick,
        |app| async move { app.due_backup().await },
    );
    if let Some(pace) = app.journal_every() {
        leading(app, "journal", pace, |app| async move {
            app.due_journal().await
        });
    }
    // What is each server's own.
    following(app);
    every(app, "presence", HEARD_EVERY, |app| async move {
        app.write_heard().await
    });
    every(app, "arrivals", tick, |app| async move {
        app.write_arrivals().await
    });
    every(app, "last uses", HEARD_EVERY, |app| async move {
        app.write_uses().await
    });
    every(app, "configured keys", KEYS_EVERY, |app| async move {
        Ok(app.read_configured_keys().await?)
    });
    every(app, "sink of backups", tick, |app| async move {
        app.look_at_backups();
        Ok(())
    });
    every(app, "disk space", ROOM_EVERY, |app| async move {
        app.look_at_room();
        Ok(())
    });
    app.warn_of_ends();
    every(app, "ends of CAs", ENDS_EVERY, |app| async move {
        app.warn_of_ends();
        Ok(())
    });
    every(
        app,
        "server certificate",
        SERVER_CERTIFICATE_EVERY,
        |app| async move { app.renew_server_certificate().await },
    );
}

/// One look of every loop, now: for simulated time, where no timer runs.
///
/// # Errors
/// Those of the loops that do one thing; what a look leaves for later is logged.
pub async fn look(app: &Arc<App>) -> Result<(), AppError> {
    app.seek_lead().await?;
    app.look_at_backups();
    if let Some(leader) = app.leading() {
        match look_as_leader(&leader).await {
            Ok(()) | Err(AppError::NotLeading) => {}
            Err(e) => return Err(e),
        }
    }
    app.follow().await?;
    app.write_heard().await?;
    app.write_uses().await?;
    app.read_configured_keys().await?;
    app.look_at_room();
    app.renew_server_certificate().await
}

async fn look_as_leader(app: &Arc<App>) -> Result<(), AppError> {
    lost_keys(Arc::clone(app)).await;
    retirement(Arc::clone(app)).await;
    replanning(Arc::clone(app)).await;
    app.unblock().await?;
    renewals(Arc::clone(app)).await;
    revocations(Arc::clone(app)).await;
    leases(Arc::clone(app)).await;
    deployments(Arc::clone(app)).await;
    app.forget_jobs().await?;
    app.forget_outcomes().await?;
    app.forget_sessions().await?;
    app.forget_tokens().await?;
    app.forget_orders().await?;
    app.forget_rates().await?;
    app.trim_feed(FEED_KEPT).await?;
    app.refresh_crls().await?;
    app.due_backup().await?;
    app.due_journal().await
}

async fn lost_keys(app: Arc<App>) {
    due::<Agent, _>(&app, "lost keys", AGENT_KEYS_LOST, |app, id| async move {
        app.replace_lost_keys(&id).await
    })
    .await;
}

async fn retirement(app: Arc<App>) {
    due::<Agent, _>(&app, "retirement", AGENT_LEAVING, |app, id| async move {
        app.finish_leaving(&id).await
    })
    .await;
}

async fn replanning(app: Arc<App>) {
    due::<Replan, _>(&app, "replanning", REPLAN_SINCE, |app, id| async move {
        app.replan(&id).await
    })
    .await;
}

async fn renewals(app: Arc<App>) {
    if app.has_room().is_err() {
        // What is due stays due, and is begun when there is room.
        return;
    }
    due::<Certificate, _>(&app, "renewals", CERT_DUE, |app, id| async move {
        app.open_due(&id).await.map(|_| ())
    })
    .await;
}

async fn revocations(app: Arc<App>) {
    due::<Certificate, _>(&app, "revocations", CERT_UNFINISHED, |app, id| async move {
        app.finish_revocation(&id).await
    })
    .await;
}

async fn leases(app: Arc<App>) {
    app.look_at_leases();
    due::<Job, _>(&app, "leases", JOB_LEASE, |app, id| async move {
        app.lease_ran_out(&id).await
    })
    .await;
}

async fn deployments(app: Arc<App>) {
    due::<Deployment, _>(
        &app,
        "deployments",
        DEPLOYMENT_RETRY,
        |app, id| async move { app.retry_deployment(&id).await },
    )
    .await;
}

/// Works once on each row of an index whose key is a moment that has come.
async fn due<T: Document, F>(
    app: &Arc<App>,
    name: &'static str,
    index: Index,
    work: impl Fn(Arc<App>, Id) -> F + Send + Sync,
) where
    F: Future<Output = Result<(), AppError>> + Send,
{
    if app.is_fenced() {
        return;
    }
    let stop = app.tasks.token();
    let mut after = None;
    loop {
        let page = match app.store.page::<T>(scan(index, app.now(), after)).await {
            Ok(page) => page,
            Err(e) if e.is_away() => return,
            Err(e) => {
                tracing::error!(loop_name = name, error = %e, "cannot look for work");
                return;
            }
        };
        for row in &page.rows {
            // One row that cannot be worked on does not stop the others.
            let work = AssertUnwindSafe(work(Arc::clone(app), row.id().clone()));
            match work.catch_unwind().await {
                Ok(Ok(())) => {}
                // The others would wait for the same.
                Ok(Err(AppError::NotLeading | AppError::Away)) => return,
                Ok(Err(e)) => {
                    tracing::warn!(loop_name = name, id = %row.id(), error = %e, "left for later");
                }
                Err(_) => {
                    tracing::error!(loop_name = name, id = %row.id(), "a fault of the program")
                }
            }
        }
        after = page.next;
        if after.is_none() || stop.is_cancelled() {
            return;
        }
    }
}

/// A loop that looks for due work each `tick`, on the server that leads.
fn looking<F>(
    app: &Arc<App>,
    name: &'static str,
    tick: Duration,
    look: impl Fn(Arc<App>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send,
{
    leading(app, name, tick, move |app| {
        let look = look(app);
        async {
            look.await;
            Ok(())
        }
    });
}

/// A loop that does one thing again and again, on the server that leads. Whatever it commits rests
/// on that.
fn leading<F>(
    app: &Arc<App>,
    name: &'static str,
    period: Duration,
    work: impl Fn(Arc<App>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Result<(), AppError>> + Send,
{
    every(app, name, period, move |app| {
        let work = app.leading().map(&work);
        async {
            match work {
                Some(work) => work.await,
                None => Ok(()),
            }
        }
    });
}

/// A loop that does one thing again and again.
fn every<F>(
    app: &Arc<App>,
    name: &'static str,
    period: Duration,
    work: impl Fn(Arc<App>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Result<(), AppError>> + Send,
{
    let app = Arc::clone(app);
    app.pulse.beat(name, period);
    app.metrics.has_loop(name);
    app.clone().tasks.spawn(name, async move {
        let stop = app.tasks.token();
        while !rest(&stop, Instant::now() + period).await {
            turn(&app, name, async { work(Arc::clone(&app)).await }).await;
            app.pulse.beat(name, period);
        }
    });
}

/// One look of a loop. A loop outlives its faults: what it did not do is found by the next look.
async fn turn(
    app: &App,
    name: &'static str,
    look: impl Future<Output = Result<(), AppError>> + Send,
) {
    let began = Instant::now();
    let outcome = AssertUnwindSafe(look).catch_unwind().await;
    let well = matches!(outcome, Ok(Ok(()) | Err(AppError::NotLeading)));
    app.metrics.looked(name, began.elapsed(), well);
    match outcome {
        Ok(Ok(())) => {}
        // The store tells of it, once for all loops.
        Ok(Err(AppError::Away)) => {}
        Ok(Err(e @ AppError::NotLeading)) => tracing::info!(loop_name = name, "{e}"),
        Ok(Err(e)) => tracing::error!(loop_name = name, error = %e, "left for later"),
        Err(_) => tracing::error!(loop_name = name, "a fault of the program"),
    }
}

/// Follows what other servers of the store commit: promptly by its notices, and by a look now and
/// then, since one may be lost.
fn following(app: &Arc<App>) {
    const NAME: &str = "others' commits";
    let Some(mut news) = app.news() else {
        return;
    };
    let app = Arc::clone(app);
    app.pulse.beat(NAME, FOLLOW_EVERY);
    app.metrics.has_loop(NAME);
    app.clone().tasks.spawn(NAME, async move {
        let stop = app.tasks.token();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Ok(()) = news.changed() => {}
                () = sleep_until(Instant::now() + FOLLOW_EVERY) => {}
            }
            turn(&app, NAME, app.follow()).await;
            app.pulse.beat(NAME, FOLLOW_EVERY);
            // Many commits are followed by one look.
            if rest(&stop, Instant::now() + FOLLOW_REST).await {
                return;
            }
        }
    });
}

/// Waits; says whether the server stops.
async fn rest(stop: &CancellationToken, until: Instant) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => true,
        () = sleep_until(until) => false,
    }
}

/// The rows of `index` that are due at `now`, from `after` on.
fn scan(index: Index, now: Time, after: Option<(Vec<u8>, Id)>) -> Scan {
    Scan {
        below: Some(Key::new().time(now.next()).bytes()),
        after,
        ..Scan::all(index, PAGE)
    }
}
