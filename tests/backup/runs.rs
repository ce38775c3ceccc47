//! Who asks for a backup learns of that one, whatever else goes on.

use crate::support::{
    DAY, TestApp,
    altered::{Altered, Altering, Op},
    backups::{scheduled, settled},
};
use certctl::{reconcile, sys::FileError};
use http::StatusCode;
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

/// A disk whose directory `backups` is not to be looked at before a test lets it, or drops that.
struct Stalling(Mutex<Receiver<()>>);

impl Altering for Stalling {
    fn before(&self, op: Op, path: &Path) -> Result<(), FileError> {
        if op == Op::Look && path.ends_with("backups") {
            // So long at most, so that who waits on the wrong thread fails.
            let _ = self.0.lock().unwrap().recv_timeout(Duration::from_secs(20));
        }
        Ok(())
    }
}

fn wanted(app: &TestApp, sink: &str) -> Value {
    json!({"sink": format!("dir:{}", app.file(sink).display()), "without_keys": true})
}

#[tokio::test]
async fn each_is_found_by_its_own_id() {
    let app = TestApp::start().await;
    std::fs::write(app.file("taken"), "").unwrap();
    let mut begun = Vec::new();
    for sink in ["a", "taken", "b"] {
        let run = app.post("/api/v1/backups", wanted(&app, sink)).await;
        let run = run.expect(202);
        assert_eq!(run["step"], "making");
        begun.push((run, sink != "taken"));
        settled(&app).await;
    }
    let state = settled(&app).await;
    assert_eq!(state["run"], Value::Null);
    for (run, good) in begun {
        let ended = state["ended"].as_array().unwrap();
        let ended = ended.iter().find(|ended| ended["id"] == run["id"]).unwrap();
        assert_eq!(ended["sink"], run["sink"]);
        assert_eq!(ended["error"] == Value::Null, good, "{ended}");
    }
    assert_eq!(state["last"], state["ended"][0]);
    for n in 0..20 {
        let sink = format!("more-{n}");
        app.post("/api/v1/backups", wanted(&app, &sink))
            .await
            .expect(202);
        settled(&app).await;
    }
    let ended = settled(&app).await["ended"].as_array().unwrap().len();
    assert_eq!(ended, 16);
}

#[tokio::test]
async fn a_second_one_is_told_what_goes_on_and_since_when() {
    let app = TestApp::start().await;
    // Making a key of a passphrase takes a while.
    let mut slow = wanted(&app, "slow");
    slow["without_keys"] = json!(false);
    slow["passphrase"] = json!("correct horse");
    let run = app.post("/api/v1/backups", slow).await.expect(202);
    let refused = app.post("/api/v1/backups", wanted(&app, "a")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let says = refused.expect(409)["message"].to_string();
    for word in [&run["id"], &run["sink"], &json!("making")] {
        assert!(says.contains(word.as_str().unwrap()), "{says}");
    }
    assert!(
        says.contains(&app.now().whole_seconds().to_string()),
        "{says}"
    );
    let state = settled(&app).await;
    assert_eq!(state["last"]["id"], run["id"]);
}

#[tokio::test]
async fn a_look_at_the_sink_is_in_nobodys_way() {
    let (release, held) = channel();
    let files = Arc::new(Altered(Stalling(Mutex::new(held))));
    let app = TestApp::start_on(files, |config| scheduled(config, "6h")).await;
    reconcile::look(&app.app).await.unwrap();
    app.post("/api/v1/backups", wanted(&app, "a"))
        .await
        .expect(202);
    let state = loop {
        let state = app.get("/api/v1/backups").await;
        if state["running"] == false {
            break state;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(state["last"]["error"], Value::Null, "{state}");
    assert_eq!(state["looking"], true, "{state}");
    drop(release);
    let state = settled(&app).await;
    assert_eq!(state["unread_because"], Value::Null, "{state}");
}

#[tokio::test]
async fn one_whose_caller_hangs_up_is_made() {
    let app = TestApp::start().await;
    let mut held = app.hold_next_commit();
    {
        let call = app.post("/api/v1/backups", wanted(&app, "a"));
        tokio::select! {
            _ = call => panic!("it is answered before it is noted"),
            () = held.there() => {}
        }
    }
    held.release();
    let state = settled(&app).await;
    assert_eq!(state["last"]["error"], Value::Null, "{state}");
    app.post("/api/v1/backups", wanted(&app, "b"))
        .await
        .expect(202);
    settled(&app).await;
}

#[tokio::test]
async fn each_server_of_a_store_shows_the_same() {
    let leader = TestApp::start_shared_with(|config| scheduled(config, "6h")).await;
    let other = leader.beside().await;
    let look = async || {
        for server in [&leader, &other] {
            reconcile::look(&server.app).await.unwrap();
            settled(server).await;
        }
    };
    for _ in 0..3 {
        look().await;
    }
    leader.advance(DAY);
    for _ in 0..3 {
        look().await;
    }
    leader.advance(std::time::Duration::from_secs(301));
    look().await;
    let (made, shown) = (settled(&leader).await, settled(&other).await);
    assert_eq!(made["total"], 2, "{made}");
    assert_eq!(shown["ended"], json!([]), "{shown}");
    assert_eq!(made["newest"]["name"], shown["newest"]["name"]);
    for what in ["proven_at", "next_at", "data", "total"] {
        assert_ne!(shown[what], Value::Null, "{what}");
        assert_eq!(made[what], shown[what], "{what}");
    }
}
