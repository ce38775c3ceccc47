//! Private keys and versions on the host's disk.

use super::{Fault, Pair, Paths, VersionRef};
use crate::{
    crypt::PrivateKey,
    id::Id,
    pki::{Certificate, Chain, Serial},
    sys::{FileError, Files, Metadata},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// The longest key file, PEM.
pub const MAX_KEY_BYTES: usize = 32 * 1024;
/// The longest chain file, PEM.
const MAX_CHAIN_BYTES: usize = 256 * 1024;

/// Keys as `keys/<certificate>/<SHA-256 of SPKI>.key`, versions as
/// `versions/<certificate>/<serial>/{fullchain,privkey,cert,chain}.pem`, below the state directory.
/// A key is never overwritten by another: its name is its public half.
#[derive(Clone)]
pub struct Vault {
    files: Arc<dyn Files>,
    paths: Paths,
    /// The user to whom the files of a version belong; none asks for no one.
    owner: Option<u32>,
}

/// Why a key or version cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is there and is not what it should be.
    #[error("{} cannot be used: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
}

impl From<VaultError> for Fault {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::File(e) => e.into(),
            VaultError::Unusable { .. } => Self::operator(error),
        }
    }
}

impl Vault {
    /// The vault in `paths`.
    pub fn new(files: Arc<dyn Files>, paths: Paths) -> Self {
        Self {
            files,
            paths,
            owner: None,
        }
    }

    /// Whose files of versions belong to this user.
    #[must_use]
    pub fn owned_by(self, user: u32) -> Self {
        Self {
            owner: Some(user),
            ..self
        }
    }

    /// Keeps a key, durable, readable by the agent's user alone.
    pub fn keep_key(&self, certificate: &Id, key: &PrivateKey) -> Result<(), FileError> {
        self.files.make_dir(&self.paths.keys(certificate), 0o700)?;
        let path = self.key_path(certificate, &key.public_key().sha256());
        self.files
            .write_durable(&path, key.to_pkcs8_pem().as_bytes(), 0o600)
    }

    /// The key whose SPKI has this SHA-256; `None` when this host does not have it.
    pub fn key(&self, certificate: &Id, spki: &str) -> Result<Option<PrivateKey>, VaultError> {
        let path = self.key_path(certificate, spki);
        match self.files.read(&path, MAX_KEY_BYTES) {
            Ok(pem) => key_from(&path, Zeroizing::new(pem)).map(Some),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes a key.
    pub fn drop_key(&self, certificate: &Id, spki: &str) -> Result<(), FileError> {
        self.files.remove(&self.key_path(certificate, spki))
    }

    /// Writes the directory of a version, durable. One that is there and right is left alone.
    pub fn stage(&self, pair: &Pair) -> Result<(), Fault> {
        let dir = self.paths.version(pair.version());
        if let Some(other) = self.other_leaf(&dir, pair)? {
            return Err(Fault::permanent(format!(
                "{} holds another certificate with that serial number (SHA-256 {other}): renew \
                 to get a new serial number",
                dir.display()
            )));
        }
        self.files.make_dir(&dir, 0o700)?;
        let key = pair.key().to_pkcs8_pem();
        let mut written = false;
        for (name, text, mode) in texts(pair, &key) {
            let path = dir.join(name);
            if !self.holds(&path, text.as_bytes(), mode)? {
                self.files.write_durable(&path, text.as_bytes(), mode)?;
                written = true;
            }
        }
        if !written {
            // An earlier run may have failed, or been killed, just before the names were durable.
            // This renames nothing, and makes them so.
            let any = dir.join("fullchain.pem");
            self.files.rename(&any, &any)?;
        }
        Ok(())
    }

    /// Whether reading `dir` gives exactly the version, byte for byte and mode for mode; else which
    /// file differs.
    pub fn compare(&self, dir: &Path, pair: &Pair) -> Result<(), VaultError> {
        let key = pair.key().to_pkcs8_pem();
        for (name, text, mode) in texts(pair, &key) {
            let path = dir.join(name);
            if !self.holds(&path, text.as_bytes(), mode)? {
                let problem = format!("it is not that of {}", pair.version());
                return Err(VaultError::Unusable { path, problem });
            }
        }
        Ok(())
    }

    /// What of the files in `dir` is not as those of the version were written, a sentence each.
    pub fn drift(&self, dir: &Path, pair: &Pair) -> Vec<String> {
        let key = pair.key().to_pkcs8_pem();
        let mut drift = Vec::new();
        for (name, text, mode) in texts(pair, &key) {
            let path = dir.join(name);
            let shown = path.display();
            let found = match self.files.metadata(&path) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    drift.push(format!("{shown} is missing"));
                    continue;
                }
                Err(error) => {
                    drift.push(error.to_string());
                    continue;
                }
            };
            if found.mode != mode {
                let has = found.mode;
                drift.push(format!("{shown} has mode {has:04o} instead of {mode:04o}"));
            }
            if let Some(owner) = self.owner.filter(|owner| *owner != found.uid) {
                let has = found.uid;
                drift.push(format!("{shown} belongs to user {has} instead of {owner}"));
            }
            match self.files.read(&path, MAX_CHAIN_BYTES).map(Zeroizing::new) {
                Ok(bytes) if *bytes == text.as_bytes() => {}
                Ok(_) => drift.push(format!("{shown} has other content than was put there")),
                Err(error) => drift.push(error.to_string()),
            }
        }
        drift
    }

