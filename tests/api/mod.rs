//! The REST API through its real router: who may call what, what is refused, what is answered.

pub mod access;
mod agents;
mod audit;
mod bulk;
mod exports;
mod issuers;
mod jobs;
mod join;
mod keys;
mod leases;
mod limits;
mod lists;
mod lost_updates;
mod metrics;
mod observe;
mod once;
mod openapi;
mod publication;
mod roles;
mod routes;
mod schemathesis;
mod sessions;
mod shapes;
mod stats;
mod targets;
mod unread;
mod web_standards;

pub use access::foreign_ca;
