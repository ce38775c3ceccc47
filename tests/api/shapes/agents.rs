//! Targets, deployments, join tokens, work.

use super::*;

#[tokio::test]
async fn a_target_and_its_deployment() {
    let (app, agent, target) = world().await;
    let plain = [
        "id",
        "name",
        "type",
        "agent_id",
        "config",
        "enabled",
        "created_at",
        "updated_at",
    ];
    let shown = app.get(&format!("/api/v1/targets/{target}")).await;
    let expected = json!({
        "id": target, "name": "web", "type": "File", "agent_id": agent.id, "config": {},
        "enabled": true, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z", "test_status": "untested",
    });
    assert_eq!(shown, expected);
    assert_eq!(
        app.list("/api/v1/targets").await,
        std::slice::from_ref(&expected)
    );
    let of_certificate = "/api/v1/certificates/web/deployments";
    let mut of_this = expected.clone();
    of_this.as_object_mut().unwrap().remove("test_status");
    assert_eq!(app.list(of_certificate).await, [of_this]);

    let issuance = agent.job(&app).await;
    agent.submit_csr(&app, &issuance).await.expect(202);
    let job = agent.job(&app).await;
    let outcome = Outcome::RolledBack {
        reason: "the old one is still served".into(),
        served: vec![Served {
            endpoint: "127.0.0.1:443".into(),
            serial: Some("0a".into()),
            fingerprint_sha256: None,
            error: None,
        }],
    };
    agent.report(&app, &job, &outcome).await.expect(200);
    let shown = &app.list(of_certificate).await[0];
    let with_deployment: Vec<&str> = plain.into_iter().chain(["deployment"]).collect();
    fields(shown, &with_deployment);
    let version = job.version.unwrap();
    let mut shown = shown["deployment"].clone();
    let attempt = shown.as_object_mut().unwrap().remove("last_attempt");
    fields(
        &attempt.unwrap(),
        &[
            "job_id",
            "attempt",
            "agent_id",
            "outcome",
            "reason",
            "served",
            "started_at",
            "ended_at",
            "duration_ms",
        ],
    );
    assert_eq!(
        shown,
        json!({
            "target_id": target, "target_name": "web", "serial_number": version.serial,
            "state": "failed", "at": "2026-01-01T00:00:00Z",
            "error": "the old one is still served",
            "still_served": [{"endpoint": "127.0.0.1:443", "serial_number": "0a"}],
            "retry_at": "2026-01-01T01:00:00Z",
        })
    );
    assert_eq!(
        app.shown("web").await["problem"],
        "web: the old one is still served"
    );
}

#[tokio::test]
async fn a_confirmed_deployment_says_where() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    let deployment =
        app.list("/api/v1/certificates/web/deployments").await[0]["deployment"].clone();
    fields(
        &deployment,
        &[
            "target_id",
            "target_name",
            "serial_number",
            "state",
            "at",
            "confirmed_at",
            "last_attempt",
        ],
    );
    assert_eq!(deployment["state"], "confirmed");
    assert_eq!(deployment["confirmed_at"], json!(["127.0.0.1:443"]));
}

#[tokio::test]
async fn a_join_token_and_an_enrolment() {
    let app = TestApp::start().await;
    let call = app.admin("POST", "/api/v1/agents/tokens");
    let call = call
        .header("host", "certctl.example.org:8443")
        .json(&json!({}));
    let token = call.send().await.expect(201);
    fields(&token, &["id", "token", "expires_at", "ca_pin", "command"]);
    let (secret, pin) = (text(&token["token"]), text(&token["ca_pin"]));
    assert!(secret.starts_with("ctj_") && text(&token["id"]).starts_with("tok-"));
    assert_eq!(pin.strip_prefix("sha256:").unwrap().len(), 64);
    assert_eq!(
        text(&token["command"]),
        format!(
            "echo {secret} | certctl agent enrol --server https://certctl.example.org:8443 \
             --ca-pin {pin} --token-file -"
        )
    );
    let wish = TestAgent::wish("host", &secret, "secret");
    let enrol = app.call("POST", "/api/v1/agents/enrol").json(&wish);
    let enrolled = enrol.send().await.expect(201);
    fields(&enrolled, &["agent_id", "system_ca_pem", "server_time"]);
    assert_eq!(enrolled["server_time"], "2026-01-01T00:00:00Z");
    let ca = Certificate::from_pem(&text(&enrolled["system_ca_pem"])).unwrap();
    assert!(ca.is_ca());
    assert_eq!(pin, format!("sha256:{}", ca.spki_sha256()));
}

