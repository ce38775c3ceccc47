//! Servers that make backups.

use certctl::config::{BackupConfig, JournalConfig, OpenedBy, ServerConfig, Sink};
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
