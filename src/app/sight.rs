//! What a server has seen of a row that somebody elsewhere writes again and again as long as it
//! lives. Clocks of servers may differ; how long a row stood unchanged under one's own eyes, by
//! one's own monotonic clock, is known without any of them.

use crate::id::Id;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A row that was looked at, more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sight {
    version: u64,
    since: Instant,
    last: Instant,
}

impl Sight {
    /// The row as it is `now`, after it was seen `before`. Who has not looked for `blind` begins
    /// anew: it may have been the store that was away, for the other as well.
    pub fn of(before: Option<Self>, version: u64, now: Instant, blind: Duration) -> Self {
        match before {
            Some(sight) if sight.version == version && now - sight.last < blind => {
                Self { last: now, ..sight }
            }
            _ => Self {
                version,
                since: now,
                last: now,
            },
        }
    }

    /// For so long it has been seen to be the same.
    pub fn unchanged(&self) -> Duration {
        self.last - self.since
    }
}

/// Rows that are watched, those that were looked at of late.
pub(super) struct Sights {
    blind: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    began: Option<Instant>,
    /// From one look at all rows to the next: each row is looked at so seldom.
    turn: Duration,
    rows: BTreeMap<Id, Sight>,
}

impl Sights {
    /// None yet; see [`Sight::of`].
    pub fn new(blind: Duration) -> Self {
        Self {
            blind,
            seen: Mutex::default(),
        }
    }

    /// Looks at a row; says for how long it has been seen to be the same.
    pub fn look(&self, id: &Id, version: u64) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.rows.get(id).copied();
        let blind = self.blind + seen.turn;
        let sight = Sight::of(before, version, Instant::now(), blind);
        seen.rows.insert(id.clone(), sight);
        sight.unchanged()
    }

    /// A look at all rows begins. Forgets those that were not looked at of late: they tell nothing
    /// any more.
    pub fn begin(&self) {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.turn = seen.began.map_or(Duration::ZERO, |began| now - began);
        seen.began = Some(now);
        let blind = self.blind + seen.turn;
        seen.rows.retain(|_, sight| now - sight.last < blind);
    }
}
