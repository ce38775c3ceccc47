//! Benchmarks of the product, each against a temporary server or store of its own, which is gone
//! afterwards. What is measured is the product as it runs: the real engine on a real disk, the
//! real server as a process of its own, called over TLS as clients call it.

mod agents;
mod backup;
mod commit;
mod fill;
mod issue;
mod list;
mod load;
mod migrate;
mod report;
mod server;
mod start;

pub use report::{Figures, Report};

use crate::{
    app::{login, machine_engine},
    config::{DatabaseConfig, ServerConfig},
    store::{Engine, EngineError, Replacement},
    sys::{Disk, Files},
};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// For a statement, and for sessions to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks whether they have.
const AGAIN: Duration = Duration::from_millis(20);

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
    /// Backups and restores.
    Backup {
        /// Certificates in the store.
        rows: u64,
        /// Commits a second beside which one is made.
        writes: u32,
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
    /// Migrations there and back.
    Migrate {
        /// Certificates in the store.
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

/// Runs a benchmark below `dir`, the system's temporary directory when none is given, or on an
/// empty database; each measurement in it takes `time`. Nothing is left, also when `cut` says why
/// it is to end.
///
/// # Errors
/// When anything at all fails: a benchmark with errors says nothing.
pub async fn run(
    bench: &Bench,
    dir: Option<&Path>,
    database: Option<&str>,
    time: Duration,
    cut: impl Future<Output = String>,
) -> Result<Report> {
    let place = Place::new(dir, database)?;
    place.is_empty().await?;
    let measured = async {
        match bench {
            Bench::Agents { agents, jobs } => agents::run(&place, *agents, *jobs, time).await,
            Bench::Backup { rows, writes } => backup::run(&place, *rows, *writes, time).await,
            Bench::Commit { clients } => commit::run(&place, clients, time).await,
            Bench::Issue { clients, rows } => issue::run(&place, *clients, *rows, time).await,
            Bench::List { rows } => list::run(&place, *rows, time).await,
            Bench::Migrate { rows } => migrate::run(&place, *rows).await,
            Bench::Start { rows } => start::run(&place, *rows, time).await,
        }
    };
    let report = tokio::select! {
        biased;
        why = cut => Err(anyhow::anyhow!(why)),
        report = measured => report,
    };
    place.erase().await?;
    report
}

/// A directory that goes when this does, and the database that is measured instead of a file.
struct Place {
    dir: TempDir,
    /// Its address, and what that says.
    database: Option<(String, DatabaseConfig)>,
}

impl Place {
    fn new(dir: Option<&Path>, database: Option<&str>) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("certctl-bench-");
        let database = database.map(|url| {
            let mut config = DatabaseConfig::parse(url)
                .map_err(|why| anyhow::anyhow!("--database-url: {why}"))?;
            config.connections = 10;
            config.timeout = PATIENCE;
            anyhow::Ok((url.to_owned(), config))
        });
        Ok(Self {
            dir: match dir {
                Some(dir) => builder.tempdir_in(dir)?,
                None => builder.tempdir()?,
            },
            database: database.transpose()?,
        })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What is measured.
    fn engine_name(&self) -> &'static str {
        match self.database {
            Some(_) => "postgres",
            None => "redb",
        }
    }

    /// The store's file.
    fn store(&self) -> PathBuf {
        self.path().join("certctl.redb")
    }

    /// The settings of a server with its data here.
    fn config(&self, data_dir: &Path) -> ServerConfig {
        let mut config = ServerConfig::new(data_dir, ([127, 0, 0, 1], 0).into());
        config.database = self.database.as_ref().map(|(_, config)| config.clone());
        config
    }

    /// A new store, with its file, where it is one, under this name.
    async fn new_store(&self, name: &str) -> Result<Arc<dyn Engine>> {
        self.erase().await?;
        Ok(machine_engine(&self.config(&self.path().join(name))).await?)
    }

    /// Refuses a database that holds a store: it is somebody's.
    async fn is_empty(&self) -> Result<()> {
        if let Some(database) = self.database().await? {
            anyhow::ensure!(
                database.old().await?.is_none(),
                "the database {} holds a store: give an empty one, whose content is removed",
                database.database()
            );
        }
        Ok(())
    }

    /// Removes what is in the database, which was empty.
    async fn erase(&self) -> Result<()> {
        if let Some(database) = self.database().await? {
            database.erase().await?;
        }
        Ok(())
    }

    async fn database(&self) -> Result<Option<Replacement>> {
        let Some((_, config)) = &self.database else {
            return Ok(None);
        };
        let files: Arc<dyn Files> = Arc::new(Disk);
        let until = Instant::now() + PATIENCE;
        loop {
            match Replacement::begin(login(config, &files)?).await {
                // Sessions that were left are ending.
                Err(EngineError::InUse(_)) if Instant::now() < until => {
                    tokio::time::sleep(AGAIN).await;
                }
                begun => return Ok(Some(begun?)),
            }
        }
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress(what: &'static str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_message(what);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
