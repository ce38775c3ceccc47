//! HTTP calls with a trust, a deadline and a limit on what may come back.

use super::{
    connect::{Connector, Route},
    dial::{DialError, Dialer},
    tls::provider,
    trust::{Trust, TrustError},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use std::{error::Error, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// One HTTP exchange. The client that all outgoing calls go through; a simulation has its own.
#[async_trait::async_trait]
pub trait Transport: Send + Sync {
    /// Sends a request and reads the whole response. Redirects are answers, not followed. A
    /// [`Deadline`] in the request's extensions replaces the client's own.
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError>;
}

/// How long one call may take, connecting and reading included. A request extension.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Duration);

/// What a client allows.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// For a whole call.
    pub timeout: Duration,
    /// For opening a connection, and again for its TLS handshake.
    pub connect_timeout: Duration,
    /// Of a response body, in bytes.
    pub max_body: usize,
    /// The server name to ask for (SNI) and to verify, where it is not the host of the address.
    pub server_name: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_body: 8 << 20,
            server_name: None,
        }
    }
}

/// Why a call has no response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// There is no connection to a unix socket.
    #[error("cannot connect to {}: {reason}; check that the server runs on this machine", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What happened.
        reason: std::io::ErrorKind,
    },
    /// The server is not trusted or speaks no acceptable TLS.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// The host and port dialled.
        host: String,
        /// What happened and what to do.
        reason: String,
    },
    /// It took too long.
    #[error("no answer within {after:?}; try again, or check the load and health of the server")]
    Timeout {
        /// The time given.
        after: Duration,
    },
    /// The response is too long.
    #[error("the response is longer than the {max} bytes allowed; ask for less at once")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// The request cannot be sent anywhere.
    #[error("{0}")]
    Request(String),
    /// The connection broke; the server may have acted on the request.
    #[error("the connection broke before the response was complete: {0}; try again")]
    Broken(String),
}

impl CallError {
    /// Whether the request certainly never reached the server.
    pub fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::Dial(_) | Self::Socket { .. } | Self::Tls { .. } | Self::Request(_)
        )
    }
}

/// How long an idle connection waits for the next call. HTTP/1 servers, ours among them, close
/// theirs early; HTTP/2 is kept alive.
const UNIX_IDLE: Duration = Duration::from_secs(3);
const HTTPS_IDLE: Duration = Duration::from_secs(60);
/// How often a call in progress is checked to have a live peer, over HTTP/2.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP over TLS 1.3, in version 2 or 1.1 as negotiated, or over a unix socket in version 1.1.
/// Connections are pooled; a clone shares them.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
    idle: Duration,
    timeout: Duration,
    max_body: usize,
}

impl HttpClient {
    /// For `https://` addresses.
    pub fn https(dialer: Dialer, trust: &Trust, options: HttpOptions) -> Result<Self, TrustError> {
        let provider = provider();
        let mut tls = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(trust.verifier(&provider)?)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self::new(
            Self::by_tcp(dialer, tls, false, &options),
            HTTPS_IDLE,
            &options,
        ))
    }

    /// For services of others, with `https://` and `http://` addresses: TLS 1.2 will do.
    pub fn foreign(
        dialer: Dialer,
        trust: &Trust,
        options: HttpOptions,
    ) -> Result<Self, TrustError> {
        let provider = provider();
        let mut tls = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(trust.verifier(&provider)?)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let route = Self::by_tcp(dialer, tls, true, &options);
        Ok(Self::new(route, HTTPS_IDLE, &options))
    }

    fn by_tcp(dialer: Dialer, tls: ClientConfig, plain: bool, options: &HttpOptions) -> Route {
        Route::Https {
            dialer,
            tls: TlsConnector::from(Arc::new(tls)),
            plain,
            server_name: options.server_name.clone(),
        }
    }

    /// For the server behind a unix socket; the host of an address, such as
    /// `http://localhost/path`, is only written into the request.
    pub fn unix(socket: PathBuf, options: HttpOptions) -> Self {
        Self::new(Route::Unix(socket), UNIX_IDLE, &options)
    }

    fn new(route: Route, idle: Duration, options: &HttpOptions) -> Self {
        let connector = Connector {
            route,
            timeout: options.connect_timeout,
        };
        Self {
            client: pool(&connector, idle),
            connector,
            idle,
            timeout: options.timeout,
            max_body: options.max_body,
        }
    }

    /// The same, with connections of its own, from this address of the machine.
    #[must_use]
    pub fn apart(&self, from: IpAddr) -> Self {
        let mut apart = self.clone();
        if let Route::Https { dialer, .. } = &mut apart.connector.route {
            *dialer = dialer.clone().from_address(from);
        }
        apart.client = pool(&apart.connector, self.idle);
        apart
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let sent = self.client.request(request.map(Full::new)).await;
        let (head, body) = sent.map_err(|e| failure(&e))?.into_parts();
        let body = Limited::new(body, self.max_body)
            .collect()
            .await
            .map_err(|e| {
                if e.is::<LengthLimitError>() {
                    CallError::TooLarge { max: self.max_body }
                } else {
                    failure(&*e)
                }
            })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

fn pool(connector: &Connector, idle: Duration) -> Client<Connector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(idle)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector.clone())
}

#[async_trait::async_trait]
impl Transport for HttpClient {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let after = request
            .extensions()
            .get::<Deadline>()
            .map_or(self.timeout, |deadline| deadline.0);
        timeout(after, self.exchange(request))
            .await
            .unwrap_or(Err(CallError::Timeout { after }))
    }
}

/// The connector's own error if it is the cause, else the innermost text.
fn failure(error: &(dyn Error + 'static)) -> CallError {
    let mut cause = error;
    loop {
        if let Some(own) = cause.downcast_ref::<CallError>() {
            return own.clone();
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return CallError::Broken(cause.to_string()),
        }
    }
}
