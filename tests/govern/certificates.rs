//! Making and editing certificates, and what follows from it.

use super::request;
use crate::support::{DAY, TestAgent, TestApp, text, time};
use certctl::{agent::protocol::WorkKind, pki::KeyAlgorithm};
use serde_json::{Value, json};

const WEB: &str = "/api/v1/certificates/web";

/// An active certificate `web` on one target of one agent.
async fn active(app: &TestApp) -> (TestAgent, String) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(app).await;
    assert_eq!(app.status("web").await, "Active");
    (agent, target)
}

async fn versions(app: &TestApp) -> Vec<Value> {
    app.list(&format!("{WEB}/versions")).await
}

async fn sans(app: &TestApp) -> Value {
    app.shown("web").await["sans"].clone()
}

#[tokio::test]
async fn labels_are_changed_and_nothing_is_issued() {
    let mut app = TestApp::start().await;
    let (agent, _) = active(&app).await;
    let before = app.shown("web").await;
    let change = json!({
        "name": "The web", "environment": "production", "owner_id": "anybody",
        "team_id": "any team", "tags": {"app": "shop"},
    });
    let edited = app.put(WEB, change.clone()).await.expect(200);
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(edited[field], *value);
    }
    assert_eq!(edited["holders"], before["holders"]);
    assert_eq!(edited["sans"], before["sans"]);
    app.restart().await;
    assert_eq!(app.shown("web").await["tags"], json!({"app": "shop"}));
    app.tick().await;
    assert_eq!(agent.run(&app).await, 0);
    let events = app.list("/api/v1/audit").await;
    let edited = events
        .iter()
        .find(|e| e["action"] == "certificate_edited")
        .unwrap();
    let details = &edited["details"];
    assert_eq!(details["environment"], "\"\" -> \"production\"");
    assert_eq!(details["tags"], "{} -> {\"app\":\"shop\"}");
    assert_eq!(details.get("holders"), None);
    // What changes nothing is no edit, and what is shown may be sent back.
    let seq = app.seq();
    app.put(WEB, json!({"name": "The web"})).await.expect(200);
    let shown = app.shown("web").await;
    assert_eq!(app.put(WEB, shown.clone()).await.expect(200), shown);
    assert_eq!(app.seq(), seq);
    app.check().await;
}

#[tokio::test]
async fn other_names_bring_a_version_at_once() {
    let app = TestApp::start().await;
    let (agent, _) = active(&app).await;
    let edited = app
        .put(WEB, json!({"sans": ["www.example.org"]}))
        .await
        .expect(200);
    assert_eq!(
        edited["sans"],
        json!(["web.example.org", "www.example.org"])
    );
    assert_eq!(time(&edited["holders"][0]["next_at"]), app.now());
    app.tick().await;
    assert_eq!(agent.run(&app).await, 2);
    assert_eq!(versions(&app).await.len(), 2);
    // The common name takes the place of the old one.
    let edited = app
        .put(WEB, json!({"common_name": "shop.example.org"}))
        .await
        .expect(200);
    assert_eq!(
        edited["sans"],
        json!(["shop.example.org", "www.example.org"])
    );
    app.tick().await;
    assert_eq!(agent.run(&app).await, 2);
    assert_eq!(versions(&app).await.len(), 3);
    assert_eq!(app.status("web").await, "Active");
    app.check().await;
}

#[tokio::test]
async fn an_open_order_brings_what_is_wanted_when_its_csr_comes() {
    let app = TestApp::start().await;
    let (cert, key) = crate::api::access::foreign_ca("Corporate");
    let config = json!({"ca_cert_pem": cert, "ca_key_pem": key});
    let body = json!({"id": "corp", "name": "corp", "type": "local", "config": config});
    app.post("/api/v1/issuers", body).await.expect(201);
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let job = agent.job(&app).await;
    let change = json!({"issuer_id": "corp", "sans": ["other.example.org"]});
    app.put(WEB, change).await.expect(200);
    agent.submit_csr(&app, &job).await.expect(202);
    agent.run(&app).await;
    let all = versions(&app).await;
    assert_eq!(all.len(), 1);
    let chain = certctl::pki::Chain::from_pem(&text(&all[0]["pem_chain"])).unwrap();
    assert_eq!(chain.leaf().sans().len(), 2);
    assert!(
        chain
            .leaf()
            .is_issued_by(&certctl::pki::Certificate::from_pem(&cert).unwrap())
    );
    // It is revoked by the CA that issued it.
    app.post(&format!("{WEB}/revoke"), json!({}))
        .await
        .expect(200);
    let events = app.list("/api/v1/audit").await;
    let revoked = events
        .iter()
        .find(|e| e["action"] == "version_revoked")
        .unwrap();
    assert!(text(&revoked["details"]["ca_node"]).starts_with("ca-"));
    assert_ne!(revoked["details"]["ca_node"], "ca-local-issuing");
    app.check().await;
}

