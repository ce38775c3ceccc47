//! Holds what the README says to what the program does.

use certctl::{cli, config};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

#[test]
fn every_command_line_can_be_read() {
    let mut lines = 0;
    for line in code(&readme()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let args = match words[..] {
            ["certctl", ..] => &words[..],
            // What stands after `--` is for the program.
            ["cargo", "run", ..] => {
                let end = words.iter().position(|w| *w == "--").expect("a `--`");
                &words[end..]
            }
            _ => continue,
        };
        lines += 1;
        if let Err(e) = cli::definition().try_get_matches_from(args) {
            panic!("{line}\n{e}");
        }
    }
    assert!(lines >= 8, "only {lines} command lines were found");
}

#[test]
fn a_command_line_that_is_none_cannot_be_read() {
    for line in ["certctl certs lst", "certctl server --port 1", "certctl"] {
        let words = line.split_whitespace();
        assert!(cli::definition().try_get_matches_from(words).is_err());
    }
}

#[test]
fn it_opens_with_the_two_commands() {
    let readme = readme();
    let commands = code(&readme);
    assert_eq!(commands[0], "cargo run --release -- quickstart");
    assert_eq!(commands[1], "tests/run");
    let mode = fs::metadata("tests/run").expect("tests/run").permissions();
    assert_eq!(mode.mode() & 0o111, 0o111, "tests/run can be executed");
}

#[test]
fn the_reference_of_settings_is_made_from_their_table() {
    let page = fs::read_to_string("docs/configuration.md").expect("docs/configuration.md");
    let remedy = "certctl config keys --markdown >docs/configuration.md";
    assert!(page == config::page(), "make it anew: {remedy}");
    let readme = readme();
    assert!(readme.contains("(docs/configuration.md)"));
    assert!(!readme.contains("| `CERTCTL_"), "the settings have a page");
}

#[test]
fn its_links_lead_somewhere() {
    let readme = readme();
    let links: Vec<&str> = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(!links.is_empty());
    for link in links {
        assert!(Path::new(link).exists(), "{link}");
    }
}

fn readme() -> String {
    fs::read_to_string("README.md").expect("README.md")
}

/// The lines of the code blocks, without comments; a line that a backslash continues is one line.
fn code(markdown: &str) -> Vec<String> {
    let blocks = markdown.split("```").skip(1).step_by(2);
    let text: String = blocks
        .filter_map(|block| block.split_once('\n'))
        .map(|(_language, lines)| lines.replace("\\\n", " "))
        .collect();
    text.lines()
        .filter_map(|line| line.split(" #").next())
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}
