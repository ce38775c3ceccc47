//! Agents that are retired, with what hung on them.

use super::story;
use crate::support::{DAY, HOUR, TestAgent, TestApp, text};
use certctl::domain::AgentStatus;
use serde_json::{Value, json};

async fn retire(app: &TestApp, agent: &TestAgent) -> Value {
    let path = format!("/api/v1/agents/{}/retire", agent.id);
    let wish = json!({"force": true, "reason": "the host is gone"});
    app.post(&path, wish).await.expect(200)
}

story!(a_certificate_without_its_only_agent_says_that_nothing_follows);
async fn a_certificate_without_its_only_agent_says_that_nothing_follows(mut app: TestApp) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "files").await;
    app.certificate("web", &[&target]).await;
    agent.run(&app).await;
    app.step().await;
    retire(&app, &agent).await;
    app.step().await;
    let shown = app.shown("web").await;
    assert_eq!(shown["status"], "Active");
    assert_eq!(shown["holders"][0]["plan"], "exempt");
    for field in ["next", "problem"] {
        let says = text(&shown[field]);
        assert!(says.contains("agent host, which held the key"), "{says}");
    }
    assert_eq!(shown["target_ids"], json!([]));
    let renewal = app.post("/api/v1/certificates/web/renew", Value::Null);
    let message = renewal.await.refused(409);
    assert!(message.contains("give it a target"), "{message}");
    // Nothing is tried for an agent that is not there, and the end is seen to come.
    for (later, status) in [(59, "Active"), (5, "Expiring"), (30, "Expired")] {
        app.pass(later * DAY, DAY).await;
        app.step().await;
        assert_eq!(app.status("web").await, status);
    }
    let versions = app.list("/api/v1/certificates/web/versions").await;
    assert_eq!(versions.len(), 1);
}

story!(an_order_that_is_open_ends_with_its_agent);
async fn an_order_that_is_open_ends_with_its_agent(mut app: TestApp) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "files").await;
    app.certificate("web", &[&target]).await;
    let order = text(&app.shown("web").await["holders"][0]["order_id"]);
    agent.job(&app).await;
    app.step().await;
    let retired = retire(&app, &agent).await;
    assert_eq!(retired["counts"]["pending_jobs"], 1);
    app.step().await;
    let order = app.get(&format!("/api/v1/orders/{order}")).await;
    assert_eq!(order["state"], "failed");
    let shown = app.shown("web").await;
    assert_eq!(shown["status"], "Pending");
    assert_eq!(shown["holders"][0]["plan"], "exempt");
    app.pass(DAY, HOUR).await;
    app.step().await;
    assert_eq!(app.shown("web").await, shown, "and that is that");
}

story!(a_certificate_of_two_agents_goes_on_with_the_other);
async fn a_certificate_of_two_agents_goes_on_with_the_other(mut app: TestApp) {
    let (gone, stays) = (app.agent("gone").await, app.agent("stays").await);
    let (a, b) = (app.target(&gone, "a").await, app.target(&stays, "b").await);
    app.certificate("web", &[&a, &b]).await;
    gone.run(&app).await;
    stays.run(&app).await;
    app.step().await;
    retire(&app, &gone).await;
    app.step().await;
    let shown = app.shown("web").await;
    let holders = shown["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0]["holder"], format!("agent:{}", stays.id));
    assert_eq!(shown["target_ids"], json!([b]));
    assert_eq!(shown.get("problem"), None);
    for _ in 0..120 {
        app.pass(DAY, 6 * HOUR).await;
        stays.run(&app).await;
    }
    app.step().await;
    assert_eq!(app.status("web").await, "Active", "renewed meanwhile");
}

story!(a_deployment_that_waits_ends_with_its_agent);
async fn a_deployment_that_waits_ends_with_its_agent(mut app: TestApp) {
    let agent = app.agent("host").await;
    let (a, b) = (app.target(&agent, "a").await, app.target(&agent, "b").await);
    app.certificate("web", &[&a, &b]).await;
    let issuance = agent.job(&app).await;
    agent.submit_csr(&app, &issuance).await.expect(202);
    let jobs = agent.work(&app).await;
    assert_eq!(jobs.len(), 2);
    // One of them is tried again later, the other one is being run.
    let failed = certctl::agent::protocol::Outcome::RolledBack {
        reason: "no".into(),
        served: Vec::new(),
    };
    agent.report(&app, &jobs[0], &failed).await.expect(200);
    app.step().await;
    retire(&app, &agent).await;
    app.step().await;
    app.pass(3 * HOUR, HOUR).await;
    app.step().await;
    let none = app.list("/api/v1/certificates/web/deployments").await;
    assert_eq!(none, [Value::Null; 0]);
}

// More than one batch ends: the credential is over with the first, the rest follows by itself.
story!(much_that_hangs_on_an_agent_ends_batch_by_batch);
async fn much_that_hangs_on_an_agent_ends_batch_by_batch(mut app: TestApp) {
    let agent = app.agent("host").await;
    for n in 0..70 {
        let target = app.target(&agent, &format!("t{n}")).await;
        app.certificate(&format!("c{n}"), &[&target]).await;
    }
    app.step().await;
    let retired = retire(&app, &agent).await;
    assert_eq!(
        retired["counts"],
        json!({"active_targets": 70, "active_certificates": 70, "pending_jobs": 70})
    );
    agent.call(&app, "GET", "work").send().await.refused(410);
    let path = format!("/api/v1/agents/{}", agent.id);
    let left = app.get(&path).await["counts"].clone();
    assert_ne!(left["active_certificates"], 0, "one batch had room for all");
    app.step().await;
    app.tick().await;
    app.step().await;
    let none = json!({"active_targets": 0, "active_certificates": 0, "pending_jobs": 0});
    assert_eq!(app.get(&path).await["counts"], none);
    assert_eq!(
        app.get(&path).await["status"],
        AgentStatus::Offline.as_str()
    );
    for n in 0..70 {
        let plan = app.shown(&format!("c{n}")).await["holders"][0]["plan"].clone();
        assert_eq!(plan, "exempt");
    }
}
