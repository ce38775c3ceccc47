//! Puts a backup in the place of a store, in a data directory or in a database.

use super::{
    BackupFailure, MACHINE_KEY, STORE_FILE, Unproven,
    prove::{Bench, Bundle, Proof, Raised, raise},
    scratch::Scratch,
};
use crate::{
    app::{FIRST_START, known},
    clock::Time,
    crypt::{KeyRing, MachineKey},
    domain::{AuditEvent, Category, Found, Principal, Restoration},
    store::{
        AUDIT, Engine, EngineError, Key, Login, Redb, Replacement,
        backup::{BackupError, Header, Progress},
    },
    sys::{Metadata, Owner},
};
use futures_util::Stream;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Lists that were published after the backup have numbers that the store does not know; theirs
/// are passed over by as many as no CA makes in a century.
const CRL_GAP: i64 = 1 << 20;

/// Asked whether a restore may go on, once it is known what there is.
pub type Agreed<'a> = &'a mut (dyn FnMut(&Stores) -> bool + Send);

/// Which store takes the place of which, each by the link of its first audit event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stores {
    /// The one that is there; nothing where there is none, or none that can be read.
    pub there: String,
    /// The one that the backup is of.
    pub comes: String,
}

impl Stores {
    /// What is there is neither an earlier nor a later state of what comes.
    pub fn differ(&self) -> bool {
        !self.there.is_empty() && !self.comes.is_empty() && self.there != self.comes
    }
}

/// What to restore.
pub struct Restore<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The store that it is of.
    pub store: &'a str,
    /// The data directory.
    pub into: &'a Path,
    /// All but the last step.
    pub dry_run: bool,
    /// Agents are asked for what was issued after the backup.
    pub reconcile: bool,
    /// Who does it.
    pub who: &'a Principal,
    /// Whether it may take the place of what is there.
    pub agreed: Agreed<'a>,
}

impl<'a> Restore<'a> {
    /// Goes on only where that is agreed to; which stores it is about.
    fn ask(&mut self, old: &Old) -> Result<Stores, BackupFailure> {
        let stores = Stores {
            there: old.store.clone(),
            comes: self.store.to_owned(),
        };
        match (self.agreed)(&stores) {
            true => Ok(stores),
            false => Err(BackupFailure::Refused("nothing was restored".to_owned())),
        }
    }

