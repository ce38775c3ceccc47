//! The pages of agents.

use super::{DAY, Desk, html::Html};
use certctl::access::Role;
use http::StatusCode;
use serde_json::json;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

async fn page(desk: &Desk, path: &str) -> Html {
    let answer = desk.get(path, Some(&desk.admin().await)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.page()
}

/// The text of each cell of an agent's row.
fn cells(page: &Html, id: &str) -> Vec<String> {
    let row = page.by_id(&format!("agent-{id}")).unwrap();
    let mut cells = row.all("th");
    cells.extend(row.all("td"));
    cells.iter().map(|c| c.text()).collect()
}

#[tokio::test]
async fn without_agents_it_says_how_one_joins() {
    let desk = Desk::open().await;
    let page = page(&desk, "/agents").await;
    assert!(page.text().contains("No agents yet"));
    assert_eq!(page.one("pre").text(), "certctl agents token create");
    assert!(page.one("header").text().contains("Agents"));
}

#[tokio::test]
async fn agents_are_listed_with_their_health() {
    let desk = Desk::open().await;
    let away = desk.agent("away").await;
    desk.pass(10 * MINUTE);
    let here = desk.agent("here").await;
    let body = json!({"name": "t", "type": "File", "agent_id": here.0, "config": {}});
    desk.make("/targets", body).await;
    let all = page(&desk, "/agents").await;
    let rows = all.all("tbody")[0].all("tr");
    let ids: Vec<_> = rows.iter().map(|r| r.attr("id").unwrap()).collect();
    assert_eq!(
        ids,
        [format!("agent-{}", here.0), format!("agent-{}", away.0)]
    );
    let [name, status, _, heard, targets, jobs] = cells(&all, &here.0).try_into().unwrap();
    assert!(name.starts_with("here"), "{name}");
    assert_eq!(status, "Online");
    assert_eq!(heard, "less than a minute ago");
    assert_eq!((targets.as_str(), jobs.as_str()), ("1", "0"));
    let row = cells(&all, &away.0);
    let (status, heard) = (&row[1], &row[3]);
    assert_eq!(
        (status.as_str(), heard.as_str()),
        ("Offline", "10 minutes ago")
    );
    let offline = page(&desk, "/agents?status=offline").await;
    assert!(offline.by_id(&format!("agent-{}", away.0)).is_some());
    assert!(offline.by_id(&format!("agent-{}", here.0)).is_none());
    let none = page(&desk, "/agents?status=degraded").await;
    assert!(none.text().contains("There are no such agents."));
    let present: Vec<String> = none
        .all("a")
        .iter()
        .filter(|a| a.attr("aria-current").as_deref() == Some("true"))
        .map(|a| a.text())
        .collect();
    assert_eq!(present, ["Degraded"]);
    let wrong = desk
        .get("/agents?status=well", Some(&desk.admin().await))
        .await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_agent_has_a_page_with_what_hangs_on_it() {
    let desk = Desk::open().await;
    let agent = desk.agent("web1").await;
    let body =
        json!({"id": "tgt-a", "name": "a", "type": "File", "agent_id": agent.0, "config": {}});
    desk.make("/targets", body).await;
    let body = json!({
        "id": "shop", "name": "Shop", "common_name": "shop.example", "target_ids": ["tgt-a"],
    });
    desk.make("/certificates", body).await;
    desk.pass(46 * DAY);
    let shown = page(&desk, &format!("/agents/{}", agent.0)).await;
    assert!(shown.one("h1").text().starts_with("web1 Offline"));
    assert!(shown.by_id("target-tgt-a").is_some());
    assert!(shown.text().contains("Issuance"));
    let links: Vec<_> = shown
        .all("a")
        .iter()
        .filter_map(|a| a.attr("href"))
        .collect();
    assert!(
        links.contains(&"/certificates/shop".to_owned()),
        "{links:?}"
    );
    let problem: Vec<String> = shown.all("dd").iter().map(|d| d.text()).collect();
    assert!(
        problem.iter().any(|p| p.contains("is not rotated")),
        "{problem:?}"
    );

    let path = format!("/agents/{}/retire", agent.0);
    desk.make(&path, json!({"force": true, "reason": "<b>moved</b>"}))
        .await;
    let shown = page(&desk, &format!("/agents/{}", agent.0)).await;
    assert!(shown.one("h1").text().starts_with("web1 Retired"));
    assert!(shown.text().contains("<b>moved</b>"), "only text");
    assert!(shown.text().contains("It has no targets."));
    let retired = page(&desk, "/agents?status=retired").await;
    assert!(retired.by_id(&format!("agent-{}", agent.0)).is_some());

    let session = desk.admin().await;
    for none in ["/agents/agt-none", "/agents/a%20b"] {
        let answer = desk.get(none, Some(&session)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        answer.page();
    }
}

#[tokio::test]
async fn who_may_not_read_agents_is_told_so() {
    let desk = Desk::open().await;
    for (role, status) in [
        (Role::Operator, StatusCode::OK),
        (Role::Viewer, StatusCode::OK),
        (Role::Auditor, StatusCode::FORBIDDEN),
    ] {
        let session = desk.sign_in(&desk.key(role).await).await;
        assert_eq!(desk.get("/agents", Some(&session)).await.status, status);
    }
    let stranger = desk.get("/agents", None).await;
    assert_eq!(stranger.header("location"), "/login?next=%2Fagents");
}

#[tokio::test]
async fn a_long_list_goes_on() {
    let desk = Desk::open().await;
    for n in 0..101 {
        desk.agent(&format!("a{n}")).await;
    }
    let first = page(&desk, "/agents").await;
    assert_eq!(first.all("tbody")[0].all("tr").len(), 100);
    let links = first.all("a");
    let next = links
        .iter()
        .find(|a| a.attr("rel").as_deref() == Some("next"));
    let rest = page(&desk, &next.unwrap().attr("href").unwrap()).await;
    assert_eq!(rest.all("tbody")[0].all("tr").len(), 1);
}
