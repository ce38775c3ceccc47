//! The engine of a standalone server: one redb file.

mod commit;
mod look;
mod read;
mod tables;

use super::{
    batch::{Batch, Outcome},
    commit::{LOADING, decide, epoch_start, needs},
    engine::{Answer, Engine, EngineError, Load, Query, Snapshot},
};
use async_trait::async_trait;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    WriteTransaction, backends::FileBackend,
};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tables::{COUNT, COUNTER, FEED, HEAD, IDX, KEYS, META, REC, STREAM};
use tokio::time::Instant;

/// The layout of the tables.
const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// A store in one file, held by one process at a time.
pub struct Redb {
    db: Database,
    /// Those that may still be held, with their deadlines.
    snapshots: Mutex<Vec<Weak<Past>>>,
}

impl Redb {
    /// Opens the store in the file at `path`, or makes it, readable by its owner alone. After a
    /// crash this is also the recovery. Blocks.
    ///
    /// # Errors
    /// [`EngineError::InUse`] while another process has it open; otherwise when the file cannot be
    /// opened, is damaged or of another format.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let store = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Self::open_file(file),
            Err(e) if e.kind() == ErrorKind::NotFound => Self::create(path),
            Err(e) => Err(EngineError::Io(e.to_string())),
        };
        store.map_err(|e| match e {
            EngineError::InUse(_) => EngineError::InUse(path.display().to_string()),
            EngineError::Io(e) => EngineError::Io(format!("{}: {e}", path.display())),
            EngineError::Corrupt(e) => EngineError::Corrupt(format!("{}: {e}", path.display())),
            e => e,
        })
    }

    /// Makes a store beside its place and puts it there when it is whole: a crash or a full disk
    /// on the way leaves nothing that a later start would take for a store.
    fn create(path: &Path) -> Result<Self, EngineError> {
        let failed = |e: io::Error| EngineError::Io(e.to_string());
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        // Emptied only under the lock: another process may be making it right now.
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => EngineError::InUse(String::new()),
            TryLockError::Error(e) => failed(e),
        })?;
        file.set_len(0).map_err(failed)?;
        let store = Self::open_file(file)?;
        // A link, for it never replaces a store that another process has made meanwhile.
        std::fs::hard_link(&new, path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => EngineError::InUse(String::new()),
            _ => failed(e),
        })?;
        std::fs::remove_file(&new).map_err(failed)?;
        // A new file is only durable once its directory is.
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))
            .and_then(|d| d.sync_all())
            .map_err(failed)?;
        Ok(store)
    }

    /// Opens the store in the file at `path` to look at it, as it would be after recovery: whatever
    /// is done with it, the file stays as it is. No other process can open it meanwhile. Blocks.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when there is none.
    pub fn look(path: &Path) -> Result<Self, EngineError> {
        let io = |e: io::Error| EngineError::Io(format!("{}: {e}", path.display()));
        // Nothing is written: its lock is one that a reader cannot take.
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = FileBackend::new(file.map_err(io)?).map_err(engine_error)?;
        let looked = look::Looked::new(file).map_err(io)?;
        if looked.len().map_err(io)? == 0 {
            return Err(EngineError::Corrupt("the file is empty".to_owned()));
        }
        Self::open_on(looked).map_err(|e| match e {
            EngineError::InUse(_) => EngineError::InUse(path.display().to_string()),
            e => e,
        })
    }

    /// Gives back the space of the file at `path` that is not used. Each step is a durable commit.
    /// Blocks.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the file cannot be written.
    pub fn compact(path: &Path) -> Result<(), EngineError> {
        let mut store = Self::open(path)?;
        let compact = || {
            // Each call goes as far as it can; it says whether another may go further.
            while store.db.compact().map_err(engine_error)? {}
            Ok(())
        };
        catch_unwind(AssertUnwindSafe(compact))
            .unwrap_or_else(|_| Err(EngineError::Corrupt("it cannot be compacted".to_owned())))
    }

    /// Reads every page and compares it with its checksum. Blocks. Of a store that was opened by
    /// [`look`](Self::look) the file stays as it is; of another it is repaired.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`] when not every page is as it was written.
    pub fn verify_pages(&mut self) -> Result<(), EngineError> {
        let bad = || EngineError::Corrupt("not every page is as it was written".to_owned());
        match catch_unwind(AssertUnwindSafe(|| self.db.check_integrity())) {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) | Err(_) => Err(bad()),
            Ok(Err(e)) => Err(match engine_error(e) {
                EngineError::Io(e) => EngineError::Corrupt(e),
                e => e,
            }),
        }
    }

    fn open_file(file: File) -> Result<Self, EngineError> {
        Self::open_on(FileBackend::new(file).map_err(engine_error)?)
    }

    /// Opens or makes the store on other storage than a file. Blocks.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(backend: impl StorageBackend) -> Result<Self, EngineError> {
        let open = || {
            let db = Database::builder()
                .set_cache_size(CACHE_BYTES)
                .set_repair_callback(|repair| {
                    tracing::warn!(progress = repair.progress(), "repairing the store");
                })
                .create_with_backend(backend)
                .map_err(engine_error)?;
            let store = Self {
                db,
                snapshots: Mutex::default(),
            };
            store.prepare()?;
            Ok(store)
        };
        // Some kinds of damage make redb panic.
        catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|_| Err(EngineError::Corrupt("it cannot be opened".to_owned())))
    }

    /// Makes the tables of a new store; checks the format of an old one.
    fn prepare(&self) -> Result<(), EngineError> {
        let tx = self.begin()?;
        {
            let mut meta = tx.open_table(META).map_err(engine_error)?;
            let format = meta.get("format").map_err(engine_error)?.map(|f| f.value());
            match format {
                Some(FORMAT) => {
                    let seq = meta
                        .get("seq")
                        .map_err(engine_error)?
                        .map(|seq| seq.value());
                    return if seq == Some(LOADING) {
                        Err(EngineError::HalfLoaded)
                    } else {
                        Ok(())
                    };
                }
                Some(found) => {
                    return Err(EngineError::Format {
                        found,
                        known: FORMAT,
                    });
                }
                None => {}
            }
            meta.insert("format", FORMAT).map_err(engine_error)?;
            meta.insert("seq", epoch_start(1)).map_err(engine_error)?;
            tx.open_table(REC).map_err(engine_error)?;
            tx.open_table(KEYS).map_err(engine_error)?;
            tx.open_table(IDX).map_err(engine_error)?;
            tx.open_table(COUNT).map_err(engine_error)?;
            tx.open_table(FEED).map_err(engine_error)?;
            tx.open_table(COUNTER).map_err(engine_error)?;
            tx.open_table(STREAM).map_err(engine_error)?;
            tx.open_table(HEAD).map_err(engine_error)?;
        }
        tx.commit().map_err(engine_error)
    }

    /// How many bytes of the file are in use. Walks the whole store, which takes no commits
    /// meanwhile. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn used_bytes(&self) -> Result<u64, EngineError> {
        let tx = self.begin()?;
        let stats = tx.stats().map_err(engine_error)?;
        tx.abort().map_err(engine_error)?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    }

    fn begin(&self) -> Result<WriteTransaction, EngineError> {
        let mut tx = self.db.begin_write().map_err(engine_error)?;
        tx.set_durability(Durability::Immediate)
            .map_err(engine_error)?;
        tx.set_quick_repair(true);
        Ok(tx)
    }

    /// Lets go of snapshots past their deadline: only commits need the space they keep.
    fn end_snapshots(&self) {
        let mut held = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.retain(|past| past.upgrade().is_some_and(|past| past.lives()));
    }
}

