//! After a restore: the server answers, looks and listens, and does nothing until somebody has
//! seen what it would do.

use super::{App, AppError, audit, known, require};
use crate::{
    access::Permission,
    clock::Time,
    domain::{AuditEvent, Category, Certificate, Found, Job, Principal, Restoration},
    id::Id,
    store::{CERT_DUE, CERT_UNFINISHED, FOUND_AT, Index, JOB_DUE, Key, Loaded, Scan, StoreError},
};
use std::sync::atomic::{AtomicBool, Ordering};

/// So many are named; of more it is only said that there are more.
const NAMED: usize = 100;

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

/// What a restored server would do at once.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// What is known of the restore.
    pub restoration: Restoration,
    /// Certificates that it would renew.
    pub renew: Vec<Id>,
    /// Certificates whose revocation it would finish.
    pub revoke: Vec<Id>,
    /// Jobs that it would hand out.
    pub jobs: Vec<Id>,
    /// What agents have and the store did not know.
    pub found: Vec<Found>,
    /// There are more than are named.
    pub more: bool,
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

    /// Learns from the store how things stand.
    pub(super) async fn know_fence(&self) -> Result<(), StoreError> {
        let id = known(Restoration::ID);
        let row = self.store.get::<Restoration>(&id).await?;
        let fenced = row.as_ref().is_some_and(|row| row.fenced);
        let seeks = row.is_some_and(|row| row.reconcile);
        self.fence.set(fenced);
        self.fence.seeks.store(seeks, Ordering::SeqCst);
        if fenced && seeks {
            self.ask_all_agents().await?;
        }
        if fenced {
            tracing::warn!(
                "the store was restored from a backup: nothing is issued or deployed before \
                 `certctl restore unfence`"
            );
        }
        Ok(())
    }

    /// The last restore, and what the server would do; `None` where the store was never restored.
    pub async fn restore_plan(&self, who: &Principal) -> Result<Option<RestorePlan>, AppError> {
        require(who, Permission::BackupRead)?;
        let id = known(Restoration::ID);
        let Some(row) = self.store.get::<Restoration>(&id).await? else {
            return Ok(None);
        };
        let renew = self.due_ids::<Certificate>(CERT_DUE).await?;
        let revoke = self.due_ids::<Certificate>(CERT_UNFINISHED).await?;
        let jobs = self.store.scan::<Job>(Scan::all(JOB_DUE, NAMED)).await?;
        let jobs: Vec<Id> = jobs.iter().map(|job| job.id.clone()).collect();
        let found = self.store.scan::<Found>(Scan::all(FOUND_AT, NAMED)).await?;
        let found: Vec<Found> = found.into_iter().map(Loaded::into_value).collect();
        let more = [&renew, &revoke, &jobs]
            .iter()
            .any(|ids| ids.len() >= NAMED)
            || found.len() >= NAMED;
        Ok(Some(RestorePlan {
            restoration: row.into_value(),
            renew,
            revoke,
            jobs,
            found,
            more,
        }))
    }

    async fn due_ids<T: crate::store::Document>(&self, index: Index) -> Result<Vec<Id>, AppError> {
        let due = Scan {
            below: Some(Key::new().time(self.now().next()).bytes()),
            ..Scan::all(index, NAMED)
        };
        let mut ids: Vec<Id> = Vec::new();
        for row in self.store.scan::<T>(due).await? {
            if ids.last() != Some(row.id()) {
                ids.push(row.id().clone());
            }
        }
        Ok(ids)
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
