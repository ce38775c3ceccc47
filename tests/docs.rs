//! Holds what the README says to what the program does.

use certctl::{api, cli, config};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

#[test]
fn every_command_line_can_be_read() {
    let mut lines = 0;
    let agents = fs::read_to_string("docs/agents.md").expect("docs/agents.md");
    let backup = fs::read_to_string("docs/backup.md").expect("docs/backup.md");
    let operations = fs::read_to_string("docs/operations.md").expect("docs/operations.md");
    let pages = [readme(), agents, backup, operations];
    for line in pages.iter().flat_map(|page| code(page)) {
        // One that goes on over several lines is no command of ours.
        let Some(words) = shlex::split(&line) else {
            continue;
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
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
    assert!(lines >= 24, "only {lines} command lines were found");
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

/// Each `curl` of the page about the API is a call that there is, with parameters that it has.
#[test]
fn every_call_of_the_api_page_is_one() {
    let document = api::document();
    let mut calls = 0;
    for line in code(&fs::read_to_string("docs/api.md").expect("docs/api.md")) {
        let words = shlex::split(&line).expect("words of a shell");
        if words.first().is_none_or(|word| word != "curl") {
            continue;
        }
        calls += 1;
        let url = words.last().expect("an address");
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let path = path.strip_prefix("https://certctl.example:8443");
        let path = path.unwrap_or_else(|| panic!("{line}: another server"));
        let sends = words.iter().any(|word| word == "-d");
        let named = words.iter().skip_while(|word| *word != "-X").nth(1);
        let method = named.map_or(if sends { "post" } else { "get" }, String::as_str);
        let operation = operation(&document, path, &method.to_lowercase());
        let operation = operation.unwrap_or_else(|| panic!("{line}: there is no such call"));
        let parameters = operation["parameters"].as_array().expect("parameters");
        let has = |name: &str| {
            let named = |p: &serde_json::Value| p["name"].as_str().is_some_and(|n| n == name);
            assert!(parameters.iter().any(named), "{line}: there is no {name}");
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            has(pair.split('=').next().expect("a name"));
        }
        for word in &words {
            if let Some((name, _)) = word.split_once(": ")
                && words.contains(&"-H".to_owned())
                && !matches!(name, "Authorization")
                && !name.starts_with('{')
            {
                has(name);
            }
        }
    }
    assert!(calls >= 6, "only {calls} calls were found");
}

/// The operation of a path, whose ids stand where the document has names in braces.
fn operation<'a>(
    document: &'a serde_json::Value,
    path: &str,
    method: &str,
) -> Option<&'a serde_json::Value> {
    let paths = document["paths"].as_object()?;
    let fits = |template: &str| {
        let (ours, theirs) = (path.split('/'), template.split('/'));
        ours.clone().count() == theirs.clone().count()
            && ours.zip(theirs).all(|(a, b)| a == b || b.starts_with('{'))
    };
    // One without names in it goes before.
    let exact = paths.get(path).and_then(|item| item.get(method));
    exact.or_else(|| {
        let mut fitting = paths.iter().filter(|(template, _)| fits(template));
        fitting.find_map(|(_, item)| item.get(method))
    })
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
