//! The page of a certificate and the page of targets: how attempts ended, and what can be asked.

use super::{Desk, certificates::issued, html::Html};
use certctl::access::Role;
use http::{Method, StatusCode};
use serde_json::{Value, json};

async fn page(desk: &Desk, path: &str, session: &str) -> Html {
    let answer = desk.get(path, Some(session)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.page()
}

fn on<'a>(jobs: &'a [Value], target: &str) -> &'a Value {
    jobs.iter().find(|j| j["target_id"] == target).unwrap()
}

#[tokio::test]
async fn a_certificate_shows_how_each_attempt_ended() {
    let desk = Desk::open().await;
    let (agent, jobs) = issued(&desk).await;
    let session = desk.admin().await;
    let sheet = |page: &Html| page.by_id("sheet").unwrap().attr("hx-get");
    let before = page(&desk, "/certificates/shop", &session).await;
    assert_eq!(
        sheet(&before).as_deref(),
        Some("/certificates/shop/fragment"),
        "it follows what is under way"
    );
    let job = on(&jobs, "tgt-a");
    let report = json!({
        "outcome": "rolled_back", "reason": "<b>the reload</b> failed",
        "served": [{"endpoint": "shop.example.com:443", "serial": "0a"}],
        "old_fingerprint_sha256": "ab".repeat(32),
        "new_fingerprint_sha256": job["version"]["fingerprint_sha256"],
        "output": "nginx: [emerg] <script>\nnginx: no", "duration_ms": 1_250,
    });
    desk.tell(&agent, job, "report", report).await;
    let shown = page(&desk, "/certificates/shop", &session).await;
    assert_eq!(shown.one("h1").all("span").len(), 1, "its status");
    let place = shown.by_id("target-tgt-a").unwrap();
    let text = place.text();
    for part in [
        "Rolled back",
        "1.2 s",
        "attempt 1",
        "<b>the reload</b> failed",
        "a certificate of another origin",
        job["version"]["serial"].as_str().unwrap(),
        "shop.example.com:443 serves serial 0a",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let details = &place.all("details")[0];
    assert!(details.text().contains("nginx: [emerg] <script> nginx: no"));
    assert!(details.text().starts_with("Output of programs"));
    // The other target has no attempt yet.
    let other = shown.by_id("target-tgt-b").unwrap();
    assert!(other.all("dl").is_empty());
    let fragment = desk
        .get("/certificates/shop/fragment", Some(&session))
        .await;
    assert!(
        fragment
            .text()
            .trim_start()
            .starts_with("<div id=\"sheet\"")
    );
    let list = page(&desk, "/certificates", &session).await;
    let row = list.by_id("certificate-shop").unwrap();
    let link = row.all("a")[0].attr("href");
    assert_eq!(link.as_deref(), Some("/certificates/shop"));
}

#[tokio::test]
async fn buttons_deploy_again_and_try_out() {
    let desk = Desk::open().await;
    let (agent, jobs) = issued(&desk).await;
    for job in &jobs {
        let report = json!({"outcome": "failed", "class": "permanent", "reason": "no room"});
        desk.tell(&agent, job, "report", report).await;
    }
    let session = desk.admin().await;
    let quiet = page(&desk, "/certificates/shop", &session).await;
    let sheet = quiet.by_id("sheet").unwrap();
    assert_eq!(sheet.attr("hx-get"), None, "nothing is under way");
    let form = &quiet.by_id("target-tgt-a").unwrap().all("form")[0];
    let action = form.attr("action").unwrap();
    assert_eq!(action, "/certificates/shop/deploy");
    let press = async |act: &str| {
        let form = format!("target=tgt-a&act={act}");
        let answer = desk.post(&action, Some(&session), &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        let to = answer.header("location");
        assert_eq!(to, "/certificates/shop#target-tgt-a");
    };
    press("deploy").await;
    press("dry_run").await;
    let mut work = desk.trials(&agent).await;
    work.sort_by_key(|job| job["type"].to_string());
    let kinds: Vec<&str> = work.iter().map(|j| j["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Deployment", "DryRun"]);
    let shown = page(&desk, "/certificates/shop", &session).await;
    let place = shown.by_id("target-tgt-a").unwrap().text();
    assert!(place.contains("Last dry run It is being run."), "{place}");
    let found = json!({
        "outcome": "examined", "faults": ["the link is foreign"], "findings": ["a finding"],
        "served": [],
    });
    desk.tell(&agent, &work[1], "report", found).await;
    let shown = page(&desk, "/certificates/shop", &session).await;
    let place = shown.by_id("target-tgt-a").unwrap().text();
    for part in ["Last dry run", "the link is foreign", "a finding"] {
        assert!(place.contains(part), "{part:?} in {place}");
    }
    let jobs = shown.one("table").text();
    assert!(
        jobs.contains("Dry run") && jobs.contains("Running"),
        "{jobs}"
    );

    // What cannot be done says so, and a viewer is offered nothing.
    for (form, status) in [
        ("target=tgt-none&act=deploy", StatusCode::BAD_REQUEST),
        ("target=a/b&act=deploy", StatusCode::BAD_REQUEST),
        ("target=tgt-a&act=dance", StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let answer = desk.post(&action, Some(&session), form).await;
        assert_eq!(answer.status, status, "{form}");
        answer.page();
    }
    let viewer = desk.sign_in(&desk.key(Role::Viewer).await).await;
    let shown = page(&desk, "/certificates/shop", &viewer).await;
    let place = shown.by_id("target-tgt-a").unwrap();
    assert!(place.all("form").is_empty());
    let answer = desk
        .post(&action, Some(&viewer), "target=tgt-a&act=deploy")
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    for path in ["/certificates/none", "/certificates/a%2fb"] {
        let answer = desk.get(path, Some(&session)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        answer.page();
    }
}

#[tokio::test]
async fn targets_are_tested_from_their_page() {
    let desk = Desk::open().await;
    let session = desk.admin().await;
    let empty = page(&desk, "/targets", &session).await;
    assert!(empty.text().contains("No targets yet"));
    let (agent, _) = issued(&desk).await;
    let shown = page(&desk, "/targets", &session).await;
    let card = shown.by_id("target-tgt-a").unwrap();
    let text = card.text();
    for part in ["storefront", "File", "Untested", "web1"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let action = card.all("form")[0].attr("action").unwrap();
    let answer = desk.post(&action, Some(&session), "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/targets#target-tgt-a");
    let shown = page(&desk, "/targets", &session).await;
    let list = shown.by_id("list").unwrap();
    assert_eq!(list.attr("hx-get").as_deref(), Some("/targets/fragment"));
    let work = desk.trials(&agent).await;
    let test = work.iter().find(|j| j["type"] == "TargetTest").unwrap();
    let found = json!({
        "outcome": "examined", "faults": [], "findings": ["links can be made"], "served": [],
    });
    desk.tell(&agent, test, "report", found).await;
    let shown = page(&desk, "/targets", &session).await;
    assert_eq!(shown.by_id("list").unwrap().attr("hx-get"), None);
    let text = shown.by_id("target-tgt-a").unwrap().text();
    for part in ["Completed", "Last test", "Passed", "links can be made"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let fragment = desk.get("/targets/fragment", Some(&session)).await;
    assert!(fragment.text().trim_start().starts_with("<div id=\"list\""));
    let viewer = desk.sign_in(&desk.key(Role::Viewer).await).await;
    let shown = page(&desk, "/targets", &viewer).await;
    assert!(shown.one("main").all("form").is_empty());
    let answer = desk.post(&action, Some(&viewer), "").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let auditor = desk.sign_in(&desk.key(Role::Auditor).await).await;
    let answer = desk.get("/targets", Some(&auditor)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    answer.page();
}

impl Desk {
    /// All the jobs there are for an agent.
    async fn trials(&self, (id, credential): &(String, String)) -> Vec<Value> {
        let path = format!("/agents/{id}/work");
        let work = self.api(Method::GET, &path, credential, Value::Null).await;
        work["jobs"].as_array().unwrap().clone()
    }
}
