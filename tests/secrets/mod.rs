//! The keys that seal secrets: made anew, also under other servers, and cut anywhere.

mod machine_key;

use crate::support::{Call, TestApp};
use certctl::{access::Role, api, store::RingRow};
use serde_json::{Value, json};
use std::collections::BTreeMap;

async fn keys(app: &TestApp) -> BTreeMap<String, u64> {
    let shown = app.get("/api/v1/secrets").await;
    let keys = shown["keys"].as_array().unwrap().iter();
    keys.map(|key| {
        let name = key["name"].as_str().unwrap().to_owned();
        (name, key["values"].as_u64().unwrap())
    })
    .collect()
}

async fn rotate(app: &TestApp) -> String {
    let shown = app.post("/api/v1/secrets/rotate", Value::Null).await;
    let shown = shown.expect(200);
    let mut writes = shown["keys"].as_array().unwrap().iter();
    let key = writes.find(|key| key["writes"] == true).unwrap();
    key["name"].as_str().unwrap().to_owned()
}

async fn issuer(app: &TestApp, id: &str) {
    let body = json!({"id": id, "name": id, "type": "GenericCA", "config": {}});
    app.post("/api/v1/issuers", body).await.expect(201);
}

#[tokio::test]
async fn the_newest_key_seals_any_opens_and_the_old_one_goes_when_nothing_needs_it() {
    let mut app = TestApp::start().await;
    let before = keys(&app).await;
    assert_eq!(before.len(), 1);
    let old = before.keys().next().unwrap().clone();
    assert_eq!(before[&old], 3);

    let new = rotate(&app).await;
    issuer(&app, "corp").await;
    let now = BTreeMap::from([(old.clone(), 3), (new.clone(), 2)]);
    assert_eq!(keys(&app).await, now);
    let metrics = app.call("GET", "/api/v1/metrics/prometheus");
    let metrics = metrics.bearer(app.admin_key()).send().await.text;
    assert!(
        metrics.contains(&format!("certctl_sealed_values{{key=\"{old}\"}} 3\n")),
        "{metrics}"
    );
    app.restart().await;
    app.post("/api/v1/issuers/corp/test", Value::Null)
        .await
        .expect(200);

    let done = app.post("/api/v1/secrets/reseal", Value::Null).await;
    let done = done.expect(200);
    assert_eq!(done["resealed"], 3, "{done}");
    assert_eq!(done["dropped"], json!([old]));
    assert_eq!(keys(&app).await, BTreeMap::from([(new, 5)]));
    let actions = app.actions().await;
    for action in ["secrets_rotated", "secrets_resealed"] {
        assert!(actions.iter().any(|a| a == action), "{actions:?}");
    }
    // Nothing is left to be done, and nothing is done.
    let seq = app.seq();
    let done = app.post("/api/v1/secrets/reseal", Value::Null).await;
    assert_eq!(done.expect(200)["resealed"], 0);
    assert_eq!(app.seq(), seq);
    app.restart().await;
    for id in ["iss-local", "corp"] {
        let path = format!("/api/v1/issuers/{id}/test");
        app.post(&path, Value::Null).await.expect(200);
    }
    app.check().await;
}

/// Another server on the same store.
#[tokio::test]
async fn a_server_learns_of_a_key_that_another_made() {
    let app = TestApp::start().await;
    let other = app.start_again().await.unwrap().app;
    let other = api::router(other);
    let old = keys(&app).await.into_keys().next().unwrap();
    let new = rotate(&app).await;
    issuer(&app, "corp").await;
    app.post("/api/v1/secrets/reseal", Value::Null)
        .await
        .expect(200);
    assert!(!keys(&app).await.contains_key(&old));
    // It has never heard of the new key, opens what it sealed, and seals with no other.
    let call = |path: &str, body: Value| {
        Call::through(&other, "POST", path)
            .bearer(app.admin_key())
            .json(&body)
            .send()
    };
    call("/api/v1/issuers/corp/test", Value::Null)
        .await
        .expect(200);
    let body = json!({"id": "second", "name": "second", "type": "GenericCA", "config": {}});
    call("/api/v1/issuers", body).await.expect(201);
    assert_eq!(keys(&app).await, BTreeMap::from([(new, 7)]));
    app.post("/api/v1/issuers/second/test", Value::Null)
        .await
        .expect(200);
}

#[tokio::test]
async fn it_is_cut_at_every_commit_and_goes_on() {
    for commits in 0.. {
        let mut app = TestApp::start().await;
        let new = rotate(&app).await;
        app.cut_after(commits);
        let cut = app.post("/api/v1/secrets/reseal", Value::Null).await;
        let whole = cut.status == 200;
        app.restart().await;
        app.post("/api/v1/secrets/reseal", Value::Null)
            .await
            .expect(200);
        assert_eq!(keys(&app).await, BTreeMap::from([(new, 3)]), "{commits}");
        app.restart().await;
        app.post("/api/v1/issuers/iss-local/test", Value::Null)
            .await
            .expect(200);
        let id = "ring".parse().unwrap();
        let ring = app.app.store.get::<RingRow>(&id).await;
        assert_eq!(ring.unwrap().unwrap().ring.keys.len(), 1);
        if whole {
            assert_eq!(commits, 4, "three values and the ring");
            return;
        }
    }
}

#[tokio::test]
async fn who_may_not_may_not() {
    let app = TestApp::start().await;
    let operator = app.key(Role::Operator).await;
    for (method, path) in [
        ("GET", "/api/v1/secrets"),
        ("POST", "/api/v1/secrets/rotate"),
        ("POST", "/api/v1/secrets/reseal"),
    ] {
        let refused = app.call(method, path).bearer(&operator).send().await;
        let refused = refused.refused(403);
        assert!(refused.contains("secrets.rotate"), "{refused}");
    }
}

/// What is sealed anew while another server starts, which has read the ring before.
#[tokio::test]
async fn a_start_beside_a_reseal_finds_what_was_sealed_meanwhile() {
    for turns in 0..60 {
        let app = TestApp::start().await;
        let reseals = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            rotate(&app).await;
            let done = app.post("/api/v1/secrets/reseal", Value::Null).await;
            assert_eq!(done.expect(200)["resealed"], 3);
        };
        let (started, ()) = tokio::join!(app.start_again(), reseals);
        if let Err(e) = started {
            panic!("after {turns} turns: {e}");
        }
    }
}
