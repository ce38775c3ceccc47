//! `bench backup`: backups and restores of a store, quiet and beside writers.

use super::{
    Figures, Place, Report,
    commit::commit,
    fill::Model,
    load::{Measured, beside},
};
use crate::{
    app::backup::{
        Keys, Locking, Machine, Place as At, Sink, Source, Stored, Ways, create, machine_key,
    },
    clock::SystemClock,
    config::ServerConfig,
    store::Store,
    sys::{Disk, Tasks},
};
use anyhow::{Context, Result};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

pub async fn run(place: &Place, rows: u64, writes: u32, time: Duration) -> Result<Report> {
    let method = format!(
        "{rows} certificates, one version each; backups encrypted for this machine, in a directory \
         of the same disk; each is read back as it is made. Beside them {writes} commits/s of 4 \
         documents, whose times are told without and with a backup under way; the restore takes \
         the place of the store"
    );
    let mut report = Report::new("backup", place, method)?;
    let (app, _) = place.first_start().await?;
    let model = Model::new().await?;
    model.fill(&app.store, rows, true).await?;
    let sink = Sink::Dir(place.path().join("backups"));

    let write = || commit(&app.store, &model);
    let idle = async {
        tokio::time::sleep(time).await;
        Ok(())
    };
    let ((), idle) = beside(writes, write, idle).await?;
    let tasks = Tasks::new();
    let make = async || {
        let (store, sink) = (app.store.clone(), sink.clone());
        let (config, spool) = (place.config(place.path()), place.path().to_owned());
        let runtime = Handle::current();
        let work = move || runtime.block_on(backup(config, spool, store, sink));
        tasks.spawn_in_background("backup", work).await?
    };
    let (quiet, made) = make().await?;
    line(&mut report, "create", made, &quiet);
    let ((busy, made), meanwhile) = beside(writes, write, make()).await?;
    line(&mut report, "create beside writers", made, &busy);
    app.close().await;
    drop(app);

    let machine = Machine::this(place.config(place.path()))?;
    let at = At {
        sink,
        name: quiet.name.clone(),
    };
    let begin = Instant::now();
    machine.verify(&at, Keys::default(), &mut |_| {}).await?;
    line(&mut report, "verify", begin.elapsed(), &quiet);
    let begin = Instant::now();
    machine
        .prove(
            std::slice::from_ref(&at),
            Keys::default(),
            None,
            &mut |_| {},
        )
        .await?;
    line(&mut report, "verify --restore", begin.elapsed(), &quiet);
    let begin = Instant::now();
    machine
        .restore(&[at], Keys::default(), (false, false), &mut |_| {})
        .await?;
    line(&mut report, "restore", begin.elapsed(), &quiet);

    writers(&mut report, "idle", &idle);
    writers(&mut report, "while a backup is made", &meanwhile);
    Ok(report)
}

/// Makes a backup.
async fn backup(
    config: ServerConfig,
    spool: PathBuf,
    store: Store,
    sink: Sink,
) -> Result<(Stored, Duration)> {
    let machine = machine_key(&Disk, &config)?.context("no machine key")?;
    let source = Source {
        store: &store,
        machine: Some(&machine),
        ways: Ways {
            files: &Disk,
            s3: None,
            spool: &spool,
        },
        clock: &SystemClock,
    };
    let locking = Locking::Recipients(Vec::new());
    let begin = Instant::now();
    let stored = create(source, &sink, &locking, None, &mut |_| {}).await?;
    Ok((stored, begin.elapsed()))
}

fn line(report: &mut Report, step: &'static str, took: Duration, stored: &Stored) {
    report.results.push(
        Figures::default()
            .and("step", step)
            .with("seconds", took.as_secs_f64())
            .and("rows", stored.rows.unwrap_or(0))
            .with("mib", stored.bytes as f64 / f64::from(1 << 20)),
    );
}

fn writers(report: &mut Report, when: &'static str, measured: &Measured) {
    let figures = Figures::default()
        .and("writers", when)
        .with("commits_per_s", measured.rate());
    report.results.push(measured.add_to(figures));
}
