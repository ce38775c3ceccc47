//! How often somebody may do something.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

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
/// A burst is handed out in so many slices.
const SLICES: u32 = 32;

/// Limits each caller to a rate: the generic cell rate algorithm (ITU-T I.371), which keeps one
/// moment a caller. Memory is bounded: when the younger generation of callers is full it becomes
/// the older one, and who was in neither begins anew. Time is that of the runtime, which no change
/// of the machine's clock moves.
pub struct Limiter<K> {
    /// From one to the next.
    interval: Duration,
    /// By so much the moment of a caller may lie ahead.
    ahead: Duration,
    /// The moments at which callers will have made up for what they did.
    callers: Mutex<Callers<K, Instant>>,
}

/// What is remembered of callers.
struct Callers<K, V> {
    young: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
}

impl<K: Ord + Clone, V: Clone> Callers<K, V> {
    fn new() -> Self {
        Self {
            young: BTreeMap::new(),
            old: BTreeMap::new(),
        }
    }

    fn get(&self, caller: &K) -> Option<&V> {
        self.young.get(caller).or_else(|| self.old.get(caller))
    }

    fn put(&mut self, caller: &K, value: V) {
        if self.young.len() >= REMEMBERED && !self.young.contains_key(caller) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(caller.clone(), value);
    }

    fn entry(&mut self, caller: &K, new: impl FnOnce() -> V) -> V {
        let value = self.get(caller).cloned().unwrap_or_else(new);
        self.put(caller, value.clone());
        value
    }
}

/// From one to the next.
fn interval(rate: Rate) -> Duration {
    Duration::from_secs_f64(1.0 / rate.per_second.clamp(1e-6, 1e9))
}

impl<K: Ord + Clone> Limiter<K> {
    /// One for this rate.
    pub fn new(rate: Rate) -> Self {
        let interval = interval(rate);
        Self {
            interval,
            ahead: interval.saturating_mul(rate.burst.saturating_sub(1)),
            callers: Mutex::new(Callers::new()),
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
        let known = callers.get(caller).copied();
        let made_up = known.map_or(now, |at| at.max(now));
        let wait = (made_up - now).saturating_sub(self.ahead);
        if !wait.is_zero() {
            return Err(wait);
        }
        if count {
            callers.put(caller, made_up + self.interval);
        }
        Ok(())
    }
}

/// Slices are asked for so often by one process, whoever calls: more would be a load on what is
/// shared. Beyond that, calls are counted where they are made.
const ASKED: Rate = Rate {
    per_second: 100.0,
    burst: 200,
};
/// At once, for so many callers.
const ASKING: usize = 8;

/// What this process holds of rates that several share. Who calls here is given a slice of what a
/// shared bucket holds, so that not every call asks for a token; slices are small beside the burst,
/// so that what lies about unused in one process is not missed in another. The first slice is given
/// on credit, so that who calls a few times costs no asking. Memory is bounded as that of a
/// [`Limiter`].
pub struct Slices<K> {
    /// From one to the next.
    interval: Duration,
    burst: u32,
    callers: Mutex<Callers<K, Arc<tokio::sync::Mutex<Held>>>>,
    asked: Limiter<()>,
    asking: Semaphore,
}

/// What is held for one caller.
#[derive(Default)]
struct Held {
    left: u32,
    /// Of what was given, so much was not asked for yet.
    owed: u32,
    /// From then on nothing is left or owed: the bucket is full again.
    until: Option<Instant>,
    /// Until then nobody asks again.
    refused: Option<Instant>,
}

/// Tokens to be taken from a shared bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// How many.
    pub tokens: u32,
    /// In this time one comes back.
    pub per: Duration,
    /// The bucket's size.
    pub burst: u32,
}

impl<K: Ord + Clone> Slices<K> {
    /// Those of this rate.
    pub fn new(rate: Rate) -> Self {
        Self {
            interval: interval(rate),
            burst: rate.burst.max(1),
            callers: Mutex::new(Callers::new()),
            asked: Limiter::new(ASKED),
            asking: Semaphore::new(ASKING),
        }
    }

