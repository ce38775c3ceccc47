//! Servers that make backups.

use certctl::config::{BackupConfig, JournalConfig, ServerConfig};
use std::time::Duration;

/// By a schedule, into the data directory.
pub fn scheduled(config: &mut ServerConfig, schedule: &str) {
    let sink = config.data_dir.join("backups");
    config.backup = Some(BackupConfig {
        schedule: schedule.parse().unwrap(),
        sink: format!("dir:{}", sink.display()),
        keep: [3, 0, 0],
        encrypt_to: vec![age::x25519::Identity::generate().to_public().to_string()],
        passphrase: None,
        journal: None,
    });
}

/// With a journal beside them.
pub fn journalled(config: &mut ServerConfig, schedule: &str, every: Duration) {
    scheduled(config, schedule);
    let sink = format!("dir:{}", config.data_dir.join("journal").display());
    let journal = JournalConfig { sink, every };
    config.backup.as_mut().unwrap().journal = Some(journal);
}
