//! Places for stores that are on their way.

use super::{BackupFailure, Bench};
use crate::sys::{FileError, Files, Kind, Lock, own_user};
use data_encoding::HEXLOWER;
use std::path::{Path, PathBuf};

/// What the names of such places end in.
const SUFFIX: &str = ".scratch";
/// So many random bytes stand before that.
const OWN: usize = 8;
/// Held in it by who is at work there.
const LOCK: &str = "lock";

/// A directory that nobody could have made before, for its owner alone. Dropped, it is gone; what
/// a crash leaves, [`remove_left`] removes.
pub(super) struct Scratch<'a> {
    files: &'a dyn Files,
    path: PathBuf,
    _lock: Lock,
}

impl<'a> Scratch<'a> {
    /// Makes one within a directory, for a purpose. What crashes left there goes.
    pub fn make(bench: Bench<'a>, within: &Path, what: &str) -> Result<Self, BackupFailure> {
        if let Err(error) = remove_left(bench.files, within) {
            tracing::warn!(%error, "what a crash left of a scratch store was not removed");
        }
        let mut own = [0; OWN];
        bench.rng.fill(&mut own);
        let path = within.join(format!("{what}-{}{SUFFIX}", HEXLOWER.encode(&own)));
        bench.files.make_own_dir(&path)?;
        let lock = Lock::take(&path.join(LOCK))?.ok_or_else(|| {
            BackupFailure::Refused(format!("{} was taken for left: try again", path.display()))
        })?;
        Ok(Self {
            files: bench.files,
            path,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.files.remove_tree(&self.path) {
            tracing::warn!(%error, "a scratch directory stays until the server's next start");
        }
    }
}

/// Whether it is the name of such a place: the directory may be one of everybody's.
fn is_named(name: &str) -> bool {
    let stem = name.strip_suffix(SUFFIX);
    let own = stem.and_then(|stem| stem.rsplit_once('-'));
    own.is_some_and(|(_, own)| {
        HEXLOWER
            .decode(own.as_bytes())
            .is_ok_and(|own| own.len() == OWN)
    })
}

/// Removes from a directory what crashes of this user's processes left of such places.
///
/// # Errors
/// The first that happens; what follows it is left.
pub(in crate::app) fn remove_left(files: &dyn Files, dir: &Path) -> Result<(), FileError> {
    for name in files.list(dir)? {
        let path = dir.join(&name);
        let is_one = name.to_str().is_some_and(is_named)
            && files.read_link(&path)?.is_none()
            && files
                .metadata(&path)?
                .is_some_and(|m| m.kind == Kind::Dir && m.uid == own_user());
        // Whoever is at work there holds it.
        if is_one && let Some(_lock) = Lock::take(&path.join(LOCK))? {
            files.remove_tree(&path)?;
        }
    }
    Ok(())
}
