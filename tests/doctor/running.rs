//! A server that looks at itself, under a clock that the test moves.

use super::{findings, found};
use crate::support::{DAY, HOUR, TestAgent, TestApp};
use certctl::{
    access::Role,
    clock::Time,
    domain::{Certificate, Plan},
    id::Id,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};
use tokio::time::advance;

async fn report(app: &TestApp, quick: bool) -> Value {
    let began = app.post("/api/v1/doctor", json!({"quick": quick})).await;
    assert_eq!(began.expect(202)["running"], true);
    loop {
        let state = app.get("/api/v1/doctor").await;
        if state["running"] == false {
            assert_eq!(state["report"]["quick"], quick);
            return state["report"].clone();
        }
        tokio::task::yield_now().await;
    }
}

fn certificate(id: &str) -> Id {
    id.parse().unwrap()
}

/// An agent polls, with a clock that says something else, of another version.
async fn polls(app: &TestApp, agent: &TestAgent, ahead_s: i64, version: &str) {
    let time = Time::from_seconds(app.now().seconds() + ahead_s);
    let call = agent.call(app, "GET", &format!("work?time={time}&version={version}"));
    call.send().await.expect(200);
}

#[tokio::test]
async fn a_sound_server_has_no_fault_but_that_no_backup_is_made() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(&app).await;
    app.tick().await;
    let before = app.seq();
    let report = report(&app, false).await;
    let amiss: Vec<_> = findings(&report)
        .into_iter()
        .filter(|f| f["severity"] == "warning" || f["severity"] == "error")
        .collect();
    assert_eq!(amiss.len(), 1, "{amiss:#?}");
    assert_eq!(report["severity"], "warning");
    found(&report, "warning", "backups", "no backup is made by itself");
    for (check, part) in [
        ("storage", "rows can be read"),
        ("audit", "each linked to the last"),
        ("schema", "as this version's"),
        ("key ring", "seals 3 values, and the new ones"),
        ("ca keys", "ca-local-issuing: its key opens"),
        ("ca keys", "ca-system: its key opens"),
        ("clock", "it says 2026-01-01"),
        ("disk", "are free"),
        ("files", "its owner's alone"),
        ("tls", "the server's own certificate ends"),
        ("agents", "1 agents, all heard"),
        ("schedule", "1 certificates, each scheduled"),
        ("jobs", "none for over an hour"),
    ] {
        // The first key lies there, which is a notice, and not all is said to be well then.
        match check {
            "files" => found(&report, "notice", check, "first key lies there"),
            _ => found(&report, "ok", check, part),
        };
    }
    assert_eq!(app.seq(), before, "it changed something");
}

#[tokio::test]
async fn agents_that_are_away_or_off_are_named() {
    let app = TestApp::start().await;
    let [a, b] = [app.agent("a").await, app.agent("b").await];
    for agent in [&a, &b] {
        polls(&app, agent, 0, env!("CARGO_PKG_VERSION")).await;
    }
    app.tick().await;
    app.advance(HOUR);
    polls(&app, &b, 600, "7.0.0").await;
    app.tick().await;
    let report = report(&app, true).await;
    let away = found(&report, "warning", "agents", "it was not heard since");
    assert!(
        away["subject"].as_str().unwrap().starts_with("a ("),
        "{away}"
    );
    let remedy = away["remedy"].as_str().unwrap();
    assert!(
        remedy.contains(&format!("agents retire {}", a.id)),
        "{remedy}"
    );
    found(
        &report,
        "warning",
        "agents",
        "its clock is 10 minutes ahead",
    );
    found(&report, "warning", "agents", "it runs version 7.0.0");
    found(&report, "notice", "agents", "1 of 2 agents are not heard");
}

#[tokio::test]
async fn a_server_whose_agents_all_see_its_clock_wrong_is_told_so() {
    let app = TestApp::start().await;
    for name in ["a", "b", "c"] {
        polls(&app, &app.agent(name).await, 900, env!("CARGO_PKG_VERSION")).await;
    }
    app.tick().await;
    let report_of = report(&app, true).await;
    found(
        &report_of,
        "error",
        "clock",
        "900 s behind those of its agents",
    );

    // And one that was set back.
    app.set_back(2 * HOUR);
    let report = report(&app, true).await;
    found(&report, "error", "clock", "it was set back");
}

#[tokio::test]
async fn a_certificate_that_nothing_would_renew_is_found() {
    let app = TestApp::start().await;
    for id in ["lost", "ended", "fine", "late"] {
        app.certificate(id, &[]).await;
    }
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    app.tick().await;
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    let plans = [
        (
            "lost",
            Plan::InFlight {
                order: certificate("ord-none"),
            },
        ),
        (
            "ended",
            Plan::Exempt {
                reason: String::new(),
                owner: String::new(),
            },
        ),
        ("late", Plan::Scheduled { at: app.now() }),
    ];
    for (id, plan) in plans {
        let mut row = unit.load::<Certificate>(&certificate(id)).await.unwrap();
        for line in row.holders.values_mut() {
            line.plan = plan.clone();
        }
        assert!(!row.holders.is_empty());
        unit.put(row);
    }
    unit.commit().await.unwrap();
    app.advance(2 * HOUR);
    let report = report(&app, true).await;
    let lost = found(&report, "error", "schedule", "order ord-none is not there");
    assert_eq!(lost["subject"], "lost");
    found(
        &report,
        "error",
        "schedule",
        "it is exempt, and nobody says why",
    );
    let late = found(&report, "warning", "schedule", "due for over an hour");
    assert_eq!(late["subject"], "late");
    // Nobody fetches the agent's job.
    found(&report, "warning", "jobs", "wait for it for over an hour");
}

