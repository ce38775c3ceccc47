//! The one test binary.

mod agent;
mod net;
mod pki;
mod store;
mod sys;
