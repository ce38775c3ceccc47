//! A server whose store a later version changes while it runs.

use crate::support::TestApp;
use certctl::{id::Id, store::migrate::Schema};
use serde_json::json;

#[tokio::test]
async fn a_server_that_may_no_longer_write_says_so_and_is_not_ready() {
    let app = TestApp::start().await;
    let ahead = async || {
        let text = app.admin("GET", "/api/v1/metrics/prometheus").send().await;
        let text = text.text;
        let line = text
            .lines()
            .find(|line| line.starts_with("certctl_schema_ahead "));
        line.expect("the gauge").ends_with(" 1")
    };
    assert!(!ahead().await);
    let schema = Schema {
        id: "store".parse::<Id>().unwrap(),
        format: 9,
        min_reader: 9,
        min_writer: 9,
        changed_at: app.now(),
    };
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    unit.insert(schema);
    unit.commit().await.unwrap();

    let answer = app.post("/api/v1/teams", json!({"name": "Web"})).await;
    let said = answer.refused(503);
    assert!(said.contains("later version"), "{said}");
    let ready = app.call("GET", "/ready").send().await.expect(503);
    assert_eq!(ready["status"], "schema_ahead");
    assert!(ahead().await);
    assert_eq!(
        app.get("/api/v1/teams").await["total"],
        0,
        "reading goes on"
    );
}
