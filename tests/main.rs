//! The one test binary.

mod agent;
mod clock;
mod net;
mod pki;
mod store;
mod sys;
