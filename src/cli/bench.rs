//! `certctl bench`.

use super::{CliError, Global, Output, output};
use crate::{
    bench::{self, Bench, Report},
    sys::Terminate,
};
use clap::{Args, Subcommand};
use std::{path::PathBuf, time::Duration};

/// Measure this machine.
#[derive(Debug, Args)]
pub struct Benches {
    /// Make the temporary directory in this one, whose disk is measured [default: the system's own]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Measure PostgreSQL instead of a file: the address of an empty database, as
    /// CERTCTL_DATABASE_URL has it. What is made there is removed
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// How long each measurement takes
    #[arg(long, global = true, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    seconds: Duration,
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// Agents that wait for work: how soon a job reaches its agent, and what waiting costs
    Agents {
        /// Agents at once, each with a connection of its own
        #[arg(long, default_value = "1000", value_parser = agents)]
        agents: usize,
        /// Jobs, made at even distances over the time of a measurement, each for another agent
        #[arg(long, default_value = "300", value_parser = jobs)]
        jobs: usize,
    },
    /// Backups and restores, quiet and beside writers
    Backup {
        /// Certificates in the store
        #[arg(long, default_value = "100000", value_parser = rows)]
        rows: u64,
        /// Commits a second beside which a backup is made
        #[arg(long, default_value = "500", value_parser = writes)]
        writes: u32,
    },
    /// Commits on the store alone
    Commit {
        /// Clients at once, one run for each number
        #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clients)]
        clients: Vec<usize>,
    },
    /// CSR in, certificate out, over REST and TLS
    Issue {
        /// Connections at once
        #[arg(long, default_value = "64", value_parser = clients)]
        clients: usize,
        /// Certificates that the CSRs are for
        #[arg(long, default_value = "1000", value_parser = rows)]
        rows: u64,
    },
    /// Migrations of a large collection, up and down
    Migrate {
        /// Certificates in the store
        #[arg(long, default_value = "100000", value_parser = rows)]
        rows: u64,
    },
    /// Pages of lists, by the API and on the dashboard
    List {
        /// Certificates in the store
        #[arg(long, default_value = "100000", value_parser = rows)]
        rows: u64,
    },
    /// From the start of a server to its first answer, also after kill -9, and its memory
    Start {
        /// Certificates in the store
        #[arg(long, default_value = "100000", value_parser = rows)]
        rows: u64,
    },
}

/// Runs it and prints what it found.
pub async fn run(command: Benches, global: &Global) -> Result<(), CliError> {
    let bench = match command.which {
        Which::Agents { agents, jobs } => Bench::Agents { agents, jobs },
        Which::Backup { rows, writes } => Bench::Backup { rows, writes },
        Which::Migrate { rows } => Bench::Migrate { rows },
        Which::Commit { clients } => Bench::Commit { clients },
        Which::Issue { clients, rows } => Bench::Issue { clients, rows },
        Which::List { rows } => Bench::List { rows },
        Which::Start { rows } => Bench::Start { rows },
    };
    let mut terminate =
        Terminate::new().map_err(|e| CliError::Failed(format!("cannot wait for signals: {e}")))?;
    // Cut off, it still ends its server and removes what it made.
    let cut = async { format!("stopped by {}", terminate.recv().await) };
    let (dir, database) = (command.dir.as_deref(), command.database_url.as_deref());
    let report = bench::run(&bench, dir, database, command.seconds, cut).await;
    let report = report.map_err(|e| CliError::Failed(format!("{e:#}")))?;
    match global.output {
        Output::Json => output::json(&report),
        Output::Table => {
            table(&report);
            Ok(())
        }
    }
}

fn table(report: &Report) {
    let Report {
        bench,
        cores,
        sync_us,
        build,
        engine,
        rate_limits,
        method,
        results,
    } = report;
    output::line(&format!(
        "bench {bench}: {cores} cores, disk sync {sync_us} us, {build} build, {engine}, \
         rate limits {rate_limits}"
    ));
    output::line(&format!("{method}\n"));
    // Lines with the same columns stand under one head.
    for group in results.chunk_by(|a, b| a.iter().map(|f| f.0).eq(b.iter().map(|f| f.0))) {
        let header: Vec<&str> = group[0].iter().map(|(name, _)| name).collect();
        let rows = group.iter().map(|line| line.iter().map(|f| f.1).collect());
        output::table(&header, rows);
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .map_err(|_| "a number is expected".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| (Duration::from_millis(10)..=Duration::from_secs(3_600)).contains(time))
        .ok_or_else(|| "0.01 to 3600 seconds are accepted".to_owned())
}

fn clients(text: &str) -> Result<usize, String> {
    let clients = text.parse().ok().filter(|n| (1..=1_000).contains(n));
    clients.ok_or_else(|| "1 to 1000 clients are accepted".to_owned())
}

fn agents(text: &str) -> Result<usize, String> {
    let agents = text.parse().ok().filter(|n| (1..=10_000).contains(n));
    agents.ok_or_else(|| "1 to 10000 agents are accepted".to_owned())
}

fn jobs(text: &str) -> Result<usize, String> {
    let jobs = text.parse().ok().filter(|n| (1..=100_000).contains(n));
    jobs.ok_or_else(|| "1 to 100000 jobs are accepted".to_owned())
}

fn writes(text: &str) -> Result<u32, String> {
    let writes = text.parse().ok().filter(|n| (1..=100_000).contains(n));
    writes.ok_or_else(|| "1 to 100000 commits a second are accepted".to_owned())
}

fn rows(text: &str) -> Result<u64, String> {
    let rows = text.parse().ok().filter(|n| (10..=10_000_000).contains(n));
    rows.ok_or_else(|| "10 to 10000000 certificates are accepted".to_owned())
}
