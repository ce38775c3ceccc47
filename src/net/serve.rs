//! Accepting connections and serving HTTP on them, with a bound on everything a client can hold.

use super::{
    connection::{Raw, Server},
    crowd::Crowd,
    socket::SocketFile,
    tls::ServerIdentity,
};
use crate::sys::Tasks;
use axum::Router;
use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Who is at the other end of a request's connection. A request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An address on the network.
    Tcp(SocketAddr),
    /// A process of this machine.
    Unix {
        /// The user it ran as when it connected (`SO_PEERCRED`, unix(7)).
        uid: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { uid } => write!(f, "local:{uid}"),
        }
    }
}

/// What clients may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; one above is closed as soon as it is accepted.
    pub connections: usize,
    /// Connections at once from one address.
    pub per_address: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request, and for an HTTP/1 connection to stay idle.
    pub header: Duration,
    /// For a client to take up some of an answer.
    pub stall: Duration,
    /// For an HTTP/2 connection to stay without a request.
    pub idle: Duration,
    /// For requests in progress once the listener stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_240,
            // A proxy may bring everybody from one address; it still leaves room for others.
            per_address: 8_192,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            drain: Duration::from_secs(20),
        }
    }
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has the port.
    #[error(
        "port {} on {} is in use by another program; stop it or choose another port \
         (`ss -ltnp` shows who has it)", .0.port(), .0.ip()
    )]
    PortTaken(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; check the listen address and permissions")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// A live process has the socket.
    #[error("{} is in use by a running server; stop it or choose another socket path", .0.display())]
    SocketTaken(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen on {}: {source}; check the directory and its permissions", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// An open door, not yet answering.
pub struct Listener(Door);

enum Door {
    Tcp {
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
    },
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// That connections are refused is told this often.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// The first and the longest pause after a failed accept: out of file descriptors, waiting helps.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

impl Listener {
    /// HTTPS on `address`; port 0 takes a free one.
    pub async fn tls(
        address: SocketAddr,
        identity: &Arc<ServerIdentity>,
    ) -> Result<Self, BindError> {
        let tls = Some(TlsAcceptor::from(identity.config()?));
        Ok(Self(Door::Tcp {
            listener: bind(address).await?,
            tls,
        }))
    }

    /// Plain HTTP on `address`, for what is public and signed in itself, such as CRLs.
    pub async fn plain(address: SocketAddr) -> Result<Self, BindError> {
        Ok(Self(Door::Tcp {
            listener: bind(address).await?,
            tls: None,
        }))
    }

    /// HTTP on a unix socket with these permission bits. A socket file that a dead process left is
    /// replaced. The file goes when the listener does.
    pub fn unix(path: &Path, mode: u32) -> Result<Self, BindError> {
        let (listener, file) = SocketFile::bind(path, mode)?;
        Ok(Self(Door::Unix {
            listener,
            _file: file,
        }))
    }

    /// The address in use, of a TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Door::Tcp { listener, .. } => listener.local_addr().ok(),
            Door::Unix { .. } => None,
        }
    }

    /// Serves `router` until `stop` is cancelled; then closes the door, lets requests in progress
    /// finish within `limits.drain`, and cuts the rest. Connections run in `tasks`.
    pub async fn serve(
        self,
        router: Router,
        limits: Limits,
        tasks: &Tasks,
        stop: &CancellationToken,
    ) {
        let slots = Arc::new(Semaphore::new(
            limits.connections.min(Semaphore::MAX_PERMITS),
        ));
        let open = TaskTracker::new();
        let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
        let server = Server {
            router,
            handshake: limits.handshake,
            header: limits.header,
            stall: limits.stall,
            idle: limits.idle,
            tasks: tasks.clone(),
            drain: drain.clone(),
        };
        let crowd = Crowd::default();
        let mut told: Option<Instant> = None;
        let mut pause = BACKOFF.0;
        loop {
            let accepted = tokio::select! { biased;
                () = stop.cancelled() => break,
                accepted = self.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; raise the limit on open files");
                    tokio::select! { biased;
                        () = stop.cancelled() => break,
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(BACKOFF.1);
                    continue;
                }
            };
            pause = BACKOFF.0;
            let slot = slots.clone().try_acquire_owned().ok();
            let place = crowd.enter(&peer, limits.per_address);
            let (Some(slot), Some(place)) = (slot, place) else {
                let now = Instant::now();
                if told.is_none_or(|told| now - told >= TELL_EVERY) {
                    told = Some(now);
                    tracing::warn!(
                        ?peer,
                        open = open.len(),
                        "connections refused: too many are open"
                    );
                }
                continue;
            };
            let connection = Box::pin(server.clone().run(stream, peer));
            let (token, cut) = (open.token(), cut.clone());
            tasks.spawn("connection", async move {
                let _held = (slot, place, token);
                tokio::select! { biased;
                    () = cut.cancelled() => {}
                    () = connection => {}
                }
            });
        }
        drop(self);
        drain.cancel();
        open.close();
        if timeout(limits.drain, open.wait()).await.is_err() {
            tracing::warn!(
                connections = open.len(),
                "requests were cut at the end of the drain"
            );
            cut.cancel();
            open.wait().await;
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Raw, Peer)> {
        match &self.0 {
            Door::Tcp { listener, tls } => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let raw = match tls {
                    Some(tls) => Raw::Tls(tls.clone(), stream),
                    None => Raw::Plain(stream),
                };
                Ok((raw, Peer::Tcp(address)))
            }
            Door::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok((Raw::Unix(stream), Peer::Unix { uid }))
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that listens")]
async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::PortTaken(address),
            _ => BindError::Address { address, source },
        })
}

/// Whether an accept failed for a fault of the connection accepted, not of the listener: accept(2)
/// passes on network errors that were already pending on it.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted
            | K::ConnectionReset
            | K::ConnectionRefused
            | K::NotConnected
            | K::InvalidInput
            | K::NetworkDown
            | K::NetworkUnreachable
            | K::HostUnreachable
            | K::TimedOut
            | K::Interrupted
    )
}
