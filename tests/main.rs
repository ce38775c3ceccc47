//! The one test binary.

mod net;
mod sys;
