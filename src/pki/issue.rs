//! Making certificates: the to-be-signed part is built field by field (RFC 5280), so that names
//! are carried over byte for byte and nothing is in a certificate that is not written here.

use super::{
    Certificate, InvalidCertificate, PublicKey, San, Serial, SignError, Signer,
    key::signature_algorithm,
};
use crate::clock::Time;
use const_oid::{
    AssociatedOid, ObjectIdentifier,
    db::{
        rfc4519::COMMON_NAME,
        rfc5280::{
            ID_AD_CA_ISSUERS, ID_KP_CLIENT_AUTH, ID_KP_CODE_SIGNING, ID_KP_EMAIL_PROTECTION,
            ID_KP_SERVER_AUTH, ID_KP_TIME_STAMPING,
        },
    },
};
use der::{
    Any, Decode, Encode,
    asn1::{BitString, GeneralizedTime, Ia5String, OctetString, SetOfVec, UtcTime, Utf8StringRef},
};
use serde::{Deserialize, Serialize};
use spki::SubjectPublicKeyInfoOwned;
use std::{collections::BTreeSet, net::IpAddr, time::Duration};
use x509_cert::{
    TbsCertificate, Version,
    attr::AttributeTypeAndValue,
    ext::{
        Extension, Extensions,
        pkix::{
            AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints,
            CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, KeyUsages, NameConstraints,
            SubjectAltName, SubjectKeyIdentifier,
            constraints::name::GeneralSubtree,
            crl::dp::DistributionPoint,
            name::{DistributionPointName, GeneralName},
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
    /// Signed programs.
    CodeSigning,
    /// S/MIME.
    EmailProtection,
    /// Trusted timestamps (RFC 3161).
    TimeStamping,
}

impl Eku {
    /// Every use.
    pub const ALL: [Self; 5] = [
        Self::ServerAuth,
        Self::ClientAuth,
        Self::CodeSigning,
        Self::EmailProtection,
        Self::TimeStamping,
    ];

    /// Whether the other side may send keys under the certificate's.
    fn takes_keys(self) -> bool {
        match self {
            Self::ServerAuth | Self::ClientAuth | Self::EmailProtection => true,
            Self::CodeSigning | Self::TimeStamping => false,
        }
    }

    /// The name, as RFC 5280 has it without its prefix.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerAuth => "serverAuth",
            Self::ClientAuth => "clientAuth",
            Self::CodeSigning => "codeSigning",
            Self::EmailProtection => "emailProtection",
            Self::TimeStamping => "timeStamping",
        }
    }

    /// The use of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|eku| eku.as_str() == name)
    }

    pub(super) fn oid(self) -> ObjectIdentifier {
        match self {
            Self::ServerAuth => ID_KP_SERVER_AUTH,
            Self::ClientAuth => ID_KP_CLIENT_AUTH,
            Self::CodeSigning => ID_KP_CODE_SIGNING,
            Self::EmailProtection => ID_KP_EMAIL_PROTECTION,
            Self::TimeStamping => ID_KP_TIME_STAMPING,
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
    /// No time is left between the beginning and the end, perhaps the CA's.
    #[error("the certificate would begin at {from} and end at {until}: is the CA's over?")]
    Lifetime {
        /// The beginning.
        from: Time,
        /// The end.
        until: Time,
    },
    /// Nobody would be certified.
    #[error("a certificate needs a name")]
    NoName,
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
    /// The subject's common name. Without one, or with one of more than 64 characters (RFC 5280,
    /// appendix A.1, ub-common-name), the names alone identify the subject.
    pub common_name: Option<&'a str>,
    /// The names.
    pub sans: &'a [San],
    /// The key.
    pub public_key: &'a PublicKey,
    /// When it is good.
    pub lifetime: Lifetime,
    /// What it may be used for.
    pub ekus: &'a [Eku],
    /// Where more about its CA is to be had.
    pub pointers: Option<&'a Pointers>,
}

/// Where a CA publishes what those need who check its certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointers {
    /// URL of its CRL (RFC 5280, section 4.2.1.13).
    pub crl: String,
    /// URL of its certificate (RFC 5280, section 4.2.2.1).
    pub certificate: String,
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
    let own = OctetString::new(key_identifier(key))?;
    let extensions = ca_extensions(key, own, path_length)?;
    let fields = Fields {
        serial,
        issuer: subject.clone(),
        subject,
        lifetime: not_empty(lifetime)?,
        public_key: key,
        extensions,
    };
    sign(fields, signer).await
}

