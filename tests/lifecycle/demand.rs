//! Deployments, dry runs and tests that somebody asks for.

use super::story;
use crate::support::{HOUR, MINUTE, TestAgent, TestApp, fit, text};
use certctl::agent::protocol::{FailureClass, Outcome, WorkItem, WorkKind};
use serde_json::{Value, json};

/// An app whose agent serves `web` on two targets; its targets.
async fn served(app: &mut TestApp) -> (TestAgent, [String; 2]) {
    let agent = app.agent("host").await;
    let targets = [app.target(&agent, "a").await, app.target(&agent, "b").await];
    app.certificate("web", &[&targets[0], &targets[1]]).await;
    agent.run(app).await;
    app.step().await;
    (agent, targets)
}

async fn deploy(app: &TestApp, body: Value) -> Vec<Value> {
    let path = "/api/v1/certificates/web/deploy";
    let answer = app.post(path, body).await.expect(202);
    answer["jobs"].as_array().unwrap().clone()
}

async fn states(app: &TestApp) -> Vec<String> {
    let targets = app.list("/api/v1/certificates/web/deployments").await;
    let states = targets.iter().map(|t| text(&t["deployment"]["state"]));
    states.collect()
}

story!(what_is_confirmed_is_verified_again);
async fn what_is_confirmed_is_verified_again(mut app: TestApp) {
    let (agent, targets) = served(&mut app).await;
    let jobs = deploy(&app, json!({})).await;
    app.step().await;
    assert_eq!(jobs.len(), 2);
    assert_eq!(states(&app).await, ["pending", "pending"]);
    // Asked again while it is under way, the answer is the same.
    let again = deploy(&app, json!({})).await;
    let ids = |jobs: &[Value]| -> Vec<String> { jobs.iter().map(|j| text(&j["id"])).collect() };
    assert_eq!(ids(&again), ids(&jobs));
    app.step().await;
    for item in agent.work(&app).await {
        let Outcome::Confirmed { served, .. } = agent.confirmed(&item) else {
            panic!("not confirmed");
        };
        let changed = false;
        let outcome = Outcome::Confirmed { changed, served };
        agent.report(&app, &item, &outcome).await.expect(200);
    }
    app.step().await;
    assert_eq!(states(&app).await, ["confirmed", "confirmed"]);
    let shown = app.get(&format!("/api/v1/jobs/{}", ids(&jobs)[0])).await;
    assert_eq!(shown["last_attempt"]["outcome"], "unchanged");
    let one = deploy(&app, json!({"target_id": targets[1]})).await;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0]["target_id"], targets[1].as_str());
    assert_eq!(states(&app).await, ["confirmed", "pending"]);
    app.step().await;
    assert_eq!(agent.run(&app).await, 1);
    app.step().await;
}

story!(a_failed_deployment_does_not_wait_for_its_hour_when_asked);
async fn a_failed_deployment_does_not_wait_for_its_hour_when_asked(mut app: TestApp) {
    let (agent, targets) = served(&mut app).await;
    let one = json!({"target_id": targets[0]});
    deploy(&app, one.clone()).await;
    let failed = |class| Outcome::Failed {
        class,
        reason: "no room".into(),
    };
    let job = agent.job(&app).await;
    let outcome = failed(FailureClass::Operator);
    agent.report(&app, &job, &outcome).await.expect(200);
    app.step().await;
    assert_eq!(states(&app).await[0], "failed");
    deploy(&app, one.clone()).await;
    app.step().await;
    // One that backs off is begun at once, too.
    let job = agent.job(&app).await;
    let outcome = failed(FailureClass::Transient);
    agent.report(&app, &job, &outcome).await.expect(200);
    assert!(agent.work(&app).await.is_empty());
    app.step().await;
    let asked = deploy(&app, one).await;
    assert_eq!(asked[0]["id"], job.id.as_str());
    app.step().await;
    assert_eq!(agent.run(&app).await, 1);
    app.step().await;
    assert_eq!(states(&app).await, ["confirmed", "confirmed"]);
    app.pass(HOUR, HOUR / 2).await;
    assert!(agent.work(&app).await.is_empty());
}

