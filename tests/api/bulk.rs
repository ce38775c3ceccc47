//! Many certificates in one call.

use super::issuers::csr;
use crate::support::{TestApp, text};
use serde_json::{Value, json};

/// Certificates of requesters, `n` of each of two teams, all with a version.
async fn world(n: usize) -> TestApp {
    let app = TestApp::start().await;
    let csr = csr();
    for i in 0..n {
        for team in ["red", "blue"] {
            let id = format!("{team}-{i}");
            let body = json!({
                "id": id, "name": id, "common_name": format!("{id}.example.org"),
                "team_id": team, "owner_id": "o-1", "csr_pem": csr,
            });
            app.post("/api/v1/certificates", body).await.expect(201);
        }
    }
    app
}

async fn bulk(app: &TestApp, verb: &str, body: Value) -> Value {
    let path = format!("/api/v1/certificates/bulk-{verb}");
    app.post(&path, body).await.expect(200)
}

fn counts(answer: &Value, done: &str) -> [u64; 4] {
    ["matched", done, "skipped", "failed"].map(|c| answer[format!("total_{c}")].as_u64().unwrap())
}

#[tokio::test]
async fn all_that_fit_are_revoked_and_the_rest_is_not() {
    let app = world(3).await;
    app.post("/api/v1/certificates/red-0/revoke", json!({}))
        .await
        .expect(200);
    app.certificate("red-x", &[]).await;
    let done = bulk(
        &app,
        "revoke",
        json!({"reason": "superseded", "team_id": "red"}),
    )
    .await;
    assert_eq!(counts(&done, "revoked"), [3, 2, 1, 0], "{done}");
    assert!(done.get("errors").is_none());
    for id in ["red-1", "red-2"] {
        let shown = app.shown(id).await;
        assert_eq!(shown["status"], "Revoked");
        assert_eq!(shown["revocation_reason"], "superseded");
    }
    assert_eq!(app.status("blue-1").await, "Active");
    // Every part must fit; an id counts once, and one that is not there is told.
    let named = json!({
        "reason": "keyCompromise", "team_id": "blue", "issuer_id": "iss-local",
        "certificate_ids": ["blue-0", "blue-0", "red-1", "nosuch", "blue-0"],
    });
    let done = bulk(&app, "revoke", named).await;
    assert_eq!(counts(&done, "revoked"), [1, 1, 0, 1], "{done}");
    assert_eq!(done["errors"][0]["certificate_id"], "nosuch");
    // One without a version cannot be revoked, and says why.
    let named = json!({"reason": "superseded", "certificate_ids": ["red-x"]});
    let done = bulk(&app, "revoke", named).await;
    assert_eq!(counts(&done, "revoked"), [1, 0, 0, 1], "{done}");
    assert!(text(&done["errors"][0]["error"]).contains("version"));
    let newest = &app.list("/api/v1/audit").await[0];
    assert_eq!(newest["action"], "certificates_bulk_revoked");
    assert_eq!(newest["details"]["failed"], "1");
    app.check().await;
}

/// More than one page of them.
#[tokio::test]
async fn there_is_no_limit_to_how_many_fit() {
    let app = world(280).await;
    let done = bulk(
        &app,
        "revoke",
        json!({"reason": "superseded", "owner_id": "o-1"}),
    )
    .await;
    assert_eq!(counts(&done, "revoked"), [560, 560, 0, 0]);
    let left = app
        .get("/api/v1/certificates?status=Active&per_page=1")
        .await;
    assert_eq!(left["total"], 0);
}

