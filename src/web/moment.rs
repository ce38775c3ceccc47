//! Times, as people read them.

use crate::clock::Time;
use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
const TWO_YEARS: u64 = 2 * YEAR;

/// A time seen from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// For machines: RFC 3339, whole seconds.
    pub machine: String,
    /// On the calendar, UTC.
    pub calendar: String,
    /// From now, e.g. `in 89 days`.
    pub relative: String,
}

impl Moment {
    /// `at`, seen from `now`.
    pub fn new(at: Time, now: Time) -> Self {
        let relative = if at > now {
            format!("in {}", length(at.since(now)))
        } else {
            format!("{} ago", length(now.since(at)))
        };
        Self {
            machine: at.whole_seconds().to_string(),
            calendar: calendar(at),
            relative,
        }
    }
}

fn calendar(at: Time) -> String {
    jiff::Timestamp::from_microsecond(at.micros()).map_or_else(
        |_| at.to_string(),
        |t| t.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

/// How long, in the largest unit that still says enough to act on: days up to two years.
fn length(d: Duration) -> String {
    let seconds = d.as_secs();
    let (n, unit) = match seconds {
        ..MINUTE => return "less than a minute".into(),
        MINUTE..HOUR => (seconds / MINUTE, "minute"),
        HOUR..DAY => (seconds / HOUR, "hour"),
        DAY..TWO_YEARS => (seconds / DAY, "day"),
        TWO_YEARS.. => (seconds / YEAR, "year"),
    };
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {unit}{plural}")
}

/// A stretch of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Words, with the spaces around them.
    Words(String),
    /// A time.
    Time(Moment),
}

/// A sentence with the RFC 3339 times in it found.
pub fn sentence(text: &str, now: Time) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut words = String::new();
    for word in text.split_inclusive(' ') {
        let bare = word.trim_end_matches([' ', ';', ',', '.']);
        match bare.parse::<Time>() {
            Ok(at) => {
                parts.push(Part::Words(std::mem::take(&mut words)));
                parts.push(Part::Time(Moment::new(at, now)));
                words.push_str(word.get(bare.len()..).unwrap_or_default());
            }
            Err(_) => words.push_str(word),
        }
    }
    parts.push(Part::Words(words));
    parts
}
