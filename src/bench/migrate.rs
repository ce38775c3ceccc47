//! `bench migrate`: migrations of a large collection, there and back.

use super::{Figures, Place, Report, fill::Model};
use crate::{
    app::{SchemaChange, Upkeep},
    clock::SystemClock,
    crypt::OsRng,
    store::{
        Committer, Store,
        migrate::{Class, Edit, Migration},
    },
};
use anyhow::{Result, ensure};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What a later version of the program might do to the largest collection: a new field, and
/// another name for one.
const PROGRAM: &[Migration] = &[
    Migration::additive(
        2,
        "a note on versions",
        "version",
        Class::AddField,
        const { &[Edit::add("bench_note", "\"\"")] },
    ),
    Migration::breaking(
        3,
        "another name for the certificate",
        "version",
        Class::Rename,
        const { &[Edit::rename("leaf_pem", "bench_pem")] },
    ),
];

pub async fn run(place: &Place, rows: u64) -> Result<Report> {
    let method = format!(
        "{rows} certificates with a version each; a field is added to all versions and one renamed, \
         then both are undone; without the backup that goes before"
    );
    let mut report = Report::new("migrate", place, method)?;
    let engine = place.new_store("data").await?;
    let start = |program| {
        let fatal = Box::new(|e: &_| tracing::error!(error = %e, "the store failed"));
        Store::start_with(engine.clone(), Committer::Thread, fatal, program)
    };
    let store = start(&[])?;
    Model::new().await?.fill(&store, rows, false).await?;
    store.close().await;
    let store = start(PROGRAM)?;
    let upkeep = Upkeep::of(store, Arc::new(SystemClock), Arc::new(OsRng));
    for up in [true, false] {
        let begin = Instant::now();
        let none = async |_: &Store| Ok(None);
        let change = if up {
            upkeep.up(None, none, &|_, _| {}).await?
        } else {
            upkeep.down(1, true, none, &|_, _| {}).await?
        };
        let took = begin.elapsed();
        ensure!(change.migrations.len() == PROGRAM.len(), "{change:?}");
        line(
            &mut report,
            ["down", "up"][usize::from(up)],
            took,
            &change,
            rows,
        );
    }
    upkeep.close().await;
    Ok(report)
}

fn line(report: &mut Report, way: &'static str, took: Duration, change: &SchemaChange, rows: u64) {
    let written = rows as f64 * change.migrations.len() as f64;
    report.results.push(
        Figures::default()
            .and("way", way)
            .and("migrations", change.migrations.len())
            .and("rows", rows)
            .with("seconds", took.as_secs_f64())
            .with("rows_migrated_per_s", written / took.as_secs_f64()),
    );
}
