//! What the API answers, field by field.

use crate::support::{Answer, DAY, HOUR, MINUTE, TestAgent, TestApp, text, time};
use certctl::{
    agent::protocol::{Outcome, Served},
    pki::{Certificate, Chain, San},
    store::{AUDIT, link},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The fields of an object, exactly.
#[track_caller]
fn fields(value: &Value, expected: &[&str]) {
    let found: BTreeSet<&str> = value
        .as_object()
        .unwrap_or_else(|| panic!("{value} is no object"))
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(found, expected.iter().copied().collect());
}

const CERTIFICATE: [&str; 17] = [
    "id",
    "name",
    "common_name",
    "sans",
    "environment",
    "owner_id",
    "team_id",
    "issuer_id",
    "target_ids",
    "renewal_policy_id",
    "certificate_profile_id",
    "status",
    "expires_at",
    "tags",
    "holders",
    "created_at",
    "updated_at",
];

fn certificate_and(more: &[&'static str]) -> Vec<&'static str> {
    CERTIFICATE.iter().chain(more).copied().collect()
}

/// An app with a certificate `web` on one target, not issued yet.
async fn world() -> (TestApp, TestAgent, String) {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let body = json!({
        "id": "web", "name": "Web", "common_name": "WWW.Example.org",
        "sans": ["example.org", "192.0.2.1", "www.example.org"], "environment": "production",
        "owner_id": "o-ops", "team_id": "t-ops", "target_ids": [target],
        "tags": {"tier": "1"}, "unknown": [1, 2],
    });
    app.post("/api/v1/certificates", body).await.expect(201);
    (app, agent, target)
}

#[tokio::test]
async fn a_certificate() {
    let (app, agent, target) = world().await;
    let shown = app.shown("web").await;
    fields(&shown, &certificate_and(&["next"]));
    let expected = json!({
        "id": "web", "name": "Web", "common_name": "www.example.org",
        "sans": ["example.org", "www.example.org", "192.0.2.1"], "environment": "production",
        "owner_id": "o-ops", "team_id": "t-ops", "issuer_id": "iss-local",
        "target_ids": [target], "renewal_policy_id": "rp-default",
        "certificate_profile_id": "prof-default", "status": "Pending",
        "expires_at": "0001-01-01T00:00:00Z", "tags": {"tier": "1"},
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "next": format!("agent {} is making a key and CSR", agent.id),
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(shown[field], *value, "{field}");
    }
    let holder = &shown["holders"][0];
    fields(holder, &["holder", "plan", "order_id"]);
    assert_eq!(holder["holder"], format!("agent:{}", agent.id));
    assert_eq!(holder["plan"], "in_flight");

    agent.run(&app).await;
    let shown = app.shown("web").await;
    fields(&shown, &certificate_and(&["next"]));
    assert_eq!(shown["status"], "Active");
    let holder = &shown["holders"][0];
    let scheduled = [
        "holder",
        "version_id",
        "serial_number",
        "expires_at",
        "plan",
        "next_at",
    ];
    fields(holder, &scheduled);
    assert_eq!(holder["plan"], "scheduled");
    assert_eq!(holder["expires_at"], shown["expires_at"]);
    assert_eq!(time(&shown["expires_at"]), app.now().plus(90 * DAY));
    assert_eq!(
        text(&shown["next"]),
        format!("renewal at {}", time(&holder["next_at"]).whole_seconds())
    );
}

#[tokio::test]
async fn a_list() {
    let app = TestApp::start().await;
    for list in ["certificates", "targets"] {
        let list = app.get(&format!("/api/v1/{list}")).await;
        assert_eq!(
            list,
            json!({"data": [], "total": 0, "page": 1, "per_page": 50})
        );
    }
    for n in 0..7 {
        app.certificate(&format!("c{n}"), &[]).await;
        app.advance(MINUTE);
    }
    let page = app.get("/api/v1/certificates?page=2&per_page=3").await;
    fields(&page, &["data", "total", "page", "per_page"]);
    assert_eq!(
        (&page["total"], &page["page"], &page["per_page"]),
        (&json!(7), &json!(2), &json!(3))
    );
    let ids: Vec<String> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| text(&c["id"]))
        .collect();
    assert_eq!(ids, ["c3", "c4", "c5"]);
    fields(&page["data"][0], &CERTIFICATE);
    let last = app.get("/api/v1/certificates?page=3&per_page=3").await;
    assert_eq!(last["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_version_is_what_the_certificate_says() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    let versions = app.list("/api/v1/certificates/web/versions").await;
    assert_eq!(versions.len(), 1);
    let version = &versions[0];
    fields(
        version,
        &[
            "id",
            "certificate_id",
            "holder",
            "serial_number",
            "not_before",
            "not_after",
            "fingerprint_sha256",
            "pem_chain",
            "key_algorithm",
            "created_at",
        ],
    );
    let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    let leaf = chain.leaf();
    assert_eq!(version["certificate_id"], "web");
    assert_eq!(version["serial_number"], leaf.serial().to_string());
    assert_eq!(version["fingerprint_sha256"], leaf.fingerprint_sha256());
    assert_eq!(version["not_before"], leaf.not_before().to_string());
    assert_eq!(version["not_after"], leaf.not_after().to_string());
    assert_eq!(version["key_algorithm"], "ECDSA-P256");
    let names: Vec<San> = ["example.org", "www.example.org", "192.0.2.1"]
        .map(|n| n.parse().unwrap())
        .into();
    assert_eq!(leaf.sans(), names);
    assert!(leaf.subject().contains("www.example.org"));
    let issuer: Vec<&Certificate> = chain.issuers().collect();
    assert_eq!(
        issuer.len(),
        1,
        "the chain has the issuing CA and not the root"
    );
    assert!(leaf.is_issued_by(issuer[0]));
}

#[tokio::test]
async fn versions_are_listed_newest_first_each_with_its_own_chain() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    for _ in 0..3 {
        app.advance(HOUR);
        app.post("/api/v1/certificates/web/renew", Value::Null)
            .await
            .expect(202);
        agent.run(&app).await;
    }
    let page = app
        .list("/api/v1/certificates/web/versions?page=2&per_page=1")
        .await;
    let all = app.list("/api/v1/certificates/web/versions").await;
    assert_eq!(all.len(), 4);
    assert_eq!(page, all[1..2]);
    assert!(all.is_sorted_by_key(|v| std::cmp::Reverse(time(&v["created_at"]))));
    for version in all {
        let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
        assert_eq!(version["serial_number"], chain.leaf().serial().to_string());
    }
}

#[tokio::test]
async fn a_long_common_name_stands_among_the_sans_alone() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let name = format!("{}.{}.example.org", "a".repeat(40), "b".repeat(40));
    let body = json!({"id": "long", "name": "n", "common_name": name, "target_ids": [target]});
    app.post("/api/v1/certificates", body).await.expect(201);
    agent.run(&app).await;
    let version = &app.list("/api/v1/certificates/long/versions").await[0];
    let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    assert_eq!(chain.leaf().sans(), [San::Dns(name)]);
    assert_eq!(chain.leaf().subject(), "");
}

#[tokio::test]
async fn an_order() {
    let (app, agent, target) = world().await;
    let order = text(&app.shown("web").await["holders"][0]["order_id"]);
    let path = format!("/api/v1/orders/{order}");
    let always = [
        "id",
        "certificate_id",
        "holder",
        "attempt",
        "state",
        "opened_at",
        "deployments",
    ];
    let shown = app.get(&path).await;
    fields(&shown, &always);
    assert_eq!(
        (&shown["state"], &shown["attempt"]),
        (&json!("open"), &json!(1))
    );
    assert_eq!(shown["deployments"], json!([]));

    let issuance = agent.job(&app).await;
    agent.submit_csr(&app, &issuance).await.expect(202);
    let shown = app.get(&path).await;
    let issued: Vec<&str> = always.into_iter().chain(["serial_number"]).collect();
    fields(&shown, &issued);
    assert_eq!(shown["state"], "issued");
    let deployment = &shown["deployments"][0];
    fields(
        deployment,
        &["target_id", "target_name", "serial_number", "state"],
    );
    assert_eq!(deployment["target_id"], target.as_str());
    assert_eq!(deployment["target_name"], "web");
    assert_eq!(deployment["state"], "pending");
    assert_eq!(deployment["serial_number"], shown["serial_number"]);
}

#[tokio::test]
async fn a_failed_order_says_why_and_when_again() {
    let (app, agent, _) = world().await;
    let order = text(&app.shown("web").await["holders"][0]["order_id"]);
    let issuance = agent.job(&app).await;
    let failed = Outcome::Failed {
        class: certctl::agent::protocol::FailureClass::Operator,
        reason: "no room for a key".into(),
    };
    agent.report(&app, &issuance, &failed).await.expect(200);
    let shown = app.get(&format!("/api/v1/orders/{order}")).await;
    assert_eq!(shown["state"], "failed");
    assert_eq!(shown["error"], "no room for a key");
    assert_eq!(time(&shown["retry_at"]), app.now().plus(HOUR));
    let shown = app.shown("web").await;
    assert_eq!(shown["status"], "Failed");
    assert_eq!(
        shown["problem"],
        "the last attempt failed: no room for a key"
    );
    assert_eq!(shown["holders"][0]["last_error"], "no room for a key");
}

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
    fields(&shown, &plain);
    let expected = json!({
        "id": target, "name": "web", "type": "File", "agent_id": agent.id, "config": {},
        "enabled": true, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    });
    assert_eq!(shown, expected);
    assert_eq!(app.list("/api/v1/targets").await, [expected.clone()]);
    let of_certificate = "/api/v1/certificates/web/deployments";
    assert_eq!(app.list(of_certificate).await, [expected]);

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
    assert_eq!(
        shown["deployment"],
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
            "certctl agent enrol --server https://certctl.example.org:8443 --token {secret} \
             --ca-pin {pin}"
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
async fn a_renewal_points_to_its_order_and_is_opened_once() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    let renew = || app.admin("POST", "/api/v1/certificates/web/renew").send();
    let (first, second) = tokio::join!(renew(), renew());
    let place = |a: &Answer| a.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(place(&first), place(&second));
    let place = place(&first);
    let first = first.expect(202);
    fields(&first, &["status", "order_ids"]);
    assert_eq!(first["status"], "renewal_triggered");
    assert_eq!(first, second.expect(202));
    assert_eq!(app.get(&place).await["id"], first["order_ids"][0]);
    assert_eq!(app.status("web").await, "RenewalInProgress");
    app.check().await;
}

#[tokio::test]
async fn a_renewal_without_an_agent_says_what_to_do() {
    let app = TestApp::start().await;
    app.certificate("outside", &[]).await;
    let renew = app.post("/api/v1/certificates/outside/renew", Value::Null);
    let message = renew.await.refused(409);
    assert!(
        message.contains("target") && message.contains("CSR"),
        "{message}"
    );
}

#[tokio::test]
async fn a_requesters_csr_is_answered_with_a_version_once_per_key() {
    let (app, agent, _) = world().await;
    let job = agent.job(&app).await;
    let (csr, other) = (agent.make_csr(&job), agent.make_csr(&job));
    app.certificate("outside", &[]).await;
    let ask = |csr: &str, key: &str| {
        let call = app.admin("POST", "/api/v1/certificates/outside/versions");
        call.header("idempotency-key", key)
            .json(&json!({"csr_pem": csr}))
            .send()
    };
    let (first, again) = tokio::join!(ask(&csr, "k1"), ask(&csr, "k1"));
    let first = first.expect(201);
    assert_eq!(again.expect(201), first);
    assert_eq!(first["holder"], "requester");
    assert!(text(&first["pem_chain"]).starts_with("-----BEGIN CERTIFICATE-----"));
    ask(&other, "k1").await.refused(409);
    let second = ask(&csr, "k2").await.expect(201);
    assert_ne!(second["serial_number"], first["serial_number"]);
    let shown = app.shown("outside").await;
    assert_eq!(shown["holders"][0]["plan"], "exempt");
    assert!(shown["holders"][0]["reason"].is_string());
    assert_eq!(
        shown["holders"][0]["serial_number"],
        second["serial_number"]
    );
    assert_eq!(
        app.list("/api/v1/certificates/outside/versions")
            .await
            .len(),
        2
    );
    app.check().await;
}

#[tokio::test]
async fn a_certificate_may_come_with_its_first_csr() {
    let (app, agent, _) = world().await;
    let csr = agent.make_csr(&agent.job(&app).await);
    let body = json!({"id": "o", "name": "o", "common_name": "o.example.org", "csr_pem": csr});
    let made = app.post("/api/v1/certificates", body).await.expect(201);
    assert_eq!(made["status"], "Active");
    let version = &app.list("/api/v1/certificates/o/versions").await[0];
    let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    // The CSR asked for other names; the certificate's own are what is issued.
    assert_eq!(chain.leaf().sans(), [San::Dns("o.example.org".into())]);
}

#[tokio::test]
async fn a_target_named_twice_is_one_target() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target, &target]).await;
    agent.run(&app).await;
    assert_eq!(app.shown("web").await["target_ids"], json!([target]));
    assert_eq!(
        app.list("/api/v1/certificates/web/deployments").await.len(),
        1
    );
    app.check().await;
}

