//! What agents find where they have put versions.

use super::story;
use crate::support::{HOUR, TestAgent, TestApp, text};
use certctl::agent::protocol::WorkItem;
use serde_json::{Value, json};
use std::time::Duration;

/// An app whose agent has deployed the first version to an exclusive place; that deployment.
async fn placed(app: &mut TestApp) -> (TestAgent, WorkItem) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "files").await;
    app.certificate("web", &[&target]).await;
    let issuance = agent.job(app).await;
    agent.submit_csr(app, &issuance).await.expect(202);
    let job = agent.job(app).await;
    agent
        .report(app, &job, &agent.confirmed(&job))
        .await
        .expect(200);
    app.step().await;
    (agent, job)
}

/// What the agent finds at its one endpoint.
fn found(job: &WorkItem, shown: Value, drift: &[&str]) -> Value {
    let mut shown = shown;
    shown["endpoint"] = "127.0.0.1:443".into();
    json!({
        "target_id": job.target_id, "certificate_id": "web",
        "serial": job.version.as_ref().unwrap().serial, "drift": drift, "served": [shown],
    })
}

fn right(job: &WorkItem) -> Value {
    let version = job.version.as_ref().unwrap();
    json!({
        "serial": version.serial, "fingerprint_sha256": version.fingerprint_sha256,
        "chain_ok": true,
    })
}

async fn tell(app: &mut TestApp, agent: &TestAgent, found: Value) {
    let body = json!({ "observations": [found] });
    let call = agent.call(app, "POST", "observations").json(&body);
    call.send().await.expect(200);
    app.step().await;
}

async fn place(app: &TestApp) -> Value {
    app.list("/api/v1/certificates/web/served").await[0].clone()
}

story!(what_is_served_is_named_and_a_wrong_one_is_a_problem_until_it_is_gone);
async fn what_is_served_is_named_and_a_wrong_one_is_a_problem_until_it_is_gone(mut app: TestApp) {
    let (agent, job) = placed(&mut app).await;
    // What the deployment has seen is the first look.
    assert_eq!(place(&app).await["state"], "this_version");
    let version = job.version.clone().unwrap();
    let good = right(&job);
    tell(&mut app, &agent, found(&job, good.clone(), &[])).await;
    assert_eq!(place(&app).await["state"], "this_version");
    let other = "ab".repeat(32);
    for (shown, state, says) in [
        (
            json!({"serial": "c09", "fingerprint_sha256": other, "chain_ok": false}),
            "other_certificate",
            format!("serves serial c09 instead of {}", version.serial),
        ),
        (
            json!({"serial": version.serial, "fingerprint_sha256": version.fingerprint_sha256,
                   "chain_ok": false}),
            "changed",
            "with another chain".to_owned(),
        ),
        (
            json!({"error": "connection refused", "chain_ok": false}),
            "nothing",
            "127.0.0.1:443 serves nothing: connection refused".to_owned(),
        ),
        // No proof without a leaf.
        (
            json!({"chain_ok": true}),
            "nothing",
            "127.0.0.1:443 serves nothing".to_owned(),
        ),
    ] {
        app.advance(Duration::from_secs(60));
        tell(&mut app, &agent, found(&job, shown, &[])).await;
        let seen = place(&app).await;
        assert_eq!(seen["state"], state, "{seen}");
        assert_eq!(seen["since"], app.now().to_string());
        let problem = text(&app.shown("web").await["problem"]);
        assert!(problem.starts_with("files: "), "{problem}");
        assert!(problem.contains(&says), "{says}: {problem}");
        let listed = app.list("/api/v1/certificates").await;
        assert_eq!(listed[0]["problem"], problem);
        // Another program's doing is not undone.
        assert!(agent.work(&app).await.is_empty());
    }
    tell(&mut app, &agent, found(&job, good, &[])).await;
    assert_eq!(app.shown("web").await["problem"], Value::Null);
    let actions = app.actions().await;
    let count = |action: &str| actions.iter().filter(|a| *a == action).count();
    assert_eq!((count("drift_found"), count("drift_gone")), (4, 1));
}

