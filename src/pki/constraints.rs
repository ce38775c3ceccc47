//! Name constraints (RFC 5280, section 4.2.1.10): what a CA's certificate lets those below it be
//! called.

use super::{Certificate, San};
use std::net::IpAddr;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, GeneralSubtree, ParsedExtension},
    prelude::FromDer as _,
};

/// A name that a CA above does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unallowed {
    /// Outside of what is permitted.
    #[error("{name}: the CA {ca} permits names of this kind only under {permitted}")]
    NotPermitted {
        /// The name.
        name: San,
        /// The CA's subject.
        ca: String,
        /// What it permits.
        permitted: String,
    },
    /// Within what is excluded.
    #[error("{name}: the CA {ca} excludes names under {excluded}")]
    Excluded {
        /// The name.
        name: San,
        /// The CA's subject.
        ca: String,
        /// The part that it is in.
        excluded: String,
    },
    /// The CA constrains in a way that is not understood here: nothing is issued below it.
    #[error("the CA {0} has name constraints that are not understood here")]
    Unreadable(String),
}

/// Checks names against the constraints of every CA above them.
pub fn allow<'a>(
    above: impl IntoIterator<Item = &'a Certificate>,
    names: &[San],
) -> Result<(), Unallowed> {
    for ca in above {
        of(ca, names)?;
    }
    Ok(())
}

fn of(ca: &Certificate, names: &[San]) -> Result<(), Unallowed> {
    let unreadable = || Unallowed::Unreadable(ca.subject().to_owned());
    let (_, parsed) = X509Certificate::from_der(ca.der()).map_err(|_| unreadable())?;
    let stated = parsed.name_constraints().map_err(|_| unreadable())?;
    let Some(stated) = stated else {
        // An extension that is there and was not understood is no licence.
        let broken = parsed.extensions().iter().any(|e| {
            e.oid == x509_parser::oid_registry::OID_X509_EXT_NAME_CONSTRAINTS
                && !matches!(e.parsed_extension(), ParsedExtension::NameConstraints(_))
        });
        return if broken { Err(unreadable()) } else { Ok(()) };
    };
    let permitted = stated.value.permitted_subtrees.as_deref().unwrap_or(&[]);
    let excluded = stated.value.excluded_subtrees.as_deref().unwrap_or(&[]);
    // A subject is a name too (its common name is the subscriber's), and is not compared here.
    let directory = |tree: &GeneralSubtree<'_>| matches!(tree.base, GeneralName::DirectoryName(_));
    if permitted.iter().chain(excluded).any(directory) {
        return Err(unreadable());
    }
    for name in names {
        for tree in excluded {
            if within(name, tree) == Some(true) || covers(name, tree) {
                return Err(Unallowed::Excluded {
                    name: name.clone(),
                    ca: ca.subject().to_owned(),
                    excluded: shown(tree),
                });
            }
        }
        let of_kind: Vec<_> = permitted
            .iter()
            .filter_map(|tree| Some((within(name, tree)?, tree)))
            .collect();
        if !of_kind.is_empty() && !of_kind.iter().any(|(within, _)| *within) {
            let trees: Vec<String> = of_kind.iter().map(|(_, tree)| shown(tree)).collect();
            return Err(Unallowed::NotPermitted {
                name: name.clone(),
                ca: ca.subject().to_owned(),
                permitted: trees.join(", "),
            });
        }
    }
    Ok(())
}

/// Whether a name is within a subtree; `None` where they are of different kinds.
fn within(name: &San, tree: &GeneralSubtree<'_>) -> Option<bool> {
    match (name, &tree.base) {
        // A wildcard stands for names under what follows it.
        (San::Dns(name), GeneralName::DNSName(base)) => {
            let name = name.strip_prefix("*.").unwrap_or(name);
            Some(is_under(name, base.strip_prefix('.').unwrap_or(base)))
        }
        (San::Ip(ip), GeneralName::IPAddress(range)) => Some(in_range(*ip, range)),
        (San::Email(address), GeneralName::RFC822Name(base)) => {
            let host = address.rsplit_once('@').map_or("", |(_, host)| host);
            Some(if base.contains('@') {
                address.eq_ignore_ascii_case(base)
            } else {
                in_host(host, base)
            })
        }
        (San::Uri(uri), GeneralName::URI(base)) => {
            let host = uri.parse::<http::Uri>().ok();
            let host = host.as_ref().and_then(http::Uri::host).unwrap_or("");
            Some(in_host(host, base))
        }
        _ => None,
    }
}

/// Whether a wildcard stands for the base of a subtree, among others.
fn covers(name: &San, tree: &GeneralSubtree<'_>) -> bool {
    let (San::Dns(name), GeneralName::DNSName(base)) = (name, &tree.base) else {
        return false;
    };
    let base = base.strip_prefix('.').unwrap_or(base);
    match (name.strip_prefix("*."), base.split_once('.')) {
        (Some(parent), Some((_, of_base))) => parent.eq_ignore_ascii_case(of_base),
        _ => false,
    }
}

/// `base` itself, or a name below it.
fn is_under(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let below = || {
        name.strip_suffix(&base)
            .is_some_and(|rest| rest.ends_with('.'))
    };
    base.is_empty() || name == base || below()
}

/// For e-mail addresses and URIs: a host itself, or with a leading dot the hosts below it.
fn in_host(host: &str, base: &str) -> bool {
    match base.strip_prefix('.') {
        Some(domain) => !host.eq_ignore_ascii_case(domain) && is_under(host, domain),
        None => host.eq_ignore_ascii_case(base),
    }
}

/// An address and a mask of its length. What is neither is no range, and holds nothing.
fn in_range(ip: IpAddr, range: &[u8]) -> bool {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    if range.len() != 2 * octets.len() {
        return false;
    }
    let (base, mask) = range.split_at(octets.len());
    let mut all = octets.iter().zip(base).zip(mask);
    all.all(|((octet, base), mask)| octet & mask == base & mask)
}

fn shown(tree: &GeneralSubtree<'_>) -> String {
    match &tree.base {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            (*text).to_owned()
        }
        GeneralName::IPAddress(range) => {
            let text = |octets: &[u8]| {
                let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
                let ip = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
                ip.map_or_else(|_| "?".into(), |ip| ip.to_string())
            };
            let (base, mask) = range.split_at(range.len() / 2);
            format!("{}/{}", text(base), text(mask))
        }
        other => other.to_string(),
    }
}
