//! PKCS#12 (RFC 7292): certificates, and perhaps the private key of the first, under a password.
//!
//! Written as OpenSSL 3, GnuTLS and Java 11 and later read it: PBES2 by PBKDF2 with SHA-256 and
//! AES-256-CBC (RFC 8018), and a MAC by HMAC with SHA-256.

use super::{Certificate, Chain};
use const_oid::{
    ObjectIdentifier,
    db::{
        rfc5280::ANY_EXTENDED_KEY_USAGE,
        rfc5911::{ID_DATA, ID_ENCRYPTED_DATA},
        rfc5912::ID_SHA_256,
    },
};
use der::{
    Any, Decode, Encode, Sequence, ValueOrd,
    asn1::{BmpString, Null, OctetString, SetOfVec},
};
use pkcs8::{
    PrivateKeyInfo,
    pkcs5::{EncryptionScheme, pbes2::Parameters},
};
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

/// The longest password, in bytes.
pub const MAX_PASSWORD: usize = 1024;
/// Rounds of the MAC's key, as OpenSSL takes them.
const MAC_ROUNDS: u32 = 2_048;

const SHROUDED_KEY_BAG: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
const CERT_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
const X509_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.22.1");
const FRIENDLY_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.20");
const LOCAL_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.21");
/// Java takes a certificate without its key for one to trust only where this says so.
const TRUSTED_KEY_USAGE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("2.16.840.1.113894.746875.1.1");

/// What goes into a file.
pub struct Contents<'a> {
    /// What the first certificate is called in the file.
    pub name: &'a str,
    /// The certificates.
    pub chain: &'a Chain,
    /// The private key of the first, PKCS#8 DER.
    pub key_pkcs8: Option<&'a [u8]>,
}

/// What makes the file differ from every other one, and how costly guesses are.
pub struct Protection<'a> {
    /// The password; may be empty.
    pub password: &'a str,
    /// Rounds of PBKDF2.
    pub rounds: u32,
    /// Random bytes.
    pub seed: [u8; 96],
}

/// What cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The password has characters that PKCS#12 has not.
    #[error("a password is at most {MAX_PASSWORD} bytes of characters below U+10000, without NUL")]
    Password,
    /// The key.
    #[error("the private key is no PKCS#8")]
    Key,
    /// The rest.
    #[error("the file cannot be written: {0}")]
    Encode(String),
}

impl From<der::Error> for Unwritable {
    fn from(e: der::Error) -> Self {
        Self::Encode(e.to_string())
    }
}

#[derive(Sequence)]
struct Pfx {
    version: u8,
    auth_safe: ContentInfo,
    mac_data: MacData,
}

#[derive(Sequence)]
struct ContentInfo {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: Any,
}

#[derive(Sequence)]
struct EncryptedData {
    version: u8,
    content: EncryptedContent,
}

#[derive(Sequence)]
struct EncryptedContent {
    content_type: ObjectIdentifier,
    algorithm: Any,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    content: OctetString,
}

#[derive(Sequence)]
struct SafeBag {
    id: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    value: Any,
    #[asn1(optional = "true")]
    attributes: Option<SetOfVec<Attribute>>,
}

#[derive(Sequence)]
struct CertBag {
    id: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    value: OctetString,
}

#[derive(Sequence, ValueOrd)]
struct Attribute {
    id: ObjectIdentifier,
    values: SetOfVec<Any>,
}

#[derive(Sequence)]
struct MacData {
    mac: DigestInfo,
    salt: OctetString,
    rounds: u32,
}

#[derive(Sequence)]
struct DigestInfo {
    algorithm: AlgorithmIdentifierOwned,
    digest: OctetString,
}

