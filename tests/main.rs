//! The one test binary.

mod agent;
mod docs;
mod e2e;
mod layout;
mod net;
mod pki;
mod store;
mod sys;
mod web;
