//! Names in certificates.

use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

/// A subject alternative name (RFC 5280, section 4.2.1.6). Written and read as text: an address
/// is an IP address, what holds `://` a URI, what holds `@` an e-mail address, all else a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum San {
    /// A DNS name: A-labels, lower case, perhaps with a first label `*`.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// An e-mail address.
    Email(String),
    /// A URI.
    Uri(String),
}

/// What cannot stand in a certificate, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be a name in a certificate: {reason}")]
pub struct InvalidName {
    name: String,
    reason: &'static str,
}

impl San {
    /// The DNS name, when it is one.
    pub fn dns(&self) -> Option<&str> {
        match self {
            Self::Dns(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn from_dns(s: &str) -> Result<Self, InvalidName> {
        dns(s).map(Self::Dns).map_err(|reason| invalid(s, reason))
    }

    pub(super) fn from_email(s: &str) -> Result<Self, InvalidName> {
        email(s)
            .map(Self::Email)
            .map_err(|reason| invalid(s, reason))
    }

    pub(super) fn from_uri(s: &str) -> Result<Self, InvalidName> {
        if is_uri(s) {
            Ok(Self::Uri(s.into()))
        } else {
            let reason = "a URI is scheme://host/path in the characters of RFC 3986";
            Err(invalid(s, reason))
        }
    }
}

/// The longest name read, in bytes.
const MAX: usize = 1024;

impl FromStr for San {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        if s.is_empty() {
            return Err(invalid(s, "it is empty"));
        }
        if s.len() > MAX {
            return Err(invalid(s, "it is longer than 1024 bytes"));
        }
        if s.chars().any(|c| c.is_control() || is_invisible(c)) {
            let reason = "it holds control, direction or zero-width characters";
            return Err(invalid(s, reason));
        }
        if s.chars().any(char::is_whitespace) {
            return Err(invalid(s, "it holds a space"));
        }
        if let Ok(ip) = s.parse() {
            Ok(Self::Ip(ip))
        } else if s.contains("://") {
            Self::from_uri(s)
        } else if s.contains('@') {
            Self::from_email(s)
        } else {
            Self::from_dns(s)
        }
    }
}

fn invalid(name: &str, reason: &'static str) -> InvalidName {
    InvalidName {
        name: name.chars().take(80).collect(),
        reason,
    }
}

/// The longest domain name, in characters (RFC 1035, section 3.1, without the root's dot).
const LONGEST: usize = 253;

/// A host name, or `*.` and one.
fn dns(name: &str) -> Result<String, &'static str> {
    match name.strip_prefix("*.") {
        Some(rest) => Ok(format!("*.{}", host(rest, LONGEST - 2)?)),
        None => host(name, LONGEST),
    }
}

/// A host name in A-labels and lower case (RFC 5890), labels of 1 to 63 characters. Underscores
/// are taken: names of hosts and services inside of a network have them.
fn host(name: &str, longest: usize) -> Result<String, &'static str> {
    let ascii = idna::domain_to_ascii(name).map_err(|_| "it is no domain name (IDNA)")?;
    if ascii.len() > longest {
        return Err("a domain name has at most 253 characters");
    }
    if ascii.ends_with('.') {
        return Err("names in certificates have no dot at the end");
    }
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    if !ascii.split('.').all(label_ok) {
        return Err(
            "labels are 1 to 63 of a-z 0-9 - _, not beginning or ending with -; \
             a wildcard is the whole first label",
        );
    }
    if ascii.rsplit('.').next().is_some_and(is_number) {
        return Err("it ends in a number, as only an IP address does, and is none");
    }
    Ok(ascii)
}

/// The text of an IA5String.
pub(super) fn ia5(s: &str) -> Result<&str, InvalidName> {
    if s.is_ascii() {
        Ok(s)
    } else {
        Err(invalid(s, "it is not ASCII, as the texts of X.509 are"))
    }
}

/// A last label that a browser takes for a part of an IPv4 address (URL Standard, 3.5).
fn is_number(label: &str) -> bool {
    let decimal = label.bytes().all(|b| b.is_ascii_digit());
    let hexadecimal = label
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    decimal || hexadecimal
}

/// An address whose local part is a dot-atom (RFC 5322, section 3.2.3) of at most 64 octets.
fn email(address: &str) -> Result<String, &'static str> {
    let (local, domain) = address.rsplit_once('@').ok_or("it has no @")?;
    let atom = |part: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
        !part.is_empty() && part.bytes().all(plain)
    };
    if local.len() > 64 || !local.split('.').all(atom) {
        return Err("the part before @ is 1 to 64 ASCII letters, digits and signs without quotes");
    }
    Ok(format!("{local}@{}", host(domain, LONGEST)?))
}

/// RFC 3986, with a host: `scheme://host` and perhaps more.
fn is_uri(s: &str) -> bool {
    let (Some((scheme, _)), Ok(uri)) = (s.split_once("://"), s.parse::<http::Uri>()) else {
        return false;
    };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b);
    let host_ok = uri.host().is_some_and(|host| !host.is_empty());
    s.len() <= MAX && scheme_ok && host_ok && s.bytes().all(plain)
}

/// Characters that hide or reorder what a person reads.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

impl TryFrom<String> for San {
    type Error = InvalidName;
    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<San> for String {
    fn from(s: San) -> Self {
        s.to_string()
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(s) | Self::Email(s) | Self::Uri(s) => f.write_str(s),
            Self::Ip(ip) => fmt::Display::fmt(ip, f),
        }
    }
}

/// Names in one order, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sans(Vec<San>);

impl Sans {
    /// Sorts and removes repetitions.
    pub fn new(mut sans: Vec<San>) -> Self {
        sans.sort();
        sans.dedup();
        Self(sans)
    }

    /// The names.
    pub fn into_vec(self) -> Vec<San> {
        self.0
    }
}
