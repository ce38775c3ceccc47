//! The version: one issued leaf, never changed after issue.

use super::certificate::Holder;
use crate::{
    clock::Time,
    id::Id,
    pki::{KeyAlgorithm, San, Serial},
};
use serde::{Deserialize, Serialize};

/// One issued X.509 leaf, bound to one public key and one holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its id.
    pub id: Id,
    /// Of this certificate.
    pub certificate: Id,
    /// Whoever holds the key.
    pub holder: Holder,
    /// From this order.
    pub order: Id,
    /// From this issuer.
    pub issuer: Id,
    /// The serial number.
    pub serial: Serial,
    /// When it begins.
    pub not_before: Time,
    /// When it ends.
    pub not_after: Time,
    /// SHA-256 of the leaf, lower hex.
    pub fingerprint_sha256: String,
    /// SHA-256 of the leaf's SubjectPublicKeyInfo, lower hex.
    pub spki_sha256: String,
    /// The kind of its key.
    pub key_algorithm: KeyAlgorithm,
    /// The names in it.
    pub sans: Vec<San>,
    /// The leaf, PEM.
    pub leaf_pem: String,
    /// The issuing certificates, stored once per content.
    pub chain: Id,
    /// When it was stored.
    pub created_at: Time,
}

/// The issuing certificates of a leaf, PEM, nearest first; its id is its content's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// `chain-` and the hash of `pem`.
    pub id: Id,
    /// The certificates.
    pub pem: String,
}

impl Chain {
    /// A chain under the id of its content.
    pub fn new(pem: String) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, pem.as_bytes());
        let id = Id::derived("chain", digest.as_ref().get(..16).unwrap_or_default());
        Self { id, pem }
    }
}
