//! Permissions, roles and credentials.

pub mod configured;
mod permission;
mod role;

pub use permission::{Permission, Permissions, UnknownPermission};
pub use role::Role;
