//! Sockets: listening, resolving, dialling, TLS. Nothing else in the crate opens one.

mod client;
mod connect;
mod connection;
mod crowd;
mod database;
mod dial;
mod probe;
mod resolve;
mod serve;
mod socket;
mod starttls;
mod tls;
mod trust;
mod wire;

pub use client::{CallError, Deadline, HttpClient, HttpOptions, Transport};
pub use database::{DatabaseDialError, DatabaseDialer, DatabasePlace, Secrecy};
pub use dial::{DialError, Dialer, Guard};
pub use probe::{Endpoint, InvalidEndpoint, Probe, ProbeError, Served, TlsProbe};
pub use resolve::{ResolveError, Resolver};
pub use serve::{BindError, Limits, Listener, Peer};
pub use starttls::Protocol;
pub use tls::{AGENT_NAME, Identity, IdentityError, ServerIdentity};
pub use trust::{InvalidPin, SpkiPin, Trust, TrustError};
pub use wire::Wire;
