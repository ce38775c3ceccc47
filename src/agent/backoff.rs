//! How long to wait, spread so that many agents do not come at once.

use super::protocol::POLL_WAIT_SECONDS;
use crate::clock::Rng;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Failures that are told one by one, until the waits are the longest.
const TOLD: u32 = 7;
/// Of those after them, each of so many is told: about one an hour.
const TOLD_OF: u32 = 60;

/// Waits after failures: doubling from 1 s to 60 s, each cut at random by up to a half.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure; the server's own wish is a lower bound, within reason.
    pub fn next(&mut self, rng: &dyn Rng, wish: Option<Duration>) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let spread = full / 2 + full.mul_f64(fraction(rng) / 2.0);
        spread.max(wish.unwrap_or_default().min(10 * LONGEST))
    }

    /// Whether the last failure is news: a server that is away for weeks fills no log.
    pub fn is_news(&self) -> bool {
        self.failures <= TOLD || self.failures.is_multiple_of(TOLD_OF)
    }

    /// How many failures there were.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// The seconds one poll asks the server to wait: four to five fifths of the agreed time.
pub fn poll_wait(rng: &dyn Rng) -> u64 {
    let fifth = POLL_WAIT_SECONDS / 5;
    let cut = Duration::from_secs(fifth).mul_f64(fraction(rng)).as_secs();
    POLL_WAIT_SECONDS - cut
}

/// A number in [0, 1).
pub fn fraction(rng: &dyn Rng) -> f64 {
    let mut bytes = [0; 4];
    rng.fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