#[tokio::test]
async fn the_audit_log() {
    let (app, agent, target) = world().await;
    agent.run(&app).await;
    let list = app.get("/api/v1/audit?per_page=3").await;
    fields(&list, &["data", "total", "page", "per_page"]);
    let total = list["total"].as_u64().unwrap();
    let events = list["data"].as_array().unwrap();
    for (event, n) in events.iter().zip((0..=total).rev()) {
        fields(
            event,
            &[
                "id",
                "actor",
                "actor_type",
                "action",
                "resource_type",
                "resource_id",
                "details",
                "timestamp",
                "event_category",
            ],
        );
        assert_eq!(event["id"], format!("audit-{n}"));
    }
    let issued = &app.list("/api/v1/audit").await[1];
    let serial = &app.shown("web").await["holders"][0]["serial_number"];
    assert_eq!(issued["action"], "certificate_issued");
    assert_eq!(issued["actor"], "host");
    assert_eq!(issued["actor_type"], "Agent");
    assert_eq!(issued["resource_type"], "certificate");
    assert_eq!(issued["resource_id"], "web");
    assert_eq!(issued["event_category"], "cert_lifecycle");
    assert_eq!(issued["details"]["serial"], *serial);
    let confirmed = &events[0];
    assert_eq!(confirmed["action"], "deployment_confirmed");
    assert_eq!(confirmed["details"]["target"], target.as_str());
    // Every page, put together, is the whole log without a gap.
    let mut ids = Vec::new();
    for page in 1.. {
        let rows = app
            .list(&format!("/api/v1/audit?per_page=4&page={page}"))
            .await;
        if rows.is_empty() {
            break;
        }
        ids.extend(rows.iter().map(|e| text(&e["id"])));
    }
    let whole: Vec<String> = (1..=total).rev().map(|n| format!("audit-{n}")).collect();
    assert_eq!(ids, whole);
}

