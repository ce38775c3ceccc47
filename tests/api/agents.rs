//! Agents as operators see them: health, retirement, and credentials that change.

use crate::support::{Answer, DAY, HOUR, MINUTE, TestAgent, TestApp, text, time};
use certctl::{crypt::secret, domain::Agent};
use serde_json::{Value, json};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

async fn shown(app: &TestApp, agent: &TestAgent) -> Value {
    app.get(&format!("/api/v1/agents/{}", agent.id)).await
}

async fn retire(app: &TestApp, agent: &TestAgent, body: Value) -> Answer {
    app.post(&format!("/api/v1/agents/{}/retire", agent.id), body)
        .await
}

/// An agent with a certificate that it has not issued yet.
async fn busy(app: &TestApp, name: &str) -> TestAgent {
    let agent = app.agent(name).await;
    let target = app.target(&agent, &format!("{name}-files")).await;
    app.certificate(&format!("{name}-cert"), &[&target]).await;
    agent
}

#[tokio::test]
async fn an_agent_is_online_while_it_is_heard() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    assert_eq!(shown(&app, &agent).await["status"], "Online");
    app.advance(5 * MINUTE - SECOND);
    assert_eq!(shown(&app, &agent).await["status"], "Online");
    app.advance(SECOND);
    let late = shown(&app, &agent).await;
    assert_eq!(late["status"], "Offline");
    assert_eq!(late["last_heartbeat_at"], "2026-01-01T00:00:00Z");
    // A way that is tried is no sign of life.
    agent.call(&app, "GET", "ping").send().await.expect(200);
    assert_eq!(shown(&app, &agent).await["status"], "Offline");
    agent.work(&app).await;
    let back = shown(&app, &agent).await;
    assert_eq!(back["status"], "Online");
    assert_eq!(time(&back["last_heartbeat_at"]), app.now());
}

#[tokio::test]
async fn what_is_wrong_with_an_agent_that_is_heard_is_said_with_its_remedy() {
    let mut app = TestApp::start().await;
    let agent = app.agent("a").await;
    let poll = |query: String| agent.call(&app, "GET", &query).send();
    let now = |shift: i64| app.now().micros() / 1_000_000 + shift;
    let at = |shift: i64| certctl::clock::Time::from_seconds(now(shift));
    for (query, skew, problem) in [
        ("version=0.1.0".to_owned(), "same", None),
        ("version=0.2.9".into(), "newer", None),
        ("version=0.0.1".into(), "older", None),
        (
            "version=0.3.0".into(),
            "newer",
            Some("0.3.0, more than one"),
        ),
        ("version=1.0.0".into(), "newer", Some("more than one minor")),
        ("version=none".into(), "unknown", None),
        ("version=0.1.0&time=nonsense".into(), "same", None),
        (format!("time={}", at(300)), "same", None),
        (format!("time={}", at(301)), "same", Some("5 minutes ahead")),
        (
            format!("time={}", at(-600)),
            "same",
            Some("10 minutes behind"),
        ),
        (
            format!("time={}", at(-365 * 86_400)),
            "same",
            Some("365 days behind"),
        ),
        ("restoring=true".into(), "same", Some("its log says which")),
    ] {
        poll(format!("work?{query}")).await.expect(200);
        let seen = shown(&app, &agent).await;
        assert_eq!(seen["version_skew"], skew, "{query}");
        let problems = seen["problems"].as_array().unwrap();
        match problem {
            None => {
                assert_eq!(problems.len(), 0, "{query}: {problems:?}");
                assert_eq!(seen["status"], "Online", "{query}");
            }
            Some(part) => {
                assert_eq!(problems.len(), 1, "{query}: {problems:?}");
                assert!(text(&problems[0]).contains(part), "{problems:?}");
                assert_eq!(seen["status"], "Degraded", "{query}");
            }
        }
    }
    // It outlives the process, once it was written down.
    app.tick().await;
    app.restart().await;
    assert_eq!(shown(&app, &agent).await["status"], "Degraded");
    assert_eq!(shown(&app, &agent).await["version"], "0.1.0");
}

