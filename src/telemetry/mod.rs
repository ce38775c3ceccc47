//! Logs.

mod logs;

pub use logs::{Format, Level, LogError, init};
