//! Completions, the manual, and the exit codes that help documents.

use super::{
    home::Home,
    process::{certctl, run},
};
use certctl::{
    app::{StartError, backup::BackupFailure},
    cli::{CliError, EXIT_CODES, definition},
};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    process::{Command, Stdio},
};

/// Every command, `certctl` itself included, as words joined by dashes.
fn commands() -> BTreeSet<String> {
    fn below(command: &clap::Command, name: &str, found: &mut BTreeSet<String>) {
        found.insert(name.to_owned());
        for sub in command.get_subcommands() {
            below(sub, &format!("{name}-{}", sub.get_name()), found);
        }
    }
    let mut found = BTreeSet::new();
    below(&definition(), "certctl", &mut found);
    found
}

#[test]
fn every_command_has_a_page_of_the_manual() {
    let home = Home::new();
    let dir = home.beside("man");
    run(&mut certctl(["man", "--dir", dir.to_str().unwrap()])).good();
    let pages: BTreeSet<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(".1").unwrap().to_owned())
        .collect();
    assert_eq!(pages, commands());
    for page in &pages {
        let path = dir.join(format!("{page}.1"));
        let shown = Command::new("man")
            .args(["--warnings", "--local-file", "--encoding=utf-8"])
            .arg(&path)
            .env("MANWIDTH", "100")
            .output()
            .expect("man is installed by tests/run");
        assert!(shown.status.success(), "{page}: {shown:?}");
        assert!(shown.stderr.is_empty(), "{page}: {shown:?}");
        let text = String::from_utf8(shown.stdout).unwrap();
        assert!(text.contains("SYNOPSIS"), "{page}: {text}");
    }
    let file = home.beside("file");
    fs::write(&file, "").unwrap();
    let fault = run(&mut certctl(["man", "--dir", file.to_str().unwrap()])).bad(74);
    assert!(fault.contains(file.to_str().unwrap()), "{fault}");
}

#[test]
fn completions_know_every_command_and_are_read_by_their_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&mut certctl(["completions", shell])).good();
        for command in commands() {
            let word = command.rsplit('-').next().unwrap();
            assert!(script.contains(word), "{shell}: {command}");
        }
    }
    let script = run(&mut certctl(["completions", "bash"])).good();
    let mut bash = Command::new("bash")
        .args(["--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ask = "COMP_WORDS=(certctl con) COMP_CWORD=1; _certctl certctl con certctl; \
               echo \"${COMPREPLY[@]}\"";
    let mut stdin = bash.stdin.take().unwrap();
    writeln!(stdin, "{script}\n{ask}").unwrap();
    drop(stdin);
    let answer = bash.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(answer.stdout).unwrap().trim(), "config");
}

#[test]
fn no_command_gives_a_global_flag_another_meaning() {
    fn below(command: &clap::Command, globals: &[&str]) {
        for sub in command.get_subcommands() {
            for flag in sub.get_arguments().filter_map(clap::Arg::get_long) {
                let name = sub.get_name();
                assert!(!globals.contains(&flag), "{name} has a --{flag} of its own");
            }
            below(sub, globals);
        }
    }
    let whole = definition();
    let globals = whole.get_arguments().filter(|arg| arg.is_global_set());
    let globals: Vec<&str> = globals.filter_map(clap::Arg::get_long).collect();
    assert!(globals.contains(&"config"));
    below(&whole, &globals);
}

#[test]
fn help_tells_every_exit_code() {
    let help = run(&mut certctl(["--help"])).good();
    for (code, says) in EXIT_CODES {
        assert!(help.contains(&format!("  {code:<4}{says}")), "{help}");
    }
}

#[test]
fn each_exit_code_is_met() {
    let home = Home::new();
    let _running = home.quickstart();
    let other = Home::new();
    let file = home.path("first-start.txt");
    let file = file.to_str().unwrap();
    let mut met = BTreeSet::new();
    for (line, code) in [
        ("certs list", 0),
        ("certs show nosuch", 1),
        ("certs nosuch", 2),
        ("doctor --quick", 3),
        (&format!("doctor --quick --config {file}"), 4),
        (&format!("backup verify {file}"), 65),
        (&format!("compact --data-dir {file}.d"), 66),
        (&format!("certs list --socket {file}.sock"), 69),
        (&format!("backup list --sink dir:{file}"), 73),
        (&format!("man --dir {file}"), 74),
        ("compact", 75),
        (&format!("certs list --config {file}"), 78),
    ] {
        let said = home.run(line);
        assert_eq!(said.status.code(), Some(code), "{line}: {said:?}");
        let ended = home.run(&format!("{line} --output json"));
        if code == 0 {
            ended.good();
        } else {
            let reason = ended.bad_json(code);
            let first = reason.lines().next().unwrap();
            assert!(said.stderr.contains(first), "{line}: {reason} {said:?}");
        }
        met.insert(u8::try_from(code).unwrap());
    }
    let told: BTreeSet<u8> = EXIT_CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(met, told);
    drop(other);
}

/// By the exit code a script knows whether to try again, also where the backup before a migration
/// is what failed.
#[test]
fn a_backup_that_fails_ends_alike_before_a_migration() {
    let text = String::new;
    let (name, reason, sink) = (text(), text(), text());
    for (failure, code) in [
        (BackupFailure::Refused(text()), 1),
        (BackupFailure::Verify { name, reason }, 65),
        (BackupFailure::NoStore(text()), 66),
        (BackupFailure::Away(text()), 69),
        (BackupFailure::Stopped, 69),
        (
            BackupFailure::Sink {
                sink,
                reason: text(),
            },
            73,
        ),
        (BackupFailure::Capture(text()), 74),
        (BackupFailure::Running(text()), 75),
    ] {
        // A server that made it tells the step.
        let told = CliError::of_step(failure.step(), text());
        assert_eq!(told.exit_code(), code, "{failure:?}");
        let before = CliError::from(StartError::Backup(failure));
        assert_eq!(before.exit_code(), code, "{before:?}");
        assert!(before.to_string().contains("--no-backup"), "{before:?}");
    }
}
