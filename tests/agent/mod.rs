//! The agent against an in-memory server, with real files, listeners and handshakes.

mod apart;
mod away;
mod clocks;
mod config;
pub mod crash;
mod deploy;
mod enrol;
mod fleet;
mod jobs;
mod kinds;
mod load;
mod look;
mod policy;
mod real;
mod recovery;
mod rotation;
pub mod support;
mod trials;
mod two;
mod watch;
