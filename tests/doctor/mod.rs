//! The doctor: each fault is provoked, found, and told with what mends it.

mod running;

use certctl::cli;
use serde_json::Value;

/// The findings of a report, of which each says what mends it by commands that there are.
#[track_caller]
pub fn findings(report: &Value) -> Vec<Value> {
    let findings = report["findings"].as_array().expect("findings").clone();
    for found in &findings {
        let remedy = found["remedy"].as_str().unwrap();
        let wants = matches!(found["severity"].as_str(), Some("warning" | "error"));
        assert!(!wants || !remedy.is_empty(), "{found}: what mends it?");
        for command in remedy.split('`').skip(1).step_by(2) {
            if !command.starts_with("certctl ") {
                continue;
            }
            let words = shlex::split(command).expect("words");
            if let Err(e) = cli::definition().try_get_matches_from(words) {
                panic!("{command}: {e}");
            }
        }
    }
    findings
}

/// What a check has found that is of this severity.
#[track_caller]
pub fn found(report: &Value, severity: &str, check: &str, part: &str) -> Value {
    let all = findings(report);
    let mut fitting = all.iter().filter(|found| {
        let says = |field: &str| found[field].as_str().unwrap().contains(part);
        found["severity"] == severity
            && found["check"] == check
            && (says("what") || says("subject"))
    });
    let found = fitting.next();
    found
        .unwrap_or_else(|| panic!("no {severity} of {check} with {part:?} in {report:#}"))
        .clone()
}
