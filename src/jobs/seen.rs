//! When something was last used, since that was last written down.

use crate::{clock::Time, id::Id};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What was written down is remembered for this long.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// When each of some rows was last used by a caller of this process. Using one writes nothing; a
/// loop writes down what is new.
#[derive(Default)]
pub struct Seen(Mutex<BTreeMap<Id, Sight>>);

struct Sight {
    at: Time,
    written: bool,
}

impl Seen {
    /// It was used.
    pub fn see(&self, id: &Id, at: Time) {
        let mut seen = self.lock();
        match seen.get_mut(id) {
            Some(sight) if sight.at == at => {}
            Some(sight) => *sight = Sight { at, written: false },
            None => {
                seen.insert(id.clone(), Sight { at, written: false });
            }
        }
    }

    /// When it was last used, as far as this process knows.
    pub fn last(&self, id: &Id) -> Option<Time> {
        self.lock().get(id).map(|sight| sight.at)
    }

    /// It is gone.
    pub fn forget(&self, id: &Id) {
        self.lock().remove(id);
    }

    /// What is to be written down.
    pub fn unwritten(&self) -> Vec<(Id, Time)> {
        let seen = self.lock();
        let unwritten = seen.iter().filter(|(_, sight)| !sight.written);
        unwritten
            .map(|(id, sight)| (id.clone(), sight.at))
            .collect()
    }

    /// These were written down. What was used since then is to be written again.
    pub fn written(&self, sights: &[(Id, Time)], now: Time) {
        let mut seen = self.lock();
        for (id, at) in sights {
            if let Some(sight) = seen.get_mut(id) {
                sight.written |= sight.at == *at;
            }
        }
        seen.retain(|_, sight| !sight.written || now.since(sight.at) < REMEMBERED);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Sight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
