//! Looking at what a TLS server really serves.

use super::{
    connect::tls_reason,
    dial::{DialError, Dialer},
    starttls::Protocol,
    tls::provider,
    trust::any_certificate,
};
use rustls::{ClientConfig, client::Resumption};
use rustls_pki_types::ServerName;
use std::{fmt, net::Ipv6Addr, str::FromStr, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The longest host name, in characters (RFC 1035, section 2.3.4, as text).
const MAX_HOST: usize = 253;

/// A TCP endpoint, written `host:port` or `[v6]:port`, after `smtp://`, `imap://`, `pop3://` or
/// `postgres://` when TLS does not begin at once there; `tls://` may stand before others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// How TLS begins.
    pub protocol: Protocol,
    /// A name or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A text that is no endpoint.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no endpoint; write host:port, such as www.example.org:443 or [::1]:443, with a host of \
     253 characters at most, and smtp://, imap://, pop3:// or postgres:// before it where TLS begins \
     by STARTTLS"
)]
pub struct InvalidEndpoint(String);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;
    fn from_str(s: &str) -> Result<Self, InvalidEndpoint> {
        let parsed = || {
            let (protocol, place) = match s.split_once("://") {
                Some((protocol, place)) => (protocol.parse().ok()?, place),
                None => (Protocol::Tls, s),
            };
            let authority: http::uri::Authority = place.parse().ok()?;
            let host = authority.host().trim_matches(['[', ']']);
            let port = authority.port_u16().filter(|port| *port != 0)?;
            let plain = (1..=MAX_HOST).contains(&host.len()) && !place.contains('@');
            // What an authority takes beside a name or an address (RFC 3986, section 3.2.2).
            let odd = host.contains(['[', ']', ':']) && host.parse::<Ipv6Addr>().is_err();
            let plain = plain && !odd;
            plain.then(|| Self {
                protocol,
                host: host.to_owned(),
                port,
            })
        };
        parsed().ok_or_else(|| InvalidEndpoint(s.chars().take(256).collect()))
    }
}

impl Endpoint {
    /// Where TLS begins at once.
    pub fn tls(host: impl Into<String>, port: u16) -> Self {
        Self {
            protocol: Protocol::Tls,
            host: host.into(),
            port,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol != Protocol::Tls {
            write!(f, "{}://", self.protocol)?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a server presented in a completed handshake, so it holds the leaf's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The certificates in DER, as presented: leaf first, at least one.
    pub chain: Vec<Vec<u8>>,
}

/// Why nothing was seen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProbeError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The handshake failed.
    #[error("{endpoint} completed no TLS handshake: {reason}")]
    Handshake {
        /// The endpoint.
        endpoint: Endpoint,
        /// What happened and what to do.
        reason: String,
    },
    /// The handshake took too long.
    #[error("{endpoint} did not complete a TLS handshake within {after:?}; check its load")]
    Timeout {
        /// The endpoint.
        endpoint: Endpoint,
        /// The time given.
        after: Duration,
    },
    /// The name cannot be asked for.
    #[error("{0:?} is neither a host name nor an address; correct the target's server name")]
    Name(String),
}

/// Makes a fresh TLS handshake and reports the chain. Whether the chain is trusted is not asked:
/// the caller compares it with what it deployed.
#[async_trait::async_trait]
pub trait Probe: Send + Sync {
    /// Looks at `endpoint`, asking for `server_name` (SNI; an address asks for none), within
    /// `limit` for connection and handshake together.
    async fn tls(
        &self,
        endpoint: &Endpoint,
        server_name: &str,
        limit: Duration,
    ) -> Result<Served, ProbeError>;
}

/// Probes over the network, in TLS 1.3 or 1.2.
#[derive(Clone)]
pub struct TlsProbe {
    dialer: Dialer,
    tls: TlsConnector,
}

impl TlsProbe {
    /// A probe that goes where `dialer` may.
    pub fn new(dialer: Dialer) -> Result<Self, rustls::Error> {
        let provider = provider();
        let any = any_certificate(&provider);
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(any)
            .with_no_client_auth();
        // A resumed session shows no certificate.
        tls.resumption = Resumption::disabled();
        Ok(Self {
            dialer,
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }
}

#[async_trait::async_trait]
impl Probe for TlsProbe {
    async fn tls(
        &self,
        endpoint: &Endpoint,
        server_name: &str,
        limit: Duration,
    ) -> Result<Served, ProbeError> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| ProbeError::Name(server_name.into()))?;
        let failed = |reason: String| ProbeError::Handshake {
            endpoint: endpoint.clone(),
            reason,
        };
        let handshake = async {
            let mut tcp = self
                .dialer
                .connect(&endpoint.host, endpoint.port, limit)
                .await?;
            let begun = endpoint.protocol.begin(&mut tcp).await;
            begun.map_err(|e| failed(e.reason))?;
            let stream = self.tls.connect(name, tcp).await;
            stream.map_err(|error| failed(tls_reason(&error)))
        };
        let stream = timeout(limit, handshake)
            .await
            .map_err(|_| ProbeError::Timeout {
                endpoint: endpoint.clone(),
                after: limit,
            })??;
        let chain: Vec<_> = stream
            .get_ref()
            .1
            .peer_certificates()
            .into_iter()
            .flatten()
            .map(|certificate| certificate.to_vec())
            .collect();
        if chain.is_empty() {
            return Err(failed("it presented no certificate".into()));
        }
        Ok(Served { chain })
    }
}
