//! Public keys and the making of signatures.

use async_trait::async_trait;
use const_oid::db::{
    rfc5912::{
        ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1,
        SECP_384_R_1, SHA_256_WITH_RSA_ENCRYPTION,
    },
    rfc8410::ID_ED_25519,
};
use der::{Decode, Encode as _, asn1::UintRef};
use serde::{Deserialize, Serialize};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoRef};
use std::{fmt, str::FromStr};
use x509_parser::{
    asn1_rs::{BitString, Class, FromDer as _, Tag},
    oid_registry::{OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA},
    verify::verify_signature,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

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

/// The kinds of key that are told apart by their size alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyFamily {
    /// RSA.
    Rsa,
    /// ECDSA over a NIST curve.
    Ecdsa,
    /// Ed25519; it has one size.
    Ed25519,
}

impl KeyFamily {
    /// Every family.
    pub const ALL: [Self; 3] = [Self::Rsa, Self::Ecdsa, Self::Ed25519];

    /// The smallest size that is not weak, in bits; 0 for a family of one size.
    pub fn least_bits(self) -> u32 {
        match self {
            Self::Rsa => 2048,
            Self::Ecdsa => 256,
            Self::Ed25519 => 0,
        }
    }
}

impl fmt::Display for KeyFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "Ed25519",
        })
    }
}

impl KeyAlgorithm {
    /// Every kind, the smaller of a family first.
    pub const ALL: [Self; 6] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    const NAMES: [(Self, &str); 6] = [
        (Self::EcdsaP256, "ECDSA-P256"),
        (Self::EcdsaP384, "ECDSA-P384"),
        (Self::Ed25519, "Ed25519"),
        (Self::Rsa2048, "RSA-2048"),
        (Self::Rsa3072, "RSA-3072"),
        (Self::Rsa4096, "RSA-4096"),
    ];

    /// What it is, its size apart.
    pub fn family(self) -> KeyFamily {
        match self {
            Self::EcdsaP256 | Self::EcdsaP384 => KeyFamily::Ecdsa,
            Self::Ed25519 => KeyFamily::Ed25519,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => KeyFamily::Rsa,
        }
    }

    /// Its size, in bits; 0 where its family has one size.
    pub fn bits(self) -> u32 {
        match self {
            Self::EcdsaP256 => 256,
            Self::EcdsaP384 => 384,
            Self::Ed25519 => 0,
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }

    /// Whether it is RSA, whose keys may also encrypt.
    pub fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(a, _)| a == self);
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
        let found = Self::NAMES.iter().find(|(_, n)| n.eq_ignore_ascii_case(s));
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
        let parsed = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| InvalidKey::Unreadable)?;
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

    /// Whether `signature` is what its private half makes of `message`, as [`Signer::sign`] does.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(algorithm) = signature_algorithm(self.algorithm).to_der() else {
            return false;
        };
        let key = SubjectPublicKeyInfo::from_der(&self.spki);
        let algorithm = AlgorithmIdentifier::from_der(&algorithm);
        let (Ok((_, key)), Ok((_, algorithm))) = (key, algorithm) else {
            return false;
        };
        is_signed_by(&key, message, &algorithm, &BitString::new(0, signature))
    }
}

