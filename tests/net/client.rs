//! The HTTP client: trust, limits, error texts.

use super::pki::{AMPLE, Ca, Server, client, dialer, fetch, router, text};
use axum::{Router, routing::get};
use certctl::net::{
    AGENT_NAME, CallError, Deadline, HttpClient, HttpOptions, Limits, SpkiPin, Transport, Trust,
    TrustError,
};
use proptest::prelude::*;
use std::{future::pending, time::Duration};

async fn reason(trust: &Trust, url: &str) -> String {
    match client(trust).call(fetch(url)).await {
        Err(CallError::Tls { reason, .. }) => reason,
        other => panic!("expected a TLS failure, got {other:?}"),
    }
}

#[tokio::test]
async fn the_right_pin_is_enough_and_a_wrong_one_is_refused() {
    let server = Server::start(router(), Limits::default()).await;
    let url = server.url("/");
    let response = client(&Trust::Pin(server.ca.pin())).call(fetch(&url)).await;
    assert_eq!(response.unwrap().status(), 200);
    let wrong = Trust::Pin(Ca::new("other").pin());
    assert!(
        reason(&wrong, &url)
            .await
            .contains("check the CA bundle or pin")
    );
}

#[tokio::test]
async fn a_pin_still_demands_the_cas_signature_and_the_name() {
    let server = Server::start(router(), Limits::default()).await;
    let url = server.url("/");
    let pin = Trust::Pin(server.ca.pin());
    // A leaf of another CA beside the pinned CA's certificate, which anyone can send along.
    let mut forged = Ca::new("forger").sign(&["localhost"]);
    forged.chain[1] = server.ca.der.clone();
    server.identity.set_system(forged.identity());
    reason(&pin, &url).await;
    // The pinned key as the leaf's own signer only by name.
    let mut forged = Ca::new("system").sign(&["localhost"]);
    forged.chain[1] = server.ca.der.clone();
    server.identity.set_system(forged.identity());
    reason(&pin, &url).await;
    server
        .identity
        .set_system(server.ca.sign(&["elsewhere.example"]).identity());
    assert!(reason(&pin, &url).await.contains("for another name"));
    // Without the CA's certificate there is nothing to compare.
    let mut bare = server.ca.sign(&["localhost"]);
    bare.chain.truncate(1);
    server.identity.set_system(bare.identity());
    reason(&pin, &url).await;
}

#[tokio::test]
async fn the_name_asked_for_is_independent_of_the_host_dialled() {
    let server = Server::start(router(), Limits::default()).await;
    server
        .identity
        .set_system(server.ca.sign(&[AGENT_NAME]).identity());
    let other = Ca::new("operator").sign(&["localhost"]);
    server.identity.set_operator(Some(other.identity()));
    let options = HttpOptions {
        server_name: Some(AGENT_NAME.into()),
        ..HttpOptions::default()
    };
    let agent = HttpClient::https(dialer(), &server.ca.trust(), options).unwrap();
    let url = format!("https://127.0.0.1:{}/", server.address.port());
    assert_eq!(text(agent.call(fetch(&url)).await.unwrap()), "HTTP/2.0");
}

#[tokio::test]
async fn failures_say_what_to_do() {
    let server = Server::start(router(), Limits::default()).await;
    let trust = server.ca.trust();
    let other = Ca::new("other").trust();
    assert!(
        reason(&other, &server.url("/"))
            .await
            .contains("not signed by a CA trusted here")
    );
    let by_address = format!("https://127.0.0.1:{}/", server.address.port());
    assert!(
        reason(&trust, &by_address)
            .await
            .contains("for another name")
    );

    let plain = client(&trust)
        .call(fetch("http://localhost/"))
        .await
        .unwrap_err();
    assert!(
        plain.to_string().contains("is not an https:// address"),
        "{plain}"
    );
    assert!(plain.is_unsent());

    // Nobody listens on a port that was just free.
    let address = server.address;
    server.tasks.shutdown(AMPLE).await;
    let url = format!("https://127.0.0.1:{}/", address.port());
    let refused = client(&trust).call(fetch(&url)).await.unwrap_err();
    assert!(matches!(refused, CallError::Dial(_)));
    assert!(refused.is_unsent());
    let expected = format!("cannot connect to 127.0.0.1 port {}", address.port());
    assert!(refused.to_string().starts_with(&expected), "{refused}");
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_and_one_at_it_is_not() {
    let body = get(|| async { vec![0u8; 1000] });
    let server = Server::start(Router::new().route("/", body), Limits::default()).await;
    for (max_body, fits) in [(1000, true), (999, false)] {
        let options = HttpOptions {
            max_body,
            ..HttpOptions::default()
        };
        let client = HttpClient::https(dialer(), &server.ca.trust(), options).unwrap();
        match client.call(fetch(&server.url("/"))).await {
            Ok(response) => assert!(fits && response.body().len() == 1000),
            Err(CallError::TooLarge { max }) => assert!(!fits && max == 999),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_call_ends_at_its_own_deadline() {
    let never = get(|| async {
        pending::<()>().await;
    });
    let server = Server::start(Router::new().route("/", never), Limits::default()).await;
    let mut request = fetch(&server.url("/"));
    let after = Duration::from_millis(100);
    request.extensions_mut().insert(Deadline(after));
    let error = client(&server.ca.trust()).call(request).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { after: a } if a == after));
    assert!(!error.is_unsent());
}

#[test]
fn a_bundle_without_certificates_is_refused() {
    assert!(matches!(
        Trust::from_pem(b"nothing"),
        Err(TrustError::Empty)
    ));
    let damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        Trust::from_pem(damaged),
        Err(TrustError::Damaged(_))
    ));
}

#[test]
fn a_pin_is_the_hash_of_the_key_alone() {
    let ca = Ca::new("ca");
    assert_ne!(ca.pin(), Ca::new("ca").pin());
    assert_eq!(SpkiPin::of_certificate(b"noise"), None);
    assert!("sha256:00".parse::<SpkiPin>().is_err());
    assert!("00".repeat(32).parse::<SpkiPin>().is_err());
}

proptest! {
    #[test]
    fn pins_read_as_they_are_written(spki: Vec<u8>) {
        let pin = SpkiPin::of_spki(&spki);
        prop_assert_eq!(pin.to_string().parse::<SpkiPin>(), Ok(pin));
        let shouted = pin.to_string().replace("sha256:", "").to_uppercase();
        prop_assert_eq!(format!("sha256:{shouted}").parse::<SpkiPin>(), Ok(pin));
    }

    #[test]
    fn no_text_breaks_the_parser(text: String) {
        let _ = text.parse::<SpkiPin>();
        let _ = format!("sha256:{text}").parse::<SpkiPin>();
    }
}
