//! The certificates page.

use super::{Answer, DAY, Desk, html::Html};
use certctl::{
    access::Role,
    crypt::{Crypto, RingCrypto},
    pki::{KeyAlgorithm, csr},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// One certificate on an agent with two targets, its version issued; the deployment jobs.
pub async fn issued(desk: &Desk) -> ((String, String), Vec<Value>) {
    let agent = desk.agent("web1").await;
    for (id, name) in [("tgt-a", "storefront"), ("tgt-b", "files")] {
        let body = json!({
            "id": id, "name": name, "type": "File", "agent_id": agent.0, "config": {},
        });
        desk.make("/targets", body).await;
    }
    let body = json!({
        "id": "shop", "name": "Shop", "common_name": "shop.example.com",
        "sans": ["www.example.com"], "target_ids": ["tgt-a", "tgt-b"],
    });
    desk.make("/certificates", body).await;
    assert!(desk.work(&agent).await.is_empty());
    let jobs = desk.work(&agent).await;
    assert_eq!(jobs.len(), 2);
    (agent, jobs)
}

fn job<'a>(jobs: &'a [Value], target: &str) -> &'a Value {
    jobs.iter().find(|j| j["target_id"] == target).unwrap()
}

async fn page(desk: &Desk, session: &str) -> Html {
    let answer = desk.get("/certificates", Some(session)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.page()
}

/// The text of each cell of a certificate's row.
fn cells(page: &Html, id: &str) -> Vec<String> {
    let row = page.by_id(&format!("certificate-{id}")).unwrap();
    let mut cells = row.all("th");
    cells.extend(row.all("td"));
    cells.iter().map(|c| c.text()).collect()
}

#[tokio::test]
async fn the_first_address_is_the_certificates() {
    let desk = Desk::open().await;
    let answer = desk.get("/", None).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/certificates");
}

#[tokio::test]
async fn without_certificates_it_says_how_to_make_one() {
    let desk = Desk::open().await;
    let page = page(&desk, &desk.admin().await).await;
    assert!(page.text().contains("No certificates yet"));
    let command = page.one("pre").text();
    assert!(command.starts_with("curl --unix-socket "), "{command}");
    let body = command.split('\'').nth(1).unwrap();
    let made = desk.make("/certificates", body.parse().unwrap()).await;
    assert_eq!(made["status"], "Pending");
}

#[tokio::test]
async fn a_certificate_is_shown_from_first_wish_to_seen_served() {
    let desk = Desk::open().await;
    let session = desk.admin().await;
    let (agent, jobs) = issued(&desk).await;
    let before = page(&desk, &session).await;
    let [name, status, expires, next, places] = cells(&before, "shop").try_into().unwrap();
    assert_eq!(name, "Shop shop shop.example.com, www.example.com");
    assert_eq!(status, "Active");
    assert_eq!(expires, "in 90 days 2026-04-01 00:00 UTC");
    assert_eq!(next.split(" at ").next(), Some("renewal"));
    assert!(next.ends_with(" days)"), "{next}");
    assert_eq!(places, "Pending storefront File Pending files File");

    desk.pass(Duration::from_secs(60));
    let version = &job(&jobs, "tgt-a")["version"];
    let served = json!([{
        "endpoint": "10.0.0.7:443", "serial": version["serial"],
        "fingerprint_sha256": version["fingerprint_sha256"],
    }]);
    let seen = json!({"outcome": "confirmed", "changed": true, "served": served});
    desk.tell(&agent, job(&jobs, "tgt-a"), "report", seen).await;
    let fault = json!({
        "outcome": "rollback_failed", "reason": "nginx -t says no",
        "served": [{"endpoint": "10.0.0.8:443", "serial": "0ff"}],
    });
    desk.tell(&agent, job(&jobs, "tgt-b"), "report", fault)
        .await;
    desk.pass(Duration::from_secs(120));
    let after = page(&desk, &session).await;
    let [_, _, _, next, places] = cells(&after, "shop").try_into().unwrap();
    assert!(
        next.starts_with("files: nginx -t says no renewal at "),
        "{next}"
    );
    assert_eq!(
        places,
        "Confirmed storefront File 2 minutes ago · 10.0.0.7:443 \
         Failed files File 2 minutes ago · 10.0.0.8:443 serves serial 0ff; \
         what was there before is not back; tried again in 58 minutes"
    );
    let counts = after.one("main").all("ul")[0].text();
    assert_eq!(counts, "1 in all 1 failed on a target 1 Active");
    let events = after.by_id("events").is_some();
    assert!(
        events
            && after
                .text()
                .contains("deployment confirmed certificate shop")
    );
}

#[tokio::test]
async fn status_follows_the_clock() {
    let desk = Desk::open().await;
    issued(&desk).await;
    let hour = Duration::from_secs(3_600);
    for (later, status, expires) in [
        (hour, "Active", "in 89 days"),
        (DAY * 59 - hour, "Active", "in 31 days"),
        (DAY, "Expiring soon", "in 30 days"),
        (DAY * 30 - hour, "Expiring soon", "in 1 hour"),
        (hour, "Expired", "less than a minute ago"),
        (DAY * 800, "Expired", "2 years ago"),
    ] {
        desk.pass(later);
        let page = page(&desk, &desk.admin().await).await;
        let cells = cells(&page, "shop");
        assert_eq!(
            cells[1..3],
            [status, &format!("{expires} 2026-04-01 00:00 UTC")]
        );
    }
}

#[tokio::test]
async fn problems_come_first() {
    let desk = Desk::open().await;
    for name in ["one", "two"] {
        let body = json!({"id": name, "name": name, "common_name": format!("{name}.example.com")});
        desk.make("/certificates", body).await;
    }
    let (agent, jobs) = issued(&desk).await;
    let session = desk.admin().await;
    let first = |page: &Html| page.all("tbody")[0].all("tr")[0].attr("id").unwrap();
    assert_ne!(first(&page(&desk, &session).await), "certificate-shop");
    let fault = json!({"outcome": "failed", "class": "operator", "reason": "disk full"});
    desk.tell(&agent, job(&jobs, "tgt-a"), "report", fault)
        .await;
    assert_eq!(first(&page(&desk, &session).await), "certificate-shop");
}

#[tokio::test]
async fn events_are_shown_newest_first() {
    let desk = Desk::open().await;
    let session = desk.admin().await;
    let page = page(&desk, &session).await;
    let rows = page.all("tbody")[0].all("tr");
    let numbers: Vec<u64> = rows
        .iter()
        .map(|r| r.all("td")[0].text().parse().unwrap())
        .collect();
    assert!(
        numbers.len() > 1 && numbers.is_sorted_by(|a, b| a > b),
        "{numbers:?}"
    );
    let newest: Vec<String> = rows[0].all("td").iter().map(|c| c.text()).collect();
    assert_eq!(newest[1..3], ["less than a minute ago", "admin"]);
    assert!(
        newest[3].starts_with("session opened session ses-"),
        "{newest:?}"
    );
}

#[tokio::test]
async fn everybody_sees_what_the_role_allows() {
    let desk = Desk::open().await;
    issued(&desk).await;
    for (role, certificates, events) in [
        (Role::Admin, true, true),
        (Role::Operator, true, true),
        (Role::Viewer, true, true),
        (Role::Auditor, false, true),
    ] {
        let session = desk.sign_in(&desk.key(role).await).await;
        let page = page(&desk, &session).await;
        let name = format!("somebody {}", role.id());
        assert!(page.one("header").text().contains(&name));
        let shown = page.by_id("certificate-shop").is_some();
        assert_eq!(shown, certificates, "{role:?}");
        assert_eq!(page.by_id("events").is_some(), events, "{role:?}");
        assert_eq!(page.text().contains("cert.read"), !certificates);
    }
}

#[tokio::test]
async fn hostile_names_are_only_text() {
    let desk = Desk::open().await;
    let name = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;{{7*7}}";
    let agent = desk.agent("</main><style>*{display:none}</style>").await;
    let body = json!({
        "id": "tgt-x", "name": name, "type": "File", "agent_id": agent.0, "config": {},
    });
    desk.make("/targets", body).await;
    let body = json!({
        "id": "x", "name": name, "common_name": "x.example.com", "target_ids": ["tgt-x"],
    });
    desk.make("/certificates", body).await;
    desk.work(&agent).await;
    let jobs = desk.work(&agent).await;
    let fault = json!({"outcome": "failed", "class": "operator", "reason": name});
    desk.tell(&agent, &jobs[0], "report", fault).await;
    let page = page(&desk, &desk.admin().await).await;
    let cells = cells(&page, "x");
    assert!(cells[0].starts_with(name), "{cells:?}");
    assert!(
        cells[3].contains(name) && cells[4].contains(name),
        "{cells:?}"
    );
    let scripts = page.all("script");
    assert!(
        scripts
            .iter()
            .all(|s| s.attr("src").unwrap().starts_with("/static/"))
    );
}

#[tokio::test]
async fn the_refresh_is_the_part_of_the_page_that_changes() {
    let desk = Desk::open().await;
    issued(&desk).await;
    let session = desk.admin().await;
    let whole = desk.get("/certificates", Some(&session)).await;
    let board = whole.page().by_id("board").unwrap();
    let from = board.attr("hx-get").unwrap();
    assert_eq!(board.attr("hx-trigger").as_deref(), Some("every 5s"));
    let part: Answer = desk.get(&from, Some(&session)).await;
    assert_eq!(part.status, StatusCode::OK);
    assert!(!part.text().contains("<html"));
    assert!(whole.text().contains(part.text()), "{}", part.text());

    let still = desk.get("/certificates?live=off", Some(&session)).await;
    let still = still.page().by_id("board").unwrap();
    assert_eq!(still.attr("hx-get"), None);
}

#[tokio::test]
async fn one_that_failed_on_a_target_comes_first_however_many_there_are() {
    let desk = Desk::open().await;
    let agent = desk.agent("a").await;
    // Each ends before the one that fails.
    let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let csr = csr::build(key.pkcs8_der(), None, &[]).unwrap();
    for n in 0..101 {
        let name = format!("c{n}");
        let body = json!({"id": name, "name": name, "common_name": "c.example", "csr_pem": csr});
        desk.make("/certificates", body).await;
    }
    desk.pass(DAY);
    let body =
        json!({"id": "tgt-x", "name": "x", "type": "File", "agent_id": agent.0, "config": {}});
    desk.make("/targets", body).await;
    let body = json!({
        "id": "x", "name": "x", "common_name": "x.example.com", "target_ids": ["tgt-x"],
    });
    desk.make("/certificates", body).await;
    desk.work(&agent).await;
    let jobs = desk.work(&agent).await;
    let fault = json!({"outcome": "failed", "class": "operator", "reason": "no room"});
    desk.tell(&agent, &jobs[0], "report", fault).await;
    let page = page(&desk, &desk.admin().await).await;
    let rows = page.all("tbody")[0].all("tr");
    assert_eq!(rows.len(), 100);
    assert_eq!(rows[0].attr("id").as_deref(), Some("certificate-x"));
}

#[tokio::test]
async fn a_long_list_says_that_it_is_cut() {
    let desk = Desk::open().await;
    for n in 0..101 {
        let body = json!({"name": format!("c{n}"), "common_name": format!("c{n}.example.com")});
        desk.make("/certificates", body).await;
    }
    let page = page(&desk, &desk.admin().await).await;
    assert_eq!(page.all("tbody")[0].all("tr").len(), 100);
    assert!(
        page.text()
            .contains("These are the 100 that need attention or end first; there are more.")
    );
    let counts = page.one("main").all("ul")[0].text();
    assert_eq!(counts, "101 in all 101 Pending", "all are counted");
}

#[tokio::test]
async fn what_is_served_now_is_on_the_certificates_page_and_asked_for_by_a_form() {
    let desk = Desk::open().await;
    let session = desk.admin().await;
    let (agent, jobs) = issued(&desk).await;
    let at = "/certificates/shop";
    let not_yet = desk.get(at, Some(&session)).await.page();
    assert!(not_yet.text().contains("Not seen yet"));

    let version = &job(&jobs, "tgt-a")["version"];
    let seen = |target: &str, shown: Value| {
        json!({
            "target_id": target, "certificate_id": "shop", "serial": version["serial"],
            "served": [shown],
        })
    };
    let right = json!({
        "endpoint": "shop.test:443", "serial": version["serial"],
        "fingerprint_sha256": version["fingerprint_sha256"], "chain_ok": true,
    });
    let wrong = json!({"endpoint": "<b>:443", "error": "<i>refused</i>", "chain_ok": false});
    let body = json!({"observations": [seen("tgt-a", right), seen("tgt-b", wrong)]});
    let path = format!("/agents/{}/observations", agent.0);
    desk.api(Method::POST, &path, &agent.1, body).await;
    let page = desk.get(at, Some(&session)).await.page();
    for part in [
        "Current version",
        "shop.test:443",
        "Nothing answers",
        "<i>refused</i>",
        "files: <b>:443 serves nothing",
    ] {
        assert!(page.text().contains(part), "{part}: {}", page.text());
    }
    let row = &cells(&self::page(&desk, &session).await, "shop")[3];
    assert!(row.contains("serves nothing"), "{row}");

    // The deployments are not confirmed, and the agent is not there: nobody is waited for long.
    let answer = desk
        .post("/certificates/shop/check", Some(&session), "")
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let next = answer.header("location").to_owned();
    assert_eq!(next, "/certificates/shop?checked=some#served");
    let page = desk
        .get("/certificates/shop?checked=some", Some(&session))
        .await
        .page();
    assert!(page.text().contains("Not every agent has looked in time"));
}

#[tokio::test]
async fn a_certificate_names_what_it_rests_on_and_the_rules_it_breaks() {
    let desk = Desk::open().await;
    desk.make(
        "/profiles",
        json!({"id": "internal", "name": "Internal servers"}),
    )
    .await;
    desk.make(
        "/owners",
        json!({"id": "ada", "name": "Ada <b>Lovelace</b>"}),
    )
    .await;
    let rule = json!({
        "name": "Environments", "type": "AllowedEnvironments",
        "config": {"allowed": ["production"]},
    });
    desk.make("/policies", rule).await;
    let body = json!({
        "id": "shop", "name": "Shop", "common_name": "shop.example.com", "owner_id": "ada",
        "team_id": "nobody made it", "certificate_profile_id": "internal",
        "environment": "dev", "tags": {"app": "shop"},
    });
    desk.make("/certificates", body).await;
    let session = desk.admin().await;
    let answer = desk.get("/certificates/shop", Some(&session)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let page = answer.page();
    page.assert_accessible();
    let facts = page.one("dl").text();
    for part in [
        "Internal servers",
        "Ada <b>Lovelace</b>",
        "nobody made it",
        "Local CA",
        "app=shop",
        "environment \"dev\" is none of production",
    ] {
        assert!(facts.contains(part), "{part:?} in {facts}");
    }
}
