//! The REST API through its real router: who may call what, what is refused, what is answered.

pub mod access;
mod agents;
mod garbage;
mod issuers;
mod jobs;
mod join;
mod leases;
mod metrics;
mod observe;
mod publication;
mod routes;
mod shapes;
