//! The one test binary.

mod agent;
mod net;
mod store;
mod sys;
mod web;