/// A read transaction until its deadline.
struct Past {
    tx: Mutex<Option<Arc<ReadTransaction>>>,
    deadline: Instant,
}

impl Past {
    /// Whether the deadline is still to come; ends the transaction when it is not.
    fn lives(&self) -> bool {
        let lives = Instant::now() < self.deadline;
        if !lives {
            self.tx
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
        lives
    }
}

#[async_trait]
impl Snapshot for Arc<Past> {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        self.lives();
        let tx = self
            .tx
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let tx = tx.ok_or(EngineError::SnapshotEnded)?;
        questions
            .into_iter()
            .map(|q| read::answer(&tx, q))
            .collect()
    }
}

#[async_trait]
impl Engine for Redb {
    /// Reads inline: from a warm cache that takes microseconds a row.
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        let tx = self.db.begin_read().map_err(engine_error)?;
        questions
            .into_iter()
            .map(|q| read::answer(&tx, q))
            .collect()
    }

    /// Blocks until the disk has it: for the committer's own thread.
    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        self.end_snapshots();
        let tx = self.begin()?;
        let facts = commit::facts(&tx, &needs(group))?;
        let (changes, outcomes) = decide(group, facts);
        match changes {
            Some(changes) => {
                commit::apply(&tx, changes)?;
                tx.commit().map_err(engine_error)?;
            }
            None => tx.abort().map_err(engine_error)?,
        }
        Ok(outcomes)
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        let tx = self.db.begin_read().map_err(engine_error)?;
        let past = Arc::new(Past {
            tx: Mutex::new(Some(Arc::new(tx))),
            deadline,
        });
        let mut held = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.retain(|past| past.strong_count() > 0);
        held.push(Arc::downgrade(&past));
        Ok(Box::new(past))
    }

    /// Blocks, at the part that ends the load until the disk has all of it.
    async fn load(&self, part: Load) -> Result<(), EngineError> {
        let mut tx = self.begin()?;
        if part.last.is_none() {
            tx.set_durability(Durability::None).map_err(engine_error)?;
        }
        commit::load(&tx, part)?;
        tx.commit().map_err(engine_error)
    }
}

fn engine_error(error: impl Into<redb::Error>) -> EngineError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => EngineError::InUse("file".to_owned()),
        redb::Error::Corrupted(reason) => EngineError::Corrupt(reason),
        redb::Error::Io(e) if e.kind() == ErrorKind::InvalidData => {
            EngineError::Corrupt(e.to_string())
        }
        other => EngineError::Io(other.to_string()),
    }
}
