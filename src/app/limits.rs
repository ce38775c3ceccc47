//! How often callers may call: by address before they are known, by key after it, and how often an
//! address may show a credential that is wrong.

use super::{App, AppError};
use crate::{
    access::{
        limit::{Limiter, Rate},
        proxies::{Caller, Networks},
    },
    config::ServerConfig,
    domain::Principal,
    id::Id,
};
use std::{net::IpAddr, time::Duration};

/// Wrong credentials from one address: ten a minute, twenty at once. Keys made here have 256 random
/// bits, which nobody guesses; those of the configuration are of the operator's choice.
const GUESSES: Rate = Rate {
    per_second: 1.0 / 6.0,
    burst: 20,
};

/// The limits of this process. Each process counts for itself.
pub(super) struct Limits {
    proxies: Networks,
    of: Option<Limiters>,
}

struct Limiters {
    address: Limiter<Caller>,
    key: Limiter<Id>,
    guesses: Limiter<Caller>,
}

impl Limits {
    pub fn new(config: &ServerConfig) -> Self {
        let of = config.rates.map(|rates| Limiters {
            address: Limiter::new(rates.address),
            key: Limiter::new(rates.key),
            guesses: Limiter::new(GUESSES),
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
    pub fn admit_address(&self, address: IpAddr) -> Result<(), AppError> {
        let Some(limits) = &self.limits.of else {
            return Ok(());
        };
        let taken = limits.address.take(&address.into());
        taken.map_err(|wait| too_many("calls from this address", wait))
    }

    /// Counts a call from an address that shows an agent's credential, good or not, where too many
    /// from there were wrong. Else it has no limit of this kind: thousands of agents may call from
    /// one address.
    ///
    /// # Errors
    /// When there were too many.
    pub fn admit_agent(&self, address: IpAddr) -> Result<(), AppError> {
        match self.may_guess(Some(address)) {
            Ok(()) => Ok(()),
            Err(_) => self.admit_address(address),
        }
    }

    /// Counts a call of a key, whether it came by itself or by a session. Agents and the local
    /// socket have no limit of this kind.
    ///
    /// # Errors
    /// When there were too many.
    pub fn admit_key(&self, who: &Principal) -> Result<(), AppError> {
        let (Some(limits), Some(key)) = (&self.limits.of, &who.key) else {
            return Ok(());
        };
        let taken = limits.key.take(key);
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
    pub(super) fn guessed(&self, from: Option<IpAddr>, wrong: AppError) -> AppError {
        let (Some(limits), Some(from)) = (&self.limits.of, from) else {
            return wrong;
        };
        match limits.guesses.take(&from.into()) {
            Ok(()) => wrong,
            Err(wait) => too_many("wrong credentials from this address", wait),
        }
    }
}

fn too_many(what: &str, wait: Duration) -> AppError {
    AppError::Limited {
        message: format!("Rate limit exceeded: too many {what}"),
        retry_in: wait,
    }
}
