//! `bench commit`: the store alone, many clients at once, each waiting until its commit is on disk.

use super::{
    Figures, Place, Report,
    fill::{Model, bits},
    load,
};
use crate::{
    clock::{Clock, SystemClock},
    store::{Committer, Counting, Store, Work},
};
use anyhow::Result;
use std::{sync::Arc, time::Duration};

pub async fn run(place: &Place, clients: &[usize], time: Duration) -> Result<Report> {
    let method = "4 documents (3 versions, 1 order) and 9 index keys a commit on a new store; \
                  a client begins its next commit when the last one is on disk";
    let mut report = Report::new("commit", place, method.to_owned())?;
    let model = Arc::new(Model::new().await?);
    for &clients in clients {
        let name = clients.to_string();
        let engine = Arc::new(Counting::new(place.new_store(&name).await?));
        let fatal = Box::new(|e: &_| tracing::error!(error = %e, "the store failed"));
        let store = Store::start(engine.clone(), Committer::Thread, fatal)?;
        let measured = load::drive("commit", clients, time, |_| {
            let (store, model) = (store.clone(), model.clone());
            Ok(move || {
                let (store, model) = (store.clone(), model.clone());
                async move { commit(&store, &model).await }
            })
        })
        .await?;
        store.close().await;
        let Work {
            groups, commits, ..
        } = engine.work();
        let figures = Figures::default()
            .and("clients", clients)
            .with("commits_per_s", measured.rate());
        report.results.push(
            measured
                .add_to(figures)
                .with("commits_per_sync", commits as f64 / groups as f64),
        );
        drop((store, engine));
        std::fs::remove_dir_all(place.path().join(name))?;
    }
    Ok(report)
}

/// One commit as those of `bench commit` are.
pub async fn commit(store: &Store, model: &Model) -> Result<()> {
    let mut unit = store.unit(u128::from_be_bytes(bits()), SystemClock.now());
    let (_, order, version) = model.certificate(0, false);
    unit.insert(order);
    unit.insert(version);
    for _ in 0..2 {
        unit.insert(model.certificate(0, false).2);
    }
    unit.commit().await?;
    Ok(())
}
