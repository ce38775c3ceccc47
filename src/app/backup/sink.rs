//! Where backups go.

use super::{
    BackupFailure,
    s3::{Place, S3Access, S3Error},
};
use crate::{
    clock::{Clock, Time},
    config::Sink,
    store::backup::{BEGINNING, Header, begins},
    sys::{FileError, Files, Kind, Lock, Pending, TEMP_PREFIX, size},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Read},
    path::Path,
    time::Duration,
};

/// For the owner alone.
const MODE: u32 = 0o600;
const PREFIX: &str = "certctl-";
const FULL: &str = ".backup";
const INCREMENT: &str = ".increment";
/// Follows a backup's name where it is noted that it was proven.
const PROVEN: &str = ".proven";
/// So many digits of a store's name stand in the names of its backups.
const SHORT: usize = 12;
/// The longest such note, in bytes.
const MAX_NOTE: usize = 4 << 10;
/// What a backup is first written to is dead when nobody holds it and nobody wrote to it for so
/// long: not every file system in a network knows who holds what.
const DEAD_AFTER: Duration = Duration::from_secs(3_600);

/// So far may clocks differ, of machines that share a sink and of one whose clock was set back.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3_600);

/// The ways to sinks.
#[derive(Clone, Copy)]
pub struct Ways<'a> {
    /// The machine's files.
    pub files: &'a dyn Files,
    /// The way to S3, where one is configured.
    pub s3: Option<&'a S3Access>,
    /// A directory for what is on its way.
    pub spool: &'a Path,
    /// The time: what says that it comes from much later counts for nothing.
    pub clock: &'a dyn Clock,
}

/// A backup in a sink, as far as its name says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// When the state that it holds was the present.
    pub created_at: Time,
    /// The last sequence number of that state.
    pub seq: u64,
    /// The audit log's length.
    pub audit_entries: u64,
    /// Names the store that it is of, as the beginning of [`Header::store`]; nothing where the name
    /// does not say.
    #[serde(default)]
    pub store: String,
    /// It holds only what came since another.
    pub increment: bool,
    /// Its size.
    pub bytes: u64,
    /// The rows in it; known to who made it.
    pub rows: Option<u64>,
    /// What it was last proven by.
    pub proven: Option<Proven>,
    /// Why it does not count, though it is called as a backup is.
    #[serde(default)]
    pub doubt: Option<Doubt>,
}

/// Why what is called as a backup is counts for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doubt {
    /// It begins otherwise.
    NoBackup,
    /// Its name gives a moment that will not come for an hour.
    OfLater,
}

impl Doubt {
    /// What is wrong, and what to do about it.
    pub fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::NoBackup => (
                "it is no backup of certctl, or its beginning is damaged",
                "copy the whole file there again, or remove it",
            ),
            Self::OfLater => (
                "its name gives a moment that is still to come, by more than an hour",
                "see that the clocks are right, then give it its own name again, or remove it",
            ),
        }
    }
}

/// A note that a backup is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// When that was seen.
    pub at: Time,
    /// It was restored to see it, not only read.
    pub restored: bool,
}

impl Stored {
    /// What a state's backup is called.
    pub fn of(header: &Header) -> Self {
        let at = header.created_at.whole_seconds();
        let time: String = at.to_string().replace(['-', ':'], "");
        let (seq, entries) = (header.seq, header.audit_entries);
        let increment = header.since.is_some();
        let kind = if increment { INCREMENT } else { FULL };
        let store = short(&header.store);
        let of = if store.is_empty() { "" } else { "-" };
        let name = format!("{PREFIX}{time}-{seq}-{entries}{of}{store}{kind}");
        Self::named(name, at, (seq, entries, store), increment)
    }

    /// Whether it counts as a backup: there is nothing that speaks against it.
    pub fn counts(&self) -> bool {
        self.doubt.is_none()
    }

    /// Whether it may be restored from: what its name says of the time speaks against the clock of
    /// the machine that looks as much as against it.
    pub fn may_be_read(&self) -> bool {
        self.doubt != Some(Doubt::NoBackup)
    }

