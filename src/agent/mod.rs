//! The agent: keys, deployments and reports on a host.

pub mod protocol;
