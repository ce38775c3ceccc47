//! The key ring: what seals secrets before they reach a store.
//!
//! Data keys seal values; the ring key wraps the data keys; each slot wraps the ring key under
//! something outside of the store, today the machine key. A value is sealed by AES-256-GCM under
//! a key derived for it alone (HKDF-SHA256 over a random salt), bound to its place by the
//! associated data. A canary is opened before anything else, so that a wrong key is said as such.

use crate::clock::{Rng, Time};
use data_encoding::{BASE64, HEXLOWER};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};
use zeroize::Zeroizing;

/// Where a sealed value stands; opening it elsewhere fails.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The collection.
    pub coll: &'a str,
    /// The row.
    pub id: &'a str,
    /// What the value is there.
    pub purpose: &'a str,
}

/// A sealed value: names of keys in clear, the rest base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The data key.
    pub key: String,
    /// The salt of the value's own key.
    pub salt: String,
    /// The nonce.
    pub nonce: String,
    /// Ciphertext and tag.
    pub ct: String,
}

/// One line of text: `key.salt.nonce.ct`.
impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.key, self.salt, self.nonce, self.ct)
    }
}

impl FromStr for Sealed {
    type Err = RingError;
    fn from_str(s: &str) -> Result<Self, RingError> {
        let mut parts = s.split('.').map(ToOwned::to_owned);
        let mut part = || parts.next().ok_or(RingError::Value);
        let sealed = Self {
            key: part()?,
            salt: part()?,
            nonce: part()?,
            ct: part()?,
        };
        if parts.next().is_some() {
            Err(RingError::Value)
        } else {
            Ok(sealed)
        }
    }
}

/// The ring as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingDoc {
    /// The data keys by name, each sealed under the ring key.
    pub keys: BTreeMap<String, Sealed>,
    /// The data key that seals new values.
    pub writes: String,
    /// The ring key, wrapped once per way to open it.
    pub slots: Vec<Slot>,
    /// A known value, sealed under the data key that seals.
    pub canary: Sealed,
    /// When the ring was made.
    pub created_at: Time,
}

/// One way to the ring key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Slot {
    /// The machine key.
    Machine {
        /// The ring key, sealed under it.
        wrapped: Sealed,
    },
}

/// The secret that a machine keeps outside of the store.
pub struct MachineKey(Zeroizing<[u8; 32]>);

/// Why a ring does not open, or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// No slot opens.
    #[error(
        "the machine key does not fit this store: put back the machine.key that was made with it"
    )]
    WrongKey,
    /// The ring is damaged.
    #[error("the key ring is damaged: restore the store from a backup")]
    Damaged,
    /// A value is sealed with a data key that the ring does not have: a later ring may.
    #[error(
        "a sealed value is of a key that the key ring does not have: restore the store from a backup"
    )]
    NoKey,
    /// A value does not open: damaged, or moved from another place.
    #[error("a sealed value does not open: it is damaged or stands in the wrong place")]
    Value,
    /// The text is no machine key.
    #[error("a machine key is 64 hexadecimal digits")]
    Text,
}

impl MachineKey {
    /// A new one.
    pub fn generate(rng: &dyn Rng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill(&mut *key);
        Self(key)
    }

    /// From its text form.
    pub fn from_text(text: &str) -> Result<Self, RingError> {
        let bytes = Zeroizing::new(
            HEXLOWER
                .decode(text.trim().as_bytes())
                .map_err(|_| RingError::Text)?,
        );
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| RingError::Text)?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// A secret for another use, which says nothing of the key.
    pub fn derived(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, b"certctl machine key")
            .extract(&*self.0)
            .expand(&[purpose.as_bytes()], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *secret))
            // HKDF refuses only outputs of over 255 blocks, or of another length than asked for.
            .unwrap_or_else(|_| std::process::abort());
        secret
    }

    /// Its text form: 64 hexadecimal digits and a newline.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(65));
        HEXLOWER.encode_append(&*self.0, &mut text);
        text.push('\n');
        text
    }
}

impl fmt::Debug for MachineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MachineKey")
    }
}

/// An open ring.
#[derive(Clone)]
pub struct KeyRing(Arc<Keys>);

struct Keys {
    by_name: BTreeMap<String, Zeroizing<[u8; 32]>>,
    writes: String,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.0.by_name.len())
    }
}

