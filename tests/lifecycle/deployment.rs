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
async fn a_version_from_a_clock_that_was_ahead_is_replaced_once_the_clock_is_right() {
    let mut app = TestApp::start().await;
    let right = app.now();
    app.advance(365 * DAY);
    let (agent, job) = leased(&mut app).await;
    app.set_back(365 * DAY);
    // What the agent says, whose clock was right all along.
    let not_yet = Outcome::Failed {
        class: FailureClass::Operator,
        reason: "it is valid from a day that has not come: set the clock".into(),
    };
    agent.report(&app, &job, &not_yet).await.expect(200);
    app.tick().await;
    assert_eq!(app.status("web").await, "RenewalInProgress");
    agent.run(&app).await;
    let shown = app.shown("web").await;
    assert_eq!(shown["status"], "Active");
    assert!(
        time(&shown["expires_at"]) < right.plus(365 * DAY),
        "{shown}"
    );
    assert_eq!(deployment(&app).await["state"], "confirmed");
    app.check().await;
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

story!(a_newer_version_stops_a_deployment_under_way);
async fn a_newer_version_stops_a_deployment_under_way(mut app: TestApp) {
    let (agent, old) = leased(&mut app).await;
    app.step().await;
    app.post("/api/v1/certificates/web/renew", json!({}))
        .await
        .expect(202);
    let renewal = agent.job(&app).await;
    agent.submit_csr(&app, &renewal).await.expect(202);
    app.step().await;
    let job = format!("/api/v1/jobs/{}", old.id);
    let stopping = app.get(&job).await;
    assert_eq!(stopping["status"], "Running");
    assert_eq!(stopping["state"], "cancel_requested");
    assert_eq!(stopping["unwanted"], "a newer version took its place");
    // The next poll brings the new deployment, and says what is to make room for it.
    let poll = agent.call(&app, "GET", "work").send().await.expect(200);
    assert_eq!(poll["cancel"], json!([old.id]));
    assert_eq!(poll["jobs"][0]["type"], "Deployment");
    let new: WorkItem = serde_json::from_value(poll["jobs"][0].clone()).unwrap();
    app.step().await;
    let renewed = agent.about(&app, &old, "lease", json!({})).await;
    assert_eq!(renewed.expect(200)["cancel"], true);
    app.step().await;
    agent.report(&app, &old, &rolled_back()).await.expect(200);
    app.step().await;
    let stopped = app.get(&job).await;
    assert_eq!(stopped["status"], "Cancelled");
    assert_eq!(stopped["last_attempt"]["outcome"], "rolled_back");
    assert_eq!(deployment(&app).await["state"], "pending");
    let told = &app.list("/api/v1/audit").await[0];
    assert_eq!(told["action"], "deployment_stopped");
    let outcome = agent.confirmed(&new);
    agent.report(&app, &new, &outcome).await.expect(200);
    app.step().await;
    assert_eq!(deployment(&app).await["state"], "confirmed");
    assert_eq!(app.shown("web").await["problem"], Value::Null);
}

story!(what_is_to_be_stopped_may_have_been_done);
async fn what_is_to_be_stopped_may_have_been_done(mut app: TestApp) {
    let (agent, old) = leased(&mut app).await;
    app.post("/api/v1/certificates/web/renew", json!({}))
        .await
        .expect(202);
    let renewal = agent.job(&app).await;
    agent.submit_csr(&app, &renewal).await.expect(202);
    let outcome = agent.confirmed(&old);
    agent.report(&app, &old, &outcome).await.expect(200);
    app.step().await;
    let job = app.get(&format!("/api/v1/jobs/{}", old.id)).await;
    assert_eq!(job["status"], "Completed");
    assert_eq!(deployment(&app).await["state"], "pending");
    agent.run(&app).await;
    app.step().await;
    assert_eq!(deployment(&app).await["state"], "confirmed");
}

story!(a_stop_without_a_word_ends_with_the_lease);
async fn a_stop_without_a_word_ends_with_the_lease(mut app: TestApp) {
    let (agent, old) = leased(&mut app).await;
    let path = format!("/api/v1/jobs/{}", old.id);
    let cancel = async |app: &TestApp| app.post(&format!("{path}/cancel"), json!({})).await;
    let answer = cancel(&app).await.expect(202);
    assert_eq!(answer["status"], "cancel_requested");
    app.step().await;
    // A second wish changes nothing.
    let before = app.seq();
    cancel(&app).await.expect(202);
    assert_eq!(app.seq(), before);
    app.advance(Duration::from_secs(59));
    app.tick().await;
    assert_eq!(app.get(&path).await["state"], "cancel_requested");
    app.advance(Duration::from_secs(1));
    app.tick().await;
    app.step().await;
    let job = app.get(&path).await;
    assert_eq!(job["status"], "Cancelled");
    assert_eq!(job["last_attempt"]["outcome"], "lost");
    cancel(&app).await.refused(409);
    // Nobody forgets the target: it is tried again like one that failed.
    let shown = deployment(&app).await;
    assert_eq!(shown["state"], "failed");
    assert!(text(&shown["error"]).starts_with("cancelled by "));
    app.pass(HOUR, HOUR / 2).await;
    agent.run(&app).await;
    app.step().await;
    assert_eq!(deployment(&app).await["state"], "confirmed");
}

story!(a_cancelled_order_is_tried_again_later);
async fn a_cancelled_order_is_tried_again_later(mut app: TestApp) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let waiting = text(&app.list("/api/v1/jobs?status=pending").await[0]["id"]);
    let cancel = async |app: &TestApp, job: &str| {
        let path = format!("/api/v1/jobs/{job}/cancel");
        app.post(&path, json!({})).await
    };
    let answer = cancel(&app, &waiting).await.expect(200);
    assert_eq!(answer["status"], "job_cancelled");
    assert_eq!(answer["job"]["status"], "Cancelled");
    app.step().await;
    assert_eq!(app.status("web").await, "Failed");
    assert!(agent.work(&app).await.is_empty());
    app.pass(HOUR, HOUR / 2).await;
    // One that is being run takes no CSR any more, and ends with its lease.
    let leased = agent.job(&app).await;
    cancel(&app, leased.id.as_str()).await.expect(202);
    app.step().await;
    agent.submit_csr(&app, &leased).await.refused(409);
    app.advance(Duration::from_secs(60));
    app.tick().await;
    app.step().await;
    assert_eq!(app.status("web").await, "Failed");
    app.pass(3 * HOUR, HOUR / 2).await;
    agent.run(&app).await;
    app.step().await;
    assert_eq!(deployment(&app).await["state"], "confirmed");
}

