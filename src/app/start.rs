//! From a data directory to a working control plane. Everything here can be cut at any point and
//! run again: each step finds what the step before left.

use super::{App, AppError, access::API_KEY};
use crate::{
    access::Role,
    ca::{Issuer, LocalCa, local},
    clock::{Clock, Rng, SystemClock, Time},
    config::ServerConfig,
    crypt::{
        Crypto, KeyRing, MachineKey, OsRng, Place, PrivateKey, RingCrypto, RingError, Sealed,
        secret,
    },
    domain::{
        ApiKey, AuditEvent, CaNode, Category, Issuer as IssuerRow, IssuerKind, Principal, Profile,
        RenewalPolicy,
    },
    id::Id,
    jobs::{Doorbell, Heard, Pulse},
    net::{AGENT_NAME, Identity, ServerIdentity, SpkiPin},
    pki::{
        self, Certificate, Eku, KeyAlgorithm, San, Serial,
        issue::{Authority, Leaf},
    },
    store::{
        AUDIT, COLLECTIONS, CommitError, Committer, EngineError, Redb, RingRow, Store, StoreError,
        Unit,
    },
    sys::{Disk, FileError, Files, Reach, Tasks, remove_temporaries},
    telemetry::Throttle,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The issuer that is always there.
pub const ISSUER_LOCAL: &str = "iss-local";
/// The profile that is always there.
pub const PROFILE_DEFAULT: &str = "prof-default";
/// The renewal policy that is always there.
pub const POLICY_DEFAULT: &str = "rp-default";
/// The file that the first start leaves for the administrator.
pub const FIRST_START: &str = "first-start.txt";

/// The system CA's certificate, in the data directory.
pub const SYSTEM_CA_FILE: &str = "tls/system-ca.pem";
const LOCAL_ROOT_FILE: &str = "tls/local-root-ca.pem";
/// The longest of them, in bytes.
const MAX_PEM: usize = 64 << 10;

/// No clock that is set says an earlier time: 2025-01-01.
const EARLIEST: Time = Time::from_seconds(1_735_689_600);

const ROOT_NODE: &str = "ca-local-root";
const ISSUING_NODE: &str = "ca-local-issuing";
const SYSTEM_NODE: &str = "ca-system";
const FIRST_KEY: &str = "key-first-admin";
const RING_ID: &str = "ring";
/// A CA's end is told from this long before it.
const CA_WARNED_BEFORE: Duration = Duration::from_secs(365 * 86_400);
const LEAF_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// What a control plane is made of, apart from what it stores.
pub struct Parts {
    /// Where everything is kept.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub rng: Arc<dyn Rng>,
    /// Makes keys.
    pub crypto: Arc<dyn Crypto>,
    /// The server's own files.
    pub files: Arc<dyn Files>,
    /// Starts tasks.
    pub tasks: Tasks,
    /// The settings.
    pub config: ServerConfig,
    /// Names under which the server is reached, for its own certificate.
    pub names: Vec<San>,
}

impl Parts {
    /// A control plane of this machine: its clock, its random bytes, and a redb store in the data
    /// directory, which is made when it is missing. A commit that the disk refuses ends the
    /// process: what was acknowledged is safe, and opening the store again is the recovery.
    pub fn of_machine(
        config: ServerConfig,
        tasks: Tasks,
        names: Vec<San>,
    ) -> Result<Self, StartError> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        files
            .make_dir(&config.data_dir, 0o700)
            .map_err(StartError::DataDir)?;
        let engine = Redb::open(&config.data_dir.join("certctl.redb"))?;
        let store = Store::start(
            Arc::new(engine),
            Committer::Thread,
            Box::new(|e| {
                tracing::error!(error = %e, "the store cannot be written: the process ends");
                std::process::exit(STORE_FAILED);
            }),
        )
        .map_err(|e| EngineError::Io(e.to_string()))?;
        Ok(Self {
            store,
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            crypto: Arc::new(RingCrypto),
            files,
            tasks,
            config,
            names,
        })
    }
}

/// The exit code when the store failed while the server ran (EX_IOERR of sysexits.h).
pub const STORE_FAILED: i32 = 74;

