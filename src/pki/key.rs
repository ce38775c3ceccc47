//! Public keys and the making of signatures.

use async_trait::async_trait;
use const_oid::{
    ObjectIdentifier,
    db::{
        rfc5912::{
            ECDSA_WITH_SHA_256, ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1,
        },
        rfc8410::ID_ED_25519,
    },
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use x509_parser::{prelude::FromDer, public_key::PublicKey as Parsed, x509::SubjectPublicKeyInfo};

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// NIST P-256.
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
    /// NIST P-384.
    #[serde(rename = "ECDSA-P384")]
    EcdsaP384,
    /// Ed25519 (RFC 8410).
    #[serde(rename = "Ed25519")]
    Ed25519,
    /// RSA of 2048 bits.
    #[serde(rename = "RSA-2048")]
    Rsa2048,
    /// RSA of 3072 bits.
    #[serde(rename = "RSA-3072")]
    Rsa3072,
    /// RSA of 4096 bits.
    #[serde(rename = "RSA-4096")]
    Rsa4096,
}

impl KeyAlgorithm {
    const ALL: [(Self, &str); 6] = [
        (Self::EcdsaP256, "ECDSA-P256"),
        (Self::EcdsaP384, "ECDSA-P384"),
        (Self::Ed25519, "Ed25519"),
        (Self::Rsa2048, "RSA-2048"),
        (Self::Rsa3072, "RSA-3072"),
        (Self::Rsa4096, "RSA-4096"),
    ];

    /// Whether it is RSA, whose keys may also encrypt.
    pub fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(a, _)| a == self);
        f.write_str(name.map_or("?", |(_, name)| name))
    }
}

/// What is no usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It cannot be read.
    #[error("the public key cannot be read")]
    Unreadable,
    /// Its kind is not accepted.
    #[error(
        "a key of kind {0} is not accepted: use ECDSA P-256 or P-384, Ed25519, or RSA of 2048, \
         3072 or 4096 bits"
    )]
    Unsupported(String),
}

impl FromStr for KeyAlgorithm {
    type Err = InvalidKey;
    fn from_str(s: &str) -> Result<Self, InvalidKey> {
        let found = Self::ALL.iter().find(|(_, n)| n.eq_ignore_ascii_case(s));
        found
            .map(|(a, _)| *a)
            .ok_or_else(|| InvalidKey::Unsupported(s.chars().take(32).collect()))
    }
}

/// A public key as SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    algorithm: KeyAlgorithm,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm, self.sha256())
    }
}

impl PublicKey {
    /// From the DER of a SubjectPublicKeyInfo.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, InvalidKey> {
        let (rest, parsed) =
            SubjectPublicKeyInfo::from_der(spki).map_err(|_| InvalidKey::Unreadable)?;
        if !rest.is_empty() {
            return Err(InvalidKey::Unreadable);
        }
        Ok(Self {
            spki: spki.to_vec(),
            algorithm: algorithm_of(&parsed)?,
        })
    }

    /// The DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Its kind.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// SHA-256 of the DER, lower hex.
    pub fn sha256(&self) -> String {
        super::sha256_hex(&self.spki)
    }
}

fn algorithm_of(spki: &SubjectPublicKeyInfo<'_>) -> Result<KeyAlgorithm, InvalidKey> {
    let is = |oid: ObjectIdentifier| spki.algorithm.algorithm.as_bytes() == oid.as_bytes();
    if is(ID_ED_25519) {
        return Ok(KeyAlgorithm::Ed25519);
    }
    if is(ID_EC_PUBLIC_KEY) {
        let curve = spki.algorithm.parameters.as_ref().map(|p| p.data);
        return match curve {
            Some(oid) if oid == SECP_256_R_1.as_bytes() => Ok(KeyAlgorithm::EcdsaP256),
            Some(oid) if oid == SECP_384_R_1.as_bytes() => Ok(KeyAlgorithm::EcdsaP384),
            _ => Err(InvalidKey::Unsupported("EC on another curve".into())),
        };
    }
    if is(RSA_ENCRYPTION) {
        let Ok(Parsed::RSA(key)) = spki.parsed() else {
            return Err(InvalidKey::Unreadable);
        };
        return match key.key_size() {
            2048 => Ok(KeyAlgorithm::Rsa2048),
            3072 => Ok(KeyAlgorithm::Rsa3072),
            4096 => Ok(KeyAlgorithm::Rsa4096),
            bits => Err(InvalidKey::Unsupported(format!("RSA of {bits} bits"))),
        };
    }
    Err(InvalidKey::Unsupported(
        spki.algorithm.algorithm.to_id_string(),
    ))
}

/// A signature that was not made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the key did not sign: {0}")]
pub struct SignError(pub String);

/// A private key that signs, wherever it lives.
#[async_trait]
pub trait Signer: Send + Sync {
    /// Its public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs: ECDSA P-256 with SHA-256 (a DER `Ecdsa-Sig-Value`), or Ed25519.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// The signature algorithm with which a key of this kind signs here.
pub(super) fn signature_oid(algorithm: KeyAlgorithm) -> Result<ObjectIdentifier, SignError> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Ok(ECDSA_WITH_SHA_256),
        KeyAlgorithm::Ed25519 => Ok(ID_ED_25519),
        other => Err(SignError(format!("no signing with {other} here"))),
    }
}
