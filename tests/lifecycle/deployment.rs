//! Deployments that fail, and what becomes of them.

use super::{renewal::active, story};
use crate::support::{DAY, HOUR, TestApp, text, time};
use certctl::agent::protocol::{FailureClass, Outcome, WorkItem};
use serde_json::{Value, json};
use std::time::Duration;

async fn deployment(app: &TestApp) -> Value {
    app.list("/api/v1/certificates/web/deployments").await[0]["deployment"].clone()
}

fn rolled_back() -> Outcome {
    Outcome::RolledBack {
        reason: "nginx did not take it".into(),
        served: Vec::new(),
    }
}

/// An app whose agent has a leased deployment of the first version.
async fn leased(app: &mut TestApp) -> (crate::support::TestAgent, WorkItem) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let issuance = agent.job(app).await;
    agent.submit_csr(app, &issuance).await.expect(202);
    let job = agent.job(app).await;
    (agent, job)
}

story!(a_failed_deployment_is_tried_again_after_an_hour);
async fn a_failed_deployment_is_tried_again_after_an_hour(mut app: TestApp) {
    let (agent, job) = leased(&mut app).await;
    app.step().await;
    agent.report(&app, &job, &rolled_back()).await.expect(200);
    app.step().await;
    let shown = app.shown("web").await;
    assert_eq!(shown["problem"], "web: nginx did not take it");
    app.certificate("other", &[]).await;
    let listed = app.list("/api/v1/certificates?problem=deployment").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], "web");
    for wrong in ["problem=x", "problem=deployment&status=Active"] {
        let path = format!("/api/v1/certificates?{wrong}");
        app.admin("GET", &path).send().await.refused(400);
    }
    let failed = deployment(&app).await;
    assert_eq!(failed["state"], "failed");
    assert_eq!(time(&failed["retry_at"]), app.now().plus(HOUR));

    app.advance(HOUR - Duration::from_secs(1));
    app.tick().await;
    assert!(agent.work(&app).await.is_empty());
    app.advance(Duration::from_secs(1));
    app.tick().await;
    app.step().await;
    assert_eq!(deployment(&app).await["state"], "pending");
    let again = agent.job(&app).await;
    assert_ne!(again.id, job.id);
    app.step().await;
    let outcome = agent.confirmed(&again);
    agent.report(&app, &again, &outcome).await.expect(200);
    app.step().await;
    assert_eq!(deployment(&app).await["state"], "confirmed");
    let listed = app.list("/api/v1/certificates?problem=deployment").await;
    assert_eq!(listed, [Value::Null; 0]);
    assert_eq!(app.shown("web").await["problem"], Value::Null);
}

story!(a_deployment_that_never_works_is_tried_each_hour);
async fn a_deployment_that_never_works_is_tried_each_hour(mut app: TestApp) {
    let (agent, mut job) = leased(&mut app).await;
    for _ in 0..5 {
        agent.report(&app, &job, &rolled_back()).await.expect(200);
        app.step().await;
        assert!(agent.work(&app).await.is_empty());
        app.pass(HOUR, HOUR / 4).await;
        job = agent.job(&app).await;
    }
    app.step().await;
}

story!(a_version_without_its_key_is_replaced_within_the_hour);
async fn a_version_without_its_key_is_replaced_within_the_hour(mut app: TestApp) {
    let (agent, job) = leased(&mut app).await;
    let no_key = Outcome::Failed {
        class: FailureClass::KeyMissing,
        reason: "the key is gone".into(),
    };
    agent.report(&app, &job, &no_key).await.expect(200);
    app.step().await;
    app.advance(HOUR - Duration::from_secs(1));
    app.tick().await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active", "a loop would be a flood");
    app.advance(Duration::from_secs(1));
    app.tick().await;
    app.step().await;
    assert_eq!(app.status("web").await, "RenewalInProgress");
    agent.run(&app).await;
    app.step().await;
    assert_eq!(app.list("/api/v1/certificates/web/versions").await.len(), 2);
    assert_eq!(deployment(&app).await["state"], "confirmed");
}

#[tokio::test]
async fn a_site_serves_one_certificate() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let (site, files) = (app.site(&agent, "s").await, app.target(&agent, "f").await);
    app.certificate("web", &[&site, &site, &files]).await;
    let second = |targets: Value| {
        let body = json!({"name": "mail", "common_name": "m.example", "target_ids": targets});
        app.post("/api/v1/certificates", body)
    };
    let before = app.seq();
    let message = second(json!([files, site])).await.refused(409);
    assert!(message.starts_with("target_ids:"), "{message}");
    assert!(message.contains(" web:"), "{message}");
    assert_eq!(app.seq(), before);
    second(json!([files])).await.expect(201);
    let free = app.site(&agent, "t").await;
    let (a, b) = tokio::join!(second(json!([free])), second(json!([free])));
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
}

