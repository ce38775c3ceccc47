//! The one test binary.

mod agent;
mod chaos;
mod cli;
mod net;
mod store;
mod sys;