/// A CA below another one, to make.
#[derive(Debug, Clone)]
pub struct Intermediate<'a> {
    /// Its key.
    pub public_key: &'a PublicKey,
    /// The subject's common name.
    pub common_name: &'a str,
    /// The serial number.
    pub serial: &'a Serial,
    /// When it is good.
    pub lifetime: Lifetime,
    /// How many CAs may stand below it.
    pub path_length: u8,
    /// What those below it may be called.
    pub names: &'a Subtrees,
}

/// Name constraints by DNS names (RFC 5280, section 4.2.1.10): a name stands for itself and for
/// all below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subtrees {
    /// Only these, of all DNS names; none: every one.
    pub permitted: Vec<String>,
    /// Not these.
    pub excluded: Vec<String>,
}

impl Subtrees {
    fn extension(&self) -> Result<Option<Extension>, IssueError> {
        let subtrees = |names: &[String]| -> Result<Option<Vec<GeneralSubtree>>, der::Error> {
            let subtrees = names.iter().map(|name| {
                Ok(GeneralSubtree {
                    base: GeneralName::DnsName(Ia5String::new(name)?),
                    minimum: 0,
                    maximum: None,
                })
            });
            let subtrees: Vec<_> = subtrees.collect::<Result<_, der::Error>>()?;
            Ok(Some(subtrees).filter(|subtrees| !subtrees.is_empty()))
        };
        if self.permitted.is_empty() && self.excluded.is_empty() {
            return Ok(None);
        }
        let constraints = NameConstraints {
            permitted_subtrees: subtrees(&self.permitted)?,
            excluded_subtrees: subtrees(&self.excluded)?,
        };
        extension(true, &constraints).map(Some)
    }
}

/// Makes the certificate of a CA below `by`. Its lifetime never exceeds that CA's, and its path
/// length must be smaller.
pub async fn intermediate(
    by: Authority<'_>,
    new: &Intermediate<'_>,
) -> Result<Certificate, IssueError> {
    let ca = Ca::of(by)?;
    if ca.path_length.is_some_and(|above| above <= new.path_length) {
        return Err(IssueError::Ca(
            "its path length has no room for this CA below it".into(),
        ));
    }
    let mut extensions = ca_extensions(new.public_key, ca.key_identifier, new.path_length)?;
    extensions.extend(new.names.extension()?);
    let fields = Fields {
        serial: new.serial,
        issuer: ca.name,
        subject: name_of(Some(new.common_name))?,
        lifetime: within(new.lifetime, by.certificate)?,
        public_key: new.public_key,
        extensions,
    };
    sign(fields, by.signer).await
}

/// Makes a leaf. Its lifetime never exceeds the CA's.
pub async fn leaf(by: Authority<'_>, leaf: &Leaf<'_>) -> Result<Certificate, IssueError> {
    let ca = Ca::of(by)?;
    let common_name = leaf
        .common_name
        .filter(|name| (1..=MAX_COMMON_NAME).contains(&name.chars().count()));
    if common_name.is_none() && leaf.sans.is_empty() {
        return Err(IssueError::NoName);
    }
    let ekus: BTreeSet<Eku> = leaf.ekus.iter().copied().collect();
    // Keys are sent under an RSA key in TLS and in mail alone (RFC 5280, section 4.2.1.12); for
    // time stamps it is forbidden.
    let sent = ekus.is_empty() || ekus.iter().any(|eku| eku.takes_keys());
    let usage = if sent && leaf.public_key.algorithm().is_rsa() {
        KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment
    } else {
        KeyUsages::DigitalSignature.into()
    };
    // RFC 3161, section 2.3.
    let exclusive = ekus.contains(&Eku::TimeStamping);
    let ekus: Vec<_> = ekus.into_iter().map(Eku::oid).collect();
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
        extensions.push(extension(exclusive, &ExtendedKeyUsage(ekus))?);
    }
    if !leaf.sans.is_empty() {
        // RFC 5280, section 4.2.1.6: critical where the subject is empty.
        let critical = common_name.is_none();
        extensions.push(extension(critical, &SubjectAltName(names?))?);
    }
    extensions.extend(key_identifiers(leaf.public_key, ca.key_identifier)?);
    if let Some(pointers) = leaf.pointers {
        extensions.extend(pointers.extensions()?);
    }
    let fields = Fields {
        serial: leaf.serial,
        issuer: ca.name,
        subject: name_of(common_name)?,
        lifetime: within(leaf.lifetime, by.certificate)?,
        public_key: leaf.public_key,
        extensions,
    };
    sign(fields, by.signer).await
}

