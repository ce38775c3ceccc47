//! The page of backups.

use super::{DAY, Desk, html::Html};
use crate::support::backups::journalled;
use certctl::{
    config::ServerConfig,
    domain::{Found, Restoration},
    reconcile,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
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

#[tokio::test]
async fn a_sink_that_cannot_be_read_is_told() {
    let desk = Desk::open_with(scheduled).await;
    std::fs::write(desk.app.config.data_dir.join("backups"), "").unwrap();
    look(&desk).await;
    let text = page(&desk).await.text();
    assert!(text.contains("It could not be read"), "{text}");
    assert!(text.contains("What it holds is not known."), "{text}");
    assert!(
        text.contains("cannot be read, and it has nothing"),
        "{text}"
    );
}

#[tokio::test]
async fn what_a_restored_server_would_do_and_does_not_know_is_shown() {
    let desk = Desk::open().await;
    let agent = desk.agent("host").await;
    let target =
        json!({"id": "t", "name": "door", "type": "File", "agent_id": agent.0, "config": {}});
    desk.make("/targets", target).await;
    let new = json!({
        "id": "www", "name": "front", "common_name": "www.example.org", "target_ids": ["t"],
    });
    desk.make("/certificates", new).await;
    let at = desk.app.now();
    let mut unit = desk.app.store.unit(1, at);
    unit.insert(Restoration {
        id: Restoration::ID.parse().unwrap(),
        backup: "a.backup".into(),
        taken_at: at,
        restored_at: at,
        fenced: true,
        unfenced_at: None,
        reconcile: true,
        audit_head: String::new(),
        replaced_head: String::new(),
    });
    unit.insert(Found {
        id: "found-1".parse().unwrap(),
        certificate: "late".parse().unwrap(),
        agent: agent.0.parse().unwrap(),
        target: "t".parse().unwrap(),
        serial: "40ab".parse().unwrap(),
        at,
        version: None,
        refused: Some("no CA of this store has signed it".into()),
        chain_pem: None,
    });
    unit.commit().await.unwrap();
    let page = page(&desk).await;
    let cells = |table: usize| -> Vec<String> {
        let cells = page.all("tbody")[table].all("td");
        cells.iter().map(|cell| cell.text()).collect()
    };
    let steps = cells(0);
    assert!(steps[0].contains("front (www)"), "{steps:?}");
    assert!(steps[2].contains("host"), "{steps:?}");
    assert!(page.all("tbody")[0].text().contains("issue"));
    let found = cells(1);
    assert!(
        found[0].contains("40ab") && found[1].contains("door (t)"),
        "{found:?}"
    );
    assert!(
        found[4].contains("no CA of this store")
            && found[4].contains("make certificate late again"),
        "{found:?}"
    );
}
