//! A file that is looked at and stays as it is: what redb writes to it when it recovers, repairs
//! or checks is kept in memory and forgotten.

use redb::{BackendError, StorageBackend, backends::FileBackend};
use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What is written is kept in pieces of so many bytes.
const PIECE: u64 = 4096;

/// A file beneath what was written over it.
#[derive(Debug)]
pub struct Looked {
    file: FileBackend,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    /// So many bytes of the file still count.
    below: u64,
    pieces: BTreeMap<u64, Box<[u8]>>,
}

impl Looked {
    pub fn new(file: FileBackend) -> io::Result<Self> {
        let len = file.len()?;
        let over = Over {
            len,
            below: len,
            pieces: BTreeMap::new(),
        };
        Ok(Self {
            file,
            over: Mutex::new(over),
        })
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file has at `offset`; zeros after its end.
    fn beneath(&self, over: &Over, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = over.below.saturating_sub(offset).min(out.len() as u64);
        let (there, after) = out.split_at_mut(usize::try_from(there).unwrap_or(usize::MAX));
        after.fill(0);
        if there.is_empty() {
            return Ok(());
        }
        self.file.read(offset, there)
    }
}

/// The parts of `len` bytes at `offset`, by piece: its number, where in it, where in the bytes, and
/// how many.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done as u64;
        // Less than a piece, which is few bytes.
        let within = (at % PIECE) as usize;
        let n = (PIECE as usize - within).min(len - done);
        let part = (at / PIECE, within, done, n);
        done += n;
        Some(part)
    })
}

impl StorageBackend for Looked {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over();
        if offset.saturating_add(out.len() as u64) > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.beneath(&over, offset, out)?;
        for (number, within, at, n) in parts(offset, out.len()) {
            if let Some(piece) = over.pieces.get(&number) {
                out[at..at + n].copy_from_slice(&piece[within..within + n]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.over();
        over.below = over.below.min(len);
        over.len = len;
        over.pieces.retain(|number, _| number * PIECE < len);
        // What stood after the new end is not to come back.
        let end = (len % PIECE) as usize;
        if let Some(piece) = over.pieces.get_mut(&(len / PIECE)) {
            piece[end..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over();
        for (number, within, at, n) in parts(offset, data.len()) {
            if !over.pieces.contains_key(&number) {
                let mut piece = vec![0; PIECE as usize];
                self.beneath(&over, number * PIECE, &mut piece)?;
                over.pieces.insert(number, piece.into());
            }
            if let Some(piece) = over.pieces.get_mut(&number) {
                piece[within..within + n].copy_from_slice(&data[at..at + n]);
            }
        }
        over.len = over.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