    /// Whether it is of the same store as another, as far as their names say.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.is_of(&other.store)
    }

    /// Whether it is of this store, as far as its name says.
    pub fn is_of(&self, store: &str) -> bool {
        let store = short(store);
        self.store.is_empty() || store.is_empty() || self.store == store
    }

    /// The backup of a name.
    pub fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let (rest, increment) = match rest.strip_suffix(FULL) {
            Some(rest) => (rest, false),
            None => (rest.strip_suffix(INCREMENT)?, true),
        };
        let mut parts = rest.split('-');
        let at = parts.next()?.parse().ok()?;
        let seq = parts.next()?.parse().ok()?;
        let entries = parts.next()?.parse().ok()?;
        let store = parts.next().unwrap_or_default();
        let whole = parts.next().is_none() && store == short(store);
        whole.then(|| Self::named(name.to_owned(), at, (seq, entries, store), increment))
    }

    /// What its name says of a backup, and nothing else yet.
    fn named(
        name: String,
        created_at: Time,
        (seq, audit_entries, store): (u64, u64, &str),
        increment: bool,
    ) -> Self {
        Self {
            name,
            created_at,
            seq,
            audit_entries,
            store: store.to_owned(),
            increment,
            bytes: 0,
            rows: None,
            proven: None,
            doubt: None,
        }
    }
}

impl Sink {
    pub(in crate::app) fn failed(&self, e: impl ToString) -> BackupFailure {
        BackupFailure::Sink {
            sink: self.to_string(),
            reason: e.to_string(),
        }
    }

    /// What S3 did not do; where the process stops, that is no fault of the sink.
    fn not_done(&self, e: S3Error) -> BackupFailure {
        match e {
            S3Error::Stopped => BackupFailure::Stopped,
            e => self.failed(e),
        }
    }

