//! Lists: which rows, in what order, in what pieces, and with which fields.

use crate::support::{DAY, HOUR, TestApp, text};
use serde_json::{Value, json};

/// Certificates `c0` to `c4`, made a day apart; of even number in production.
async fn world() -> TestApp {
    let app = TestApp::start().await;
    for n in 0..5 {
        let environment = if n % 2 == 0 { "production" } else { "lab" };
        let body = json!({
            "id": format!("c{n}"), "name": format!("name {}", 9 - n),
            "common_name": format!("{}.example.org", ["m", "B", "z", "a", "k"][n]),
            "environment": environment,
        });
        app.post("/api/v1/certificates", body).await.expect(201);
        app.advance(DAY);
    }
    app
}

async fn ids(app: &TestApp, query: &str) -> Vec<String> {
    let rows = app.list(&format!("/api/v1/certificates?{query}")).await;
    rows.iter().map(|row| text(&row["id"])).collect()
}

#[tokio::test]
async fn every_order_there_is() {
    let app = world().await;
    for (sort, expected) in [
        ("name", ["c4", "c3", "c2", "c1", "c0"]),
        ("commonName", ["c3", "c1", "c4", "c0", "c2"]),
        ("createdAt", ["c0", "c1", "c2", "c3", "c4"]),
        ("updatedAt", ["c0", "c1", "c2", "c3", "c4"]),
        ("environment", ["c1", "c3", "c0", "c2", "c4"]),
        ("anything", ["c0", "c1", "c2", "c3", "c4"]),
    ] {
        assert_eq!(ids(&app, &format!("sort={sort}")).await, expected, "{sort}");
        let mut backward = expected;
        backward.reverse();
        assert_eq!(
            ids(&app, &format!("sort=-{sort}")).await,
            backward,
            "{sort}"
        );
        let desc = format!("sort={sort}&sort_desc=true");
        assert_eq!(ids(&app, &desc).await, backward, "{sort}");
    }
    let call = app.admin("GET", "/api/v1/certificates?sort=status");
    assert!(call.send().await.refused(400).contains("filter by status"));
}

#[tokio::test]
async fn certificates_by_moments() {
    let app = world().await;
    let made = text(&app.shown("c2").await["created_at"]);
    assert_eq!(
        ids(&app, &format!("created_after={made}")).await,
        ["c3", "c4"]
    );
    assert_eq!(
        ids(&app, &format!("updated_after={made}")).await,
        ["c3", "c4"]
    );
    assert_eq!(
        ids(&app, "created_after=2000-01-01T00:00:00Z").await.len(),
        5
    );
    assert_eq!(
        ids(&app, "created_after=2100-01-01T00:00:00Z").await.len(),
        0
    );
    let both = format!("created_after={made}&environment=lab");
    assert_eq!(ids(&app, &both).await, ["c3"]);
    let list = app
        .get(&format!("/api/v1/certificates?created_after={made}"))
        .await;
    assert_eq!(list["total"], 2);
}

#[tokio::test]
async fn certificates_by_their_end() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    for id in ["first", "second", "never"] {
        let targets: &[&str] = if id == "never" { &[] } else { &[&target] };
        app.certificate(id, targets).await;
        agent.run(&app).await;
        app.advance(HOUR);
    }
    let end = text(&app.shown("first").await["expires_at"]);
    let last = text(&app.shown("second").await["expires_at"]);
    assert_eq!(ids(&app, &format!("expires_after={end}")).await, ["second"]);
    assert_eq!(
        ids(&app, &format!("expires_before={last}")).await,
        ["first"]
    );
    assert_eq!(
        ids(&app, "expires_before=2100-01-01T00:00:00Z").await.len(),
        2
    );
    let none = format!("expires_after={last}&expires_before={end}");
    assert_eq!(ids(&app, &none).await.len(), 0);
    let revoke = "/api/v1/certificates/first/revoke";
    app.post(revoke, json!({})).await.expect(200);
    assert_eq!(
        ids(&app, "expires_before=2100-01-01T00:00:00Z").await,
        ["second"]
    );
}

