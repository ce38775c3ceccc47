//! Making certificates: the to-be-signed part is built field by field (RFC 5280), so that names
//! are carried over byte for byte and nothing is in a certificate that is not written here.

use super::{
    Certificate, InvalidCertificate, PublicKey, San, Serial, SignError, Signer, key::signature_oid,
};
use crate::clock::Time;
use const_oid::{
    AssociatedOid, ObjectIdentifier,
    db::{
        rfc4519::COMMON_NAME,
        rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH},
    },
};
use der::{
    Any, Decode, Encode,
    asn1::{BitString, GeneralizedTime, Ia5String, OctetString, SetOfVec, UtcTime, Utf8StringRef},
};
use serde::{Deserialize, Serialize};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::{net::IpAddr, time::Duration};
use x509_cert::{
    TbsCertificate, Version,
    attr::AttributeTypeAndValue,
    ext::{
        Extension, Extensions,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
            SubjectAltName, SubjectKeyIdentifier, name::GeneralName,
        },
    },
    name::{Name, RdnSequence, RelativeDistinguishedName},
    serial_number::SerialNumber,
    time::{Time as X509Time, Validity},
};

/// What a certificate may be used for (extended key usage, RFC 5280, section 4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Eku {
    /// TLS servers.
    ServerAuth,
    /// TLS clients.
    ClientAuth,
}

impl Eku {
    pub(super) fn oid(self) -> ObjectIdentifier {
        match self {
            Self::ServerAuth => ID_KP_SERVER_AUTH,
            Self::ClientAuth => ID_KP_CLIENT_AUTH,
        }
    }
}

/// A certificate that was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IssueError {
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A field cannot be written.
    #[error("a certificate could not be written: {0}")]
    Encode(String),
    /// The CA's own certificate cannot be used.
    #[error("the CA's certificate cannot be used: {0}")]
    Ca(String),
}

impl From<der::Error> for IssueError {
    fn from(e: der::Error) -> Self {
        Self::Encode(e.to_string())
    }
}

impl From<InvalidCertificate> for IssueError {
    fn from(e: InvalidCertificate) -> Self {
        Self::Encode(e.to_string())
    }
}

/// When a certificate is good. Fractions of a second are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From then on.
    pub not_before: Time,
    /// Until then.
    pub not_after: Time,
}

/// A CA: its certificate, and the key that signs for it.
#[derive(Clone, Copy)]
pub struct Authority<'a> {
    /// The certificate.
    pub certificate: &'a Certificate,
    /// The key.
    pub signer: &'a dyn Signer,
}

/// A leaf to make.
#[derive(Debug, Clone)]
pub struct Leaf<'a> {
    /// The serial number.
    pub serial: &'a Serial,
    /// The subject's common name; without one the names alone identify the subject.
    pub common_name: Option<&'a str>,
    /// The names.
    pub sans: &'a [San],
    /// The key.
    pub public_key: &'a PublicKey,
    /// When it is good.
    pub lifetime: Lifetime,
    /// What it may be used for.
    pub ekus: &'a [Eku],
}

/// Makes a self-signed root.
pub async fn root(
    signer: &dyn Signer,
    common_name: &str,
    serial: &Serial,
    lifetime: Lifetime,
    path_length: u8,
) -> Result<Certificate, IssueError> {
    let subject = name_of(Some(common_name))?;
    let key = signer.public_key();
    let extensions = ca_extensions(key, key_identifier(key), path_length)?;
    let fields = Fields {
        serial,
        issuer: subject.clone(),
        subject,
        lifetime,
        public_key: key,
        extensions,
    };
    sign(fields, signer).await
}

/// Makes the certificate of a CA below `by`.
pub async fn intermediate(
    by: Authority<'_>,
    public_key: &PublicKey,
    common_name: &str,
    serial: &Serial,
    lifetime: Lifetime,
    path_length: u8,
) -> Result<Certificate, IssueError> {
    let ca = Ca::of(by.certificate)?;
    let fields = Fields {
        serial,
        issuer: ca.name,
        subject: name_of(Some(common_name))?,
        lifetime: within(lifetime, by.certificate),
        public_key,
        extensions: ca_extensions(public_key, ca.key_identifier, path_length)?,
    };
    sign(fields, by.signer).await
}

