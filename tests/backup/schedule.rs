//! Backups that a server makes by itself.

use crate::support::{DAY, HOUR, TestApp};
use certctl::{
    config::{BackupConfig, Schedule, ServerConfig},
    reconcile,
};
use serde_json::Value;

fn daily(config: &mut ServerConfig) {
    let backups = config.data_dir.join("backups");
    config.backup = Some(BackupConfig {
        schedule: "06:30".parse().unwrap(),
        sink: format!("dir:{}", backups.display()),
        keep: [3, 0, 0],
        encrypt_to: vec![age::x25519::Identity::generate().to_public().to_string()],
        passphrase: None,
        journal: None,
    });
}

/// How backups stand once none is being made.
async fn settled(app: &TestApp) -> Value {
    loop {
        let state = app.get("/api/v1/backups").await;
        if state["running"] == false {
            return state;
        }
        tokio::task::yield_now().await;
    }
}

/// Two looks: the first of a process sees what is in the sink.
async fn look(app: &TestApp) -> Value {
    for _ in 0..2 {
        reconcile::look(&app.app).await.unwrap();
        settled(app).await;
    }
    settled(app).await
}

#[tokio::test]
async fn a_backup_is_made_proven_and_kept_by_the_schedule() {
    let mut app = TestApp::start_with(daily).await;
    let names = |app: &TestApp| -> Vec<String> {
        let names = std::fs::read_dir(app.file("backups")).unwrap();
        let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|n| n.ends_with(".backup")).collect();
        names.sort();
        names
    };
    let first = look(&app).await;
    assert_eq!(first["last"]["error"], Value::Null, "{first}");
    assert_eq!(first["newest"]["name"], names(&app)[0].as_str());
    assert_ne!(first["proven_at"], Value::Null, "{first}");
    assert_eq!(look(&app).await["last"], first["last"], "not due");

    // Another process finds what the one before it left.
    app.restart().await;
    let found = look(&app).await;
    assert_eq!(found["last"], Value::Null);
    assert_eq!(found["newest"]["name"], first["newest"]["name"]);
    assert_eq!(found["proven_at"], first["proven_at"]);
    for _ in 0..4 {
        app.advance(DAY);
        look(&app).await;
    }
    let names = names(&app);
    assert_eq!(names.len(), 3, "{names:?}");
    let scrape = app.call("GET", "/api/v1/metrics/prometheus");
    let scrape = scrape.bearer(app.admin_key()).send().await;
    let text = scrape.text;
    assert!(text.contains("certctl_backup_failures_total 0"), "{text}");

    // A sink that takes nothing is told, and tried again later.
    std::fs::remove_dir_all(app.file("backups")).unwrap();
    std::fs::write(app.file("backups"), "").unwrap();
    app.advance(DAY);
    let failed = look(&app).await;
    assert_eq!(failed["failures"], 1, "{failed}");
    assert_eq!(failed["last"]["failed_step"], "upload", "{failed}");
    assert_eq!(look(&app).await["failures"], 1, "not at once");
    app.advance(HOUR);
    assert_eq!(look(&app).await["failures"], 2);
}

#[test]
fn schedules_are_read() {
    let next = |text: &str, last| text.parse::<Schedule>().unwrap().next(last);
    assert_eq!(next("30m", 100), 1_900);
    assert_eq!(next("6h", 0), 21_600);
    assert_eq!(next("1d", 5), 86_405);
    assert_eq!(next("02:30", 0), 9_000);
    assert_eq!(next("02:30", 9_000), 95_400);
    assert_eq!(next("00:00", 86_399), 86_400);
    for bad in [
        "", "h", "0h", "-1h", "+1h", "1", "24:00", "2:30", "02:60", "1x", "10001d", "é",
    ] {
        assert!(bad.parse::<Schedule>().is_err(), "{bad}");
    }
}
