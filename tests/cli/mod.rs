//! The binary as people and scripts meet it: real processes, real files, real sockets.

pub mod home;
pub mod process;
pub mod standalone;

mod agents;
mod backup;
mod backup_page;
mod commands;
mod config;
mod demand;
mod disk;
mod doctor;
mod ending;
mod faults;
mod gap;
mod govern;
mod journal;
mod keys;
mod killed;
mod logs;
mod manual;
mod migrate;
mod moving;
mod next;
mod operations;
mod outages;
pub mod postgres;
mod proxy;
mod quickstart;
mod servers;
mod service;
mod stale;
mod struck;
