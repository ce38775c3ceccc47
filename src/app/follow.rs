//! What a server remembers of a store that others write to as well: taken up from the change feed.
//!
//! The feed is a hint, here too: whatever must not be missed is asserted by the commit that rests
//! on it, or read anew.

use super::{App, AppError};
use crate::{
    domain::{Agent, CaNode, Executor, Job, Look, Observation, Presence, Restoration},
    id::Id,
    store::{Document, Feed, RulesHead, StoreError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::sync::watch;

/// Commits are read this many at a time.
const AT_ONCE: usize = 1_000;

/// How far this server has followed the others.
#[derive(Default)]
pub(super) struct Followed(AtomicU64);

impl App {
    /// Begins to follow: what is read from the store from now on is as new as that.
    pub(super) async fn begin_to_follow(&self) -> Result<(), StoreError> {
        if self.store.is_shared() {
            let last = self.store.last_commit().await?;
            self.followed.0.store(last, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Changes when something was committed, here or by another server; `None` where there can be
    /// no other.
    pub(crate) fn news(&self) -> Option<watch::Receiver<u64>> {
        self.store.is_shared().then(|| self.store.wake())
    }

    /// Takes up what was committed since the last time; for the reconciler.
    pub(crate) async fn follow(&self) -> Result<(), AppError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        loop {
            let after = self.followed.0.load(Ordering::SeqCst);
            let changes = match self.store.changes(after, AT_ONCE).await? {
                Feed::Changes(changes) => changes,
                Feed::Trimmed { upto } => {
                    self.take_up_all().await?;
                    self.followed.0.store(upto, Ordering::SeqCst);
                    continue;
                }
            };
            let Some(last) = changes.last().map(|change| change.seq) else {
                return Ok(());
            };
            let whole = changes.len() < AT_ONCE;
            let mut rows: BTreeMap<String, BTreeSet<Id>> = BTreeMap::new();
            for (coll, id) in changes.into_iter().flat_map(|change| change.rows) {
                rows.entry(coll).or_default().insert(id);
            }
            for (coll, ids) in rows {
                match self.take_up(&coll, ids).await {
                    Err(e @ AppError::Away) => return Err(e),
                    // A row that this program cannot read keeps no others back.
                    Err(error) => {
                        tracing::error!(coll, %error, "what others wrote is not taken up");
                    }
                    Ok(()) => {}
                }
            }
            self.followed.0.store(last, Ordering::SeqCst);
            if whole {
                return Ok(());
            }
        }
    }

    /// These rows of a collection were written.
    async fn take_up(&self, coll: &str, ids: BTreeSet<Id>) -> Result<(), AppError> {
        let is = |of: crate::store::Coll| of.0 == coll;
        if is(Job::COLL) {
            if self.doorbell.is_listened() {
                for job in self.rows::<Job>(ids).await? {
                    let Executor::Agent(agent) = &job.executor;
                    self.doorbell.ring(agent);
                }
            }
        } else if is(Presence::COLL) {
            for presence in self.rows::<Presence>(ids).await? {
                self.heard.remember(&presence.id, presence.heard_at);
            }
        } else if is(Agent::COLL) {
            let known = ids.into_iter();
            let known = known.filter(|id| self.heard.last(id).is_some());
            for agent in self.rows::<Agent>(known.collect()).await? {
                if agent.retired.is_some() {
                    self.heard.forget(&agent.id);
                }
                // One that was retired is told at once.
                self.doorbell.ring(&agent.id);
            }
        } else if is(Look::COLL) {
            for look in self.rows::<Look>(ids).await? {
                self.watched.ask(&look.agent, &look.id);
                self.watched.awaited_elsewhere(&look.id);
                self.doorbell.ring(&look.agent);
            }
        } else if is(Observation::COLL) {
            for id in ids {
                self.watched.looked(&id, self.now());
            }
        } else if is(RulesHead::COLL) {
            self.rules.forget();
        } else if is(CaNode::COLL) {
            for id in ids {
                self.nodes.forget(&id);
                self.crls.forget(&id);
            }
        } else if is(Restoration::COLL) {
            self.know_fence().await?;
        }
        Ok(())
    }

    /// The feed does not say any more what was written: everything may have been.
    async fn take_up_all(&self) -> Result<(), AppError> {
        self.rules.forget();
        for id in self.nodes.opened().into_keys() {
            self.nodes.forget(&id);
            self.crls.forget(&id);
        }
        self.know_fence().await?;
        self.remember_heard().await?;
        self.doorbell.ring_all();
        Ok(())
    }

    async fn rows<T: Document>(&self, ids: BTreeSet<Id>) -> Result<Vec<T>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.store.get_many::<T>(ids.into_iter().collect()).await?;
        Ok(rows
            .into_iter()
            .flatten()
            .map(|row| row.into_value())
            .collect())
    }
}
