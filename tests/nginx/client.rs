//! A TLS client that trusts the test's CA, resumes nothing, and speaks enough HTTP/1.1.

use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

#[derive(Clone)]
pub struct Client {
    connector: TlsConnector,
    address: SocketAddr,
}

pub struct Connection {
    stream: TlsStream<TcpStream>,
    /// What the server presented, leaf first: the handshake proved its key, path and name.
    pub chain: Vec<Vec<u8>>,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The connection ended before any byte of one.
    #[error("closed before any byte of an answer")]
    Before,
    /// Anything else.
    #[error("{0}")]
    Within(String),
}

impl Client {
    /// For a server whose chains end in the last certificate of `chain`.
    pub fn new(address: SocketAddr, chain: &[Vec<u8>]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(chain.last().unwrap().clone().into()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        Self { connector, address }
    }

    #[expect(clippy::disallowed_methods, reason = "a peer of the server under test")]
    pub async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = "localhost".try_into().unwrap();
        let stream = self.connector.connect(name, stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        let chain = chain.iter().map(|der| der.to_vec()).collect();
        Ok(Connection { stream, chain })
    }
}

impl Connection {
    /// The status of the answer to a request.
    pub async fn get(&mut self) -> Result<u16, Cut> {
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        if self.stream.write_all(request).await.is_err() || self.stream.flush().await.is_err() {
            return Err(Cut::Before);
        }
        let mut answer = Vec::new();
        loop {
            match self.stream.read_buf(&mut answer).await {
                Ok(1..) => {}
                _ if answer.is_empty() => return Err(Cut::Before),
                other => return Err(Cut::Within(format!("{other:?}"))),
            }
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && body.len() >= "ok\n".len()
            {
                let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
                return status.ok_or_else(|| Cut::Within(head.to_owned()));
            }
        }
    }
}
