//! Log lines to standard error.

use super::json::JsonLines;
use std::{
    io::{IsTerminal, stderr},
    str::FromStr,
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// Only what needs an operator.
    Error,
    /// And what may.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And why, for finding faults.
    Debug,
    /// Everything.
    Trace,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people; in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging did not start.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum LogError {
    /// The text names no level.
    #[error("log level {0:?} is unknown; use error, warn, info, debug or trace")]
    Level(String),
    /// The text names no format.
    #[error("log format {0:?} is unknown; use text or json")]
    Format(String),
    /// Logging is on already.
    #[error("logging was started twice")]
    Started,
}

impl FromStr for Level {
    type Err = LogError;
    fn from_str(s: &str) -> Result<Self, LogError> {
        Ok(match s.to_ascii_lowercase().as_str() {
            "error" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return Err(LogError::Level(s.chars().take(32).collect())),
        })
    }
}

impl FromStr for Format {
    type Err = LogError;
    fn from_str(s: &str) -> Result<Self, LogError> {
        Ok(match s.to_ascii_lowercase().as_str() {
            "text" => Self::Text,
            "json" => Self::Json,
            _ => return Err(LogError::Format(s.chars().take(32).collect())),
        })
    }
}

/// Starts logging, once per process. Other crates speak from `warn` up, at `trace` in full.
pub fn init(level: Level, format: Format) -> Result<(), LogError> {
    let filter = EnvFilter::new(match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "warn,certctl=info",
        Level::Debug => "warn,certctl=debug",
        Level::Trace => "trace",
    });
    match format {
        Format::Text => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(stderr)
            // A line that nobody can read is lost; telling standard error of it would panic.
            .log_internal_errors(false)
            .with_ansi(stderr().is_terminal())
            .try_init()
            .map_err(|_| LogError::Started),
        Format::Json => tracing_subscriber::registry()
            .with(filter)
            .with(JsonLines)
            .try_init()
            .map_err(|_| LogError::Started),
    }
}
