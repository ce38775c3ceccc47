//! Command lines, files and machines that are not as they should be, at the real binary: the exit
//! code says what kind of fault it is, the message names it and what to do, and nothing is changed.

mod hosts;
mod server;
mod words;

use crate::cli::process::{certctl, run};
use std::process::Command;

/// One command line that must fail.
struct Case {
    name: &'static str,
    command: Command,
    code: i32,
    /// What standard error must name.
    says: Vec<String>,
}

/// Runs each; whatever is wrong with any of them is told at the end.
fn refuse(cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for mut case in cases {
        let ended = run(&mut case.command);
        let name = case.name;
        if ended.status.code() != Some(case.code) {
            wrong.push(format!("{name}: {:?}: {}", ended.status, ended.stderr));
            continue;
        }
        if !ended.stdout.is_empty() {
            wrong.push(format!("{name}: it prints {:?}", ended.stdout));
        }
        for part in case.says {
            if !ended.stderr.contains(&part) {
                wrong.push(format!("{name}: {part:?} is not in {:?}", ended.stderr));
            }
        }
        for raw in ["Os {", "Error(", "Some(", "panicked", "\u{1b}"] {
            if ended.stderr.contains(raw) {
                wrong.push(format!("{name}: {raw:?} is in {:?}", ended.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn case(name: &'static str, command: Command, code: i32, says: &[&str]) -> Case {
    Case {
        name,
        command,
        code,
        says: says.iter().map(|s| (*s).to_owned()).collect(),
    }
}

/// `certctl <line>`.
fn line(name: &'static str, line: &str, code: i32, says: &[&str]) -> Case {
    case(name, certctl(line.split(' ')), code, says)
}

impl Case {
    fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }
}

/// A name of a file for a case.
fn name_of(name: &str) -> String {
    name.replace(' ', "-")
}
