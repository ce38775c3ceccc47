//! Opening TCP connections, with a guard over where they may go.

use super::resolve::{ResolveError, Resolver};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

/// Which addresses may be dialled. It is asked about the very address that is dialled, after
/// resolving, so a name cannot point around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// All: the operator named the destination in the configuration.
    Any,
    /// Only addresses of the public internet: a user of the product named the destination.
    /// Refuses loopback, private, link-local, metadata and every other special-purpose range
    /// (IANA registries of RFC 6890).
    Public,
}

impl Guard {
    /// Whether `address` may be dialled.
    pub fn allows(self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::Any, _) => true,
            (Self::Public, IpAddr::V4(v4)) => is_public_v4(v4),
            (Self::Public, IpAddr::V6(v6)) => is_public_v6(v6),
        }
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        // The platform address of Azure: public by number, private by meaning.
        || ip == Ipv4Addr::new(168, 63, 129, 16))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3 (RFC 4291, section 2.4). Inside it are special: protocol
    // assignments with Teredo, documentation, and 6to4, which embeds any IPv4 address.
    let [a, b, ..] = ip.segments();
    (a & 0xe000) == 0x2000
        && !(a == 0x2001 && b < 0x0200)
        && !(a == 0x2001 && b == 0x0db8)
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

/// Opens TCP connections to host names and addresses.
#[derive(Clone)]
pub struct Dialer {
    resolver: Resolver,
    guard: Guard,
    from: Option<IpAddr>,
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Every address of the host is forbidden.
    #[error(
        "{host} is at {address}, which is not a public address; this destination may only be on \
         the public internet"
    )]
    Forbidden {
        /// The host.
        host: String,
        /// The first address refused.
        address: IpAddr,
    },
    /// Nobody answered in time.
    #[error("{host} port {port} did not answer within {after:?}; check the address and firewalls")]
    Timeout {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The time given.
        after: Duration,
    },
    /// The last address tried refused or could not be reached.
    #[error("cannot connect to {host} port {port} ({address}): {source}; check that it is running")]
    Connect {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The address tried last.
        address: IpAddr,
        /// The cause.
        source: Arc<io::Error>,
    },
}

impl Dialer {
    /// A dialler that resolves by `resolver` and goes where `guard` allows.
    pub fn new(resolver: Resolver, guard: Guard) -> Self {
        Self {
            resolver,
            guard,
            from: None,
        }
    }

    /// The same, calling from this address of the machine; it reaches addresses of its family only.
    #[must_use]
    pub fn from_address(self, from: IpAddr) -> Self {
        Self {
            from: Some(from),
            ..self
        }
    }

    /// Connects to the first address of `host` that answers, each in turn, within `limit` in all.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> Result<TcpStream, DialError> {
        let late = || DialError::Timeout {
            host: host.into(),
            port,
            after: limit,
        };
        let started = Instant::now();
        let addresses = timeout(limit, self.resolver.lookup(host))
            .await
            .map_err(|_| late())??;
        let mut left = addresses.len();
        let mut failure = late();
        let mut tried = false;
        for address in addresses {
            left -= 1;
            if !self.guard.allows(address) {
                if !tried {
                    failure = DialError::Forbidden {
                        host: host.into(),
                        address,
                    };
                }
                continue;
            }
            tried = true;
            // A silent address must leave time for those after it.
            let share = limit.saturating_sub(started.elapsed()) / count(left + 1);
            failure = match timeout(share, open(SocketAddr::new(address, port), self.from)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => DialError::Connect {
                    host: host.into(),
                    port,
                    address,
                    source: Arc::new(error),
                },
                Err(_) => late(),
            };
        }
        Err(failure)
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the one place that dials")]
async fn open(address: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let stream = match from {
        None => TcpStream::connect(address).await?,
        Some(from) => {
            let socket = match from {
                IpAddr::V4(_) => TcpSocket::new_v4()?,
                IpAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.bind(SocketAddr::new(from, 0))?;
            socket.connect(address).await?
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