/// A control plane, and what its first start made.
pub struct Started {
    /// The control plane.
    pub app: Arc<App>,
    /// The administrator's key, on the first start only.
    pub admin_key: Option<String>,
}

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no data directory, and none can be made.
    #[error("{0}: choose another data directory (--data-dir)")]
    DataDir(FileError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process has the data directory's store open.
    #[error(
        "another certctl runs on {0}: use that one, stop it, or choose another data directory (--data-dir)"
    )]
    InUse(String),
    /// The storage engine.
    #[error(transparent)]
    Engine(EngineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The clock was never set: what is made now would have ended when it is.
    #[error("the clock says {0}, which cannot be: set it, then start again")]
    Clock(Time),
    /// The key ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The machine key is gone.
    #[error(
        "{0} is missing, and the store beside it was sealed with it: put it back from your backup"
    )]
    MachineKeyMissing(String),
    /// The store is gone: there is only what lies beside it.
    #[error(
        "{0} holds no store, but what a server left beside one: put certctl.redb back from your \
         backup, or begin anew in an empty directory"
    )]
    StoreMissing(String),
    /// The machine key's file holds something else.
    #[error("{0} cannot be used ({1}): put it back from your backup")]
    MachineKeyUnreadable(String, RingError),
    /// A CA.
    #[error(transparent)]
    Ca(#[from] local::CreateError),
    /// Something stored cannot be used.
    #[error("{what} in the store cannot be used: {reason}")]
    Stored {
        /// The thing.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<EngineError> for StartError {
    fn from(e: EngineError) -> Self {
        match e {
            EngineError::InUse(path) => Self::InUse(path),
            e => Self::Engine(e),
        }
    }
}

/// The CA that signs the server's own certificate, apart from the issuers of users. Agents trust
/// it from their enrolment on.
pub struct SystemCa {
    certificate: Certificate,
    pem: String,
    key: Arc<PrivateKey>,
    names: Vec<San>,
    /// When the present leaf begins and ends.
    leaf: Mutex<(Time, Time)>,
}

impl SystemCa {
    /// The certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Its public key, as agents pin it: `sha256:` and lower hex.
    pub fn pin(&self) -> String {
        SpkiPin::of_spki(self.certificate.public_key().spki_der()).to_string()
    }

    /// A fresh key and leaf for the server. They live in memory only: agents pin the CA.
    async fn identity(
        &self,
        crypto: &dyn Crypto,
        rng: &dyn Rng,
        now: Time,
    ) -> Result<Identity, StartError> {
        let key = crypto
            .generate_key(KeyAlgorithm::EcdsaP256)
            .map_err(local::CreateError::from)?;
        let mut seed = [0; 16];
        rng.fill(&mut seed);
        let leaf = pki::issue::leaf(
            Authority {
                certificate: &self.certificate,
                signer: &*self.key,
            },
            &Leaf {
                serial: &Serial::random(seed),
                common_name: Some(AGENT_NAME),
                sans: &self.names,
                public_key: key.public_key(),
                lifetime: local::widely(now, LEAF_LIFETIME),
                ekus: &[Eku::ServerAuth],
            },
        )
        .await
        .map_err(local::CreateError::from)?;
        let validity = (leaf.not_before(), leaf.not_after());
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner) = validity;
        let chain = vec![leaf.der().to_vec(), self.certificate.der().to_vec()];
        Identity::from_der(chain, key.pkcs8_der().to_vec()).map_err(|e| StartError::Stored {
            what: "the system CA",
            reason: e.to_string(),
        })
    }
}

