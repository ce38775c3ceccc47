//! After any CA answers: is the certificate what was approved?

use super::{Certificate, Chain, Eku, PublicKey, San};
use crate::clock::Time;
use std::{collections::BTreeSet, time::Duration};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// What was approved.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// The key.
    pub public_key: &'a PublicKey,
    /// The names, all and no others.
    pub sans: &'a [San],
    /// The uses, all and no others.
    pub ekus: &'a [Eku],
    /// The latest end.
    pub not_after_cap: Time,
    /// The CA that the chain must end in or below, where it is known beforehand.
    pub anchor: Option<&'a Certificate>,
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
    /// Other uses than approved.
    #[error("its key usages are not those approved")]
    Use,
    /// A CA's certificate.
    #[error("it is a CA certificate, or may sign as one")]
    Ca,
    /// A link of the chain is wrong.
    #[error("certificate {0} of the chain is not signed by the next one")]
    Chain(usize),
    /// A CA in the chain is not good now or no CA.
    #[error("certificate {0} of the chain is no CA certificate that is good now")]
    Issuer(usize),
    /// The chain leads elsewhere.
    #[error("its chain leads to another CA than {0}")]
    Anchor(String),
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
    links(chain, now)?;
    expected
        .anchor
        .map_or(Ok(()), |anchor| leads_to(chain, anchor))
}

fn names(leaf: &Certificate, expected: &[San]) -> Result<(), Mismatch> {
    let got: BTreeSet<&San> = leaf.sans().iter().collect();
    let wanted: BTreeSet<&San> = expected.iter().collect();
    let mut differences: Vec<String> = wanted
        .difference(&got)
        .map(|name| format!("{name} is missing"))
        .collect();
    differences.extend(
        got.difference(&wanted)
            .map(|name| format!("{name} was not asked for")),
    );
    if leaf.other_names() > 0 {
        differences.push(format!(
            "{} of other kinds were not asked for",
            leaf.other_names()
        ));
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(Mismatch::Names(differences.join(", ")))
    }
}

fn uses(leaf: &Certificate, approved: &[Eku]) -> Result<(), Mismatch> {
    let (_, cert) = X509Certificate::from_der(leaf.der()).map_err(|_| Mismatch::Use)?;
    let key_usage = cert.key_usage().map_err(|_| Mismatch::Use)?;
    if key_usage.is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign()) {
        return Err(Mismatch::Ca);
    }
    let stated = cert.extended_key_usage().map_err(|_| Mismatch::Use)?;
    let fits = stated.map_or(approved.is_empty(), |stated| {
        let usage = stated.value;
        let others = usage.any || usage.ocsp_signing || !usage.other.is_empty();
        let is_stated = |eku| match eku {
            Eku::ServerAuth => usage.server_auth,
            Eku::ClientAuth => usage.client_auth,
            Eku::CodeSigning => usage.code_signing,
            Eku::EmailProtection => usage.email_protection,
            Eku::TimeStamping => usage.time_stamping,
        };
        !others
            && Eku::ALL
                .into_iter()
                .all(|eku| is_stated(eku) == approved.contains(&eku))
    });
    if fits { Ok(()) } else { Err(Mismatch::Use) }
}

fn leads_to(chain: &Chain, anchor: &Certificate) -> Result<(), Mismatch> {
    let last = chain.certificates().last();
    if last.is_some_and(|last| last == anchor || last.is_issued_by(anchor)) {
        Ok(())
    } else {
        Err(Mismatch::Anchor(anchor.subject().to_owned()))
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