/// Writes a file.
///
/// # Errors
/// When the password or the key cannot be written.
pub fn write(contents: &Contents<'_>, protection: &Protection<'_>) -> Result<Vec<u8>, Unwritable> {
    let mac_password = bmp_password(protection.password)?;
    let Seed {
        certificates,
        key,
        mac_salt,
    } = Seed::of(&protection.seed);
    let mut safes = Vec::new();
    if let Some(pkcs8) = contents.key_pkcs8 {
        let bag = key_bag(contents, pkcs8, protection, &key)?;
        safes.push(data(&vec![bag].to_der()?)?);
    }
    let bags: Vec<SafeBag> = contents
        .chain
        .certificates()
        .enumerate()
        .map(|(i, certificate)| cert_bag(contents, certificate, i == 0))
        .collect::<Result<_, _>>()?;
    safes.push(encrypted(&bags.to_der()?, protection, &certificates)?);
    let safes = safes.to_der()?;
    let mac_key = mac_key(&mac_password, mac_salt);
    let digest = ring::hmac::sign(
        &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*mac_key),
        &safes,
    );
    let pfx = Pfx {
        version: 3,
        auth_safe: data(&safes)?,
        mac_data: MacData {
            mac: DigestInfo {
                algorithm: AlgorithmIdentifierOwned {
                    oid: ID_SHA_256,
                    parameters: Some(Any::encode_from(&Null)?),
                },
                digest: OctetString::new(digest.as_ref())?,
            },
            salt: OctetString::new(mac_salt)?,
            rounds: MAC_ROUNDS,
        },
    };
    Ok(pfx.to_der()?)
}

/// Random bytes, put to their uses.
struct Seed<'a> {
    certificates: Salted<'a>,
    key: Salted<'a>,
    mac_salt: &'a [u8],
}

/// Salt and initial vector of one encryption.
struct Salted<'a> {
    salt: &'a [u8],
    iv: [u8; 16],
}

impl<'a> Seed<'a> {
    fn of(seed: &'a [u8; 96]) -> Self {
        let (certificates, rest) = seed.split_at(32);
        let (key, mac) = rest.split_at(32);
        let salted = |bytes: &'a [u8]| {
            let (salt, rest) = bytes.split_at(16);
            let mut iv = [0; 16];
            iv.copy_from_slice(rest);
            Salted { salt, iv }
        };
        Self {
            certificates: salted(certificates),
            key: salted(key),
            mac_salt: &mac[..16],
        }
    }
}

fn data(content: &[u8]) -> Result<ContentInfo, der::Error> {
    Ok(ContentInfo {
        content_type: ID_DATA,
        content: Any::encode_from(&OctetString::new(content)?)?,
    })
}

fn pbes2<'a>(rounds: u32, salted: &'a Salted<'a>) -> Result<Parameters<'a>, Unwritable> {
    Parameters::pbkdf2_sha256_aes256cbc(rounds, salted.salt, &salted.iv)
        .map_err(|e| Unwritable::Encode(e.to_string()))
}

fn encrypted(
    content: &[u8],
    protection: &Protection<'_>,
    salted: &Salted<'_>,
) -> Result<ContentInfo, Unwritable> {
    let scheme = EncryptionScheme::from(pbes2(protection.rounds, salted)?);
    let ciphertext = scheme
        .encrypt(protection.password, content)
        .map_err(|e| Unwritable::Encode(e.to_string()))?;
    let content = EncryptedContent {
        content_type: ID_DATA,
        algorithm: Any::from_der(&scheme.to_der()?)?,
        content: OctetString::new(ciphertext)?,
    };
    let content = EncryptedData {
        version: 0,
        content,
    };
    Ok(ContentInfo {
        content_type: ID_ENCRYPTED_DATA,
        content: Any::encode_from(&content)?,
    })
}

fn key_bag(
    contents: &Contents<'_>,
    pkcs8: &[u8],
    protection: &Protection<'_>,
    salted: &Salted<'_>,
) -> Result<SafeBag, Unwritable> {
    let key = PrivateKeyInfo::from_der(pkcs8).map_err(|_| Unwritable::Key)?;
    let parameters = pbes2(protection.rounds, salted)?;
    let shrouded = key.encrypt_with_params(parameters, protection.password);
    let shrouded = shrouded.map_err(|_| Unwritable::Key)?;
    Ok(SafeBag {
        id: SHROUDED_KEY_BAG,
        value: Any::from_der(shrouded.as_bytes())?,
        attributes: Some(attributes(vec![
            named(contents.name)?,
            key_id(contents.chain.leaf())?,
        ])?),
    })
}

