//! What the API answers, field by field.

mod agents;
mod audit;
mod certificates;
mod orders;

use crate::support::{Answer, DAY, HOUR, MINUTE, TestAgent, TestApp, text, time};
use certctl::{
    agent::protocol::{Outcome, Served},
    domain::Version,
    pki::{Certificate, Chain, San},
    store::{AUDIT, link},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

/// The fields of an object, exactly.
#[track_caller]
fn fields(value: &Value, expected: &[&str]) {
    let found: BTreeSet<&str> = value
        .as_object()
        .unwrap_or_else(|| panic!("{value} is no object"))
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(found, expected.iter().copied().collect());
}

const CERTIFICATE: [&str; 17] = [
    "id",
    "name",
    "common_name",
    "sans",
    "environment",
    "owner_id",
    "team_id",
    "issuer_id",
    "target_ids",
    "renewal_policy_id",
    "certificate_profile_id",
    "status",
    "expires_at",
    "tags",
    "holders",
    "created_at",
    "updated_at",
];

fn certificate_and(more: &[&'static str]) -> Vec<&'static str> {
    CERTIFICATE.iter().chain(more).copied().collect()
}

/// An app with a certificate `web` on one target, not issued yet.
async fn world() -> (TestApp, TestAgent, String) {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let body = json!({
        "id": "web", "name": "Web", "common_name": "WWW.Example.org",
        "sans": ["example.org", "192.0.2.1", "www.example.org"], "environment": "production",
        "owner_id": "o-ops", "team_id": "t-ops", "target_ids": [target],
        "tags": {"tier": "1"}, "status": "Active", "serial_number": 17,
    });
    app.post("/api/v1/certificates", body).await.expect(201);
    (app, agent, target)
}

#[tokio::test]
async fn health_and_readiness() {
    let app = TestApp::start().await;
    let get = |path| app.call("GET", path).send();
    assert_eq!(
        get("/health").await.expect(200),
        json!({"status": "healthy"})
    );
    let ready = json!({"status": "ready", "db": "reachable"});
    assert_eq!(get("/ready").await.expect(200), ready);
    app.app.tasks.shutdown(MINUTE).await;
    assert_eq!(get("/ready").await.expect(503)["status"], "draining");
    get("/health").await.expect(200);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers_and_a_name() {
    let app = TestApp::start().await;
    let mut names = BTreeSet::new();
    for path in [
        "/health",
        "/api/v1/certificates",
        "/api/v1/nothing",
        "/nothing",
    ] {
        let answer = app.call("GET", path).send().await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("strict-transport-security"), "max-age=31536000");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(header("content-security-policy").starts_with("default-src 'self'"));
        names.insert(header("x-request-id"));
    }
    assert_eq!(names.len(), 4, "two requests of one name");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_stopped_looking_makes_the_server_not_ready() {
    let app = TestApp::start().await;
    let ready = || app.call("GET", "/ready").send();
    app.app.pulse.beat("renewals", Duration::from_secs(1));
    app.app.pulse.beat("server certificate", HOUR);
    tokio::time::advance(MINUTE).await;
    ready().await.expect(200);
    tokio::time::advance(Duration::from_secs(4)).await;
    let says = ready().await.expect(503);
    assert_eq!(says["status"], "loop_stalled");
    assert_eq!(says["error"], "the loop renewals has not looked for long");
    app.app.pulse.beat("renewals", Duration::from_secs(1));
    ready().await.expect(200);
}
