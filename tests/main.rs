//! The one test binary.

mod agent;
mod net;
mod sys;
