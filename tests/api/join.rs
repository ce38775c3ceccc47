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
async fn enrolling_again_with_another_token_answers_the_same_agent() {
    let app = TestApp::start().await;
    let first = app.join_token(json!({})).await;
    let enrolled = enrol(&app, "a", &first, "s").await.expect(201);
    // Whoever lost the answer makes a new token, which does not have to replace anything.
    let second = app.join_token(json!({})).await;
    let before = app.seq();
    let again = enrol(&app, "a", &second, "s").await.expect(201);
    assert_eq!(enrolled["agent_id"], again["agent_id"]);
    assert_eq!(app.seq(), before, "a repetition changed something");
    enrol(&app, "a", &second, "other").await.refused(409);
    enrol(&app, "b", &second, "s").await.expect(201);
    // Used up, it is good for the agent that it let in alone.
    enrol(&app, "a", &second, "s").await.refused(401);
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
async fn a_silent_agent_is_replaced_only_by_a_token_made_to_replace() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    app.advance(10 * MINUTE);
    let plain = app.join_token(json!({})).await;
    enrol(&app, "a", &plain, "other").await.refused(409);
    let replacing = app.join_token(json!({"replace": true})).await;
    let new = enrol(&app, "a", &replacing, "other").await.expect(201);
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
