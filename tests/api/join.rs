//! Join tokens, and agents enrolling by them.

use crate::support::{Answer, HOUR, MINUTE, TestAgent, TestApp, text};
use certctl::{clock::Time, domain::Agent};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

async fn enrol(app: &TestApp, name: &str, token: &str, secret: &str) -> Answer {
    let body = TestAgent::wish(name, token, secret);
    let call = app.call("POST", "/api/v1/agents/enrol").json(&body);
    call.send().await
}

#[tokio::test]
async fn a_token_lets_one_agent_in() {
    let app = TestApp::start().await;
    let token = app.join_token(json!({})).await;
    enrol(&app, "a", &token, "s-a").await.expect(201);
    let before = app.seq();
    let message = enrol(&app, "b", &token, "s-b").await.refused(401);
    assert!(message.contains("join token"), "{message}");
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn a_token_lets_in_as_many_agents_as_it_says() {
    let app = TestApp::start().await;
    let token = app.join_token(json!({"max_uses": 3})).await;
    for name in ["a", "b", "c"] {
        enrol(&app, name, &token, name).await.expect(201);
    }
    enrol(&app, "d", &token, "d").await.refused(401);
}

#[tokio::test]
async fn agents_that_join_at_once_by_one_token_do_not_keep_each_other_out() {
    let app = TestApp::start().await;
    let token = app.join_token(json!({"max_uses": 60})).await;
    let enrolments = (0..70).map(|n| {
        let (app, token) = (&app, &token);
        async move { enrol(app, &format!("a{n}"), token, &format!("s{n}")).await }
    });
    let mut let_in = 0;
    for answer in futures_util::future::join_all(enrolments).await {
        match answer.status.as_u16() {
            201 => let_in += 1,
            _ => assert!(answer.refused(401).contains("used up")),
        }
    }
    assert_eq!(let_in, 60);
    enrol(&app, "late", &token, "s").await.refused(401);
}

#[tokio::test]
async fn a_token_ends_at_its_end() {
    let app = TestApp::start().await;
    let token = app
        .join_token(json!({"max_uses": 2, "expires_in_seconds": 600}))
        .await;
    app.advance(10 * MINUTE - SECOND);
    enrol(&app, "in-time", &token, "s").await.expect(201);
    app.advance(SECOND);
    enrol(&app, "late", &token, "s").await.refused(401);
}

#[tokio::test]
async fn a_token_ends_after_an_hour_unless_it_says_otherwise() {
    let app = TestApp::start().await;
    let made = app.post("/api/v1/agents/tokens", json!({})).await;
    let end: Time = text(&made.expect(201)["expires_at"]).parse().unwrap();
    assert_eq!(end, app.now().plus(HOUR));
}

#[tokio::test]
async fn a_wrong_token_lets_nobody_in() {
    let app = TestApp::start().await;
    let token = app.join_token(json!({})).await;
    let before = app.seq();
    let shortened = &token[..token.len() - 1];
    let lengthened = format!("{token}A");
    for wrong in [
        "",
        "ctj_",
        "ctj_wrong",
        shortened,
        &lengthened,
        app.admin_key(),
    ] {
        enrol(&app, "a", wrong, "s").await.refused(401);
    }
    assert_eq!(app.seq(), before);
    enrol(&app, "a", &token, "s").await.expect(201);
}

#[tokio::test]
async fn enrolling_again_with_the_same_secret_answers_the_same_agent() {
    let app = TestApp::start().await;
    let token = app.join_token(json!({})).await;
    let first = enrol(&app, "a", &token, "s").await.expect(201);
    let before = app.seq();
    // Also long after the token's end: an agent may have lost the answer.
    app.advance(2 * HOUR);
    let again = enrol(&app, "a", &token, "s").await.expect(201);
    assert_eq!(first["agent_id"], again["agent_id"]);
    assert_eq!(app.seq(), before, "a repetition changed something");
}

#[tokio::test]
async fn an_agent_that_lost_its_answer_is_known_by_a_new_token_too() {
    let app = TestApp::start().await;
    let token = app.join_token(json!({})).await;
    let first = enrol(&app, "a", &token, "s").await.expect(201);
    let (spent, new) = (
        app.join_token(json!({})).await,
        app.join_token(json!({})).await,
    );
    enrol(&app, "b", &spent, "b").await.expect(201);
    enrol(&app, "a", &spent, "s").await.refused(401);
    let before = app.seq();
    let again = enrol(&app, "a", &new, "s").await.expect(201);
    assert_eq!(first["agent_id"], again["agent_id"]);
    assert_eq!(app.seq(), before, "a repetition uses nothing up");
    enrol(&app, "a", &new, "another").await.refused(409);
    enrol(&app, "c", &new, "c").await.expect(201);
}

#[tokio::test]
async fn two_enrolments_at_once_with_the_same_secret_give_one_agent() {
    let app = TestApp::start().await;
    let token = app.join_token(json!({})).await;
    let (a, b) = tokio::join!(enrol(&app, "a", &token, "s"), enrol(&app, "a", &token, "s"));
    assert_eq!(a.expect(201)["agent_id"], b.expect(201)["agent_id"]);
}

#[tokio::test]
async fn the_name_of_a_live_agent_is_taken() {
    let app = TestApp::start().await;
    app.agent("a").await;
    let token = app.join_token(json!({"replace": true})).await;
    let before = app.seq();
    let message = enrol(&app, "a", &token, "other").await.refused(409);
    assert!(message.contains("10 minutes"), "{message}");
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn the_name_of_a_live_agent_is_taken_after_a_crash_too() {
    let mut app = TestApp::start().await;
    let agent = app.agent("a").await;
    let token = app.join_token(json!({"replace": true})).await;
    app.advance(MINUTE);
    app.restart().await;
    enrol(&app, "a", &token, "other").await.refused(409);
    agent.work(&app).await;
}

#[tokio::test]
async fn nobody_is_silent_while_the_server_is_down() {
    let mut app = TestApp::start().await;
    let agent = app.agent("a").await;
    app.advance(HOUR);
    agent.work(&app).await;
    app.tick().await;
    let token = app.join_token(json!({"replace": true})).await;
    app.advance(HOUR / 2);
    app.restart().await;
    enrol(&app, "a", &token, "other").await.refused(409);
    app.advance(10 * MINUTE - SECOND);
    enrol(&app, "a", &token, "other").await.refused(409);
    app.advance(SECOND);
    enrol(&app, "a", &token, "other").await.expect(201);
}

#[tokio::test]
async fn a_silent_agent_is_replaced_only_by_a_token_made_to_replace() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    app.advance(10 * MINUTE);
    let plain = app.join_token(json!({})).await;
    enrol(&app, "a", &plain, "other").await.refused(409);
    let replacing = app.join_token(json!({"replace": true})).await;
    let mut wish = TestAgent::wish("a", &replacing, "other");
    wish["hostname"] = "new.test".into();
    wish["architecture"] = "aarch64".into();
    let call = app.call("POST", "/api/v1/agents/enrol").json(&wish);
    let new = call.send().await.expect(201);
    let id = agent.id.parse().unwrap();
    let row = app.app.store.get::<Agent>(&id).await.unwrap().unwrap();
    assert_eq!(row.architecture, "aarch64");
    let told = &app.list("/api/v1/audit").await[0]["details"];
    assert_eq!(told["hostname"], "new.test");
    assert_eq!(told["old_hostname"], "a.test");
    assert_eq!(new["agent_id"], agent.id.as_str(), "the identity goes on");
    agent.call(&app, "GET", "work").send().await.refused(401);
    assert!(app.actions().await.contains(&"agent_replaced".into()));
}

#[tokio::test]
async fn an_agent_that_polls_is_not_replaced() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let token = app.join_token(json!({"replace": true})).await;
    for _ in 0..3 {
        app.advance(9 * MINUTE);
        agent.work(&app).await;
    }
    app.advance(9 * MINUTE);
    enrol(&app, "a", &token, "other").await.refused(409);
    app.advance(MINUTE);
    enrol(&app, "a", &token, "other").await.expect(201);
}

#[tokio::test]
async fn an_agent_too_busy_to_poll_is_not_replaced() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let item = agent.job(&app).await;
    let token = app.join_token(json!({"replace": true})).await;
    for _ in 0..60 {
        app.advance(20 * SECOND);
        let renewed = agent.about(&app, &item, "lease", json!({})).await;
        renewed.expect(200);
    }
    enrol(&app, "a", &token, "other").await.refused(409);
}

#[tokio::test]
async fn only_the_hash_of_a_secret_is_stored() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let id = agent.id.parse().unwrap();
    let row = app.app.store.get::<Agent>(&id).await.unwrap().unwrap();
    let stored = serde_json::to_string(&*row).unwrap();
    let credential = agent.credential();
    let secret = credential.rsplit_once('.').unwrap().1;
    assert!(!stored.contains(secret));
}
