//! Makes backups.

use super::{
    BackupFailure,
    sink::{Stored, Ways},
};
use crate::{
    app::VERSION,
    clock::Clock,
    config::{BackupConfig, OpenedBy, Sink},
    crypt::{MachineKey, Recipient},
    store::{
        Store,
        backup::{
            BackupError, Header, Hidden, Keys, Lock, Progress, Reader, Since, Writer, capture,
        },
    },
    sys::Pending,
};
use secrecy::ExposeSecret;
use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// A state is held for so long at most: meanwhile the store's file grows.
const LONGEST: Duration = Duration::from_secs(3_600);
/// What the machine's own identity is derived for.
const PURPOSE: &str = "backup identity";

/// Of what a backup is made.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The store.
    pub store: &'a Store,
    /// The machine key that opens its key ring, where that is at hand.
    pub machine: Option<&'a MachineKey>,
    /// The ways to sinks.
    pub ways: Ways<'a>,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Cancelled when the process stops: what is not made then is dropped.
    pub stop: &'a CancellationToken,
}

/// Who can open a backup.
#[derive(Clone)]
pub enum Locking {
    /// Anybody, for the key that opens its secrets is not in it: it can only be restored beside
    /// the machine key.
    WithoutKeys,
    /// Whoever knows a passphrase.
    Passphrase(Zeroizing<String>),
    /// Recipients, and the machine that made it.
    Recipients(Vec<Recipient>),
}

/// The keys of a machine: it opens what it encrypted for recipients.
pub fn keys_of(machine: &MachineKey) -> Keys {
    Keys::default().machine(&machine.derived(PURPOSE))
}

impl Locking {
    /// As configured.
    pub(in crate::app) fn configured(config: &BackupConfig) -> Self {
        match &config.opened_by {
            OpenedBy::Passphrase(text) => {
                Self::Passphrase(Zeroizing::new(text.expose_secret().to_owned()))
            }
            OpenedBy::Recipients(recipients) => Self::Recipients(recipients.clone()),
        }
    }

    /// For whom is to open it, and whoever makes it.
    fn lock(&self, own: &Keys) -> Lock {
        match self {
            Self::WithoutKeys => Lock::Open,
            Self::Passphrase(passphrase) => Lock::Passphrase(passphrase.clone()),
            Self::Recipients(recipients) => {
                let all = recipients.iter().cloned().chain(own.recipients());
                Lock::Recipients(all.collect())
            }
        }
    }

    /// What opens the backup here.
    pub(in crate::app) fn keys(&self, machine: &MachineKey) -> Keys {
        self.with(keys_of(machine))
    }

    fn with(&self, own: Keys) -> Keys {
        match self {
            Self::Passphrase(passphrase) => own.passphrase(passphrase.clone()),
            Self::WithoutKeys | Self::Recipients(_) => own,
        }
    }
}

/// Makes a backup of the present state, or of what came since another, and puts it into a sink.
/// It is read back before it is there under its name.
///
/// # Errors
/// Each says which step failed; nothing is then in the sink under the backup's name, unless S3 did
/// what it was sent and did not say so.
pub async fn create(
    source: Source<'_>,
    sink: &Sink,
    locking: &Locking,
    since: Option<Since>,
    progress: Progress<'_>,
) -> Result<Stored, BackupFailure> {
    let now = source.clock.now();
    let state = source.store.snapshot(Instant::now() + LONGEST).await;
    let state = state.map_err(|e| BackupFailure::of_capture(e.into()))?;
    let header = Header::of(&*state, now, VERSION).await;
    let mut header = header.map_err(BackupFailure::of_capture)?;
    if since.is_some_and(|since| since.seq > header.seq) {
        return Err(BackupFailure::Refused(format!(
            "the store is at {}, which is before what the increment is to follow",
            header.seq
        )));
    }
    header.since = since.map(|since| since.seq);
    if let Some(machine) = source.machine
        && !matches!(locking, Locking::WithoutKeys)
    {
        let text = machine.to_text();
        header.machine_key = Some(Hidden(text.trim_end().to_owned()));
    }
    let mut stored = Stored::of(&header);
    let own = source.machine.map_or_else(Keys::passing, keys_of);
    let lock = locking.lock(&own);
    let pending = sink.begin(source.ways, &stored.name, now)?;
    let written = Arc::new(AtomicU64::new(0));
    let metered = Metered {
        pending,
        written: Arc::clone(&written),
    };
    let captured = async {
        let mut out = Writer::new(metered, &lock, header)?;
        capture(&*state, since, &mut out, progress).await?;
        out.finish()
    };
    let captured = source.stop.run_until_cancelled(captured).await;
    let captured = captured.ok_or(BackupFailure::Stopped)?;
    let (metered, ending) = captured.map_err(|e| match e {
        // What is read is the store's; only what is written is a file.
        BackupError::Io(e) => sink.not_written(source.ways, &e, written.load(Ordering::Relaxed)),
        e => BackupFailure::of_capture(e),
    })?;
    let mut pending = metered.pending;
    drop(state);

    let keys = locking.with(own);
    let bad = |e: String| BackupFailure::verify(&stored.name, e);
    let reread = UntilStopped {
        from: pending.reread()?,
        stop: source.stop,
    };
    let found = Reader::new(reread, &keys).and_then(|reader| reader.verify(|_| {}));
    if source.stop.is_cancelled() {
        return Err(BackupFailure::Stopped);
    }
    let (_, found) = found.map_err(|e| bad(e.to_string()))?;
    if found != ending {
        return Err(bad("it does not hold what was written".to_owned()));
    }
    stored.rows = Some(ending.all_rows());
    stored.bytes = written.load(Ordering::Relaxed);
    sink.place(pending, &stored.name, source.ways).await?;
    Ok(stored)
}

/// Ends when the process stops.
struct UntilStopped<'a, R> {
    from: R,
    stop: &'a CancellationToken,
}

impl<R: Read> Read for UntilStopped<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.stop.is_cancelled() {
            true => Err(io::Error::other("the server stops")),
            false => self.from.read(into),
        }
    }
}

/// Counts what is written.
struct Metered {
    pending: Box<dyn Pending>,
    written: Arc<AtomicU64>,
}

impl Write for Metered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.pending.write(bytes)?;
        self.written.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.pending.flush()
    }
}
