//! Revocation lists over plain HTTP: these paths, and no others.

use crate::{
    net::pki::{AMPLE, serve},
    support::TestApp,
};
use certctl::{
    api,
    net::{Limits, Listener},
    sys::Tasks,
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[expect(
    clippy::disallowed_methods,
    reason = "a client of plain HTTP is not the product's"
)]
async fn get(address: SocketAddr, method: &str, path: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(AMPLE, stream.read_to_end(&mut answer)).await;
    read.expect("the server answers").unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head.to_lowercase(), answer[end + 4..].to_vec())
}

#[tokio::test]
async fn plain_http_serves_lists_and_ca_certificates_and_nothing_else() {
    let app = TestApp::start().await;
    let listener = Listener::plain(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    let tasks = Tasks::new();
    let router = api::plain_router(app.app.clone());
    serve(listener, router, Limits::default(), &tasks);

    let (head, list) = get(
        address,
        "GET",
        "/.well-known/pki/crl/ca-local-issuing/0.crl",
    )
    .await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("application/pkix-crl"), "{head}");
    let served = app.app.crl(&"ca-local-issuing".parse().unwrap()).await;
    assert_eq!(list, served.unwrap().der);
    let (head, der) = get(address, "GET", "/.well-known/pki/ca/ca-local-issuing.cer").await;
    assert!(head.contains("application/pkix-cert"), "{head}");
    assert!(certctl::pki::Certificate::from_der(&der).unwrap().is_ca());

    for path in [
        "/",
        "/health",
        "/ready",
        "/login",
        "/certificates",
        "/api/v1/certificates",
        "/.well-known/pki/",
        "/.well-known/pki/crl/../../../api/v1/certificates",
    ] {
        let (head, _) = get(address, "GET", path).await;
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
    }
    let path = "/.well-known/pki/crl/iss-local";
    let (head, _) = get(address, "POST", path).await;
    assert!(head.starts_with("http/1.1 405"), "{head}");
}
