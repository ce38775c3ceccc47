//! Logs and metrics.

mod json;
mod logs;
mod metrics;
mod sheet;
mod throttle;

pub use logs::{Format, Level, LogError, init};
pub use metrics::{Answered, Metrics, StoreMetrics};
pub use sheet::{Series, Sheet};
pub use throttle::Throttle;
