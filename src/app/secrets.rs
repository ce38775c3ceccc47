//! The keys that seal secrets: made anew, and what was sealed with older ones sealed again.
//!
//! The ring is one row, and whoever seals asserts it in the same commit: a key that the ring no
//! longer has never seals anything. Whoever meets a value of a key that it does not know reads the
//! ring again, for another server may have made one.

use super::{
    App, AppError, StartError,
    backup::{MACHINE_KEY, machine_key},
    birth::key_place,
    known, require,
    start::found_engine,
};
use crate::{
    access::Permission,
    clock::{Clock, Rng, SystemClock, Time},
    config::ServerConfig,
    crypt::{KeyRing, MachineKey, OsRng, Place, RingDoc, RingError, Sealed},
    domain::{AuditEvent, CaNode, Category, Principal, PrincipalKind},
    store::{AUDIT, Committer, EngineError, Loaded, RingRow, Store, Unit},
    sys::{Disk, Files, own_user},
};
use arc_swap::ArcSwap;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use zeroize::Zeroizing;

/// How often a change is made again on fresh rows.
const TRIES: usize = 16;

/// The open key ring of this process, with the row that it was opened from.
pub struct Ring(ArcSwap<(RingDoc, KeyRing)>);

impl Ring {
    pub(super) fn new(doc: RingDoc, ring: KeyRing) -> Self {
        Self(ArcSwap::from_pointee((doc, ring)))
    }
}

/// A data key of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey {
    /// Its name.
    pub name: String,
    /// It seals new values.
    pub writes: bool,
    /// So many values are sealed with it.
    pub values: u64,
}

/// What sealing anew has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resealed {
    /// Values that were sealed anew.
    pub values: u64,
    /// Keys that nothing is sealed with any more, which the ring no longer has.
    pub dropped: Vec<String>,
}

/// The secrets of a store, and what opens them.
pub struct Secrets<'a> {
    pub(super) store: &'a Store,
    pub(super) machine: &'a MachineKey,
    pub(super) rng: &'a dyn Rng,
    clock: &'a dyn Clock,
    who: &'a Principal,
}

impl<'a> Secrets<'a> {
    /// Those of a store, which the machine key opens.
    pub fn of(
        store: &'a Store,
        machine: &'a MachineKey,
        (rng, clock): (&'a dyn Rng, &'a dyn Clock),
        who: &'a Principal,
    ) -> Self {
        Self {
            store,
            machine,
            rng,
            clock,
            who,
        }
    }

