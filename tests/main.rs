//! The one test binary.

mod agent;
mod api;
mod backup;
mod bad;
mod bench;
mod chaos;
mod cli;
mod clock;
mod docs;
mod doctor;
mod e2e;
mod fuzz;
mod govern;
mod layout;
mod lifecycle;
mod net;
mod nginx;
mod pki;
mod promises;
mod secrets;
mod sim;
mod store;
mod support;
mod sys;
mod web;
