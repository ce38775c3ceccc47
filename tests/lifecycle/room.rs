//! A disk that fills up: nothing new is begun while little room is left, what is under way ends
//! well, reading goes on, and all goes on by itself when there is room.

use crate::support::{DAY, MINUTE, TestApp, text};
use serde_json::json;

const RESERVE: u64 = 256 << 20;

async fn tight() -> TestApp {
    TestApp::start_with(|config| config.disk_reserve = RESERVE).await
}

pub async fn metric(app: &TestApp, name: &str) -> f64 {
    let path = "/api/v1/metrics/prometheus";
    let told = app.admin("GET", path).send().await.text;
    let line = told.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn nothing_is_begun_while_little_room_is_left() {
    let app = tight().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("old", &[&target]).await;
    agent.run(&app).await;
    app.certificate("web", &[&target]).await;
    let under_way = agent.job(&app).await;
    let made = json!({"name": "x", "common_name": "x.example.org"});
    let once = || {
        let call = app.admin("POST", "/api/v1/certificates").json(&made);
        call.header("idempotency-key", "once").send()
    };
    let first = once().await.expect(201);
    assert_eq!(
        app.call("GET", "/ready").send().await.expect(200)["warning"],
        json!(null)
    );

    app.has_room(RESERVE - 1).await;
    let ready = app.call("GET", "/ready").send().await.expect(200);
    assert!(text(&ready["warning"]).contains("free space"), "{ready}");
    assert_eq!(metric(&app, "certctl_disk_low").await, 1.0);
    assert_eq!(
        metric(&app, "certctl_disk_free_bytes").await,
        (RESERVE - 1) as f64
    );
    let seq = app.seq();
    for (path, body) in [
        (
            "certificates",
            json!({"name": "y", "common_name": "y.example.org"}),
        ),
        ("certificates/old/renew", json!({})),
        (
            "owners",
            json!({"name": "Anna", "email": "anna@example.org"}),
        ),
        ("agents/tokens", json!({})),
    ] {
        let told = app.post(&format!("/api/v1/{path}"), body).await;
        let retry = told.headers.get("retry-after").cloned();
        let told = told.refused(503);
        assert_eq!(retry.unwrap(), "60", "{path}");
        assert!(
            told.contains("256 MiB: free space in its"),
            "{path}: {told}"
        );
    }
    assert_eq!(app.seq(), seq);
    // What was made before is told again, and what is under way ends.
    assert_eq!(once().await.expect(201)["id"], first["id"]);
    agent.submit_csr(&app, &under_way).await.expect(202);
    agent.run(&app).await;
    assert_eq!(app.status("web").await, "Active");
    // Room is made by what is ended, too.
    app.admin("DELETE", "/api/v1/certificates/web")
        .send()
        .await
        .expect(204);

    // A little more is not yet room.
    app.has_room(RESERVE + 1).await;
    app.post("/api/v1/agents/tokens", json!({}))
        .await
        .refused(503);
    app.has_room(2 * RESERVE).await;
    app.post("/api/v1/agents/tokens", json!({}))
        .await
        .expect(201);
    assert_eq!(metric(&app, "certctl_disk_low").await, 0.0);
    app.check().await;
}

#[tokio::test]
async fn what_is_due_waits_for_room_and_is_begun_then() {
    let app = tight().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(&app).await;
    app.has_room(1).await;
    app.pass(70 * DAY, DAY).await;
    assert_eq!(agent.work(&app).await.len(), 0);
    assert_eq!(app.shown("web").await["holders"][0]["plan"], "scheduled");
    app.has_room(2 * RESERVE).await;
    app.pass(2 * MINUTE, MINUTE).await;
    agent.run(&app).await;
    let versions = app.list("/api/v1/certificates/web/versions").await;
    assert_eq!(versions.len(), 2);
    app.check().await;
}
