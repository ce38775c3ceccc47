//! Renewal policies at work, and planning anew when they are edited.

use crate::support::{DAY, HOUR, TestAgent, TestApp, text, time};
use certctl::{
    agent::protocol::{FailureClass, Outcome},
    clock::Time,
    domain::Certificate,
    store::Loaded,
};
use serde_json::{Value, json};

async fn active(app: &TestApp, policy: &str) -> TestAgent {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let body = json!({
        "id": "web", "name": "web", "common_name": "web.example.org", "target_ids": [target],
        "renewal_policy_id": policy, "owner_id": "ada",
    });
    app.post("/api/v1/certificates", body).await.expect(201);
    agent.run(app).await;
    assert_eq!(app.status("web").await, "Active");
    agent
}

async fn line(app: &TestApp) -> Value {
    app.shown("web").await["holders"][0].clone()
}

async fn due(app: &TestApp) -> Time {
    time(&line(app).await["next_at"])
}

#[tokio::test]
async fn without_auto_renew_a_certificate_waits_for_somebody() {
    let mut app = TestApp::start().await;
    let body = json!({"id": "by-hand", "name": "By hand", "auto_renew": false});
    app.post("/api/v1/renewal-policies", body).await.expect(201);
    let agent = active(&app, "by-hand").await;
    let held = line(&app).await;
    assert_eq!(held["plan"], "exempt");
    assert!(
        text(&held["reason"]).contains("renewal policy by-hand"),
        "{held}"
    );
    app.pass(200 * DAY, DAY).await;
    assert_eq!(agent.run(&app).await, 0);
    assert_eq!(app.status("web").await, "Expired");
    app.step().await;
    // Who asks is served, and the policy holds again after it.
    app.post("/api/v1/certificates/web/renew", json!({}))
        .await
        .expect(202);
    assert_eq!(agent.run(&app).await, 2);
    assert_eq!(app.status("web").await, "Active");
    assert_eq!(line(&app).await["plan"], "exempt");
    // A policy that renews plans it.
    let one = "/api/v1/renewal-policies/by-hand";
    app.put(one, json!({"auto_renew": true})).await.expect(200);
    app.step().await;
    app.tick().await;
    assert_eq!(line(&app).await["plan"], "scheduled");
    app.put(one, json!({"auto_renew": false})).await.expect(200);
    app.tick().await;
    assert_eq!(line(&app).await["plan"], "exempt");
    app.check().await;
}

#[tokio::test]
async fn another_window_moves_the_renewal() {
    let app = TestApp::start().await;
    let agent = active(&app, "rp-default").await;
    let end = time(&line(&app).await["expires_at"]);
    let before = due(&app).await;
    let one = "/api/v1/renewal-policies/rp-default";
    app.put(one, json!({"renewal_window_days": 10}))
        .await
        .expect(200);
    assert_eq!(app.get(one).await["replan"], json!({"total": 1, "done": 0}));
    assert_eq!(due(&app).await, before);
    app.tick().await;
    assert_eq!(app.get(one).await.get("replan"), None);
    let after = due(&app).await;
    assert!(
        end.since(after) >= 10 * DAY && end.since(after) <= 11 * DAY,
        "{after}"
    );
    let told = app.actions().await;
    assert_eq!(told.last().unwrap(), "certificates_replanned");
    app.advance_to(after);
    app.tick().await;
    assert_eq!(agent.run(&app).await, 2);
    app.check().await;
}

#[tokio::test]
async fn what_is_due_for_a_reason_of_its_own_stays_due() {
    let app = TestApp::start().await;
    let _agent = active(&app, "rp-default").await;
    // Other names want a new version now.
    let change = json!({"sans": ["www.example.org"]});
    app.put("/api/v1/certificates/web", change)
        .await
        .expect(200);
    assert_eq!(due(&app).await, app.now());
    let one = "/api/v1/renewal-policies/rp-default";
    app.put(one, json!({"renewal_window_days": 10}))
        .await
        .expect(200);
    app.tick().await;
    assert_eq!(line(&app).await["plan"], "in_flight");
    app.check().await;
}

