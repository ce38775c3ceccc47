//! Requests that are no HTTP, over real TLS: each is answered with a 4xx or cut, and the server
//! goes on.

use super::*;
use certctl::{
    api,
    net::{Identity, Limits, Listener, ServerIdentity},
    sys::Tasks,
};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Long enough that only a hang reaches it.
const AMPLE: Duration = Duration::from_secs(60);

/// The API behind TLS.
struct Door {
    address: SocketAddr,
    connector: TlsConnector,
    tasks: Tasks,
}

impl Door {
    async fn open(app: &TestApp) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let der = made.cert.der().to_vec();
        let key = made.signing_key.serialize_der();
        let identity = ServerIdentity::new(Identity::from_der(vec![der.clone()], key).unwrap());
        let listener = Listener::tls(([127, 0, 0, 1], 0).into(), &identity);
        let listener = listener.await.unwrap();
        let address = listener.address().unwrap();
        let (tasks, router) = (Tasks::new(), api::router(app.app.clone()));
        let (inside, stop) = (tasks.clone(), tasks.token());
        tasks.spawn("door", async move {
            listener
                .serve(router, Limits::default(), &inside, &stop)
                .await;
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(der)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            address,
            connector: TlsConnector::from(Arc::new(config)),
            tasks,
        }
    }

