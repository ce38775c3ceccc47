//! Revocations: what stands in a CA's list.

use crate::{
    clock::Time,
    id::Id,
    pki::{Reason, Serial},
};
use serde::{Deserialize, Serialize};

/// One serial number of a CA node that is no longer good. Never changed, never removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// `rev-` and a hash, see [`Revocation::id_of`].
    pub id: Id,
    /// The CA node that signed.
    pub node: Id,
    /// The serial number.
    pub serial: Serial,
    /// Of this certificate.
    pub certificate: Id,
    /// The version.
    pub version: Id,
    /// When it was revoked.
    pub at: Time,
    /// Why.
    pub reason: Reason,
    /// When it would have ended by itself.
    pub not_after: Time,
}

impl Revocation {
    /// The id of a node's serial number.
    pub fn id_of(node: &Id, serial: &Serial) -> Id {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(node.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(serial.to_string().as_bytes());
        let digest = hash.finish();
        Id::derived("rev", digest.as_ref().get(..16).unwrap_or_default())
    }
}
