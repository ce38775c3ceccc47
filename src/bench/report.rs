//! What a benchmark found, and on what.

use super::Place;
use anyhow::Result;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

/// Writes by which the disk is measured.
const SYNCS: usize = 50;

/// What a benchmark found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub bench: &'static str,
    /// Processors this process may use.
    pub cores: usize,
    /// The median time of a 4 KiB write and its `fdatasync(2)` where the store lay, microseconds.
    pub sync_us: u64,
    /// How the program was built.
    pub build: &'static str,
    /// The storage engine.
    pub engine: &'static str,
    /// Rate limits of the measured server.
    pub rate_limits: &'static str,
    /// What was measured, and how.
    pub method: String,
    /// The results.
    pub results: Vec<Figures>,
}

impl Report {
    /// The head, with the disk below `place` measured.
    pub(super) fn new(bench: &'static str, place: &Place, method: String) -> Result<Self> {
        Ok(Self {
            bench,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            sync_us: u64::try_from(sync_time(place)?.as_micros())?,
            build: if cfg!(debug_assertions) {
                "dev"
            } else {
                "release"
            },
            engine: place.engine_name(),
            rate_limits: "off",
            method,
            results: Vec::new(),
        })
    }
}

fn sync_time(place: &Place) -> Result<Duration> {
    let mut file = File::create(place.path().join("sync"))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// One line of results: figures by name, each name with its unit.
#[derive(Debug, Clone, Default)]
pub struct Figures(Vec<(&'static str, Value)>);

impl Figures {
    /// With one more, rounded to three decimals.
    #[must_use]
    pub(super) fn with(self, name: &'static str, figure: f64) -> Self {
        self.and(name, (figure * 1_000.0).round() / 1_000.0)
    }

    /// With one more, a text or a count.
    #[must_use]
    pub(super) fn and(mut self, name: &'static str, figure: impl Into<Value>) -> Self {
        self.0.push((name, figure.into()));
        self
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.iter().map(|(name, figure)| {
            let text = figure.as_str().map(str::to_owned);
            (*name, text.unwrap_or_else(|| figure.to_string()))
        })
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, figure)| (name, figure)))
    }
}
