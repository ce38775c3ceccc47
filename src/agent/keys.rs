//! Keys whose certificate is not issued yet.

use super::{Env, Paths};
use crate::{
    clock::{Clock, Time},
    crypt::{Crypto, PrivateKey},
    deploy::{Fault, Vault},
    id::Id,
    pki::KeyAlgorithm,
    sys::Files,
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc};

const MAX_BYTES: usize = 4096;

/// Remembers the key made for each job in `<state>/pending/<job>.json`, so that the same job asked
/// again uses the same key, and keys of requests that came to nothing do not stay for ever.
pub struct PendingKeys {
    clock: Arc<dyn Clock>,
    crypto: Arc<dyn Crypto>,
    files: Arc<dyn Files>,
    vault: Vault,
    dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    certificate: Id,
    spki_sha256: String,
    made_at: Time,
}

impl PendingKeys {
    /// The pending keys in `paths`.
    pub fn new(env: &Env, paths: &Paths, vault: Vault) -> Self {
        let dir = paths.state.join("pending");
        let (clock, crypto, files) = (env.clock.clone(), env.crypto.clone(), env.files.clone());
        Self {
            clock,
            crypto,
            files,
            vault,
            dir,
        }
    }

    /// The key of a job: the one made for it before, else a new one. It is on disk when this
    /// returns, so that no certificate is ever issued for a key that a crash can lose.
    pub fn for_job(
        &self,
        job: &Id,
        certificate: &Id,
        algorithm: KeyAlgorithm,
    ) -> Result<PrivateKey, Fault> {
        if let Some(pending) = self.read(job)?.filter(|p| p.certificate == *certificate)
            && let Some(key) = self.vault.key(certificate, &pending.spki_sha256)?
            && key.public_key().algorithm() == algorithm
        {
            // It may be there without being durable: an earlier run failed or was killed in this.
            self.vault.keep_key(certificate, &key)?;
            return Ok(key);
        }
        let key = self
            .crypto
            .generate_key(algorithm)
            .map_err(Fault::permanent)?;
        // The record first: a crash between leaves a record of no key, and never a key of no record.
        let pending = Pending {
            certificate: certificate.clone(),
            spki_sha256: key.public_key().sha256(),
            made_at: self.clock.now(),
        };
        self.files.make_dir(&self.dir, 0o700)?;
        let bytes = serde_json::to_vec(&pending).map_err(Fault::permanent)?;
        self.files.write_durable(&self.path(job), &bytes, 0o600)?;
        self.vault.keep_key(certificate, &key)?;
        Ok(key)
    }

    /// Forgets the key of a job whose request was refused for good.
    pub fn discard(&self, job: &Id) -> Result<(), Fault> {
        if let Some(pending) = self.read(job)? {
            self.vault
                .drop_key(&pending.certificate, &pending.spki_sha256)?;
            self.files.remove(&self.path(job))?;
        }
        Ok(())
    }

    /// The version with this key is served: it is pending no longer, and keys made for the
    /// certificate before it will not be needed. Those of versions on this host, which another
    /// target may still serve, go with their version.
    pub fn settle(&self, certificate: &Id, spki: &str) -> Result<(), Fault> {
        let names = match self.files.list(&self.dir) {
            Ok(names) => names,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let jobs = names
            .iter()
            .filter_map(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
        let mut of_certificate: Vec<(Id, Pending)> = Vec::new();
        for job in jobs {
            if let Some(pending) = self.read(&job)?.filter(|p| p.certificate == *certificate) {
                of_certificate.push((job, pending));
            }
        }
        let served = of_certificate.iter().find(|(_, p)| p.spki_sha256 == spki);
        let Some(made_at) = served.map(|(_, p)| p.made_at) else {
            return Ok(());
        };
        let staged = self.vault.staged_keys(certificate)?;
        for (job, pending) in of_certificate {
            let older = pending.made_at < made_at;
            if pending.spki_sha256 == spki || older && staged.contains(&pending.spki_sha256) {
                self.files.remove(&self.path(&job))?;
            } else if older {
                self.discard(&job)?;
            }
        }
        Ok(())
    }

    fn read(&self, job: &Id) -> Result<Option<Pending>, Fault> {
        match self.files.read(&self.path(job), MAX_BYTES) {
            // One that cannot be read is as good as none: a new key is made.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn path(&self, job: &Id) -> PathBuf {
        self.dir.join(format!("{job}.json"))
    }
}
