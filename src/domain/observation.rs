//! What an agent found where it had put a version.

use crate::{clock::Time, id::Id, pki::Serial};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A deployment is done again for drift on its host once in this time, and no more often.
pub const REPAIR_EVERY: Duration = Duration::from_secs(3_600);
/// When an agent has last looked is written down when nothing else has for this long.
pub const WRITTEN_EVERY: Duration = Duration::from_secs(3_600);

/// A certificate on a target, as it was last found. Its id is derived from both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// `obs-` and a hash of target and certificate.
    pub id: Id,
    /// The certificate.
    pub certificate: Id,
    /// The target.
    pub target: Id,
    /// The agent that looked.
    pub agent: Id,
    /// The serial number of the version that was put there.
    pub serial: Serial,
    /// It was the holder's current version: what is not as it was put there is a problem.
    pub current: bool,
    /// What on the host is not as it was put there, a sentence each.
    pub drift: Vec<String>,
    /// What is served.
    pub served: Vec<Seen>,
    /// When somebody looked, as far as it is written down.
    pub seen_at: Time,
    /// When it was last put in place again for drift.
    pub repaired_at: Option<Time>,
}

/// Somebody wants to know what is found at a target now. Its id is the target's. Servers that share
/// a store tell each other by this row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The target.
    pub id: Id,
    /// The agent that is to look.
    pub agent: Id,
    /// Since when.
    pub at: Time,
}

/// What one endpoint serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `host:port`, or the path of a directory of files.
    pub endpoint: String,
    /// The leaf's serial number, lower hex.
    pub serial: Option<String>,
    /// SHA-256 of the leaf, lower hex.
    pub fingerprint_sha256: Option<String>,
    /// It is the version that was put there, with its whole chain.
    pub right: bool,
    /// Why nothing was seen.
    pub error: Option<String>,
    /// Since when it is so.
    pub since: Time,
}

impl Observation {
    /// The id of a certificate's observation on a target.
    pub fn id_of(certificate: &Id, target: &Id) -> Id {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(certificate.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(target.as_str().as_bytes());
        let digest = hash.finish();
        Id::derived("obs", digest.as_ref().get(..16).unwrap_or_default())
    }

    /// The first thing that is wrong, a sentence: on the host, else at an endpoint. A version that
    /// is not the current one is about to be replaced, and what is wrong with that is told there.
    pub fn fault(&self) -> Option<String> {
        if !self.current {
            return None;
        }
        let drift = self.drift.first().cloned();
        drift.or_else(|| self.served.iter().find_map(|seen| seen.fault(&self.serial)))
    }

    /// Whether `other` says the same, apart from when.
    pub fn says_as(&self, other: &Self) -> bool {
        let same = |(a, b): (&Seen, &Seen)| a.is_as(b);
        self.serial == other.serial
            && self.current == other.current
            && self.agent == other.agent
            && self.drift == other.drift
            && self.served.len() == other.served.len()
            && self.served.iter().zip(&other.served).all(same)
    }
}

impl Seen {
    /// Whether the same is served at the same place. Why nothing is may be worded differently.
    pub fn is_as(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint
            && self.fingerprint_sha256 == other.fingerprint_sha256
            && self.right == other.right
            && self.error.is_some() == other.error.is_some()
    }

    fn fault(&self, wanted: &Serial) -> Option<String> {
        let Self { endpoint, .. } = self;
        if self.right {
            return None;
        }
        Some(match (&self.serial, &self.error) {
            (Some(serial), _) if *serial == wanted.to_string() => {
                format!("{endpoint} serves serial {serial} with another chain")
            }
            (Some(serial), _) => format!("{endpoint} serves serial {serial} instead of {wanted}"),
            (None, Some(error)) => format!("{endpoint} serves nothing: {error}"),
            (None, None) => format!("{endpoint} serves nothing"),
        })
    }
}
