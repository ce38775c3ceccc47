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
}

impl FromStr for San {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let invalid = |reason| InvalidName {
            name: s.chars().take(80).collect(),
            reason,
        };
        if s.is_empty() {
            return Err(invalid("it is empty"));
        }
        if s.len() > 1024 {
            return Err(invalid("it is longer than 1024 bytes"));
        }
        if s.chars().any(|c| c.is_control() || is_invisible(c)) {
            return Err(invalid(
                "it holds control, direction or zero-width characters",
            ));
        }
        if s.chars().any(char::is_whitespace) {
            return Err(invalid("it holds a space"));
        }
        if let Ok(ip) = s.parse() {
            return Ok(Self::Ip(ip));
        }
        if s.contains("://") {
            return if s.is_ascii() && s.parse::<http::Uri>().is_ok() {
                Ok(Self::Uri(s.into()))
            } else {
                Err(invalid("it is no URI of ASCII characters"))
            };
        }
        if let Some((local, domain)) = s.rsplit_once('@') {
            if local.is_empty() || !local.is_ascii() {
                return Err(invalid("the part before @ is empty or not ASCII"));
            }
            let domain = dns(domain).map_err(invalid)?;
            return Ok(Self::Email(format!("{local}@{domain}")));
        }
        match s.strip_prefix("*.") {
            Some(rest) => Ok(Self::Dns(format!("*.{}", dns(rest).map_err(invalid)?))),
            None => Ok(Self::Dns(dns(s).map_err(invalid)?)),
        }
    }
}

/// A host name in A-labels and lower case (RFC 5890), labels of 1 to 63 characters, 253 in all.
fn dns(name: &str) -> Result<String, &'static str> {
    let ascii = idna::domain_to_ascii(name).map_err(|_| "it is no domain name (IDNA)")?;
    if ascii.is_empty() || ascii.len() > 253 {
        return Err("a domain name has 1 to 253 characters");
    }
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
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
    if ascii.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err("it looks like an IP address and is none");
    }
    Ok(ascii)
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
