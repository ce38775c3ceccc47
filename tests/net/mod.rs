//! Sockets, against real ones on loopback.

mod client;
mod database;
mod dial;
pub mod pki;
mod probe;
mod resolve;
mod server;
mod starttls;
mod tls;
mod unix;
