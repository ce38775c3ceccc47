//! The doctor looks at a whole installation and says what is wrong and what mends it. It changes
//! nothing. A running server looks at itself; where none runs, the command looks at the machine,
//! at whatever of it can still be read.
//!
//! One check is one function: it is given a `Ground` and answers with what it found.

mod fleet;
mod here;
mod outside;
mod running;
mod secrets;
mod stored;

pub use crate::domain::Finding;
pub use here::{examine_files, examine_machine, faults_of_settings};
pub use running::{Doctor, DoctorState, Report};

use super::backup::{S3Access, Ways};
use crate::{
    clock::{Clock, Time},
    config::ServerConfig,
    domain::Grade,
    store::{Store, StoreError},
    sys::{Files, Rooms},
};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;

/// Of one kind of thing so many are named.
const NAMED: usize = 20;

/// Told of rows as they are read: of what, and how many more.
pub type Reading<'a> = &'a (dyn Fn(&'static str, u64) + Sync);

/// What is looked at.
pub(super) struct Ground<'a> {
    pub config: &'a ServerConfig,
    pub files: &'a dyn Files,
    pub rooms: &'a dyn Rooms,
    pub s3: Option<&'a S3Access>,
    pub clock: &'a dyn Clock,
    pub now: Time,
    /// Also what takes long: every row, every page, the whole audit log.
    pub thorough: bool,
}

impl Ground<'_> {
    fn ways(&self) -> Ways<'_> {
        Ways {
            files: self.files,
            s3: self.s3,
            spool: &self.config.data_dir,
            clock: self.clock,
        }
    }
}

/// What checks find.
type Found = Result<Vec<Finding>, StoreError>;

/// Looks at what lies around a store: files, disk, settings.
async fn around(ground: &Ground<'_>, findings: &mut Vec<Finding>) {
    findings.extend(outside::files(ground));
    findings.extend(outside::disk(ground));
    findings.extend(outside::clock(ground));
    findings.extend(outside::database(ground).await);
}

/// Looks at all that a store holds.
async fn within(
    ground: &Ground<'_>,
    store: &Store,
    reading: Reading<'_>,
    findings: &mut Vec<Finding>,
) {
    let looked = checks(ground, store, reading, findings).await;
    let said = |f: &Finding| f.check == "database" && f.grade == Grade::Error;
    if let Err(away) = looked
        && !findings.iter().any(said)
    {
        findings.push(Finding::error(
            "storage",
            "",
            format!("it could not be looked at: {away}"),
            "once the database answers (`certctl db ping`), look again",
        ));
    }
}

/// All checks of a store, until it is found to be away.
async fn checks(
    ground: &Ground<'_>,
    store: &Store,
    reading: Reading<'_>,
    all: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    all.extend(guarded("schema", stored::schema(store)).await?);
    if ground.thorough {
        all.extend(guarded("storage", stored::rows(store, reading)).await?);
        all.extend(guarded("audit", stored::audit_log(store)).await?);
    }
    all.extend(guarded("clock", stored::newest_event(ground, store)).await?);
    all.extend(guarded("key ring", secrets::ring(ground, store)).await?);
    all.extend(guarded("tls", outside::trust(ground, store)).await?);
    all.extend(guarded("agents", fleet::agents(ground, store)).await?);
    all.extend(guarded("schedule", fleet::schedule(ground, store, reading)).await?);
    all.extend(guarded("jobs", fleet::jobs(ground, store)).await?);
    all.extend(guarded("fence", fleet::fence(store)).await?);
    all.extend(guarded("backups", outside::backups(ground, store)).await?);
    Ok(())
}

/// What a check finds; of one that fails, or meets what the storage engine cannot bear, that.
///
/// # Errors
/// When the store is away.
async fn guarded(check: &'static str, look: impl Future<Output = Found>) -> Found {
    let why = match AssertUnwindSafe(look).catch_unwind().await {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(e)) if e.is_away() => return Err(e),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "reading it ended in a fault, which damage to the store can bring".to_owned(),
    };
    Ok(vec![Finding::error(
        check,
        "",
        format!("it could not be looked at: {why}"),
        RESTORE,
    )])
}

/// What mends a store that is damaged.
const RESTORE: &str = "put the newest good backup in its place: `certctl backup list --sink dir:PATH` \
                       shows which there are, `certctl restore BACKUP` restores one";
