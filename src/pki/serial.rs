//! Serial numbers.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A certificate's serial number (RFC 5280, section 4.1.2.2): a positive integer of at most 20
/// octets. One form everywhere: lower hex without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(String);

/// What is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a serial number is 1 to 40 lower-case hexadecimal digits without leading zeros; got {0:?}"
)]
pub struct InvalidSerial(String);

impl Serial {
    /// A fresh serial number of 17 octets: `40` and 128 random bits. The fixed first octet keeps
    /// it positive and of one length.
    pub fn random(bits: [u8; 16]) -> Self {
        Self(format!("40{}", data_encoding::HEXLOWER.encode(&bits)))
    }

    /// From the content octets of a DER INTEGER; must be positive.
    pub fn from_bytes(octets: &[u8]) -> Result<Self, InvalidSerial> {
        let hex = data_encoding::HEXLOWER.encode(octets);
        if octets.first().is_some_and(|b| b & 0x80 != 0) {
            return Err(InvalidSerial(format!("-{hex}")));
        }
        hex.trim_start_matches('0').parse()
    }

    /// The number's octets, without sign octet.
    pub fn octets(&self) -> Vec<u8> {
        let even = if self.0.len().is_multiple_of(2) {
            self.0.clone()
        } else {
            format!("0{}", self.0)
        };
        data_encoding::HEXLOWER
            .decode(even.as_bytes())
            .unwrap_or_default()
    }

    /// Two digits an octet, with colons between, as many tools print it.
    pub fn colon_hex(&self) -> String {
        let octets = self.octets();
        let pairs: Vec<String> = octets.iter().map(|b| format!("{b:02x}")).collect();
        pairs.join(":")
    }
}

impl FromStr for Serial {
    type Err = InvalidSerial;
    fn from_str(s: &str) -> Result<Self, InvalidSerial> {
        let digits = s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        // 20 octets whose first bit would be the sign do not fit an INTEGER of 20 octets.
        let fits = s.len() < 40 || (s.len() == 40 && s.as_bytes().first() < Some(&b'8'));
        if digits && fits && !s.is_empty() && !s.starts_with('0') {
            Ok(Self(s.into()))
        } else {
            Err(InvalidSerial(s.chars().take(48).collect()))
        }
    }
}

impl TryFrom<String> for Serial {
    type Error = InvalidSerial;
    fn try_from(s: String) -> Result<Self, InvalidSerial> {
        s.parse()
    }
}

impl From<Serial> for String {
    fn from(s: Serial) -> Self {
        s.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
