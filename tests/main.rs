//! The one test binary.

mod agent;
