//! After any CA answers: is the certificate what was approved?

use super::{Certificate, Chain, Eku, PublicKey, San};
use crate::clock::Time;
use std::time::Duration;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// What was approved.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// The key.
    pub public_key: &'a PublicKey,
    /// The names, all and no others.
    pub sans: &'a [San],
    /// The uses, no others.
    pub ekus: &'a [Eku],
    /// The latest end.
    pub not_after_cap: Time,
}

/// How a returned certificate differs from what was approved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another key.
    #[error("it certifies another public key")]
    Key,
    /// Other names.
    #[error("its names differ: {0}")]
    Names(String),
    /// It lasts too long.
    #[error("it ends at {0}, later than approved")]
    TooLong(Time),
    /// It is not good now.
    #[error("it is good from {0} to {1}, not now")]
    NotNow(Time, Time),
    /// A use that was not approved.
    #[error("it may be used for what was not approved")]
    Use,
    /// A CA's certificate.
    #[error("it is a CA certificate")]
    Ca,
    /// A link of the chain is wrong.
    #[error("certificate {0} of the chain is not signed by the next one")]
    Chain(usize),
    /// A CA in the chain is not good now or no CA.
    #[error("certificate {0} of the chain is no CA certificate that is good now")]
    Issuer(usize),
}

/// The CA's clock may be ahead of ours by this much.
const SKEW: Duration = Duration::from_secs(300);

/// Checks a returned chain against what was approved: key, names, lifetime, uses, links.
pub fn returned(chain: &Chain, expected: &Expected<'_>, now: Time) -> Result<(), Mismatch> {
    let leaf = chain.leaf();
    if leaf.public_key() != expected.public_key {
        return Err(Mismatch::Key);
    }
    names(leaf, expected.sans)?;
    if leaf.not_after() > expected.not_after_cap {
        return Err(Mismatch::TooLong(leaf.not_after()));
    }
    if leaf.not_before() > now.plus(SKEW) || leaf.not_after() <= now {
        return Err(Mismatch::NotNow(leaf.not_before(), leaf.not_after()));
    }
    if leaf.is_ca() {
        return Err(Mismatch::Ca);
    }
    uses(leaf, expected.ekus)?;
    links(chain, now)
}

fn names(leaf: &Certificate, expected: &[San]) -> Result<(), Mismatch> {
    let mut got = leaf.sans().to_vec();
    let mut wanted = expected.to_vec();
    got.sort();
    wanted.sort();
    if got == wanted {
        return Ok(());
    }
    let missing = wanted
        .iter()
        .filter(|n| !got.contains(n))
        .map(|n| format!("{n} is missing"));
    let extra = got
        .iter()
        .filter(|n| !wanted.contains(n))
        .map(|n| format!("{n} was not asked for"));
    Err(Mismatch::Names(
        missing.chain(extra).collect::<Vec<_>>().join(", "),
    ))
}

fn uses(leaf: &Certificate, approved: &[Eku]) -> Result<(), Mismatch> {
    let Ok((_, cert)) = X509Certificate::from_der(leaf.der()) else {
        return Err(Mismatch::Use);
    };
    let stated = cert.extended_key_usage().map_err(|_| Mismatch::Use)?;
    let Some(stated) = stated else {
        return if approved.is_empty() {
            Ok(())
        } else {
            Err(Mismatch::Use)
        };
    };
    let usage = stated.value;
    let others = usage.any
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    let server = !usage.server_auth || approved.contains(&Eku::ServerAuth);
    let client = !usage.client_auth || approved.contains(&Eku::ClientAuth);
    if others || !server || !client {
        Err(Mismatch::Use)
    } else {
        Ok(())
    }
}

fn links(chain: &Chain, now: Time) -> Result<(), Mismatch> {
    let all: Vec<&Certificate> = chain.certificates().collect();
    for (i, pair) in all.windows(2).enumerate() {
        let [this, issuer] = pair else { continue };
        if !this.is_issued_by(issuer) {
            return Err(Mismatch::Chain(i + 1));
        }
        let good = issuer.not_before() <= now.plus(SKEW) && now < issuer.not_after();
        if !issuer.is_ca() || !good {
            return Err(Mismatch::Issuer(i + 2));
        }
    }
    Ok(())
}
