//! The binary as people and scripts meet it: real processes, real files, real sockets.

pub mod home;
pub mod process;

mod agents;
mod commands;
mod demand;
mod disk;
mod faults;
mod proxy;
mod quickstart;
mod service;
mod stale;
mod standalone;