#[tokio::test]
async fn a_moment_that_is_none_is_refused_by_its_name() {
    let app = TestApp::start().await;
    for field in [
        "expires_before",
        "expires_after",
        "created_after",
        "updated_after",
    ] {
        for bad in [
            "tomorrow",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "1767225600",
            "%00",
        ] {
            let call = app.admin("GET", &format!("/api/v1/certificates?{field}={bad}"));
            let message = call.send().await.refused(400);
            assert!(message.starts_with(&format!("{field}: ")), "{message}");
        }
        let call = app.admin("GET", &format!("/api/v1/certificates?{field}="));
        call.send().await.expect(200);
    }
}

/// A page that is exactly full is the last one where nothing follows.
#[tokio::test]
async fn no_page_is_empty_but_the_only_one() {
    let app = world().await;
    let agent = app.agent("host").await;
    for n in 0..5 {
        app.target(&agent, &format!("t{n}")).await;
    }
    for list in [
        "certificates",
        "certificates?environment=production",
        "targets",
        "agents",
        "jobs",
    ] {
        let all = app.list(&format!("/api/v1/{list}")).await;
        let join = if list.contains('?') { '&' } else { '?' };
        for size in 1..=6 {
            let mut found: Vec<Value> = Vec::new();
            let mut cursor = String::new();
            loop {
                let path = format!("/api/v1/{list}{join}page_size={size}&cursor={cursor}");
                let page = app.get(&path).await;
                let rows = page["data"].as_array().unwrap();
                assert!(!rows.is_empty() || all.is_empty(), "{path}");
                assert_eq!(page["total"], all.len(), "{path}");
                found.extend(rows.iter().cloned());
                match &page["next_cursor"] {
                    Value::Null => break,
                    next => cursor = text(next),
                }
            }
            assert_eq!(found, all, "{list} by {size}");
        }
    }
}

#[tokio::test]
async fn rows_have_no_more_than_the_fields_asked_for() {
    let app = world().await;
    let path = "/api/v1/certificates?fields=id,%20common_name,nothing&per_page=1";
    let list = app.get(path).await;
    let expected = json!([{"id": "c0", "common_name": "m.example.org"}]);
    assert_eq!(list["data"], expected);
    assert_eq!((&list["total"], &list["page"]), (&json!(5), &json!(1)));
    let all = app.get("/api/v1/certificates?fields=").await;
    assert!(all["data"][0]["holders"].is_array());
    for list in [
        "agents",
        "issuers",
        "targets",
        "jobs",
        "audit",
        "agents/tokens",
    ] {
        for row in app.list(&format!("/api/v1/{list}?fields=id")).await {
            assert_eq!(row.as_object().unwrap().len(), 1, "{list}: {row}");
        }
    }
}

#[tokio::test]
async fn targets_of_one_agent() {
    let app = TestApp::start().await;
    let (one, two) = (app.agent("one").await, app.agent("two").await);
    app.target(&one, "a").await;
    app.target(&two, "b").await;
    let path = format!("/api/v1/targets?agent_id={}", two.id);
    let list = app.get(&path).await;
    assert_eq!(
        (&list["total"], &list["data"][0]["name"]),
        (&json!(1), &json!("b"))
    );
}

/// Lists that are at hand whole have cursors too.
#[tokio::test]
async fn every_list_is_walked_to_its_end_by_cursor() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let targets = [app.target(&agent, "a").await, app.target(&agent, "b").await];
    app.certificate("web", &[&targets[0], &targets[1]]).await;
    agent.run(&app).await;
    for _ in 0..4 {
        app.post("/api/v1/certificates/web/renew", json!({}))
            .await
            .expect(202);
        agent.run(&app).await;
    }
    for (list, rows) in [
        ("certificates/web/versions", 5),
        ("certificates/web/deployments", 2),
        ("issuers", 1),
    ] {
        let mut path = format!("/api/v1/{list}?page_size=2");
        let mut found = Vec::new();
        loop {
            let page = app.get(&path).await;
            let page_rows = page["data"].as_array().unwrap();
            assert!(page_rows.len() <= 2);
            found.extend(page_rows.iter().map(|row| row["id"].to_string()));
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            path = format!("/api/v1/{list}?page_size=2&cursor={next}");
        }
        assert_eq!(found.len(), rows, "{list}");
        let mut once = found.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), rows, "{list}: {found:?}");
        let path = format!("/api/v1/{list}?cursor=none");
        let told = app.admin("GET", &path).send().await.refused(400);
        assert!(told.contains("cursor"), "{told}");
    }
}
