//! When there is no page.

use super::{Desk, browser};
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::Value;

#[tokio::test]
async fn a_reader_gets_a_page_and_a_program_gets_json() {
    let desk = Desk::open().await;
    let answer = desk.get("/no/such/page", None).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let page = answer.page();
    assert_eq!(page.one("h1").text(), "There is no such page");
    assert!(page.text().contains(answer.header("x-request-id")));

    let plain = Request::get("/no/such/page").body(Body::empty()).unwrap();
    let api = browser(Method::GET, "/api/v1/no/such", None);
    for request in [plain, api.body(Body::empty()).unwrap()] {
        let answer = desk.send(request).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"], "Not Found");
        assert_eq!(body["request_id"], answer.header("x-request-id"));
    }
}

#[tokio::test]
async fn a_browser_at_the_api_is_answered_as_a_program() {
    let desk = Desk::open().await;
    let answer = desk.get("/api/v1/certificates", None).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
}

#[tokio::test]
async fn a_wrong_method_is_told_with_the_right_ones() {
    let desk = Desk::open().await;
    let answer = desk.post("/certificates", None, "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.header("allow"), "GET,HEAD");
    assert_eq!(
        answer.page().one("h1").text(),
        "This request cannot be answered"
    );
}

#[tokio::test]
async fn who_may_read_nothing_is_told_what_it_takes() {
    let desk = Desk::open().await;
    let (_, credential) = desk.agent("web1").await;
    let request = browser(Method::GET, "/certificates", None)
        .header(header::AUTHORIZATION, format!("Bearer {credential}"))
        .body(Body::empty())
        .unwrap();
    let answer = desk.send(request).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let page = answer.page();
    assert_eq!(page.one("h1").text(), "This is not allowed");
    assert!(page.one("main").text().contains("cert.read"));
}

#[tokio::test]
async fn a_store_that_takes_nothing_more_is_told_as_a_page() {
    let desk = Desk::open().await;
    desk.app.store.close().await;
    let answer = desk
        .post("/login", None, &format!("key={}", desk.admin))
        .await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    assert!(answer.page().text().contains("the store failed"));
}
