//! Each benchmark runs, through the binary, and says what it found.

use crate::cli::process::{certctl, run};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::Path;

/// Runs a small benchmark below a directory of its own, in which nothing may remain.
fn bench(line: &str) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let mut command = certctl(["bench", "--seconds", "0.05", "--output", "json", "--dir"]);
    command.arg(dir.path()).args(line.split(' '));
    let report: Value = serde_json::from_str(&run(&mut command).good()).unwrap();
    assert_eq!(left_in(dir.path()), 0, "{line}");
    for (field, value) in [("engine", "redb"), ("rate_limits", "off")] {
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

#[test]
fn issuance() {
    let results = bench("issue --clients 3 --rows 10");
    let [line] = &results[..] else {
        panic!("{results:?}");
    };
    let measured = ["certificates_per_s", "p50_ms", "p99_ms", "samples"];
    positive(line, &measured);
    positive(line, &["disk_bytes_each", "server_mib", "index_keys_each"]);
    positive(line, &["server_cpu_us_each", "client_cpu_us_each"]);
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
