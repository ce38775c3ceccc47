//! Attempts at jobs, as lines for people.

use super::output;
use crate::api::shapes::{AttemptShape, LeafShape};

/// How an attempt ended, in a line.
pub fn headline(a: &AttemptShape) -> String {
    let word = match (a.outcome.as_str(), a.class.as_deref()) {
        ("rolled_back", _) => "rolled back".to_owned(),
        ("rollback_failed", _) => "ROLLBACK FAILED".to_owned(),
        ("failed", Some(class)) => format!("failed ({})", class.replace('_', " ")),
        (outcome, _) => outcome.to_owned(),
    };
    format!(
        "{word} after {} at {}, attempt {} by {}",
        duration(a.duration_ms),
        output::moment(Some(&a.ended_at)),
        a.attempt,
        a.agent_id
    )
}

/// Prints all of an attempt but its headline, indented. A reason that is `told` is not said again.
pub fn print(a: &AttemptShape, told: Option<&str>) {
    details(a, told).iter().for_each(|line| output::line(line));
}

fn details(a: &AttemptShape, told: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |name: &str, value: &str| lines.push(format!("  {name:<8} {value}"));
    if let Some(reason) = a.reason.as_deref().filter(|reason| told != Some(*reason)) {
        say("reason", reason);
    }
    for finding in &a.findings {
        say("found", finding);
    }
    match (&a.old, &a.new) {
        (Some(old), Some(new)) if old != new => {
            say("old", &leaf(old));
            say("new", &leaf(new));
        }
        (_, Some(new)) => say("version", &leaf(new)),
        (Some(old), None) => say("in place", &leaf(old)),
        (None, None) => {}
    }
    for served in &a.served {
        let what = match (&served.serial_number, &served.error) {
            (Some(serial), _) => format!("serves serial {serial}"),
            (None, Some(error)) => format!("serves nothing: {error}"),
            (None, None) => "serves nothing".into(),
        };
        say("seen", &format!("{} {what}", served.endpoint));
    }
    if !a.output.is_empty() {
        say("output", "");
        lines.extend(a.output.lines().map(|line| format!("    {line}")));
    }
    lines
}

fn leaf(leaf: &LeafShape) -> String {
    let print = &leaf.fingerprint_sha256;
    match &leaf.serial_number {
        Some(serial) => format!("serial {serial}, SHA-256 {print}"),
        None => format!("a certificate of another origin, SHA-256 {print}"),
    }
}

fn duration(ms: u64) -> String {
    if ms < 1_000 {
        format!("{ms} ms")
    } else {
        format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
    }
}
