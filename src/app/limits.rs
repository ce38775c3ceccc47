//! How often callers may call: by address before they are known, by key after it, and how often an
//! address may show a credential that is wrong.

use super::{App, AppError};
use crate::{
    access::{
        limit::{Limiter, Rate, Slice, Slices},
        proxies::{Caller, Networks},
    },
    config::ServerConfig,
    domain::Principal,
    id::Id,
    store::{CommitError, Key, Refusal},
};
use std::{fmt::Display, net::IpAddr, time::Duration};

/// Wrong credentials from one address: ten a minute, twenty at once. Keys made here have 256 random
/// bits, which nobody guesses; those of the configuration are of the operator's choice.
const GUESSES: Rate = Rate {
    per_second: 1.0 / 6.0,
    burst: 20,
};

/// Shared counters that nobody took from for so long are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3_600);
/// So many are looked at, at once.
const PAGE: usize = 500;

/// The limits of this process. Each process counts for itself, or those of one database in counters
/// that they share.
pub(super) struct Limits {
    proxies: Networks,
    of: Option<Limiters>,
}

struct Limiters {
    address: Limit<Caller>,
    key: Limit<Id>,
    guesses: Limit<Caller>,
}

/// A limit for each of many.
struct Limit<K> {
    /// What the shared counters are called.
    name: &'static str,
    /// Counts here; with shared counters, while the store is away, or asked too often.
    here: Limiter<K>,
    shared: Option<Slices<K>>,
}

impl<K: Ord + Clone> Limit<K> {
    fn new(name: &'static str, rate: Rate, shared: bool) -> Self {
        Self {
            name,
            here: Limiter::new(rate),
            shared: shared.then(|| Slices::new(rate)),
        }
    }

    /// Counts a slice here.
    fn count_here(&self, caller: &K, slice: Slice) -> Result<(), Duration> {
        (0..slice.tokens).try_for_each(|_| self.here.take(caller))
    }

    /// Whether one more would be within the rate, as far as this process knows.
    fn room(&self, caller: &K) -> Result<(), Duration> {
        match &self.shared {
            Some(slices) => slices.room(caller),
            None => self.here.room(caller),
        }
    }
}

impl Limits {
    pub fn new(config: &ServerConfig) -> Self {
        let of = config.rates.map(|rates| Limiters {
            address: Limit::new("address", rates.address, rates.shared),
            key: Limit::new("key", rates.key, rates.shared),
            guesses: Limit::new("guesses", GUESSES, rates.shared),
        });
        Self {
            proxies: config.trusted_proxies.clone(),
            of,
        }
    }
}

