//! Issuers: several CAs, each with its own certificates and lists.

use super::access::foreign_ca;
use crate::support::{TestApp, text};
use certctl::pki::{Certificate, Chain};
use serde_json::{Value, json};

fn import(name: &str, cert: &str, key: &str) -> Value {
    let config = json!({"ca_cert_pem": cert, "ca_key_pem": key});
    json!({"id": name, "name": name, "type": "local", "config": config})
}

#[tokio::test]
async fn a_ca_made_elsewhere_signs_for_certificates_that_name_it() {
    let mut app = TestApp::start().await;
    let (cert, key) = foreign_ca("Corporate");
    let made = app
        .post("/api/v1/issuers", import("corp", &cert, &key))
        .await;
    let made = made.expect(201);
    assert_eq!(made["type"], "GenericCA");
    assert_eq!(made["config"]["ca_key_pem"], "********");
    assert_eq!(app.list("/api/v1/issuers").await.len(), 2);
    // It is there after a restart, with its key.
    app.restart().await;
    let body = json!({
        "id": "web", "name": "web", "common_name": "web.example.org", "issuer_id": "corp",
    });
    app.post("/api/v1/certificates", body).await.expect(201);
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::new(["web.example.org".to_owned()]).unwrap();
    let csr = csr.serialize_request(&key).unwrap().pem().unwrap();
    let path = "/api/v1/certificates/web/versions";
    let version = app.post(path, json!({"csr_pem": csr})).await.expect(201);
    let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    let ca = Certificate::from_pem(&cert).unwrap();
    assert!(chain.leaf().is_issued_by(&ca));
    assert_eq!(
        app.get("/api/v1/issuers/corp").await["config"]["ca_cert_pem"],
        ca.pem()
    );

    // Its list is its own.
    app.post("/api/v1/certificates/web/revoke", json!({}))
        .await
        .expect(200);
    let length = async |ca: &str| app.app.crl(&ca.parse().unwrap()).await.unwrap().der.len();
    assert!(length("corp").await > 200);
    let answer = app.call("GET", "/.well-known/pki/crl/corp").send().await;
    assert_eq!(answer.headers["content-type"], "application/pkix-crl");
    assert_eq!(
        answer.headers["cache-control"],
        "public, max-age=3600, must-revalidate"
    );
    let tag = answer.headers["etag"].clone();
    assert!(tag.to_str().unwrap().starts_with("W/\""));
    let date = answer.headers["last-modified"].clone();
    answer.expect(200);
    let again = |name: &'static str, value: &http::HeaderValue| {
        let call = app.call("GET", "/.well-known/pki/crl/corp");
        call.header(name, value.as_bytes()).send()
    };
    assert_eq!(again("if-none-match", &tag).await.status, 304);
    assert_eq!(again("if-modified-since", &date).await.status, 304);
    app.check().await;
}

#[tokio::test]
async fn a_ca_that_cannot_sign_is_refused_with_the_reason() {
    let app = TestApp::start().await;
    let (cert, key) = foreign_ca("Corporate");
    let (_, other) = foreign_ca("Other");
    let leaf = rcgen::generate_simple_self_signed(["x.example.org".to_owned()]).unwrap();
    let (leaf_cert, leaf_key) = (leaf.cert.pem(), leaf.signing_key.serialize_pem());
    let before = app.seq();
    for (name, body, says) in [
        ("another key", import("a", &cert, &other), "does not belong"),
        (
            "no CA",
            import("a", &leaf_cert, &leaf_key),
            "no CA certificate",
        ),
        (
            "no certificate",
            import("a", "", &key),
            "config.ca_cert_pem",
        ),
        ("no key", import("a", &cert, ""), "config.ca_key_pem"),
        ("no type", json!({"name": "a", "config": {}}), "type"),
        (
            "ACME",
            json!({"name": "a", "type": "Nope", "config": {}}),
            "type: ",
        ),
        (
            "a path",
            json!({"name": "a", "type": "GenericCA", "config": {"ca_cert_path": "/etc/passwd"}}),
            "config.ca_cert_path",
        ),
        ("no name", import("", &cert, &key), "id"),
        (
            "no config",
            json!({"name": "a", "type": "GenericCA"}),
            "config",
        ),
    ] {
        let mut body = body;
        if name == "no name" {
            body["id"] = json!("a");
        }
        let says = if name == "no name" {
            "name: 1 to 255"
        } else {
            says
        };
        let told = app.post("/api/v1/issuers", body).await.refused(400);
        assert!(told.contains(says), "{name}: {told}");
        assert!(!told.contains("BEGIN"), "{name}: {told}");
    }
    assert_eq!(app.seq(), before);
    app.post("/api/v1/issuers", import("a", &cert, &key))
        .await
        .expect(201);
    let told = app.post("/api/v1/issuers", import("b", &cert, &key)).await;
    assert!(told.refused(409).contains("there already"));
    app.check().await;
}

#[tokio::test]
async fn the_system_ca_and_unknown_ones_have_no_public_list() {
    let app = TestApp::start().await;
    for path in [
        "/.well-known/pki/crl/ca-system",
        "/.well-known/pki/crl/nosuch",
        "/.well-known/pki/crl/iss-local/1.crl",
        "/.well-known/pki/crl/iss-local/0",
        "/.well-known/pki/crl/%00",
        "/.well-known/pki/ca/ca-local-root",
        "/.well-known/pki/ca/ca-system.cer",
    ] {
        app.call("GET", path).send().await.refused(404);
    }
}