#[tokio::test]
async fn a_poll_that_says_nothing_new_writes_nothing() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let poll = || {
        let query = format!("work?version=0.1.0&time={}", app.now());
        let (app, agent) = (&app, &agent);
        async move { agent.call(app, "GET", &query).send().await.expect(200) }
    };
    poll().await;
    let before = app.seq();
    for _ in 0..10 {
        app.advance(SECOND);
        poll().await;
    }
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn agents_are_listed_by_what_is_asked() {
    let app = TestApp::start().await;
    for name in ["old", "new", "wrong", "gone"] {
        let agent = app.agent(name).await;
        let version = if name == "old" { "0.0.9" } else { "0.1.0" };
        if name != "gone" {
            app.advance(6 * MINUTE);
        }
        let query = format!("work?version={version}&restoring={}", name == "wrong");
        agent.call(&app, "GET", &query).send().await.expect(200);
    }
    // Now `old` and `new` are away too long.
    let names = async |query: &str| -> Vec<String> {
        let rows = app.list(&format!("/api/v1/agents?{query}")).await;
        rows.iter().map(|a| text(&a["name"])).collect()
    };
    assert_eq!(names("").await, ["gone", "wrong", "new", "old"]);
    assert_eq!(names("status=online").await, ["gone"]);
    assert_eq!(names("status=DEGRADED").await, ["wrong"]);
    assert_eq!(names("status=Offline").await, ["new", "old"]);
    assert_eq!(names("version=0.0.9").await, ["old"]);
    assert_eq!(names("version=0.1.0&status=offline").await, ["new"]);
    assert_eq!(names("name=wrong").await, ["wrong"]);
    assert_eq!(names("os=linux").await.len(), 4);
    assert_eq!(names("os=plan9").await, [""; 0]);
    let offline = app.get("/api/v1/agents?status=offline&per_page=1").await;
    assert_eq!(offline["total"], 2);
    let cursor = text(&offline["next_cursor"]);
    let rest = format!("/api/v1/agents?status=offline&page_size=1&cursor={cursor}");
    let rest = app.get(&rest).await;
    assert_eq!(rest["data"][0]["name"], "old");
    assert_eq!(rest.get("next_cursor"), None);
    let other = format!("/api/v1/agents?cursor={cursor}");
    let message = app.admin("GET", &other).send().await.refused(400);
    assert!(message.starts_with("cursor: "), "{message}");
    let asked = app.admin("GET", "/api/v1/agents?status=well").send().await;
    assert!(asked.refused(400).contains("Online, Degraded, Offline"));
    app.tick().await;
    assert_eq!(
        names("status=degraded").await,
        ["wrong"],
        "once written too"
    );
}

#[tokio::test]
async fn an_agent_is_shown_with_what_hangs_on_it() {
    let app = TestApp::start().await;
    let agent = busy(&app, "web").await;
    let seen = shown(&app, &agent).await;
    assert_eq!(
        seen["counts"],
        json!({"active_targets": 1, "active_certificates": 1, "pending_jobs": 1})
    );
    assert_eq!(seen["targets"][0]["name"], "web-files");
    assert_eq!(seen["certificates"][0]["id"], "web-cert");
    assert_eq!(seen["jobs"][0]["type"], "Issuance");
    assert_eq!(seen["jobs"][0]["status"], "Pending");
    agent.job(&app).await;
    assert_eq!(shown(&app, &agent).await["jobs"][0]["status"], "Running");
}

