//! A CA that was made elsewhere and is to sign here: is it one?

use super::{Certificate, Chain, PublicKey};
use crate::clock::Time;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// Why a CA cannot sign here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The key belongs to something else.
    #[error("the key does not belong to the first certificate: put the CA's own certificate first")]
    Key,
    /// No CA.
    #[error("certificate {0} of the chain is no CA certificate (basicConstraints CA:TRUE)")]
    NoCa(usize),
    /// It may not sign.
    #[error("certificate {0} of the chain may not sign {1} (keyUsage)")]
    Usage(usize, &'static str),
    /// It is over, or not begun.
    #[error("certificate {0} of the chain is good from {1} to {2}, not now")]
    NotNow(usize, Time, Time),
    /// The chain is broken.
    #[error(
        "certificate {0} of the chain is not signed by the next one: nearest issuer first is \
         expected"
    )]
    Chain(usize),
    /// A CA above has no room for it.
    #[error(
        "certificate {0} of the chain has path length {1}, which leaves no room for the {2} CA(s) \
         below it"
    )]
    PathLength(usize, u32, usize),
}

/// Checks a CA's chain, its own certificate first, and that `key` is the CA's.
pub fn fit(chain: &Chain, key: &PublicKey, now: Time) -> Result<(), Unfit> {
    if chain.leaf().public_key() != key {
        return Err(Unfit::Key);
    }
    let all: Vec<&Certificate> = chain.certificates().collect();
    let mut below = 0;
    for (i, ca) in all.iter().enumerate() {
        let number = i + 1;
        signs(ca, number, i == 0)?;
        if now < ca.not_before() || now >= ca.not_after() {
            return Err(Unfit::NotNow(number, ca.not_before(), ca.not_after()));
        }
        if let Some(room) = path_length(ca)
            && below > room as usize
        {
            return Err(Unfit::PathLength(number, room, below));
        }
        // RFC 5280, section 6.1.4 (l): self-issued ones do not count.
        if !ca.is_self_issued() {
            below += 1;
        }
        if all.get(i + 1).is_some_and(|above| !ca.is_issued_by(above)) {
            return Err(Unfit::Chain(number));
        }
    }
    Ok(())
}

fn signs(ca: &Certificate, number: usize, lists: bool) -> Result<(), Unfit> {
    if !ca.is_ca() {
        return Err(Unfit::NoCa(number));
    }
    let (_, parsed) = X509Certificate::from_der(ca.der()).map_err(|_| Unfit::NoCa(number))?;
    let usage = parsed.key_usage().map_err(|_| Unfit::NoCa(number))?;
    let Some(usage) = usage else { return Ok(()) };
    if !usage.value.key_cert_sign() {
        return Err(Unfit::Usage(number, "certificates"));
    }
    if lists && !usage.value.crl_sign() {
        return Err(Unfit::Usage(number, "revocation lists"));
    }
    Ok(())
}

/// How many CAs may stand below.
fn path_length(ca: &Certificate) -> Option<u32> {
    let (_, parsed) = X509Certificate::from_der(ca.der()).ok()?;
    parsed
        .basic_constraints()
        .ok()
        .flatten()?
        .value
        .path_len_constraint
}
