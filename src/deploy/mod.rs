//! Places that serve or store a certificate, and how a version gets there.
//!
//! [`Deployer`] drives every deployment in one order: stage the version beside the old one, try it
//! out, write down what will be replaced, commit, reload, see it served, close the journal, prune. A
//! [`Target`] knows only its own place. Whatever fails after the commit is put back, and a crash
//! at any point is finished or undone from the journal.

mod driver;
mod file;
mod journal;
mod listener;
mod nginx;
mod places;
mod programs;
mod rehearsal;
mod site;
mod vault;
mod verify;

pub mod config;

pub use config::{ConfigError, TargetConfig};
pub use driver::Deployer;
pub use journal::{Journal, Phase};
pub use listener::TlsSites;
pub use places::{Place, Stood};
pub use rehearsal::Examined;
pub use site::{Site, Sites};
pub use vault::{MAX_KEY_BYTES, Vault, VaultError};

use crate::{
    clock::{Clock, Time},
    crypt::PrivateKey,
    id::Id,
    net::Probe,
    pki::{Chain, Serial},
    sys::{Exec, Files},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// What a deployer is given of its host.
#[derive(Clone)]
pub struct Host {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// The disk.
    pub files: Arc<dyn Files>,
    /// Sees what endpoints serve.
    pub probe: Arc<dyn Probe>,
    /// Listeners of the agent's own.
    pub sites: Arc<dyn Sites>,
    /// Other programs.
    pub exec: Arc<dyn Exec>,
}

/// Where an agent keeps its things. Both are absolute.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Identity, keys, versions, journals and outbox: the agent's alone.
    pub state: PathBuf,
    /// The links other software reads: `live/<certificate>` leads to a version's directory.
    pub live: PathBuf,
}

impl Paths {
    /// Makes both absolute by the working directory, without looking at the disk.
    pub fn new(state: &Path, live: &Path) -> io::Result<Self> {
        let (state, live) = (std::path::absolute(state)?, std::path::absolute(live)?);
        Ok(Self { state, live })
    }

    /// The directory of a version.
    pub fn version(&self, version: &VersionRef) -> PathBuf {
        self.versions(&version.certificate)
            .join(version.serial.to_string())
    }

    /// The directory of a certificate's versions.
    pub fn versions(&self, certificate: &Id) -> PathBuf {
        self.state.join("versions").join(certificate.as_str())
    }

    /// The directory of a certificate's private keys.
    pub fn keys(&self, certificate: &Id) -> PathBuf {
        self.state.join("keys").join(certificate.as_str())
    }

    /// The directory of the journals, one directory per target.
    pub fn journals(&self) -> PathBuf {
        self.state.join("deploy")
    }

    /// The directory of a target's own things: its journal, and the link `current`.
    pub fn home(&self, target: &Id) -> PathBuf {
        self.journals().join(target.as_str())
    }

    /// For a target with paths of its own: the link that its paths lead through.
    pub fn current(&self, target: &Id) -> PathBuf {
        self.home(target).join("current")
    }

    /// What stood at a target's paths before the agent's links: one numbered directory for each
    /// deployment that found other things there.
    pub fn backups(&self, target: &Id) -> PathBuf {
        self.state.join("backups").join(target.as_str())
    }

    /// Where configurations are tried out, one directory per target.
    pub fn rehearsals(&self) -> PathBuf {
        self.state.join("rehearsal")
    }

    /// The link to a certificate's version in use.
    pub fn link(&self, certificate: &Id) -> PathBuf {
        self.live.join(certificate.as_str())
    }

    /// What the link says: relative, so that the whole data directory can be moved.
    pub fn link_target(&self, version: &VersionRef) -> PathBuf {
        relative(&self.live, &self.version(version))
    }
}

/// The way from directory `from` to `to`, both absolute.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

/// Names a version on this host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionRef {
    /// The certificate.
    pub certificate: Id,
    /// The leaf's serial number.
    pub serial: Serial,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} serial {}", self.certificate, self.serial)
    }
}

/// A version with its private key: what is deployed. The key is the leaf's.
#[derive(Clone)]
pub struct Pair {
    version: VersionRef,
    chain: Arc<Chain>,
    key: Arc<PrivateKey>,
}

impl Pair {
    /// Joins a chain and a key; one that is not the leaf's is refused.
    pub fn new(certificate: Id, chain: Chain, key: PrivateKey) -> Result<Self, Fault> {
        let leaf = chain.leaf();
        if key.public_key().sha256() != leaf.spki_sha256() {
            return Err(Fault::operator(format!(
                "the private key on this host does not belong to serial {} of {certificate}: \
                 renew the certificate",
                leaf.serial()
            )));
        }
        let version = VersionRef {
            certificate,
            serial: leaf.serial().clone(),
        };
        Ok(Self {
            version,
            chain: Arc::new(chain),
            key: Arc::new(key),
        })
    }

    /// Refuses a leaf outside its lifetime.
    pub fn valid_at(&self, now: Time) -> Result<(), Fault> {
        let (leaf, serial) = (self.chain.leaf(), &self.version.serial);
        if now >= leaf.not_after() {
            let end = leaf.not_after();
            return Err(Fault::permanent(format!(
                "serial {serial} expired at {end}, this host's clock says {now}: renew the \
                 certificate, or set the clock"
            )));
        }
        if now < leaf.not_before() {
            return Err(Fault::operator(format!(
                "serial {serial} is valid from {} but this host's clock says {now}: set the clock",
                leaf.not_before()
            )));
        }
        Ok(())
    }

