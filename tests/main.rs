//! The one test binary.

mod agent;
mod store;
