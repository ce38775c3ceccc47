//! Permissions, roles and credentials.

pub mod configured;
pub mod limit;
mod permission;
pub mod proxies;
mod role;

pub use permission::{Permission, Permissions, UnknownPermission};
pub use role::Role;
