//! The journal of a target: its last deployment, and whether that is decided.

use super::{Before, Fault, Pair, Paths, TargetConfig, VersionRef};
use crate::{id::Id, pki::Serial, sys::Files};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

const MAX_BYTES: usize = 256 * 1024;

/// The last deployment to a target, kept as `<state>/deploy/<target>/journal.json`. Once it is
/// closed it is also the record of what the target serves, by which a site is restored and old
/// versions are pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// How far it went.
    pub phase: Phase,
    /// The version deployed.
    pub version: VersionRef,
    /// The target's configuration in that deployment.
    pub target: TargetConfig,
    /// What it replaced.
    pub before: Before,
    /// The versions of other certificates that are in place on the target.
    #[serde(default)]
    pub beside: BTreeMap<Id, Serial>,
}

/// How far a deployment went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Open: either version may be in place. A crash leaves it here.
    Begun,
    /// The version is in place and was seen served.
    Committed,
    /// What was before is back in place.
    RolledBack,
}

impl Journal {
    /// Reads a target's journal; `None` where nothing was ever deployed.
    pub fn load(files: &dyn Files, paths: &Paths, target: &Id) -> Result<Option<Self>, Fault> {
        let path = path(paths, target);
        let bytes = match files.read(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Fault::operator(format!(
                "the journal {} cannot be read ({e}): see what the target serves, then remove it",
                path.display()
            ))
        })
    }

    /// Writes it, durable.
    pub fn save(&self, files: &dyn Files, paths: &Paths, target: &Id) -> Result<(), Fault> {
        let path = path(paths, target);
        let bytes = serde_json::to_vec_pretty(self).map_err(Fault::permanent)?;
        if let Some(dir) = path.parent() {
            files.make_dir(dir, 0o700)?;
        }
        Ok(files.write_durable(&path, &bytes, 0o600)?)
    }

    /// The same deployment in another phase.
    #[must_use]
    pub fn with(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }

    /// The versions that must stay on disk for this target: in place, and to go back to.
    pub fn versions(&self) -> impl Iterator<Item = VersionRef> {
        let own = std::iter::once(&self.version).chain(self.before.version.as_ref());
        own.cloned().chain(self.others())
    }

    /// The versions that are in place on the target once the deployment is decided.
    pub fn in_place(&self) -> impl Iterator<Item = VersionRef> {
        let own = match self.phase {
            Phase::Begun => None,
            Phase::Committed => Some(&self.version),
            Phase::RolledBack => self.before.version.as_ref(),
        };
        own.cloned().into_iter().chain(self.others())
    }

    /// What is in place beside the certificate of the next deployment, `next`.
    pub fn beside(&self, next: &Pair) -> BTreeMap<Id, Serial> {
        if self.target.is_exclusive() {
            return BTreeMap::new();
        }
        let own = &next.version().certificate;
        let others = self.in_place().filter(|v| v.certificate != *own);
        others.map(|v| (v.certificate, v.serial)).collect()
    }

    fn others(&self) -> impl Iterator<Item = VersionRef> {
        self.beside.iter().map(|(certificate, serial)| VersionRef {
            certificate: certificate.clone(),
            serial: serial.clone(),
        })
    }

    /// The targets that have one.
    pub fn targets(files: &dyn Files, paths: &Paths) -> Result<Vec<Id>, Fault> {
        match files.list(&paths.journals()) {
            Ok(names) => Ok(names
                .iter()
                .filter_map(|name| name.to_str()?.parse().ok())
                .collect()),
            Err(e) if e.is_not_found() => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }
}

fn path(paths: &Paths, target: &Id) -> PathBuf {
    paths.journals().join(target.as_str()).join("journal.json")
}