fn cert_bag(
    contents: &Contents<'_>,
    certificate: &Certificate,
    first: bool,
) -> Result<SafeBag, Unwritable> {
    let bag = CertBag {
        id: X509_CERTIFICATE,
        value: OctetString::new(certificate.der())?,
    };
    let name = if first {
        contents.name
    } else {
        certificate.subject()
    };
    let mut about = vec![named(name)?];
    match contents.key_pkcs8 {
        Some(_) if first => about.push(key_id(certificate)?),
        Some(_) => {}
        None => about.push(attribute(
            TRUSTED_KEY_USAGE,
            Any::encode_from(&ANY_EXTENDED_KEY_USAGE)?,
        )?),
    }
    Ok(SafeBag {
        id: CERT_BAG,
        value: Any::encode_from(&bag)?,
        attributes: Some(attributes(about)?),
    })
}

fn attributes(all: Vec<Attribute>) -> Result<SetOfVec<Attribute>, der::Error> {
    SetOfVec::try_from(all)
}

fn attribute(id: ObjectIdentifier, value: Any) -> Result<Attribute, der::Error> {
    let values = SetOfVec::try_from(vec![value])?;
    Ok(Attribute { id, values })
}

/// Characters beyond U+FFFF have no form here, and are shown as such.
fn named(name: &str) -> Result<Attribute, der::Error> {
    let name: String = name
        .chars()
        .map(|c| if c > '\u{ffff}' { '\u{fffd}' } else { c })
        .collect();
    attribute(
        FRIENDLY_NAME,
        Any::encode_from(&BmpString::from_utf8(&name)?)?,
    )
}

/// By which key and certificate are known to belong together.
fn key_id(leaf: &Certificate) -> Result<Attribute, der::Error> {
    let id = OctetString::new(&leaf.fingerprint_sha256().as_bytes()[..40])?;
    attribute(LOCAL_KEY_ID, Any::encode_from(&id)?)
}

/// Whether a password can be one.
///
/// # Errors
/// When it cannot.
pub fn fit(password: &str) -> Result<(), Unwritable> {
    bmp_password(password).map(|_| ())
}

/// RFC 7292, appendix B.1: two bytes a character, and two of zero at the end.
fn bmp_password(password: &str) -> Result<Zeroizing<Vec<u8>>, Unwritable> {
    let unfit = |c: char| c > '\u{ffff}' || c == '\0';
    if password.len() > MAX_PASSWORD || password.contains(unfit) {
        return Err(Unwritable::Password);
    }
    let units = password.encode_utf16().chain([0]);
    Ok(Zeroizing::new(units.flat_map(u16::to_be_bytes).collect()))
}

/// RFC 7292, appendix B.2, for a key as long as the hash is (one block) and purpose 3, a MAC.
fn mac_key(password: &[u8], salt: &[u8]) -> Zeroizing<[u8; 32]> {
    const BLOCK: usize = 64;
    let filled = |bytes: &[u8]| -> Vec<u8> {
        let length = bytes.len().div_ceil(BLOCK) * BLOCK;
        bytes.iter().copied().cycle().take(length).collect()
    };
    let mut first = Zeroizing::new(vec![3; BLOCK]);
    first.extend(filled(salt));
    first.extend(filled(password));
    let mut key = Zeroizing::new([0; 32]);
    let mut input: &[u8] = &first;
    let mut digest;
    for _ in 0..MAC_ROUNDS {
        digest = ring::digest::digest(&ring::digest::SHA256, input);
        input = digest.as_ref();
    }
    key.copy_from_slice(input);
    key
}