#[tokio::test]
async fn renewing_many_queues_a_job_for_each_that_an_agent_holds() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    for id in ["a", "b", "c"] {
        app.certificate(id, &[&target]).await;
    }
    agent.run(&app).await;
    app.certificate("outside", &[]).await;
    app.post("/api/v1/certificates/c/revoke", json!({}))
        .await
        .expect(200);
    app.post("/api/v1/certificates/b/renew", json!({}))
        .await
        .expect(202);
    let done = bulk(&app, "renew", json!({"agent_id": agent.id})).await;
    assert_eq!(counts(&done, "enqueued"), [3, 1, 2, 0], "{done}");
    let job = &done["enqueued_jobs"][0];
    assert_eq!(job["certificate_id"], "a");
    let job = app
        .get(&format!("/api/v1/jobs/{}", text(&job["job_id"])))
        .await;
    assert_eq!(job["type"], "Renewal");
    let done = bulk(&app, "renew", json!({"certificate_ids": ["outside"]})).await;
    assert_eq!(counts(&done, "enqueued"), [1, 0, 0, 1], "{done}");
    assert_eq!(agent.run(&app).await, 4);
    app.check().await;
}

#[tokio::test]
async fn many_get_another_owner() {
    let app = world(2).await;
    for id in ["o-2", "o-3"] {
        let owner = json!({"id": id, "name": id});
        app.post("/api/v1/owners", owner).await.expect(201);
    }
    let ids = ["red-0", "red-1", "blue-0", "nosuch"];
    let wish = json!({"certificate_ids": ids, "owner_id": "o-2", "team_id": "blue"});
    let done = bulk(&app, "reassign", wish.clone()).await;
    assert_eq!(counts(&done, "reassigned"), [3, 3, 0, 1], "{done}");
    let done = bulk(&app, "reassign", wish).await;
    assert_eq!(counts(&done, "reassigned"), [3, 0, 3, 1], "{done}");
    assert_eq!(app.shown("red-0").await["owner_id"], "o-2");
    assert_eq!(app.list("/api/v1/certificates?team_id=blue").await.len(), 4);
    // Without a team the team stays.
    let wish = json!({"certificate_ids": ["red-0"], "owner_id": "o-3"});
    bulk(&app, "reassign", wish).await;
    assert_eq!(app.shown("red-0").await["team_id"], "blue");
    app.check().await;
}

#[tokio::test]
async fn a_call_on_nothing_or_everything_is_refused() {
    let app = world(1).await;
    let before = app.seq();
    let many: Vec<String> = (0..10_001).map(|i| format!("c-{i}")).collect();
    for (verb, body, says) in [
        (
            "revoke",
            json!({"reason": "superseded"}),
            "certificate_ids is needed",
        ),
        (
            "revoke",
            json!({"reason": "superseded", "team_id": ""}),
            "is needed",
        ),
        (
            "revoke",
            json!({"reason": "superseded", "certificate_ids": []}),
            "is needed",
        ),
        ("revoke", json!({"team_id": "red"}), "reason"),
        (
            "revoke",
            json!({"reason": "dislike", "team_id": "red"}),
            "reason: ",
        ),
        (
            "revoke",
            json!({"reason": "superseded", "certificate_ids": ["a b"]}),
            "certificate_ids: ",
        ),
        (
            "revoke",
            json!({"reason": "superseded", "certificate_ids": many}),
            "10000 at most",
        ),
        ("renew", json!({}), "is needed"),
        ("renew", json!({"team_id": 1}), "team_id"),
        ("reassign", json!({"owner_id": "o-2"}), "certificate_ids"),
        (
            "reassign",
            json!({"certificate_ids": [], "owner_id": "o-2"}),
            "certificate_ids: ",
        ),
        (
            "reassign",
            json!({"certificate_ids": ["red-0"]}),
            "owner_id",
        ),
        (
            "reassign",
            json!({"certificate_ids": ["red-0"], "owner_id": "nobody"}),
            "owner_id: there is no owner",
        ),
        (
            "reassign",
            json!({"certificate_ids": ["red-0"], "owner_id": ""}),
            "owner_id: ",
        ),
    ] {
        let path = format!("/api/v1/certificates/bulk-{verb}");
        let told = app.post(&path, body).await.refused(400);
        assert!(told.contains(says), "{verb} {says}: {told}");
    }
    assert_eq!(app.seq(), before);
}
