//! What becomes of certificates whose issuer is switched off and on.

use crate::support::{MINUTE, TestApp, text, time};
use serde_json::json;

async fn switch(app: &TestApp, on: bool) {
    let call = app.admin("PUT", "/api/v1/issuers/iss-local");
    call.json(&json!({"enabled": on})).send().await.expect(200);
}

#[tokio::test]
async fn while_an_issuer_is_off_due_orders_wait_and_are_opened_when_it_is_on() {
    let mut app = TestApp::start_crashing().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(&app).await;
    switch(&app, false).await;
    let due = time(&app.shown("web").await["holders"][0]["next_at"]);
    app.advance_to(due);
    app.tick().await;
    app.step().await;
    let shown = app.shown("web").await;
    assert_eq!(shown["holders"][0]["plan"], "exempt");
    assert!(text(&shown["next"]).contains("issuer iss-local is switched off"));
    assert!(text(&shown["problem"]).contains("issuer iss-local is switched off"));
    // Nothing is asked again and again meanwhile.
    app.advance(MINUTE / 2);
    app.tick().await;
    let shown = app.shown("web").await;
    assert_eq!(shown["holders"][0]["plan"], "exempt");
    let orders = app.actions().await;
    assert_eq!(orders.iter().filter(|a| *a == "order_opened").count(), 1);
    // Another policy moves what is planned, not what waits.
    app.admin("PUT", "/api/v1/renewal-policies/rp-default")
        .json(&json!({"renewal_window_days": 10}))
        .send()
        .await
        .expect(200);
    app.tick().await;
    assert_eq!(app.shown("web").await["holders"][0]["plan"], "exempt");
    // Nor by hand, nor for a new certificate, nor for a CSR.
    let told = app.post("/api/v1/certificates/web/renew", json!({})).await;
    let told = told.refused(409);
    assert!(told.contains("issuers edit iss-local --enable"), "{told}");
    let body = json!({"name": "x", "common_name": "x.example.org", "target_ids": [target]});
    app.post("/api/v1/certificates", body).await.refused(409);

    switch(&app, true).await;
    app.step().await;
    app.tick().await;
    app.step().await;
    assert_eq!(app.shown("web").await["holders"][0]["plan"], "in_flight");
    agent.run(&app).await;
    let shown = app.shown("web").await;
    assert_eq!(shown["holders"][0]["plan"], "scheduled");
    assert!(shown.get("problem").is_none());
    app.step().await;
}

#[tokio::test]
async fn a_blocked_certificate_can_be_revoked_and_stays_so() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(&app).await;
    switch(&app, false).await;
    app.advance_to(time(&app.shown("web").await["holders"][0]["next_at"]));
    app.tick().await;
    app.post("/api/v1/certificates/web/revoke", json!({}))
        .await
        .expect(200);
    switch(&app, true).await;
    app.tick().await;
    assert_eq!(app.status("web").await, "Revoked");
    assert_eq!(app.shown("web").await["holders"][0]["plan"], "exempt");
    app.check().await;
}
