//! The operating system.

mod exec;
mod files;
mod nss;
mod signals;
mod size;
mod tasks;
