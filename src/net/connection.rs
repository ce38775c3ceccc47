//! One accepted connection: handshake, HTTP version, requests, drain.

use super::serve::Peer;
use crate::sys::Tasks;
use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// A connection as the kernel gave it.
pub(super) enum Raw {
    Tls(TlsAcceptor, TcpStream),
    Plain(TcpStream),
    Unix(UnixStream),
}

/// How connections are served.
#[derive(Clone)]
pub(super) struct Server {
    pub router: Router,
    pub handshake: Duration,
    pub header: Duration,
    pub stall: Duration,
    pub idle: Duration,
    pub tasks: Tasks,
    /// Cancelled when no new requests are taken.
    pub drain: CancellationToken,
}

/// The longest head of a request, in bytes.
const HEAD_BYTES: u16 = u16::MAX;
/// Requests at once on an HTTP/2 connection.
const STREAMS: u32 = 128;
/// How a vanished HTTP/2 client is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The answer to HTTP without TLS.
const SPEAKS_HTTPS: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS: use https:// in the address.\n";

impl Server {
    /// Serves one connection to its end. Its parts are boxed: one that waits for long, as an
    /// agent's does, would hold room for the others too.
    pub(super) async fn run(self, raw: Raw, peer: Peer) {
        match raw {
            Raw::Plain(stream) => Box::pin(self.http1(self.impatient(stream), peer)).await,
            Raw::Unix(stream) => Box::pin(self.http1(self.impatient(stream), peer)).await,
            Raw::Tls(tls, stream) => {
                let handshake = Box::pin(handshake(&tls, stream));
                let accepted = tokio::select! { biased;
                    () = self.drain.cancelled() => return,
                    accepted = timeout(self.handshake, handshake) => accepted,
                };
                match accepted {
                    Ok(Ok(Some(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                        Box::pin(self.http2(self.impatient(stream), peer)).await;
                    }
                    Ok(Ok(Some(stream))) => {
                        Box::pin(self.http1(self.impatient(stream), peer)).await;
                    }
                    Ok(Ok(None)) => tracing::debug!(?peer, "plain HTTP on the HTTPS port"),
                    Ok(Err(error)) => tracing::debug!(?peer, %error, "no TLS handshake"),
                    Err(_) => tracing::debug!(?peer, "TLS handshake took too long"),
                }
            }
        }
    }

    async fn http1<S: Stream>(&self, stream: Impatient<S>, peer: Peer) {
        let requests = Requests::new(&self.router, peer);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header)
            .max_buf_size(HEAD_BYTES.into())
            .serve_connection(
                TokioIo::new(stream),
                service_fn(|request| requests.answer(request)),
            );
        self.drive(Box::pin(connection), &requests).await;
    }

    async fn http2<S: Stream>(&self, stream: Impatient<S>, peer: Peer) {
        let requests = Requests::new(&self.router, peer);
        let service = requests.clone();
        let connection = http2::Builder::new(InTasks(self.tasks.clone()))
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD_BYTES.into())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| service.answer(request)),
            );
        self.drive(Box::pin(connection), &requests).await;
    }

    /// The stream, broken off when the client takes up nothing of an answer for too long.
    fn impatient<S: Stream>(&self, stream: S) -> Impatient<S> {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.stall));
        Box::pin(stream)
    }

    /// Runs a connection until it ends; when draining, until its requests are answered. hyper
    /// bounds the wait for a request only in HTTP/1, so the first one is awaited here, and a
    /// connection that asks nothing for long is ended.
    async fn drive<C>(&self, mut connection: Pin<Box<C>>, requests: &Requests)
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut first = pin!(sleep(self.header));
        let (mut waiting, mut draining) = (true, false);
        let mut look = interval_at(Instant::now() + self.idle, self.idle);
        let mut before = 0;
        loop {
            tokio::select! { biased;
                () = self.drain.cancelled(), if !draining => {
                    connection.as_mut().graceful_shutdown();
                    draining = true;
                }
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(peer = ?requests.peer, %error, "a connection broke");
                    }
                    return;
                }
                () = first.as_mut(), if waiting => {
                    if requests.begun.load(Relaxed) == 0 {
                        tracing::debug!(peer = ?requests.peer, "no request came in time");
                        return;
                    }
                    waiting = false;
                }
                _ = look.tick(), if !draining => {
                    let begun = requests.begun.load(Relaxed);
                    if begun == before && requests.open.load(Relaxed) == 0 {
                        connection.as_mut().graceful_shutdown();
                        draining = true;
                    }
                    before = begun;
                }
            }
        }
    }
}

/// Completes a TLS handshake; `None` after telling a client that speaks HTTP without it. A TLS
/// record never starts with a letter (RFC 8446, section 5.1).
async fn handshake(
    tls: &TlsAcceptor,
    mut stream: TcpStream,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first.iter().all(u8::is_ascii_uppercase) {
        stream.write_all(SPEAKS_HTTPS).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection and lose the answer, also for a
        // client that is still writing.
        while stream.read(&mut [0; 4096]).await? > 0 {}
        return Ok(None);
    }
    tls.accept(stream).await.map(Some)
}

/// A stream that is broken off when nothing of what is written is taken up for too long.
type Impatient<S> = Pin<Box<TimeoutStream<S>>>;

/// What HTTP runs on.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// The requests of one connection.
#[derive(Clone)]
struct Requests {
    router: Router,
    peer: Peer,
    /// How many there were.
    begun: Arc<AtomicUsize>,
    /// How many are not answered yet.
    open: Arc<AtomicUsize>,
}

impl Requests {
    fn new(router: &Router, peer: Peer) -> Self {
        Self {
            router: router.clone(),
            peer,
            begun: Arc::default(),
            open: Arc::default(),
        }
    }

    fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        self.begun.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        let open = Open(self.open.clone());
        request.extensions_mut().insert(self.peer);
        let answer = self.router.clone().call(request);
        async move {
            let _open = open;
            answer.await
        }
    }
}

/// A request that is not answered yet.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Runs HTTP/2 requests as tasks of the server, so that a drain waits for them.
#[derive(Clone)]
struct InTasks(Tasks);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for InTasks {
    fn execute(&self, request: F) {
        self.0.spawn("request", request);
    }
}
