//! The probe sees what is served, from who can prove it.

use super::pki::{AMPLE, Ca, Pair, Server, dialer, router};
use certctl::{
    net::{Endpoint, Limits, Probe, ProbeError, Protocol, TlsProbe},
    sys::Tasks,
};
use proptest::prelude::*;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::{sync::Arc, time::Duration};
use tokio_rustls::TlsAcceptor;

/// Shows a certificate, whether or not the key is its own.
#[derive(Debug)]
struct Claims(Arc<CertifiedKey>);

impl ResolvesServerCert for Claims {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A server that speaks one TLS version, signs with `pair.key` and shows `pair.chain`.
#[expect(clippy::disallowed_methods, reason = "a peer of the test")]
async fn serve(tasks: &Tasks, version: &'static SupportedProtocolVersion, pair: Pair) -> Endpoint {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider
        .key_provider
        .load_private_key(pair.key.try_into().unwrap())
        .unwrap();
    let chain = pair.chain.into_iter().map(Into::into).collect();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Claims(Arc::new(CertifiedKey::new(chain, key)))));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn("peer", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    Endpoint::tls("localhost", port)
}

#[tokio::test]
async fn the_served_chain_is_seen_in_both_versions_though_nobody_trusts_it() {
    let (tasks, pair) = (Tasks::new(), Ca::new("ca").sign(&["www.example.org"]));
    let probe = TlsProbe::new(dialer()).unwrap();
    for version in [&TLS12, &TLS13] {
        let endpoint = serve(&tasks, version, pair.clone()).await;
        for name in ["www.example.org", "another.example.org", "192.0.2.1"] {
            let served = probe.tls(&endpoint, name, AMPLE).await.unwrap();
            assert_eq!(served.chain, pair.chain);
        }
    }
    tasks.abort_all();
}

#[tokio::test]
async fn a_server_without_the_leafs_key_is_not_confirmed() {
    let (tasks, ca) = (Tasks::new(), Ca::new("ca"));
    let mut pair = ca.sign(&["www.example.org"]);
    pair.key = ca.sign(&["www.example.org"]).key;
    let probe = TlsProbe::new(dialer()).unwrap();
    for version in [&TLS12, &TLS13] {
        let endpoint = serve(&tasks, version, pair.clone()).await;
        let error = probe
            .tls(&endpoint, "www.example.org", AMPLE)
            .await
            .unwrap_err();
        assert!(matches!(error, ProbeError::Handshake { .. }), "{error}");
        assert!(error.to_string().contains("BadSignature"), "{error}");
    }
    tasks.abort_all();
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a peer of the test")]
async fn a_silent_server_and_a_wrong_name_are_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = Endpoint::tls("127.0.0.1", port);
    let probe = TlsProbe::new(dialer()).unwrap();
    let error = probe
        .tls(&silent, "a.example", Duration::from_millis(100))
        .await
        .unwrap_err();
    assert!(matches!(error, ProbeError::Timeout { .. }), "{error}");
    let error = probe.tls(&silent, "not a name", AMPLE).await.unwrap_err();
    assert!(matches!(error, ProbeError::Name(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_speaks_tls_1_3_only_is_seen() {
    let server = Server::start(router(), Limits::default()).await;
    let endpoint: Endpoint = format!("localhost:{}", server.address.port())
        .parse()
        .unwrap();
    let served = TlsProbe::new(dialer())
        .unwrap()
        .tls(&endpoint, "localhost", AMPLE)
        .await
        .unwrap();
    assert_eq!(served.chain.len(), 2);
    assert_eq!(served.chain[1], server.ca.der);
}

#[test]
fn endpoints_need_a_host_and_a_port() {
    for text in [
        "",
        "host",
        "host:",
        ":443",
        "host:0",
        "host:65536",
        "user@host:1",
        "::1",
        "[::1]",
    ] {
        assert!(text.parse::<Endpoint>().is_err(), "{text}");
    }
    let v6: Endpoint = "[::1]:443".parse().unwrap();
    assert_eq!((v6.host.as_str(), v6.port), ("::1", 443));
}

const PROTOCOLS: [Protocol; 5] = [
    Protocol::Tls,
    Protocol::Smtp,
    Protocol::Imap,
    Protocol::Pop3,
    Protocol::Postgres,
];

#[test]
fn endpoints_say_how_tls_begins() {
    for (text, protocol, shown) in [
        (
            "mail.example.org:443",
            Protocol::Tls,
            "mail.example.org:443",
        ),
        ("tls://[::1]:443", Protocol::Tls, "[::1]:443"),
        (
            "SMTP://mail.example.org:25",
            Protocol::Smtp,
            "smtp://mail.example.org:25",
        ),
        ("imap://[::1]:143", Protocol::Imap, "imap://[::1]:143"),
        ("pop3://host:110", Protocol::Pop3, "pop3://host:110"),
        (
            "postgres://host:5432",
            Protocol::Postgres,
            "postgres://host:5432",
        ),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.protocol, protocol);
        assert_eq!(endpoint.to_string(), shown);
    }
    for text in [
        "https://host:443",
        "://host:443",
        "smtp://",
        "smtp://host",
        "smtp://user@host:25",
    ] {
        let error = text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(error.contains("smtp://"), "{error}");
    }
}

proptest! {
    #[test]
    fn endpoints_read_as_they_are_written(host in "[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", port in 1u16.., protocol in 0..PROTOCOLS.len()) {
        let endpoint = Endpoint { protocol: PROTOCOLS[protocol], host, port };
        prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
    }

    #[test]
    fn v6_endpoints_read_as_they_are_written(address: u128, port in 1u16.., protocol in 0..PROTOCOLS.len()) {
        let host = std::net::Ipv6Addr::from(address).to_string();
        let endpoint = Endpoint { protocol: PROTOCOLS[protocol], host, port };
        prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
    }

    #[test]
    fn no_text_breaks_the_endpoint_parser(text: String) {
        let _ = text.parse::<Endpoint>();
    }
}
