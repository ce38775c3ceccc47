//! The page of backups.

use super::{DAY, Desk, html::Html};
use crate::support::backups::journalled;
use certctl::{config::ServerConfig, reconcile};
use http::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;

fn scheduled(config: &mut ServerConfig) {
    journalled(config, "6h", Duration::from_secs(5));
}

async fn page(desk: &Desk) -> Html {
    let answer = desk.get("/backups", Some(&desk.admin().await)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.page()
}

/// Looks until no backup is being made.
async fn look(desk: &Desk) {
    for _ in 0..2 {
        reconcile::look(&desk.app).await.unwrap();
        loop {
            let state = desk.backups().await;
            if state["running"] == false && state["looking"] == false {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Desk {
    async fn backups(&self) -> Value {
        self.api(Method::GET, "/backups", &self.admin, Value::Null)
            .await
    }
}

#[tokio::test]
async fn without_a_sink_it_says_how_backups_are_made() {
    let desk = Desk::open().await;
    let page = page(&desk).await;
    let text = page.text();
    assert!(text.contains("No sink is configured: set CERTCTL_BACKUP_SCHEDULE"));
    assert!(text.contains("set CERTCTL_BACKUP_JOURNAL_SINK"));
    assert!(page.all("table").is_empty());
}

#[tokio::test]
async fn what_the_sink_holds_is_listed() {
    let desk = Desk::open_with(scheduled).await;
    let before = page(&desk).await.text();
    assert!(before.contains("It was not looked at yet."), "{before}");
    assert!(before.contains("nothing yet"), "{before}");
    look(&desk).await;
    desk.pass(DAY);
    look(&desk).await;
    let state = desk.backups().await;
    assert_eq!(state["total"], 2, "{state}");
    let page = page(&desk).await;
    let rows = page.all("tbody")[0].all("tr");
    let names: Vec<String> = rows.iter().map(|row| row.all("th")[0].text()).collect();
    let listed = state["data"].as_array().unwrap().iter();
    let listed: Vec<&str> = listed.map(|b| b["name"].as_str().unwrap()).collect();
    assert_eq!(names, listed, "newest first");
    for row in &rows {
        let cells: Vec<String> = row.all("td").iter().map(|cell| cell.text()).collect();
        assert_eq!(cells[1], "full");
        assert!(cells[3].starts_with("restored "), "{cells:?}");
    }
    let text = page.text();
    assert!(text.contains("/journal"), "{text}");
    assert!(text.contains("since this server was started"), "{text}");
}
