//! Each command of docs/backup.md does what the page says, one after another.

use super::{home::Home, process::Process};
use nix::sys::signal::Signal;
use std::fs;

/// The lines of the page's blocks of shell commands.
fn commands() -> Vec<String> {
    let page = fs::read_to_string("docs/backup.md").unwrap();
    let blocks = page.split("```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| block.strip_prefix("sh\n"));
    let lines = shell.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.collect()
}

fn stop(server: &mut Option<Process>) {
    if let Some(server) = server.take() {
        server.signal(Signal::SIGTERM);
        server.end();
    }
}

#[test]
fn every_command_of_the_page_succeeds() {
    const NAMED: &str = "certctl-20261128T020000Z-1099511628776-412-3f9a0c1d27b4.backup";
    const INCREMENT: &str = "certctl-20261128T021500Z-1099511629000-431-3f9a0c1d27b4.increment";
    let home = Home::new();
    let mut server = Some(home.server());
    let backups = home.beside("backups").display().to_string();
    let passphrase = home.beside("backup.passphrase");
    fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    let (mut newest, mut increment) = (NAMED.to_owned(), INCREMENT.to_owned());
    let (mut ran, mut elsewhere) = (0, 0);
    for line in commands() {
        if line.contains("s3://") {
            // Where a service that speaks S3 is at hand, in `backup::s3`.
            elsewhere += 1;
            continue;
        }
        ran += 1;
        match line.as_str() {
            "systemctl stop certctl" => stop(&mut server),
            "systemctl start certctl" => server = Some(home.server()),
            line => {
                let line = line
                    .strip_prefix("certctl ")
                    .unwrap_or_else(|| panic!("{line}"))
                    .replace("/var/backups/certctl", &backups)
                    .replace(
                        "/etc/certctl/backup.passphrase",
                        passphrase.to_str().unwrap(),
                    )
                    .replace(NAMED, &newest)
                    .replace(INCREMENT, &increment);
                if line.starts_with("backup create") {
                    let made = home.json(&line);
                    let name = made["name"].as_str().unwrap();
                    match line.contains("--since") {
                        true => increment = name.to_owned(),
                        false => newest = name.to_owned(),
                    }
                } else if line.starts_with("restore /") {
                    // It asks, and there must be no server.
                    let ran = server.is_some();
                    stop(&mut server);
                    home.run(&format!("{line} --yes")).good();
                    if ran {
                        server = Some(home.server());
                    }
                } else {
                    home.run(&line).good();
                }
            }
        }
    }
    assert!(ran >= 14, "only {ran} commands were found");
    assert_eq!(elsewhere, 2);
    let plan = home.json("restore plan");
    assert_eq!(plan["fenced"], true, "the last one restores again: {plan}");
    assert_eq!(plan["reconcile"], true);
}
