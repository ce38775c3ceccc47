//! The id of a request.

use crate::support::TestApp;

#[tokio::test]
async fn a_sane_id_of_the_caller_is_kept_and_any_other_replaced() {
    let app = TestApp::start().await;
    let longest = "a".repeat(128);
    for id in ["a", "3f0c-_.Z", &longest] {
        let call = app
            .admin("GET", "/api/v1/certificates")
            .header("x-request-id", id);
        assert_eq!(call.send().await.headers["x-request-id"], id);
    }
    let too_long = "a".repeat(129);
    for id in ["", " ", "a b", "a\tb", "x\"y", "\u{e9}", "a/b", &too_long] {
        let call = app
            .admin("GET", "/api/v1/certificates")
            .header("x-request-id", id);
        let answer = call.send().await;
        let made = answer.headers["x-request-id"].to_str().unwrap();
        assert_eq!(made.len(), 36, "{id:?}");
    }
    // Errors of every layer say the same id in their body.
    let call = app.call("GET", "/nosuch").header("x-request-id", "mine");
    let answer = call.send().await;
    assert_eq!(answer.body["request_id"], "mine");
    assert_eq!(answer.headers["x-request-id"], "mine");
}
