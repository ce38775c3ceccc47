//! What came since the newest backup is in the journal.

use crate::support::{
    HOUR, MINUTE, TestApp,
    backups::{journalled, settled},
};
use certctl::{
    config::ServerConfig,
    reconcile,
    sys::{Disk, Files},
};
use serde_json::{Value, json};
use std::time::Duration;

fn every_minute(config: &mut ServerConfig) {
    journalled(config, "06:30", MINUTE);
}

/// Looks until no backup is being made.
async fn look(app: &TestApp) -> Value {
    reconcile::look(&app.app).await.unwrap();
    settled(app).await
}

fn increments(app: &TestApp) -> Vec<String> {
    let names = Disk.list(&app.file("journal")).unwrap_or_default();
    let names = names.into_iter().map(|n| n.into_string().unwrap());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".increment")).collect();
    names.sort();
    names
}

async fn owner(app: &TestApp, n: u32) {
    let owner = json!({"name": format!("o{n}"), "email": "a@b.example"});
    app.post("/api/v1/owners", owner).await.expect(201);
}

/// With a base, and with all that came with making it in the journal.
async fn begun() -> TestApp {
    let app = TestApp::start_with(every_minute).await;
    let first = look(&app).await;
    assert!(
        first["journal"]["waits"]
            .as_str()
            .unwrap()
            .contains("no backup yet"),
        "{first}"
    );
    for _ in 0..3 {
        look(&app).await;
    }
    app
}

#[tokio::test]
async fn it_grows_only_when_something_changed() {
    let app = begun().await;
    let quiet = increments(&app);
    for _ in 0..5 {
        app.advance(MINUTE);
        let state = look(&app).await;
        let lag = format!("{}", app.now());
        assert_eq!(state["journal"]["covers"], lag.as_str(), "{state}");
    }
    assert_eq!(increments(&app), quiet, "nothing changed");
    owner(&app, 1).await;
    let state = look(&app).await;
    let now = increments(&app);
    assert_eq!(now.len(), quiet.len() + 1);
    assert_eq!(
        state["journal"]["newest"]["name"],
        now.last().unwrap().as_str()
    );
    let scrape = app.call("GET", "/api/v1/metrics/prometheus");
    let text = scrape.bearer(app.admin_key()).send().await.text;
    assert!(
        text.contains("certctl_backup_journal_lag_seconds 0\n"),
        "{text}"
    );
}

#[tokio::test]
async fn many_small_increments_become_one() {
    let app = begun().await;
    let most = 30;
    for n in 0..3 * most {
        owner(&app, n).await;
        app.advance(Duration::from_secs(1));
        look(&app).await;
        assert!(increments(&app).len() <= usize::try_from(most).unwrap() + 4);
    }
}

#[tokio::test]
async fn a_newer_backup_takes_its_place_and_a_new_process_goes_on() {
    let mut app = begun().await;
    owner(&app, 1).await;
    look(&app).await;
    let old = increments(&app);
    app.restart().await;
    owner(&app, 2).await;
    for _ in 0..2 {
        look(&app).await;
    }
    let after = increments(&app);
    assert_eq!(after[..old.len()], old);
    assert!(after.len() > old.len(), "it goes on where it was");
    app.advance(24 * HOUR);
    for _ in 0..4 {
        look(&app).await;
    }
    let state = look(&app).await;
    assert_eq!(state["total"], 2, "{state}");
    let left = increments(&app);
    assert!(after.iter().all(|name| !left.contains(name)), "{left:?}");
}

#[tokio::test]
async fn what_the_store_forgot_has_a_new_backup_made() {
    let app = begun().await;
    owner(&app, 0).await;
    let base = look(&app).await["newest"]["name"].clone();
    // A sink that is away for longer than the feed remembers.
    std::fs::remove_dir_all(app.file("journal")).unwrap();
    std::fs::write(app.file("journal"), "").unwrap();
    owner(&app, 1).await;
    let failed = look(&app).await;
    assert_ne!(failed["journal"]["error"], Value::Null, "{failed}");
    assert_eq!(failed["journal"]["failures"], 1, "{failed}");
    app.advance(2 * HOUR);
    owner(&app, 2).await;
    look(&app).await;
    std::fs::remove_file(app.file("journal")).unwrap();
    app.advance(MINUTE);
    let gap = look(&app).await;
    assert!(
        gap["journal"]["waits"]
            .as_str()
            .unwrap()
            .contains("another one is made"),
        "{gap}"
    );
    for _ in 0..3 {
        look(&app).await;
    }
    owner(&app, 3).await;
    let state = look(&app).await;
    assert_ne!(state["newest"]["name"], base, "{state}");
    assert_eq!(state["journal"]["waits"], Value::Null, "{state}");
    assert_eq!(state["journal"]["error"], Value::Null, "{state}");
    assert!(!increments(&app).is_empty());
}

#[tokio::test]
async fn it_goes_on_while_the_sink_of_the_backups_cannot_be_read() {
    let mut app = begun().await;
    owner(&app, 1).await;
    look(&app).await;
    let old = increments(&app);
    std::fs::rename(app.file("backups"), app.file("away")).unwrap();
    std::fs::write(app.file("backups"), "").unwrap();
    app.restart().await;
    owner(&app, 2).await;
    look(&app).await;
    let state = look(&app).await;
    assert_ne!(state["unread_because"], Value::Null, "{state}");
    assert_eq!(state["journal"]["waits"], Value::Null, "{state}");
    assert!(increments(&app).len() > old.len());

    // Another process that finds none there either waits, and says for what.
    std::fs::remove_dir_all(app.file("journal")).unwrap();
    app.restart().await;
    look(&app).await;
    let state = look(&app).await;
    let waits = state["journal"]["waits"].as_str().unwrap();
    assert!(waits.contains("cannot be read"), "{state}");
}

#[tokio::test]
async fn a_start_after_the_keys_were_changed_makes_what_opens_elsewhere() {
    let mut app = begun().await;
    let base = look(&app).await["newest"]["name"].clone();
    app.restart().await;
    for _ in 0..3 {
        look(&app).await;
    }
    assert_eq!(look(&app).await["newest"]["name"], base);
    app.post("/api/v1/secrets/rotate", Value::Null).await;
    app.advance(MINUTE);
    app.restart().await;
    for _ in 0..4 {
        look(&app).await;
    }
    let state = look(&app).await;
    assert_ne!(state["newest"]["name"], base, "{state}");
    assert_eq!(state["ended"].as_array().unwrap().len(), 1, "once: {state}");
    assert_eq!(state["journal"]["waits"], Value::Null, "{state}");
}
