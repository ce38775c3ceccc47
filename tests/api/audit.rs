//! The audit log: what is asked of it is what it holds.

use crate::support::{DAY, HOUR, TestApp, text};
use serde_json::{Value, json};

/// A log of some days: who made what when.
async fn log() -> TestApp {
    let app = TestApp::start().await;
    for name in ["a", "b", "c"] {
        app.certificate(name, &[]).await;
        app.advance(DAY);
    }
    let call = app.call("POST", "/api/v1/agents/tokens").local(1000);
    call.json(&json!({})).send().await.expect(201);
    app.advance(DAY);
    app.post("/api/v1/certificates/a/renew", json!({}))
        .await
        .refused(409);
    app.admin("DELETE", "/api/v1/certificates/a").send().await;
    app
}

async fn all(app: &TestApp) -> Vec<Value> {
    app.list("/api/v1/audit?per_page=500").await
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|e| text(&e["id"])).collect()
}

#[tokio::test]
async fn a_question_finds_the_events_that_fit_and_no_others() {
    let app = log().await;
    let all = all(&app).await;
    let middle = text(&all[3]["timestamp"]);
    let time = |e: &Value| {
        text(&e["timestamp"])
            .parse::<certctl::clock::Time>()
            .unwrap()
    };
    let at = middle.parse::<certctl::clock::Time>().unwrap();
    let is = |name: &'static str, value: &'static str| move |e: &Value| e[name] == value;
    type Question = (String, Box<dyn Fn(&Value) -> bool>);
    let questions: [Question; 9] = [
        (
            "category=auth".into(),
            Box::new(is("event_category", "auth")),
        ),
        (
            "actor=local:1000".into(),
            Box::new(is("actor", "local:1000")),
        ),
        (
            "action=certificate_created".into(),
            Box::new(is("action", "certificate_created")),
        ),
        (
            "resource_type=certificate".into(),
            Box::new(is("resource_type", "certificate")),
        ),
        ("resource_id=a".into(), Box::new(is("resource_id", "a"))),
        (format!("since={middle}"), Box::new(move |e| time(e) >= at)),
        (format!("until={middle}"), Box::new(move |e| time(e) <= at)),
        (
            format!("since={middle}&category=cert_lifecycle"),
            Box::new(move |e| time(e) >= at && e["event_category"] == "cert_lifecycle"),
        ),
        ("action=nothing".into(), Box::new(|_| false)),
    ];
    for (question, fits) in questions {
        let wanted: Vec<Value> = all.iter().filter(|e| fits(e)).cloned().collect();
        assert!(wanted.len() < all.len(), "{question} says nothing");
        let path = format!("/api/v1/audit?per_page=500&{question}");
        let list = app.get(&path).await;
        assert_eq!(
            ids(list["data"].as_array().unwrap()),
            ids(&wanted),
            "{question}"
        );
        assert_eq!(list["total"], wanted.len(), "{question}");
        // The same, page by page, by number and by cursor.
        let (mut by_number, mut by_cursor) = (Vec::new(), Vec::new());
        let mut cursor = String::new();
        for page in 1..=wanted.len().div_ceil(2) {
            let path = format!("/api/v1/audit?{question}&per_page=2&page={page}");
            by_number.extend(app.list(&path).await);
            let path = format!("/api/v1/audit?{question}&per_page=2&cursor={cursor}");
            let list = app.get(&path).await;
            by_cursor.extend(list["data"].as_array().unwrap().clone());
            cursor = list["next_cursor"].as_str().unwrap_or_default().to_owned();
        }
        assert_eq!(cursor, "", "{question}");
        assert_eq!(ids(&by_number), ids(&wanted), "{question}");
        assert_eq!(ids(&by_cursor), ids(&wanted), "{question}");
    }
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused() {
    let app = log().await;
    for (question, says) in [
        ("category=nothing", "category: "),
        ("since=yesterday", "since: "),
        ("until=2026-13-01T00:00:00Z", "until: "),
        (
            "since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z",
            "until: ",
        ),
        ("cursor=x", "cursor: "),
    ] {
        let call = app.admin("GET", &format!("/api/v1/audit?{question}"));
        let told = call.send().await.refused(400);
        assert!(told.contains(says), "{question}: {told}");
    }
}

#[tokio::test]
async fn an_event_is_read_by_its_id() {
    let app = log().await;
    for event in all(&app).await {
        let id = text(&event["id"]);
        assert_eq!(app.get(&format!("/api/v1/audit/{id}")).await, event);
    }
    for id in [
        "audit-0",
        "audit-100000",
        "audit-",
        "a",
        "audit-99999999999999999999",
    ] {
        let call = app.admin("GET", &format!("/api/v1/audit/{id}"));
        call.send().await.refused(404);
    }
}

#[tokio::test]
async fn an_export_has_the_events_of_its_time_and_is_an_event() {
    let app = log().await;
    let events = all(&app).await;
    let export = async |question: &str| {
        let path = format!("/api/v1/audit/export?{question}");
        app.admin("GET", &path).send().await
    };
    let whole = "from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z";
    let answer = export(whole).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    assert_eq!(
        answer.headers["content-disposition"],
        "attachment; filename=\"certctl-audit-2026-01-01_to_2026-03-01.ndjson\""
    );
    let lines = |text: &str| -> Vec<Value> {
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    };
    let mut exported = lines(&answer.text);
    exported.reverse();
    assert_eq!(exported, events);
    let newest = &app.list("/api/v1/audit").await[0];
    assert_eq!(newest["action"], "audit.export");
    assert_eq!(newest["details"]["to"], "2026-03-01T00:00:00Z");

    let few = lines(&export(&format!("{whole}&limit=2&category=auth")).await.text);
    let mut auth: Vec<_> = events
        .iter()
        .filter(|e| e["event_category"] == "auth")
        .collect();
    auth.reverse();
    assert_eq!(few.iter().collect::<Vec<_>>(), auth[..2]);

    for (question, says) in [
        ("to=2026-03-01T00:00:00Z", "from: "),
        ("from=2026-03-01T00:00:00Z", "to: "),
        ("from=2026-03-01T00:00:00Z&to=2026-03-01T00:00:00Z", "to: "),
        (
            "from=2026-01-01T00:00:00Z&to=2026-04-02T00:00:00Z",
            "to: 90 days",
        ),
        ("from=x&to=y", "from: "),
    ] {
        let told = export(question).await.refused(400);
        assert!(told.contains(says), "{question}: {told}");
    }
    for limit in ["0", "100001", "many"] {
        let told = export(&format!("{whole}&limit={limit}")).await.refused(400);
        assert!(told.contains("limit: "), "{told}");
    }
}

/// More than are read at a time.
#[tokio::test]
async fn a_long_log_is_exported_and_searched_whole() {
    let app = TestApp::start().await;
    for _ in 0..1_100 {
        app.post("/api/v1/agents/tokens", json!({}))
            .await
            .expect(201);
        app.advance(HOUR / 60);
    }
    let made = app
        .get("/api/v1/audit?action=join_token_created&per_page=1")
        .await;
    assert_eq!(made["total"], 1_100);
    let path = "/api/v1/audit/export?from=2026-01-01T00:00:00Z&to=2026-01-08T00:00:00Z";
    let text = app.admin("GET", path).send().await.text;
    let made = text
        .lines()
        .filter(|l| l.contains("\"join_token_created\""));
    assert_eq!(made.count(), 1_100);
    let verified = app
        .post("/api/v1/audit/verify", Value::Null)
        .await
        .expect(200);
    assert_eq!(verified["intact"], true);
    assert_eq!(verified["entries"], all_total(&app).await);
}

async fn all_total(app: &TestApp) -> Value {
    app.get("/api/v1/audit?per_page=1").await["total"].clone()
}
