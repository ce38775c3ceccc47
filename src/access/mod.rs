//! Permissions, roles and credentials.

mod permission;
mod role;

pub use permission::{Permission, Permissions, UnknownPermission};
pub use role::Role;