story!(a_trial_touches_no_deployment);
async fn a_trial_touches_no_deployment(mut app: TestApp) {
    let (agent, targets) = served(&mut app).await;
    let before = app.list("/api/v1/certificates/web/deployments").await;
    let dry = json!({"dry_run": true, "target_id": targets[0]});
    let asked = deploy(&app, dry.clone()).await;
    assert_eq!(asked[0]["type"], "DryRun");
    assert_eq!(
        deploy(&app, dry.clone()).await,
        asked,
        "one is open already"
    );
    let test = format!("/api/v1/targets/{}/test", targets[0]);
    let tested = app.post(&test, json!({})).await.expect(202);
    // A server that has just started has not heard of it yet.
    let message = text(&tested["message"]);
    assert!(message.starts_with("waits for agent host"), "{message}");
    let again = app.post(&test, json!({})).await.expect(202);
    assert_eq!(again["job_id"], tested["job_id"]);
    app.step().await;

    let work = agent.work(&app).await;
    let of = |kind| work.iter().find(|j| j.kind == kind).unwrap().clone();
    let (run, test) = (of(WorkKind::DryRun), of(WorkKind::TargetTest));
    assert_eq!(work.len(), 2);
    assert!(run.version.is_some() && run.target_config.is_some());
    assert!(test.version.is_none() && test.certificate_id.is_none());
    assert_eq!(test.target_type.as_deref(), Some("File"));
    app.step().await;
    let faulty = Outcome::Examined {
        faults: vec!["the disk is full".into(), "the link\u{7} is foreign".into()],
        findings: vec!["serial 1 would be replaced".into()],
        served: Vec::new(),
    };
    agent.report(&app, &run, &faulty).await.expect(200);
    agent.report(&app, &run, &faulty).await.expect(200);
    agent.report(&app, &run, &fit()).await.refused(409);
    agent.report(&app, &test, &fit()).await.expect(200);
    app.step().await;
    let job = async |item: &WorkItem| app.get(&format!("/api/v1/jobs/{}", item.id)).await;
    let shown = job(&run).await;
    assert_eq!(shown["status"], "Failed");
    assert_eq!(
        shown["last_error"],
        "the disk is full; the link  is foreign"
    );
    let attempt = &shown["last_attempt"];
    assert_eq!(attempt["outcome"], "failed");
    assert_eq!(attempt["findings"], json!(["serial 1 would be replaced"]));
    let shown = job(&test).await;
    assert_eq!(shown["status"], "Completed");
    assert_eq!(shown["last_attempt"]["outcome"], "passed");
    let target = app.get(&format!("/api/v1/targets/{}", targets[0])).await;
    assert_eq!(target["test_status"], "success");
    assert_eq!(target["test_job_id"], test.id.as_str());
    let after = app.list("/api/v1/certificates/web/deployments").await;
    assert_eq!(after, before);

    // A trial whose agent goes away is over with its lease: whoever asked looks on.
    deploy(&app, dry).await;
    let run = agent.job(&app).await;
    app.advance(MINUTE);
    app.tick().await;
    app.step().await;
    let shown = app.get(&format!("/api/v1/jobs/{}", run.id)).await;
    assert_eq!(shown["status"], "Failed");
    assert_eq!(shown["last_attempt"]["outcome"], "lost");
    assert!(agent.work(&app).await.is_empty());
    let actions = app.actions().await;
    for action in ["dry_run_requested", "dry_run_ended", "target_tested"] {
        assert!(actions.iter().any(|a| a == action), "{action}");
    }
}

#[tokio::test]
async fn an_agent_that_is_away_is_named() {
    let mut app = TestApp::start().await;
    let (_, targets) = served(&mut app).await;
    app.advance(HOUR);
    let asked = deploy(&app, json!({"target_id": targets[0]})).await;
    assert_eq!(
        asked[0]["waits_for"],
        "waits for agent host, which was last heard at 2026-01-01T00:00:00Z"
    );
}

#[tokio::test]
async fn what_cannot_be_deployed_says_why() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let (mine, other) = (app.target(&agent, "a").await, app.target(&agent, "b").await);
    app.certificate("web", &[&mine]).await;
    app.certificate("bare", &[]).await;
    let before = app.seq();
    let ask = async |id: &str, body: Value| {
        let path = format!("/api/v1/certificates/{id}/deploy");
        app.post(&path, body).await
    };
    for (id, body, status, says) in [
        ("web", json!({}), 409, "no version yet"),
        ("bare", json!({}), 409, "no targets"),
        ("none", json!({}), 404, "none"),
        ("web", json!({"target_id": other}), 400, "target_id: "),
        ("web", json!({"target_id": "a/b"}), 400, "target_id: "),
        ("web", json!({"dry_run": "yes"}), 400, "dry_run"),
        ("web", json!([]), 400, "body: "),
    ] {
        let message = ask(id, body).await.refused(status);
        assert!(message.contains(says), "{says:?} in {message:?}");
    }
    assert_eq!(app.seq(), before);
    // No body at all is all targets.
    agent.run(&app).await;
    let call = app.admin("POST", "/api/v1/certificates/web/deploy");
    let answer = call.send().await.expect(202);
    assert_eq!(answer["jobs"].as_array().unwrap().len(), 1);
    // While one is being stopped there is no other.
    let job = agent.job(&app).await;
    let cancel = format!("/api/v1/jobs/{}/cancel", job.id);
    app.post(&cancel, json!({})).await.expect(202);
    let message = ask("web", json!({})).await.refused(409);
    assert!(message.contains("being stopped"), "{message}");
    app.check().await;
}

#[tokio::test]
async fn a_target_in_use_stays() {
    let mut app = TestApp::start().await;
    let (agent, targets) = served(&mut app).await;
    let free = app.target(&agent, "free").await;
    let delete = async |id: &str| {
        let path = format!("/api/v1/targets/{id}");
        app.admin("DELETE", &path).send().await
    };
    let before = app.seq();
    let message = delete(&targets[0]).await.refused(409);
    assert!(
        message.contains("used by 1 certificate(s): web"),
        "{message}"
    );
    delete("tgt-none").await.refused(404);
    assert_eq!(app.seq(), before);
    // Not even by a certificate that is made at the same time.
    let body = json!({"name": "n", "common_name": "n.example.org", "target_ids": [free]});
    let made = app.post("/api/v1/certificates", body);
    let (deleted, made) = tokio::join!(delete(&free), made);
    let codes = (deleted.status.as_u16(), made.status.as_u16());
    assert!(matches!(codes, (204, 400) | (409, 201)), "{codes:?}");
    let free = app.target(&agent, "spare").await;
    let test = format!("/api/v1/targets/{free}/test");
    app.post(&test, json!({})).await.expect(202);
    assert_eq!(delete(&free).await.status, 204);
    delete(&free).await.refused(404);
    // Its test has nothing to look at any more.
    while agent.run(&app).await > 0 {}
    app.check().await;
    let failed = app.list("/api/v1/jobs?type=targettest&status=failed").await;
    assert_eq!(failed.len(), 1, "{failed:?}");
}
