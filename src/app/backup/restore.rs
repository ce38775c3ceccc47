//! Puts a backup in the place of a store.

use super::{
    BackupFailure, MACHINE_KEY, STORE_FILE, Unproven,
    prove::{Bench, Bundle, Proof, Raised, raise},
};
use crate::{
    app::known,
    clock::Time,
    crypt::KeyRing,
    domain::{AuditEvent, Category, Principal, Restoration},
    store::{
        AUDIT, Engine, EngineError, Key, Redb,
        backup::{BackupError, Header, Progress},
    },
};
use futures_util::Stream;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Lists that were published after the backup have numbers that the store does not know; theirs
/// are passed over by as many as no CA makes in a century.
const CRL_GAP: i64 = 1 << 20;
/// What is being restored stands here until it is whole, in the data directory.
const SCRATCH: &str = "restore.scratch";

/// What to restore.
pub struct Restore<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The data directory.
    pub into: &'a Path,
    /// All but the last step.
    pub dry_run: bool,
    /// Who does it.
    pub who: &'a Principal,
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What was seen of the restored store.
    pub proof: Proof,
    /// Where the store that was replaced is now.
    pub kept: Option<PathBuf>,
    /// The newest audit event of the backup, by its link.
    pub audit_head: String,
    /// That of the store that was replaced, where there was one that could be read.
    pub replaced_head: String,
}

/// The store in the data directory, which nobody else opens meanwhile.
struct Old {
    engine: Option<Redb>,
    exists: bool,
    seq: u64,
    head: String,
}

/// Restores a backup into a data directory on which no server runs. Until the last step, which is
/// one rename, nothing there has changed.
///
/// # Errors
/// When a server runs, or the backup is not good; the store is then as it was.
pub async fn restore(
    wanted: Restore<'_>,
    bundles: impl Stream<Item = Result<Bundle, BackupError>> + Send + Unpin,
    bench: Bench<'_>,
    progress: Progress<'_>,
) -> Result<Restored, BackupFailure> {
    let into = wanted.into;
    bench.files.make_dir(into, 0o700)?;
    let old = old(bench, into).await?;
    let scratch = into.join(SCRATCH);
    bench.files.remove_tree(&scratch)?;
    bench.files.make_dir(&scratch, 0o700)?;
    let made = async {
        let new = scratch.join(STORE_FILE);
        let engine = Redb::open(&new).map_err(BackupError::from)?;
        let raised = raise(bundles, Arc::new(engine), bench, old.seq, progress).await?;
        write_down(&wanted, &raised, &old, bench).await?;
        raised.store.close().await;
        Ok::<_, Unproven>(raised)
    };
    let outcome = match made.await {
        Err(Unproven(e)) => Err(BackupFailure::verify(wanted.name, e)),
        Ok(raised) => {
            let Raised {
                store,
                header,
                machine,
                proof,
                ..
            } = raised;
            // The new store is closed before it gets its place.
            drop(store);
            let kept = if wanted.dry_run {
                Ok(None)
            } else {
                if bench.machine.is_none() {
                    let path = into.join(MACHINE_KEY);
                    let text = machine.to_text();
                    bench.files.write_durable(&path, text.as_bytes(), 0o600)?;
                }
                switch(&old, &scratch, into, bench)
            };
            kept.map(|kept| Restored {
                proof,
                kept,
                audit_head: header.audit_head,
                replaced_head: old.head.clone(),
            })
        }
    };
    bench.files.remove_tree(&scratch)?;
    drop(old.engine);
    outcome
}

/// Restores a backup into a store that is empty, as one in a database is before its first start.
pub(super) async fn restore_into(
    engine: Arc<dyn Engine>,
    (name, data_dir, who): (&str, &Path, &Principal),
    bundles: impl Stream<Item = Result<Bundle, BackupError>> + Send + Unpin,
    bench: Bench<'_>,
    progress: Progress<'_>,
) -> Result<Restored, BackupFailure> {
    let old = Old {
        engine: None,
        exists: false,
        seq: 0,
        head: String::new(),
    };
    let wanted = Restore {
        name,
        into: data_dir,
        dry_run: false,
        who,
    };
    let made = async {
        let raised = raise(bundles, engine, bench, old.seq, progress).await?;
        write_down(&wanted, &raised, &old, bench).await?;
        raised.store.close().await;
        Ok::<_, Unproven>(raised)
    };
    let raised = made.await;
    let raised = raised.map_err(|Unproven(e)| BackupFailure::verify(name, e))?;
    if bench.machine.is_none() {
        let text = raised.machine.to_text();
        let path = data_dir.join(MACHINE_KEY);
        bench.files.write_durable(&path, text.as_bytes(), 0o600)?;
    }
    Ok(Restored {
        proof: raised.proof,
        kept: None,
        audit_head: raised.header.audit_head,
        replaced_head: old.head,
    })
}

/// Opens the store that is there, so that no server does.
async fn old(bench: Bench<'_>, into: &Path) -> Result<Old, BackupFailure> {
    let mut old = Old {
        engine: None,
        exists: false,
        seq: 0,
        head: String::new(),
    };
    let path = into.join(STORE_FILE);
    if bench.files.metadata(&path)?.is_none() {
        return Ok(old);
    }
    old.exists = true;
    match Redb::open(&path) {
        Ok(engine) => {
            let minute = Instant::now() + Duration::from_secs(60);
            if let Ok(state) = engine.snapshot(minute).await
                && let Ok(header) = Header::of(&*state, Time::default(), "").await
            {
                old.seq = header.seq;
                old.head = header.audit_head;
            }
            old.engine = Some(engine);
        }
        Err(EngineError::InUse(_)) => {
            return Err(BackupFailure::Refused(format!(
                "a server runs on {}: stop it first, or restore into another directory (--into)",
                into.display()
            )));
        }
        // That it cannot be read is why it is restored.
        Err(error) => tracing::warn!(%error, "the store that is replaced cannot be read"),
    }
    Ok(old)
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
        audit_head: header.audit_head.clone(),
        replaced_head: old.head.clone(),
    };
    match unit.load_opt::<Restoration>(&restoration.id).await? {
        Some(row) => unit.put(row.map(|_| restoration)),
        None => unit.insert(restoration),
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

/// Keeps the old store under another name, then puts the new one in its place by one rename.
fn switch(
    old: &Old,
    scratch: &Path,
    into: &Path,
    bench: Bench<'_>,
) -> Result<Option<PathBuf>, BackupFailure> {
    let place = into.join(STORE_FILE);
    let mut kept = None;
    if old.exists {
        let time = bench.clock.now().to_string().replace(['-', ':'], "");
        let dir = into.join(format!("pre-restore-{time}"));
        bench.files.make_dir(&dir, 0o700)?;
        bench.files.link(&place, &dir.join(STORE_FILE))?;
        let machine = into.join(MACHINE_KEY);
        if bench.files.metadata(&machine)?.is_some() {
            bench.files.link(&machine, &dir.join(MACHINE_KEY))?;
        }
        kept = Some(dir);
    }
    bench.files.rename(&scratch.join(STORE_FILE), &place)?;
    Ok(kept)
}
