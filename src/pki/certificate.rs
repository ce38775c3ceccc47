//! Certificates as they are read.

use super::{
    InvalidName, KeyAlgorithm, PublicKey, San, Serial, key::is_signed_by, name::ia5, pem,
    sha256_hex,
};
use crate::clock::Time;
use der::Decode;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::net::IpAddr;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{
        OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_SUBJECT_ALT_NAME,
    },
    prelude::FromDer as _,
};

/// The longest PEM text read, in bytes.
const MAX_PEM: usize = 256 << 10;
/// The most certificates in a chain.
const MAX_CHAIN: usize = 16;

/// A certificate (RFC 5280).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    serial: Serial,
    not_before: Time,
    not_after: Time,
    fingerprint: String,
    public_key: PublicKey,
    spki_sha256: String,
    subject: String,
    issuer: String,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    sans: Vec<San>,
    other_names: usize,
    is_ca: bool,
}

/// What is no usable certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// Too long a text.
    #[error("the text is longer than {MAX_PEM} bytes")]
    TooLong,
    /// No or too many certificates.
    #[error("1 to {MAX_CHAIN} PEM blocks CERTIFICATE are expected; there are {0}")]
    Count(usize),
    /// A block cannot be read.
    #[error("PEM block {block} is no certificate: {reason}")]
    Block {
        /// Its number, from 1.
        block: usize,
        /// What is wrong.
        reason: String,
    },
    /// The DER cannot be read.
    #[error("this is no certificate: {0}")]
    Der(String),
}

impl Certificate {
    /// From DER.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let bad = |e: String| InvalidCertificate::Der(e);
        // Holds it to DER from end to end; the parser below takes some BER.
        x509_cert::Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
        let (_, cert) = X509Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
        let public_key =
            PublicKey::from_spki_der(cert.public_key().raw).map_err(|e| bad(e.to_string()))?;
        readable(&cert).map_err(bad)?;
        let alternative = cert
            .subject_alternative_name()
            .map_err(|e| bad(e.to_string()))?;
        let (mut sans, mut other_names) = (Vec::new(), 0);
        for name in alternative.iter().flat_map(|s| &s.value.general_names) {
            match san(name) {
                Some(Ok(san)) => sans.push(san),
                Some(Err(_)) | None => other_names += 1,
            }
        }
        Ok(Self {
            der: der.to_vec(),
            serial: Serial::from_bytes(cert.raw_serial()).map_err(|e| bad(e.to_string()))?,
            not_before: Time::from_seconds(cert.validity().not_before.timestamp()),
            not_after: Time::from_seconds(cert.validity().not_after.timestamp()),
            fingerprint: sha256_hex(der),
            spki_sha256: public_key.sha256(),
            public_key,
            subject: cert.subject().to_string(),
            issuer: cert.issuer().to_string(),
            subject_der: cert.subject().as_raw().to_vec(),
            issuer_der: cert.issuer().as_raw().to_vec(),
            is_ca: cert.is_ca(),
            sans,
            other_names,
        })
    }

    /// From the text of one PEM block.
    pub fn from_pem(text: &str) -> Result<Self, InvalidCertificate> {
        let chain = Chain::from_pem(text)?;
        match chain.0.as_slice() {
            [one] => Ok(one.clone()),
            more => Err(InvalidCertificate::Count(more.len())),
        }
    }

    /// The DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// A PEM block.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// The serial number.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// When it begins.
    pub fn not_before(&self) -> Time {
        self.not_before
    }

    /// When it ends.
    pub fn not_after(&self) -> Time {
        self.not_after
    }

    /// SHA-256 of the DER, lower hex.
    pub fn fingerprint_sha256(&self) -> &str {
        &self.fingerprint
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// SHA-256 of the SubjectPublicKeyInfo, lower hex.
    pub fn spki_sha256(&self) -> &str {
        &self.spki_sha256
    }

    /// The kind of its key.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.public_key.algorithm()
    }

    /// The subject, for people.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The issuer, for people.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The names, of the kinds that [`San`] knows, in the order of the certificate.
    pub fn sans(&self) -> &[San] {
        &self.sans
    }

    /// How many names it has that [`San`] cannot hold: of other kinds, or not written as their
    /// kind asks for.
    pub fn other_names(&self) -> usize {
        self.other_names
    }

    /// Whether it is a CA's (BasicConstraints).
    pub fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// Whether its issuer's name is its own.
    pub fn is_self_issued(&self) -> bool {
        self.subject_der == self.issuer_der
    }

    /// Whether `issuer` is named as its issuer and has signed it, with a hash that is not SHA-1.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        if self.issuer_der != issuer.subject_der {
            return false;
        }
        let (Ok((_, this)), Ok((_, by))) = (
            X509Certificate::from_der(&self.der),
            X509Certificate::from_der(&issuer.der),
        ) else {
            return false;
        };
        this.signature_algorithm == this.tbs_certificate.signature
            && is_signed_by(
                by.public_key(),
                this.tbs_certificate.as_ref(),
                &this.signature_algorithm,
                &this.signature_value,
            )
    }
}