/// Makes a leaf. Its lifetime never exceeds the CA's.
pub async fn leaf(by: Authority<'_>, leaf: &Leaf<'_>) -> Result<Certificate, IssueError> {
    let ca = Ca::of(by.certificate)?;
    let usage = if leaf.public_key.algorithm().is_rsa() {
        KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment
    } else {
        KeyUsages::DigitalSignature.into()
    };
    let ekus: Vec<_> = leaf.ekus.iter().map(|e| e.oid()).collect();
    let names: Result<Vec<_>, _> = leaf.sans.iter().map(general_name).collect();
    let mut extensions = vec![
        extension(
            true,
            &BasicConstraints {
                ca: false,
                path_len_constraint: None,
            },
        )?,
        extension(true, &KeyUsage(usage))?,
    ];
    if !ekus.is_empty() {
        extensions.push(extension(false, &ExtendedKeyUsage(ekus))?);
    }
    if !leaf.sans.is_empty() {
        // RFC 5280, section 4.2.1.6: critical where the subject is empty.
        let critical = leaf.common_name.is_none();
        extensions.push(extension(critical, &SubjectAltName(names?))?);
    }
    extensions.push(key_identifiers(
        leaf.public_key,
        ca.key_identifier,
        Which::Subject,
    )?);
    extensions.push(key_identifiers(
        leaf.public_key,
        ca.key_identifier,
        Which::Authority,
    )?);
    let fields = Fields {
        serial: leaf.serial,
        issuer: ca.name,
        subject: name_of(leaf.common_name)?,
        lifetime: within(leaf.lifetime, by.certificate),
        public_key: leaf.public_key,
        extensions,
    };
    sign(fields, by.signer).await
}

struct Fields<'a> {
    serial: &'a Serial,
    issuer: Name,
    subject: Name,
    lifetime: Lifetime,
    public_key: &'a PublicKey,
    extensions: Extensions,
}

async fn sign(fields: Fields<'_>, signer: &dyn Signer) -> Result<Certificate, IssueError> {
    let algorithm = AlgorithmIdentifierOwned {
        oid: signature_oid(signer.public_key().algorithm())?,
        parameters: None,
    };
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&fields.serial.octets())?,
        signature: algorithm.clone(),
        issuer: fields.issuer,
        validity: Validity {
            not_before: time(fields.lifetime.not_before)?,
            not_after: time(fields.lifetime.not_after)?,
        },
        subject: fields.subject,
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(fields.public_key.spki_der())?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(fields.extensions),
    };
    let signature = signer.sign(&tbs.to_der()?).await?;
    let certificate = x509_cert::Certificate {
        tbs_certificate: tbs,
        signature_algorithm: algorithm,
        signature: BitString::from_bytes(&signature)?,
    };
    Ok(Certificate::from_der(&certificate.to_der()?)?)
}

/// What a CA's certificate gives to those below it.
struct Ca {
    name: Name,
    key_identifier: [u8; 20],
}

impl Ca {
    fn of(certificate: &Certificate) -> Result<Self, IssueError> {
        if !certificate.is_ca() {
            return Err(IssueError::Ca("it is no CA certificate".into()));
        }
        let parsed = x509_cert::Certificate::from_der(certificate.der())?;
        Ok(Self {
            name: parsed.tbs_certificate.subject,
            key_identifier: subject_key_identifier(&parsed.tbs_certificate.extensions)
                .unwrap_or_else(|| key_identifier(certificate.public_key())),
        })
    }
}

