//! The audit log.

use super::*;
use certctl::app::Browser;

#[tokio::test]
async fn the_audit_log() {
    let (app, agent, target) = world().await;
    agent.run(&app).await;
    let list = app.get("/api/v1/audit?per_page=3").await;
    fields(&list, &["data", "total", "page", "per_page", "next_cursor"]);
    let total = list["total"].as_u64().unwrap();
    let events = list["data"].as_array().unwrap();
    for (event, n) in events.iter().zip((0..=total).rev()) {
        fields(
            event,
            &[
                "id",
                "actor",
                "actor_type",
                "action",
                "resource_type",
                "resource_id",
                "details",
                "timestamp",
                "event_category",
            ],
        );
        assert_eq!(event["id"], format!("audit-{n}"));
    }
    let issued = &app.list("/api/v1/audit").await[1];
    let serial = &app.shown("web").await["holders"][0]["serial_number"];
    assert_eq!(issued["action"], "certificate_issued");
    assert_eq!(issued["actor"], "agent:host");
    assert_eq!(issued["actor_type"], "Agent");
    assert_eq!(issued["resource_type"], "certificate");
    assert_eq!(issued["resource_id"], "web");
    assert_eq!(issued["event_category"], "cert_lifecycle");
    assert_eq!(issued["details"]["serial"], *serial);
    let confirmed = &events[0];
    assert_eq!(confirmed["action"], "deployment_confirmed");
    assert_eq!(confirmed["details"]["target"], target.as_str());
    // Every page, put together, is the whole log without a gap.
    let mut ids = Vec::new();
    for page in 1.. {
        let rows = app
            .list(&format!("/api/v1/audit?per_page=4&page={page}"))
            .await;
        if rows.is_empty() {
            break;
        }
        ids.extend(rows.iter().map(|e| text(&e["id"])));
    }
    let whole: Vec<String> = (1..=total).rev().map(|n| format!("audit-{n}")).collect();
    assert_eq!(ids, whole);
}

#[tokio::test]
async fn each_event_is_linked_to_the_one_before() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    let mut entries = app.app.store.tail(AUDIT, u64::MAX, 1000).await.unwrap();
    entries.reverse();
    assert!(entries.len() > 8);
    let mut before = [0; 32];
    for entry in &entries {
        assert_eq!(link(AUDIT, &before, entry.number, &entry.doc), entry.link);
        before = entry.link;
    }
    let verified = app.app.store.verify_stream(AUDIT).await.unwrap();
    assert_eq!(verified, entries.len() as u64);
}

#[tokio::test]
async fn no_secret_is_in_the_audit_log() {
    let app = TestApp::start().await;
    let token = app.join_token(json!({})).await;
    let agent = TestAgent::enrol(&app, "host", &token).await;
    let session = app
        .app
        .sign_in(app.admin_key(), &Browser::default())
        .await
        .unwrap();
    let log = app.get("/api/v1/audit").await.to_string();
    let credential = agent.credential();
    let secret = credential.rsplit_once('.').unwrap().1;
    for secret in [&token, app.admin_key(), secret, &session] {
        assert!(!log.contains(secret));
    }
}
