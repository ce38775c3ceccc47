//! The page of storage.

use super::{Desk, html::Html};
use certctl::{
    app::storage::{Census, Taken},
    clock::Time,
    sys::Room,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

async fn page(desk: &Desk) -> Html {
    let answer = desk.get("/storage", Some(&desk.admin().await)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.page()
}

#[tokio::test]
async fn what_the_store_takes_is_counted_drawn_and_listed() {
    let desk = Desk::open().await;
    let agent = desk.agent("host").await;
    let target = json!({"id": "t", "name": "t", "type": "File", "agent_id": agent.0, "config": {}});
    desk.make("/targets", target).await;
    let new = json!({
        "id": "www", "name": "www", "common_name": "www.example.org", "target_ids": ["t"],
    });
    desk.make("/certificates", new).await;
    desk.work(&agent).await;
    let first = page(&desk).await.text();
    assert!(first.contains("is being counted"), "{first}");
    let admin = &desk.admin;
    let storage = loop {
        let storage = desk.api(Method::GET, "/storage", admin, Value::Null).await;
        if storage["counting"] == false {
            break storage;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(storage["issued_in_30_days"], 1, "{storage}");
    // A certificate of 90 days is renewed after about 59.
    assert_eq!(storage["expected_in_30_days"], 1, "{storage}");
    let of = |name: &str| -> Value {
        let mut all = storage["collections"].as_array().unwrap().iter();
        all.find(|c| c["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(of("version")["rows"], 1, "{storage}");
    assert_eq!(of("version")["kept"], "always");
    assert_eq!(of("job")["kept"], "as long as CERTCTL_KEEP_JOBS says");
    assert!(of("audit log")["rows"].as_u64() > Some(3), "{storage}");
    let ahead: Vec<u64> = storage["forecast"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["bytes"].as_u64().unwrap())
        .collect();
    assert_eq!(ahead.len(), 3);
    assert!(ahead.is_sorted() && ahead[0] < ahead[2], "{ahead:?}");
    assert!(ahead[0] > storage["document_bytes"].as_u64().unwrap());

    let page = page(&desk).await;
    let drawn = page.one("figure");
    assert_eq!(drawn.all("rect").len(), 4);
    let said = drawn.all("figcaption")[0].text();
    assert!(
        said.contains("now: ") && said.contains("365 days: "),
        "{said}"
    );
    let rows = page.all("tbody")[0].all("tr");
    assert_eq!(rows.len(), storage["collections"].as_array().unwrap().len());
    assert!(page.text().contains("1 versions in the last 30 days"));
}

/// Jobs outlive the orders they were for: as many are forgotten as are made.
#[test]
fn jobs_that_are_kept_longer_than_orders_do_not_swell_the_forecast() {
    let taken = |what, rows, each: u64| Taken {
        what,
        rows,
        bytes: rows * each,
    };
    let at = Time::from_micros(0);
    let census = Census {
        at,
        collections: vec![
            taken("version", 10_000, 2_000),
            taken("order", 10, 500),
            taken("job", 1_800, 1_000),
        ],
        on_disk: None,
        room: Room { free: 0, total: 0 },
        issued: 300,
        issued_with_jobs: 900,
        expected: 300,
    };
    let kept = (1, 90);
    for (days, versions) in [(30, 300), (90, 900), (365, 3_650)] {
        let more = census.forecast(days, kept) - census.now();
        assert_eq!(more, versions * 2_000, "in {days} days");
    }
}