#[tokio::test]
async fn a_requester_is_left_to_send_a_csr() {
    let app = TestApp::start().await;
    app.certificate("web", &[]).await;
    let path = format!("{WEB}/versions");
    app.post(&path, request(KeyAlgorithm::EcdsaP256))
        .await
        .expect(201);
    let edited = app
        .put(WEB, json!({"sans": ["www.example.org"]}))
        .await
        .expect(200);
    assert_eq!(edited["holders"][0]["plan"], "exempt");
    let version = app
        .post(&path, request(KeyAlgorithm::EcdsaP256))
        .await
        .expect(201);
    let chain = certctl::pki::Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    assert_eq!(chain.leaf().sans().len(), 2);
    app.check().await;
}

#[tokio::test]
async fn another_policy_moves_the_renewal() {
    let app = TestApp::start().await;
    let _agent = active(&app).await;
    let body = json!({"id": "late", "name": "Late", "renewal_window_days": 5});
    app.post("/api/v1/renewal-policies", body).await.expect(201);
    let edited = app
        .put(WEB, json!({"renewal_policy_id": "late"}))
        .await
        .expect(200);
    let line = &edited["holders"][0];
    let left = time(&line["expires_at"]).since(time(&line["next_at"]));
    assert!(left >= 5 * DAY && left <= 6 * DAY, "{left:?}");
    app.check().await;
}

#[tokio::test]
async fn a_target_that_is_added_gets_the_current_version() {
    let app = TestApp::start().await;
    let (agent, first) = active(&app).await;
    let second = app.target(&agent, "second").await;
    let edited = app
        .put(WEB, json!({"target_ids": [first, second]}))
        .await
        .expect(200);
    assert_eq!(edited["target_ids"], json!([first, second]));
    let job = agent.job(&app).await;
    assert_eq!(job.kind, WorkKind::Deployment);
    agent
        .report(&app, &job, &agent.confirmed(&job))
        .await
        .expect(200);
    assert_eq!(versions(&app).await.len(), 1);
    let deployments = app.list(&format!("{WEB}/deployments")).await;
    assert!(
        deployments
            .iter()
            .all(|d| d["deployment"]["state"] == "confirmed")
    );
    // Taken away and put back.
    app.put(WEB, json!({"target_ids": [first]}))
        .await
        .expect(200);
    assert_eq!(agent.run(&app).await, 0);
    app.put(WEB, json!({"target_ids": [first, second]}))
        .await
        .expect(200);
    assert_eq!(agent.run(&app).await, 1);
    app.check().await;
}