    /// A staged version as far as anything of it is left: some of its files may be changed or
    /// missing, as long as the others and the key give it back.
    pub fn remember(&self, version: &VersionRef) -> Option<Pair> {
        let dir = self.paths.version(version);
        let parts = || {
            let texts = ["cert.pem", "chain.pem"].map(|name| {
                let bytes = self.files.read(&dir.join(name), MAX_CHAIN_BYTES).ok()?;
                String::from_utf8(bytes).ok()
            });
            let [Some(leaf), Some(issuers)] = texts else {
                return None;
            };
            Chain::from_pem(&format!("{leaf}{issuers}")).ok()
        };
        let is_it = |chain: &Chain| *chain.leaf().serial() == version.serial;
        let whole = self.chain(&dir.join("fullchain.pem")).ok().filter(is_it);
        let chain = whole.or_else(|| parts().filter(is_it))?;
        let key = self.key(&version.certificate, chain.leaf().spki_sha256());
        Pair::new(version.certificate.clone(), chain, key.ok()??).ok()
    }

    /// The leaf in a directory of files; none where there is none that can be read.
    pub fn leaf(&self, dir: &Path) -> Option<Certificate> {
        let chain = self.chain(&dir.join("fullchain.pem")).ok()?;
        Some(chain.leaf().clone())
    }

    /// Reads a staged version back.
    pub fn load(&self, version: &VersionRef) -> Result<Pair, Fault> {
        let dir = self.paths.version(version);
        let chain = self.chain(&dir.join("fullchain.pem"))?;
        let path = dir.join("privkey.pem");
        let pem = self.files.read(&path, MAX_KEY_BYTES)?;
        let key = key_from(&path, Zeroizing::new(pem))?;
        let pair = Pair::new(version.certificate.clone(), chain, key)?;
        if pair.version() == version {
            Ok(pair)
        } else {
            Err(Fault::operator(format!(
                "{} holds serial {}",
                dir.display(),
                pair.version().serial
            )))
        }
    }

    /// Removes the certificate's version directories that `keep` does not name, each after its key,
    /// so that a crash between leaves a directory to come back to, and never a forgotten key.
    pub fn prune(&self, certificate: &Id, keep: &BTreeSet<Serial>) -> Result<(), Fault> {
        let dir = self.paths.versions(certificate);
        let serials = self.serials(&dir)?;
        let spki_of = |serial: &Serial| self.spki_of(&dir, serial);
        let (kept, old): (Vec<_>, Vec<_>) = serials.iter().partition(|s| keep.contains(s));
        let in_use: BTreeSet<String> = kept.iter().filter_map(|s| spki_of(s)).collect();
        for serial in old {
            if let Some(spki) = spki_of(serial).filter(|spki| !in_use.contains(spki)) {
                self.drop_key(certificate, &spki)?;
            }
            self.files.remove_tree(&dir.join(serial.to_string()))?;
            tracing::info!(%certificate, %serial, "removed a superseded version and its key");
        }
        Ok(())
    }

