//! Each benchmark runs, through the binary, and says what it found.

use crate::{
    cli::{
        postgres::url,
        process::{certctl, run},
    },
    support::postgres::{Cluster, Database},
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::Path;

/// Runs a small benchmark below a directory of its own, in which nothing may remain.
fn bench(line: &str) -> Vec<Value> {
    bench_on(line, None)
}

/// The same on a database, in which nothing may remain.
fn bench_on(line: &str, database: Option<&Database<'_>>) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let mut command = certctl(["bench", "--seconds", "0.05", "--output", "json", "--dir"]);
    command.arg(dir.path()).args(line.split(' '));
    if let Some(database) = database {
        command.args(["--database-url", &url(database)]);
    }
    let report: Value = serde_json::from_str(&run(&mut command).good()).unwrap();
    assert_eq!(left_in(dir.path()), 0, "{line}");
    let engine = match database {
        None => "redb",
        Some(database) => {
            let left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'certctl%'";
            assert_eq!(database.sql(left), "0");
            "postgres"
        }
    };
    for (field, value) in [("engine", engine), ("rate_limits", "off")] {
        assert_eq!(report[field], value, "{report}");
    }
    let name = line.split(' ').next().unwrap();
    assert_eq!(report["bench"], name, "{report}");
    assert!(report["method"].as_str().unwrap().len() > 40, "{report}");
    for field in ["cores", "sync_us"] {
        assert!(report[field].as_u64().unwrap() > 0, "{field} in {report}");
    }
    report["results"].as_array().unwrap().clone()
}

fn left_in(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[track_caller]
fn positive(line: &Value, fields: &[&str]) {
    for field in fields {
        assert!(line[field].as_f64().unwrap() > 0.0, "{field} in {line}");
    }
    if let (Some(half), Some(most)) = (line["p50_ms"].as_f64(), line["p99_ms"].as_f64()) {
        assert!(half <= most, "{line}");
    }
}

#[test]
fn commits() {
    let results = bench("commit --clients 1,4");
    assert_eq!(results.len(), 2);
    for (line, clients) in results.iter().zip([1, 4]) {
        assert_eq!(line["clients"], clients);
        positive(line, &["commits_per_s", "p50_ms", "p99_ms", "samples"]);
        assert!(line["commits_per_sync"].as_f64().unwrap() >= 1.0, "{line}");
    }
}

/// Steps with their times, then the writers without and with a backup under way.
fn backups_are_measured(results: &[Value]) {
    let steps = [
        "create",
        "create beside writers",
        "verify",
        "verify --restore",
        "restore",
    ];
    for (line, step) in results.iter().zip(steps) {
        assert_eq!(line["step"], step);
        positive(line, &["seconds", "rows", "mib"]);
    }
    let writers = &results[steps.len()..];
    assert_eq!(writers.len(), 2);
    for line in writers {
        positive(line, &["commits_per_s", "p50_ms", "p99_ms", "samples"]);
    }
}

fn migrations_are_measured(results: &[Value]) {
    let ways: Vec<&str> = results.iter().map(|l| l["way"].as_str().unwrap()).collect();
    assert_eq!(ways, ["up", "down"]);
    for line in results {
        assert_eq!(line["migrations"], 2);
        positive(line, &["rows", "seconds", "rows_migrated_per_s"]);
    }
}

#[test]
fn backups() {
    backups_are_measured(&bench("backup --rows 200 --writes 200"));
}

#[test]
fn migrations() {
    migrations_are_measured(&bench("migrate --rows 300"));
}

#[test]
fn on_a_database() {
    let database = Cluster::shared().database();
    let on = |line: &str| bench_on(line, Some(&database));
    let commits = on("commit --clients 1,4");
    assert_eq!(commits.len(), 2);
    commits
        .iter()
        .for_each(|line| positive(line, &["commits_per_s", "p99_ms"]));
    positive(
        &on("issue --clients 2 --rows 10")[0],
        &["certificates_per_s", "p99_ms"],
    );
    assert!(on("list --rows 60").len() > 5);
    backups_are_measured(&on("backup --rows 200 --writes 200"));
    migrations_are_measured(&on("migrate --rows 300"));

    // Somebody's store is left alone.
    database.sql("CREATE SCHEMA certctl_store; CREATE TABLE certctl_store.meta (seq bigint)");
    let mut command = certctl(["bench", "--database-url", &url(&database), "commit"]);
    let refused = run(&mut command).bad(1);
    assert!(refused.contains("holds a store"), "{refused}");
    let kept = "SELECT count(*) FROM pg_namespace WHERE nspname = 'certctl_store'";
    assert_eq!(database.sql(kept), "1");
}

#[test]
fn issuance() {
    let results = bench("issue --clients 3 --rows 10");
    let [line] = &results[..] else {
        panic!("{results:?}");
    };
    let measured = ["certificates_per_s", "p50_ms", "p99_ms", "samples"];
    positive(line, &measured);
    positive(line, &["disk_bytes_each", "server_mib", "index_keys_each"]);
    // The client's is counted in hundredths of a second, and may come to none.
    positive(line, &["server_cpu_us_each"]);
    assert_eq!(line["errors"], 0);
    assert_eq!(line["commits_each"], 1.0);
}

#[test]
fn agents() {
    let results = bench("agents --agents 5 --jobs 7");
    let [waiting, polls, delivery] = &results[..] else {
        panic!("{results:?}");
    };
    assert_eq!(waiting["agents"], 5);
    positive(waiting, &["connect_s", "empty_mib", "idle_mib"]);
    positive(polls, &["polls_per_s", "p50_ms", "p99_ms", "samples"]);
    assert_eq!(delivery["jobs"], 7);
    assert_eq!(delivery["samples"], 7);
    positive(delivery, &["p50_ms", "p99_ms", "max_ms", "server_mib"]);
}

#[test]
fn lists() {
    let results = bench("list --rows 60");
    let names: Vec<&str> = results
        .iter()
        .map(|l| l["list"].as_str().unwrap())
        .collect();
    for name in [
        "by name",
        "following a cursor",
        "dashboard page",
        "due: first 1,000",
    ] {
        assert!(names.contains(&name), "{name:?} in {names:?}");
    }
    let (server, lists) = results.split_last().unwrap();
    for line in lists {
        positive(line, &["p50_ms", "p99_ms", "samples"]);
    }
    positive(server, &["server_mib"]);
}

#[test]
fn starts() {
    let results = bench("start --rows 60");
    let names: Vec<&str> = results
        .iter()
        .map(|l| l["start"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["after a clean end", "after kill -9"]);
    for line in &results {
        positive(line, &["ready_ms", "ready_mib", "idle_mib"]);
    }
}

#[test]
fn a_benchmark_that_is_cut_off_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = certctl(["bench", "--seconds", "600", "--dir"]);
    command.arg(dir.path()).args(["issue", "--rows", "10"]);
    let process = crate::cli::process::Process::start(&mut command);
    let socket = || {
        let place = std::fs::read_dir(dir.path()).unwrap().next()?.unwrap();
        Some(place.path().join("certctl.sock")).filter(|socket| socket.exists())
    };
    let deadline = std::time::Instant::now() + crate::cli::process::AMPLE;
    while socket().is_none() {
        assert!(std::time::Instant::now() < deadline, "no server began");
        std::thread::yield_now();
    }
    process.signal(Signal::SIGTERM);
    let fault = process.end().bad(1);
    assert!(fault.contains("SIGTERM"), "{fault}");
    assert_eq!(left_in(dir.path()), 0);
}