impl App {
    /// Brings up a control plane over a store, making on the first start what must be there.
    pub async fn start(parts: Parts) -> Result<Started, StartError> {
        let Parts {
            store,
            clock,
            rng,
            crypto,
            files,
            tasks,
            config,
            mut names,
        } = parts;
        let birth = Birth {
            store: &store,
            rng: &*rng,
            crypto: &*crypto,
            now: clock.now(),
        };
        let rows = birth.indexes().await?;
        if rows > 0 {
            tracing::info!(rows, "indexes were built");
        }
        let keyring = birth
            .keyring(
                &*files,
                &config.data_dir.join("machine.key"),
                &config.data_dir.join(SYSTEM_CA_FILE),
            )
            .await?;
        birth.records().await?;
        birth.cas(&keyring).await?;
        let admin_key = birth
            .first_key(&*files, &config.data_dir.join(FIRST_START))
            .await?;

        let (issuing, issuing_key) = birth.node(&keyring, ISSUING_NODE).await?;
        let (system, system_key) = birth.node(&keyring, SYSTEM_NODE).await?;
        let (root, _) = birth.node(&keyring, ROOT_NODE).await?;
        let trust = config.data_dir.join("tls");
        for dir in [&config.data_dir, &trust] {
            if let Err(error) = remove_temporaries(&*files, dir, Reach::Directory) {
                tracing::warn!(%error, "what a crash left half written was not removed");
            }
        }
        files.make_dir(&trust, 0o755)?;
        for (name, ca) in [(SYSTEM_CA_FILE, &system), (LOCAL_ROOT_FILE, &root)] {
            let path = config.data_dir.join(name);
            files.write_durable(&path, ca.pem().as_bytes(), 0o644)?;
        }

        names.push(San::Dns(AGENT_NAME.into()));
        let system_ca = SystemCa {
            pem: system.pem(),
            certificate: system,
            key: system_key,
            names: pki::Sans::new(names).into_vec(),
            leaf: Mutex::new((clock.now(), clock.now())),
        };
        let identity = system_ca.identity(&*crypto, &*rng, clock.now()).await?;
        let local: Arc<dyn Issuer> = Arc::new(LocalCa::new(issuing, issuing_key));
        let app = App {
            started_at: clock.now(),
            store,
            clock,
            rng,
            crypto,
            tasks,
            keyring,
            issuers: BTreeMap::from([(super::known(ISSUER_LOCAL), local)]),
            system_ca,
            identity: ServerIdentity::new(identity),
            doorbell: Doorbell::default(),
            heard: Heard::default(),
            pulse: Pulse::default(),
            refusals: Throttle::default(),
            config,
        };
        Ok(Started {
            app: Arc::new(app),
            admin_key,
        })
    }

    /// Says in the log which CAs end within a year: what they issued must be followed by others.
    pub(crate) fn warn_of_ends(&self) {
        let system = ("the system CA", Some(&self.system_ca.certificate));
        let issuers = self.issuers.iter().map(|(id, i)| (id.as_str(), i.anchor()));
        for (ca, certificate) in issuers.chain([system]) {
            let Some(certificate) = certificate else {
                continue;
            };
            let end = certificate.not_after();
            if end.since(self.now()) < CA_WARNED_BEFORE {
                tracing::warn!(ca, %end, "the CA ends within a year: replace it");
            }
        }
    }

    /// Gives the server a new certificate of its own when a third of the present one is left, or
    /// when the clock was set back before its beginning.
    pub(crate) async fn renew_server_certificate(&self) -> Result<(), AppError> {
        let leaf = self.system_ca.leaf.lock();
        let (begin, end) = *leaf.unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        if begin <= now && end.since(now) > LEAF_LIFETIME / 3 {
            return Ok(());
        }
        let fresh = self
            .system_ca
            .identity(&*self.crypto, &*self.rng, self.now())
            .await;
        let fresh = fresh.map_err(|e| AppError::Issuer(e.to_string()))?;
        self.identity.set_system(fresh);
        tracing::info!("the server has a new certificate of its own");
        Ok(())
    }
}

/// The first start, and what every later one finds of it.
struct Birth<'a> {
    store: &'a Store,
    rng: &'a dyn Rng,
    crypto: &'a dyn Crypto,
    now: Time,
}

