//! Logs.

mod logs;
mod throttle;

pub use logs::{Format, Level, LogError, init};
pub use throttle::Throttle;
