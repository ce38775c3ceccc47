//! `certctl storage`.

use super::{CliError, Global, Output, client::Client, follow, output};
use crate::{api::shapes::StorageShape, config::Environment, sys::size};
use std::time::Duration;

/// How often a server that counts is asked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs it.
pub async fn run(global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    let bar = follow::spinner("the server counts", global.output);
    let mut storage: StorageShape = client.get("/storage").await?;
    while storage.counting {
        tokio::time::sleep(LOOK_EVERY).await;
        storage = client.get("/storage").await?;
    }
    bar.finish_and_clear();
    if storage.counted_at.is_none() {
        return Err(CliError::Failed(
            "the server could not count what its store holds: its log says why".into(),
        ));
    }
    if global.output == Output::Json {
        return output::json(&storage);
    }
    let rows = storage.collections.iter().map(|taken| {
        vec![
            taken.name.clone(),
            taken.rows.to_string(),
            size(taken.bytes),
            taken.kept.clone(),
        ]
    });
    output::table(&["WHAT", "ROWS", "DOCUMENTS", "KEPT"], rows);
    let now = storage.on_disk_bytes.unwrap_or(storage.document_bytes);
    output::line(&format!("The store takes {} now.", size(now)));
    for forecast in &storage.forecast {
        let (days, bytes) = (forecast.days, size(forecast.bytes));
        output::line(&format!("In {days} days it will take {bytes}."));
    }
    if let Some(days) = storage.full_in_days {
        output::line(&format!("Its disk is full in {days} days."));
    }
    Ok(())
}
