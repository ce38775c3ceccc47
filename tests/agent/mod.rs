//! The agent against an in-memory server, with real files, listeners and handshakes.

mod config;
mod crash;
mod deploy;
mod enrol;
mod jobs;
mod load;
mod policy;
mod recovery;
mod support;