#[tokio::test]
async fn an_agent_on_which_nothing_hangs_is_retired_at_once() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let retired = retire(&app, &agent, json!({})).await.expect(200);
    assert_eq!(
        retired,
        json!({
            "retired_at": "2026-01-01T00:00:00Z", "already_retired": false, "cascade": false,
            "counts": {"active_targets": 0, "active_certificates": 0, "pending_jobs": 0},
        })
    );
    let before = app.seq();
    let again = retire(&app, &agent, json!({})).await;
    assert_eq!(again.status, 204);
    assert_eq!(again.body, Value::Null);
    assert_eq!(app.seq(), before);
    assert_eq!(app.list("/api/v1/agents").await, [Value::Null; 0]);
    let gone = &app.list("/api/v1/agents/retired").await[0];
    assert_eq!(gone["id"], agent.id.as_str());
    assert_eq!(gone["retired_at"], "2026-01-01T00:00:00Z");
    assert_eq!(shown(&app, &agent).await["status"], "Offline");
    app.check().await;
}

#[tokio::test]
async fn what_hangs_on_an_agent_keeps_it_unless_somebody_insists() {
    let app = TestApp::start().await;
    let agent = busy(&app, "web").await;
    let path = format!("/api/v1/agents/{}", agent.id);
    let before = app.seq();
    for call in [
        app.admin("DELETE", &path),
        app.admin("DELETE", &format!("{path}?force=false&reason=x")),
        app.admin("POST", &format!("{path}/retire"))
            .json(&json!({})),
    ] {
        let blocked = call.send().await.expect(409);
        assert_eq!(blocked["error"], "blocked_by_dependencies");
        assert_eq!(
            blocked["counts"],
            json!({"active_targets": 1, "active_certificates": 1, "pending_jobs": 1})
        );
        assert!(text(&blocked["message"]).contains("1 target, 1 certificate and 1 open job"));
    }
    let forced = app.admin("DELETE", &format!("{path}?force=true"));
    let message = forced.send().await.refused(400);
    assert!(message.starts_with("reason: "), "{message}");
    assert_eq!(app.seq(), before, "a refusal changed something");
    agent.work(&app).await;

    let forced = app.admin("DELETE", &format!("{path}?force=true&reason=moved"));
    let retired = forced.send().await.expect(200);
    assert_eq!(retired["cascade"], true);
    let event = &app.list("/api/v1/audit").await[0];
    assert_eq!(event["action"], "agent_retired");
    assert_eq!(event["details"]["reason"], "moved");
    assert_eq!(event["details"]["pending_jobs"], "1");
    app.check().await;
}

#[tokio::test]
async fn the_products_own_agents_and_unknown_ones_are_not_retired() {
    let app = TestApp::start().await;
    let retire = async |id: &str| {
        let path = format!("/api/v1/agents/{id}?force=true&reason=x");
        app.admin("DELETE", &path).send().await
    };
    for id in [
        "server-scanner",
        "cloud-aws-sm",
        "cloud-azure-kv",
        "cloud-gcp-sm",
    ] {
        retire(id).await.refused(403);
    }
    retire("agt-none").await.refused(404);
    retire("a%20b").await.refused(404);
}

