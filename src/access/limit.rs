//! How often somebody may do something.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// So many at once, and so many a second on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// On average; above 0.
    pub per_second: f64,
    /// At once; 1 or more.
    pub burst: u32,
}

/// Callers that are remembered, in each of two generations.
const REMEMBERED: usize = 20_000;

/// Limits each caller to a rate: the generic cell rate algorithm (ITU-T I.371), which keeps one
/// moment a caller. Memory is bounded: when the younger generation of callers is full it becomes
/// the older one, and who was in neither begins anew. Time is that of the runtime, which no change
/// of the machine's clock moves.
pub struct Limiter<K> {
    /// From one to the next.
    interval: Duration,
    /// By so much the moment of a caller may lie ahead.
    ahead: Duration,
    callers: Mutex<Callers<K>>,
}

/// The moments at which callers will have made up for what they did.
struct Callers<K> {
    young: BTreeMap<K, Instant>,
    old: BTreeMap<K, Instant>,
}

impl<K: Ord + Clone> Limiter<K> {
    /// One for this rate.
    pub fn new(rate: Rate) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate.per_second.clamp(1e-6, 1e9));
        Self {
            interval,
            ahead: interval.saturating_mul(rate.burst.saturating_sub(1)),
            callers: Mutex::new(Callers {
                young: BTreeMap::new(),
                old: BTreeMap::new(),
            }),
        }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// How long to wait; then nothing was counted.
    pub fn take(&self, caller: &K) -> Result<(), Duration> {
        self.at(caller, Instant::now(), true)
    }

    /// Whether one more would be within the rate. Counts nothing.
    ///
    /// # Errors
    /// How long to wait.
    pub fn room(&self, caller: &K) -> Result<(), Duration> {
        self.at(caller, Instant::now(), false)
    }

    fn at(&self, caller: &K, now: Instant, count: bool) -> Result<(), Duration> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = callers
            .young
            .get(caller)
            .or_else(|| callers.old.get(caller));
        let made_up = known.copied().map_or(now, |at| at.max(now));
        let wait = (made_up - now).saturating_sub(self.ahead);
        if !wait.is_zero() {
            return Err(wait);
        }
        if count {
            if callers.young.len() >= REMEMBERED && !callers.young.contains_key(caller) {
                callers.old = mem::take(&mut callers.young);
            }
            callers
                .young
                .insert(caller.clone(), made_up + self.interval);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_the_rate_and_each_caller_has_its_own() {
        let limiter = Limiter::new(Rate {
            per_second: 2.0,
            burst: 3,
        });
        for _ in 0..3 {
            limiter.room(&1).unwrap();
            limiter.take(&1).unwrap();
        }
        assert_eq!(limiter.take(&1), Err(Duration::from_millis(500)));
        assert_eq!(limiter.room(&1), Err(Duration::from_millis(500)));
        limiter.take(&2).unwrap();
        tokio::time::advance(Duration::from_millis(499)).await;
        assert_eq!(limiter.take(&1), Err(Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        limiter.take(&1).unwrap();
        limiter.take(&1).unwrap_err();
        // Whoever was quiet for long has the whole burst again, and no more.
        tokio::time::advance(Duration::from_secs(3600)).await;
        let passed = (0..10).filter(|_| limiter.take(&1).is_ok()).count();
        assert_eq!(passed, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_who_called_of_late_is_remembered() {
        let limiter = Limiter::new(Rate {
            per_second: 1.0,
            burst: 1,
        });
        for caller in 0..5 * REMEMBERED {
            limiter.take(&caller).unwrap();
        }
        limiter.take(&(5 * REMEMBERED - 1)).unwrap_err();
        limiter.take(&(4 * REMEMBERED)).unwrap_err();
        let callers = limiter.callers.lock().unwrap();
        assert!(callers.young.len() + callers.old.len() <= 2 * REMEMBERED);
    }
}
