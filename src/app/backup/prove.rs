//! Proves backups: by reading them, and by restoring them into a scratch store.

use super::{BackupFailure, Unproven, create::keys_of, scratch::Scratch};
use crate::{
    app::{
        birth::{EARLIEST, key_place},
        known,
    },
    clock::{Clock, Rng, Time},
    crypt::{KeyRing, MachineKey, PrivateKey, RingError, Sealed},
    domain::CaNode,
    pki::{Certificate, Signer},
    store::{
        AUDIT, COLLECTIONS, Committer, Engine, Loaded as Row, Redb, RingRow, Store,
        backup::{BackupError, Ending, Header, Keys, Loaded, Progress, Reader, compare, load},
        next_life,
    },
    sys::Files,
};
use futures_util::Stream;
use std::{io::Read, path::Path, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A scratch store is compared within this.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A bundle that is being read.
pub type Bundle = Reader<Box<dyn Read + Send>>;

/// What a restore has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// When the state was the present.
    pub created_at: Time,
    /// The version of the program that made the backup.
    pub product: String,
    /// The last sequence number in it.
    pub seq: u64,
    /// Rows that were restored and indexed; of one bundle.
    pub rows: Option<u64>,
    /// Audit events whose links hold.
    pub audit_entries: u64,
    /// CA keys that were opened, fit their certificates, and signed.
    pub ca_keys: u64,
}

/// Reads a backup to its end.
///
/// # Errors
/// When it is damaged, cannot be opened, or was written by a later version.
pub fn verify(
    name: &str,
    from: Box<dyn Read + Send>,
    keys: &Keys,
    progress: Progress<'_>,
) -> Result<(Header, Ending), BackupFailure> {
    Reader::new(from, keys)
        .and_then(|reader| reader.verify(progress))
        .map_err(|e| Unproven::from(e).of(name))
}

/// A store that was made of bundles.
pub(super) struct Raised {
    pub store: Store,
    /// The bundles' last header, with the newest machine key.
    pub header: Header,
    /// What opens its key ring.
    pub machine: MachineKey,
    pub ring: Row<RingRow>,
    pub nodes: Vec<Row<CaNode>>,
    pub proof: Proof,
}

/// What a store is raised with.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The machine's files.
    pub files: &'a dyn Files,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Random bytes.
    pub rng: &'a dyn Rng,
    /// The machine key beside which it is done.
    pub machine: Option<&'a MachineKey>,
}

impl Bench<'_> {
    pub(super) fn commit_id(&self) -> u128 {
        let mut id = [0; 16];
        self.rng.fill(&mut id);
        u128::from_be_bytes(id)
    }

    /// What opens bundles here, beside what somebody brings.
    pub fn keys(&self, brought: Keys) -> Keys {
        match self.machine {
            Some(machine) => brought.and(keys_of(machine)),
            None => brought,
        }
    }
}

/// Restores a backup into a scratch store below `scratch`, which is removed, and looks at all of
/// it: indexes, the audit log's links, the key ring, every CA's key.
///
/// # Errors
/// When any of it is not as it should be.
pub async fn prove(
    name: &str,
    bundles: impl Stream<Item = Result<Bundle, BackupError>> + Send + Unpin,
    bench: Bench<'_>,
    scratch: &Path,
    progress: Progress<'_>,
) -> Result<Proof, BackupFailure> {
    let scratch = Scratch::make(bench, scratch, "verify")?;
    let raised = async {
        let engine = Redb::open(&scratch.path().join("scratch.redb"))?;
        raise(bundles, Arc::new(engine), bench, 0, progress).await
    };
    let raised = raised.await.map_err(|e: Unproven| e.of(name))?;
    raised.store.close().await;
    Ok(raised.proof)
}

