//! Certificate revocation lists (RFC 5280, section 5).

use super::{
    Serial,
    issue::{Authority, Ca, IssueError, authority_key, extension, time},
    key::signature_algorithm,
};
use crate::clock::Time;
use der::{
    Encode,
    asn1::{BitString, Uint},
};
use serde::{Deserialize, Serialize};
use x509_cert::{
    Version,
    crl::{CertificateList, RevokedCert, TbsCertList},
    ext::pkix::{CrlNumber, CrlReason},
    serial_number::SerialNumber,
};

/// Why a certificate is no longer good (RFC 5280, section 5.3.1). `removeFromCRL` takes back a
/// hold in delta lists, which are not made here, and `aACompromise` is for attribute certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// Nothing is said.
    Unspecified,
    /// Somebody else has the key, or may have.
    KeyCompromise,
    /// Somebody else has the CA's key, or may have.
    CaCompromise,
    /// The subject's name or membership changed.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// It is on hold.
    CertificateHold,
    /// A right that it stands for was withdrawn.
    PrivilegeWithdrawn,
}

/// A word that is no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no reason for a revocation: use {}", Reason::words())]
pub struct InvalidReason {
    word: String,
}

impl Reason {
    /// Every reason, by its code.
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
    ];

    /// The word of RFC 5280.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "caCompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
        }
    }

    /// All words, for people.
    pub fn words() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// The code in a list. `unspecified` is said by saying nothing.
    fn code(self) -> Option<CrlReason> {
        Some(match self {
            Self::Unspecified => return None,
            Self::KeyCompromise => CrlReason::KeyCompromise,
            Self::CaCompromise => CrlReason::CaCompromise,
            Self::AffiliationChanged => CrlReason::AffiliationChanged,
            Self::Superseded => CrlReason::Superseded,
            Self::CessationOfOperation => CrlReason::CessationOfOperation,
            Self::CertificateHold => CrlReason::CertificateHold,
            Self::PrivilegeWithdrawn => CrlReason::PrivilegeWithdrawn,
        })
    }
}

impl std::str::FromStr for Reason {
    type Err = InvalidReason;
    fn from_str(word: &str) -> Result<Self, InvalidReason> {
        let found = Self::ALL.into_iter().find(|r| r.as_str() == word);
        found.ok_or_else(|| InvalidReason {
            word: word.chars().take(40).collect(),
        })
    }
}

/// A certificate on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its serial number.
    pub serial: Serial,
    /// When it was revoked.
    pub at: Time,
    /// Why.
    pub reason: Reason,
}

/// When a list was made, and when the next one is due at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issue {
    /// Its number: a later list of the same CA has a higher one.
    pub number: u64,
    /// When it was made.
    pub this_update: Time,
    /// It is not to be believed from then on.
    pub next_update: Time,
}

/// Makes a complete list of a CA, DER.
///
/// # Errors
/// When the CA may not sign lists, or its key does not sign.
pub async fn build(
    by: Authority<'_>,
    issue: Issue,
    entries: &[Entry],
) -> Result<Vec<u8>, IssueError> {
    let ca = Ca::of(by)?;
    if !ca.signs_crls {
        let reason = "its key usage does not let it sign revocation lists";
        return Err(IssueError::Ca(reason.into()));
    }
    let algorithm = signature_algorithm(by.signer.public_key().algorithm());
    let revoked: Result<Vec<_>, _> = entries.iter().map(revoked).collect();
    let tbs = TbsCertList {
        version: Version::V2,
        signature: algorithm.clone(),
        issuer: ca.name,
        this_update: time(issue.this_update)?,
        next_update: Some(time(issue.next_update)?),
        // RFC 5280, section 5.1.2.6: absent where nothing is revoked.
        revoked_certificates: Some(revoked?).filter(|list| !list.is_empty()),
        crl_extensions: Some(vec![
            authority_key(ca.key_identifier)?,
            extension(false, &CrlNumber(Uint::new(&issue.number.to_be_bytes())?))?,
        ]),
    };
    let signature = by.signer.sign(&tbs.to_der()?).await?;
    let list = CertificateList {
        tbs_cert_list: tbs,
        signature_algorithm: algorithm,
        signature: BitString::from_bytes(&signature)?,
    };
    Ok(list.to_der()?)
}

fn revoked(entry: &Entry) -> Result<RevokedCert, IssueError> {
    let reason = entry.reason.code();
    let reason = reason.map(|code| extension(false, &code)).transpose()?;
    Ok(RevokedCert {
        serial_number: SerialNumber::new(&entry.serial.octets())?,
        revocation_date: time(entry.at)?,
        crl_entry_extensions: reason.map(|extension| vec![extension]),
    })
}
