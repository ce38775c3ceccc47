//! What makes jobs prompt. Jobs themselves are rows, claimed and reported in
//! [`app`](crate::app); here are the things that live in memory only: who waits for work, when each
//! agent was last heard, and when each loop last looked.

mod seen;

pub use seen::Seen;

use crate::{clock::Time, domain::Said, id::Id};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// Wakes an agent's waiting poll when it has work. A hint: every poll looks for itself when it
/// begins and when it ends.
#[derive(Default)]
pub struct Doorbell {
    bells: Mutex<BTreeMap<Id, Arc<Notify>>>,
}

/// One poll's ear at the door.
pub struct Ear(Arc<Notify>);

impl Doorbell {
    /// From now on no ring for this agent is missed by [`Ear::rung`].
    pub fn listen(&self, agent: &Id) -> Ear {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        Ear(Arc::clone(bells.entry(agent.clone()).or_default()))
    }

    /// Whether anybody ever listened: then somebody may be waiting.
    pub fn is_listened(&self) -> bool {
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        !bells.is_empty()
    }

    /// There may be work for every agent.
    pub fn ring_all(&self) {
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.values().for_each(|bell| bell.notify_one());
    }

    /// There is work for this agent.
    pub fn ring(&self, agent: &Id) {
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = bells.get(agent) {
            bell.notify_one();
        }
    }
}

impl Ear {
    /// Waits for a ring; one that came since the last look counts.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// When agents were last heard, since it was last written down.
#[derive(Default)]
pub struct Heard {
    heard: Mutex<BTreeMap<Id, Beat>>,
}

#[derive(Clone)]
struct Beat {
    at: Time,
    /// The moment that is written down, as far as this process knows.
    written: Option<Time>,
    /// What the agent said of itself, if it has since this process began.
    said: Option<Said>,
    /// The version it said it runs.
    version: Option<String>,
}

impl Heard {
    /// An agent was heard.
    pub fn hear(&self, agent: &Id, at: Time) {
        self.beat(agent, at, |_| ());
    }

    /// An agent was heard and told of itself; says whether it runs another version than it said
    /// last, as far as this process knows.
    pub fn hear_of(&self, agent: &Id, at: Time, said: Said, version: Option<&str>) -> bool {
        self.beat(agent, at, |beat| {
            beat.said = Some(said);
            let changed = version.is_some() && beat.version.as_deref() != version;
            if changed {
                beat.version = version.map(Into::into);
            }
            changed
        })
    }

    fn beat<T>(&self, agent: &Id, at: Time, change: impl FnOnce(&mut Beat) -> T) -> T {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let beat = heard.entry(agent.clone()).or_insert_with(|| Beat {
            at,
            written: None,
            said: None,
            version: None,
        });
        beat.at = at;
        change(beat)
    }

    /// An agent is gone.
    pub fn forget(&self, agent: &Id) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.remove(agent);
    }

    /// What an agent last said of itself to this process.
    pub fn said(&self, agent: &Id) -> Option<Said> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(agent).and_then(|b| b.said.clone())
    }

    /// The agents that this process has heard after `after`.
    pub fn since(&self, after: Time) -> Vec<(Id, Time)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let of_late = heard.iter().filter(|(_, b)| b.at > after);
        of_late.map(|(id, b)| (id.clone(), b.at)).collect()
    }

    /// An agent was heard by some process, which wrote it down.
    pub fn remember(&self, agent: &Id, at: Time) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let beat = heard.entry(agent.clone()).or_insert_with(|| Beat {
            at,
            written: None,
            said: None,
            version: None,
        });
        beat.written = beat.written.max(Some(at));
        if at > beat.at {
            // What it said to another process since then is what counts, and is written down.
            (beat.at, beat.said, beat.version) = (at, None, None);
        }
    }

    /// How many agents were heard after a moment.
    pub fn count_after(&self, moment: Time) -> u64 {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.values().filter(|b| b.at > moment).count() as u64
    }

    /// When an agent was last heard by this process.
    pub fn last(&self, agent: &Id) -> Option<Time> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(agent).map(|b| b.at)
    }

    /// What is to be written down: agents of which the last thing written down is older than what
    /// this process heard, by more than `by`.
    pub fn unwritten(&self, by: Duration) -> Vec<(Id, Time)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let unwritten = heard.iter().filter(|(_, beat)| {
            let newer = |written| beat.at > written && beat.at.since(written) > by;
            beat.written.is_none_or(newer)
        });
        unwritten.map(|(id, b)| (id.clone(), b.at)).collect()
    }

    /// These were written down. An agent that was heard since then is to be written again.
    pub fn written(&self, beats: &[(Id, Time)]) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, at) in beats {
            if let Some(beat) = heard.get_mut(id) {
                beat.written = beat.written.max(Some(*at));
            }
        }
    }
}