#[tokio::test]
async fn each_event_is_linked_to_the_one_before() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    let mut entries = app.app.store.tail(AUDIT, u64::MAX, 1000).await.unwrap();
    entries.reverse();
    assert!(entries.len() > 8);
    let mut before = [0; 32];
    for entry in &entries {
        assert_eq!(link(AUDIT, &before, entry.number, &entry.doc), entry.link);
        before = entry.link;
    }
    let verified = app.app.store.verify_stream(AUDIT).await.unwrap();
    assert_eq!(verified, entries.len() as u64);
}

#[tokio::test]
async fn no_secret_is_in_the_audit_log() {
    let app = TestApp::start().await;
    let token = app.join_token(json!({})).await;
    let agent = TestAgent::enrol(&app, "host", &token).await;
    let session = app.app.sign_in(app.admin_key()).await.unwrap();
    let log = app.get("/api/v1/audit").await.to_string();
    let credential = agent.credential();
    let secret = credential.rsplit_once('.').unwrap().1;
    for secret in [&token, app.admin_key(), secret, &session] {
        assert!(!log.contains(secret));
    }
}

#[tokio::test]
async fn health_and_readiness() {
    let app = TestApp::start().await;
    let get = |path| app.call("GET", path).send();
    assert_eq!(
        get("/health").await.expect(200),
        json!({"status": "healthy"})
    );
    let ready = json!({"status": "ready", "db": "reachable"});
    assert_eq!(get("/ready").await.expect(200), ready);
    app.app.tasks.shutdown(MINUTE).await;
    assert_eq!(get("/ready").await.expect(503)["status"], "db_unavailable");
    get("/health").await.expect(200);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers_and_a_name() {
    let app = TestApp::start().await;
    let mut names = BTreeSet::new();
    for path in [
        "/health",
        "/api/v1/certificates",
        "/api/v1/nothing",
        "/nothing",
    ] {
        let answer = app.call("GET", path).send().await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        assert_eq!(
            header("strict-transport-security"),
            "max-age=31536000; includeSubDomains"
        );
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(header("content-security-policy").starts_with("default-src 'self'"));
        names.insert(header("x-request-id"));
    }
    assert_eq!(names.len(), 4, "two requests of one name");
}
