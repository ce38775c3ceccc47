//! Private keys.

use super::rsa;
use crate::pki::{KeyAlgorithm, PublicKey, SignError, Signer};
use async_trait::async_trait;
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use std::fmt;
use zeroize::Zeroizing;

/// A private key in memory. Its encoding is wiped when dropped.
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// What is no usable private key. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrivateKey {
    /// No PEM.
    #[error("one PEM block PRIVATE KEY (PKCS#8, not encrypted) is expected")]
    Pem,
    /// Of another kind.
    #[error(
        "the private key is no ECDSA P-256 or P-384, Ed25519, or RSA key of 2048, 3072 or 4096 \
         bits in PKCS#8"
    )]
    Kind,
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// No primes.
    #[error("no RSA key could be made: {0}")]
    Rsa(&'static str),
}

impl PrivateKey {
    /// From PKCS#8 DER (RFC 5958).
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, InvalidPrivateKey> {
        let pair = pair_of(der).ok_or(InvalidPrivateKey::Kind)?;
        let public = match &pair {
            Pair::P256(p) => spki(&P256_SPKI, p.public_key().as_ref()),
            Pair::P384(p) => spki(&P384_SPKI, p.public_key().as_ref()),
            Pair::Ed25519(p) => spki(&ED25519_SPKI, p.public_key().as_ref()),
            Pair::Rsa(p) => rsa_spki(p.public_key().as_ref()).ok_or(InvalidPrivateKey::Kind)?,
        };
        Ok(Self {
            pkcs8: Zeroizing::new(der.to_vec()),
            pair,
            public: PublicKey::from_spki_der(&public).map_err(|_| InvalidPrivateKey::Kind)?,
        })
    }

    /// From one PEM block.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, InvalidPrivateKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|_| InvalidPrivateKey::Pem)?;
        Self::from_pkcs8_der(der.secret_pkcs8_der())
    }

    /// PKCS#8 DER.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A PEM block.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let ending = der::pem::LineEnding::LF;
        // The label is ours and the length bounded, so encoding does not fail.
        let pem = der::pem::encode_string("PRIVATE KEY", ending, &self.pkcs8);
        Zeroizing::new(pem.unwrap_or_default())
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {:?})", self.public)
    }
}

#[async_trait]
impl Signer for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .map(|()| signature)
                .map_err(|_| SignError("the RSA key does not sign".into()))
            }
            Pair::P256(pair) | Pair::P384(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|s| s.as_ref().to_vec())
                .map_err(|_| SignError("no random bytes".into())),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn pair_of(der: &[u8]) -> Option<Pair> {
    let on = |curve| EcdsaKeyPair::from_pkcs8(curve, der, &SystemRandom::new()).ok();
    if let Some(pair) = on(&ECDSA_P256_SHA256_ASN1_SIGNING) {
        return Some(Pair::P256(pair));
    }
    if let Some(pair) = on(&ECDSA_P384_SHA384_ASN1_SIGNING) {
        return Some(Pair::P384(pair));
    }
    if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
        return Some(Pair::Rsa(pair));
    }
    let ed25519 = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
    ed25519.ok().map(Pair::Ed25519)
}

/// DER of a SubjectPublicKeyInfo up to the key's own octets: RFC 5480 for an uncompressed point
/// of P-256 and P-384, RFC 8410 for Ed25519.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P384_SPKI: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// PKCS#8 version 1 of an Ed25519 key up to its seed (RFC 8410, section 7). Version 2, which ring
/// would write, cannot be read by OpenSSL 3.0 nor by the servers built on it.
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A SubjectPublicKeyInfo (RFC 3279, section 2.3.1) around an RSAPublicKey.
fn rsa_spki(key: &[u8]) -> Option<Vec<u8>> {
    let algorithm = spki::AlgorithmIdentifierOwned {
        oid: const_oid::db::rfc5912::RSA_ENCRYPTION,
        parameters: Some(der::Any::null()),
    };
    let subject_public_key = der::asn1::BitString::from_bytes(key).ok()?;
    let info = spki::SubjectPublicKeyInfoOwned {
        algorithm,
        subject_public_key,
    };
    der::Encode::to_der(&info).ok()
}

fn spki(prefix: &[u8], key: &[u8]) -> Vec<u8> {
    [prefix, key].concat()
}

/// Makes private keys. A simulation makes them from a seed.
pub trait Crypto: Send + Sync {
    /// A new key of this kind. Of RSA that takes seconds of a processor: on a thread that may block.
    fn generate_key(&self, algorithm: KeyAlgorithm) -> Result<PrivateKey, InvalidPrivateKey>;
}

/// Makes keys by ring, from the kernel's random bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RingCrypto;

impl Crypto for RingCrypto {
    fn generate_key(&self, algorithm: KeyAlgorithm) -> Result<PrivateKey, InvalidPrivateKey> {
        let rng = SystemRandom::new();
        match algorithm {
            KeyAlgorithm::EcdsaP256 => on_curve(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng),
            KeyAlgorithm::EcdsaP384 => on_curve(&ECDSA_P384_SHA384_ASN1_SIGNING, &rng),
            KeyAlgorithm::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                rng.fill(&mut *seed)
                    .map_err(|_| InvalidPrivateKey::Random)?;
                let der = Zeroizing::new([&ED25519_PKCS8[..], &*seed].concat());
                PrivateKey::from_pkcs8_der(&der)
            }
            KeyAlgorithm::Rsa2048 => rsa::generate(2048),
            KeyAlgorithm::Rsa3072 => rsa::generate(3072),
            KeyAlgorithm::Rsa4096 => rsa::generate(4096),
        }
    }
}

fn on_curve(
    curve: &'static EcdsaSigningAlgorithm,
    rng: &SystemRandom,
) -> Result<PrivateKey, InvalidPrivateKey> {
    let document =
        EcdsaKeyPair::generate_pkcs8(curve, rng).map_err(|_| InvalidPrivateKey::Random)?;
    PrivateKey::from_pkcs8_der(document.as_ref())
}
