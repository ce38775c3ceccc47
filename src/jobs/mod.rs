//! Durable units of work under leases.