#[tokio::test]
async fn files_that_others_may_read_a_full_disk_and_ends_of_cas_are_found() {
    let app = TestApp::start_with(|config| {
        config.disk_reserve = 100 << 20;
        // Stands for a file of a secret: it is there, and everybody may read it.
        config.secret_files = vec!["/etc/passwd".into()];
    })
    .await;
    let mode = |name: &str, mode| {
        fs::set_permissions(app.file(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("machine.key", 0o644);
    let credential = app.file("agent/identity/agent.json");
    fs::create_dir_all(credential.parent().unwrap()).unwrap();
    fs::write(&credential, "{}").unwrap();
    mode("agent/identity/agent.json", 0o640);
    fs::write(app.file("tls/system-ca.pem"), "-----").unwrap();
    app.has_room(1 << 20).await;
    let first = report(&app, true).await;
    let open = found(&first, "error", "files", "its mode is 644");
    assert!(open["subject"].as_str().unwrap().ends_with("machine.key"));
    let open = found(&first, "error", "files", "its mode is 640");
    assert_eq!(open["subject"], credential.to_str().unwrap());
    let open = found(&first, "warning", "files", "everybody may use it");
    assert_eq!(open["remedy"], "`chmod o= /etc/passwd`");
    found(&first, "error", "disk", "1024 KiB are free");
    found(
        &first,
        "warning",
        "tls",
        "not the certificate of the store's system CA",
    );
    app.has_room(50 << 30).await;

    // The machine key of another.
    let key = fs::read(app.file("machine.key")).unwrap();
    fs::write(app.file("machine.key"), "0".repeat(64)).unwrap();
    let other = report(&app, true).await;
    found(&other, "error", "key ring", "does not fit this store");
    fs::remove_file(app.file("machine.key")).unwrap();
    found(
        &report(&app, true).await,
        "error",
        "key ring",
        "it is missing",
    );
    fs::write(app.file("machine.key"), key).unwrap();

    app.advance(4 * 365 * DAY + 100 * DAY);
    let end = report(&app, true).await;
    found(&end, "warning", "ca keys", "ca-local-issuing");
    app.advance(250 * DAY);
    let end = report(&app, true).await;
    found(&end, "error", "ca keys", "within 30 days");
    app.advance(100 * DAY);
    found(
        &report(&app, true).await,
        "error",
        "ca keys",
        "it has ended",
    );
}

#[tokio::test]
async fn who_may_not_have_it_looked_at_may_not() {
    let app = TestApp::start().await;
    let viewer = app.key(Role::Viewer).await;
    let call = app.call("POST", "/api/v1/doctor").bearer(&viewer);
    let refused = call.json(&json!({})).send().await.refused(403);
    assert!(refused.contains("doctor.run"), "{refused}");
}

/// Callers who ask one after the other do not have the server read all it holds all the time.
#[tokio::test(start_paused = true)]
async fn after_a_long_look_the_doctor_rests_for_as_long_as_it_took() {
    let app = TestApp::start().await;
    let begin = async |quick: bool| app.post("/api/v1/doctor", json!({"quick": quick})).await;
    let ended = async || {
        while app.get("/api/v1/doctor").await["running"] == true {
            tokio::task::yield_now().await;
        }
    };
    begin(false).await.expect(202);
    advance(Duration::from_secs(40)).await;
    ended().await;
    let found = app.get("/api/v1/doctor").await["report"].clone();
    // A quick one is another matter.
    begin(true).await.expect(202);
    ended().await;
    let rests = begin(false).await.expect(202);
    assert_eq!(
        (&rests["running"], &rests["report"]),
        (&json!(false), &found)
    );
    advance(Duration::from_secs(40)).await;
    let looks = begin(false).await.expect(202);
    assert_eq!(looks["running"], true);
    ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_look_and_a_census() {
    let app = TestApp::start().await;
    let stop = async || {
        let late = app.app.tasks.shutdown(Duration::from_secs(25)).await;
        assert!(late.is_empty(), "{late:?}");
    };
    stop().await;
    app.post("/api/v1/doctor", json!({"quick": false}))
        .await
        .expect(202);
    assert_eq!(app.get("/api/v1/storage").await["counting"], true);
    stop().await;
    let state = app.get("/api/v1/doctor").await;
    assert!(state["report"].is_null(), "it looked to its end: {state}");
    assert_eq!(
        app.get("/api/v1/storage").await["counting"],
        true,
        "it counted to its end"
    );
}
