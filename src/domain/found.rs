//! What an agent has and a restored store does not know.

use crate::{clock::Time, id::Id, pki::Serial};
use serde::{Deserialize, Serialize};

/// A version that was issued after the backup that the store came out of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `found-` and a hash of certificate, agent and serial number.
    pub id: Id,
    /// The certificate.
    pub certificate: Id,
    /// The agent that has it.
    pub agent: Id,
    /// The target where it was found first.
    pub target: Id,
    /// Its serial number.
    pub serial: Serial,
    /// When it was found.
    pub at: Time,
    /// The version that it became, once it was shown to come from a CA of ours.
    pub version: Option<Id>,
    /// Why it became none; nothing while the agent is asked to show it.
    pub refused: Option<String>,
    /// It with its chain, PEM, as the agent showed it.
    #[serde(default)]
    pub chain_pem: Option<String>,
}

impl Found {
    /// The id of what an agent has of a certificate.
    pub fn id_of(certificate: &Id, agent: &Id, serial: &Serial) -> Id {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [certificate.as_str(), agent.as_str(), &serial.to_string()] {
            hash.update(part.as_bytes());
            hash.update(&[0]);
        }
        let digest = hash.finish();
        Id::derived("found", digest.as_ref().get(..16).unwrap_or_default())
    }
}
