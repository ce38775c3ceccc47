//! Backups that a server makes by itself.

use crate::support::{
    DAY, HOUR, TestApp,
    backups::{scheduled, settled},
};
use certctl::{
    config::{Schedule, ServerConfig},
    reconcile,
};
use serde_json::{Value, json};

fn daily(config: &mut ServerConfig) {
    scheduled(config, "06:30");
}

/// Two looks: the first of a process sees what is in the sink.
async fn look(app: &TestApp) -> Value {
    for _ in 0..2 {
        reconcile::look(&app.app).await.unwrap();
        settled(app).await;
    }
    settled(app).await
}

fn names(app: &TestApp) -> Vec<String> {
    let names = std::fs::read_dir(app.file("backups")).unwrap();
    let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|n| n.ends_with(".backup")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_others_make_is_none_of_the_schedules() {
    let app = TestApp::start_with(daily).await;
    let by_hand = async |sink: &str| {
        let wanted =
            json!({"sink": format!("dir:{}", app.file(sink).display()), "without_keys": true});
        app.post("/api/v1/backups", wanted).await.expect(202);
        settled(&app).await["last"].clone()
    };
    let first = look(&app).await["newest"].clone();
    // Another server's, in the same sink: newer than any of this one.
    let other = first["name"].as_str().unwrap();
    let other = other[..other.rfind('-').unwrap()].to_owned() + "-aaaaaaaaaaaa.backup";
    std::fs::write(app.file("backups").join(&other), "theirs").unwrap();
    app.advance(DAY);
    assert_eq!(by_hand("elsewhere").await["error"], Value::Null);
    std::fs::write(app.file("taken"), "").unwrap();
    assert_eq!(by_hand("taken").await["failed_step"], "upload");
    let second = look(&app).await;
    assert_eq!(second["last"]["error"], Value::Null, "{second}");
    assert_ne!(second["newest"]["name"], first["name"]);
    assert_eq!(names(&app).len(), 3);
    for _ in 0..6 {
        app.advance(DAY);
        look(&app).await;
    }
    let kept = names(&app);
    assert_eq!(kept.len(), 4, "three of its own: {kept:?}");
    assert!(kept.contains(&other), "{kept:?}");
}

#[tokio::test]
async fn a_backup_that_was_not_proven_is_not_made_again_before_its_time() {
    let app = TestApp::start_with(daily).await;
    app.has_room(1 << 10).await;
    let first = look(&app).await;
    let error = first["last"]["error"].as_str().unwrap();
    assert!(error.contains("is made, and not proven"), "{error}");
    assert_eq!(first["last"]["failed_step"], "prove", "{first}");
    assert_eq!(first["last"]["backup"]["name"], names(&app)[0].as_str());
    assert_eq!(first["failures"], 1, "{first}");
    for _ in 0..3 {
        app.advance(HOUR);
        assert_eq!(look(&app).await["total"], 1, "others would fill the sink");
    }
    app.has_room(64 << 30).await;
    app.advance(DAY);
    let again = look(&app).await;
    assert_eq!(names(&app).len(), 2);
    assert_eq!(again["last"]["error"], Value::Null, "{again}");
    assert_ne!(again["proven_at"], Value::Null);
}

#[tokio::test]
async fn those_that_cannot_be_proven_go_and_the_proven_one_stays() {
    let app = TestApp::start_with(daily).await;
    let first = look(&app).await["newest"]["name"].clone();
    app.has_room(1 << 10).await;
    for _ in 0..6 {
        app.advance(DAY);
        let state = look(&app).await;
        assert_eq!(state["last"]["failed_step"], "prove", "{state}");
    }
    let names = names(&app);
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(first, names[0].as_str());
}

#[tokio::test]
async fn what_is_only_called_a_backup_is_told_and_not_counted() {
    let app = TestApp::start_with(daily).await;
    let first = look(&app).await["newest"].clone();
    let name = first["name"].as_str().unwrap();
    let (rest, store) = name.rsplit_once('-').unwrap();
    let (rest, entries) = rest.rsplit_once('-').unwrap();
    let (time, seq) = rest.rsplit_once('-').unwrap();
    let seq: u64 = seq.parse().unwrap();
    let named = |time: &str| format!("{time}-{}-{entries}-{store}", seq + 5);
    let (empty, later) = (named(time), named("certctl-20990101T000000Z"));
    let dir = app.file("backups");
    std::fs::write(dir.join(&empty), "").unwrap();
    std::fs::copy(dir.join(name), dir.join(&later)).unwrap();
    let directory = empty.replace(&format!("-{}-", seq + 5), &format!("-{}-", seq + 6));
    std::fs::create_dir(dir.join(&directory)).unwrap();
    app.advance(HOUR);
    let state = look(&app).await;
    assert_eq!(state["total"], 4, "{state}");
    assert_eq!(state["newest"]["name"], name, "{state}");
    let none = "no backup of certctl";
    for (file, why) in [
        (&empty, none),
        (&directory, none),
        (&later, "still to come"),
    ] {
        let all = state["data"].as_array().unwrap();
        let shown = all.iter().find(|b| b["name"] == file.as_str()).unwrap();
        let said = shown["unusable_because"].as_str().unwrap();
        assert!(said.contains(why) && said.contains("remove it"), "{said}");
    }
    let scrape = app.call("GET", "/api/v1/metrics/prometheus");
    let text = scrape.bearer(app.admin_key()).send().await.text;
    assert!(text.contains("certctl_backup_age_seconds 3600"), "{text}");
    app.advance(DAY);
    let next = look(&app).await;
    assert_ne!(next["newest"]["name"], name, "{next}");
    assert_eq!(next["last"]["error"], Value::Null, "{next}");
}

#[tokio::test]
async fn a_backup_is_made_proven_and_kept_by_the_schedule() {
    let mut app = TestApp::start_with(daily).await;
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

#[tokio::test]
async fn one_that_is_gone_from_the_sink_is_made_again() {
    let app = TestApp::start_with(daily).await;
    let first = look(&app).await["newest"]["name"].clone();
    std::fs::remove_file(app.file("backups").join(first.as_str().unwrap())).unwrap();
    app.advance(HOUR);
    let again = look(&app).await;
    assert_ne!(again["newest"]["name"], first, "{again}");
    assert_eq!(again["newest"]["name"], names(&app)[0].as_str());
    app.advance(HOUR);
    assert_eq!(look(&app).await["total"], 1, "once");

    // So is one that is there, and no backup any more, whatever was noted of it.
    let emptied = again["newest"]["name"].clone();
    let path = app.file("backups").join(emptied.as_str().unwrap());
    assert!(
        path.with_file_name(format!("{}.proven", emptied.as_str().unwrap()))
            .exists()
    );
    std::fs::write(path, "").unwrap();
    app.advance(HOUR);
    let again = look(&app).await;
    assert_ne!(again["newest"]["name"], emptied, "{again}");
    assert_eq!(
        again["newest"]["created_at"],
        app.now().to_string(),
        "{again}"
    );
    app.advance(HOUR);
    assert_eq!(look(&app).await["total"], 2, "once");
}

#[tokio::test]
async fn a_sink_that_cannot_be_read_is_told() {
    let app = TestApp::start_with(daily).await;
    std::fs::write(app.file("backups"), "").unwrap();
    let state = look(&app).await;
    let why = state["unread_because"].as_str().unwrap();
    assert!(why.contains("backups"), "{why}");
    assert_eq!(state["unread_at"], app.now().to_string(), "{state}");
    std::fs::remove_file(app.file("backups")).unwrap();
    app.advance(HOUR);
    let state = look(&app).await;
    assert_eq!(state["unread_because"], Value::Null, "{state}");
    assert_eq!(state["total"], 1, "{state}");
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