    /// Where the new store is made: in the directory that it is for. A dry run makes none: where
    /// there is none it is at work above, on the same disk.
    fn place(&self, bench: Bench<'_>) -> Result<&'a Path, BackupFailure> {
        if !self.dry_run {
            bench.files.make_dir(self.into, 0o700)?;
            return Ok(self.into);
        }
        for place in self.into.ancestors() {
            let place = match place.as_os_str().is_empty() {
                true => Path::new("."),
                false => place,
            };
            if bench.files.metadata(place)?.is_some() {
                return Ok(place);
            }
        }
        Ok(self.into)
    }
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What was seen of the restored store.
    pub proof: Proof,
    /// Where the store that was replaced is now: a directory, or a schema of the database.
    pub kept: Option<String>,
    /// The newest audit event of the backup, by its link.
    pub audit_head: String,
    /// That of the store that was replaced, where there was one that could be read.
    pub replaced_head: String,
    /// Which store took the place of which.
    pub stores: Stores,
}

/// The store that is replaced.
#[derive(Default)]
struct Old {
    exists: bool,
    seq: u64,
    head: String,
    store: String,
}

impl Old {
    /// What can be learned of one that may not be readable: that is why it is replaced.
    async fn of(engine: &dyn Engine) -> Self {
        let mut old = Self {
            exists: true,
            ..Self::default()
        };
        let minute = Instant::now() + Duration::from_secs(60);
        let found = async {
            let state = engine.snapshot(minute).await.map_err(BackupError::from)?;
            Header::of(&*state, Time::default(), "").await
        };
        match found.await {
            Ok(header) => {
                old.seq = header.seq;
                old.head = header.audit_head;
                old.store = header.store;
            }
            Err(error) => unreadable(&error),
        }
        old
    }
}

fn unreadable(error: &dyn std::fmt::Display) {
    tracing::warn!(%error, "the store that is replaced cannot be read");
}

/// Restores a backup into a data directory on which no server runs. Until the last step, which is
/// one rename, nothing there has changed.
///
/// # Errors
/// When a server runs, or the backup is not good; the store is then as it was.
pub async fn restore(
    mut wanted: Restore<'_>,
    bundles: impl Stream<Item = Result<Bundle, BackupError>> + Send + Unpin,
    bench: Bench<'_>,
    progress: Progress<'_>,
) -> Result<Restored, BackupFailure> {
    let into = wanted.into;
    // Open until the end, so that no server opens it.
    let (old, engine) = old(bench, into).await?;
    let stores = wanted.ask(&old)?;
    let within = wanted.place(bench)?;
    let scratch = Scratch::make(bench, within, "restore")?;
    let made = async {
        let engine = Redb::open(&scratch.path().join(STORE_FILE))?;
        made(&wanted, bundles, Arc::new(engine), &old, bench, progress).await
    };
    let made = made.await.map_err(|e: Unproven| e.of(wanted.name))?;
    let kept = match wanted.dry_run {
        true => None,
        false => {
            made.machine_key(&scratch, into, bench)?;
            let kept = switch(&old, &scratch, into, bench)?;
            if let Some(kept) = kept.as_deref().filter(|_| stores.differ()) {
                keep_first_key(into, Path::new(kept), bench);
            }
            kept
        }
    };
    drop(engine);
    Ok(made.restored(kept, &old, stores))
}

/// Restores a backup into a database of which no server has the store open. Until the last step,
/// which is one transaction, that store has not changed.
///
/// # Errors
/// As [`restore`].
pub(super) async fn restore_database(
    login: Login,
    mut wanted: Restore<'_>,
    bundles: impl Stream<Item = Result<Bundle, BackupError>> + Send + Unpin,
    bench: Bench<'_>,
    progress: Progress<'_>,
) -> Result<Restored, BackupFailure> {
    let replacement = Replacement::begin(login).await.map_err(refused)?;
    let old = match replacement.old().await.map_err(refused)? {
        Some(engine) => Old::of(&engine).await,
        None => Old::default(),
    };
    let stores = wanted.ask(&old)?;
    let within = wanted.place(bench)?;
    let scratch = Scratch::make(bench, within, "restore")?;
    let made = async {
        let engine = replacement.new_store().await?;
        made(&wanted, bundles, Arc::new(engine), &old, bench, progress).await
    };
    let done = async {
        let made = made.await.map_err(|e: Unproven| e.of(wanted.name))?;
        if wanted.dry_run {
            return Ok(made.restored(None, &old, stores));
        }
        made.machine_key(&scratch, wanted.into, bench)?;
        let time = compact(bench.clock.now()).to_lowercase().replace('.', "_");
        let kept = format!("certctl_store_pre_restore_{time}");
        let was_there = replacement.switch(&kept).await.map_err(refused)?;
        Ok(made.restored(was_there.then_some(kept), &old, stores))
    };
    let outcome = done.await;
    if let Err(error) = replacement.forget().await {
        tracing::warn!(%error, "what was made beside the store is not removed yet");
    }
    outcome
}

fn refused(e: EngineError) -> BackupFailure {
    match e {
        EngineError::InUse(store) => BackupFailure::Running(format!(
            "servers or commands have the store {store} open, or one was started meanwhile: stop \
             them all first"
        )),
        e if e.is_away() => BackupFailure::Away(e.to_string()),
        e => BackupFailure::Refused(e.to_string()),
    }
}

/// A store that was made and is closed.
struct Made {
    proof: Proof,
    header: Header,
    machine: MachineKey,
}

impl Made {
    /// Puts the machine key beside which it opens where a server looks for it.
    /// What stands there is never replaced.
    fn machine_key(
        &self,
        scratch: &Scratch<'_>,
        data_dir: &Path,
        bench: Bench<'_>,
    ) -> Result<(), BackupFailure> {
        if bench.machine.is_some() {
            return Ok(());
        }
        let new = scratch.path().join(MACHINE_KEY);
        let text = self.machine.to_text();
        bench.files.write_durable(&new, text.as_bytes(), 0o600)?;
        place_new(&new, &data_dir.join(MACHINE_KEY), bench)
    }