const RING: &str = "ring";
const MACHINE: &str = "machine";
const CANARY: &[u8] = b"certctl key ring";

impl KeyRing {
    /// A new ring with one data key and a slot for the machine key.
    pub fn create(machine: &MachineKey, rng: &dyn Rng, now: Time) -> (RingDoc, Self) {
        let fresh = || {
            let mut key = Zeroizing::new([0; 32]);
            rng.fill(&mut *key);
            key
        };
        let (ring_key, data_key) = (fresh(), fresh());
        let name = data_key_name(rng);
        let wrapped = seal_under(&machine.0, MACHINE, ring_place(RING), &*ring_key, rng);
        let sealed_key = seal_under(&ring_key, RING, ring_place(&name), &*data_key, rng);
        let ring = Self(Arc::new(Keys {
            by_name: BTreeMap::from([(name.clone(), data_key)]),
            writes: name.clone(),
        }));
        let doc = RingDoc {
            canary: ring.seal(ring_place("canary"), CANARY, rng),
            keys: BTreeMap::from([(name.clone(), sealed_key)]),
            writes: name,
            slots: vec![Slot::Machine { wrapped }],
            created_at: now,
        };
        (doc, ring)
    }

    /// The ring as it is stored, with a new data key, which seals from then on.
    ///
    /// # Errors
    /// When the machine key does not open it.
    pub fn rotated(
        doc: &RingDoc,
        machine: &MachineKey,
        rng: &dyn Rng,
    ) -> Result<RingDoc, RingError> {
        let ring_key = ring_key(doc, machine)?;
        let mut keys = Self::open_ring(doc, machine)?.0.by_name.clone();
        let mut data_key = Zeroizing::new([0; 32]);
        rng.fill(&mut *data_key);
        let name = loop {
            let name = data_key_name(rng);
            if !keys.contains_key(&name) {
                break name;
            }
        };
        let mut doc = doc.clone();
        let sealed = seal_under(&ring_key, RING, ring_place(&name), &*data_key, rng);
        doc.keys.insert(name.clone(), sealed);
        keys.insert(name.clone(), data_key);
        doc.writes.clone_from(&name);
        let ring = Self(Arc::new(Keys {
            by_name: keys,
            writes: name,
        }));
        doc.canary = ring.seal(ring_place("canary"), CANARY, rng);
        Ok(doc)
    }

    /// Opens a ring by the machine key.
    pub fn open_ring(doc: &RingDoc, machine: &MachineKey) -> Result<Self, RingError> {
        let ring_key = ring_key(doc, machine)?;
        let mut by_name = BTreeMap::new();
        for (name, sealed) in &doc.keys {
            let key = open_under(&ring_key, RING, ring_place(name), sealed).and_then(as_key);
            by_name.insert(name.clone(), key.ok_or(RingError::Damaged)?);
        }
        if !by_name.contains_key(&doc.writes) {
            return Err(RingError::Damaged);
        }
        let ring = Self(Arc::new(Keys {
            by_name,
            writes: doc.writes.clone(),
        }));
        match ring.open(ring_place("canary"), &doc.canary) {
            Ok(canary) if canary.as_slice() == CANARY => Ok(ring),
            _ => Err(RingError::Damaged),
        }
    }

    /// The ring as it is stored, which `opens` opens, with a slot for another machine key, too.
    ///
    /// # Errors
    /// When the key does not open it.
    pub fn with_slot(
        doc: &RingDoc,
        opens: &MachineKey,
        also: &MachineKey,
        rng: &dyn Rng,
    ) -> Result<RingDoc, RingError> {
        let ring_key = ring_key(doc, opens)?;
        let mut doc = doc.clone();
        let wrapped = seal_under(&also.0, MACHINE, ring_place(RING), &*ring_key, rng);
        doc.slots.push(Slot::Machine { wrapped });
        Ok(doc)
    }

    /// The ring as it is stored, which this machine key opens, so that nothing else does: its data
    /// keys are the same, under a new ring key.
    ///
    /// # Errors
    /// When the key does not open it.
    pub fn alone(doc: &RingDoc, opens: &MachineKey, rng: &dyn Rng) -> Result<RingDoc, RingError> {
        let ring = Self::open_ring(doc, opens)?;
        let mut ring_key = Zeroizing::new([0; 32]);
        rng.fill(&mut *ring_key);
        let keys = ring.0.by_name.iter().map(|(name, key)| {
            let sealed = seal_under(&ring_key, RING, ring_place(name), &**key, rng);
            (name.clone(), sealed)
        });
        let wrapped = seal_under(&opens.0, MACHINE, ring_place(RING), &*ring_key, rng);
        Ok(RingDoc {
            keys: keys.collect(),
            slots: vec![Slot::Machine { wrapped }],
            ..doc.clone()
        })
    }

