//! The paths under which other software reads a certificate, when it has paths of its own.
//!
//! Each becomes a symbolic link into `<state>/deploy/<target>/current`, which is itself a link to a
//! version's directory: certificate, key and chain change together, in one rename. What stood there
//! at first is kept as it was. It is also made a directory of the same shape, and the paths become
//! links while `current` leads to that one, so that they lead to the old bytes until the one
//! rename, also when a crash comes between.

use super::{Before, Fault, Pair, Paths, Unverified, Vault, VersionRef, relative};
use crate::{
    id::Id,
    sys::{FileError, Files, Kind, Owner},
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const MAX_BYTES: usize = 256 * 1024;

/// What stood at one of a target's paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The path.
    pub path: PathBuf,
    /// What stood there.
    pub stood: Stood,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stood {
    /// The link into the target's `current`.
    Ours,
    /// Nothing.
    Nothing,
    /// A regular file.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Someone else's symbolic link.
    Link {
        /// Where it leads, as written.
        to: PathBuf,
    },
}

/// A target's paths.
pub struct Places<'a> {
    /// The disk.
    pub files: &'a dyn Files,
    /// Where the agent's things are.
    pub paths: &'a Paths,
    /// The target.
    pub target: &'a Id,
    /// Each path, and which file of a version it shows.
    pub wanted: Vec<(&'a Path, &'static str)>,
}

impl Places<'_> {
    /// What is there now: the version in place, what stands at each path, and the name under which
    /// a deployment is to keep what is not ours.
    pub fn before(&self) -> Result<Before, Fault> {
        let places = self.stand()?;
        let backup = if places.iter().all(|place| place.stood == Stood::Ours) {
            None
        } else {
            let kept = backups(self.files, self.paths, self.target)?;
            Some(kept.last().map_or(1, |last| last.saturating_add(1)))
        };
        Ok(Before {
            version: current(self.files, self.paths, self.target)?,
            places,
            backup,
            ..Before::default()
        })
    }

    /// Puts a staged version in place: one rename, once the paths are links.
    pub fn point(&self, version: &VersionRef, before: &Before) -> Result<(), Fault> {
        let home = self.paths.home(self.target);
        self.files.make_dir(&home, 0o700)?;
        let now = self.stand()?;
        if now.iter().any(|place| place.stood != Stood::Ours) {
            if now != before.places {
                return Err(Fault::transient(
                    "the files at the target's paths were changed during the deployment",
                ));
            }
            self.adopt(before)?;
        }
        self.lead(&self.paths.version(version))
    }

    /// Brings back what `before` says, the pair as a whole first.
    pub fn undo(&self, before: &Before) -> Result<(), Fault> {
        let mut taken = Vec::new();
        for (place, (_, name)) in before.places.iter().zip(&self.wanted) {
            let ours = self.files.read_link(&place.path)?.as_ref() == Some(&self.link_to(name));
            if place.stood != Stood::Ours && ours {
                taken.push((place, name));
            }
        }
        if let (false, Some(backup)) = (taken.is_empty(), self.backup(before)) {
            self.lead(&backup)?;
            for (Place { path, stood }, name) in taken {
                match stood {
                    Stood::Ours => {}
                    Stood::Nothing => self.files.remove(path)?,
                    Stood::Link { to } => self.files.flip_link(path, to)?,
                    Stood::File { mode, uid, gid } => {
                        let bytes = Zeroizing::new(self.files.read(&backup.join(name), MAX_BYTES)?);
                        let (uid, gid) = (*uid, *gid);
                        let owner = Owner { uid, gid };
                        self.files.write_owned(path, &bytes, *mode, owner)?;
                    }
                }
            }
        }
        match &before.version {
            Some(version) => self.lead(&self.paths.version(version)),
            None => Ok(self.files.remove(&self.paths.current(self.target))?),
        }
    }

    /// Refuses when the paths do not show the pair, byte for byte.
    pub fn show(&self, vault: &Vault, pair: &Pair) -> Result<(), Unverified> {
        let stand = self.stand().map_err(Unverified::unseen)?;
        if let Some(place) = stand.iter().find(|place| place.stood != Stood::Ours) {
            let path = place.path.display();
            return Err(Unverified::unseen(format!(
                "{path} is not the agent's link any more: something else writes it"
            )));
        }
        vault
            .compare(&self.paths.current(self.target), pair)
            .map_err(Unverified::unseen)
    }

    /// What of the paths does not lead to the version, a sentence each.
    pub fn drift(&self, put: &VersionRef) -> Vec<String> {
        let stand = match self.stand() {
            Ok(stand) => stand,
            Err(fault) => return vec![fault.reason],
        };
        let strange = stand.iter().filter(|place| place.stood != Stood::Ours);
        let mut drift: Vec<String> = strange
            .map(|place| match place.stood {
                Stood::Nothing => format!("{} is missing", place.path.display()),
                _ => format!("{} was written by something else", place.path.display()),
            })
            .collect();
        let home = self.paths.current(self.target);
        match current(self.files, self.paths, self.target) {
            Ok(Some(version)) if version == *put => {}
            Ok(Some(version)) => drift.push(format!(
                "{} leads to serial {} instead of {}",
                home.display(),
                version.serial,
                put.serial
            )),
            Ok(None) => drift.push(format!("{} leads to no version", home.display())),
            Err(error) => drift.push(error.to_string()),
        }
        drift
    }

    /// Refuses when the paths are not as `before` says.
    pub fn show_before(&self, vault: &Vault, before: &Before) -> Result<(), Unverified> {
        let now = self.stand().map_err(Unverified::unseen)?;
        let differs = now.iter().zip(&before.places).find(|(now, was)| now != was);
        if let Some((place, _)) = differs {
            let path = place.path.display();
            return Err(Unverified::unseen(format!("{path} is not what it was")));
        }
        if before.adopts() {
            return Ok(());
        }
        let Some(version) = &before.version else {
            return Ok(());
        };
        let pair = vault.load(version).map_err(Unverified::unseen)?;
        self.show(vault, &pair)
    }

    fn stand(&self) -> Result<Vec<Place>, Fault> {
        let stand = self.wanted.iter().map(|(path, name)| {
            let path = path.to_path_buf();
            let stood = self.stood(&path, name)?;
            Ok(Place { path, stood })
        });
        stand.collect()
    }

    fn stood(&self, path: &Path, name: &str) -> Result<Stood, Fault> {
        let link = self.files.read_link(path)?;
        if link.as_ref() == Some(&self.link_to(name)) {
            return Ok(Stood::Ours);
        }
        if let Some(dir) = path.parent()
            && self.files.metadata(dir)?.is_none()
        {
            return Err(Fault::operator(format!(
                "there is no directory {}: make it, or correct the target's paths",
                dir.display()
            )));
        }
        Ok(match (link, self.files.metadata(path)?) {
            (_, Some(found)) if found.kind != Kind::File => {
                return Err(Fault::operator(format!(
                    "{} is no file: move it away, or correct the target's paths",
                    path.display()
                )));
            }
            (Some(to), _) => Stood::Link { to },
            (None, None) => Stood::Nothing,
            (None, Some(found)) => Stood::File {
                mode: found.mode,
                uid: found.uid,
                gid: found.gid,
            },
        })
    }

    /// Keeps what the paths show and makes them links to it.
    fn adopt(&self, before: &Before) -> Result<(), Fault> {
        let Some(backup) = self.backup(before) else {
            return Err(Fault::permanent("the deployment has no place for a backup"));
        };
        self.files.make_dir(&backup, 0o700)?;
        for (Place { path, stood }, (_, name)) in before.places.iter().zip(&self.wanted) {
            let bytes = match self.files.read(path, MAX_BYTES) {
                Ok(bytes) => Zeroizing::new(bytes),
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e.into()),
            };
            let copy = backup.join(name);
            match stood {
                // That it can be written so here proves that it can be brought back.
                &Stood::File { mode, uid, gid } => {
                    let owner = Owner { uid, gid };
                    self.files.write_owned(&copy, &bytes, mode, owner)?;
                }
                _ => self.files.write_durable(&copy, &bytes, 0o600)?,
            }
        }
        self.lead(&backup)?;
        for (Place { path, stood }, (_, name)) in before.places.iter().zip(&self.wanted) {
            if *stood != Stood::Ours {
                self.files.flip_link(path, &self.link_to(name))?;
            }
        }
        Ok(())
    }

    fn lead(&self, dir: &Path) -> Result<(), Fault> {
        let current = self.paths.current(self.target);
        let to = relative(&self.paths.home(self.target), dir);
        Ok(self.files.flip_link(&current, &to)?)
    }

    /// What the link at one of the paths says.
    fn link_to(&self, name: &str) -> PathBuf {
        self.paths.current(self.target).join(name)
    }

    fn backup(&self, before: &Before) -> Option<PathBuf> {
        let number = before.backup?.to_string();
        Some(self.paths.backups(self.target).join(number))
    }
}

