//! What agents have and a restored store does not know.

use super::restored::restoration;
use crate::support::{TestAgent, TestApp};
use certctl::{
    agent::protocol::WorkKind,
    domain::{Found, Version},
};
use serde_json::{Value, json};

/// A restored server without its fence that asks for what was issued meanwhile. Its agent has a
/// version of a certificate `late`, for `web.example.org`, on a target: both are given.
async fn forgotten(app: &mut TestApp) -> (TestAgent, Late) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let issuance = agent.job(app).await;
    agent.submit_csr(app, &issuance).await.expect(202);
    let job = agent.job(app).await;
    let confirmed = agent.confirmed(&job);
    agent.report(app, &job, &confirmed).await.expect(200);
    let target = app.target(&agent, "late").await;
    let store = &app.app.store;
    let mut unit = store.unit(app.unit_id(), app.now());
    for version in store.every::<Version>().await.unwrap() {
        unit.delete(version);
    }
    unit.insert(restoration(app, true));
    unit.commit().await.unwrap();
    app.restart().await;
    let unfenced = app.post("/api/v1/restore/unfence", json!({})).await;
    unfenced.expect(200);
    let version = job.version.unwrap();
    let late = Late {
        target,
        serial: version.serial,
        chain: version.fullchain_pem,
    };
    (agent, late)
}

struct Late {
    target: String,
    serial: String,
    chain: String,
}

impl Late {
    async fn is_shown(&self, app: &TestApp, agent: &TestAgent) {
        let shown = json!({
            "target_id": self.target, "certificate_id": "late", "serial": self.serial,
            "drift": [], "served": [], "fullchain_pem": self.chain,
        });
        tell(app, agent, &[shown]).await;
    }

    /// It is the one version, and goes where it was; nothing is issued.
    async fn is_taken_up(&self, app: &TestApp, agent: &TestAgent) {
        let found = found(app).await;
        assert!(found["version_id"].is_string(), "{found}");
        for field in ["refused", "advice"] {
            assert_eq!(found[field], Value::Null, "{found}");
        }
        let versions = app.list("/api/v1/certificates/late/versions").await;
        assert_eq!(versions.len(), 1, "{versions:?}");
        assert_eq!(versions[0]["serial_number"], self.serial);
        let job = agent.job(app).await;
        assert_eq!(job.kind, WorkKind::Deployment);
        assert_eq!(job.target_id.unwrap().as_str(), self.target);
    }
}

async fn tell(app: &TestApp, agent: &TestAgent, shown: &[Value]) {
    let body = json!({ "observations": shown });
    let call = agent.call(app, "POST", "observations").json(&body);
    call.send().await.expect(200);
}

/// The first of what was found.
async fn found(app: &TestApp) -> Value {
    app.get("/api/v1/restore").await["found"][0].clone()
}

async fn make_late(app: &TestApp, common_name: &str, targets: &[&str]) {
    let body = json!({
        "id": "late", "name": "late", "common_name": common_name, "target_ids": targets,
    });
    app.post("/api/v1/certificates", body).await.expect(201);
}

async fn edit_late(app: &TestApp, body: Value) {
    let call = app.admin("PUT", "/api/v1/certificates/late").json(&body);
    call.send().await.expect(200);
}

#[tokio::test]
async fn what_was_refused_for_its_names_is_taken_up_once_the_certificate_has_them() {
    let mut app = TestApp::start().await;
    let (agent, late) = forgotten(&mut app).await;
    late.is_shown(&app, &agent).await;
    make_late(&app, "late.example.org", &[&late.target]).await;
    for _ in 0..2 {
        let found = found(&app).await;
        let refused = found["refused"].as_str().unwrap();
        assert!(refused.contains("late.example.org is missing"), "{found}");
        let advice = found["advice"].as_str().unwrap();
        assert!(advice.contains("`certctl certs edit late`"), "{found}");
        late.is_shown(&app, &agent).await;
    }
    let names = json!({"common_name": "web.example.org", "sans": ["web.example.org"]});
    edit_late(&app, names).await;
    late.is_taken_up(&app, &agent).await;
    let actions = app.actions().await;
    let told = |action: &str| actions.iter().filter(|a| *a == action).count();
    let told = ["version_not_taken_up", "version_taken_up"].map(told);
    assert_eq!(told, [1, 1], "a refusal is told once");
}

#[tokio::test]
async fn what_a_target_of_no_certificate_serves_is_taken_up_once_the_certificate_has_it() {
    let mut app = TestApp::start().await;
    let (agent, late) = forgotten(&mut app).await;
    let other = app.target(&agent, "other").await;
    late.is_shown(&app, &agent).await;
    make_late(&app, "web.example.org", &[]).await;
    let advice = found(&app).await["advice"].clone();
    let command = format!("`certctl certs edit late --target {}`", late.target);
    assert!(advice.as_str().unwrap().contains(&command), "{advice}");
    edit_late(&app, json!({"target_ids": [late.target]})).await;
    late.is_taken_up(&app, &agent).await;
    edit_late(&app, json!({"target_ids": [other]})).await;
    assert_eq!(found(&app).await["advice"], Value::Null);
}

#[tokio::test]
async fn one_agent_leaves_room_for_what_others_have() {
    let mut app = TestApp::start().await;
    let (agent, late) = forgotten(&mut app).await;
    let second = app.agent("second").await;
    let shown = |n: usize, chain: Option<&str>| {
        json!({
            "target_id": "anything", "certificate_id": "late", "serial": format!("{n:x}"),
            "drift": [], "served": [], "fullchain_pem": chain,
        })
    };
    let all = async || app.app.store.every::<Found>().await.unwrap();
    tell(&app, &agent, &[shown(0x1000, Some(&late.chain))]).await;
    let refused = all().await.remove(0);
    assert!(refused.refused.as_ref().unwrap().contains("instead"));
    assert_eq!(refused.chain_pem, None, "it is not kept");
    let many: Vec<Value> = (0x1001..0x1001 + 505).map(|n| shown(n, None)).collect();
    for some in many.chunks(50) {
        tell(&app, &agent, some).await;
    }
    assert_eq!(all().await.len(), 500);
    tell(&app, &second, &[shown(1, None)]).await;
    assert_eq!(all().await.len(), 501);
}

#[tokio::test]
async fn what_is_unknown_is_seen_among_very_many_that_were_taken_up() {
    let mut app = TestApp::start().await;
    let (agent, late) = forgotten(&mut app).await;
    let row = |n: usize| Found {
        id: format!("found-{n}").parse().unwrap(),
        certificate: "web".parse().unwrap(),
        agent: agent.id.parse().unwrap(),
        target: late.target.parse().unwrap(),
        serial: format!("{n:x}").parse().unwrap(),
        at: app.now(),
        version: (n < 2_000).then(|| "ver".parse().unwrap()),
        refused: None,
        chain_pem: None,
    };
    let rows: Vec<usize> = (1_000..=2_000).collect();
    for some in rows.chunks(200) {
        let mut unit = app.app.store.unit(app.unit_id(), app.now());
        for n in some {
            unit.insert(row(*n));
        }
        unit.commit().await.unwrap();
    }
    let found = found(&app).await;
    assert_eq!(found["serial_number"], "7d0", "{found}");
    assert_eq!(found["version_id"], Value::Null);
}
