//! `bench start`: how long a server takes to answer, and the memory it then has.

use super::{Figures, Place, Report, fill::Model, server::Server};
use crate::sys::Tasks;
use anyhow::Result;
use std::time::Duration;

pub async fn run(place: &Place, rows: u64, idle: Duration) -> Result<Report> {
    let method = format!(
        "{rows} certificates, one version each; from the start of the server's process to the \
         first 200 of GET /ready on its unix socket, asked each millisecond; memory (resident \
         set) then, and {} s later",
        idle.as_secs_f64()
    );
    let mut report = Report::new("start", place, method)?;
    let (app, _) = place.first_start().await?;
    Model::new().await?.fill(&app.store, rows, true).await?;
    app.close().await;
    drop(app);

    let server = started(&mut report, place, "after a clean end", idle).await?;
    server.kill()?;
    let server = started(&mut report, place, "after kill -9", idle).await?;
    server.stop(&Tasks::new()).await?;
    Ok(report)
}

async fn started(report: &mut Report, place: &Place, name: &str, idle: Duration) -> Result<Server> {
    let server = Server::start(place).await?;
    let ready = server.memory()?;
    tokio::time::sleep(idle).await;
    report.results.push(
        Figures::default()
            .and("start", name)
            .with("ready_ms", server.ready_after.as_secs_f64() * 1_000.0)
            .with("ready_mib", ready)
            .with("idle_mib", server.memory()?),
    );
    Ok(server)
}