#[tokio::test]
async fn another_agent_makes_a_key_of_its_own() {
    let app = TestApp::start().await;
    let (agent, first) = active(&app).await;
    let other = app.agent("other").await;
    let second = app.target(&other, "second").await;
    let edited = app
        .put(WEB, json!({"target_ids": [first, second]}))
        .await
        .expect(200);
    assert_eq!(edited["holders"].as_array().unwrap().len(), 2);
    assert_eq!(agent.run(&app).await, 0);
    assert_eq!(other.run(&app).await, 2);
    assert_eq!(app.status("web").await, "Active");
    // The first one is moved away from: its line goes.
    let edited = app
        .put(WEB, json!({"target_ids": [second]}))
        .await
        .expect(200);
    let holders = edited["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0]["holder"], format!("agent:{}", other.id));
    app.tick().await;
    assert_eq!(agent.run(&app).await, 0);
    app.check().await;
}

/// What leads to versions wants the permission to issue beside the one to edit.
#[tokio::test]
async fn who_may_edit_and_not_issue_changes_labels_alone() {
    let app = TestApp::start().await;
    let (agent, first) = active(&app).await;
    let second = app.target(&agent, "second").await;
    let permissions = ["cert.read", "cert.edit"].map(|name| json!({"permission": name}));
    let role = json!({"name": "Editors", "permissions": permissions});
    app.post("/api/v1/auth/roles", role).await.expect(201);
    let (_, editor) = app.made_key("editor", &["editors"]).await;
    let put = |body: Value| {
        let call = app.call("PUT", WEB).bearer(&editor).json(&body);
        call.send()
    };
    let seq = app.seq();
    for body in [
        json!({"common_name": "bank.example"}),
        json!({"sans": ["bank.example"]}),
        json!({"target_ids": [first, second]}),
    ] {
        let told = put(body).await.refused(403);
        assert!(told.contains("cert.issue"), "{told}");
    }
    assert_eq!(app.seq(), seq);
    put(json!({"tags": {"a": "b"}})).await.expect(200);
    put(json!({"target_ids": []})).await.expect(200);
}

#[tokio::test]
async fn without_targets_nothing_renews_and_the_line_goes_on_when_they_come_back() {
    let mut app = TestApp::start().await;
    let (agent, target) = active(&app).await;
    app.post(&format!("{WEB}/renew"), json!({}))
        .await
        .expect(202);
    let edited = app.put(WEB, json!({"target_ids": []})).await.expect(200);
    let line = &edited["holders"][0];
    assert_eq!(line["plan"], "exempt");
    assert!(text(&line["reason"]).contains("no target"), "{line}");
    app.step().await;
    app.tick().await;
    assert_eq!(agent.run(&app).await, 0);
    // A requester may have a version meanwhile.
    let path = format!("{WEB}/versions");
    app.post(&path, request(KeyAlgorithm::EcdsaP256))
        .await
        .expect(201);
    let edited = app
        .put(WEB, json!({"target_ids": [target]}))
        .await
        .expect(200);
    let of_agent = edited["holders"].as_array().unwrap().iter();
    let of_agent = of_agent
        .clone()
        .find(|l| l["holder"] != "requester")
        .unwrap();
    assert_eq!(of_agent["plan"], "scheduled");
    assert!(time(&of_agent["next_at"]) > app.now());
    assert_eq!(agent.run(&app).await, 1);
    app.check().await;
}

#[tokio::test]
async fn a_certificate_that_was_outside_can_get_a_target() {
    let app = TestApp::start().await;
    app.certificate("web", &[]).await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let edited = app
        .put(WEB, json!({"target_ids": [target]}))
        .await
        .expect(200);
    assert_eq!(edited["holders"].as_array().unwrap().len(), 1);
    assert_eq!(agent.run(&app).await, 2);
    assert_eq!(app.status("web").await, "Active");
    app.check().await;
}

#[tokio::test]
async fn a_target_of_one_certificate_is_not_given_to_two() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let site = app.site(&agent, "site").await;
    app.certificate("web", &[&site]).await;
    app.certificate("other", &[]).await;
    let path = "/api/v1/certificates/other";
    let told = app
        .put(path, json!({"target_ids": [site]}))
        .await
        .refused(409);
    assert!(told.contains("serves one certificate"), "{told}");
    // It changes hands when the one lets go of it.
    app.put(WEB, json!({"target_ids": []})).await.expect(200);
    app.put(path, json!({"target_ids": [site]}))
        .await
        .expect(200);
    app.check().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_its_field() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[]).await;
    app.certificate("ended", &[]).await;
    app.admin("DELETE", "/api/v1/certificates/ended")
        .send()
        .await
        .expect(204);
    let many = |n: usize| -> Vec<String> { (0..n).map(|n| format!("n{n}.example.org")).collect() };
    let tags = |n: usize| -> Value {
        (0..n)
            .map(|n| (format!("t{n}"), json!("v")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let seq = app.seq();
    for (body, says) in [
        (json!({"name": ""}), "name: 1 to 255"),
        (json!({"name": 7}), "name"),
        (json!({"common_name": ""}), "common_name: "),
        (json!({"common_name": "a b"}), "common_name: "),
        (json!({"common_name": "*.*.example.org"}), "common_name: "),
        (json!({"sans": ["-a.example.org"]}), "sans: "),
        (json!({"sans": ["1.2.3.4.5"]}), "sans: "),
        (json!({"sans": ["a@b@c"]}), "sans: "),
        (json!({"sans": many(100)}), "sans: 100 names at most"),
        (
            json!({"issuer_id": "nosuch"}),
            "issuer_id: there is no nosuch",
        ),
        (
            json!({"certificate_profile_id": "nosuch"}),
            "certificate_profile_id: there is no",
        ),
        (
            json!({"renewal_policy_id": "nosuch"}),
            "renewal_policy_id: there is no nosuch",
        ),
        (
            json!({"target_ids": ["nosuch"]}),
            "target_ids: there is no nosuch",
        ),
        (json!({"target_ids": ["no id"]}), "target_ids: an id is"),
        (
            json!({"target_ids": [target, "nosuch"]}),
            "target_ids: there is no nosuch",
        ),
        (
            json!({"environment": "x".repeat(129)}),
            "environment: 0 to 128",
        ),
        (json!({"owner_id": "a\nb"}), "owner_id: "),
        (json!({"tags": {"": "x"}}), "tags: 1 to 128"),
        (json!({"tags": {"a": "b\u{0}"}}), "tags: "),
        (json!({"tags": tags(65)}), "tags: 64 labels at most"),
        (json!({"tags": {"a": 1}}), "tags"),
        (
            json!({"status": "Active"}),
            "status: it follows from what was done, and is Pending",
        ),
    ] {
        let told = app.put(WEB, body.clone()).await.refused(400);
        assert!(told.contains(says), "{body}: {told}");
    }
    app.put("/api/v1/certificates/nosuch", json!({}))
        .await
        .refused(404);
    let told = app
        .put("/api/v1/certificates/ended", json!({"name": "x"}))
        .await
        .refused(409);
    assert!(told.contains("is archived"), "{told}");
    assert_eq!(app.seq(), seq);
    app.put(WEB, json!({"status": "pending", "tags": tags(64)}))
        .await
        .expect(200);
    // IDNs are A-labels, and each name stands once.
    let names = json!([
        "BÜCHER.example.org",
        "bücher.example.org",
        "a_b.example.org",
        "*.example.org"
    ]);
    app.put(WEB, json!({"sans": names})).await.expect(200);
    let all = [
        "*.example.org",
        "a_b.example.org",
        "web.example.org",
        "xn--bcher-kva.example.org",
    ];
    assert_eq!(sans(&app).await, json!(all));
    app.check().await;
}

#[tokio::test]
async fn lists_are_filtered_by_labels() {
    let app = TestApp::start().await;
    for (id, tags) in [
        ("a", json!({"app": "shop", "tier": "web"})),
        ("b", json!({"app": "shop", "tier": "db"})),
        ("c", json!({"app": "blog"})),
        ("d", json!({})),
    ] {
        let body = json!({"id": id, "name": id, "common_name": "x.example.org", "tags": tags});
        app.post("/api/v1/certificates", body).await.expect(201);
    }
    for (tag, ids, total) in [
        ("app:shop", &["a", "b"][..], 2),
        ("app", &["a", "b", "c"], 3),
        ("app:shop,tier:db", &["b"], 1),
        ("app:sho", &[], 0),
        ("ap", &[], 0),
        ("", &["a", "b", "c", "d"], 4),
    ] {
        let page = app.get(&format!("/api/v1/certificates?tag={tag}")).await;
        let rows = page["data"].as_array().unwrap().iter();
        let found: Vec<String> = rows.map(|row| text(&row["id"])).collect();
        assert_eq!(found, ids, "{tag}");
        assert_eq!(page["total"], total, "{tag}");
    }
    app.put("/api/v1/certificates/c", json!({"tags": {}}))
        .await
        .expect(200);
    assert_eq!(app.list("/api/v1/certificates?tag=app").await.len(), 2);
    let of_policy = app
        .list("/api/v1/certificates?renewal_policy_id=rp-default")
        .await;
    assert_eq!(of_policy.len(), 4);
    let many = ["a"; 9].join(",");
    let path = format!("/api/v1/certificates?tag={many}");
    app.admin("GET", &path).send().await.refused(400);
}
