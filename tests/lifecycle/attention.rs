//! Statuses are derived from the moment: expiring, expired, and how they end.

use super::{
    renewal::{active, next_at},
    story,
};
use crate::support::{DAY, HOUR, TestApp, time};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

story!(expiring_and_expired_without_a_write);
async fn expiring_and_expired_without_a_write(mut app: TestApp) {
    let agent = active(&mut app).await;
    let job = {
        app.post("/api/v1/certificates/web/renew", json!({}))
            .await
            .expect(202);
        agent.job(&app).await
    };
    app.certificate("outside", &[]).await;
    app.step().await;
    let shown = app.shown("outside").await;
    assert_eq!(shown["status"], "Pending");
    assert_eq!(shown["holders"][0]["plan"], "exempt");
    assert!(shown["next"].as_str().unwrap().contains("sending a CSR"));
    let body = json!({"csr_pem": agent.make_csr(&job)});
    let made = app
        .post("/api/v1/certificates/outside/versions", body)
        .await;
    let end = time(&made.expect(201)["not_after"]);
    app.step().await;
    let before = app.seq();
    for (at, status) in [
        (app.now(), "Active"),
        (end.minus(30 * DAY + SECOND), "Active"),
        (end.minus(30 * DAY), "Expiring"),
        (end.minus(SECOND), "Expiring"),
        (end, "Expired"),
        (end.plus(365 * DAY), "Expired"),
    ] {
        app.advance_to(at);
        assert_eq!(app.status("outside").await, status, "{at}");
    }
    assert_eq!(app.seq(), before);
    app.step().await;
}

story!(a_requesters_certificate_is_never_renewed_by_itself);
async fn a_requesters_certificate_is_never_renewed_by_itself(mut app: TestApp) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let csr = agent.make_csr(&agent.job(&app).await);
    let body = json!({"id": "o", "name": "o", "common_name": "o.example.org", "csr_pem": csr});
    app.post("/api/v1/certificates", body).await.expect(201);
    app.step().await;
    app.pass(100 * DAY, DAY).await;
    app.step().await;
    let shown = app.shown("o").await;
    assert_eq!(shown["status"], "Expired");
    assert_eq!(shown["holders"][0]["plan"], "exempt");
    let next = shown["next"].as_str().unwrap();
    assert!(next.contains("requester") && next.contains("CSR"), "{next}");
}

story!(one_whose_renewal_is_late_is_expiring);
async fn one_whose_renewal_is_late_is_expiring(mut app: TestApp) {
    let agent = active(&mut app).await;
    let end = time(&app.shown("web").await["expires_at"]);
    let expiring = async || app.list("/api/v1/certificates?status=Expiring").await.len();
    assert!(next_at(&app).await < end.minus(30 * DAY));
    app.advance_to(end.minus(30 * DAY).minus(SECOND));
    assert_eq!(app.status("web").await, "Active");
    assert_eq!(expiring().await, 0);
    app.advance(SECOND);
    assert_eq!(app.status("web").await, "Expiring");
    assert_eq!(expiring().await, 1);
    app.tick().await;
    app.step().await;
    assert_eq!(app.status("web").await, "RenewalInProgress");
    agent.run(&app).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
}

#[tokio::test]
async fn a_ca_at_its_end_issues_no_ever_shorter_certificates() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let ca_end = app.now().plus(5 * 365 * DAY);
    app.advance_to(ca_end.minus(45 * DAY));
    app.certificate("last", &[&target]).await;
    agent.run(&app).await;
    assert_eq!(time(&app.shown("last").await["expires_at"]), ca_end);
    app.advance(SECOND);
    app.certificate("web", &[&target]).await;
    let job = agent.job(&app).await;
    agent.submit_csr(&app, &job).await.expect(202);
    let shown = app.shown("web").await;
    assert_eq!(shown["status"], "Failed");
    assert!(
        shown["problem"]
            .as_str()
            .unwrap()
            .ends_with("replace the CA")
    );
    // An hour and more between the attempts: no flood at the end.
    for _ in 0..24 {
        app.pass(HOUR, HOUR).await;
        agent.run(&app).await;
    }
    let told = app.actions().await;
    assert!(told.iter().filter(|a| *a == "order_opened").count() < 8);
}

story!(expired_while_its_agent_is_away_and_healed_when_it_is_back);
async fn expired_while_its_agent_is_away_and_healed_when_it_is_back(mut app: TestApp) {
    let agent = active(&mut app).await;
    let end = time(&app.shown("web").await["expires_at"]);
    app.pass(end.since(app.now()) - SECOND, 12 * HOUR).await;
    app.step().await;
    assert_eq!(app.status("web").await, "RenewalInProgress");
    app.advance(SECOND);
    assert_eq!(app.status("web").await, "Expired");
    app.step().await;
    app.pass(30 * DAY, 12 * HOUR).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Expired");
    agent.run(&app).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
    let versions = app.list("/api/v1/certificates/web/versions").await;
    assert_eq!(versions.len(), 2, "one order was open all the while");
}

story!(a_server_that_was_down_catches_up);
async fn a_server_that_was_down_catches_up(mut app: TestApp) {
    let agent = active(&mut app).await;
    // Nothing ticks for 200 days.
    app.advance(200 * DAY);
    assert_eq!(app.status("web").await, "Expired");
    app.restart().await;
    app.tick().await;
    app.step().await;
    assert_eq!(agent.run(&app).await, 2);
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
}