#[tokio::test]
async fn attempts_wait_as_the_policy_says() {
    let app = TestApp::start().await;
    let body = json!({
        "id": "steady", "name": "Steady", "max_retries": 3, "retry_interval_seconds": 60,
    });
    app.post("/api/v1/renewal-policies", body).await.expect(201);
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let body = json!({
        "id": "web", "name": "web", "common_name": "web.example.org", "target_ids": [target],
        "renewal_policy_id": "steady",
    });
    app.post("/api/v1/certificates", body).await.expect(201);
    // Where trying again soon cannot help it is an hour at least.
    for hours in [1, 1, 1, 2, 4] {
        let job = agent.job(&app).await;
        let failed = Outcome::Failed {
            class: FailureClass::Permanent,
            reason: "no entropy".into(),
        };
        agent.report(&app, &job, &failed).await.expect(200);
        let waits = due(&app).await.since(app.now());
        assert_eq!(waits, hours * HOUR);
        app.advance(waits);
        app.tick().await;
    }
    app.check().await;
}

/// Certificates like `web`, up to so many.
async fn fill(app: &TestApp, upto: usize) {
    let web = "web".parse().unwrap();
    let web: Loaded<Certificate> = app.app.store.get(&web).await.unwrap().unwrap();
    let web = web.into_value();
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    for n in 1..upto {
        unit.insert(Certificate {
            id: format!("cert-{n}").parse().unwrap(),
            name: format!("name-{n}"),
            ..web.clone()
        });
    }
    unit.commit().await.unwrap();
}

#[tokio::test]
async fn a_crash_between_slices_costs_a_slice_at_most() {
    let mut app = TestApp::start().await;
    active(&app, "rp-default").await;
    fill(&app, 700).await;
    let before = due(&app).await;
    let one = "/api/v1/renewal-policies/rp-default";
    app.put(one, json!({"renewal_window_days": 10}))
        .await
        .expect(200);
    assert_eq!(
        app.get(one).await["replan"],
        json!({"total": 700, "done": 0})
    );
    for done in [200, 400] {
        app.cut_after(1);
        app.tick_cut().await;
        app.restart().await;
        assert_eq!(
            app.get(one).await["replan"],
            json!({"total": 700, "done": done})
        );
    }
    app.tick().await;
    assert_eq!(app.get(one).await.get("replan"), None);
    for id in ["web", "cert-1", "cert-350", "cert-699"] {
        let held = app.shown(id).await["holders"][0].clone();
        assert!(time(&held["next_at"]) > before, "{id}");
    }
    let told = app.list("/api/v1/audit").await;
    assert_eq!(told[0]["action"], "certificates_replanned");
    assert_eq!(told[0]["details"]["certificates"], "700");
}

#[tokio::test]
async fn an_edit_meanwhile_begins_anew() {
    let mut app = TestApp::start().await;
    active(&app, "rp-default").await;
    fill(&app, 300).await;
    let one = "/api/v1/renewal-policies/rp-default";
    app.put(one, json!({"renewal_window_days": 10}))
        .await
        .expect(200);
    app.cut_after(1);
    app.tick_cut().await;
    app.restart().await;
    app.put(one, json!({"renewal_window_days": 20}))
        .await
        .expect(200);
    assert_eq!(
        app.get(one).await["replan"],
        json!({"total": 300, "done": 0})
    );
    app.tick().await;
    let end = time(&line(&app).await["expires_at"]);
    for id in ["web", "cert-1", "cert-299"] {
        let held = app.shown(id).await["holders"][0].clone();
        let left = end.since(time(&held["next_at"]));
        assert!(left >= 20 * DAY && left <= 22 * DAY, "{id}: {left:?}");
    }
}
