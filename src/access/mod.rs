//! Permissions, roles and credentials.
