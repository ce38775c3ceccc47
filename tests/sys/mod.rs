//! The operating system.

mod files;
mod nss;
mod tasks;