/// The version that a target's `current` leads to.
pub fn current(
    files: &dyn Files,
    paths: &Paths,
    target: &Id,
) -> Result<Option<VersionRef>, FileError> {
    let Some(to) = files.read_link(&paths.current(target))? else {
        return Ok(None);
    };
    let name = |path: Option<&Path>| Some(path?.file_name()?.to_str()?.to_owned());
    let version = || {
        Some(VersionRef {
            certificate: name(to.parent())?.parse().ok()?,
            serial: name(Some(&to))?.parse().ok()?,
        })
    };
    let leads = |version: &VersionRef| relative(&paths.home(target), &paths.version(version)) == to;
    Ok(version().filter(leads))
}

/// Removes a target's backups, save the one that a rollback may need and, as long as a version of
/// ours is in place, the first: it holds what stood there before.
pub fn prune(
    files: &dyn Files,
    paths: &Paths,
    target: &Id,
    keep: Option<u32>,
) -> Result<(), FileError> {
    let in_place = current(files, paths, target)?.is_some();
    for (nth, number) in backups(files, paths, target)?.into_iter().enumerate() {
        let original = nth == 0 && in_place;
        if !original && Some(number) != keep {
            files.remove_tree(&paths.backups(target).join(number.to_string()))?;
        }
    }
    Ok(())
}

/// The numbers of a target's backups, in order.
fn backups(files: &dyn Files, paths: &Paths, target: &Id) -> Result<Vec<u32>, FileError> {
    let names = match files.list(&paths.backups(target)) {
        Ok(names) => names,
        Err(e) if e.is_not_found() => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut numbers: Vec<u32> = names
        .iter()
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}