/// What decides on the use of a certificate must be there once (RFC 5280, section 4.2) and be
/// readable: what cannot be read here, another may read otherwise.
fn readable(cert: &X509Certificate<'_>) -> Result<(), String> {
    cert.extensions_map().map_err(|e| e.to_string())?;
    let deciding = [
        OID_X509_EXT_BASIC_CONSTRAINTS,
        OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_EXTENDED_KEY_USAGE,
        OID_X509_EXT_SUBJECT_ALT_NAME,
    ];
    for extension in cert.extensions() {
        let broken = extension.parsed_extension().error().is_some();
        if broken && deciding.contains(&extension.oid) {
            return Err(format!("extension {} cannot be read", extension.oid));
        }
    }
    Ok(())
}

/// A general name as ours: none for kinds that [`San`] does not know, an error where the text is
/// not what its kind asks for.
pub(super) fn san(name: &GeneralName<'_>) -> Option<Result<San, InvalidName>> {
    match name {
        GeneralName::DNSName(s) => Some(ia5(s).and_then(San::from_dns)),
        GeneralName::RFC822Name(s) => Some(ia5(s).and_then(San::from_email)),
        GeneralName::URI(s) => Some(San::from_uri(s)),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from));
            ip.ok().map(|ip| Ok(San::Ip(ip)))
        }
        _ => None,
    }
}

/// A leaf and its issuers, nearest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain(Vec<Certificate>);

impl Chain {
    /// A leaf under its issuers.
    pub fn new(leaf: Certificate, issuers: Vec<Certificate>) -> Self {
        let mut all = vec![leaf];
        all.extend(issuers);
        Self(all)
    }

    /// From PEM text, leaf first. Other blocks than certificates are passed over.
    pub fn from_pem(text: &str) -> Result<Self, InvalidCertificate> {
        if text.len() > MAX_PEM {
            return Err(InvalidCertificate::TooLong);
        }
        let mut certificates = Vec::new();
        for (i, der) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
            let block = i + 1;
            let bad = |reason: String| InvalidCertificate::Block { block, reason };
            let der = der.map_err(|e| bad(super::unread(&e).into()))?;
            certificates.push(Certificate::from_der(&der).map_err(|e| bad(e.to_string()))?);
        }
        if (1..=MAX_CHAIN).contains(&certificates.len()) {
            Ok(Self(certificates))
        } else {
            Err(InvalidCertificate::Count(certificates.len()))
        }
    }

    /// The leaf.
    pub fn leaf(&self) -> &Certificate {
        // A chain is made with its leaf and never loses it.
        &self.0[0]
    }

    /// The leaf, then its issuers.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter()
    }

    /// Its issuers, nearest first.
    pub fn issuers(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter().skip(1)
    }

    /// PEM of all, leaf first.
    pub fn fullchain_pem(&self) -> String {
        self.certificates().map(Certificate::pem).collect()
    }

    /// PEM of the issuers.
    pub fn chain_pem(&self) -> String {
        self.issuers().map(Certificate::pem).collect()
    }
}
