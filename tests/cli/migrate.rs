//! `certctl migrate` and `server --migrate-only` of the ordinary program.

use super::{home::Home, postgres::url, process::run};
use crate::{store::migrate::unpack, support::postgres::Cluster};
use serde_json::json;
use std::fs;

#[test]
fn a_store_is_made_ready_without_any_other_setting_and_no_port_is_bound() {
    let home = Home::new();
    // A port that nobody may bind: the server would fail.
    let mut command = home.command("server --migrate-only");
    command.env("CERTCTL_SERVER_HOST", "192.0.2.1");
    command.env("CERTCTL_MIGRATIONS_VIA_HOOK", "true");
    let ended = run(&mut command);
    assert!(
        ended.stderr.contains("the store is ready for this version"),
        "{ended:?}"
    );
    ended.good_with_log();
    assert!(home.path("certctl.redb").exists());
    assert!(
        !home.path("machine.key").exists(),
        "no key is made or loaded"
    );
    assert!(!home.path("certctl.sock").exists());
    run(&mut home.command("server --migrate-only")).good_with_log();

    let status = home.json("migrate status");
    assert_eq!(status["standing"], "current");
    assert_eq!(status["migrations"], json!([]));
    let said = home.run("migrate status").good();
    assert!(said.contains("format 1, current"), "{said}");
    let said = home.run("migrate up").good();
    assert_eq!(said, "nothing is made: the store has format 1");
    let said = home.run("migrate plan").good();
    assert_eq!(said, "nothing is to be made: the store has format 1");
    home.run("migrate verify").good();
    let nowhere = home.run("migrate down --to 7").bad(1);
    assert!(nowhere.contains("there is no way to 7"), "{nowhere}");
    let nowhere = home.run("migrate up --to 0").bad(1);
    assert!(nowhere.contains("there is no way to 0"), "{nowhere}");

    let server = home.server();
    let in_use = home.run("migrate status").bad(75);
    assert!(in_use.contains("another certctl runs"), "{in_use}");
    drop(server);
}

/// Whatever there is no store for says so alike.
#[test]
fn what_only_looks_makes_no_store() {
    let home = Home::new();
    let database = Cluster::shared().database();
    let url = url(&database);
    for line in [
        "migrate status",
        "migrate plan",
        "migrate verify",
        "migrate up --dry-run",
        "migrate down --to 1",
        "rollback --to 1",
        "compact",
        "secrets status",
        "secrets rotate",
        "secrets rotate-machine-key",
        "backup create --sink dir:/nosuch --without-keys",
    ] {
        let refused = home.run(line).bad(66);
        assert!(refused.contains("data holds no store"), "{refused}");
        let mut elsewhere = home.command(line);
        elsewhere.env("CERTCTL_DATABASE_URL", &url);
        let refused = run(&mut elsewhere).bad(66);
        assert!(refused.contains("the database holds no store"), "{refused}");
    }
    // A server that is named for all commands is not theirs, and they say so.
    let mut command = home.command("migrate status");
    command.env("CERTCTL_SERVER_URL", "https://certctl.example:8443");
    let said = run(&mut command);
    assert_eq!(said.status.code(), Some(66), "{said:?}");
    let store = home.data().display().to_string();
    let first = said.stderr.lines().next().unwrap();
    assert!(
        first.contains(&store) && first.contains("CERTCTL_SERVER_URL"),
        "{said:?}"
    );
    assert!(!home.data().exists());
    // Nor is a store made of a file that is empty.
    fs::create_dir(home.data()).unwrap();
    fs::write(home.path("certctl.redb"), "").unwrap();
    home.run("migrate status").bad(66);
    home.run("secrets status").bad(66);
    home.run("compact").bad(66);
    let left = fs::metadata(home.path("certctl.redb")).unwrap();
    assert_eq!(left.len(), 0);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'certctl%'";
    assert_eq!(database.sql(schemas), "0");
}

/// Each command of the page about upgrades, in the order of the page, on a store that was used. The
/// backup that it restores is of somebody's own.
#[test]
fn the_commands_of_the_page_about_upgrades_work() {
    let home = Home::new();
    fs::create_dir(home.data()).unwrap();
    unpack(1, &home.data());
    let page = fs::read_to_string("docs/upgrades.md").unwrap();
    let lines = page
        .lines()
        .filter_map(|line| line.strip_prefix("certctl "))
        .filter(|line| !line.starts_with("restore "));
    let mut done = 0;
    for line in lines {
        run(&mut home.command(line)).good_with_log();
        done += 1;
    }
    assert!(done >= 8, "only {done} commands were found");
}

#[test]
fn a_server_starts_on_the_frozen_store_of_each_format() {
    let home = Home::new();
    fs::create_dir(home.data()).unwrap();
    unpack(1, &home.data());
    for file in ["machine.key", "tls/system-ca.pem"] {
        fs::create_dir_all(home.path("tls")).unwrap();
        fs::copy(
            format!("tests/store/fixtures/format-1/{file}"),
            home.path(file),
        )
        .unwrap();
    }
    let server = home.server();
    let owners = home.run("owners list").good();
    assert!(owners.contains("ada@example.com"), "{owners}");
    let certs = home.run("certs list").good();
    assert!(certs.contains("localhost"), "{certs}");
    home.run("audit verify").good();
    drop(server);
}
