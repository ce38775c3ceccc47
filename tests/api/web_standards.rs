//! What HTTP and browsers expect: methods, conditional reading, origins.

use crate::support::{Answer, TestApp};
use serde_json::json;

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let app = TestApp::start().await;
    app.certificate("web", &[]).await;
    for path in [
        "certificates",
        "certificates/web",
        "issuers/iss-local",
        "openapi.json",
    ] {
        let path = format!("/api/v1/{path}");
        let first = app.admin("GET", &path).send().await;
        let tag = first.headers["etag"].to_str().unwrap().to_owned();
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".into(),
        ] {
            let call = app.admin("GET", &path).header("if-none-match", &known);
            let answer = call.send().await;
            assert_eq!(answer.status, 304, "{path} {known}");
            assert_eq!(answer.headers["etag"], *tag);
            assert!(answer.text.is_empty());
        }
        let call = app.admin("GET", &path).header("if-none-match", "\"x\"");
        assert_eq!(call.send().await.status, 200);
    }
    let path = "/api/v1/certificates/web";
    let tag = app.admin("GET", path).send().await.headers["etag"].clone();

    app.admin("DELETE", path).send().await.expect(204);
    let call = app
        .admin("GET", path)
        .header("if-none-match", tag.as_bytes());
    assert_eq!(call.send().await.expect(200)["status"], "Archived");
}

#[tokio::test]
async fn what_is_read_has_a_head() {
    let app = TestApp::start().await;
    for path in ["/health", "/api/v1/certificates", "/api/v1/openapi.json"] {
        let answer = app.admin("HEAD", path).send().await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text.is_empty(), "{path}");
    }
    let answer = app.admin("HEAD", "/api/v1/certificates/none").send().await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_method_that_is_none_is_told_those_there_are() {
    let app = TestApp::start().await;
    let answer = app.admin("PATCH", "/api/v1/certificates").send().await;
    let allowed = answer.headers["allow"].to_str().unwrap().to_owned();
    for method in ["GET", "HEAD", "POST"] {
        assert!(allowed.contains(method), "{allowed}");
    }
    assert!(answer.refused(405).contains("method"));
}

async fn asked(app: &TestApp, path: &str, origin: &str) -> Answer {
    let call = app.call("OPTIONS", path).header("origin", origin);
    call.header("access-control-request-method", "POST")
        .send()
        .await
}

const CONSOLE: &str = "https://console.example";

#[tokio::test]
async fn pages_of_other_origins_are_told_nothing() {
    let app = TestApp::start().await;
    let call = app
        .admin("GET", "/api/v1/certificates")
        .header("origin", CONSOLE);
    let answer = call.send().await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    let call = app.call("GET", "/health").header("origin", CONSOLE);
    assert_eq!(
        call.send().await.headers["access-control-allow-origin"],
        CONSOLE
    );
}

#[tokio::test]
async fn pages_of_a_listed_origin_may_call() {
    let app = TestApp::start_with(|s| s.cors_origins = vec![CONSOLE.into()]).await;
    let preflight = asked(&app, "/api/v1/certificates", CONSOLE).await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.text.is_empty());
    assert_eq!(preflight.headers["access-control-allow-origin"], CONSOLE);
    assert_eq!(preflight.headers["access-control-max-age"], "86400");
    let allowed = preflight.headers["access-control-allow-headers"]
        .to_str()
        .unwrap();
    for name in ["authorization", "idempotency-key", "if-match"] {
        assert!(allowed.split(',').any(|allowed| allowed == name), "{name}");
    }
    let page = |origin: &'static str| {
        let call = app
            .admin("POST", "/api/v1/agents/tokens")
            .header("origin", origin);
        call.header("sec-fetch-site", "cross-site")
            .json(&json!({}))
            .send()
    };
    let answer = page(CONSOLE).await;
    assert_eq!(answer.headers["access-control-allow-origin"], CONSOLE);
    answer.expect(201);
    let answer = page("https://evil.example").await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    answer.refused(403);
}