    /// Counts one more; where nothing is held, `ask` takes a slice from the bucket, or says how long
    /// to wait for one. Of calls of one caller one asks at a time. While too many ask, `here` is
    /// asked in the place of the bucket.
    ///
    /// # Errors
    /// How long to wait.
    pub async fn take<F>(
        &self,
        caller: &K,
        ask: impl FnOnce(Slice) -> F,
        here: impl FnOnce(Slice) -> Result<(), Duration>,
    ) -> Result<(), Duration>
    where
        F: Future<Output = Result<(), Duration>>,
    {
        let held = {
            let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
            callers.entry(caller, Arc::default)
        };
        let mut held = held.lock().await;
        let now = Instant::now();
        if let Some(until) = held.refused.filter(|until| *until > now) {
            return Err(until - now);
        }
        let full = Some(now + self.interval.saturating_mul(self.burst));
        if held.until.is_none_or(|until| until <= now) {
            // Of a bucket that holds few, a token on credit were too much.
            let credit = self.burst / SLICES;
            *held = Held {
                left: credit,
                owed: credit,
                until: full,
                refused: None,
            };
        }
        if held.left > 0 {
            held.left -= 1;
            return Ok(());
        }
        let given = (self.burst / SLICES).max(1);
        let slice = Slice {
            tokens: given + held.owed,
            per: self.interval,
            burst: self.burst,
        };
        let place = self.asking.try_acquire().ok();
        let taken = match place.filter(|_| self.asked.take(&()).is_ok()) {
            Some(_place) => ask(slice).await,
            None => here(slice),
        };
        match taken {
            Ok(()) => {
                *held = Held {
                    left: given - 1,
                    owed: 0,
                    until: full,
                    refused: None,
                };
            }
            Err(wait) => held.refused = Some(now + wait),
        }
        taken
    }

    /// Whether nobody was told to wait, as far as this process knows. Counts nothing.
    ///
    /// # Errors
    /// How long to wait.
    pub fn room(&self, caller: &K) -> Result<(), Duration> {
        let callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        // One who is asking is told of it by the answer.
        let held = callers.get(caller).and_then(|held| held.try_lock().ok());
        let now = Instant::now();
        match held.and_then(|held| held.refused) {
            Some(until) if until > now => Err(until - now),
            _ => Ok(()),
        }
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
    async fn few_calls_ask_for_nothing_and_many_callers_not_for_more_than_is_borne() {
        let slices = Slices::new(Rate {
            per_second: 1.0,
            burst: 64,
        });
        let (asked, here) = (Mutex::new(Vec::new()), Mutex::new(0));
        let take = async |caller: u32| {
            let ask = |slice: Slice| {
                asked.lock().unwrap().push(slice.tokens);
                async { Ok(()) }
            };
            let count = |_| {
                *here.lock().unwrap() += 1;
                Ok(())
            };
            slices.take(&caller, ask, count).await.unwrap();
        };
        for caller in 0..1_000 {
            take(caller).await;
            take(caller).await;
        }
        assert_eq!(*asked.lock().unwrap(), [0; 0]);
        // Then what was given on credit is asked for as well, and nothing twice.
        for _ in 0..4 {
            take(0).await;
        }
        assert_eq!(*asked.lock().unwrap(), [4, 2]);
        for caller in 1..1_000 {
            take(caller).await;
        }
        assert_eq!(asked.lock().unwrap().len(), ASKED.burst as usize);
        assert_eq!(*here.lock().unwrap(), 1_001 - ASKED.burst);
        // Whoever was quiet until the bucket is full again is as one who never called.
        tokio::time::advance(Duration::from_secs(64)).await;
        let before = asked.lock().unwrap().len();
        take(0).await;
        take(0).await;
        assert_eq!(asked.lock().unwrap().len(), before);
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
