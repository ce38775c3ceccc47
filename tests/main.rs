//! The one test binary.

mod agent;
mod layout;
mod net;
mod store;
mod sys;