    /// What comes back before the server closes the connection. A client that is `cut` closes its
    /// side first.
    #[expect(
        clippy::disallowed_methods,
        reason = "a client that speaks no HTTP is not the product's"
    )]
    async fn say(&self, bytes: &[u8], cut: bool) -> String {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = self.connector.connect(name, tcp).await.unwrap();
        // A server that has read enough may close before all is written.
        let _ = stream.write_all(bytes).await;
        if cut {
            let _ = stream.shutdown().await;
        }
        let mut got = Vec::new();
        let read = timeout(AMPLE, stream.read_to_end(&mut got)).await;
        let _ = read.expect("the server closes the connection");
        String::from_utf8_lossy(&got).into_owned()
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_reaches_nothing() {
    let world = World::new().await;
    let door = Door::open(&world.app).await;
    let key = format!("Authorization: Bearer {}\r\n", world.app.admin_key());
    let head = |line: &str, more: &str| {
        format!("{line}\r\nHost: localhost\r\nConnection: close\r\n{key}{more}\r\n")
    };
    let post = |more: &str, body: &str| head("POST /api/v1/certificates HTTP/1.1", more) + body;
    let good = r#"{"name": "n", "common_name": "n.example.org"}"#;
    let sized = |n: usize| format!("Content-Length: {n}\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let get = "GET /api/v1/certificates HTTP/1.1";
    let big = format!("{:x}\r\n{}\r\n0\r\n\r\n", 2 << 20, "x".repeat(2 << 20));
    // Each with the status of the answer; 0: the connection is closed without one.
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("nothing", Vec::new(), 0),
        ("line ends", b"\r\n\r\n\r\n\r\n".into(), 0),
        ("half a request line", b"GET /api".into(), 0),
        ("binary noise", (0..=255).cycle().take(2_000).collect(), 400),
        (
            "a TLS hello within TLS",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".into(),
            400,
        ),
        (
            "an unknown HTTP version",
            head("GET / HTTP/9.9", "").into(),
            400,
        ),
        ("no HTTP version", head("GET /", "").into(), 400),
        (
            "a lower-case version",
            head("GET / http/1.1", "").into(),
            400,
        ),
        (
            "a method with a space",
            head("GE T / HTTP/1.1", "").into(),
            400,
        ),
        (
            "a method with a NUL",
            head("GE\0T / HTTP/1.1", "").into(),
            400,
        ),
        (
            "a path with a space",
            head("GET /api v1 HTTP/1.1", "").into(),
            400,
        ),
        (
            "a path with a NUL",
            head("GET /api\0v1 HTTP/1.1", "").into(),
            400,
        ),
        (
            "a path without a slash",
            head("GET api/v1/certificates HTTP/1.1", "").into(),
            400,
        ),
        (
            "an asterisk for a path",
            head("OPTIONS * HTTP/1.1", "").into(),
            404,
        ),
        (
            "a path of 70000",
            head(&format!("GET /{} HTTP/1.1", "x".repeat(70_000)), "").into(),
            414,
        ),
        (
            "a tunnel",
            head("CONNECT example.org:443 HTTP/1.1", "").into(),
            404,
        ),
        (
            "a header without a colon",
            head(get, "X-Nothing\r\n").into(),
            400,
        ),
        (
            "a space before the colon",
            head(get, "X-Space : 1\r\n").into(),
            400,
        ),
        ("a header without a name", head(get, ": 1\r\n").into(), 400),
        (
            "a folded header",
            head(get, "X-Fold: a\r\n b\r\n").into(),
            400,
        ),
        (
            "a NUL in a header",
            head(get, "X-Nul: a\0b\r\n").into(),
            400,
        ),
        (
            "a bare CR in a header",
            head(get, "X-Cr: a\rb\r\n").into(),
            400,
        ),
        (
            "a header of 1 MB",
            head(get, &format!("X-Long: {}\r\n", "x".repeat(1 << 20))).into(),
            431,
        ),
        (
            "5000 headers",
            head(get, &"X: 1\r\n".repeat(5_000)).into(),
            431,
        ),
        (
            "a length that is a word",
            post("Content-Length: many\r\n", good).into(),
            400,
        ),
        (
            "a length below nothing",
            post("Content-Length: -1\r\n", good).into(),
            400,
        ),
        (
            "a length beyond numbers",
            post(&format!("Content-Length: {}\r\n", "9".repeat(40)), good).into(),
            400,
        ),
        (
            "two lengths",
            post(&(sized(1) + &sized(2)), good).into(),
            400,
        ),
        ("a length of 2 MiB", post(&sized(2 << 20), good).into(), 413),
        ("a body that is cut", post(&sized(1_000), good).into(), 400),
        (
            "an unknown coding",
            post("Transfer-Encoding: gzip\r\n", good).into(),
            400,
        ),
        (
            "chunks that are not last",
            post("Transfer-Encoding: chunked, gzip\r\n", good).into(),
            400,
        ),
        (
            "a size of a chunk that is a word",
            post(chunked, "many\r\nx\r\n0\r\n\r\n").into(),
            400,
        ),
        (
            "a size of a chunk beyond numbers",
            post(chunked, "ffffffffffffffffff\r\nx\r\n0\r\n\r\n").into(),
            400,
        ),
        (
            "a chunk longer than it says",
            post(chunked, "1\r\nxyz\r\n0\r\n\r\n").into(),
            400,
        ),
        (
            "a chunk that is cut",
            post(chunked, "ff\r\n{\"name\"").into(),
            400,
        ),
        (
            "an end of chunks that is cut",
            post(chunked, "1\r\n{\r\n").into(),
            400,
        ),
        ("chunks of 2 MiB", post(chunked, &big).into(), 413),
        (
            "an expectation of nothing",
            post("Expect: the unexpected\r\n", "").into(),
            400,
        ),
    ];
    let before = world.app.seq();
    let mut wrong = Vec::new();
    for (name, bytes, status) in cases {
        let answer = door.say(&bytes, status == 0 || name.ends_with("cut")).await;
        let found = answer
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or(0);
        if found != status {
            let shown: String = answer.chars().take(200).collect();
            wrong.push(format!("{name}: {found}, not {status}: {shown}"));
        }
        if world.app.seq() != before {
            wrong.push(format!("{name}: something was changed"));
            break;
        }
    }
    let list = door.say(head(get, "").as_bytes(), false).await;
    if !list.starts_with("HTTP/1.1 200 ") {
        wrong.push(format!("a good request at the end: {list}"));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    door.tasks.abort_all();
    world.app.check().await;
}

/// What one proxy takes for one request and another for two.
#[tokio::test]
async fn a_request_within_a_request_reaches_nothing() {
    let world = World::new().await;
    let door = Door::open(&world.app).await;
    let key = world.app.admin_key();
    let inner = format!(
        "DELETE /api/v1/certificates/web HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {key}\r\n\r\n"
    );
    let before = world.app.seq();
    for headers in [
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
            inner.len() + 5
        ),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n".into(),
        "Content-Length: 5\r\nContent-Length: 0\r\n".into(),
        "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n".into(),
        "Transfer-Encoding: xchunked\r\n".into(),
    ] {
        let outer = format!(
            "POST /api/v1/nothing HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n0\r\n\r\n{inner}"
        );
        let answer = door.say(outer.as_bytes(), false).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{headers}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{headers}: {answer}"
        );
        assert_eq!(world.app.seq(), before, "{headers}");
    }
    door.tasks.abort_all();
}
