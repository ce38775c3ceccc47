//! Servers that make backups.

use super::TestApp;
use certctl::config::{BackupConfig, JournalConfig, OpenedBy, ServerConfig, Sink};
use serde_json::Value;
use std::time::Duration;

/// By a schedule, into the data directory.
pub fn scheduled(config: &mut ServerConfig, schedule: &str) {
    let sink = config.data_dir.join("backups");
    config.backup = Some(BackupConfig {
        schedule: schedule.parse().unwrap(),
        sink: Sink::Dir(sink),
        keep: [3, 0, 0],
        opened_by: OpenedBy::Recipients(vec![age::x25519::Identity::generate().to_public().into()]),
        journal: None,
    });
}

/// With a journal beside them.
pub fn journalled(config: &mut ServerConfig, schedule: &str, every: Duration) {
    scheduled(config, schedule);
    let sink = Sink::Dir(config.data_dir.join("journal"));
    let journal = JournalConfig { sink, every };
    config.backup.as_mut().unwrap().journal = Some(journal);
}

/// How backups stand once none is being made, and no sink is looked at.
pub async fn settled(app: &TestApp) -> Value {
    loop {
        let state = app.get("/api/v1/backups").await;
        if state["running"] == false && state["looking"] == false {
            return state;
        }
        tokio::task::yield_now().await;
    }
}
