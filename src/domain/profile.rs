//! What may be issued.

use super::Fault;
use crate::{
    clock::Time,
    id::Id,
    pki::{Eku, KeyAlgorithm, KeyFamily},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The shortest lifetime of a certificate, in seconds: less is over while it is deployed.
pub const SHORTEST: u64 = 600;
/// The longest lifetime of a certificate, in seconds: ten years.
pub const LONGEST: u64 = 3_650 * 86_400;
/// A lifetime below this, in seconds, is short: a profile has to allow it.
pub const SHORT: u64 = 3_600;

/// What may be issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its id.
    pub id: Id,
    /// Its name, unique.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// The kinds of key accepted; the first is what agents make.
    pub key_algorithms: Vec<KeyAlgorithm>,
    /// The lifetime asked for, in seconds.
    pub lifetime_seconds: u64,
    /// The longest lifetime that may be asked for, in seconds; 0: none is set.
    #[serde(default)]
    pub max_ttl_seconds: u64,
    /// What the certificate may be used for: all of these, and nothing else.
    pub ekus: Vec<Eku>,
    /// Regular expressions; each name must match one of them from end to end. None: any name.
    #[serde(default)]
    pub san_patterns: Vec<String>,
    /// A regular expression that the one URI among the names must match from end to end; empty:
    /// URIs are names as any other.
    #[serde(default)]
    pub spiffe_pattern: String,
    /// Lifetimes below an hour are meant.
    #[serde(default)]
    pub allow_short_lived: bool,
    /// Whether anything is issued under it.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}

fn yes() -> bool {
    true
}

impl Profile {
    /// One for TLS servers, with a lifetime of 90 days.
    pub fn new(id: Id, now: Time) -> Self {
        Self {
            id,
            name: String::new(),
            description: String::new(),
            key_algorithms: vec![
                KeyAlgorithm::EcdsaP256,
                KeyAlgorithm::EcdsaP384,
                KeyAlgorithm::Rsa2048,
                KeyAlgorithm::Rsa3072,
                KeyAlgorithm::Rsa4096,
            ],
            lifetime_seconds: 90 * 86_400,
            max_ttl_seconds: 0,
            ekus: vec![Eku::ServerAuth],
            san_patterns: Vec::new(),
            spiffe_pattern: String::new(),
            allow_short_lived: false,
            enabled: true,
            created_at: now,
            updated_at: now,
        }
    }

    /// The lifetime asked for.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_seconds)
    }

    /// Whether its parts go together; its patterns are seen to by
    /// [`Naming`](super::naming::Naming).
    ///
    /// # Errors
    /// The first field at fault.
    pub fn check(&self) -> Result<(), Fault> {
        let fault = |field, message: String| Err(Fault::new(field, message));
        if self.key_algorithms.is_empty() {
            return fault(
                "allowed_key_algorithms",
                "at least one kind of key is to be accepted".into(),
            );
        }
        if self.ekus.is_empty() {
            return fault("allowed_ekus", "at least one use is expected".into());
        }
        if self.ekus.contains(&Eku::TimeStamping) && self.ekus.len() > 1 {
            let message = "timeStamping stands alone (RFC 3161, section 2.3)";
            return fault("allowed_ekus", message.into());
        }
        let (lifetime, cap) = (self.lifetime_seconds, self.max_ttl_seconds);
        if cap > 0 && !(SHORTEST..=LONGEST).contains(&cap) {
            return fault(
                "max_ttl_seconds",
                format!("{cap} is not 0 (no limit) or {SHORTEST} to {LONGEST}"),
            );
        }
        if self.allow_short_lived && !(1..SHORT).contains(&cap) {
            return fault(
                "allow_short_lived",
                format!("it wants a max_ttl_seconds below {SHORT}, not {cap}"),
            );
        }
        if !(SHORTEST..=LONGEST).contains(&lifetime) {
            return fault(
                "lifetime_seconds",
                format!("{lifetime} is not {SHORTEST} to {LONGEST}"),
            );
        }
        if cap > 0 && lifetime > cap {
            return fault(
                "lifetime_seconds",
                format!("{lifetime} is longer than max_ttl_seconds, {cap}"),
            );
        }
        if lifetime < SHORT && !self.allow_short_lived {
            return fault(
                "lifetime_seconds",
                format!("{lifetime} is less than an hour, which allow_short_lived has to allow"),
            );
        }
        Ok(())
    }
}

/// Keys of a family from a size on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRule {
    /// The family.
    pub family: KeyFamily,
    /// The smallest size accepted, in bits; 0 for a family of one size.
    pub min_bits: u32,
}

impl KeyRule {
    /// A rule by the words of the wire; 0 bits are the smallest size that is not weak.
    ///
    /// # Errors
    /// A family that there is not.
    pub fn parse(family: &str, min_bits: u32) -> Result<Self, String> {
        let mut all = KeyFamily::ALL.into_iter();
        let found = all.find(|known| known.to_string().eq_ignore_ascii_case(family));
        let Some(family) = found else {
            let all = KeyFamily::ALL.map(|family| family.to_string()).join(", ");
            return Err(format!("{family:?} is none of {all}"));
        };
        let min_bits = match min_bits {
            0 => family.least_bits(),
            bits => bits,
        };
        Ok(Self { family, min_bits })
    }

    /// The kinds of key that rules accept, in their order.
    ///
    /// # Errors
    /// A rule that no key fits, or that fits weak ones.
    pub fn kinds(rules: &[Self]) -> Result<Vec<KeyAlgorithm>, String> {
        let mut kinds = Vec::new();
        for rule in rules {
            let least = rule.family.least_bits();
            if rule.min_bits < least {
                return Err(format!(
                    "{} keys below {least} bits are weak: min_size {} is too small",
                    rule.family, rule.min_bits
                ));
            }
            let before = kinds.len();
            for kind in KeyAlgorithm::ALL {
                let fits = kind.family() == rule.family && kind.bits() >= rule.min_bits;
                if fits && !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            let known = |kind: &KeyAlgorithm| kind.family() == rule.family;
            if kinds.len() == before && !kinds.iter().any(known) {
                return Err(format!(
                    "no {} key of {} bits or more is known here",
                    rule.family, rule.min_bits
                ));
            }
        }
        Ok(kinds)
    }

    /// The rules that accept these kinds, families in the order of their first kind.
    pub fn of(kinds: &[KeyAlgorithm]) -> Vec<Self> {
        let mut rules: Vec<Self> = Vec::new();
        for kind in kinds {
            let (family, min_bits) = (kind.family(), kind.bits());
            match rules.iter_mut().find(|rule| rule.family == family) {
                Some(rule) => rule.min_bits = rule.min_bits.min(min_bits),
                None => rules.push(Self { family, min_bits }),
            }
        }
        rules
    }
}

/// Uses by the words of the wire, each once.
///
/// # Errors
/// One that there is not.
pub fn ekus(names: &[String]) -> Result<Vec<Eku>, String> {
    let mut ekus = Vec::new();
    for name in names {
        let Some(eku) = Eku::of_name(name) else {
            let all = Eku::ALL.map(Eku::as_str).join(", ");
            return Err(format!("{name:?} is none of {all}"));
        };
        if !ekus.contains(&eku) {
            ekus.push(eku);
        }
    }
    Ok(ekus)
}
