//! The operating system.

mod files;
mod nss;
mod signals;
mod tasks;
