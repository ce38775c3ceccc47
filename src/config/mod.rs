//! Settings: one table of what there is, the sources they come from, and what they must be.
//!
//! Flags lead the environment, which leads the configuration file, which leads the defaults. Every
//! value is checked by its kind wherever it comes from, and whatever is wrong is reported whole,
//! before anything starts.

mod backup;
mod check;
mod database;
mod environment;
mod fault;
mod file;
mod page;
mod schedule;
mod settings;
mod sink;

pub use backup::{BackupConfig, JournalConfig, OpenedBy, S3Config};
pub use check::{
    Flags, KeepConfig, KeyList, KeySource, LogConfig, Rates, ReadKeys, ServerConfig, data_dir,
    logging, public_host, server, server_at_rest,
};
pub use database::{Binding, DatabaseConfig, DatabaseHost, SslMode};
pub use environment::{Environment, Reader, Shown, Source, secret_text};
pub use fault::{ConfigError, Fault};
pub use file::DEFAULT_FILE;
pub use page::page;
pub use schedule::Schedule;
pub use settings::{Kind, SETTINGS, Setting, setting, url_host};
pub use sink::Sink;

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "certctl.sock";
