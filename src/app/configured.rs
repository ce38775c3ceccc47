//! The keys that the configuration brings: read at the start, and again as their files change.

use super::App;
use crate::{
    access::{
        Role,
        configured::{self, ConfiguredKey},
    },
    config::{KeyList, KeySource},
    crypt::secret,
    domain::{Grant, Scope},
    id::Id,
    store::StoreError,
    sys::Files,
};
use secrecy::ExposeSecret;
use std::sync::{Arc, PoisonError, RwLock};

/// The longest file of keys, in bytes.
const MAX_FILE: usize = 1 << 20;
/// Keys shorter than this can be guessed.
const SHORT: usize = 24;

/// A key of the configuration that is in force.
#[derive(Debug, Clone)]
pub(super) struct InForce {
    /// `cfg-<name>`: no row has it.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// SHA-256 of it, lower hex.
    sha256: String,
    /// Its role.
    pub grant: Grant,
}

/// The keys of the configuration that are in force.
pub(super) struct Configured {
    sources: Vec<KeySource>,
    read: RwLock<Read>,
}

#[derive(Default)]
struct Read {
    keys: Arc<[InForce]>,
    /// Why the keys are those of an earlier reading.
    fault: Option<String>,
}

impl Configured {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong with them, and where.
    pub fn read(sources: Vec<KeySource>, files: &dyn Files) -> Result<Self, String> {
        let keys = read(&sources, files)?;
        for key in keys
            .iter()
            .filter(|key| key.secret.expose_secret().len() < SHORT)
        {
            tracing::warn!(key = %key.name, "a configured key is short: take 32 random characters");
        }
        let keys = keys.iter().map(InForce::new).collect();
        let read = RwLock::new(Read { keys, fault: None });
        Ok(Self { sources, read })
    }

    /// Reads them again; those in force stay when what is read now cannot be taken. Says whether
    /// others are in force now.
    pub fn read_again(&self, files: &dyn Files) -> bool {
        if !self
            .sources
            .iter()
            .any(|source| matches!(source.keys, KeyList::File(_)))
        {
            return false;
        }
        let found = read(&self.sources, files);
        let mut now = self.read.write().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(keys) => {
                let keys: Arc<[InForce]> = keys.iter().map(InForce::new).collect();
                let same = keys.len() == now.keys.len()
                    && keys.iter().zip(&*now.keys).all(|(a, b)| {
                        a.id == b.id && a.grant == b.grant && secret::same(&a.sha256, &b.sha256)
                    });
                if !same || now.fault.is_some() {
                    tracing::info!(keys = keys.len(), "the configured keys were read again");
                    *now = Read { keys, fault: None };
                }
                !same
            }
            Err(fault) if now.fault.as_ref() != Some(&fault) => {
                tracing::error!(%fault, "the configured keys stay as they were");
                now.fault = Some(fault);
                false
            }
            Err(_) => false,
        }
    }

    /// All of them.
    pub fn keys(&self) -> Arc<[InForce]> {
        Arc::clone(
            &self
                .read
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .keys,
        )
    }

    /// Why the keys in force are those of an earlier reading.
    pub fn fault(&self) -> Option<String> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        read.fault.clone()
    }

    /// The one with this hash. Each is looked at, in time that does not tell which it is.
    pub fn of_hash(&self, sha256: &str) -> Option<InForce> {
        let keys = self.keys();
        let same = |found: Option<usize>, (n, key): (usize, &InForce)| {
            let is = secret::same(&key.sha256, sha256);
            if is { Some(n) } else { found }
        };
        let found = keys.iter().enumerate().fold(None, same);
        found.and_then(|n| keys.get(n).cloned())
    }
}

impl InForce {
    fn new(key: &ConfiguredKey) -> Self {
        let built_in = Role::of_text(&key.role).map(|role| role.id().to_owned());
        Self {
            // A key's name is short and has an id's characters.
            id: format!("cfg-{}", key.name)
                .parse()
                .unwrap_or_else(|_| Id::derived("cfg", b"")),
            name: key.name.clone(),
            sha256: secret::hash(key.secret.expose_secret()),
            grant: Grant {
                role: built_in.unwrap_or_else(|| key.role.clone()),
                scope: Scope::Global,
                expires_at: None,
            },
        }
    }
}

fn read(sources: &[KeySource], files: &dyn Files) -> Result<Vec<ConfiguredKey>, String> {
    let mut keys = Vec::new();
    for source in sources {
        let bytes;
        let text = match &source.keys {
            KeyList::Text(text) => text.expose_secret(),
            KeyList::File(path) => {
                bytes = files.read(path, MAX_FILE).map_err(|e| e.to_string())?;
                std::str::from_utf8(&bytes)
                    .map_err(|_| format!("{}: it is no UTF-8 text", path.display()))?
            }
        };
        let place = || match &source.keys {
            KeyList::Text(_) => source.setting.to_owned(),
            KeyList::File(path) => format!("{}, {}", source.setting, path.display()),
        };
        keys.extend((source.read)(text).map_err(|e| format!("{}: {e}", place()))?);
    }
    configured::distinct(keys)
}

impl App {
    /// Reads the configured keys again, where they lie in files.
    pub(crate) async fn read_configured_keys(&self) -> Result<(), StoreError> {
        match self.configured.read_again(&*self.files) {
            true => self.tell_of_keys_without_role().await,
            false => Ok(()),
        }
    }

    /// Tells of configured keys whose role there is not. They are let in and may do nothing: the role
    /// can only be made by a server that runs.
    pub(super) async fn tell_of_keys_without_role(&self) -> Result<(), StoreError> {
        for key in &*self.configured.keys() {
            let role = &key.grant.role;
            if Role::of_id(role).is_none() && self.custom_role(role).await?.is_none() {
                tracing::error!(
                    key = %key.name, %role,
                    "a configured key may do nothing, since there is no role with this id: make it \
                     with another that there is"
                );
            }
        }
        Ok(())
    }
}