story!(every_attempt_leaves_its_trace);
async fn every_attempt_leaves_its_trace(mut app: TestApp) {
    let (agent, job) = leased(&mut app).await;
    let (old, new) = ("a".repeat(64), job.version.as_ref().unwrap());
    app.advance(Duration::from_secs(3));
    let body = json!({
        "outcome": "failed", "class": "transient", "reason": "the disk\u{7} is full",
        "old_fingerprint_sha256": old, "new_fingerprint_sha256": new.fingerprint_sha256,
        "output": format!("{}\u{1b}[31mno space\r\nleft\n", "x".repeat(5_000)), "duration_ms": 2_500,
    });
    let report = agent.about(&app, &job, "report", body.clone()).await;
    report.expect(200);
    app.step().await;
    let shown = deployment(&app).await;
    assert_eq!(shown["state"], "pending", "it is tried again soon");
    let attempt = &shown["last_attempt"];
    assert_eq!(attempt["outcome"], "failed");
    assert_eq!(attempt["class"], "transient");
    assert_eq!(attempt["reason"], "the disk  is full");
    assert_eq!(attempt["attempt"], 1);
    assert_eq!(attempt["agent_id"], agent.id.as_str());
    assert_eq!(attempt["duration_ms"], 2_500);
    assert_eq!(attempt["old"], json!({"fingerprint_sha256": old}));
    assert_eq!(attempt["new"]["serial_number"], new.serial.as_str());
    assert_eq!(time(&attempt["ended_at"]), app.now());
    let begun = time(&attempt["started_at"]);
    assert_eq!(app.now().since(begun), Duration::from_secs(3));
    let output = text(&attempt["output"]);
    assert!(output.ends_with("x[31mno space\nleft"), "{output}");
    assert!(output.len() <= 4_096);
    let told = &app.list("/api/v1/audit").await[0];
    assert_eq!(told["action"], "deployment_attempt_failed");
    assert_eq!(told["details"]["outcome"], "failed");
    assert_eq!(told["details"]["class"], "transient");
    assert_eq!(told["details"]["attempt"], "1");
    // The same words again are answered as before; others are refused.
    let before = app.seq();
    let again = agent.about(&app, &job, "report", body.clone()).await;
    again.expect(200);
    for (field, other) in [
        ("reason", json!("the disk is gone")),
        ("duration_ms", json!(2_501)),
        ("class", json!("permanent")),
    ] {
        let mut body = body.clone();
        body[field] = other;
        agent.about(&app, &job, "report", body).await.refused(409);
    }
    assert_eq!(app.seq(), before);

    app.advance(Duration::from_secs(5));
    let job = agent.job(&app).await;
    let outcome = agent.confirmed(&job);
    agent.report(&app, &job, &outcome).await.expect(200);
    app.step().await;
    let attempt = deployment(&app).await["last_attempt"].clone();
    assert_eq!(attempt["outcome"], "changed");
    assert_eq!(attempt["attempt"], 2);
    assert_eq!(attempt["served"][0]["endpoint"], "127.0.0.1:443");
    let shown = app.get(&format!("/api/v1/jobs/{}", job.id)).await;
    assert_eq!(shown["last_attempt"], attempt);
    assert_eq!(shown["verification_status"], "success");
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