    /// The place in S3 of a sink that is there.
    fn place_in<'a>(
        &'a self,
        ways: Ways<'a>,
        bucket: &str,
        prefix: &'a str,
    ) -> Result<Place<'a>, BackupFailure> {
        let access = ways.s3.ok_or_else(|| {
            self.failed("set CERTCTL_BACKUP_S3_ENDPOINT to the address of the service")
        })?;
        access.place(bucket, prefix).map_err(|e| self.failed(e))
    }

    /// Begins a backup: where it will be, when that is on this machine. What killed ones left there
    /// goes.
    pub(super) fn begin(
        &self,
        ways: Ways<'_>,
        name: &str,
        now: Time,
    ) -> Result<Box<dyn Pending>, BackupFailure> {
        let begun = match self {
            Self::Dir(dir) => {
                let made = ways.files.make_dir(dir, 0o700);
                made.and_then(|()| {
                    if let Err(error) = remove_dead(ways.files, dir, now) {
                        tracing::warn!(%error, "what a killed backup left is still there");
                    }
                    ways.files.begin(&dir.join(name), MODE)
                })
            }
            Self::S3 { .. } => ways.files.begin(&ways.spool.join(name), MODE),
        };
        begun.map_err(|e| self.failed(e))
    }

    /// Why a backup was not written to its end, of which so many bytes were.
    pub(super) fn not_written(&self, ways: Ways<'_>, e: &io::Error, written: u64) -> BackupFailure {
        let full = matches!(
            e.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        let (place, way_out) = match self {
            Self::Dir(dir) => (dir.as_path(), "or name another sink"),
            Self::S3 { .. } => (ways.spool, "where a backup is written before it is sent"),
        };
        let place = place.display();
        self.failed(match full {
            true => format!(
                "no space is left in {place} after {} of the backup: free at least as much as the \
                 last one took, {way_out}",
                size(written)
            ),
            false => format!("{place} cannot be written: {e}"),
        })
    }

    /// Puts a whole backup under its name.
    pub(super) async fn place(
        &self,
        mut pending: Box<dyn Pending>,
        name: &str,
        ways: Ways<'_>,
    ) -> Result<(), BackupFailure> {
        match self {
            Self::Dir(_) => pending.place().map_err(|e| self.failed(e)),
            Self::S3 { bucket, prefix } => {
                let place = self.place_in(ways, bucket, prefix)?;
                let written = pending.reread()?;
                let put = place.put(name, written).await;
                put.map(drop).map_err(|e| self.not_done(e))
            }
        }
    }

    /// The backups in it, oldest first. One that nothing was put into yet holds none: the first
    /// backup makes it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn held(&self, ways: Ways<'_>) -> Result<Vec<Stored>, BackupFailure> {
        let missing = match self {
            Self::Dir(dir) => ways.files.metadata(dir).is_ok_and(|found| found.is_none()),
            Self::S3 { .. } => false,
        };
        match missing {
            true => Ok(Vec::new()),
            false => self.list(ways).await,
        }
    }

    /// The backups in it, oldest first.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    pub async fn list(&self, ways: Ways<'_>) -> Result<Vec<Stored>, BackupFailure> {
        let mut found = match self {
            Self::Dir(dir) => listed(ways.files, dir).map_err(|e| self.failed(e))?,
            Self::S3 { bucket, prefix } => {
                let place = self.place_in(ways, bucket, prefix)?;
                in_bucket(&place).await.map_err(|e| self.not_done(e))?
            }
        };
        let latest = ways.clock.now().plus(CLOCKS_DIFFER);
        for stored in &mut found {
            if stored.created_at > latest {
                stored.doubt = Some(Doubt::OfLater);
            }
        }
        found.sort_by_key(|stored| (stored.created_at, stored.seq));
        Ok(found)
    }

    /// Opens a backup.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub async fn open(
        &self,
        ways: Ways<'_>,
        name: &str,
    ) -> Result<Box<dyn Read + Send>, BackupFailure> {
        match self {
            Self::Dir(dir) => ways.files.open(&dir.join(name)).map_err(|e| self.failed(e)),
            Self::S3 { bucket, prefix } => {
                let place = self.place_in(ways, bucket, prefix)?;
                let mut pending = ways.files.begin(&ways.spool.join(name), MODE)?;
                let fetched = place.fetch(name, &mut *pending).await;
                fetched.map_err(|e| self.not_done(e))?;
                Ok(pending.reread()?)
            }
        }
    }

    /// Notes that a backup was proven. That it was read says less than that it was restored, and
    /// does not take the place of that.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn note(
        &self,
        ways: Ways<'_>,
        name: &str,
        proven: &Proven,
    ) -> Result<(), BackupFailure> {
        let bytes = serde_json::to_vec(proven).map_err(|e| self.failed(e))?;
        let restored = |noted: Option<Proven>| noted.is_some_and(|noted| noted.restored);
        match self {
            Self::Dir(dir) => {
                if !proven.restored && restored(noted(ways.files, dir, name)) {
                    return Ok(());
                }
                let note = dir.join(note_of(name));
                let written = ways.files.write_durable(&note, &bytes, MODE);
                written.map_err(|e| self.failed(e))
            }
            Self::S3 { bucket, prefix } => {
                let place = self.place_in(ways, bucket, prefix)?;
                let put = async {
                    if !proven.restored && restored(noted_in_bucket(&place, name).await?) {
                        return Ok(());
                    }
                    let put = place.put_bytes(&note_of(name), bytes.into()).await;
                    put.map(drop)
                };
                put.await.map_err(|e| self.not_done(e))
            }
        }
    }

    /// Removes a backup, and what was noted of it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, ways: Ways<'_>, name: &str) -> Result<(), BackupFailure> {
        for name in [name.to_owned(), note_of(name)] {
            match self {
                Self::Dir(dir) => {
                    let removed = ways.files.remove(&dir.join(name));
                    removed.map_err(|e| self.failed(e))?;
                }
                Self::S3 { bucket, prefix } => {
                    let place = self.place_in(ways, bucket, prefix)?;
                    place.delete(&name).await.map_err(|e| self.not_done(e))?;
                }
            }
        }
        Ok(())
    }
}

