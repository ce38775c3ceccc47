//! Issuers: several CAs, each with its own certificates and lists.

use super::access::foreign_ca;
use crate::support::{DAY, TestApp, text};
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

#[tokio::test]
async fn a_ca_is_made_with_the_keys_lifetimes_and_names_asked_for() {
    let app = TestApp::start().await;
    let config = json!({
        "ca_common_name": "Corp", "key_algorithm": "ECDSA-P384", "validity_days": "730",
        "root_validity_days": 1460, "permitted_names": ["example.org"],
    });
    let body = json!({"id": "corp", "name": "Corp", "type": "local_ca", "config": config});
    let made = app.post("/api/v1/issuers", body).await.expect(201);
    assert_eq!(made["config"]["key_algorithm"], "ECDSA-P384");
    assert_eq!(made["test_status"], "untested");
    let ca = Certificate::from_pem(&text(&made["config"]["ca_cert_pem"])).unwrap();
    assert_eq!(ca.not_after(), app.now().plus(DAY * 730));
    assert_eq!(ca.subject(), "CN=Corp issuing CA");
    app.post("/api/v1/issuers/corp/test", Value::Null)
        .await
        .expect(200);

    // Its constraint holds, and what is within it is issued.
    let csr = csr();
    for (id, name, status) in [
        ("in", "web.example.org", 201),
        ("out", "web.example.com", 502),
    ] {
        let body = json!({
            "id": id, "name": id, "common_name": name, "issuer_id": "corp", "csr_pem": csr,
        });
        let answer = app.post("/api/v1/certificates", body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        if status != 201 {
            assert!(answer.text.contains("permits names"), "{}", answer.text);
        }
    }
    app.check().await;
}

#[tokio::test]
async fn a_ca_that_cannot_be_made_is_refused_with_the_field() {
    let app = TestApp::start().await;
    let before = app.seq();
    for (config, says) in [
        (json!({"key_algorithm": "Ed25519"}), "config.key_algorithm"),
        (json!({"key_algorithm": "RSA-2048"}), "config.key_algorithm"),
        (json!({"key_algorithm": "DSA"}), "config.key_algorithm"),
        (json!({"validity_days": 0}), "config.validity_days"),
        (json!({"validity_days": 4000}), "config.validity_days"),
        (
            json!({"root_validity_days": 99999}),
            "config.root_validity_days",
        ),
        (json!({"validity_days": "soon"}), "days"),
        (
            json!({"ca_common_name": "x".repeat(49)}),
            "config.ca_common_name",
        ),
        (json!({"ca_common_name": "a\nb"}), "config.ca_common_name"),
        (
            json!({"permitted_names": ["*.example.org"]}),
            "config.permitted_names",
        ),
        (
            json!({"permitted_names": ["10.0.0.1"]}),
            "config.permitted_names",
        ),
        (json!({"excluded_names": ["a b"]}), "config.excluded_names"),
    ] {
        let body = json!({"name": "x", "type": "GenericCA", "config": config});
        let told = app.post("/api/v1/issuers", body).await.refused(400);
        assert!(told.contains(says), "{says}: {told}");
    }
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn an_issuer_is_renamed_and_its_ca_is_not_exchanged() {
    let app = TestApp::start().await;
    let path = "/api/v1/issuers/iss-local";
    let put = |body: Value| app.admin("PUT", path).json(&body).send();
    let shown = app.get(path).await;
    // What is shown may come back.
    let same = put(shown.clone()).await.expect(200);
    assert_eq!(same, shown);
    let renamed = put(json!({"name": "Inside"})).await.expect(200);
    assert_eq!(renamed["name"], "Inside");
    assert_eq!(renamed["enabled"], true);
    for (body, says) in [
        (
            json!({"config": {"ca_cert_pem": "x"}}),
            "config.ca_cert_pem",
        ),
        (json!({"config": {"ca_key_pem": "x"}}), "config.ca_key_pem"),
        (
            json!({"config": {"validity_days": 1}}),
            "config.validity_days",
        ),
        (json!({"type": "ACME"}), "type"),
        (json!({"name": ""}), "name"),
    ] {
        let before = app.seq();
        let told = put(body).await.refused(400);
        assert!(told.contains(says), "{told}");
        assert_eq!(app.seq(), before);
    }
    let (cert, key) = foreign_ca("Corporate");
    app.post("/api/v1/issuers", import("corp", &cert, &key))
        .await
        .expect(201);
    let told = put(json!({"name": "corp"})).await.refused(409);
    assert!(told.contains("name"), "{told}");
    let nosuch = app.admin("PUT", "/api/v1/issuers/nosuch");
    nosuch.json(&json!({})).send().await.refused(404);
}

#[tokio::test]
async fn an_issuers_test_says_what_is_wrong_with_its_ca() {
    let app = TestApp::start().await;
    let (cert, key) = foreign_ca("Corporate");
    app.post("/api/v1/issuers", import("corp", &cert, &key))
        .await
        .expect(201);
    let test = || app.post("/api/v1/issuers/corp/test", Value::Null);
    let tested = test().await.expect(200);
    assert_eq!(tested["status"], "connection_successful");
    let shown = app.get("/api/v1/issuers/corp").await;
    assert_eq!(shown["test_status"], "success");
    assert_eq!(shown["last_tested_at"], app.now().to_string());
    // The CA ends in 2040.
    app.advance(DAY * 365 * 15);
    let answer = test().await;
    assert_eq!(answer.status, 502);
    assert!(answer.text.contains("is good from"), "{}", answer.text);
    let shown = app.get("/api/v1/issuers/corp").await;
    assert_eq!(shown["test_status"], "failed");
    assert!(text(&shown["test_error"]).contains("is good from"));
    let nosuch = app.post("/api/v1/issuers/nosuch/test", Value::Null).await;
    nosuch.refused(404);
}

#[tokio::test]
async fn an_issuer_is_deleted_when_nothing_rests_on_it() {
    let app = TestApp::start().await;
    let (cert, key) = foreign_ca("Corporate");
    let import = || app.post("/api/v1/issuers", import("corp", &cert, &key));
    import().await.expect(201);
    let delete = |id: &str| app.admin("DELETE", &format!("/api/v1/issuers/{id}")).send();
    let body = json!({
        "id": "web", "name": "web", "common_name": "web.example.org", "issuer_id": "corp",
        "csr_pem": csr(),
    });
    app.post("/api/v1/certificates", body).await.expect(201);
    let told = delete("corp").await.refused(409);
    assert!(told.contains("1 certificate"), "{told}");
    // A store where its certificate went to another issuer, and the version is good still.
    let to = |issuer: &'static str| {
        let (app, id) = (&app, "web".parse().unwrap());
        async move {
            let mut unit = app.app.store.unit(app.unit_id(), app.now());
            let mut cert = unit
                .load::<certctl::domain::Certificate>(&id)
                .await
                .unwrap();
            cert.issuer_id = issuer.parse().unwrap();
            unit.put(cert);
            unit.commit().await.unwrap();
        }
    };
    to("iss-local").await;
    let told = delete("corp").await.refused(409);
    assert!(told.contains("are good"), "{told}");
    let issued = || async {
        let path = "/api/v1/metrics/prometheus";
        let text = app.admin("GET", path).send().await.text;
        let line = "certctl_issuance_total{issuer_type=\"GenericCA\",outcome=\"success\"} ";
        let found = text
            .lines()
            .find_map(|l| l.strip_prefix(line).map(str::to_owned));
        found.unwrap()
    };
    let before = issued().await;
    app.advance(DAY * 91);
    let told = delete("corp").await;
    assert_eq!(told.status, 204, "{}", told.text);
    delete("corp").await.refused(404);
    assert_eq!(issued().await, before, "a total never falls");
    app.call("GET", "/.well-known/pki/crl/corp")
        .send()
        .await
        .refused(404);
    // The same CA may come back, and what it did before is not counted again.
    import().await.expect(201);
    assert_eq!(issued().await, before);
    let told = delete("corp").await;
    assert_eq!(told.status, 204, "{}", told.text);
    assert_eq!(issued().await, before);
    import().await.expect(201);
    delete("iss-local").await.refused(403);
    app.check().await;
}

/// A request by a new key.
pub fn csr() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::new(Vec::new()).unwrap();
    csr.serialize_request(&key).unwrap().pem().unwrap()
}