story!(a_passing_failure_is_tried_again_soon);
async fn a_passing_failure_is_tried_again_soon(mut app: TestApp) {
    let (agent, mut job) = leased(&mut app).await;
    let passing = Outcome::Failed {
        class: FailureClass::Transient,
        reason: "the disk is full".into(),
    };
    for pause in [5, 10] {
        agent.report(&app, &job, &passing).await.expect(200);
        app.step().await;
        assert_eq!(deployment(&app).await["state"], "pending");
        app.advance(Duration::from_secs(pause - 1));
        assert!(agent.work(&app).await.is_empty());
        app.advance(Duration::from_secs(1));
        job = agent.job(&app).await;
    }
    // The third time it is over, until the hour.
    agent.report(&app, &job, &passing).await.expect(200);
    app.step().await;
    let failed = deployment(&app).await;
    assert_eq!(failed["error"], "the disk is full");
    assert_eq!(time(&failed["retry_at"]), app.now().plus(HOUR));
}

story!(a_newer_version_puts_a_failed_deployment_aside);
async fn a_newer_version_puts_a_failed_deployment_aside(mut app: TestApp) {
    let (agent, job) = leased(&mut app).await;
    let order = text(&app.list("/api/v1/certificates/web/versions").await[0]["serial_number"]);
    agent.report(&app, &job, &rolled_back()).await.expect(200);
    app.step().await;
    app.post("/api/v1/certificates/web/renew", json!({}))
        .await
        .expect(202);
    agent.run(&app).await;
    app.step().await;
    let shown = deployment(&app).await;
    assert_eq!(shown["state"], "confirmed");
    assert_ne!(shown["serial_number"], order);
    app.pass(DAY, HOUR).await;
    app.step().await;
    assert!(
        agent.work(&app).await.is_empty(),
        "the old version is not tried again"
    );
}

story!(a_newer_version_cancels_a_deployment_that_waits);
async fn a_newer_version_cancels_a_deployment_that_waits(mut app: TestApp) {
    let (agent, old) = leased(&mut app).await;
    app.step().await;
    app.post("/api/v1/certificates/web/renew", json!({}))
        .await
        .expect(202);
    let renewal = agent.job(&app).await;
    agent.submit_csr(&app, &renewal).await.expect(202);
    app.step().await;
    // The old deployment is under way on the host: its word comes too late.
    let outcome = agent.confirmed(&old);
    agent.report(&app, &old, &outcome).await.refused(409);
    agent
        .about(&app, &old, "lease", json!({}))
        .await
        .refused(409);
    app.step().await;
    assert_eq!(deployment(&app).await["state"], "pending");
    agent.run(&app).await;
    app.step().await;
    assert_eq!(deployment(&app).await["state"], "confirmed");
}

story!(a_broken_rollback_is_told);
async fn a_broken_rollback_is_told(mut app: TestApp) {
    let (agent, job) = leased(&mut app).await;
    let broken = Outcome::RollbackFailed {
        reason: "the old files are gone".into(),
        served: Vec::new(),
    };
    agent.report(&app, &job, &broken).await.expect(200);
    app.step().await;
    assert_eq!(
        app.shown("web").await["problem"],
        "web: the old files are gone"
    );
    let newest = &app.list("/api/v1/audit").await[0];
    assert_eq!(newest["action"], "deployment_failed");
    assert_eq!(newest["details"]["reason"], "the old files are gone");
}

story!(a_renewal_is_deployed_on_every_target);
async fn a_renewal_is_deployed_on_every_target(mut app: TestApp) {
    let agent = active(&mut app).await;
    let mut targets = Vec::new();
    for n in 0..10 {
        targets.push(app.target(&agent, &format!("t{n}")).await);
    }
    let ids: Vec<&str> = targets.iter().map(String::as_str).collect();
    app.certificate("wide", &ids).await;
    assert_eq!(agent.run(&app).await, 11);
    app.step().await;
    app.post("/api/v1/certificates/wide/renew", json!({}))
        .await
        .expect(202);
    assert_eq!(agent.run(&app).await, 11);
    app.step().await;
}