/// What agents are to look at, and when they last looked.
pub struct Watched {
    asked: Mutex<BTreeMap<Id, BTreeSet<Id>>>,
    /// Targets of which an agent is to show what is in place.
    shown: Mutex<BTreeMap<Id, BTreeSet<Id>>>,
    /// Once every agent is to look at all it has: those that were told so, and whether they have
    /// said since what they saw.
    everyone: Mutex<Option<BTreeMap<Id, bool>>>,
    /// Targets at which a look is awaited by who hears of it by what is written down.
    elsewhere: Mutex<BTreeSet<Id>>,
    /// When, and the how manieth look of all that was.
    looked: Mutex<BTreeMap<Id, (Time, u64)>>,
    looks: watch::Sender<u64>,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            shown: Mutex::default(),
            everyone: Mutex::default(),
            elsewhere: Mutex::default(),
            looked: Mutex::default(),
            looks: watch::channel(0).0,
        }
    }
}

impl Watched {
    /// An agent is to look at a target.
    pub fn ask(&self, agent: &Id, target: &Id) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .entry(agent.clone())
            .or_default()
            .insert(target.clone());
    }

    /// The targets that an agent is to look at and was not told of.
    pub fn take(&self, agent: &Id) -> Vec<Id> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.remove(agent).into_iter().flatten().collect()
    }

    /// Every agent is to look at all that it has.
    pub fn ask_everyone(&self) {
        let mut everyone = self.everyone.lock().unwrap_or_else(PoisonError::into_inner);
        *everyone = Some(BTreeMap::new());
    }

    /// Whether an agent is to look at all that it has and was not told so.
    pub fn take_everything(&self, agent: &Id) -> bool {
        let mut everyone = self.everyone.lock().unwrap_or_else(PoisonError::into_inner);
        let told = everyone.as_mut();
        told.is_some_and(|told| match told.entry(agent.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(false);
                true
            }
        })
    }

    /// An agent may not have heard what it was told: unless it has said since what it saw, it is
    /// told again to look at all that it has.
    pub fn unheard(&self, agent: &Id) {
        let mut everyone = self.everyone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = everyone.as_mut()
            && told.get(agent) == Some(&false)
        {
            told.remove(agent);
        }
    }

    /// An agent said what it saw.
    pub fn answered(&self, agent: &Id) {
        let mut everyone = self.everyone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answered) = everyone.as_mut().and_then(|told| told.get_mut(agent)) {
            *answered = true;
        }
    }

    /// An agent is to look at a target and to show what is in place there.
    pub fn show(&self, agent: &Id, target: &Id) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown
            .entry(agent.clone())
            .or_default()
            .insert(target.clone());
    }

    /// The targets of which an agent is to show what is in place and was not told.
    pub fn take_shown(&self, agent: &Id) -> Vec<Id> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.remove(agent).into_iter().flatten().collect()
    }

    /// Another process awaits a look at a target.
    pub fn awaited_elsewhere(&self, target: &Id) {
        let elsewhere = self.elsewhere.lock();
        let mut elsewhere = elsewhere.unwrap_or_else(PoisonError::into_inner);
        elsewhere.insert(target.clone());
    }

    /// Whether another process awaits a look at a target: it is told of one.
    pub fn is_awaited_elsewhere(&self, target: &Id) -> bool {
        let elsewhere = self.elsewhere.lock();
        let elsewhere = elsewhere.unwrap_or_else(PoisonError::into_inner);
        elsewhere.contains(target)
    }

    /// A look at a target was written down.
    pub fn told_elsewhere(&self, target: &Id) {
        let elsewhere = self.elsewhere.lock();
        let mut elsewhere = elsewhere.unwrap_or_else(PoisonError::into_inner);
        elsewhere.remove(target);
    }

    /// Somebody has looked.
    pub fn looked(&self, observation: &Id, at: Time) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        self.looks.send_modify(|looks| *looks += 1);
        looked.insert(observation.clone(), (at, *self.looks.borrow()));
    }

    /// When somebody has looked, as far as this process knows.
    pub fn last(&self, observation: &Id) -> Option<Time> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.get(observation).map(|(at, _)| *at)
    }

    /// Whether somebody has looked since there were so many looks.
    pub fn seen_since(&self, observation: &Id, looks: u64) -> bool {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.get(observation).is_some_and(|(_, nth)| *nth > looks)
    }

    /// How many looks there were, and are.
    pub fn looks(&self) -> watch::Receiver<u64> {
        self.looks.subscribe()
    }
}

/// When each loop last looked.
#[derive(Default)]
pub struct Pulse {
    looked: Mutex<BTreeMap<&'static str, Look>>,
}

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    period: Duration,
}

impl Pulse {
    /// A loop has looked, and will again after `period`.
    pub fn beat(&self, name: &'static str, period: Duration) {
        let at = Instant::now();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.insert(name, Look { at, period });
    }

    /// A loop that should have looked long ago: three periods and a minute.
    pub fn stalled(&self) -> Option<&'static str> {
        let now = Instant::now();
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let late = |look: &Look| now - look.at > look.period * 3 + Duration::from_secs(60);
        let mut late = looked.iter().filter(|(_, look)| late(look));
        late.next().map(|(name, _)| *name)
    }
}
