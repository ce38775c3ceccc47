//! The machine key made anew, of a store that no server has open.
//!
//! Whatever lies at its place opens the store, at each moment: the ring opens by the old key until
//! the new one is in place, and by the new one before it is. So it can be cut anywhere, and running
//! it again goes on.

use super::{
    AppError,
    birth::KeyPlace,
    secrets::{Secrets, of_ring},
};
use crate::{
    crypt::{KeyRing, MachineKey, RingDoc, RingError},
    sys::{FileError, Files, Owner},
};
use std::path::Path;

impl Secrets<'_> {
    /// Makes a new machine key and puts it in the place of the old one; then nothing but the new one
    /// opens the ring.
    ///
    /// # Errors
    /// When the present key does not open the ring, or the store or a file fails.
    pub async fn rotate_machine_key(
        &self,
        files: &dyn Files,
        place: &Path,
    ) -> Result<(), AppError> {
        let next = place.with_extension("key.next");
        let fresh = MachineKey::generate(self.rng);
        write_beside(files, &next, place, &fresh).map_err(of_file)?;
        // What is on the disk is what counts from here on.
        let read = |file: &Path| -> Result<MachineKey, AppError> {
            let place = KeyPlace { given: None, file };
            let key = place
                .read(files)
                .map_err(|e| AppError::Store(e.to_string()))?;
            key.ok_or_else(|| AppError::Store(format!("{place} is gone")))
        };
        let new = read(&next)?;
        let both = |ring: &RingDoc| KeyRing::with_slot(ring, self.machine, &new, self.rng);
        let ring = self.change_ring(both, "machine_key_added", |event, _| event);
        KeyRing::open_ring(&ring.await?, &new).map_err(of_ring)?;
        files.rename(&next, place).map_err(of_file)?;
        // One that has started meanwhile may have the old key.
        if !self.store.others().await?.is_empty() {
            return Err(AppError::Conflict(
                "a server has started meanwhile, so both keys open the ring: stop it, and run this again"
                    .into(),
            ));
        }
        let new = read(place)?;
        let alone = |ring: &RingDoc| -> Result<RingDoc, RingError> {
            let alone = KeyRing::alone(ring, &new, self.rng)?;
            KeyRing::open_ring(&alone, &new).map(|_| alone)
        };
        let rotated = self.change_ring(alone, "machine_key_rotated", |event, _| event);
        rotated.await.map(drop)
    }
}

/// Writes a key for whoever owns the one that it is to take the place of: who does this is not
/// always the user that the server runs as.
fn write_beside(
    files: &dyn Files,
    next: &Path,
    place: &Path,
    key: &MachineKey,
) -> Result<(), FileError> {
    const MODE: u32 = 0o600;
    files.remove(next)?;
    let text = key.to_text();
    match files.metadata(place)? {
        Some(old) => {
            let (uid, gid) = (old.uid, old.gid);
            files.write_owned(next, text.as_bytes(), MODE, Owner { uid, gid })
        }
        None => files.write_durable(next, text.as_bytes(), MODE),
    }
}

fn of_file(e: FileError) -> AppError {
    AppError::Store(e.to_string())
}
