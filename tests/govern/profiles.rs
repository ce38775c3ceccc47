//! What a profile lets be issued, at every door.

use super::request;
use crate::support::{DAY, TestApp, text, time};
use certctl::pki::{Chain, KeyAlgorithm};
use serde_json::{Value, json};

async fn profile(app: &TestApp, mut fields: Value) {
    fields["id"] = json!("p");
    fields["name"] = json!("P");
    app.post("/api/v1/profiles", fields).await.expect(201);
}

fn certificate(sans: &[&str]) -> Value {
    json!({
        "id": "web", "name": "web", "common_name": sans[0], "sans": sans,
        "certificate_profile_id": "p",
    })
}

#[tokio::test]
async fn keys_of_another_kind_or_size_are_refused() {
    let app = TestApp::start().await;
    let keys = json!([{"algorithm": "ECDSA", "min_size": 384}, {"algorithm": "Ed25519"}]);
    profile(&app, json!({"allowed_key_algorithms": keys})).await;
    app.post("/api/v1/certificates", certificate(&["web.example.org"]))
        .await
        .expect(201);
    let path = "/api/v1/certificates/web/versions";
    let told = app
        .post(path, request(KeyAlgorithm::EcdsaP256))
        .await
        .refused(400);
    assert!(
        told.contains("profile p does not accept a key of kind ECDSA-P256"),
        "{told}"
    );
    app.post(path, request(KeyAlgorithm::EcdsaP384))
        .await
        .expect(201);
    app.post(path, request(KeyAlgorithm::Ed25519))
        .await
        .expect(201);
    app.check().await;
}

#[tokio::test]
async fn an_agent_is_told_which_key_to_make() {
    let app = TestApp::start().await;
    let keys = json!([{"algorithm": "ECDSA", "min_size": 384}]);
    profile(&app, json!({"allowed_key_algorithms": keys})).await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let mut body = certificate(&["web.example.org"]);
    body["target_ids"] = json!([target]);
    app.post("/api/v1/certificates", body).await.expect(201);
    let job = agent.job(&app).await;
    assert_eq!(job.key_algorithm.as_deref(), Some("ECDSA-P384"));
    app.check().await;
}

#[tokio::test]
async fn uses_and_lifetime_are_those_of_the_profile() {
    let app = TestApp::start().await;
    profile(
        &app,
        json!({"allowed_ekus": ["codeSigning", "emailProtection"], "max_ttl_seconds": 86_400}),
    )
    .await;
    app.post("/api/v1/certificates", certificate(&["web.example.org"]))
        .await
        .expect(201);
    let path = "/api/v1/certificates/web/versions";
    let version = app
        .post(path, request(KeyAlgorithm::EcdsaP256))
        .await
        .expect(201);
    assert_eq!(
        time(&version["not_after"]),
        app.now().plus(DAY).whole_seconds()
    );
    let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(chain.leaf().der()).unwrap();
    let uses = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(uses.code_signing && uses.email_protection && !uses.server_auth);

    // Its next version is of the profile as it is then.
    let change = json!({"allowed_ekus": ["timeStamping"], "lifetime_seconds": 7_200});
    app.put("/api/v1/profiles/p", change).await.expect(200);
    let version = app
        .post(path, request(KeyAlgorithm::EcdsaP256))
        .await
        .expect(201);
    let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(chain.leaf().der()).unwrap();
    let uses = leaf.extended_key_usage().unwrap().unwrap();
    assert!(uses.critical && uses.value.time_stamping && !uses.value.code_signing);
    app.check().await;
}

#[tokio::test]
async fn names_match_a_pattern_from_end_to_end() {
    let app = TestApp::start().await;
    let patterns = json!(["[a-z0-9-]+\\.example\\.org", "10\\.0\\.\\d+\\.\\d+"]);
    profile(&app, json!({"required_san_patterns": patterns})).await;
    for sans in [
        &["web.example.org.evil.org"][..],
        &["web.example.org", "a.b.example.org"],
        &["web.example.org", "192.0.2.1"],
        &["*.example.org"],
        &["web.example.org", "spiffe://example.org/web"],
    ] {
        let told = app
            .post("/api/v1/certificates", certificate(sans))
            .await
            .refused(400);
        assert!(
            told.starts_with("sans: profile p does not take these names: "),
            "{told}"
        );
        assert!(told.contains("matches none of"), "{told}");
    }
    let sans = ["web.example.org", "10.0.3.4"];
    app.post("/api/v1/certificates", certificate(&sans))
        .await
        .expect(201);
    // A profile that is narrowed keeps what it no longer takes from being issued.
    let change = json!({"required_san_patterns": ["nothing"]});
    app.put("/api/v1/profiles/p", change).await.expect(200);
    let path = "/api/v1/certificates/web/versions";
    let told = app
        .post(path, request(KeyAlgorithm::EcdsaP256))
        .await
        .refused(409);
    assert!(told.contains("matches none of \"nothing\""), "{told}");
    app.put("/api/v1/profiles/p", json!({"required_san_patterns": []}))
        .await
        .expect(200);
    app.post(path, request(KeyAlgorithm::EcdsaP256))
        .await
        .expect(201);
    app.check().await;
}

#[tokio::test]
async fn a_spiffe_pattern_wants_one_uri_that_matches() {
    let app = TestApp::start().await;
    profile(
        &app,
        json!({"spiffe_uri_pattern": "spiffe://example\\.org/.+"}),
    )
    .await;
    for sans in [
        &["web.example.org"][..],
        &["web.example.org", "spiffe://example.net/web"],
        &[
            "web.example.org",
            "spiffe://example.org/a",
            "spiffe://example.org/b",
        ],
    ] {
        app.post("/api/v1/certificates", certificate(sans))
            .await
            .refused(400);
    }
    let sans = ["web.example.org", "spiffe://example.org/web"];
    app.post("/api/v1/certificates", certificate(&sans))
        .await
        .expect(201);
    app.check().await;
}

#[tokio::test]
async fn nothing_is_made_or_issued_under_a_profile_that_is_switched_off() {
    let mut app = TestApp::start().await;
    profile(&app, json!({"enabled": true})).await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let mut body = certificate(&["web.example.org"]);
    body["target_ids"] = json!([target]);
    app.post("/api/v1/certificates", body.clone())
        .await
        .expect(201);
    let job = agent.job(&app).await;
    app.put("/api/v1/profiles/p", json!({"enabled": false}))
        .await
        .expect(200);
    body["id"] = json!("other");
    let told = app.post("/api/v1/certificates", body).await.refused(400);
    assert_eq!(told, "certificate_profile_id: profile p is switched off");
    // The agent's CSR is taken, and its order fails with the reason.
    agent.submit_csr(&app, &job).await.expect(202);
    let shown = app.shown("web").await;
    assert_eq!(shown["status"], "Failed");
    assert_eq!(
        shown["holders"][0]["last_error"],
        "profile p is switched off"
    );
    assert!(time(&shown["holders"][0]["next_at"]) > app.now());
    // Mended, it is tried again at once.
    app.put("/api/v1/profiles/p", json!({"enabled": true}))
        .await
        .expect(200);
    app.step().await;
    app.tick().await;
    assert!(agent.run(&app).await > 0);
    assert_eq!(app.status("web").await, "Active");
    app.check().await;
}
