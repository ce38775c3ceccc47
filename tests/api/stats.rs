//! Numbers for a dashboard: the same as the lists have.

use crate::support::{DAY, TestApp, text};
use serde_json::{Value, json};

/// Certificates and jobs in every state.
async fn world() -> TestApp {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    for name in ["old", "revoked", "archived"] {
        app.certificate(name, &[&target]).await;
    }
    agent.run(&app).await;
    app.post("/api/v1/certificates/revoked/revoke", json!({}))
        .await
        .expect(200);
    app.admin("DELETE", "/api/v1/certificates/archived")
        .send()
        .await;
    app.advance(DAY * 40);
    app.certificate("young", &[&target]).await;
    agent.run(&app).await;
    app.certificate("pending", &[&target]).await;
    let jobs = app.list("/api/v1/jobs?status=Pending").await;
    let id = text(&jobs[0]["id"]);
    app.post(&format!("/api/v1/jobs/{id}/cancel"), json!({}))
        .await;
    app.certificate("waiting", &[&target]).await;
    app.agent("silent").await;
    app.advance(DAY * 21);
    app
}

async fn total(app: &TestApp, path: &str) -> Value {
    app.get(&format!("/api/v1/{path}per_page=1")).await["total"].clone()
}

#[tokio::test]
async fn the_summary_is_what_the_lists_count() {
    let app = world().await;
    let summary = app.get("/api/v1/stats/summary").await;
    for (field, list) in [
        ("total_certificates", "certificates?"),
        ("expiring_certificates", "certificates?status=Expiring&"),
        ("expired_certificates", "certificates?status=Expired&"),
        ("revoked_certificates", "certificates?status=Revoked&"),
        ("failing_certificates", "certificates?status=Failed&"),
        ("total_agents", "agents?"),
        ("failed_jobs", "jobs?status=Failed&"),
        ("complete_jobs", "jobs?status=Completed&"),
    ] {
        assert_eq!(summary[field], total(&app, list).await, "{field}");
    }
    assert_eq!(summary["expiring_certificates"], 1);
    assert_eq!(summary["revoked_certificates"], 1);
    assert_eq!(summary["offline_agents"], 2);
    let metrics = app.get("/api/v1/metrics").await;
    assert_eq!(summary["pending_jobs"], metrics["gauge"]["job_pending"]);
    let by_status = app.get("/api/v1/stats/certificates-by-status").await;
    let by_status = by_status.as_array().unwrap();
    assert_eq!(by_status.len(), 8);
    for row in by_status {
        let list = format!("certificates?status={}&", text(&row["status"]));
        assert_eq!(row["count"], total(&app, &list).await, "{row}");
    }
}

#[tokio::test]
async fn the_days_ahead_hold_every_certificate_that_ends_then() {
    let app = world().await;
    let days = app.get("/api/v1/stats/expiration-timeline?days=365").await;
    let days = days.as_array().unwrap();
    assert_eq!(days.len(), 365);
    let counted: u64 = days.iter().map(|d| d["count"].as_u64().unwrap()).sum();
    let certificates = app.list("/api/v1/certificates?per_page=500").await;
    let mut ends = 0;
    for certificate in &certificates {
        let ended = ["Revoked", "Archived"].contains(&certificate["status"].as_str().unwrap());
        let alive = !ended && certificate["expires_at"] != "0001-01-01T00:00:00Z";
        if alive {
            ends += 1;
            let date = text(&certificate["expires_at"])[..10].to_owned();
            let day = days.iter().find(|d| d["date"] == date).unwrap();
            assert!(day["count"].as_u64().unwrap() >= 1, "{date}");
        }
    }
    assert_eq!(counted, ends);
    assert_eq!(days[0]["date"], app.now().to_string()[..10]);
    for days in ["0", "366", "x", ""] {
        let path = format!("/api/v1/stats/expiration-timeline?days={days}");
        assert_eq!(app.get(&path).await.as_array().unwrap().len(), 30, "{days}");
    }
}

#[tokio::test]
async fn the_days_before_hold_what_was_issued_and_done_also_when_it_is_forgotten() {
    let app = world().await;
    let mut dates = std::collections::BTreeMap::<String, u64>::new();
    for name in ["old", "revoked", "archived", "young"] {
        let versions = app
            .list(&format!("/api/v1/certificates/{name}/versions"))
            .await;
        for version in versions {
            let date = text(&version["created_at"])[..10].to_owned();
            *dates.entry(date).or_default() += 1;
        }
    }
    let rate = app.get("/api/v1/stats/issuance-rate?days=90").await;
    for day in rate.as_array().unwrap() {
        let issued = dates.remove(&text(&day["date"])).unwrap_or(0);
        assert_eq!(day["issued_count"], issued, "{day}");
    }
    assert!(dates.is_empty(), "{dates:?}");
    let sums = async || {
        let trends = app.get("/api/v1/stats/job-trends?days=365").await;
        let trends = trends.as_array().unwrap().clone();
        let sum = |field: &str| -> u64 { trends.iter().map(|d| d[field].as_u64().unwrap()).sum() };
        for day in &trends {
            let (done, failed) = (
                day["completed_count"].as_f64(),
                day["failed_count"].as_f64(),
            );
            let (done, failed) = (done.unwrap(), failed.unwrap());
            let rate = if done + failed == 0.0 {
                0.0
            } else {
                100.0 * done / (done + failed)
            };
            assert_eq!(day["success_rate"].as_f64().unwrap(), rate);
        }
        (sum("completed_count"), sum("failed_count"))
    };
    let before = sums().await;
    let metrics = app.get("/api/v1/metrics").await;
    assert_eq!(metrics["counter"]["job_completed_total"], before.0);
    assert_eq!(metrics["counter"]["job_failed_total"], before.1);
    assert!(before.0 > 0);
    app.advance(DAY * 100);
    app.app.ready().await.unwrap();
    app.tick().await;
    assert!(sums().await.0 >= before.0);
}