/// As much of a store's name as stands in the names of its backups: two stores hardly share it.
fn short(store: &str) -> &str {
    let hex = store.bytes().take_while(u8::is_ascii_hexdigit).count();
    &store[..hex.min(SHORT)]
}

fn note_of(name: &str) -> String {
    format!("{name}{PROVEN}")
}

async fn in_bucket(place: &Place<'_>) -> Result<Vec<Stored>, S3Error> {
    let objects = place.list().await?;
    let mut found = Vec::new();
    for object in &objects {
        let Some(mut stored) = Stored::parse(&object.name) else {
            continue;
        };
        stored.bytes = object.bytes;
        let note = note_of(&stored.name);
        if objects.iter().any(|o| o.name == note) {
            stored.proven = noted_in_bucket(place, &stored.name).await?;
        }
        // Of increments there may be thousands: a call for each would take minutes.
        let start = match object.bytes {
            0 => Some(Bytes::new()),
            _ if stored.increment => None,
            _ => match place.beginning(&stored.name, BEGINNING).await {
                Ok(start) => Some(start),
                Err(S3Error::Stopped) => return Err(S3Error::Stopped),
                // Only others may read it.
                Err(_) => None,
            },
        };
        let other = start.is_some_and(|start| !begins(&start));
        stored.doubt = other.then_some(Doubt::NoBackup);
        found.push(stored);
    }
    Ok(found)
}

/// What was noted of a backup, where that can be read.
async fn noted_in_bucket(place: &Place<'_>, name: &str) -> Result<Option<Proven>, S3Error> {
    let note = place.get(&note_of(name)).await?;
    Ok(note.and_then(|note| serde_json::from_slice(&note).ok()))
}

/// What was noted of a backup, where that can be read.
fn noted(files: &dyn Files, dir: &Path, name: &str) -> Option<Proven> {
    let note = files.read(&dir.join(note_of(name)), MAX_NOTE).ok()?;
    serde_json::from_slice(&note).ok()
}

fn listed(files: &dyn Files, dir: &Path) -> Result<Vec<Stored>, FileError> {
    let mut found = Vec::new();
    for name in files.list(dir)? {
        let Some(stored) = name.to_str().and_then(Stored::parse) else {
            continue;
        };
        let Some(about) = files.metadata(&dir.join(&name))? else {
            continue;
        };
        // It may have become another file since it was proven. What is another user's cannot be
        // looked at.
        let other = match about.kind {
            Kind::File => start_of(files, &dir.join(&name)).is_some_and(|start| !begins(&start)),
            Kind::Dir | Kind::Other => true,
        };
        found.push(Stored {
            bytes: about.len,
            proven: noted(files, dir, &stored.name),
            doubt: other.then_some(Doubt::NoBackup),
            ..stored
        });
    }
    Ok(found)
}

/// The first bytes of a file, where they can be read.
fn start_of(files: &dyn Files, path: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    let file = files.open(path).ok()?;
    let read = file.take(BEGINNING as u64).read_to_end(&mut start);
    read.ok().map(|_| start)
}

/// Removes what killed backups left in a directory where others may be at work. What cannot be
/// removed is in nobody's way; the last such is told.
fn remove_dead(files: &dyn Files, dir: &Path, now: Time) -> Result<(), FileError> {
    let alive = (i128::from(now.micros()) - DEAD_AFTER.as_micros() as i128) * 1_000;
    let remove = |path: &Path| {
        let is_one = files.read_link(path)?.is_none()
            && files
                .metadata(path)?
                .is_some_and(|m| m.kind == Kind::File && m.modified < alive);
        // Whoever writes to it holds it.
        if is_one && let Some(_lock) = Lock::take(path)? {
            files.remove(path)?;
        }
        Ok(())
    };
    let mut removed = Ok(());
    for name in files.list(dir)? {
        if name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
            removed = remove(&dir.join(&name)).and(removed);
        }
    }
    removed
}