impl Pointers {
    fn extensions(&self) -> Result<[Extension; 2], IssueError> {
        let url = |text: &str| -> Result<GeneralName, der::Error> {
            Ok(GeneralName::UniformResourceIdentifier(Ia5String::new(
                text,
            )?))
        };
        let crl = DistributionPoint {
            distribution_point: Some(DistributionPointName::FullName(vec![url(&self.crl)?])),
            reasons: None,
            crl_issuer: None,
        };
        let certificate = AccessDescription {
            access_method: ID_AD_CA_ISSUERS,
            access_location: url(&self.certificate)?,
        };
        Ok([
            extension(false, &CrlDistributionPoints(vec![crl]))?,
            extension(false, &AuthorityInfoAccessSyntax(vec![certificate]))?,
        ])
    }
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
    let algorithm = signature_algorithm(signer.public_key().algorithm());
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
pub(super) struct Ca {
    pub(super) name: Name,
    pub(super) key_identifier: OctetString,
    path_length: Option<u8>,
    /// Its key usage lets it sign CRLs.
    pub(super) signs_crls: bool,
}

impl Ca {
    pub(super) fn of(by: Authority<'_>) -> Result<Self, IssueError> {
        let refused = |reason: &str| Err(IssueError::Ca(reason.into()));
        if !by.certificate.is_ca() {
            return refused("it is no CA certificate");
        }
        if by.certificate.public_key() != by.signer.public_key() {
            return refused("it certifies another key than the one that signs");
        }
        let tbs = x509_cert::Certificate::from_der(by.certificate.der())?.tbs_certificate;
        let usage = tbs.get::<KeyUsage>()?.map(|(_, usage)| usage);
        if usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return refused("its key usage does not let it sign certificates");
        }
        let constraints = tbs.get::<BasicConstraints>()?;
        // RFC 5280, section 4.2.1.1: the value that the CA's certificate states.
        let key_identifier = match tbs.get::<SubjectKeyIdentifier>()? {
            Some((_, stated)) => stated.0,
            None => OctetString::new(key_identifier(by.certificate.public_key()))?,
        };
        Ok(Self {
            signs_crls: usage.is_none_or(|usage| usage.crl_sign()),
            path_length: constraints.and_then(|(_, c)| c.path_len_constraint),
            name: tbs.subject,
            key_identifier,
        })
    }
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
    authority: OctetString,
    path_length: u8,
) -> Result<Extensions, IssueError> {
    let constraints = BasicConstraints {
        ca: true,
        path_len_constraint: Some(path_length),
    };
    let mut extensions = vec![
        extension(true, &constraints)?,
        extension(true, &KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign))?,
    ];
    extensions.extend(key_identifiers(key, authority)?);
    Ok(extensions)
}

/// Whose key it is, and who signs.
fn key_identifiers(
    subject: &PublicKey,
    authority: OctetString,
) -> Result<[Extension; 2], IssueError> {
    let subject = OctetString::new(key_identifier(subject))?;
    Ok([
        extension(false, &SubjectKeyIdentifier(subject))?,
        authority_key(authority)?,
    ])
}

/// Whose key signs (RFC 5280, section 4.2.1.1).
pub(super) fn authority_key(key_identifier: OctetString) -> Result<Extension, IssueError> {
    let authority = AuthorityKeyIdentifier {
        key_identifier: Some(key_identifier),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    };
    extension(false, &authority)
}

pub(super) fn extension<T: AssociatedOid + Encode>(
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

/// The longest common name, in characters (RFC 5280, appendix A.1).
const MAX_COMMON_NAME: usize = 64;

fn name_of(common_name: Option<&str>) -> Result<Name, IssueError> {
    let Some(common_name) = common_name else {
        return Ok(RdnSequence::default());
    };
    let long = !(1..=MAX_COMMON_NAME).contains(&common_name.chars().count());
    if long || common_name.contains(char::is_control) {
        return Err(IssueError::Encode(format!(
            "a common name is 1 to {MAX_COMMON_NAME} characters, none of them a control character"
        )));
    }
    let attribute = AttributeTypeAndValue {
        oid: COMMON_NAME,
        value: Any::encode_from(&Utf8StringRef::new(common_name)?)?,
    };
    let set = SetOfVec::try_from(vec![attribute])?;
    Ok(RdnSequence(vec![RelativeDistinguishedName(set)]))
}

/// RFC 5280, section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on.
pub(super) fn time(t: Time) -> Result<X509Time, IssueError> {
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

fn within(lifetime: Lifetime, ca: &Certificate) -> Result<Lifetime, IssueError> {
    not_empty(Lifetime {
        not_before: lifetime.not_before.max(ca.not_before()),
        not_after: lifetime.not_after.min(ca.not_after()),
    })
}

fn not_empty(lifetime: Lifetime) -> Result<Lifetime, IssueError> {
    if lifetime.not_before < lifetime.not_after {
        Ok(lifetime)
    } else {
        Err(IssueError::Lifetime {
            from: lifetime.not_before,
            until: lifetime.not_after,
        })
    }
}
