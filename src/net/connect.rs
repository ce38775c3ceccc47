//! The connections under an HTTP client: TLS over TCP, or a unix socket.

use super::{client::CallError, dial::Dialer, wire::Wire};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::ServerName;
use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::UnixStream, time::timeout};
use tokio_rustls::TlsConnector;

/// Where a client's connections go.
#[derive(Clone)]
pub(super) enum Route {
    /// To the host of the request.
    Https {
        dialer: Dialer,
        tls: TlsConnector,
        /// Addresses may begin with `http://`, too.
        plain: bool,
        /// The name asked for and verified; the host of the request if absent.
        server_name: Option<String>,
    },
    /// To this socket, whatever the request says.
    Unix(PathBuf),
}

/// Opens connections on a route.
#[derive(Clone)]
pub(super) struct Connector {
    pub route: Route,
    pub timeout: Duration,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<Wire>, CallError> {
        let stream = match self.route {
            Route::Unix(path) => {
                let opened = UnixStream::connect(&path).await;
                Wire::Unix(opened.map_err(|error| CallError::Socket {
                    path,
                    reason: error.kind(),
                })?)
            }
            Route::Https {
                dialer,
                tls,
                plain,
                server_name,
            } => {
                let host = uri.host().unwrap_or_default().to_owned();
                if plain && uri.scheme_str() == Some("http") && !host.is_empty() {
                    let port = uri.port_u16().unwrap_or(80);
                    let tcp = dialer.connect(&host, port, self.timeout).await?;
                    return Ok(TokioIo::new(Wire::Tcp(tcp)));
                }
                if uri.scheme_str() != Some("https") || host.is_empty() {
                    return Err(CallError::Request(format!(
                        "{uri} is not an https:// address"
                    )));
                }
                let name = server_name.as_deref().unwrap_or(&host);
                let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
                    .map_err(|_| CallError::Request(format!("{name} is no host name")))?;
                let port = uri.port_u16().unwrap_or(443);
                let tcp = dialer.connect(&host, port, self.timeout).await?;
                match timeout(self.timeout, tls.connect(name, tcp)).await {
                    Ok(Ok(stream)) => Wire::Tls(Box::new(stream)),
                    Ok(Err(error)) => {
                        return Err(CallError::Tls {
                            host: format!("{host} port {port}"),
                            reason: tls_reason(&error),
                        });
                    }
                    Err(_) => {
                        return Err(CallError::Timeout {
                            after: self.timeout,
                        });
                    }
                }
            }
        };
        Ok(TokioIo::new(stream))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, CallError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// What a failed handshake means and what to do about it.
pub(super) fn tls_reason(error: &io::Error) -> String {
    use rustls::Error as E;
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<E>());
    match tls {
        Some(E::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is not signed by a CA trusted here; check the CA bundle or pin".into()
        }
        Some(E::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "its certificate is for another name; check the address".into(),
        Some(E::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired; renew it, or set this machine's clock".into(),
        Some(E::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => "its certificate is not valid yet; set this machine's clock".into(),
        Some(E::AlertReceived(AlertDescription::ProtocolVersion) | E::PeerIncompatible(_)) => {
            "it shares no TLS version or cipher with this program; enable TLS 1.3 there".into()
        }
        Some(E::InvalidMessage(_)) => "it does not speak TLS on this port; check the port".into(),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection during the handshake; check the port".into()
        }
        None => error.to_string(),
    }
}
