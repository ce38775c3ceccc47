//! Lists of jobs, and what becomes of old ones.

use crate::support::{DAY, HOUR, TestApp, text};
use serde_json::{Value, json};

/// An app with three certificates on two agents, the first agent's work done.
async fn world() -> (TestApp, [String; 2]) {
    let app = TestApp::start().await;
    let (a, b) = (app.agent("a").await, app.agent("b").await);
    let (ta, tb) = (app.target(&a, "ta").await, app.target(&b, "tb").await);
    for (id, target) in [("one", &ta), ("two", &ta), ("three", &tb)] {
        app.certificate(id, &[target]).await;
        app.advance(HOUR / 60);
    }
    assert_eq!(a.run(&app).await, 4);
    (app, [a.id, b.id])
}

fn ids(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| text(&row["id"])).collect()
}

#[tokio::test]
async fn filters_find_their_jobs() {
    let (app, [a, b]) = world().await;
    let all = app.list("/api/v1/jobs").await;
    assert_eq!(all.len(), 5);
    let made: Vec<String> = all.iter().map(|j| text(&j["created_at"])).collect();
    assert!(made.is_sorted_by(|x, y| x >= y), "newest first: {made:?}");
    let tgt = text(&app.list("/api/v1/targets").await[0]["id"]);
    for (query, count) in [
        ("status=completed".to_owned(), 4),
        ("status=Pending".into(), 1),
        ("status=running".into(), 0),
        ("type=Issuance".into(), 3),
        ("type=deployment".into(), 2),
        ("type=deployment&status=pending".into(), 0),
        ("certificate_id=one".into(), 2),
        (format!("agent_id={a}"), 4),
        (format!("agent_id={b}&status=pending"), 1),
        (format!("target_id={tgt}"), 2),
        ("certificate_id=none".into(), 0),
        ("status=&type=".into(), 5),
    ] {
        let list = app.get(&format!("/api/v1/jobs?{query}")).await;
        assert_eq!(list["data"].as_array().unwrap().len(), count, "{query}");
        assert_eq!(list["total"], count, "{query}");
    }
}

#[tokio::test]
async fn pages_and_cursors_give_each_job_once() {
    let (app, _) = world().await;
    let all = ids(&app.list("/api/v1/jobs").await);
    let mut paged = Vec::new();
    for page in 1..=3 {
        let path = format!("/api/v1/jobs?per_page=2&page={page}");
        paged.extend(ids(&app.list(&path).await));
    }
    assert_eq!(paged, all);
    let mut walked = Vec::new();
    let mut next = Some(String::new());
    while let Some(cursor) = next {
        let list = app
            .get(&format!("/api/v1/jobs?page_size=2&cursor={cursor}"))
            .await;
        walked.extend(ids(list["data"].as_array().unwrap()));
        next = list["next_cursor"].as_str().map(ToOwned::to_owned);
    }
    assert_eq!(walked, all);
    let first = app.get("/api/v1/jobs?page_size=2").await;
    let cursor = text(&first["next_cursor"]);
    let other = format!("/api/v1/jobs?status=pending&cursor={cursor}");
    let message = app.admin("GET", &other).send().await.refused(400);
    assert!(message.starts_with("cursor: "), "{message}");
}

#[tokio::test]
async fn what_is_no_filter_is_refused() {
    let app = TestApp::start().await;
    for (query, says) in [
        ("status=dancing", "status: \"dancing\" is none of Pending"),
        ("type=dance", "type: \"dance\" is none of Issuance"),
        ("certificate_id=a%2fb", "certificate_id: "),
        ("agent_id=a%20b", "agent_id: "),
        ("target_id=%00", "target_id: "),
        ("cursor=x", "cursor: "),
        ("page=10000000&per_page=500", ""),
    ] {
        let path = format!("/api/v1/jobs?{query}");
        let answer = app.admin("GET", &path).send().await;
        if says.is_empty() {
            assert_eq!(answer.expect(200)["data"], json!([]), "beyond the end");
        } else {
            let message = answer.refused(400);
            assert!(message.contains(says), "{says:?} in {message:?}");
        }
    }
    for (method, path) in [
        ("GET", "/api/v1/jobs/none"),
        ("GET", "/api/v1/jobs/a%2fb"),
        ("POST", "/api/v1/jobs/none/cancel"),
        ("POST", "/api/v1/targets/none/test"),
    ] {
        app.admin(method, path).send().await.refused(404);
    }
}

#[tokio::test]
async fn a_job_says_all_of_itself() {
    let (app, [_, b]) = world().await;
    let job = &app.list("/api/v1/jobs?status=pending").await[0];
    let fields: Vec<&str> = job
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = vec![
        "id",
        "type",
        "certificate_id",
        "agent_id",
        "status",
        "state",
        "attempts",
        "max_attempts",
        "waits_for",
        "scheduled_at",
        "created_at",
        "verification_status",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!(job["agent_id"], b.as_str());
    assert_eq!(job["verification_status"], "");
    assert_eq!(job["waits_for"], "waits for agent b");
    let job = &app.list("/api/v1/jobs?type=deployment").await[0];
    assert_eq!(job["verification_status"], "success");
    assert_eq!(job["verified_at"], job["completed_at"]);
    let path = format!("/api/v1/jobs/{}", text(&job["id"]));
    assert_eq!(app.get(&path).await, *job);
}

#[tokio::test]
async fn jobs_that_ended_long_ago_are_forgotten() {
    let (app, _) = world().await;
    app.advance(89 * DAY);
    app.tick().await;
    let ended = "/api/v1/jobs?status=completed";
    assert_eq!(app.list(ended).await.len(), 4);
    app.advance(2 * DAY);
    app.tick().await;
    app.check().await;
    assert_eq!(app.list(ended).await.len(), 0);
    assert!(!app.list("/api/v1/jobs").await.is_empty(), "open ones stay");
}
