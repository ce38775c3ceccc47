//! Time and randomness, which everything else is given and nothing else reads.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// A moment: microseconds since 1970-01-01T00:00:00Z, without leap seconds. Stored as an integer,
/// shown as RFC 3339 in UTC.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(i64);

/// A text that is not an RFC 3339 time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not a time such as 2026-01-31T12:00:00Z (RFC 3339)")]
pub struct InvalidTime(String);

impl Time {
    /// The latest moment that every format in use can write: 9999-12-31T23:59:59Z.
    pub const MAX: Self = Self(253_402_300_799_000_000);

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From seconds since the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment with the fraction of a second cut off, as X.509 times are.
    #[must_use]
    pub const fn whole_seconds(self) -> Self {
        Self::from_seconds(self.seconds())
    }

    /// This moment plus `d`.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(d)))
    }

    /// This moment minus `d`.
    #[must_use]
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(d)))
    }

    /// The first moment after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros_of(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

/// A `jiff::Timestamp` ends a day before [`Time::MAX`], where certificates that never end do;
/// a `DateTime` does not.
const EPOCH: jiff::civil::DateTime = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match EPOCH.checked_add(jiff::SignedDuration::from_micros(self.0)) {
            Ok(t) => write!(f, "{t}Z"),
            Err(_) => write!(f, "{} microseconds", self.0),
        }
    }
}

impl FromStr for Time {
    type Err = InvalidTime;
    fn from_str(s: &str) -> Result<Self, InvalidTime> {
        if let Ok(t) = s.parse::<jiff::Timestamp>() {
            return Ok(Self(t.as_microsecond()));
        }
        s.strip_suffix('Z')
            .filter(|s| s.contains('T'))
            .and_then(|s| s.parse::<jiff::civil::DateTime>().ok())
            .and_then(|t| i64::try_from(t.duration_since(EPOCH).as_micros()).ok())
            .map(Self)
            .ok_or_else(|| InvalidTime(s.chars().take(64).collect()))
    }
}

/// Gives the wall-clock time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Time;
}

/// Gives random bytes fit for secrets.
pub trait Rng: Send + Sync {
    /// Fills `out`.
    fn fill(&self, out: &mut [u8]);
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn now(&self) -> Time {
        Time(jiff::Timestamp::now().as_microsecond())
    }
}
