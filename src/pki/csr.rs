//! Certificate signing requests (PKCS#10, RFC 2986).

use super::{InvalidKey, InvalidName, PublicKey, San, certificate::san, key::is_signed_by, unread};
use der::Decode;
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_cert::request::CertReq;
use x509_parser::{
    certification_request::X509CertificationRequest, extensions::ParsedExtension,
    prelude::FromDer as _,
};

/// The longest request read, in bytes.
const MAX: usize = 64 << 10;

/// A request whose signature shows that the sender holds the private key. Its names are wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    der: Vec<u8>,
    public_key: PublicKey,
    common_name: Option<String>,
    sans: Vec<San>,
}

/// What is no usable request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCsr {
    /// Too long.
    #[error("a CSR has at most {MAX} bytes")]
    TooLong,
    /// Not one PEM block.
    #[error("one PEM block CERTIFICATE REQUEST is expected: {0}")]
    Pem(String),
    /// The DER cannot be read.
    #[error("this is no PKCS#10 request: {0}")]
    Der(String),
    /// The signature is wrong.
    #[error("the CSR is not signed by the key it names (SHA-1 signatures do not count)")]
    Signature,
    /// The key is not accepted.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// A name cannot stand in a certificate.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Csr {
    /// From the text of one PEM block.
    pub fn from_pem(text: &str) -> Result<Self, InvalidCsr> {
        if text.len() > MAX {
            return Err(InvalidCsr::TooLong);
        }
        // RFC 7468, section 7: an older label, which keytool still writes.
        let text = text.replace("NEW CERTIFICATE REQUEST-----", "CERTIFICATE REQUEST-----");
        let mut blocks = CertificateSigningRequestDer::pem_slice_iter(text.as_bytes());
        let first = blocks
            .next()
            .ok_or_else(|| InvalidCsr::Pem("there is none".into()))?
            .map_err(|e| InvalidCsr::Pem(unread(&e).into()))?;
        if blocks.next().is_some() {
            return Err(InvalidCsr::Pem("there are several".into()));
        }
        Self::from_der(&first)
    }

    /// From DER.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCsr> {
        if der.len() > MAX {
            return Err(InvalidCsr::TooLong);
        }
        // Holds it to DER from end to end; the parser below takes some BER.
        CertReq::from_der(der).map_err(|e| InvalidCsr::Der(e.to_string()))?;
        let (_, csr) =
            X509CertificationRequest::from_der(der).map_err(|e| InvalidCsr::Der(e.to_string()))?;
        let info = &csr.certification_request_info;
        let public_key = PublicKey::from_spki_der(info.subject_pki.raw)?;
        if !is_signed_by(
            &info.subject_pki,
            info.raw,
            &csr.signature_algorithm,
            &csr.signature_value,
        ) {
            return Err(InvalidCsr::Signature);
        }
        let common_name = info.subject.iter_common_name().next();
        let common_name = common_name
            .and_then(|cn| cn.as_str().ok())
            .map(ToOwned::to_owned);
        let mut sans = Vec::new();
        for extension in csr.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in names.general_names.iter().filter_map(san) {
                        sans.push(name?);
                    }
                }
                ParsedExtension::ParseError { error } => {
                    return Err(InvalidCsr::Der(format!("a requested extension: {error}")));
                }
                _ => {}
            }
        }
        Ok(Self {
            der: der.to_vec(),
            public_key,
            common_name,
            sans,
        })
    }

    /// The DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key to certify.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The common name wished for.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The names wished for.
    pub fn sans(&self) -> &[San] {
        &self.sans
    }
}

/// A request that was not made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no CSR could be made: {0}")]
pub struct BuildError(String);

/// Makes a request for these names, signed with a private key given as PKCS#8 DER; PEM.
pub fn build(
    key_pkcs8: &[u8],
    common_name: Option<&str>,
    sans: &[San],
) -> Result<String, BuildError> {
    let fail = |e: rcgen::Error| BuildError(e.to_string());
    let key = rcgen::KeyPair::try_from(key_pkcs8).map_err(fail)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = common_name {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
    }
    for san in sans {
        params.subject_alt_names.push(match san {
            San::Dns(s) => rcgen::SanType::DnsName(s.as_str().try_into().map_err(fail)?),
            San::Ip(ip) => rcgen::SanType::IpAddress(*ip),
            San::Email(s) => rcgen::SanType::Rfc822Name(s.as_str().try_into().map_err(fail)?),
            San::Uri(s) => rcgen::SanType::URI(s.as_str().try_into().map_err(fail)?),
        });
    }
    let request = params.serialize_request(&key).map_err(fail)?;
    request.pem().map_err(fail)
}
