//! `certctl doctor` on the real binary, with real faults.

use super::{home::Home, postgres::url, process::run};
use crate::{
    doctor::{findings, found},
    support::postgres::Cluster,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;

/// What it says with these settings, and the exit code.
fn doctor(home: &Home, line: &str, settings: &[(&str, &str)]) -> (Value, i32) {
    let mut command = home.command(&format!("doctor --output json{line}"));
    command.envs(settings.iter().copied());
    let ended = run(&mut command);
    let report: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"));
    let code = ended.status.code().unwrap();
    let expected = match report["severity"].as_str().unwrap() {
        "ok" | "notice" => 0,
        "warning" => 3,
        _ => 4,
    };
    assert_eq!(code, expected, "{ended:?}");
    findings(&report);
    (report, code)
}

#[test]
fn a_server_is_well_beside_its_backups_and_looked_at_also_when_it_is_stopped() {
    let home = Home::new();
    let sink = format!("dir:{}", home.beside("backups").display());
    let to = age::x25519::Identity::generate().to_public().to_string();
    let settings = [
        ("CERTCTL_BACKUP_SCHEDULE", "06:30"),
        ("CERTCTL_BACKUP_SINK", sink.as_str()),
        ("CERTCTL_BACKUP_ENCRYPT_TO", to.as_str()),
    ];
    let server = home.server_with(&settings);
    let (report, code) = doctor(&home, "", &settings);
    assert_eq!(code, 0, "{report:#}");
    found(&report, "ok", "tls", "the server's own certificate");
    found(&report, "ok", "storage", "rows can be read");
    server.signal(Signal::SIGTERM);
    server.end();

    let before = fs::read(home.path("certctl.redb")).unwrap();
    let (report, code) = doctor(&home, "", &settings);
    assert_eq!(code, 0, "{report:#}");
    found(&report, "ok", "storage", "every page is as it was written");
    let (report, _) = doctor(&home, " --quick", &settings);
    let all = findings(&report);
    assert!(!all.iter().any(|f| f["check"] == "audit"), "{report:#}");
    assert!(fs::read(home.path("certctl.redb")).unwrap() == before);

    // For people.
    let ended = run(home.command("doctor").envs(settings));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stdout.contains("\nok       audit "), "{ended:?}");

    // Without those settings nothing makes backups.
    let (report, code) = doctor(&home, "", &[]);
    assert_eq!(code, 3, "{report:#}");
}

#[test]
fn a_damaged_store_a_wrong_key_and_wrong_settings_are_findings() {
    let home = Home::new();
    let server = home.server();
    server.signal(Signal::SIGTERM);
    server.end();

    let (report, code) = doctor(
        &home,
        "",
        &[("CERTCTL_LOG_LEVEL", "loud"), ("CERTCTL_SERVER_PORT", "x")],
    );
    assert_eq!(code, 4);
    found(&report, "error", "settings", "CERTCTL_LOG_LEVEL");
    found(&report, "error", "settings", "CERTCTL_SERVER_PORT");
    found(&report, "ok", "storage", "rows can be read");

    fs::write(home.path("machine.key"), format!("{}\n", "a".repeat(64))).unwrap();
    let (report, code) = doctor(&home, "", &[]);
    assert_eq!(code, 4);
    found(&report, "error", "key ring", "does not fit this store");

    let whole = fs::read(home.path("certctl.redb")).unwrap();
    let mut seen = 0;
    for part in 1..12 {
        let mut damaged = whole.clone();
        let at = part * (whole.len() / 12);
        for byte in &mut damaged[at..at + 256] {
            *byte ^= 0x5a;
        }
        fs::write(home.path("certctl.redb"), &damaged).unwrap();
        let (report, _) = doctor(&home, "", &[]);
        let all = findings(&report);
        let amiss = |f: &Value| f["check"] == "storage" && f["severity"] == "error";
        seen += usize::from(all.iter().any(amiss));
        assert!(fs::read(home.path("certctl.redb")).unwrap() == damaged);
    }
    assert!(seen > 0, "no damage was seen");
    fs::write(home.path("certctl.redb"), "no store").unwrap();
    let (report, code) = doctor(&home, "", &[]);
    assert_eq!(code, 4);
    found(&report, "error", "storage", "certctl.redb");

    let nowhere = Home::new();
    let (report, code) = doctor(&nowhere, "", &[]);
    assert_eq!(code, 4);
    found(&report, "error", "files", "there is no such directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_somebody_edited_or_that_is_away_is_found() {
    let cluster = Cluster::start("");
    let database = cluster.database();
    let home = Home::new();
    let url = url(&database);
    let settings = [("CERTCTL_DATABASE_URL", url.as_str())];
    let (report, _) = {
        fs::create_dir(home.data()).unwrap();
        doctor(&home, "", &settings)
    };
    found(&report, "notice", "storage", "the database holds no store");
    assert_eq!(
        database.sql("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'certctl'"),
        "0",
        "it made something"
    );
    fs::remove_dir(home.data()).unwrap();

    let server = home.server_with(&settings);
    let certificate = json!({"id": "www", "name": "www", "common_name": "www.example.org"});
    home.api().post("/certificates", certificate).await;
    server.signal(Signal::SIGTERM);
    server.end();
    let (report, code) = doctor(&home, "", &settings);
    assert_eq!(code, 3, "{report:#}");
    found(&report, "ok", "database", "takes commits");

    database.sql(
        "DELETE FROM certctl_store.entries WHERE name = 'cert.name';
         UPDATE certctl_store.rows SET doc = regexp_replace(doc::text,
           '\"plan\": \\{[^}]*\\}', '\"plan\": {\"is\": \"nonsense\"}')::jsonb
         WHERE coll = 'certificate';
         UPDATE certctl_store.stream_entries SET doc = convert_to(
           replace(convert_from(doc, 'UTF8'), 'certificate_created', 'certificate_deleted'),
           'UTF8')",
    );
    let (report, code) = doctor(&home, "", &settings);
    assert_eq!(code, 4);
    found(&report, "error", "storage", "certificate www");
    found(&report, "error", "audit", "somebody has changed the log");

    cluster.kill();
    let (report, code) = doctor(&home, "", &settings);
    assert_eq!(code, 4);
    found(&report, "error", "database", "cannot be used now");
}