    fn unit(&self) -> Unit<'_> {
        let mut id = [0; 16];
        self.rng.fill(&mut id);
        self.store.unit(u128::from_be_bytes(id), self.clock.now())
    }

    async fn ring(&self, unit: &mut Unit<'_>) -> Result<Loaded<RingRow>, AppError> {
        Ok(unit.load::<RingRow>(&known("ring")).await?)
    }

    fn event(&self, action: &str, now: Time) -> AuditEvent {
        AuditEvent::new(self.who, Category::Auth, action, ("ring", "ring"), now)
    }

    /// Makes a data key that seals from now on; gives its name. What is sealed stays as it is.
    ///
    /// # Errors
    /// When the machine key does not open the ring, or the store fails.
    pub async fn rotate(&self) -> Result<String, AppError> {
        let rotated = |ring: &RingDoc| KeyRing::rotated(ring, self.machine, self.rng);
        let event = |event: AuditEvent, ring: &RingDoc| event.with("key", &ring.writes);
        let ring = self.change_ring(rotated, "secrets_rotated", event).await?;
        Ok(ring.writes)
    }

    /// Writes the ring as `change` makes it of what is stored, with an event; gives it.
    pub(super) async fn change_ring(
        &self,
        change: impl Fn(&RingDoc) -> Result<RingDoc, RingError>,
        action: &str,
        tell: impl Fn(AuditEvent, &RingDoc) -> AuditEvent,
    ) -> Result<RingDoc, AppError> {
        for _ in 0..TRIES {
            let mut unit = self.unit();
            let mut row = self.ring(&mut unit).await?;
            row.ring = change(&row.ring).map_err(of_ring)?;
            let ring = row.ring.clone();
            let event = self.event(action, self.clock.now());
            unit.append(AUDIT, &tell(event, &ring));
            unit.put(row);
            match unit.commit().await {
                Ok(_) => return Ok(ring),
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(AppError::of_commit(e)),
            }
        }
        Err(AppError::Busy)
    }

    /// Seals with the present key all that is sealed with others, and drops those from the ring.
    /// It can be cut anywhere: what is done is done, and the next call goes on. `progress` is told
    /// of values as they are sealed.
    ///
    /// # Errors
    /// When a value does not open, or the store fails.
    pub async fn reseal(&self, progress: &(dyn Fn(u64) + Sync)) -> Result<Resealed, AppError> {
        let mut values = 0;
        for node in self.store.every::<CaNode>().await? {
            if self.reseal_node(&node).await? {
                values += 1;
                progress(values);
            }
        }
        let dropped = self.drop_unused(values).await?;
        Ok(Resealed { values, dropped })
    }

    /// Whether it was sealed with another key.
    async fn reseal_node(&self, found: &CaNode) -> Result<bool, AppError> {
        for _ in 0..TRIES {
            let mut unit = self.unit();
            let row = self.ring(&mut unit).await?;
            let Some(mut node) = unit.load_opt::<CaNode>(&found.id).await? else {
                return Ok(false);
            };
            let Some(sealed) = sealed_in(&node)? else {
                return Ok(false);
            };
            if sealed.key == row.ring.writes {
                return Ok(false);
            }
            let ring = KeyRing::open_ring(&row.ring, self.machine).map_err(of_ring)?;
            let place = key_place(found.id.as_str());
            let bad = |e| AppError::Store(format!("the key of CA {}: {e}", found.id));
            let plain = ring.open(place, &sealed).map_err(bad)?;
            node.sealed_key = ring.seal(place, &plain, self.rng).to_string();
            unit.rely_on(&row);
            unit.put(node);
            match unit.commit().await {
                Ok(_) => return Ok(true),
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(AppError::of_commit(e)),
            }
        }
        Err(AppError::Busy)
    }

    async fn drop_unused(&self, resealed: u64) -> Result<Vec<String>, AppError> {
        for _ in 0..TRIES {
            let mut unit = self.unit();
            let mut row = self.ring(&mut unit).await?;
            // Sealed after the ring was loaded is sealed with the key that stays.
            let used = used(self.store).await?;
            let unused = |name: &&String| **name != row.ring.writes && !used.contains_key(*name);
            let dropped: Vec<String> = row.ring.keys.keys().filter(unused).cloned().collect();
            if dropped.is_empty() && resealed == 0 {
                return Ok(dropped);
            }
            row.ring.keys.retain(|name, _| !dropped.contains(name));
            let event = self.event("secrets_resealed", self.clock.now());
            let event = event
                .with("values", resealed)
                .with("key", &row.ring.writes)
                .with("dropped", dropped.join(" "));
            unit.append(AUDIT, &event);
            unit.put(row);
            match unit.commit().await {
                Ok(_) => return Ok(dropped),
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(AppError::of_commit(e)),
            }
        }
        Err(AppError::Busy)
    }
}

/// The data keys of a store, and how many values each has sealed; none before its first start.
///
/// # Errors
/// When the store fails.
pub(super) async fn data_keys(store: &Store) -> Result<Vec<DataKey>, AppError> {
    let Some(row) = store.get::<RingRow>(&known("ring")).await? else {
        return Ok(Vec::new());
    };
    let mut used = used(store).await?;
    // One that the ring does not have is a fault, and is shown.
    for name in row.ring.keys.keys() {
        used.entry(name.clone()).or_default();
    }
    let keys = used.into_iter().map(|(name, values)| DataKey {
        writes: name == row.ring.writes,
        name,
        values,
    });
    Ok(keys.collect())
}

/// How many values each data key has sealed.
async fn used(store: &Store) -> Result<BTreeMap<String, u64>, AppError> {
    let mut used = BTreeMap::new();
    for node in store.every::<CaNode>().await? {
        if let Some(sealed) = sealed_in(&node)? {
            *used.entry(sealed.key).or_default() += 1;
        }
    }
    Ok(used)
}

fn sealed_in(node: &CaNode) -> Result<Option<Sealed>, AppError> {
    if node.sealed_key.is_empty() {
        return Ok(None);
    }
    let bad = |e: RingError| AppError::Store(format!("the key of CA {}: {e}", node.id));
    node.sealed_key.parse().map(Some).map_err(bad)
}

pub(super) fn of_ring(e: RingError) -> AppError {
    AppError::Store(e.to_string())
}

impl App {
    /// The ring, which the commit asserts: to seal with.
    pub(super) async fn sealing(&self, unit: &mut Unit<'_>) -> Result<KeyRing, AppError> {
        let row = unit.load::<RingRow>(&known("ring")).await?;
        self.ring_of(&row.ring)
    }

    /// Opens what is sealed, also by a key that another server has made lately.
    pub(super) async fn unseal(
        &self,
        place: Place<'_>,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, AppError> {
        let held = self.keyring.0.load_full();
        if held.0.keys.contains_key(&sealed.key) {
            return held.1.open(place, sealed).map_err(of_ring);
        }
        let row = self.store.get::<RingRow>(&known("ring")).await?;
        let row = row.ok_or_else(|| AppError::Store("the store has no key ring".into()))?;
        self.ring_of(&row.ring)?
            .open(place, sealed)
            .map_err(of_ring)
    }