    /// Which version this is.
    pub fn version(&self) -> &VersionRef {
        &self.version
    }

    /// The leaf and its issuers.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The leaf's private key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }
}

/// What one endpoint was seen to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `host:port`, or a path.
    pub endpoint: String,
    /// The leaf's serial number.
    pub serial: Option<String>,
    /// SHA-256 of the leaf, lower hex.
    pub fingerprint: Option<String>,
    /// Why nothing was seen.
    pub error: Option<String>,
}

/// A deployment that came to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// SHA-256 of the leaf that was in place before, lower hex; none before the first.
    pub old_fingerprint: Option<String>,
    /// The end of what the programs it ran have written.
    pub output: String,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// In place and seen served. `changed` is false when it was before, too.
    Confirmed {
        /// Whether anything was changed.
        changed: bool,
        /// What was seen.
        seen: Vec<Seen>,
    },
    /// It failed after the commit; what was there before is back.
    RolledBack {
        /// What failed.
        reason: String,
        /// What was last seen.
        seen: Vec<Seen>,
    },
    /// It failed after the commit, and what was there before is not back.
    RollbackFailed {
        /// What failed, first and then.
        reason: String,
        /// What was last seen.
        seen: Vec<Seen>,
    },
    /// Nothing was changed.
    Failed(Fault),
}

/// Why a step failed, for a person, and what may help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// What may help.
    pub class: Class,
    /// What failed and what to do.
    pub reason: String,
}

/// What may help after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Trying again later.
    Transient,
    /// Nothing short of another request.
    Permanent,
    /// Another version: the private key of this one is not on the host.
    KeyMissing,
    /// A change made by an operator.
    Operator,
}

impl Fault {
    /// A failure that may pass by itself.
    pub fn transient(reason: impl fmt::Display) -> Self {
        Self {
            class: Class::Transient,
            reason: reason.to_string(),
        }
    }

    /// A failure that will repeat.
    pub fn permanent(reason: impl fmt::Display) -> Self {
        Self {
            class: Class::Permanent,
            reason: reason.to_string(),
        }
    }

    /// A failure that another version mends.
    pub fn key_missing(reason: impl fmt::Display) -> Self {
        Self {
            class: Class::KeyMissing,
            reason: reason.to_string(),
        }
    }

    /// A failure that someone must mend.
    pub fn operator(reason: impl fmt::Display) -> Self {
        Self {
            class: Class::Operator,
            reason: reason.to_string(),
        }
    }
}

impl From<crate::sys::FileError> for Fault {
    fn from(error: crate::sys::FileError) -> Self {
        match error.source.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory => Self::operator(error),
            _ => Self::transient(error),
        }
    }
}

/// What a deployment replaces: written down before the commit, so that it can be brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The version in place; none before the first.
    pub version: Option<VersionRef>,
    /// For a site: where it listened.
    #[serde(default)]
    pub listen: Option<std::net::SocketAddr>,
    /// What the endpoints served.
    #[serde(default)]
    pub seen: Vec<Seen>,
    /// For a target with paths of its own: what stood at each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// The number of the backup of what is not ours there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<u32>,
}

impl Before {
    /// Whether something else than the agent's links stood at the target's paths.
    pub fn adopts(&self) -> bool {
        self.places.iter().any(|place| place.stood != Stood::Ours)
    }
}

/// A place was not seen to serve what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unverified {
    /// Which endpoint, and what was seen instead.
    pub reason: String,
    /// What was seen, everywhere.
    pub seen: Vec<Seen>,
}

impl Unverified {
    fn unseen(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            seen: Vec::new(),
        }
    }
}

/// One certificate's place on a target. Each call may be repeated, also after a crash.
#[async_trait]
pub trait Target: Send + Sync {
    /// What is in place now.
    async fn before(&self) -> Result<Before, Fault>;
    /// Whether `before` says that `version` is in place exactly as configured.
    fn in_place(&self, before: &Before, version: &VersionRef) -> bool;
    /// Tries out a staged version as far as that changes nothing that is served.
    async fn rehearse(&self, pair: &Pair) -> Result<(), Fault> {
        let _ = pair;
        Ok(())
    }
    /// What the place's endpoints serve now, where [`before`](Self::before) has looked already.
    async fn seen(&self, before: &Before) -> Vec<Seen> {
        before.seen.clone()
    }
    /// Whether the place could be used, as far as that can be seen without a change: what was
    /// found, a sentence each.
    async fn inspect(&self) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }
    /// Puts a staged version in place, at once or not at all. `before` is what the journal says
    /// is replaced.
    async fn commit(&self, pair: &Pair, before: &Before) -> Result<(), Fault>;
    /// Makes what runs take up what is in place; false where nothing needs to be told.
    async fn reload(&self) -> Result<bool, Fault> {
        Ok(false)
    }
    /// Waits until every endpoint serves the leaf and chain of `pair`.
    async fn verify(&self, pair: &Pair) -> Result<Vec<Seen>, Unverified>;
    /// Whether `before` says that nothing of ours was in place and nothing was served: then a
    /// version that is not seen served takes nothing from anybody, and stays.
    fn owes_nothing(&self, before: &Before) -> bool {
        let _ = before;
        false
    }
    /// Puts back what was there before.
    async fn undo(&self, before: &Before) -> Result<(), Fault>;
    /// Waits until every endpoint serves what it did before.
    async fn verify_before(&self, before: &Before) -> Result<Vec<Seen>, Unverified>;
}