impl Birth<'_> {
    fn unit(&self) -> Unit<'_> {
        self.store.unit(u128::from_be_bytes(self.seed()), self.now)
    }

    /// Indexes as this program derives them, before anything is looked up by them.
    async fn indexes(&self) -> Result<u64, StoreError> {
        let commit_id = || u128::from_be_bytes(self.seed());
        self.store
            .build_indexes(COLLECTIONS, self.now, commit_id)
            .await
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
    async fn keyring(
        &self,
        files: &dyn Files,
        path: &Path,
        beside: &Path,
    ) -> Result<KeyRing, StartError> {
        let stored = self.store.get::<RingRow>(&super::known(RING_ID)).await?;
        let machine = match files.read(path, 1024) {
            Ok(text) => Some(
                MachineKey::from_text(&String::from_utf8_lossy(&text))
                    .map_err(|e| StartError::MachineKeyUnreadable(path.display().to_string(), e))?,
            ),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e.into()),
        };
        match (stored, machine) {
            (Some(row), Some(machine)) => Ok(KeyRing::open_ring(&row.ring, &machine)?),
            (Some(_), None) => Err(StartError::MachineKeyMissing(path.display().to_string())),
            (None, _) if files.read(beside, MAX_PEM).is_ok() => {
                let dir = path.parent().unwrap_or(path);
                Err(StartError::StoreMissing(dir.display().to_string()))
            }
            (None, machine) => {
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
                    id: super::known(RING_ID),
                    ring: doc,
                });
                unit.commit().await?;
                Ok(ring)
            }
        }
    }

    /// The records that are always there.
    async fn records(&self) -> Result<(), StartError> {
        let mut unit = self.unit();
        let (created_at, updated_at) = (self.now, self.now);
        let mut made = false;
        if unit
            .load_opt::<Profile>(&super::known(PROFILE_DEFAULT))
            .await?
            .is_none()
        {
            made = true;
            unit.insert(Profile {
                id: super::known(PROFILE_DEFAULT),
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
                created_at,
                updated_at,
            });
        }
        if unit
            .load_opt::<RenewalPolicy>(&super::known(POLICY_DEFAULT))
            .await?
            .is_none()
        {
            made = true;
            unit.insert(RenewalPolicy {
                id: super::known(POLICY_DEFAULT),
                name: "Default".into(),
                renew_left_permille: 333,
                renewal_window_days: 0,
                created_at,
                updated_at,
            });
        }
        if unit
            .load_opt::<IssuerRow>(&super::known(ISSUER_LOCAL))
            .await?
            .is_none()
        {
            made = true;
            unit.insert(IssuerRow {
                id: super::known(ISSUER_LOCAL),
                name: "Local CA".into(),
                kind: IssuerKind::GenericCA {
                    issuing_node: super::known(ISSUING_NODE),
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
    async fn cas(&self, keyring: &KeyRing) -> Result<(), StartError> {
        let mut unit = self.unit();
        let mut made = false;
        if unit
            .load_opt::<CaNode>(&super::known(ISSUING_NODE))
            .await?
            .is_none()
        {
            made = true;
            let serials = [self.seed(), self.seed()];
            let (root, issuing) = local::create_hierarchy(self.crypto, serials, self.now).await?;
            let root_id = super::known(ROOT_NODE);
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
            .load_opt::<CaNode>(&super::known(SYSTEM_NODE))
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
            id: super::known(id),
            parent,
            certificate_pem: node.certificate.pem(),
            sealed_key: sealed.to_string(),
            created_at: self.now,
        }
    }

    /// A CA node, its key opened and seen to fit its certificate.
    async fn node(
        &self,
        keyring: &KeyRing,
        id: &'static str,
    ) -> Result<(Certificate, Arc<PrivateKey>), StartError> {
        let bad = |reason: String| StartError::Stored {
            what: "a CA node",
            reason: format!("{id}: {reason}"),
        };
        let node = self.store.get::<CaNode>(&super::known(id)).await?;
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
    /// was cut between the two makes another.
    async fn first_key(
        &self,
        files: &dyn Files,
        path: &Path,
    ) -> Result<Option<String>, StartError> {
        let mut unit = self.unit();
        if unit
            .load_opt::<ApiKey>(&super::known(FIRST_KEY))
            .await?
            .is_some()
        {
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
        unit.insert(ApiKey {
            id: super::known(FIRST_KEY),
            name: "admin".into(),
            secret_sha256: secret::hash(&key),
            role: Role::Admin.id().into(),
            expires_at: None,
            created_at: self.now,
        });
        unit.commit().await?;
        Ok(Some(key.to_string()))
    }
}

fn key_place(id: &str) -> Place<'_> {
    Place {
        coll: "ca_node",
        id,
        purpose: "key",
    }
}
