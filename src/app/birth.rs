//! What every store must hold, made by the first start and found by every later one.

use super::{
    App, ISSUER_LOCAL, POLICY_DEFAULT, PROFILE_DEFAULT, StartError, access::API_KEY,
    backup::STORE_FILE, known,
};
use crate::{
    access::Role,
    ca::local,
    clock::{Rng, Time},
    crypt::{Crypto, KeyRing, MachineKey, Place, PrivateKey, RingDoc, RingError, Sealed, secret},
    domain::{
        ApiKey, AuditEvent, CaNode, Category, Grant, Issuer, IssuerKind, Principal, Profile,
        RenewalPolicy,
    },
    id::Id,
    pki::{Certificate, Eku, KeyAlgorithm},
    store::{AUDIT, COLLECTIONS, CommitError, KEY_NAME, Key, RingRow, Scan, Store, Unit},
    sys::Files,
};
use secrecy::{ExposeSecret, SecretString};
use std::{fmt, path::Path, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// No clock that is set says an earlier time: 2025-01-01.
pub(super) const EARLIEST: Time = Time::from_seconds(1_735_689_600);
/// The longest certificate file, in bytes.
pub(super) const MAX_PEM: usize = 64 << 10;
const LEAF_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// The root of the local CA.
pub const ROOT_NODE: &str = "ca-local-root";
/// The issuing CA of the local CA.
pub const ISSUING_NODE: &str = "ca-local-issuing";
/// The system CA.
pub const SYSTEM_NODE: &str = "ca-system";
const FIRST_KEY: &str = "key-first-admin";
const RING_ID: &str = "ring";

/// The first start, and what every later one finds of it.
pub struct Birth<'a> {
    /// Where it is kept.
    pub store: &'a Store,
    /// Random bytes.
    pub rng: &'a dyn Rng,
    /// Makes keys.
    pub crypto: &'a dyn Crypto,
    /// When this start is.
    pub now: Time,
}

/// Where the machine key is.
#[derive(Clone, Copy)]
pub struct KeyPlace<'a> {
    /// The key itself, where it is configured.
    pub given: Option<&'a SecretString>,
    /// The file that holds it otherwise.
    pub file: &'a Path,
}

impl KeyPlace<'_> {
    /// The key, where there is one.
    ///
    /// # Errors
    /// When its file cannot be read, or holds something else.
    pub fn read(&self, files: &dyn Files) -> Result<Option<MachineKey>, StartError> {
        let text = match self.given {
            Some(text) => Zeroizing::new(text.expose_secret().as_bytes().to_vec()),
            None => match files.read(self.file, 1024) {
                Ok(text) => Zeroizing::new(text),
                Err(e) if e.is_not_found() => return Ok(None),
                Err(e) => return Err(e.into()),
            },
        };
        let key = MachineKey::from_text(&String::from_utf8_lossy(&text));
        let key = key.map_err(|e| StartError::MachineKeyUnreadable(self.to_string(), e))?;
        Ok(Some(key))
    }
}

impl fmt::Display for KeyPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.given {
            Some(_) => f.write_str("CERTCTL_MACHINE_KEY"),
            None => self.file.display().fmt(f),
        }
    }
}

