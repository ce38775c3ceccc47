//! The one test binary.

mod agent;
mod e2e;
mod layout;
mod net;
mod store;
mod sys;
