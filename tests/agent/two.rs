//! Two agents on one certificate.

use super::real::{RealHost, deployed, until};
use crate::support::{TestApp, text, time};
use serde_json::Value;
use std::collections::BTreeSet;

/// The serial number of each agent's version.
async fn each_has_its_own(app: &TestApp, hosts: [(&RealHost, &str); 2]) -> [String; 2] {
    let rows = deployed(app, "web", 2, "confirmed").await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    hosts.map(|(host, target)| {
        let row = rows.iter().find(|row| row["target_id"] == target);
        let serial = text(&row.unwrap()["serial_number"]);
        assert_eq!(host.holds("web").as_ref(), Some(&serial));
        serial
    })
}

#[tokio::test(start_paused = true)]
async fn each_makes_its_own_key_and_deploys_its_own_version_alone() {
    let app = TestApp::start().await;
    let (a, b) = (
        RealHost::join(&app, "a").await,
        RealHost::join(&app, "b").await,
    );
    let (on_a, on_b) = (a.target(&app, "a").await, b.target(&app, "b").await);
    let running = (a.start().await, b.start().await);
    app.certificate("web", &[&on_a, &on_b]).await;
    let first = each_has_its_own(&app, [(&a, &on_a), (&b, &on_b)]).await;
    assert_ne!(first[0], first[1]);
    let keys =
        |host: &RealHost| -> BTreeSet<String> { host.host.names("keys/web").into_iter().collect() };
    assert!(keys(&a).is_disjoint(&keys(&b)));
    app.check().await;

    // Both again, each for itself, when they renew.
    let due = time(&app.shown("web").await["holders"][0]["next_at"]);
    let other = time(&app.shown("web").await["holders"][1]["next_at"]);
    app.advance_to(due.max(other));
    app.tick().await;
    until(&app, "web", |rows| {
        let new = |row: &Value| first.iter().all(|old| row["serial_number"] != old.as_str());
        rows.len() == 2 && rows.iter().all(new)
    })
    .await;
    let second = each_has_its_own(&app, [(&a, &on_a), (&b, &on_b)]).await;
    assert_ne!(second[0], second[1]);
    assert_eq!(app.list("/api/v1/certificates/web/versions").await.len(), 4);
    app.check().await;
    running.0.stop().await;
    running.1.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_away_keeps_the_other_from_nothing() {
    let app = TestApp::start().await;
    let (a, b) = (
        RealHost::join(&app, "a").await,
        RealHost::join(&app, "b").await,
    );
    let (on_a, on_b) = (a.target(&app, "a").await, b.target(&app, "b").await);
    app.certificate("web", &[&on_a, &on_b]).await;
    let running = a.start().await;
    let rows = deployed(&app, "web", 1, "confirmed").await;
    assert_eq!(rows[0]["target_id"], on_a.as_str());
    assert!(a.holds("web").is_some() && b.holds("web").is_none());
    running.stop().await;

    // What is the other's still waits for the other alone.
    let back = b.start().await;
    let serials = each_has_its_own(&app, [(&a, &on_a), (&b, &on_b)]).await;
    assert_ne!(serials[0], serials[1]);
    back.stop().await;
    assert_eq!(app.list("/api/v1/certificates/web/versions").await.len(), 2);
}