    /// The ring of a row, opened anew where it is another than before.
    fn ring_of(&self, doc: &RingDoc) -> Result<KeyRing, AppError> {
        let held = self.keyring.0.load_full();
        if held.0 == *doc {
            return Ok(held.1.clone());
        }
        let ring = KeyRing::open_ring(doc, &self.machine_key()?).map_err(of_ring)?;
        self.keyring.0.store(Arc::new((doc.clone(), ring.clone())));
        Ok(ring)
    }

    fn machine_key(&self) -> Result<MachineKey, AppError> {
        let key = machine_key(&*self.files, &self.config);
        let key = key.map_err(|e| AppError::Store(e.to_string()))?;
        key.ok_or_else(|| AppError::Store("the machine.key is not in the data directory".into()))
    }

    /// The data keys, and how many values each has sealed.
    pub async fn secrets(&self, who: &Principal) -> Result<Vec<DataKey>, AppError> {
        require(who, Permission::SecretsRotate)?;
        data_keys(&self.store).await
    }

    /// Makes a data key that seals from now on; gives its name.
    pub async fn rotate_secrets(&self, who: &Principal) -> Result<String, AppError> {
        require(who, Permission::SecretsRotate)?;
        let machine = self.machine_key()?;
        self.secrets_with(who, &machine).rotate().await
    }

    /// Seals with the present key all that is sealed with others.
    pub async fn reseal_secrets(&self, who: &Principal) -> Result<Resealed, AppError> {
        require(who, Permission::SecretsRotate)?;
        let machine = self.machine_key()?;
        self.secrets_with(who, &machine).reseal(&|_| {}).await
    }

    fn secrets_with<'a>(&'a self, who: &'a Principal, machine: &'a MachineKey) -> Secrets<'a> {
        Secrets::of(&self.store, machine, (&*self.rng, &*self.clock), who)
    }
}

/// What is done to the secrets of a store that no server has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsWork {
    /// Nothing: they are looked at.
    Look,
    /// A new key is made.
    Rotate,
    /// All is sealed with it.
    Reseal,
}

/// What was done there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsDone {
    /// The keys after it.
    pub keys: Vec<DataKey>,
    /// What was sealed anew, where that was asked.
    pub resealed: Option<Resealed>,
}

/// Does it, as the user of this process.
///
/// # Errors
/// When a server runs, there is no store or no machine key, or it fails.
pub async fn secrets_of_machine(
    config: &ServerConfig,
    work: SecretsWork,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<SecretsDone, StartError> {
    let (store, machine) = found(config).await?;
    let who = Principal::new(PrincipalKind::User, format!("local:{}", own_user()));
    let secrets = Secrets::of(&store, &machine, (&OsRng, &SystemClock), &who);
    let done = async {
        let resealed = match work {
            SecretsWork::Look => None,
            SecretsWork::Rotate => {
                secrets.rotate().await?;
                None
            }
            SecretsWork::Reseal => Some(secrets.reseal(progress).await?),
        };
        let keys = data_keys(&store).await?;
        Ok::<_, AppError>(SecretsDone { keys, resealed })
    };
    let done = done.await;
    store.close().await;
    done.map_err(failed)
}

/// Makes the machine key of this machine anew; gives its file.
///
/// # Errors
/// When a server or another command has the store open, the key is not a file in the data
/// directory, or it fails.
pub async fn rotate_machine_key_here(config: &ServerConfig) -> Result<PathBuf, StartError> {
    if config.machine_key.is_some() {
        return Err(StartError::MachineKeyGiven);
    }
    let (store, machine) = found(config).await?;
    let others = store.others().await?.len();
    if others > 0 {
        return Err(StartError::OthersAtWork(others));
    }
    let who = Principal::new(PrincipalKind::User, format!("local:{}", own_user()));
    let secrets = Secrets::of(&store, &machine, (&OsRng, &SystemClock), &who);
    let place = config.data_dir.join(MACHINE_KEY);
    let done = secrets.rotate_machine_key(&Disk, &place).await;
    store.close().await;
    done.map(|()| place).map_err(failed)
}

/// The store that no server has open, and the machine key that is to open what is sealed in it.
async fn found(config: &ServerConfig) -> Result<(Store, MachineKey), StartError> {
    let key = machine_key(&Disk as &dyn Files, config);
    let machine = key.map_err(|e| failed(AppError::Store(e.to_string())))?;
    let engine = found_engine(config).await?;
    let machine = machine.ok_or_else(|| StartError::no_machine_key(config))?;
    let store = Store::start(engine, Committer::Inline, Box::new(|_| {}));
    let store = store.map_err(|e| EngineError::Io(e.to_string()))?;
    Ok((store, machine))
}

fn failed(e: AppError) -> StartError {
    match e {
        AppError::Away => EngineError::Away("it went away meanwhile".to_owned()).into(),
        e => StartError::Stored {
            what: "the key ring",
            reason: e.to_string(),
        },
    }
}