#[tokio::test]
async fn work_and_what_is_said_about_it() {
    let (app, agent, target) = world().await;
    let work = agent.call(&app, "GET", "work").send().await.expect(200);
    fields(&work, &["jobs", "count"]);
    let item = &work["jobs"][0];
    let issuance = [
        "id",
        "type",
        "certificate_id",
        "status",
        "lease",
        "common_name",
        "sans",
        "key_algorithm",
    ];
    fields(item, &issuance);
    fields(&item["lease"], &["token", "until", "seconds"]);
    assert_eq!(
        (&item["type"], &item["status"]),
        (&json!("Issuance"), &json!("Running"))
    );
    assert_eq!(item["lease"]["until"], "2026-01-01T00:01:00Z");
    assert_eq!(item["lease"]["seconds"], 60);
    assert!(item["lease"]["token"].is_string());

    let item = serde_json::from_value(item.clone()).unwrap();
    let renewed = agent.about(&app, &item, "lease", json!({})).await;
    assert_eq!(
        renewed.expect(200),
        json!({"until": "2026-01-01T00:01:00Z", "cancel": false})
    );
    let taken = agent.submit_csr(&app, &item).await.expect(202);
    assert_eq!(taken, json!({"status": "csr_accepted"}));

    let work = agent.call(&app, "GET", "work").send().await.expect(200);
    let item = &work["jobs"][0];
    fields(
        item,
        &[
            "id",
            "type",
            "certificate_id",
            "status",
            "lease",
            "target_id",
            "target_type",
            "target_config",
            "version",
        ],
    );
    assert_eq!(item["type"], "Deployment");
    assert_eq!(item["target_id"], target.as_str());
    fields(
        &item["version"],
        &[
            "id",
            "serial",
            "fingerprint_sha256",
            "spki_sha256",
            "fullchain_pem",
        ],
    );
    let item = serde_json::from_value(item.clone()).unwrap();
    let outcome = agent.confirmed(&item);
    let taken = agent.report(&app, &item, &outcome).await.expect(200);
    assert_eq!(taken, json!({"status": "updated"}));
    assert_eq!(
        agent.call(&app, "GET", "work").send().await.expect(200),
        json!({"jobs": [], "count": 0})
    );
}

#[tokio::test]
async fn a_join_token_among_others() {
    let app = TestApp::start().await;
    let new = json!({
        "name": "rack 7", "max_uses": 2, "replace": true, "for": "web-*",
        "expires_in_seconds": 600,
    });
    let made = app.post("/api/v1/agents/tokens", new).await.expect(201);
    let token = text(&made["token"]);
    let path = format!("/api/v1/agents/tokens/{}", text(&made["id"]));
    let mut expected = json!({
        "id": made["id"], "name": "rack 7", "state": "valid", "uses": 0, "max_uses": 2,
        "replace": true, "for": "web-*", "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-01T00:10:00Z",
    });
    assert_eq!(app.get(&path).await, expected);
    let list = app.get("/api/v1/agents/tokens").await;
    fields(&list, &["data", "total", "page", "per_page"]);
    assert_eq!(list["data"], json!([expected]));
    assert!(
        !list.to_string().contains(&token),
        "the secret is shown once"
    );
    TestAgent::enrol(&app, "web-1", &token).await;
    let wish = TestAgent::wish("db-1", &token, "s");
    let other = app.call("POST", "/api/v1/agents/enrol").json(&wish);
    assert!(other.send().await.refused(403).contains("web-*"));
    expected["uses"] = 1.into();
    assert_eq!(app.get(&path).await, expected);
    TestAgent::enrol(&app, "web-2", &token).await;
    assert_eq!(app.get(&path).await["state"], "used_up");

    app.advance(MINUTE);
    let other = app
        .post("/api/v1/agents/tokens", json!({}))
        .await
        .expect(201);
    let other = format!("/api/v1/agents/tokens/{}", text(&other["id"]));
    app.advance(HOUR);
    let shown = app.get(&other).await;
    assert_eq!(shown["state"], "expired");
    assert_eq!(shown.get("for"), None);
    let before = app.seq();
    assert_eq!(app.admin("DELETE", &other).send().await.status, 204);
    assert_ne!(app.seq(), before);
    let before = app.seq();
    assert_eq!(app.admin("DELETE", &other).send().await.status, 204);
    assert_eq!(app.seq(), before, "a repetition changed something");
    let shown = app.get(&other).await;
    assert_eq!(shown["state"], "revoked");
    assert_eq!(shown["revoked_at"], "2026-01-01T01:01:00Z");
    let page = app.get("/api/v1/agents/tokens?page_size=1&cursor=").await;
    assert_eq!(page["data"][0]["id"], shown["id"], "newest first");
    let next = text(&page["next_cursor"]);
    let page = format!("/api/v1/agents/tokens?page_size=1&cursor={next}");
    let page = app.get(&page).await;
    fields(&page, &["data", "total", "page_size"]);
    assert_eq!(page["data"][0]["name"], "rack 7");
    assert_eq!(app.actions().await.last().unwrap(), "join_token_revoked");
}

#[tokio::test]
async fn an_agent() {
    let (app, agent, target) = world().await;
    let listed = [
        "id",
        "name",
        "hostname",
        "status",
        "last_heartbeat_at",
        "registered_at",
        "os",
        "architecture",
        "ip_address",
        "version",
        "version_skew",
        "credential_since",
        "problems",
        "counts",
    ];
    fields(&app.list("/api/v1/agents").await[0], &listed);
    let shown = app.get(&format!("/api/v1/agents/{}", agent.id)).await;
    let with_more: Vec<&str> = listed
        .into_iter()
        .chain(["targets", "certificates", "jobs"])
        .collect();
    fields(&shown, &with_more);
    assert_eq!(shown["hostname"], "host.test");
    assert_eq!(shown["registered_at"], "2026-01-01T00:00:00Z");
    assert_eq!(shown["credential_since"], "2026-01-01T00:00:00Z");
    assert_eq!(
        shown["targets"],
        json!([{"id": target, "name": "web", "type": "File"}])
    );
    assert_eq!(shown["certificates"], json!([{"id": "web", "name": "Web"}]));
    fields(
        &shown["jobs"][0],
        &["id", "type", "certificate_id", "status", "attempts"],
    );
    let pong = agent.call(&app, "GET", "ping").send().await.expect(200);
    assert_eq!(
        pong,
        json!({
            "agent_id": agent.id, "name": "host", "server_version": env!("CARGO_PKG_VERSION"),
            "server_time": "2026-01-01T00:00:00Z", "credential_since": "2026-01-01T00:00:00Z",
        })
    );
}
