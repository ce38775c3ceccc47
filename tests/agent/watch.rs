//! Agents look at what they deployed, and the control plane says what is served where, right now.

use super::real::{RealHost, deployed, until};
use crate::support::{HOUR, TestApp};
use serde_json::{Value, json};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

const SERVED: &str = "/api/v1/certificates/web/served";

async fn check(app: &TestApp) -> Value {
    let path = "/api/v1/certificates/web/check";
    app.post(path, json!({})).await.expect(200)
}

/// Waits until what is known of the certificate's places is as wanted.
async fn served(app: &TestApp, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut wake = app.app.store.wake();
    let wait = async {
        loop {
            wake.borrow_and_update();
            let rows = app.list(SERVED).await;
            if wanted(&rows) {
                return rows;
            }
            wake.changed().await.unwrap();
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(600), wait).await;
    match end {
        Ok(rows) => rows,
        Err(_) => panic!("as they never should: {:?}", app.list(SERVED).await),
    }
}

fn all(rows: &[Value], state: &str) -> bool {
    !rows.is_empty() && rows.iter().all(|row| row["state"] == state)
}

#[tokio::test]
async fn drift_is_found_when_asked_told_and_repaired_once_an_hour() {
    let app = TestApp::start().await;
    let host = RealHost::join(&app, "a").await;
    let target = host.target(&app, "files").await;
    let running = host.start().await;
    app.certificate("web", &[&target]).await;
    let rows = deployed(&app, "web", 1, "confirmed").await;
    // A deployment is looked at as soon as it has ended.
    let seen = served(&app, |rows| all(rows, "this_version")).await;
    assert_eq!(seen[0]["serial_number"], rows[0]["serial_number"]);
    assert_eq!(seen[0]["target_name"], "files");
    let now = check(&app).await;
    assert_eq!(now["fresh"], true);
    assert!(
        all(now["data"].as_array().unwrap(), "this_version"),
        "{now}"
    );
    assert_eq!(app.shown("web").await["problem"], Value::Null);

    let key = host.host.paths.live.join("web/privkey.pem");
    let widen = || fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    widen();
    let now = check(&app).await;
    let states: Vec<_> = now["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["state"])
        .collect();
    assert_eq!(states, ["changed", "changed"], "{now}");
    let error = now["data"][1]["error"].as_str().unwrap();
    assert!(error.ends_with("has mode 0644 instead of 0600"), "{error}");
    deployed(&app, "web", 1, "confirmed").await;
    served(&app, |rows| all(rows, "this_version")).await;
    let mode = || fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600, "it was put in place again");
    let actions = app.actions().await;
    for (action, times) in [("drift_found", 1), ("drift_repaired", 1), ("drift_gone", 1)] {
        let told = actions.iter().filter(|a| *a == action).count();
        assert_eq!(told, times, "{action} in {actions:?}");
    }

    // Within the hour it is told, and left.
    widen();
    let now = check(&app).await;
    assert_eq!(now["data"][0]["state"], "changed", "{now}");
    let problem = app.shown("web").await["problem"].clone();
    assert!(problem.as_str().unwrap().contains("0644"), "{problem}");
    until(&app, "web", |rows| rows[0]["state"] == "confirmed").await;
    assert_eq!(mode(), 0o644);
    let listed = app.list("/api/v1/certificates").await;
    assert_eq!(listed[0]["problem"], problem);
    app.advance(HOUR);
    check(&app).await;
    served(&app, |rows| all(rows, "this_version")).await;
    assert_eq!(mode(), 0o600);
    assert_eq!(app.shown("web").await["problem"], Value::Null);
    app.check().await;
    running.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_away_is_not_waited_for_and_what_was_seen_stays() {
    let app = TestApp::start().await;
    let host = RealHost::join(&app, "a").await;
    let target = host.target(&app, "files").await;
    let running = host.start().await;
    app.certificate("web", &[&target]).await;
    let never = check(&app).await;
    assert!(never["data"].as_array().unwrap().len() == 1, "{never}");
    deployed(&app, "web", 1, "confirmed").await;
    let seen = served(&app, |rows| all(rows, "this_version")).await;
    running.stop().await;
    app.advance(HOUR);
    let now = check(&app).await;
    assert_eq!(now["fresh"], false);
    assert_eq!(now["data"], json!(seen));
}
