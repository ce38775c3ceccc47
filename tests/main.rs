//! The one test binary.

mod agent;
mod api;
mod lifecycle;
mod net;
mod store;
mod support;
mod sys;
