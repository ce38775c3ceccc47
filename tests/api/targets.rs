//! Targets that are edited.

use crate::support::{TestApp, text};
use serde_json::{Value, json};

async fn edit(app: &TestApp, id: &str, body: Value) -> crate::support::Answer {
    let path = format!("/api/v1/targets/{id}");
    app.admin("PUT", &path).json(&body).send().await
}

#[tokio::test]
async fn another_configuration_is_deployed_to_and_another_name_is_not() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    for id in ["a", "b", "none"] {
        app.certificate(id, &[&target]).await;
    }
    app.post("/api/v1/certificates/none/revoke", json!({}))
        .await;
    let jobs = agent.work(&app).await;
    for job in &jobs {
        if job.certificate_id.as_ref().unwrap().as_str() != "none" {
            agent.submit_csr(&app, job).await.expect(202);
        }
    }
    assert_eq!(agent.run(&app).await, 2);
    let renamed = edit(&app, &target, json!({"name": "shop"}))
        .await
        .expect(200);
    assert_eq!(renamed["name"], "shop");
    assert!(agent.work(&app).await.is_empty());

    let config = json!({"verify_timeout": "9s"});
    let edited = edit(&app, &target, json!({"config": config}))
        .await
        .expect(200);
    assert_eq!(edited["config"], config);
    assert_eq!(edited["name"], "shop");
    let jobs = agent.work(&app).await;
    assert_eq!(jobs.len(), 2);
    for job in &jobs {
        assert_eq!(job.target_config.as_ref().unwrap(), &config);
        assert_eq!(job.target_type.as_deref(), Some("File"));
    }
    // While that goes on nothing else begins.
    let told = edit(&app, &target, json!({"config": {}}))
        .await
        .refused(409);
    assert!(told.contains("going on"), "{told}");
    for job in &jobs {
        let outcome = agent.confirmed(job);
        agent.report(&app, job, &outcome).await.expect(200);
    }
    edit(&app, &target, json!({"config": {}})).await.expect(200);
    assert_eq!(agent.run(&app).await, 2);
    // The same again changes nothing.
    let before = app.seq();
    let shown = app.get(&format!("/api/v1/targets/{target}")).await;
    edit(&app, &target, shown).await.expect(200);
    assert_eq!(app.seq(), before);
    app.check().await;
}

#[tokio::test]
async fn an_edit_that_cannot_be_is_refused_with_the_field() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let other = app.agent("other").await;
    let target = app.target(&agent, "web").await;
    app.target(&agent, "taken").await;
    for id in ["a", "b"] {
        app.certificate(id, &[&target]).await;
    }
    let before = app.seq();
    let site = json!({"type": "Site", "config": {"listen": "127.0.0.1:9443"}});
    for (body, status, says) in [
        (json!({"name": ""}), 400, "name: "),
        (json!({"name": "taken"}), 409, "name: "),
        (json!({"type": "Nope"}), 400, "type: "),
        (json!({"config": {"nope": 1}}), 400, "config: "),
        (json!({"config": []}), 400, "config: "),
        (json!({"agent_id": other.id}), 400, "agent_id: "),
        (json!({"enabled": false}), 400, "enabled: "),
        (site, 409, "serves one certificate"),
    ] {
        let told = edit(&app, &target, body.clone()).await.refused(status);
        assert!(told.contains(says), "{body}: {told}");
    }
    edit(&app, "nosuch", json!({})).await.refused(404);
    assert_eq!(app.seq(), before);
    app.admin(
        "DELETE",
        &format!("/api/v1/agents/{}?force=true&reason=x", agent.id),
    )
    .send()
    .await
    .expect(200);
    app.tick().await;
    let told = edit(&app, &target, json!({"name": "late"}))
        .await
        .refused(409);
    assert!(told.contains("retired"), "{told}");
    assert_eq!(
        text(&app.get(&format!("/api/v1/targets/{target}")).await["name"]),
        "web"
    );
}