/// Makes a store of bundles, in an empty engine: in an epoch after its own and that of `before`.
pub(super) async fn raise(
    bundles: impl Stream<Item = Result<Bundle, BackupError>> + Send + Unpin,
    engine: Arc<dyn Engine>,
    bench: Bench<'_>,
    before: u64,
    progress: Progress<'_>,
) -> Result<Raised, Unproven> {
    // Where the store before it is not there to be asked, as on a new machine, the time tells the
    // lives of a store apart that was restored from one backup again and again.
    let present = bench.clock.now().since(EARLIEST);
    let epoch = |header: &Header| next_life(header.seq.max(before), present);
    let loaded = load(bundles, &*engine, epoch, progress).await?;
    let state = engine.snapshot(Instant::now() + LONGEST).await;
    let state = state?;
    compare(&*state, &loaded).await?;
    drop(state);
    let Loaded { header, ending } = loaded;

    let store = Store::start(engine, Committer::Inline, Box::new(|_| {}))
        .map_err(|e| Unproven::Unread(e.to_string()))?;
    let now = bench.clock.now();
    let indexed = store.build_indexes(COLLECTIONS, now, || bench.commit_id());
    indexed.await?;
    let audit_entries = store.verify_stream(AUDIT).await?;

    let ring = store.get::<RingRow>(&known("ring")).await?;
    let ring = ring.ok_or_else(|| Unproven::Bad("it holds no key ring".to_owned()))?;
    let (machine, opened) = opened(&ring, &header, bench.machine)?;
    let nodes = store.every::<CaNode>().await?;
    let mut ca_keys = 0;
    for node in &nodes {
        if sign(node, &opened).await? {
            ca_keys += 1;
        }
    }
    let proof = Proof {
        created_at: header.created_at,
        product: header.product.clone(),
        seq: header.seq,
        rows: ending.map(|ending| ending.all_rows()),
        audit_entries,
        ca_keys,
    };
    Ok(Raised {
        store,
        header,
        machine,
        ring,
        nodes,
        proof,
    })
}

/// The key ring, opened by the machine key in the bundle, or by that of this machine.
fn opened(
    ring: &RingRow,
    header: &Header,
    local: Option<&MachineKey>,
) -> Result<(MachineKey, KeyRing), Unproven> {
    let brought = header.machine_key.as_ref();
    let brought = brought.map(|key| MachineKey::from_text(&key.0));
    let machine = match (brought, local) {
        (Some(brought), _) => brought?,
        (None, Some(local)) => MachineKey::from_text(&local.to_text())?,
        (None, None) => {
            let why = "it was made without keys, and there is no machine.key here that opens its \
                       secrets";
            return Err(Unproven::Bad(why.to_owned()));
        }
    };
    match KeyRing::open_ring(&ring.ring, &machine) {
        Ok(opened) => Ok((machine, opened)),
        Err(RingError::WrongKey) => {
            let why = "it was made without keys, and the machine.key here is another than the one \
                       that its secrets were sealed with";
            Err(Unproven::Bad(why.to_owned()))
        }
        Err(e) => Err(e.into()),
    }
}

/// Whether a CA's key is held; then it was opened, fits its certificate, and signed.
async fn sign(node: &CaNode, ring: &KeyRing) -> Result<bool, Unproven> {
    const MESSAGE: &[u8] = b"certctl proves a backup";
    if node.sealed_key.is_empty() {
        return Ok(false);
    }
    let bad = |what: &str| Unproven::Bad(format!("the CA {}: {what}", node.id));
    let sealed: Sealed = node.sealed_key.parse()?;
    let key = ring.open(key_place(node.id.as_str()), &sealed);
    let key = key.map_err(|e| bad(&e.to_string()))?;
    let key = PrivateKey::from_pkcs8_der(&key).map_err(|e| bad(&e.to_string()))?;
    let certificate = Certificate::from_pem(&node.certificate_pem);
    let certificate = certificate.map_err(|e| bad(&e.to_string()))?;
    let signature = key.sign(MESSAGE).await.map_err(|e| bad(&e.to_string()))?;
    if certificate.public_key().has_signed(MESSAGE, &signature) {
        Ok(true)
    } else {
        Err(bad("its key does not fit its certificate"))
    }
}
