//! Which certificate is served to whom.

use super::pki::{AMPLE, Ca, Pair, Server, client, dialer, fetch, router};
use certctl::net::{
    AGENT_NAME, Endpoint, Identity, IdentityError, Limits, Probe, TlsProbe, Transport,
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// The leaf that a server shows to who asks for `name`.
async fn leaf(server: &Server, name: &str) -> Vec<u8> {
    let endpoint = Endpoint::tls("127.0.0.1", server.address.port());
    let probe = TlsProbe::new(dialer()).unwrap();
    let served = probe.tls(&endpoint, name, AMPLE).await.unwrap();
    served.chain.into_iter().next().unwrap()
}

#[tokio::test]
async fn agents_get_the_system_leaf_and_others_the_operators_once_there_is_one() {
    let server = Server::start(router(), Limits::default()).await;
    let system = server.ca.sign(&[AGENT_NAME, "localhost"]);
    let operator = Ca::new("operator").sign(&["www.example.org"]);
    server.identity.set_system(system.identity());
    for name in [AGENT_NAME, "www.example.org", "127.0.0.1"] {
        assert_eq!(leaf(&server, name).await, system.chain[0], "{name}");
    }
    server.identity.set_operator(Some(operator.identity()));
    assert_eq!(leaf(&server, AGENT_NAME).await, system.chain[0]);
    assert_eq!(
        leaf(&server, "Agents.CertCtl.internal").await,
        system.chain[0]
    );
    for name in ["www.example.org", "other.example.org", "127.0.0.1"] {
        assert_eq!(leaf(&server, name).await, operator.chain[0], "{name}");
    }
    server.identity.set_operator(None);
    assert_eq!(leaf(&server, "www.example.org").await, system.chain[0]);
}

#[tokio::test]
async fn a_swap_shows_in_the_next_handshake_and_breaks_no_open_connection() {
    let server = Server::start(router(), Limits::default()).await;
    let open = client(&server.ca.trust());
    open.call(fetch(&server.url("/"))).await.unwrap();
    // Signed by a CA that the open connection's client would not accept.
    let next = Ca::new("next").sign(&["localhost"]);
    server.identity.set_system(next.identity());
    assert_eq!(leaf(&server, "localhost").await, next.chain[0]);
    open.call(fetch(&server.url("/"))).await.unwrap();
    let fresh = client(&server.ca.trust());
    assert!(fresh.call(fetch(&server.url("/"))).await.is_err());
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "an old client is not the product's"
)]
async fn tls_1_2_is_refused() {
    let server = Server::start(router(), Limits::default()).await;
    let connect = async |versions: &[&'static rustls::SupportedProtocolVersion]| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(server.ca.der.clone().into()).unwrap();
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        let tcp = tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    };
    let error = connect(&[&rustls::version::TLS12]).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    assert!(connect(&[&rustls::version::TLS13]).await.is_ok());
}

#[test]
fn pairs_that_cannot_be_served_are_refused_with_the_reason() {
    let ca = Ca::new("ca");
    let (a, b): (Pair, Pair) = (ca.sign(&["a.example"]), ca.sign(&["b.example"]));
    let mixed = Identity::from_der(a.chain.clone(), b.key.clone());
    assert_eq!(mixed.unwrap_err(), IdentityError::Mismatch);
    let none = Identity::from_der(vec![], a.key.clone());
    assert!(matches!(none, Err(IdentityError::Chain(_))));
    let noise = Identity::from_der(vec![b"noise".to_vec()], a.key.clone());
    assert!(matches!(noise, Err(IdentityError::Unusable(_))));
    let keyless = Identity::from_der(a.chain.clone(), b"noise".to_vec());
    assert!(matches!(keyless, Err(IdentityError::Key(_))));
    let text = Identity::from_pem(ca.pem.as_bytes(), b"no key").unwrap_err();
    assert!(
        text.to_string()
            .starts_with("the private key is not readable PEM"),
        "{text}"
    );
    let text = Identity::from_pem(b"", b"").unwrap_err();
    assert!(!text.to_string().is_empty());
}