story!(drift_on_the_host_is_repaired_at_most_once_an_hour);
async fn drift_on_the_host_is_repaired_at_most_once_an_hour(mut app: TestApp) {
    let (agent, job) = placed(&mut app).await;
    let drift = found(&job, right(&job), &["cert.pem is missing"]);
    for _ in 0..2 {
        tell(&mut app, &agent, drift.clone()).await;
        let problem = text(&app.shown("web").await["problem"]);
        assert_eq!(problem, "files: cert.pem is missing");
        let again = agent.job(&app).await;
        assert_eq!(again.target_id, job.target_id);
        agent
            .report(&app, &again, &agent.confirmed(&again))
            .await
            .expect(200);
        app.step().await;
        tell(&mut app, &agent, drift.clone()).await;
        assert!(agent.work(&app).await.is_empty(), "not twice in an hour");
        app.advance(HOUR);
    }
    let actions = app.actions().await;
    let repairs = actions.iter().filter(|a| *a == "drift_repaired").count();
    assert_eq!(repairs, 2);
}

#[tokio::test]
async fn the_same_again_is_not_written_but_once_an_hour() {
    let mut app = TestApp::start().await;
    let (agent, job) = placed(&mut app).await;
    let good = found(&job, right(&job), &[]);
    tell(&mut app, &agent, good.clone()).await;
    let written = app.seq();
    app.advance(HOUR - Duration::from_secs(1));
    tell(&mut app, &agent, good.clone()).await;
    assert_eq!(app.seq(), written);
    assert_eq!(place(&app).await["seen_at"], app.now().to_string());
    app.advance(Duration::from_secs(1));
    tell(&mut app, &agent, good).await;
    assert_eq!(app.seq(), written + 1);
}

#[tokio::test]
async fn an_agent_tells_of_its_own_targets_alone() {
    let mut app = TestApp::start().await;
    let (agent, job) = placed(&mut app).await;
    let other = app.agent("other").await;
    let good = found(&job, right(&job), &[]);
    let as_deployed = place(&app).await;
    let before = app.seq();
    let body = json!({ "observations": [good] });
    let call = other.call(&app, "POST", "observations").json(&body);
    call.send().await.refused(403);
    // What is of no target or certificate of today is let go.
    let with = |field: &str, value: &str| {
        let mut found = found(&job, right(&job), &["x"]);
        found[field] = value.into();
        json!({ "observations": [found] })
    };
    for body in [
        with("target_id", "tgt-gone"),
        with("certificate_id", "gone"),
    ] {
        let call = agent.call(&app, "POST", "observations").json(&body);
        call.send().await.expect(200);
    }
    assert_eq!(app.seq(), before);
    assert_eq!(place(&app).await, as_deployed);
}

#[tokio::test]
async fn who_waits_for_work_is_asked_to_look_at_once() {
    let mut app = TestApp::start().await;
    let (agent, job) = placed(&mut app).await;
    let waiting = async {
        let path = "work?wait=50";
        let work = agent.call(&app, "GET", path).send().await.expect(200);
        assert_eq!(work["look"], json!([job.target_id]));
        let body = json!({ "observations": [found(&job, right(&job), &[])] });
        let call = agent.call(&app, "POST", "observations").json(&body);
        call.send().await.expect(200);
    };
    let asking = app.post("/api/v1/certificates/web/check", json!({}));
    let (answer, ()) = tokio::join!(asking, waiting);
    let answer = answer.expect(200);
    assert_eq!(answer["fresh"], true);
    assert_eq!(answer["data"][0]["state"], "this_version");
    // Told once.
    let work = agent.call(&app, "GET", "work").send().await.expect(200);
    assert_eq!(work["look"], Value::Null);
}
