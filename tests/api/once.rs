//! `Idempotency-Key`: a request that is sent again is carried out once.

use super::access::foreign_ca;
use crate::support::{Answer, DAY, HOUR, TestApp, text};
use certctl::access::Role;
use futures_util::future::join_all;
use serde_json::{Value, json};

async fn send(app: &TestApp, path: &str, key: &str, body: &Value) -> Answer {
    let call = app.admin("POST", &format!("/api/v1{path}")).json(body);
    call.header("idempotency-key", key).send().await
}

/// Whatever is made, it is made once, and only what is sent again word for word is answered.
#[tokio::test]
async fn what_is_made_is_made_once() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let (cert, key) = foreign_ca("elsewhere");
    let config = json!({"ca_cert_pem": cert, "ca_key_pem": key});
    let bodies = [
        (
            "/certificates",
            json!({"name": "a", "common_name": "a.example.org"}),
        ),
        (
            "/targets",
            json!({"name": "a", "type": "File", "agent_id": agent.id, "config": {}}),
        ),
        (
            "/issuers",
            json!({"name": "a", "type": "GenericCA", "config": config}),
        ),
    ];
    for (path, body) in bodies {
        let key = path;
        let first = send(&app, path, key, &body).await.expect(201);
        let before = app.seq();
        assert_eq!(send(&app, path, key, &body).await.expect(201), first);
        let mut other = body.clone();
        other["name"] = json!("b");
        let refused = send(&app, path, key, &other).await.refused(409);
        assert!(refused.contains("another request"), "{refused}");
        let refused = send(&app, "/agents/tokens", key, &json!({}))
            .await
            .refused(409);
        assert!(refused.contains("another request"), "{refused}");
        assert_eq!(app.seq(), before, "{path}");
    }
    app.check().await;
}

/// The secret of what was made is known to nobody any more: a repetition says how to go on.
#[tokio::test]
async fn a_secret_is_not_shown_again() {
    let app = TestApp::start().await;
    let made = send(&app, "/agents/tokens", "k", &json!({}))
        .await
        .expect(201);
    let refused = send(&app, "/agents/tokens", "k", &json!({}))
        .await
        .refused(409);
    assert!(refused.contains(&text(&made["id"])), "{refused}");
    assert!(refused.contains("another key"), "{refused}");
    assert_eq!(app.list("/api/v1/agents/tokens").await.len(), 1);
}

#[tokio::test]
async fn requests_sent_at_once_make_one() {
    let app = TestApp::start().await;
    let body = json!({"id": "one", "name": "a", "common_name": "a.example.org"});
    let sent = (0..8).map(|_| send(&app, "/certificates", "k", &body));
    for answer in join_all(sent).await {
        assert_eq!(answer.expect(201)["id"], "one");
    }
    assert_eq!(app.list("/api/v1/certificates").await.len(), 1);
}

/// Names are each caller's own.
#[tokio::test]
async fn another_caller_has_names_of_its_own() {
    let app = TestApp::start().await;
    let operator = app.key(Role::Operator).await;
    let body = json!({"name": "a", "common_name": "a.example.org"});
    let first = send(&app, "/certificates", "k", &body).await.expect(201);
    let call = app.call("POST", "/api/v1/certificates").bearer(&operator);
    let call = call.header("idempotency-key", "k").json(&body);
    assert_ne!(call.send().await.expect(201)["id"], first["id"]);
}

/// A key that comes to have the name of another has not the names of its requests.
#[tokio::test]
async fn a_key_of_the_same_name_has_names_of_its_own() {
    let app = TestApp::start().await;
    let body = json!({"name": "a", "common_name": "a.example.org"});
    let mut made = Vec::new();
    for _ in 0..2 {
        let (_, key) = app.made_key("ci", &["r-operator"]).await;
        let call = app.call("POST", "/api/v1/certificates").bearer(&key);
        let call = call.header("idempotency-key", "k").json(&body);
        made.push(text(&call.send().await.expect(201)["id"]));
        let path = "/api/v1/auth/keys/ci";
        app.admin("DELETE", path).send().await.expect(204);
    }
    assert_ne!(made[0], made[1]);
}

/// What is refused leaves no trace: put right, it may be sent under the same key.
#[tokio::test]
async fn what_was_refused_may_be_put_right() {
    let app = TestApp::start().await;
    let body = json!({"name": "a", "common_name": "a.example.org", "issuer_id": "none"});
    send(&app, "/certificates", "k", &body).await.refused(400);
    let body = json!({"name": "a", "common_name": "a.example.org"});
    send(&app, "/certificates", "k", &body).await.expect(201);
}

#[tokio::test]
async fn a_key_stands_for_a_day_across_restarts() {
    let mut app = TestApp::start().await;
    let body = json!({"name": "a", "common_name": "a.example.org"});
    let first = send(&app, "/certificates", "k", &body).await.expect(201);
    app.advance(DAY - HOUR);
    app.restart().await;
    app.tick().await;
    assert_eq!(
        send(&app, "/certificates", "k", &body).await.expect(201)["id"],
        first["id"]
    );
    app.advance(HOUR);
    // Past its time, though nothing has cleared it away yet.
    let second = send(&app, "/certificates", "k", &body).await.expect(201);
    assert_ne!(second["id"], first["id"]);
    app.advance(DAY + HOUR);
    app.tick().await;
    let third = send(&app, "/certificates", "k", &body).await.expect(201);
    assert_ne!(third["id"], second["id"]);
}

#[tokio::test]
async fn what_is_gone_is_not_made_again() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let body = json!({"name": "a", "type": "File", "agent_id": agent.id, "config": {}});
    let made = send(&app, "/targets", "k", &body).await.expect(201);
    let path = format!("/api/v1/targets/{}", text(&made["id"]));
    app.admin("DELETE", &path).send().await.expect(204);
    let refused = send(&app, "/targets", "k", &body).await.refused(409);
    assert!(refused.contains("is gone"), "{refused}");
}
