//! After a restore: the server answers, looks and listens, and does nothing until somebody has
//! seen what it would do.

use super::{App, AppError, audit, known, require};
use crate::{
    access::Permission,
    clock::Time,
    domain::{AuditEvent, Category, Principal, Restoration},
    store::StoreError,
};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether nothing may be done.
#[derive(Default)]
pub(super) struct Fence {
    stands: AtomicBool,
    /// Agents are asked for what was issued after the backup.
    seeks: AtomicBool,
}

impl Fence {
    fn set(&self, fenced: bool) {
        self.stands.store(fenced, Ordering::SeqCst);
    }
}

impl App {
    /// Whether the store was restored and nobody has lifted the fence yet.
    pub fn is_fenced(&self) -> bool {
        self.fence.stands.load(Ordering::SeqCst)
    }

    /// Whether agents are asked for what was issued after the backup that the store came out of.
    pub(super) fn seeks_the_unknown(&self) -> bool {
        self.fence.seeks.load(Ordering::SeqCst)
    }

    /// Refuses what a restored server does not do yet.
    pub(crate) fn not_fenced(&self) -> Result<(), AppError> {
        if self.is_fenced() {
            Err(AppError::Fenced)
        } else {
            Ok(())
        }
    }

    /// What keeps the server from beginning anything new, and the remedy.
    pub fn held_back(&self) -> Option<String> {
        let low = self.low_disk().map(|low| low.to_string());
        let fenced = self.is_fenced().then(|| AppError::Fenced.to_string());
        let all: Vec<String> = low.into_iter().chain(fenced).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Learns from the store how things stand.
    pub(super) async fn know_fence(&self) -> Result<(), StoreError> {
        let id = known(Restoration::ID);
        let row = self.store.get::<Restoration>(&id).await?;
        let fenced = row.as_ref().is_some_and(|row| row.fenced);
        let seeks = row.is_some_and(|row| row.reconcile);
        self.fence.set(fenced);
        self.fence.seeks.store(seeks, Ordering::SeqCst);
        if fenced {
            // What they told since the backup is not known, and they tell again of what is unchanged
            // but seldom.
            self.watched.ask_everyone();
            tracing::warn!(
                "the store was restored from a backup: nothing is issued or deployed before \
                 `certctl restore unfence`"
            );
        }
        Ok(())
    }

    /// Lets a restored server act.
    pub async fn unfence(&self, who: &Principal) -> Result<Time, AppError> {
        require(who, Permission::BackupRun)?;
        let now = self.now();
        let done = self
            .decide(|mut unit| async move {
                let id = known(Restoration::ID);
                let Some(mut row) = unit.load_opt::<Restoration>(&id).await? else {
                    return Err(AppError::Conflict(
                        "this store was not restored: there is no fence".into(),
                    ));
                };
                if !row.fenced {
                    return Ok((unit, row.unfenced_at.unwrap_or(now)));
                }
                row.fenced = false;
                row.unfenced_at = Some(now);
                let resource = ("backup", row.backup.as_str());
                let event =
                    AuditEvent::new(who, Category::Config, "restore_unfenced", resource, now);
                audit(&mut unit, &event);
                unit.put(row);
                Ok((unit, now))
            })
            .await?;
        self.fence.set(false);
        Ok(done)
    }
}