impl App {
    /// The address of who calls, given whom the connection is with and the lines of
    /// `X-Forwarded-For`.
    pub fn client_address<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        self.limits.proxies.client(peer, forwarded)
    }

    /// Counts a call from an address.
    ///
    /// # Errors
    /// When there were too many.
    pub async fn admit_address(&self, address: IpAddr) -> Result<(), AppError> {
        let Some(limits) = &self.limits.of else {
            return Ok(());
        };
        let taken = self.take(&limits.address, &address.into()).await;
        taken.map_err(|wait| too_many("calls from this address", wait))
    }

    /// Counts a call from an address that shows an agent's credential, good or not, where too many
    /// from there were wrong. Else it has no limit of this kind: thousands of agents may call from
    /// one address.
    ///
    /// # Errors
    /// When there were too many.
    pub async fn admit_agent(&self, address: IpAddr) -> Result<(), AppError> {
        match self.may_guess(Some(address)) {
            Ok(()) => Ok(()),
            Err(_) => self.admit_address(address).await,
        }
    }

    /// Counts a call of a key, whether it came by itself or by a session. Agents and the local
    /// socket have no limit of this kind.
    ///
    /// # Errors
    /// When there were too many.
    pub async fn admit_key(&self, who: &Principal) -> Result<(), AppError> {
        let (Some(limits), Some(key)) = (&self.limits.of, &who.key) else {
            return Ok(());
        };
        let taken = self.take(&limits.key, key).await;
        taken.map_err(|wait| too_many("calls with this key", wait))
    }

    /// Refuses to look at a credential that could be guessed when its address has guessed too
    /// often.
    pub(super) fn may_guess(&self, from: Option<IpAddr>) -> Result<(), AppError> {
        let (Some(limits), Some(from)) = (&self.limits.of, from) else {
            return Ok(());
        };
        let room = limits.guesses.room(&from.into());
        room.map_err(|wait| too_many("wrong credentials from this address", wait))
    }

    /// Counts a wrong credential: what is answered in the place of `wrong` when there were too many.
    pub(super) async fn guessed(&self, from: Option<IpAddr>, wrong: AppError) -> AppError {
        let (Some(limits), Some(from)) = (&self.limits.of, from) else {
            return wrong;
        };
        match self.take(&limits.guesses, &from.into()).await {
            Ok(()) => wrong,
            Err(wait) => too_many("wrong credentials from this address", wait),
        }
    }

    /// Counts one more.
    async fn take<K>(&self, limit: &Limit<K>, caller: &K) -> Result<(), Duration>
    where
        K: Ord + Clone + Display + Sync,
    {
        match &limit.shared {
            None => limit.here.take(caller),
            Some(slices) => {
                let ask = |slice| self.take_slice(limit, caller, slice);
                slices
                    .take(caller, ask, |slice| limit.count_here(caller, slice))
                    .await
            }
        }
    }

    async fn take_slice<K>(
        &self,
        limit: &Limit<K>,
        caller: &K,
        slice: Slice,
    ) -> Result<(), Duration>
    where
        K: Ord + Clone + Display + Sync,
    {
        let bucket = shared_counters().text(limit.name).text(&caller.to_string());
        let mut unit = self.unit();
        unit.take(bucket, slice.tokens, slice.per, slice.burst);
        match unit.commit().await {
            Ok(_) => Ok(()),
            Err(CommitError::Refused(Refusal::Exhausted {
                retry_in: Some(wait),
                ..
            })) => Err(wait.max(Duration::from_millis(1))),
            Err(error) => {
                tracing::debug!(%error, "calls are counted here while the store takes none");
                limit.count_here(caller, slice)
            }
        }
    }

    /// Forgets the shared counters of callers who have not called for long: their buckets are full,
    /// as those of callers who never called. For the reconciler.
    pub(crate) async fn forget_rates(&self) -> Result<(), AppError> {
        let shared = self.config.rates.is_some_and(|rates| rates.shared);
        if !shared {
            return Ok(());
        }
        let (mut after, old) = (None, self.now().minus(FORGOTTEN).micros());
        loop {
            let found = self
                .store
                .counters_under(shared_counters(), after, PAGE)
                .await?;
            let more = found.len() == PAGE;
            after = found.last().map(|(name, _)| name.clone());
            let mut full: Vec<_> = found
                .into_iter()
                .filter(|(_, until)| *until < old)
                .collect();
            while !full.is_empty() {
                let mut unit = self.unit();
                for (name, _) in &full {
                    unit.forget_bucket(name.clone());
                }
                match unit.commit().await {
                    Ok(_) => break,
                    // One of them calls again, or this clock is ahead of the database's.
                    Err(CommitError::Refused(Refusal::Exhausted { counter, .. }))
                        if counter < full.len() =>
                    {
                        full.remove(counter);
                    }
                    Err(e) => return Err(self.refused(e)),
                }
            }
            if !more {
                return Ok(());
            }
        }
    }
}

/// The beginning of the names of shared counters.
fn shared_counters() -> Key {
    Key::new().text("rate")
}

fn too_many(what: &str, wait: Duration) -> AppError {
    AppError::Limited {
        message: format!("Rate limit exceeded: too many {what}"),
        retry_in: wait,
    }
}
