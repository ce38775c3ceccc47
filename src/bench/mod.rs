//! Benchmarks of the product, each against a temporary server or store of its own, which is gone
//! afterwards. What is measured is the product as it runs: the real engine on a real disk, the
//! real server as a process of its own, called over TLS as clients call it.

mod agents;
mod commit;
mod fill;
mod issue;
mod list;
mod load;
mod report;
mod server;
mod start;

pub use report::{Figures, Report};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// A benchmark to run.
#[derive(Debug, Clone)]
pub enum Bench {
    /// Agents that wait for work, and jobs for them.
    Agents {
        /// How many, each with a connection of its own.
        agents: usize,
        /// Jobs, each for one of them.
        jobs: usize,
    },
    /// Commits at once on the store alone.
    Commit {
        /// Runs, each with so many clients.
        clients: Vec<usize>,
    },
    /// CSR in, certificate out.
    Issue {
        /// Connections at once.
        clients: usize,
        /// Certificates that the CSRs are for.
        rows: u64,
    },
    /// Pages of lists.
    List {
        /// Certificates in the store.
        rows: u64,
    },
    /// From the start of the process to its first answer.
    Start {
        /// Certificates in the store.
        rows: u64,
    },
}

/// Runs a benchmark below `dir`, the system's temporary directory when none is given; each
/// measurement in it takes `time`.
///
/// # Errors
/// When anything at all fails: a benchmark with errors says nothing.
pub async fn run(bench: &Bench, dir: Option<&Path>, time: Duration) -> Result<Report> {
    let place = Place::new(dir)?;
    match bench {
        Bench::Agents { agents, jobs } => agents::run(&place, *agents, *jobs, time).await,
        Bench::Commit { clients } => commit::run(&place, clients, time).await,
        Bench::Issue { clients, rows } => issue::run(&place, *clients, *rows, time).await,
        Bench::List { rows } => list::run(&place, *rows, time).await,
        Bench::Start { rows } => start::run(&place, *rows, time).await,
    }
}

/// A directory that goes when this does.
struct Place(TempDir);

impl Place {
    fn new(dir: Option<&Path>) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("certctl-bench-");
        Ok(Self(match dir {
            Some(dir) => builder.tempdir_in(dir)?,
            None => builder.tempdir()?,
        }))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The store's file.
    fn store(&self) -> PathBuf {
        self.path().join("certctl.redb")
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress(what: &'static str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_message(what);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
