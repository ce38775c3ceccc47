//! A disk that forgets: what was written but not synced may be there after a power loss, or not,
//! or in part.

use redb::StorageBackend;
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

/// Bytes lost and kept together, as a sector is.
const SECTOR: usize = 512;

/// What becomes of unsynced writes when the power goes.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    /// All are lost.
    All,
    /// None is.
    None,
    /// Each sector of each by the throw of a coin.
    Torn(u64),
}

/// A disk that can be looked at as if the power had gone. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LosingDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    /// With all writes.
    now: Vec<u8>,
    unsynced: Vec<Write>,
    /// Images to take at each sync before it takes effect.
    losses: Vec<Loss>,
    images: Vec<Vec<u8>>,
    /// So many more changes and syncs are done, where that is bounded; then each fails.
    left: Option<usize>,
}

#[derive(Debug)]
enum Write {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

impl LosingDisk {
    /// A disk that was found as `image`.
    pub fn found(image: Vec<u8>) -> Self {
        let state = State {
            synced: image.clone(),
            now: image,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Does so many changes and syncs, and then fails at each as a disk does: EIO.
    pub fn fail_after(&self, steps: usize) {
        self.state().left = Some(steps);
    }

    /// A change or a sync, unless it fails.
    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if let Some(left) = &mut state.left {
            let rest = left.checked_sub(1);
            *left = rest.ok_or_else(|| io::Error::from_raw_os_error(5))?;
        }
        Ok(state)
    }

    /// Takes images at every sync from now on, one for each way to lose the power just then.
    pub fn watch(&self, losses: Vec<Loss>) {
        self.state().losses = losses;
    }

    /// The images taken since the last call.
    pub fn images(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state().images)
    }

    /// What is found when the power goes now.
    pub fn lose_power(&self, loss: Loss) -> Vec<u8> {
        self.state().image(loss)
    }
}

impl State {
    fn image(&self, loss: Loss) -> Vec<u8> {
        let mut coin = match loss {
            Loss::All => return self.synced.clone(),
            Loss::None => return self.now.clone(),
            Loss::Torn(seed) => seed | 1,
        };
        let mut image = self.synced.clone();
        for write in &self.unsynced {
            match write {
                Write::Length(length) => {
                    if heads(&mut coin) || *length > image.len() {
                        image.resize(*length, 0);
                    }
                }
                Write::Bytes(offset, bytes) => {
                    let mut at = *offset;
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let sector = (SECTOR - at % SECTOR).min(rest.len());
                        let (part, left) = rest.split_at(sector);
                        if heads(&mut coin) && at + sector <= image.len() {
                            image[at..at + sector].copy_from_slice(part);
                        }
                        at += sector;
                        rest = left;
                    }
                }
            }
        }
        image
    }
}

/// Xorshift.
fn heads(state: &mut u64) -> bool {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 63 == 1
}

impl StorageBackend for LosingDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, offset) = (self.state(), offset as usize);
        let from = state.now.get(offset..offset + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, len) = (self.step()?, len as usize);
        state.now.resize(len, 0);
        state.unsynced.push(Write::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.step()?;
        let images: Vec<_> = state.losses.iter().map(|loss| state.image(*loss)).collect();
        state.images.extend(images);
        state.synced = state.now.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut state, offset) = (self.step()?, offset as usize);
        state.now[offset..offset + data.len()].copy_from_slice(data);
        state.unsynced.push(Write::Bytes(offset, data.to_vec()));
        Ok(())
    }
}
