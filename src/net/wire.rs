//! An open connection, whatever it runs over.

use hyper_util::client::legacy::connect::{Connected, Connection};
use ring::digest::{SHA256, SHA384, SHA512, digest};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

/// An open connection.
#[derive(Debug)]
pub enum Wire {
    /// In the clear.
    Tcp(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Within this machine.
    Unix(UnixStream),
}

impl Wire {
    /// What a login can be bound to: the hash of the certificate that the peer showed
    /// (`tls-server-end-point` of RFC 5929). None without TLS, and where the certificate's
    /// signature names no hash that is known here.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        let Self::Tls(stream) = self else { return None };
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates()?.first()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(shown).ok()?;
        let hash = match certificate
            .signature_algorithm
            .algorithm
            .to_id_string()
            .as_str()
        {
            // With MD5, SHA-1 and SHA-256, by RSA and ECDSA.
            "1.2.840.113549.1.1.4"
            | "1.2.840.113549.1.1.5"
            | "1.2.840.113549.1.1.11"
            | "1.2.840.10045.4.1"
            | "1.2.840.10045.4.3.2" => &SHA256,
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &SHA384,
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &SHA512,
            _ => return None,
        };
        Some(digest(hash, shown).as_ref().to_vec())
    }
}

/// One method of the stream inside.
macro_rules! inside {
    ($self:ident, $method:ident($($arg:ident),*)) => {
        match $self.get_mut() {
            Wire::Tcp(s) => Pin::new(s).$method($($arg),*),
            Wire::Tls(s) => Pin::new(s).$method($($arg),*),
            Wire::Unix(s) => Pin::new(s).$method($($arg),*),
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        inside!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        inside!(self, poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, poll_shutdown(cx))
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(s) if s.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}
