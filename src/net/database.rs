//! Connections to a PostgreSQL server, up to where its own protocol begins.

use super::{
    connect::tls_reason,
    dial::{DialError, Dialer},
    starttls::Protocol,
    tls::provider,
    trust::{Trust, TrustError, any_certificate, any_name},
    wire::Wire,
};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// A silent peer is asked after so many seconds whether it is there,
const IDLE: u32 = 10;
/// then again each so many,
const INTERVAL: u32 = 5;
/// and is given up after so many answers that did not come,
const ANSWERS: u32 = 3;
/// or when what was sent to it is not acknowledged for so many milliseconds.
const UNACKNOWLEDGED: u32 = 20_000;

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabasePlace {
    /// At a host, by name or address, and a port.
    Tcp(String, u16),
    /// At a unix socket.
    Unix(PathBuf),
}

/// What must be known of a database's server before anything is said to it.
#[derive(Debug, Clone)]
pub enum Secrecy {
    /// Nothing, and all is in the clear.
    Plain,
    /// Nothing: TLS keeps out who only listens.
    Encrypted,
    /// That a CA vouches for it, under whatever name.
    Vouched(Trust),
    /// That a CA vouches for it under the name that is dialled.
    Named(Trust),
}

/// Why there is no connection to a database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseDialError {
    /// The host cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The socket cannot be reached.
    #[error(
        "cannot connect to {path}: {reason}; check that the database runs and who may use its socket"
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What happened.
        reason: io::ErrorKind,
    },
    /// The host's name cannot be asked for.
    #[error("{0:?} is neither a host name nor an address")]
    Name(String),
    /// TLS did not come about.
    #[error("the database at {host} does not speak TLS as sslmode wants it: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What happened and what to do.
        reason: String,
    },
    /// The connection ended before there was TLS, as one does through a proxy before a database
    /// that starts.
    #[error("the database at {host} did not begin TLS: {reason}")]
    Cut {
        /// The host.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The handshake took too long.
    #[error("the database at {host} completed no TLS handshake within {after:?}")]
    Timeout {
        /// The host.
        host: String,
        /// The time given.
        after: Duration,
    },
}

/// Opens connections to one database.
#[derive(Clone)]
pub struct DatabaseDialer {
    dialer: Dialer,
    place: DatabasePlace,
    tls: Option<TlsConnector>,
}

impl DatabaseDialer {
    /// To the database at `place`.
    ///
    /// # Errors
    /// When there is nothing to trust.
    pub fn new(
        dialer: Dialer,
        place: DatabasePlace,
        secrecy: &Secrecy,
    ) -> Result<Self, TrustError> {
        let provider = provider();
        let verifier = match secrecy {
            Secrecy::Plain => None,
            Secrecy::Encrypted => Some(any_certificate(&provider)),
            Secrecy::Vouched(trust) => Some(any_name(trust.verifier(&provider)?)),
            Secrecy::Named(trust) => Some(trust.verifier(&provider)?),
        };
        let connector = |verifier| {
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            Ok::<_, rustls::Error>(TlsConnector::from(Arc::new(config)))
        };
        Ok(Self {
            dialer,
            place,
            tls: verifier.map(connector).transpose()?,
        })
    }

    /// Whether the way there is encrypted.
    pub fn encrypts(&self) -> bool {
        self.tls.is_some()
    }

    /// A connection on which the database's protocol may begin, within `limit`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(&self, limit: Duration) -> Result<Wire, DatabaseDialError> {
        let (host, port) = match &self.place {
            DatabasePlace::Tcp(host, port) => (host, *port),
            DatabasePlace::Unix(path) => {
                let failed = |e: io::Error| DatabaseDialError::Socket {
                    path: path.clone(),
                    reason: e.kind(),
                };
                return UnixStream::connect(path)
                    .await
                    .map(Wire::Unix)
                    .map_err(failed);
            }
        };
        let mut tcp = self.dialer.connect(host, port, limit).await?;
        watch_peer(&tcp);
        let Some(tls) = &self.tls else {
            return Ok(Wire::Tcp(tcp));
        };
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| DatabaseDialError::Name(host.clone()))?;
        let failed = |cut, reason| {
            let host = format!("{host} port {port}");
            match cut {
                true => DatabaseDialError::Cut { host, reason },
                false => DatabaseDialError::Tls { host, reason },
            }
        };
        let handshake = async {
            let begun = Protocol::Postgres.begin(&mut tcp).await;
            begun.map_err(|e| failed(e.cut, e.reason))?;
            let stream = tls.connect(name, tcp).await;
            stream.map_err(|error| failed(is_cut(&error), tls_reason(&error)))
        };
        let late = |_| DatabaseDialError::Timeout {
            host: format!("{host} port {port}"),
            after: limit,
        };
        let stream = timeout(limit, handshake).await.map_err(late)??;
        Ok(Wire::Tls(Box::new(stream)))
    }
}

/// Whether a handshake ended with the connection, and not by what either side said of the other.
fn is_cut(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_none_or(|cause| !cause.is::<rustls::Error>())
}

/// Has a peer that is gone without a word noticed: a machine that lost its power says nothing.
fn watch_peer(tcp: &TcpStream) {
    let set = setsockopt(tcp, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(tcp, sockopt::TcpKeepIdle, &IDLE))
        .and_then(|()| setsockopt(tcp, sockopt::TcpKeepInterval, &INTERVAL))
        .and_then(|()| setsockopt(tcp, sockopt::TcpKeepCount, &ANSWERS))
        .and_then(|()| setsockopt(tcp, sockopt::TcpUserTimeout, &UNACKNOWLEDGED));
    if let Err(error) = set {
        tracing::debug!(%error, "keepalives were not set");
    }
}