impl Birth<'_> {
    fn unit(&self) -> Unit<'_> {
        self.store.unit(u128::from_be_bytes(self.seed()), self.now)
    }

    /// Indexes as this program derives them, before anything is looked up by them.
    pub async fn indexes(&self) -> Result<u64, StartError> {
        let commit_id = || u128::from_be_bytes(self.seed());
        let built = self.store.build_indexes(COLLECTIONS, self.now, commit_id);
        Ok(built.await?)
    }

    fn audit(&self, unit: &mut Unit<'_>, category: Category, action: &str, resource: (&str, &str)) {
        let who = Principal::system("start");
        unit.append(
            AUDIT,
            &AuditEvent::new(&who, category, action, resource, self.now),
        );
    }

    /// Opens the key ring, or makes machine key and ring. The key is on disk before the ring that
    /// needs it is in the store. `beside` is a file that the end of every start leaves.
    ///
    /// # Errors
    /// Also when another server made a ring meanwhile; no machine key is left behind then.
    pub async fn keyring(
        &self,
        files: &dyn Files,
        key: KeyPlace<'_>,
        beside: &Path,
    ) -> Result<(RingDoc, KeyRing), StartError> {
        let path = key.file;
        let stored = self.store.get::<RingRow>(&known(RING_ID)).await?;
        let machine = key.read(files)?;
        let shared = self.store.is_shared();
        match (stored, machine) {
            (Some(row), Some(machine)) => match KeyRing::open_ring(&row.ring, &machine) {
                Err(RingError::WrongKey) if shared => {
                    Err(StartError::MachineKeyOther(key.to_string()))
                }
                opened => Ok((row.into_value().ring, opened?)),
            },
            (Some(_), None) if shared => Err(StartError::MachineKeyElsewhere(key.to_string())),
            (Some(_), None) => Err(StartError::MachineKeyMissing(key.to_string())),
            (None, _) if files.read(beside, MAX_PEM).is_ok() => {
                let dir = path.parent().unwrap_or(path);
                Err(match shared {
                    true => StartError::DatabaseEmpty(dir.display().to_string()),
                    false => StartError::StoreMissing(dir.join(STORE_FILE).display().to_string()),
                })
            }
            (None, machine) => {
                let known_before = machine.is_some();
                let machine = match machine {
                    Some(machine) => machine,
                    None => {
                        let machine = MachineKey::generate(self.rng);
                        files.write_durable(path, machine.to_text().as_bytes(), 0o600)?;
                        machine
                    }
                };
                let (doc, ring) = KeyRing::create(&machine, self.rng, self.now);
                let mut unit = self.unit();
                self.audit(
                    &mut unit,
                    Category::Auth,
                    "key_ring_created",
                    ("ring", RING_ID),
                );
                unit.insert(RingRow {
                    id: known(RING_ID),
                    ring: doc.clone(),
                });
                match unit.commit().await {
                    Ok(_) => Ok((doc, ring)),
                    Err(e) => {
                        if e.is_conflict() && !known_before {
                            // It opens nothing.
                            files.remove(path)?;
                        }
                        Err(e.into())
                    }
                }
            }
        }
    }

    /// The records that are always there.
    pub async fn records(&self) -> Result<(), StartError> {
        let mut unit = self.unit();
        let (created_at, updated_at) = (self.now, self.now);
        let mut made = false;
        if unit
            .load_opt::<Profile>(&known(PROFILE_DEFAULT))
            .await?
            .is_none()
        {
            made = true;
            unit.insert(Profile {
                name: "Default".into(),
                key_algorithms: vec![
                    KeyAlgorithm::EcdsaP256,
                    KeyAlgorithm::EcdsaP384,
                    KeyAlgorithm::Ed25519,
                    KeyAlgorithm::Rsa2048,
                    KeyAlgorithm::Rsa3072,
                    KeyAlgorithm::Rsa4096,
                ],
                lifetime_seconds: LEAF_LIFETIME.as_secs(),
                ekus: vec![Eku::ServerAuth],
                ..Profile::new(known(PROFILE_DEFAULT), self.now)
            });
        }
        if unit
            .load_opt::<RenewalPolicy>(&known(POLICY_DEFAULT))
            .await?
            .is_none()
        {
            made = true;
            unit.insert(RenewalPolicy {
                name: "Default".into(),
                retry_interval_seconds: 60,
                ..RenewalPolicy::new(known(POLICY_DEFAULT), self.now)
            });
        }
        if unit
            .load_opt::<Issuer>(&known(ISSUER_LOCAL))
            .await?
            .is_none()
        {
            made = true;
            unit.insert(Issuer {
                id: known(ISSUER_LOCAL),
                name: "Local CA".into(),
                kind: IssuerKind::GenericCA {
                    issuing_node: known(ISSUING_NODE),
                },
                enabled: true,
                created_at,
                updated_at,
            });
        }
        if made {
            unit.commit().await?;
        }
        Ok(())
    }

    /// Our own CAs: their keys are made once, here, and sealed.
    pub async fn cas(&self, keyring: &KeyRing) -> Result<(), StartError> {
        let mut unit = self.unit();
        let mut made = false;
        if unit
            .load_opt::<CaNode>(&known(ISSUING_NODE))
            .await?
            .is_none()
        {
            made = true;
            let serials = [self.seed(), self.seed()];
            let (root, issuing) = local::create_hierarchy(self.crypto, serials, self.now).await?;
            let root_id = known(ROOT_NODE);
            unit.insert(self.node_row(keyring, ROOT_NODE, None, &root));
            unit.insert(self.node_row(keyring, ISSUING_NODE, Some(root_id), &issuing));
            self.audit(
                &mut unit,
                Category::Config,
                "ca_created",
                ("issuer", ISSUER_LOCAL),
            );
        }
        if unit
            .load_opt::<CaNode>(&known(SYSTEM_NODE))
            .await?
            .is_none()
        {
            made = true;
            let system = local::create_system_ca(self.crypto, self.seed(), self.now).await?;
            unit.insert(self.node_row(keyring, SYSTEM_NODE, None, &system));
            self.audit(
                &mut unit,
                Category::Config,
                "ca_created",
                ("ca_node", SYSTEM_NODE),
            );
        }
        if made {
            if self.now < EARLIEST {
                return Err(StartError::Clock(self.now));
            }
            unit.commit().await?;
        }
        Ok(())
    }

    fn seed(&self) -> [u8; 16] {
        let mut seed = [0; 16];
        self.rng.fill(&mut seed);
        seed
    }

    fn node_row(
        &self,
        keyring: &KeyRing,
        id: &'static str,
        parent: Option<Id>,
        node: &local::NewNode,
    ) -> CaNode {
        let sealed = keyring.seal(key_place(id), node.key.pkcs8_der(), self.rng);
        CaNode {
            id: known(id),
            parent,
            certificate_pem: node.certificate.pem(),
            above_pem: String::new(),
            sealed_key: sealed.to_string(),
            created_at: self.now,
        }
    }

    /// A CA node, its key opened and seen to fit its certificate.
    pub async fn node(
        &self,
        keyring: &KeyRing,
        id: &'static str,
    ) -> Result<(Certificate, Arc<PrivateKey>), StartError> {
        let bad = |reason: String| StartError::Stored {
            what: "a CA node",
            reason: format!("{id}: {reason}"),
        };
        let node = self.store.get::<CaNode>(&known(id)).await?;
        let node = node.ok_or_else(|| bad("it is not there".into()))?;
        let certificate =
            Certificate::from_pem(&node.certificate_pem).map_err(|e| bad(e.to_string()))?;
        let sealed: Sealed = node.sealed_key.parse()?;
        let key = keyring.open(key_place(id), &sealed)?;
        let key = PrivateKey::from_pkcs8_der(&key).map_err(|e| bad(e.to_string()))?;
        if key.public_key() != certificate.public_key() {
            return Err(bad("its key does not fit its certificate".into()));
        }
        Ok((certificate, Arc::new(key)))
    }

    /// The administrator's first key. It is on disk before it is good for anything; a start that
    /// was cut between the two makes another. Where another server was first, its key is the one.
    pub async fn first_key(
        &self,
        files: &dyn Files,
        path: &Path,
    ) -> Result<Option<String>, StartError> {
        let mut unit = self.unit();
        // Once a key was made, the first one is not made again: it may have been revoked.
        let any = self.store.scan::<ApiKey>(Scan::all(KEY_NAME, 1)).await?;
        let made = !any.is_empty() || self.store.total(first_key_total()).await? > 0;
        if made {
            return Ok(None);
        }
        let key = secret::generate(API_KEY, self.rng);
        let text = format!(
            "certctl: made at the first start, {}\n\nadmin key: {}\n\n\
             Sign in to the dashboard with it, or send it as `Authorization: Bearer`.\n\
             Keep it, then delete this file.\n",
            self.now.whole_seconds(),
            *key
        );
        files.write_durable(path, text.as_bytes(), 0o600)?;
        self.audit(
            &mut unit,
            Category::Auth,
            "api_key_created",
            ("api_key", FIRST_KEY),
        );
        unit.add(first_key_total(), 1, 1);
        unit.insert(ApiKey {
            id: known(FIRST_KEY),
            name: "admin".into(),
            secret_sha256: secret::hash(&key),
            secret_since: self.now,
            former: None,
            grants: vec![Grant::of(Role::Admin.id())],
            expires_at: None,
            created_at: self.now,
        });
        match unit.commit().await {
            Ok(_) => Ok(Some(key.to_string())),
            Err(CommitError::Refused(_)) => {
                // This one is good for nothing.
                files.remove(path)?;
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl App {
    /// Whether the key that the first start made is good still.
    pub async fn has_first_key(&self) -> bool {
        let key = self.store.get::<ApiKey>(&known(FIRST_KEY)).await;
        key.is_ok_and(|key| key.is_some())
    }
}

/// How often the first key was made.
fn first_key_total() -> Key {
    Key::new().text("first_key")
}

pub(super) fn key_place(id: &str) -> Place<'_> {
    Place {
        coll: "ca_node",
        id,
        purpose: "key",
    }
}