    fn restored(&self, kept: Option<String>, old: &Old, stores: Stores) -> Restored {
        Restored {
            proof: self.proof.clone(),
            kept,
            audit_head: self.header.audit_head.clone(),
            replaced_head: old.head.clone(),
            stores,
        }
    }
}

/// Makes the new store in an empty engine, and closes it.
async fn made(
    wanted: &Restore<'_>,
    bundles: impl Stream<Item = Result<Bundle, BackupError>> + Send + Unpin,
    engine: Arc<dyn Engine>,
    old: &Old,
    bench: Bench<'_>,
    progress: Progress<'_>,
) -> Result<Made, Unproven> {
    let raised = raise(bundles, engine, bench, old.seq, progress).await?;
    write_down(wanted, &raised, old, bench).await?;
    raised.store.close().await;
    Ok(Made {
        proof: raised.proof,
        header: raised.header,
        machine: raised.machine,
    })
}

/// Opens the store in a data directory.
async fn old(bench: Bench<'_>, into: &Path) -> Result<(Old, Option<Redb>), BackupFailure> {
    let path = into.join(STORE_FILE);
    if bench.files.metadata(&path)?.is_none() {
        return Ok((Old::default(), None));
    }
    match Redb::open(&path) {
        Ok(engine) => Ok((Old::of(&engine).await, Some(engine))),
        Err(EngineError::InUse(_)) => Err(BackupFailure::Running(format!(
            "a server runs on {}: stop it first, or restore into another directory (--into)",
            into.display()
        ))),
        Err(error) => {
            unreadable(&error);
            let exists = true;
            Ok((
                Old {
                    exists,
                    ..Old::default()
                },
                None,
            ))
        }
    }
}

/// Gives a new file its place, where there is nothing: a server may have been started meanwhile.
fn place_new(new: &Path, place: &Path, bench: Bench<'_>) -> Result<(), BackupFailure> {
    give_to_owner(new, place, bench)?;
    match bench.files.link(new, place) {
        Err(e) if e.is_taken() => Err(BackupFailure::Refused(format!(
            "{} was made meanwhile, perhaps by a server that was started: the backup is not in \
             the place of the store",
            place.display()
        ))),
        placed => Ok(placed?),
    }
}

/// Gives what is new to whoever owns the directory that it is for: who restores is not always the
/// user that the server runs as.
fn give_to_owner(new: &Path, place: &Path, bench: Bench<'_>) -> Result<(), BackupFailure> {
    let look = |path: &Path| bench.files.metadata(path);
    let home = place.parent().map(look).transpose()?.flatten();
    if let (Some(new_file), Some(home)) = (look(new)?, home)
        && new_file.uid != home.uid
    {
        let Metadata { uid, gid, .. } = home;
        bench.files.give(new, Owner { uid, gid })?;
    }
    Ok(())
}

/// A moment as a part of a name.
fn compact(at: Time) -> String {
    at.to_string().replace(['-', ':'], "")
}

/// What the restored store knows of its restore, in one commit.
async fn write_down(
    wanted: &Restore<'_>,
    raised: &Raised,
    old: &Old,
    bench: Bench<'_>,
) -> Result<(), Unproven> {
    let now = bench.clock.now();
    let header = &raised.header;
    let mut unit = raised.store.unit(bench.commit_id(), now);
    if let Some(local) = bench.machine
        && KeyRing::open_ring(&raised.ring.ring, local).is_err()
    {
        let ring = KeyRing::with_slot(&raised.ring.ring, &raised.machine, local, bench.rng)?;
        let mut row = raised.ring.clone();
        row.ring = ring;
        unit.put(row);
    }
    for node in &raised.nodes {
        let counter = Key::new().text("crl").text(node.id.as_str());
        unit.add(counter, CRL_GAP, i64::MAX);
    }
    let restoration = Restoration {
        id: known(Restoration::ID),
        backup: wanted.name.to_owned(),
        taken_at: header.created_at,
        restored_at: now,
        fenced: true,
        unfenced_at: None,
        reconcile: wanted.reconcile,
        audit_head: header.audit_head.clone(),
        replaced_head: old.head.clone(),
    };
    match unit.load_opt::<Restoration>(&restoration.id).await? {
        Some(row) => unit.put(row.map(|_| restoration)),
        None => unit.insert(restoration),
    }
    // What an earlier restore looked for and found.
    for found in raised.store.every::<Found>().await? {
        unit.delete(found);
    }
    let event = AuditEvent::new(
        wanted.who,
        Category::Config,
        "store_restored",
        ("backup", wanted.name),
        now,
    );
    let event = event
        .with("taken_at", header.created_at)
        .with("audit_head", &header.audit_head)
        .with("replaced_audit_head", &old.head);
    unit.append(AUDIT, &event);
    unit.commit().await?;
    Ok(())
}

/// Puts the first key of another store beside it. The new one is in its place already, whatever
/// becomes of this.
fn keep_first_key(into: &Path, kept: &Path, bench: Bench<'_>) {
    let first = into.join(FIRST_START);
    if let Ok(Some(_)) = bench.files.metadata(&first)
        && let Err(error) = bench.files.rename(&first, &kept.join(FIRST_START))
    {
        tracing::warn!(%error, "the first key there is the old store's");
    }
}

/// Keeps the old store under another name, then puts the new one in its place by one rename; where
/// there was none, nobody may have made one meanwhile.
fn switch(
    old: &Old,
    scratch: &Scratch<'_>,
    into: &Path,
    bench: Bench<'_>,
) -> Result<Option<String>, BackupFailure> {
    let (new, place) = (scratch.path().join(STORE_FILE), into.join(STORE_FILE));
    if !old.exists {
        place_new(&new, &place, bench)?;
        return Ok(None);
    }
    let time = compact(bench.clock.now());
    let dir = into.join(format!("pre-restore-{time}"));
    bench.files.make_dir(&dir, 0o700)?;
    give_to_owner(&dir, &dir, bench)?;
    bench.files.link(&place, &dir.join(STORE_FILE))?;
    let machine = into.join(MACHINE_KEY);
    if bench.files.metadata(&machine)?.is_some() {
        bench.files.link(&machine, &dir.join(MACHINE_KEY))?;
    }
    give_to_owner(&new, &place, bench)?;
    bench.files.rename(&new, &place)?;
    Ok(Some(dir.display().to_string()))
}
