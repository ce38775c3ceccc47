//! When something is done again and again.

use std::{fmt, str::FromStr, time::Duration};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// When something is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Each time so many seconds have passed.
    Every(i64),
    /// Each day, so many seconds after midnight UTC.
    Daily(i64),
}

impl Schedule {
    /// The first moment after `last`, both in seconds since 1970.
    pub fn next(self, last: i64) -> i64 {
        match self {
            Self::Every(seconds) => last.saturating_add(seconds),
            Self::Daily(second) => {
                let today = last.div_euclid(DAY) * DAY + second;
                if today > last { today } else { today + DAY }
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            "an interval such as 30m, 6h or 1d, or a time of the day in UTC such as 02:30 is expected"
                .to_owned()
        };
        if let Some((hours, minutes)) = text.split_once(':') {
            let part = |text: &str, below: i64| {
                let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
                let number = text.parse::<i64>().ok().filter(|_| digits);
                number.filter(|n| *n < below).ok_or_else(bad)
            };
            return Ok(Self::Daily(
                part(hours, 24)? * HOUR + part(minutes, 60)? * MINUTE,
            ));
        }
        let units = [("m", MINUTE), ("h", HOUR), ("d", DAY)];
        let mut found = units.iter().filter_map(|(unit, seconds)| {
            let number = text.strip_suffix(unit)?;
            Some((number, *seconds))
        });
        let (number, unit) = found.next().ok_or_else(bad)?;
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse::<i64>().ok().filter(|_| digits);
        let number = number.filter(|n| (1..=10_000).contains(n));
        number.map(|n| Self::Every(n * unit)).ok_or_else(bad)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(seconds) if seconds % DAY == 0 => write!(f, "every {} d", seconds / DAY),
            Self::Every(seconds) if seconds % HOUR == 0 => write!(f, "every {} h", seconds / HOUR),
            Self::Every(seconds) => write!(f, "every {} min", seconds / MINUTE),
            Self::Daily(second) => {
                let (hours, minutes) = (second / HOUR, second % HOUR / MINUTE);
                write!(f, "each day at {hours:02}:{minutes:02} UTC")
            }
        }
    }
}

/// So long: a number with a unit, from a second to ten years.
pub fn interval(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=3_650 * 86_400)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

/// How many backups are kept: of days, weeks and months.
pub fn keep(text: &str) -> Result<[usize; 3], String> {
    let bad =
        || "what is kept is written as 7d 5w 12m: of so many days, weeks and months".to_owned();
    let mut kept = [0; 3];
    for word in text.split_whitespace() {
        let place = ["d", "w", "m"].iter().position(|unit| word.ends_with(unit));
        let place = place.ok_or_else(bad)?;
        let number = word.get(..word.len() - 1).unwrap_or_default();
        let number = number.parse::<usize>().ok().filter(|n| *n <= 1_000);
        if let Some(slot) = kept.get_mut(place) {
            *slot = number.ok_or_else(bad)?;
        }
    }
    if kept == [0; 3] { Err(bad()) } else { Ok(kept) }
}
