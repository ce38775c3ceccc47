//! Saying less where others decide how often something happens.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// So many are told in each [`WINDOW`]; then only how many more there were.
const TOLD: u64 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Counts what happens, and says whether to tell it.
#[derive(Default)]
pub struct Throttle(Mutex<Option<Window>>);

struct Window {
    began: Instant,
    seen: u64,
}

impl Throttle {
    /// One more has happened. `Some` when it is to be told, with how many before it were not.
    pub fn tell(&self) -> Option<u64> {
        let now = Instant::now();
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *window {
            Some(current) if now - current.began < WINDOW => {
                current.seen += 1;
                (current.seen <= TOLD).then_some(0)
            }
            past => {
                let untold = past.as_ref().map_or(0, |w| w.seen.saturating_sub(TOLD));
                *past = Some(Window {
                    began: now,
                    seen: 1,
                });
                Some(untold)
            }
        }
    }
}