#[tokio::test]
async fn a_retired_agent_is_answered_gone_on_every_call() {
    let app = TestApp::start().await;
    let agent = busy(&app, "web").await;
    let job = agent.job(&app).await;
    let reason = json!({"force": true, "reason": "rack 7 is gone"});
    retire(&app, &agent, reason).await.expect(200);
    let before = app.seq();
    for (method, rest) in [
        ("GET", "work".to_owned()),
        ("GET", "work?fresh=true".into()),
        ("GET", "ping".into()),
        ("POST", "credential".into()),
        ("POST", format!("jobs/{}/lease", job.id)),
        ("POST", format!("jobs/{}/csr", job.id)),
        ("POST", format!("jobs/{}/report", job.id)),
    ] {
        let call = agent.call(&app, method, &rest);
        let body = json!({
            "token": job.lease.token, "outcome": "failed", "class": "permanent", "reason": "x",
            "csr_pem": "x", "secret_sha256": secret::hash("x"),
        });
        let message = call.json(&body).send().await.refused(410);
        assert!(message.contains("rack 7 is gone"), "{rest}: {message}");
    }
    let elsewhere = app.call("GET", "/api/v1/certificates");
    let elsewhere = elsewhere.bearer(&agent.credential()).send().await;
    elsewhere.refused(410);
    // Who does not have its secret learns nothing.
    let wrong = app.call("GET", &format!("/api/v1/agents/{}/work", agent.id));
    let wrong = wrong.bearer(&format!("cta_{}.wrong", agent.id));
    wrong.send().await.refused(401);
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn a_poll_that_waits_is_told_at_once() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let poll = agent.call(&app, "GET", "work?wait=50").send();
    let end = async {
        tokio::task::yield_now().await;
        retire(&app, &agent, json!({})).await.expect(200)
    };
    let (poll, _) = tokio::join!(poll, end);
    poll.refused(410);
}

#[tokio::test]
async fn the_name_of_a_retired_agent_is_free_and_its_secret_is_not() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    retire(&app, &agent, json!({"reason": "old"}))
        .await
        .expect(200);
    let token = app.join_token(json!({"max_uses": 2})).await;
    let credential = agent.credential();
    let old = credential.rsplit_once('.').unwrap().1;
    let wish = TestAgent::wish("a", &token, old);
    let call = app.call("POST", "/api/v1/agents/enrol").json(&wish);
    let message = call.send().await.refused(410);
    assert!(message.contains("old"), "{message}");
    let new = TestAgent::enrol(&app, "a", &token).await;
    assert_ne!(new.id, agent.id);
    new.work(&app).await;
    agent.call(&app, "GET", "work").send().await.refused(410);
    app.check().await;
}

#[tokio::test]
async fn a_retired_agent_gets_no_target_and_its_target_no_certificate() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "files").await;
    let wish = json!({"force": true, "reason": "moved"});
    retire(&app, &agent, wish).await.expect(200);
    let body = json!({"name": "t", "type": "File", "agent_id": agent.id, "config": {}});
    let message = app.post("/api/v1/targets", body).await.refused(400);
    assert!(message.contains("retired"), "{message}");
    let body = json!({"name": "c", "common_name": "c.example", "target_ids": [target]});
    let message = app.post("/api/v1/certificates", body).await.refused(400);
    assert!(message.starts_with("target_ids: "), "{message}");
    assert_eq!(app.list("/api/v1/targets").await, [Value::Null; 0]);
    let shown = app.get(&format!("/api/v1/targets/{target}")).await;
    assert_eq!(shown["retired_reason"], "moved");
    // The name is free for the target on the next agent.
    let next = app.agent("b").await;
    app.target(&next, "files").await;
    app.check().await;
}

#[tokio::test]
async fn agents_retired_while_work_is_hung_on_them_keep_nothing() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let new = |n: u32| {
        let body =
            json!({"name": format!("t{n}"), "type": "File", "agent_id": agent.id, "config": {}});
        app.post("/api/v1/targets", body)
    };
    let wish = json!({"force": true, "reason": "moved"});
    let (retired, a, b) = tokio::join!(retire(&app, &agent, wish), new(1), new(2));
    retired.expect(200);
    for made in [a, b] {
        assert!(matches!(made.status.as_u16(), 201 | 400), "{made:?}");
    }
    app.tick().await;
    app.check().await;
}

// Credentials.

/// Offers a secret under a credential.
async fn offer(app: &TestApp, agent: &TestAgent, by: &str, next: &str) -> Answer {
    let path = format!("/api/v1/agents/{}/credential", agent.id);
    let call = app
        .call("POST", &path)
        .bearer(&format!("cta_{}.{by}", agent.id));
    call.json(&json!({"secret_sha256": secret::hash(next)}))
        .send()
        .await
}

