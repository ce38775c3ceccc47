//! Clocks that are off by a year: the host's, and the control plane's.

use super::real::{RealHost, deployed};
use crate::support::{DAY, HOUR, TestApp, text};
use std::time::Duration;

const YEAR: i64 = 365;

/// A host whose clock is off gets a certificate, keeps what it has and says why; once its clock is
/// right, it deploys.
async fn off_on_the_host(days: i64, says: &str) {
    let app = TestApp::start().await;
    let host = RealHost::join(&app, "a").await;
    let target = host.target(&app, "web").await;
    let agent = host.start().await;
    app.certificate("web", &[&target]).await;
    let before = text(&deployed(&app, "web", 1, "confirmed").await[0]["serial_number"]);

    host.set_off(days);
    app.post("/api/v1/certificates/web/renew", serde_json::json!({}))
        .await
        .expect(202);
    let failed = deployed(&app, "web", 1, "failed").await;
    let error = text(&failed[0]["error"]);
    assert!(error.contains("clock") && error.contains(says), "{error}");
    assert_eq!(host.holds("web"), Some(before.clone()));
    app.check().await;

    // Its leases do not rest on its clock, nor do its polls.
    host.set_off(0);
    app.pass(HOUR, HOUR).await;
    let after = text(&deployed(&app, "web", 1, "confirmed").await[0]["serial_number"]);
    assert_ne!(after, before);
    assert_eq!(host.holds("web"), Some(after));
    agent.stop().await;
    app.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_a_year_ahead_keeps_what_it_has_until_its_clock_is_right() {
    off_on_the_host(YEAR, "expired").await;
}

#[tokio::test(start_paused = true)]
async fn a_host_a_year_behind_keeps_what_it_has_until_its_clock_is_right() {
    off_on_the_host(-YEAR, "valid from").await;
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_a_year_ahead_renews_and_the_host_deploys_what_it_can() {
    let app = TestApp::start().await;
    let host = RealHost::join(&app, "a").await;
    let target = host.target(&app, "web").await;
    let agent = host.start().await;
    app.certificate("web", &[&target]).await;
    let before = text(&deployed(&app, "web", 1, "confirmed").await[0]["serial_number"]);

    // The host's own clock stays right.
    app.advance(365 * DAY);
    host.set_off(-YEAR);
    app.tick().await;
    let failed = deployed(&app, "web", 1, "failed").await;
    let error = text(&failed[0]["error"]);
    assert!(error.contains("valid from"), "{error}");
    assert_eq!(host.holds("web"), Some(before));
    assert_eq!(app.list("/api/v1/certificates/web/versions").await.len(), 2);
    // Nothing is asked of the CA again for what a clock did.
    app.pass(6 * HOUR, HOUR).await;
    assert_eq!(app.list("/api/v1/certificates/web/versions").await.len(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_lease_does_not_outlive_a_jump_of_the_control_planes_clock() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let old = agent.job(&app).await;
    app.advance(365 * DAY);
    app.tick().await;
    app.advance(Duration::from_secs(10));
    let new = agent.job(&app).await;
    assert_eq!(new.id, old.id);
    agent.submit_csr(&app, &old).await.refused(409);
    agent.submit_csr(&app, &new).await.expect(202);
    assert_eq!(app.list("/api/v1/certificates/web/versions").await.len(), 1);
    app.check().await;
}