    /// The SHA-256 of the SPKI of each version of a certificate that is on this host.
    pub fn staged_keys(&self, certificate: &Id) -> Result<BTreeSet<String>, FileError> {
        let dir = self.paths.versions(certificate);
        let serials = match self.serials(&dir) {
            Ok(serials) => serials,
            Err(e) if e.is_not_found() => Vec::new(),
            Err(e) => return Err(e),
        };
        Ok(serials
            .iter()
            .filter_map(|serial| self.spki_of(&dir, serial))
            .collect())
    }

    fn serials(&self, dir: &Path) -> Result<Vec<Serial>, FileError> {
        let names = self.files.list(dir)?;
        let serials = names.iter().filter_map(|name| name.to_str()?.parse().ok());
        Ok(serials.collect())
    }

    fn spki_of(&self, dir: &Path, serial: &Serial) -> Option<String> {
        let chain = dir.join(serial.to_string()).join("fullchain.pem");
        Some(self.chain(&chain).ok()?.leaf().spki_sha256().to_owned())
    }

    /// The fingerprint of a staged leaf in `dir` that has the pair's serial number and is not the
    /// pair's.
    fn other_leaf(&self, dir: &Path, pair: &Pair) -> Result<Option<String>, Fault> {
        match self.chain(&dir.join("fullchain.pem")) {
            Ok(chain) => {
                let staged = chain.leaf().fingerprint_sha256();
                let same = staged == pair.chain().leaf().fingerprint_sha256();
                let theirs = *chain.leaf().serial() != pair.version().serial;
                // What somebody else has put there is written over.
                Ok((!same && !theirs).then(|| staged.to_owned()))
            }
            Err(VaultError::Unusable { .. }) => Ok(None),
            Err(VaultError::File(e)) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn chain(&self, path: &Path) -> Result<Chain, VaultError> {
        let bytes = self.files.read(path, MAX_CHAIN_BYTES)?;
        let pem = String::from_utf8_lossy(&bytes);
        Chain::from_pem(&pem).map_err(|e| VaultError::Unusable {
            path: path.into(),
            problem: e.to_string(),
        })
    }

    fn holds(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<bool, FileError> {
        let found = self.files.metadata(path)?;
        let right = |m: &Metadata| m.mode == mode && self.owner.is_none_or(|o| m.uid == o);
        Ok(found.is_some_and(|m| right(&m))
            && *Zeroizing::new(self.files.read(path, MAX_CHAIN_BYTES)?) == bytes)
    }

    fn key_path(&self, certificate: &Id, spki: &str) -> PathBuf {
        self.paths.keys(certificate).join(format!("{spki}.key"))
    }
}

/// The files of a version, with the modes they have.
fn texts<'a>(pair: &'a Pair, key_pem: &'a str) -> [(&'static str, Zeroizing<String>, u32); 4] {
    let chain = pair.chain();
    [
        ("privkey.pem", key_pem.to_owned().into(), 0o600),
        ("cert.pem", chain.leaf().pem().into(), 0o644),
        ("chain.pem", chain.chain_pem().into(), 0o644),
        ("fullchain.pem", chain.fullchain_pem().into(), 0o644),
    ]
}

fn key_from(path: &Path, pem: Zeroizing<Vec<u8>>) -> Result<PrivateKey, VaultError> {
    let unusable = |problem: String| VaultError::Unusable {
        path: path.into(),
        problem,
    };
    let text = std::str::from_utf8(&pem).map_err(|e| unusable(e.to_string()))?;
    PrivateKey::from_pkcs8_pem(text).map_err(|e| unusable(e.to_string()))
}