/// A call by a secret.
async fn ping(app: &TestApp, agent: &TestAgent, by: &str) -> Answer {
    let path = format!("/api/v1/agents/{}/ping", agent.id);
    let call = app
        .call("GET", &path)
        .bearer(&format!("cta_{}.{by}", agent.id));
    call.send().await
}

fn secret_of(agent: &TestAgent) -> String {
    let credential = agent.credential();
    credential.rsplit_once('.').unwrap().1.to_owned()
}

#[tokio::test]
async fn a_credential_is_over_when_the_next_one_is_first_used() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let old = secret_of(&agent);
    app.advance(30 * DAY);
    offer(&app, &agent, &old, "n1").await.expect(204);
    // Until then the old one counts, and may offer another.
    ping(&app, &agent, &old).await.expect(200);
    let before = app.seq();
    offer(&app, &agent, &old, "n1").await.expect(204);
    offer(&app, &agent, &old, &old).await.expect(204);
    assert_eq!(app.seq(), before, "a repetition changed something");
    offer(&app, &agent, &old, "n2").await.expect(204);
    ping(&app, &agent, "n1").await.refused(401);
    let pong = ping(&app, &agent, "n2").await.expect(200);
    assert_eq!(time(&pong["credential_since"]), app.now());
    ping(&app, &agent, &old).await.refused(401);
    ping(&app, &agent, "n2").await.expect(200);
    let rotations = |actions: Vec<String>| {
        let of = |a: &&String| a.as_str() == "agent_credential_rotated";
        actions.iter().filter(of).count()
    };
    assert_eq!(rotations(app.actions().await), 1);
    let message = offer(&app, &agent, "n2", &old).await.refused(400);
    assert!(message.contains("in use before"), "{message}");
    let id = agent.id.parse().unwrap();
    let row = app.app.store.get::<Agent>(&id).await.unwrap().unwrap();
    assert_eq!(row.secret_sha256, secret::hash("n2"));
    assert_eq!(row.next_secret_sha256, None);
}

#[tokio::test]
async fn a_stolen_credential_that_is_over_is_refused_and_told_of() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let old = secret_of(&agent);
    offer(&app, &agent, &old, "new").await.expect(204);
    ping(&app, &agent, "new").await.expect(200);
    // A call of the agent itself that was under way.
    let told = async || {
        let actions = app.actions().await;
        let of = |a: &&String| a.as_str() == "agent_credential_superseded_used";
        actions.iter().filter(of).count()
    };
    ping(&app, &agent, &old).await.refused(401);
    assert_eq!(told().await, 0);
    app.advance(MINUTE);
    for _ in 0..10 {
        ping(&app, &agent, &old).await.refused(401);
    }
    assert_eq!(told().await, 1, "once, however often it is tried");
    app.advance(HOUR);
    ping(&app, &agent, &old).await.refused(401);
    assert_eq!(told().await, 2);
    // A credential that never was one is nothing to tell of.
    ping(&app, &agent, "guess").await.refused(401);
    assert_eq!(told().await, 2);
}

#[tokio::test]
async fn a_credential_that_is_not_rotated_is_a_problem() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    app.advance(45 * DAY);
    agent.work(&app).await;
    assert_eq!(shown(&app, &agent).await["status"], "Online");
    app.advance(SECOND);
    let seen = shown(&app, &agent).await;
    assert_eq!(seen["status"], "Degraded");
    let problem = text(&seen["problems"][0]);
    assert!(problem.contains("credential"), "{problem}");
}

#[tokio::test]
async fn a_retired_agent_that_was_about_to_rotate_is_gone_by_both_secrets() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let old = secret_of(&agent);
    offer(&app, &agent, &old, "next").await.expect(204);
    retire(&app, &agent, json!({})).await.expect(200);
    ping(&app, &agent, &old).await.refused(410);
    ping(&app, &agent, "next").await.refused(410);
}
