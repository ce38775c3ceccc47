//! The accept loop: what a client may hold, and how it ends.

use super::pki::{AMPLE, Server, client, fetch, router, serve, text};
use axum::{Router, routing::get};
use certctl::{
    net::{BindError, CallError, Limits, Listener, Transport},
    sys::Tasks,
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const SOON: Duration = Duration::from_millis(100);

#[expect(
    clippy::disallowed_methods,
    reason = "a hostile client is not the product's"
)]
async fn tcp(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

async fn tls(server: &Server, alpn: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.ca.der.clone().into()).unwrap();
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp(server.address).await)
        .await
        .unwrap()
}

/// Reads until the other side closes, whether with an end or a reset.
async fn until_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut got = Vec::new();
    let _ = timeout(AMPLE, stream.read_to_end(&mut got))
        .await
        .expect("the server closes the connection");
    got
}

#[tokio::test]
async fn serves_http2_and_http1_and_says_who_calls() {
    let server = Server::start(router(), Limits::default()).await;
    let client = client(&server.ca.trust());
    let response = client.call(fetch(&server.url("/"))).await.unwrap();
    assert_eq!(text(response), "HTTP/2.0");
    let response = client.call(fetch(&server.url("/peer"))).await.unwrap();
    assert!(text(response).starts_with("Tcp(127.0.0.1:"));

    let mut stream = tls(&server, b"http/1.1").await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = String::from_utf8(until_closed(&mut stream).await).unwrap();
    assert!(answer.ends_with("HTTP/1.1"), "{answer}");
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so_and_reaches_nothing() {
    let reached = Arc::new(Semaphore::new(0));
    let inside = reached.clone();
    let router = Router::new().fallback(move || async move { inside.add_permits(1) });
    let server = Server::start(router, Limits::default()).await;
    let mut stream = tcp(server.address).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let answer = String::from_utf8(until_closed(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    assert!(answer.contains("use https://"), "{answer}");

    // One that is slow to ask is answered too, and not cut off.
    let mut stream = tcp(server.address).await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let answer = String::from_utf8(until_closed(&mut stream).await).unwrap();
    assert!(answer.contains("use https://"), "{answer}");
    for _ in 0..10 {
        stream.write_all(b"Host: x\r\n").await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
    assert_eq!(reached.available_permits(), 0);
}

#[tokio::test]
async fn a_slow_handshake_is_cut() {
    let limits = Limits {
        handshake: SOON,
        ..Limits::default()
    };
    let server = Server::start(router(), limits).await;
    let mut silent = tcp(server.address).await;
    assert_eq!(until_closed(&mut silent).await, b"");
    // The first bytes of a TLS record, and then no more.
    let mut slow = tcp(server.address).await;
    slow.write_all(&[22, 3, 1, 0]).await.unwrap();
    assert_eq!(until_closed(&mut slow).await, b"");
}

#[tokio::test]
async fn a_slow_request_head_is_cut_in_both_versions() {
    let limits = Limits {
        header: SOON,
        ..Limits::default()
    };
    let server = Server::start(router(), limits).await;
    let mut slow = tls(&server, b"http/1.1").await;
    slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    assert!(!String::from_utf8_lossy(&until_closed(&mut slow).await).contains("200"));
    let mut silent = tls(&server, b"h2").await;
    until_closed(&mut silent).await;
    let mut preface_only = tls(&server, b"h2").await;
    preface_only
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    until_closed(&mut preface_only).await;
}

#[tokio::test]
async fn a_slow_answer_is_not_cut_by_the_head_timeout() {
    let (router, entered, leave) = gate();
    let limits = Limits {
        header: SOON,
        ..Limits::default()
    };
    let server = Server::start(router, limits).await;
    let client = client(&server.ca.trust());
    let url = server.url("/");
    let timer = async {
        entered.notified().await;
        // Connected after the request came in, and cut by the timeout in question.
        until_closed(&mut tls(&server, b"h2").await).await;
        leave.notify_one();
    };
    let (response, ()) = tokio::join!(client.call(fetch(&url)), timer);
    assert_eq!(text(response.unwrap()), "finished");
}

#[tokio::test]
async fn connections_above_the_cap_are_closed_and_a_free_slot_is_used_again() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let server = Server::start(router(), limits).await;
    let first = tls(&server, b"h2").await;
    let mut second = tcp(server.address).await;
    assert_eq!(until_closed(&mut second).await, b"");
    drop(first);
    reached_again(&server).await;
}

/// Waits until a connection is taken again.
async fn reached_again(server: &Server) {
    let client = client(&server.ca.trust());
    timeout(AMPLE, async {
        while client.call(fetch(&server.url("/"))).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the slot is free again");
}

#[tokio::test]
async fn one_address_does_not_take_all_connections() {
    let limits = Limits {
        per_address: 1,
        ..Limits::default()
    };
    let server = Server::start(router(), limits).await;
    let first = tls(&server, b"h2").await;
    let mut second = tcp(server.address).await;
    assert_eq!(until_closed(&mut second).await, b"");
    drop(first);
    reached_again(&server).await;
}

#[tokio::test]
async fn a_client_that_does_not_take_up_its_answer_is_cut() {
    let limits = Limits {
        per_address: 1,
        stall: SOON,
        ..Limits::default()
    };
    let router = router().route("/large", get(|| async { vec![0_u8; 64 << 20] }));
    let server = Server::start(router, limits).await;
    let mut deaf = tls(&server, b"http/1.1").await;
    let request = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n";
    deaf.write_all(request).await.unwrap();
    reached_again(&server).await;
    drop(deaf);
}

#[tokio::test]
async fn a_connection_that_asks_nothing_for_long_is_ended() {
    let limits = Limits {
        per_address: 1,
        idle: SOON,
        ..Limits::default()
    };
    let server = Server::start(router(), limits).await;
    let idle = client(&server.ca.trust());
    let response = idle.call(fetch(&server.url("/"))).await.unwrap();
    assert_eq!(text(response), "HTTP/2.0");
    reached_again(&server).await;
}

/// A router whose `/` says that it was entered and waits for leave.
fn gate() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, wait) = (entered.clone(), leave.clone());
    let router = Router::new().route(
        "/",
        get(move || async move {
            enter.notify_one();
            wait.notified().await;
            "finished"
        }),
    );
    (router, entered, leave)
}

#[tokio::test]
async fn a_drain_finishes_what_was_begun_and_takes_nothing_new() {
    let (router, entered, leave) = gate();
    let limits = Limits {
        drain: AMPLE,
        ..Limits::default()
    };
    let server = Server::start(router, limits).await;
    let client = client(&server.ca.trust());
    let other = super::pki::client(&server.ca.trust());
    let mut idle = tls(&server, b"http/1.1").await;
    let url = server.url("/");
    let begun = client.call(fetch(&url));
    let drain = async {
        entered.notified().await;
        let shutdown = server.tasks.shutdown(AMPLE);
        let during = async {
            // The idle connection is closed, so the drain has begun.
            until_closed(&mut idle).await;
            assert!(matches!(
                other.call(fetch(&url)).await,
                Err(CallError::Dial(_))
            ));
            leave.notify_one();
        };
        tokio::join!(shutdown, during).0
    };
    let (response, late) = tokio::join!(begun, drain);
    assert_eq!(text(response.unwrap()), "finished");
    assert_eq!(late, BTreeMap::new());
}

#[tokio::test]
async fn a_request_that_outlasts_the_drain_is_cut() {
    let (router, entered, _leave) = gate();
    let limits = Limits {
        drain: SOON,
        ..Limits::default()
    };
    let server = Server::start(router, limits).await;
    // HTTP/1: its requests live in the connection.
    let mut stream = tls(&server, b"http/1.1").await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    entered.notified().await;
    assert_eq!(server.tasks.shutdown(AMPLE).await, BTreeMap::new());
    assert_eq!(until_closed(&mut stream).await, b"");
}

#[tokio::test]
async fn requests_of_a_cut_http2_connection_do_not_outlive_the_shutdown() {
    let (router, entered, _leave) = gate();
    let limits = Limits {
        drain: SOON,
        ..Limits::default()
    };
    let server = Server::start(router, limits).await;
    let client = client(&server.ca.trust());
    let url = server.url("/");
    let call = client.call(fetch(&url));
    let stop = async {
        entered.notified().await;
        server.tasks.shutdown(AMPLE).await
    };
    let (response, late) = tokio::join!(call, stop);
    assert!(
        matches!(response, Err(CallError::Broken(_))),
        "{response:?}"
    );
    assert_eq!(late, BTreeMap::new());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = Server::start(router(), Limits::default()).await;
    let error = Listener::tls(server.address, &server.identity)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, BindError::PortTaken(_)));
    let text = error.to_string();
    assert!(
        text.contains(&format!("port {}", server.address.port())),
        "{text}"
    );
    assert!(text.contains("choose another port"), "{text}");
}

#[tokio::test]
async fn a_plain_listener_serves_without_tls() {
    let listener = Listener::plain(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    let tasks = Tasks::new();
    serve(listener, router(), Limits::default(), &tasks);
    let mut stream = tcp(address).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = String::from_utf8(until_closed(&mut stream).await).unwrap();
    assert!(answer.ends_with("HTTP/1.1"), "{answer}");
    assert_eq!(tasks.shutdown(AMPLE).await, BTreeMap::new());
}