    /// Seals a value for its place.
    pub fn seal(&self, place: Place<'_>, plain: &[u8], rng: &dyn Rng) -> Sealed {
        let name = &self.0.writes;
        match self.0.by_name.get(name) {
            Some(key) => seal_under(key, name, place, plain, rng),
            // `writes` names a key of the ring: both constructors see to it.
            None => std::process::abort(),
        }
    }

    /// Opens a value at its place.
    pub fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, RingError> {
        let key = self.0.by_name.get(&sealed.key).ok_or(RingError::NoKey)?;
        open_under(key, &sealed.key, place, sealed).ok_or(RingError::Value)
    }
}

fn data_key_name(rng: &dyn Rng) -> String {
    let mut name = [0; 4];
    rng.fill(&mut name);
    format!("k-{}", HEXLOWER.encode(&name))
}

/// The ring key, by whichever slot the machine key opens.
fn ring_key(doc: &RingDoc, machine: &MachineKey) -> Result<Zeroizing<[u8; 32]>, RingError> {
    let mut slots = doc.slots.iter();
    slots
        .find_map(|slot| {
            let Slot::Machine { wrapped } = slot;
            open_under(&machine.0, MACHINE, ring_place(RING), wrapped).and_then(as_key)
        })
        .ok_or(RingError::WrongKey)
}

fn ring_place(purpose: &str) -> Place<'_> {
    Place {
        coll: RING,
        id: RING,
        purpose,
    }
}

fn as_key(bytes: Zeroizing<Vec<u8>>) -> Option<Zeroizing<[u8; 32]>> {
    <[u8; 32]>::try_from(bytes.as_slice())
        .ok()
        .map(Zeroizing::new)
}

fn seal_under(key: &[u8; 32], name: &str, place: Place<'_>, plain: &[u8], rng: &dyn Rng) -> Sealed {
    let (mut salt, mut nonce) = ([0; 32], [0; NONCE_LEN]);
    rng.fill(&mut salt);
    rng.fill(&mut nonce);
    let mut ct = Zeroizing::new(plain.to_vec());
    let sealing = value_key(key, &salt);
    let aad = Aad::from(associated(place));
    let tag = sealing
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut ct)
        // AES-GCM refuses only texts of over 64 GiB.
        .unwrap_or_else(|_| std::process::abort());
    ct.extend_from_slice(tag.as_ref());
    Sealed {
        key: name.into(),
        salt: BASE64.encode(&salt),
        nonce: BASE64.encode(&nonce),
        ct: BASE64.encode(&ct),
    }
}

/// Opens what [`seal_under`] the same key and name has sealed for the same place.
fn open_under(
    key: &[u8; 32],
    name: &str,
    place: Place<'_>,
    sealed: &Sealed,
) -> Option<Zeroizing<Vec<u8>>> {
    if sealed.key != name {
        return None;
    }
    let salt = BASE64.decode(sealed.salt.as_bytes()).ok()?;
    let nonce = BASE64.decode(sealed.nonce.as_bytes()).ok()?;
    let mut ct = Zeroizing::new(BASE64.decode(sealed.ct.as_bytes()).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
    let aad = Aad::from(associated(place));
    let opened = value_key(key, &salt)
        .open_in_place(nonce, aad, &mut ct)
        .ok()?;
    Some(Zeroizing::new(opened.to_vec()))
}

/// The key of one value (RFC 5869).
fn value_key(key: &[u8; 32], salt: &[u8]) -> LessSafeKey {
    let derived = Salt::new(HKDF_SHA256, salt)
        .extract(key)
        .expand(&[b"certctl sealed value"], &AES_256_GCM)
        .map(UnboundKey::from)
        // HKDF refuses only outputs of over 255 blocks.
        .unwrap_or_else(|_| std::process::abort());
    LessSafeKey::new(derived)
}

/// The place, each part with its length before it.
fn associated(place: Place<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [place.coll, place.id, place.purpose] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}
