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
    /// It with its chain, PEM, as the agent showed it; not kept where it was refused for good.
    #[serde(default)]
    pub chain_pem: Option<String>,
}

impl Found {
    /// Whether another certificate, or another CA, can make it one of ours: what was refused for
    /// good is not kept.
    pub fn is_judged_again(&self) -> bool {
        self.version.is_none() && (self.refused.is_none() || self.chain_pem.is_some())
    }

    /// Where it stands among others: first what is unknown, then what was refused, then what was
    /// taken up; of each first what the agent has shown.
    pub fn state(&self) -> [bool; 3] {
        let shown = self.chain_pem.is_some();
        [self.version.is_some(), self.refused.is_some(), !shown]
    }

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
