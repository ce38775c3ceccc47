//! Who holds how many connections, so that nobody holds them all.

use super::serve::Peer;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Open connections by address. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Crowd(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One connection, until it is dropped.
pub(super) struct Place {
    crowd: Crowd,
    address: Option<IpAddr>,
}

impl Crowd {
    /// Counts one more; `None` when its address has `limit` already. Processes of this machine are
    /// not counted.
    pub(super) fn enter(&self, peer: &Peer, limit: usize) -> Option<Place> {
        let address = match peer {
            Peer::Tcp(address) => Some(address.ip().to_canonical()),
            Peer::Unix { .. } => None,
        };
        if let Some(address) = address {
            let mut open = self.open();
            let n = open.entry(address).or_default();
            if *n >= limit {
                return None;
            }
            *n += 1;
        }
        Some(Place {
            crowd: self.clone(),
            address,
        })
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else {
            return;
        };
        let mut open = self.crowd.open();
        if let Some(n) = open.get_mut(&address) {
            *n -= 1;
            if *n == 0 {
                open.remove(&address);
            }
        }
    }
}
