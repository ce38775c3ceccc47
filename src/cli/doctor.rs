//! `certctl doctor`.

use super::{CliError, Global, Output, client::Client, follow, output};
use crate::{
    api::shapes::{DoctorStateShape, FindingShape, LookShape, ReportShape},
    app::doctor::{Finding, Reading, examine_files, examine_machine, faults_of_settings},
    clock::{Clock, SystemClock},
    config::{self, Environment, Flags, ServerConfig},
};
use clap::Args;
use indicatif::ProgressBar;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How often a server that looks is asked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Look at the whole installation and say what is wrong and what mends it: settings, store, keys,
/// clocks, disk, files, agents, schedule, backups. Nothing is changed. Exit code 3 when something
/// will go wrong, 4 when something is.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Leave out what takes long: reading every row and page, and the whole audit log
    #[arg(long)]
    quick: bool,
}

/// Runs it.
pub async fn run(command: Doctor, global: &Global, env: &Environment) -> Result<(), CliError> {
    let named = global.named_server(env).is_some();
    let bar = follow::spinner("looking", global.output);
    let mut found = Vec::new();
    let config = if named {
        None
    } else {
        let flags = Flags {
            data_dir: global.data_dir.clone(),
            socket: global.socket.clone(),
            ..Flags::default()
        };
        match config::server_at_rest(env, flags) {
            Ok((config, _)) => Some(config),
            Err(e) => {
                found.extend(faults_of_settings(&e).into_iter().map(FindingShape::from));
                None
            }
        }
    };
    let client = Client::new(global, env)?;
    let quick = command.quick;
    let began = SystemClock.now();
    let report = match client.post("/doctor", &LookShape { quick }).await {
        Ok(state) => {
            let mut report = by_server(&client, state, &bar).await?;
            // Somebody else had it look, and for less.
            while report.quick && !quick {
                let state = client.post("/doctor", &LookShape { quick }).await?;
                report = by_server(&client, state, &bar).await?;
            }
            report
        }
        Err(CliError::Unreachable(_)) if !named => {
            let read = AtomicU64::new(0);
            let reading = |what: &'static str, rows: u64| {
                let all = read.fetch_add(rows, Relaxed) + rows;
                bar.set_message(format!("looking: {what}, {all} rows"));
            };
            let mut findings = match &config {
                Some(config) => examine_machine(config, !quick, &reading).await,
                None => with_faults(global, env, !quick, &reading).await,
            };
            findings.push(Finding::notice(
                "server",
                "",
                "none answers here: what lies on this machine was looked at without it",
                "start it, where one should run",
            ));
            ReportShape {
                severity: String::new(),
                began_at: began.to_string(),
                ended_at: SystemClock.now().to_string(),
                quick,
                findings: findings.into_iter().map(FindingShape::from).collect(),
            }
        }
        Err(e) => return Err(e),
    };
    bar.finish_and_clear();
    found.extend(report.findings);
    let report = ReportShape {
        severity: gravest(&found).to_owned(),
        findings: found,
        ..report
    };
    show(&report, global)?;
    verdict(&report.findings)
}

/// What can be looked at when the settings cannot be used.
async fn with_faults(
    global: &Global,
    env: &Environment,
    thorough: bool,
    reading: Reading<'_>,
) -> Vec<Finding> {
    let data_dir = config::data_dir(env, global.data_dir.clone());
    let config = ServerConfig::new(data_dir, ([127, 0, 0, 1], 8443).into());
    // Which database holds the store is not known then.
    match env.get("CERTCTL_DATABASE_URL") {
        Some(_) => examine_files(&config),
        None => examine_machine(&config, thorough, reading).await,
    }
}

/// Waits for the server's look to end.
async fn by_server(
    client: &Client,
    mut state: DoctorStateShape,
    bar: &ProgressBar,
) -> Result<ReportShape, CliError> {
    while state.running {
        bar.set_message(format!("the server looks: {} rows", state.done));
        tokio::time::sleep(LOOK_EVERY).await;
        state = client.get("/doctor").await?;
    }
    let report = state.report;
    report.ok_or_else(|| CliError::Failed("the server was restarted meanwhile".into()))
}

const GRADES: [&str; 4] = ["ok", "notice", "warning", "error"];

fn gravest(found: &[FindingShape]) -> &'static str {
    let has = |grade: &&str| found.iter().any(|f| f.severity == *grade);
    GRADES.into_iter().rev().find(has).unwrap_or(GRADES[0])
}

fn show(report: &ReportShape, global: &Global) -> Result<(), CliError> {
    if global.output == Output::Json {
        return output::json(report);
    }
    for grade in GRADES.into_iter().rev() {
        for found in report.findings.iter().filter(|f| f.severity == grade) {
            let subject = match found.subject.as_str() {
                "" => String::new(),
                subject => format!("{subject}: "),
            };
            output::line(&format!(
                "{:<8} {:<9} {subject}{}",
                found.severity,
                found.check,
                output::sentence(&found.what)
            ));
            if !found.remedy.is_empty() {
                let remedy = global.typed(&found.remedy);
                output::line(&format!("{:<19}{remedy}", ""));
            }
        }
    }
    Ok(())
}

/// How the command ends.
fn verdict(found: &[FindingShape]) -> Result<(), CliError> {
    let count = |grade: &str| found.iter().filter(|f| f.severity == grade).count();
    let text = format!(
        "{} errors, {} warnings: each is said with what mends it",
        count("error"),
        count("warning")
    );
    match gravest(found) {
        "error" => Err(CliError::Ill(text)),
        "warning" => Err(CliError::Ailing(text)),
        _ => Ok(()),
    }
}
