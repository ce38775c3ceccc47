//! Private keys that were made elsewhere.

use super::{InvalidPrivateKey, PrivateKey};
use const_oid::{
    ObjectIdentifier,
    db::rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1},
};
use der::{AnyRef, Decode, Encode, pem};
use pkcs8::{
    EncryptedPrivateKeyInfo, PrivateKeyInfo,
    pkcs5::{EncryptionScheme, pbes2::Kdf},
};
use spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

/// The longest PEM text read, in bytes.
const MAX_PEM: usize = 32 << 10;
/// The most rounds of PBKDF2.
const MAX_ROUNDS: u32 = 5_000_000;
/// The most memory of scrypt, in bytes.
const MAX_MEMORY: u64 = 256 << 20;
/// The most lanes of scrypt.
const MAX_LANES: u16 = 16;

/// Why a key cannot be taken. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImport {
    /// No key, or several.
    #[error(
        "one PEM block is expected: PRIVATE KEY, ENCRYPTED PRIVATE KEY, RSA PRIVATE KEY or EC \
         PRIVATE KEY"
    )]
    Pem,
    /// Encrypted by the old way of PEM (RFC 1421), which is weak.
    #[error(
        "the key is encrypted in the old form of OpenSSL: convert it by `openssl pkcs8 -topk8 -in \
         key.pem -out new.pem`"
    )]
    OldEncryption,
    /// A passphrase is needed.
    #[error("the key is encrypted: give its passphrase")]
    PassphraseMissing,
    /// The passphrase is wrong, or the encryption is of another kind.
    #[error(
        "the key cannot be decrypted: the passphrase is wrong, or the encryption is none of PBES2 \
         with PBKDF2 or scrypt and AES"
    )]
    Passphrase,
    /// Deriving the key would take too much memory or time.
    #[error("the key's encryption asks for more work than is accepted here: encrypt it anew")]
    TooCostly,
    /// The key is of no use.
    #[error(transparent)]
    Key(#[from] InvalidPrivateKey),
}

impl PrivateKey {
    /// From one PEM block: PKCS#8, also encrypted (RFC 5958), PKCS#1 (RFC 8017) or SEC 1 (RFC 5915).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn import(text: &str, passphrase: Option<&str>) -> Result<Self, InvalidImport> {
        if text.len() > MAX_PEM {
            return Err(InvalidImport::Pem);
        }
        if text.contains("Proc-Type:") {
            return Err(InvalidImport::OldEncryption);
        }
        let block = the_block(text).ok_or(InvalidImport::Pem)?;
        let (label, der) = pem::decode_vec(block.as_bytes()).map_err(|_| InvalidImport::Pem)?;
        let der = Zeroizing::new(der);
        match label {
            "PRIVATE KEY" => Ok(Self::from_pkcs8_der(&der)?),
            "ENCRYPTED PRIVATE KEY" => {
                let passphrase = passphrase.ok_or(InvalidImport::PassphraseMissing)?;
                decrypted(&der, passphrase)
            }
            "RSA PRIVATE KEY" => wrapped(RSA_ENCRYPTION, AnyRef::NULL, &der),
            "EC PRIVATE KEY" => {
                // The curve stands in PKCS#8, and in SEC 1 perhaps: one of them fits the key.
                let on =
                    |curve: &ObjectIdentifier| wrapped(ID_EC_PUBLIC_KEY, AnyRef::from(curve), &der);
                on(&SECP_256_R_1).or_else(|_| on(&SECP_384_R_1))
            }
            _ => Err(InvalidImport::Pem),
        }
    }
}

/// The one block of a private key; others, as of a curve's parameters, are passed over.
fn the_block(text: &str) -> Option<&str> {
    const END: &str = "PRIVATE KEY-----";
    let mut keys = text.match_indices("-----BEGIN ").filter(|(at, _)| {
        let line = text[*at..].lines().next().unwrap_or_default();
        line.trim_end().ends_with(END)
    });
    let (begin, _) = keys.next()?;
    if keys.next().is_some() {
        return None;
    }
    let end = begin + text[begin..].find("-----END ")?;
    let end = end + text[end..].find(END)? + END.len();
    Some(&text[begin..end])
}

fn decrypted(der: &[u8], passphrase: &str) -> Result<PrivateKey, InvalidImport> {
    let encrypted =
        EncryptedPrivateKeyInfo::from_der(der).map_err(|_| InvalidImport::Passphrase)?;
    let EncryptionScheme::Pbes2(scheme) = &encrypted.encryption_algorithm else {
        return Err(InvalidImport::Passphrase);
    };
    let cheap = match &scheme.kdf {
        Kdf::Pbkdf2(kdf) => kdf.iteration_count <= MAX_ROUNDS,
        Kdf::Scrypt(kdf) => {
            let memory = kdf
                .cost_parameter
                .saturating_mul(128 * u64::from(kdf.block_size));
            memory <= MAX_MEMORY && kdf.parallelization <= MAX_LANES
        }
        _ => return Err(InvalidImport::Passphrase),
    };
    if !cheap {
        return Err(InvalidImport::TooCostly);
    }
    let plain = encrypted
        .decrypt(passphrase)
        .map_err(|_| InvalidImport::Passphrase)?;
    Ok(PrivateKey::from_pkcs8_der(plain.as_bytes())?)
}

/// A key as PKCS#8.
fn wrapped(
    oid: ObjectIdentifier,
    parameters: AnyRef<'_>,
    key: &[u8],
) -> Result<PrivateKey, InvalidImport> {
    let algorithm = AlgorithmIdentifierRef {
        oid,
        parameters: Some(parameters),
    };
    let pkcs8 = PrivateKeyInfo::new(algorithm, key).to_der();
    let pkcs8 = Zeroizing::new(pkcs8.map_err(|_| InvalidPrivateKey::Kind)?);
    Ok(PrivateKey::from_pkcs8_der(&pkcs8)?)
}