/// The kind of a key that is written in the one way its standard gives: a key goes into
/// certificates as it came.
fn algorithm_of(spki: &SubjectPublicKeyInfoRef<'_>) -> Result<KeyAlgorithm, InvalidKey> {
    let unsupported = |what: &str| Err(InvalidKey::Unsupported(what.into()));
    let bytes = spki.subject_public_key.as_bytes();
    let key = bytes.ok_or(InvalidKey::Unreadable)?;
    let parameters = spki.algorithm.parameters;
    match spki.algorithm.oid {
        // RFC 8410, sections 3 and 4
        ID_ED_25519 if parameters.is_none() && key.len() == 32 => Ok(KeyAlgorithm::Ed25519),
        // RFC 5480, sections 2.1.1 and 2.2
        ID_EC_PUBLIC_KEY => {
            let curve = parameters.and_then(|p| p.decode_as().ok());
            let (algorithm, coordinate) = match curve {
                Some(SECP_256_R_1) => (KeyAlgorithm::EcdsaP256, 32),
                Some(SECP_384_R_1) => (KeyAlgorithm::EcdsaP384, 48),
                _ => return unsupported("EC on another curve"),
            };
            match key {
                [4, xy @ ..] if xy.len() == 2 * coordinate => Ok(algorithm),
                [2 | 3, x @ ..] if x.len() == coordinate => unsupported("EC, point compressed"),
                _ => Err(InvalidKey::Unreadable),
            }
        }
        // RFC 3279, section 2.3.1
        RSA_ENCRYPTION if parameters.is_some_and(|p| p.is_null()) => {
            let key = RsaPublicKey::from_der(key).map_err(|_| InvalidKey::Unreadable)?;
            if !is_odd(key.modulus) || !is_odd(key.exponent) || key.exponent.as_bytes() == [1] {
                return Err(InvalidKey::Unreadable);
            }
            match bits(key.modulus) {
                2048 => Ok(KeyAlgorithm::Rsa2048),
                3072 => Ok(KeyAlgorithm::Rsa3072),
                4096 => Ok(KeyAlgorithm::Rsa4096),
                bits => unsupported(&format!("RSA of {bits} bits")),
            }
        }
        ID_ED_25519 | RSA_ENCRYPTION => Err(InvalidKey::Unreadable),
        other => unsupported(&other.to_string()),
    }
}

/// RFC 8017, appendix A.1.1.
#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn is_odd(n: UintRef<'_>) -> bool {
    n.as_bytes().last().is_some_and(|b| b & 1 == 1)
}

fn bits(n: UintRef<'_>) -> u32 {
    let octets = n.as_bytes();
    let first = octets.first().map_or(0, |b| b.leading_zeros());
    u32::try_from(octets.len() * 8).unwrap_or(u32::MAX) - first
}

/// Whether `key` has signed `message`. SHA-1 is not believed, and the signature and its algorithm
/// have one form only, so that nobody can make a second certificate or request out of one.
pub(super) fn is_signed_by(
    key: &SubjectPublicKeyInfo<'_>,
    message: &[u8],
    algorithm: &AlgorithmIdentifier<'_>,
    signature: &BitString<'_>,
) -> bool {
    let sha1 = [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA].contains(&algorithm.algorithm);
    let one_form = match &algorithm.parameters {
        None => true,
        Some(p) if algorithm.algorithm == OID_PKCS1_RSASSAPSS => p.tag() == Tag::Sequence,
        Some(p) => {
            let plain = p.class() == Class::Universal && !p.header.constructed();
            plain && p.tag() == Tag::Null && p.data.is_empty()
        }
    };
    !sha1
        && one_form
        && signature.unused_bits == 0
        && verify_signature(key, algorithm, signature, message).is_ok()
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

    /// Signs: ECDSA P-256 with SHA-256 or P-384 with SHA-384 (a DER `Ecdsa-Sig-Value`), Ed25519, or
    /// RSA PKCS #1 version 1.5 with SHA-256.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// The signature algorithm with which a key of this kind signs here (RFC 5758, RFC 8410; for RSA
/// PKCS #1 version 1.5, RFC 4055, which every client reads).
pub(super) fn signature_algorithm(algorithm: KeyAlgorithm) -> AlgorithmIdentifierOwned {
    let (oid, parameters) = match algorithm {
        KeyAlgorithm::EcdsaP256 => (ECDSA_WITH_SHA_256, None),
        KeyAlgorithm::EcdsaP384 => (ECDSA_WITH_SHA_384, None),
        KeyAlgorithm::Ed25519 => (ID_ED_25519, None),
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            (SHA_256_WITH_RSA_ENCRYPTION, Some(der::Any::null()))
        }
    };
    AlgorithmIdentifierOwned { oid, parameters }
}