/// The identifier a CA's certificate states, when it has our length.
fn subject_key_identifier(extensions: &Option<Extensions>) -> Option<[u8; 20]> {
    let stated = extensions
        .iter()
        .flatten()
        .find(|e| e.extn_id == SubjectKeyIdentifier::OID)?;
    let identifier = SubjectKeyIdentifier::from_der(stated.extn_value.as_bytes()).ok()?;
    identifier.0.as_bytes().try_into().ok()
}

/// RFC 7093, section 2, method 1: the leftmost 160 bits of the SHA-256 of the key's BIT STRING.
fn key_identifier(key: &PublicKey) -> [u8; 20] {
    let bits = SubjectPublicKeyInfoOwned::from_der(key.spki_der())
        .map(|spki| spki.subject_public_key.raw_bytes().to_vec())
        .unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bits);
    let mut identifier = [0; 20];
    for (to, from) in identifier.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    identifier
}

fn ca_extensions(
    key: &PublicKey,
    authority: [u8; 20],
    path_length: u8,
) -> Result<Extensions, IssueError> {
    let constraints = BasicConstraints {
        ca: true,
        path_len_constraint: Some(path_length),
    };
    Ok(vec![
        extension(true, &constraints)?,
        extension(true, &KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign))?,
        key_identifiers(key, authority, Which::Subject)?,
        key_identifiers(key, authority, Which::Authority)?,
    ])
}

enum Which {
    Subject,
    Authority,
}

fn key_identifiers(
    key: &PublicKey,
    authority: [u8; 20],
    which: Which,
) -> Result<Extension, IssueError> {
    match which {
        Which::Subject => {
            let identifier = OctetString::new(key_identifier(key))?;
            extension(false, &SubjectKeyIdentifier(identifier))
        }
        Which::Authority => {
            let identifier = AuthorityKeyIdentifier {
                key_identifier: Some(OctetString::new(authority)?),
                authority_cert_issuer: None,
                authority_cert_serial_number: None,
            };
            extension(false, &identifier)
        }
    }
}

fn extension<T: AssociatedOid + Encode>(
    critical: bool,
    value: &T,
) -> Result<Extension, IssueError> {
    Ok(Extension {
        extn_id: T::OID,
        critical,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}

fn general_name(san: &San) -> Result<GeneralName, der::Error> {
    Ok(match san {
        San::Dns(s) => GeneralName::DnsName(Ia5String::new(s)?),
        San::Email(s) => GeneralName::Rfc822Name(Ia5String::new(s)?),
        San::Uri(s) => GeneralName::UniformResourceIdentifier(Ia5String::new(s)?),
        San::Ip(IpAddr::V4(ip)) => GeneralName::IpAddress(OctetString::new(ip.octets())?),
        San::Ip(IpAddr::V6(ip)) => GeneralName::IpAddress(OctetString::new(ip.octets())?),
    })
}

fn name_of(common_name: Option<&str>) -> Result<Name, IssueError> {
    let Some(common_name) = common_name else {
        return Ok(RdnSequence::default());
    };
    let attribute = AttributeTypeAndValue {
        oid: COMMON_NAME,
        value: Any::encode_from(&Utf8StringRef::new(common_name)?)?,
    };
    let set = SetOfVec::try_from(vec![attribute])?;
    Ok(RdnSequence(vec![RelativeDistinguishedName(set)]))
}

/// RFC 5280, section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on.
fn time(t: Time) -> Result<X509Time, IssueError> {
    let seconds =
        u64::try_from(t.seconds()).map_err(|_| IssueError::Encode("a time before 1970".into()))?;
    let since_epoch = Duration::from_secs(seconds);
    match UtcTime::from_unix_duration(since_epoch) {
        Ok(utc) => Ok(X509Time::UtcTime(utc)),
        Err(_) => Ok(X509Time::GeneralTime(GeneralizedTime::from_unix_duration(
            since_epoch,
        )?)),
    }
}

fn within(lifetime: Lifetime, ca: &Certificate) -> Lifetime {
    Lifetime {
        not_before: lifetime.not_before.max(ca.not_before()),
        not_after: lifetime.not_after.min(ca.not_after()),
    }
}
