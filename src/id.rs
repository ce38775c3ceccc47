//! Identifiers: short strings that are safe as file names, URL segments and storage keys.

use crate::clock::{Rng, Time};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};
use utoipa::ToSchema;

/// The longest identifier, in bytes.
pub const MAX_LEN: usize = 128;

/// An identifier: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
pub struct Id(Arc<str>);

/// Why a text is no identifier.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "an id is 1 to 128 characters of A-Z a-z 0-9 . _ - and starts with a letter or digit; got {0:?}"
)]
pub struct InvalidId(String);

impl Id {
    /// Makes a new identifier `<prefix>-<UUID version 7 in base32>` (RFC 9562, section 5.7):
    /// time-ordered, so fresh rows lie together in an index.
    pub fn generate(prefix: &str, now: Time, rng: &dyn Rng) -> Self {
        let mut random = [0; 10];
        rng.fill(&mut random);
        let millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
        let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        Self::derived(prefix, uuid.as_bytes())
    }

    /// The identifier `<prefix>-<bytes in base32>`: equal bytes give an equal identifier.
    pub fn derived(prefix: &str, bytes: &[u8]) -> Self {
        debug_assert!(!prefix.is_empty() && bytes.len() <= 32);
        Self(format!("{prefix}-{}", BASE32.encode(bytes)).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Crockford's base32 in lower case, without padding.
static BASE32: std::sync::LazyLock<data_encoding::Encoding> = std::sync::LazyLock::new(|| {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    spec.encoding().unwrap_or(data_encoding::BASE32HEX_NOPAD)
});

impl FromStr for Id {
    type Err = InvalidId;
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let ok = s.len() <= MAX_LEN
            && s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if ok {
            Ok(Self(s.into()))
        } else {
            Err(InvalidId(s.chars().take(MAX_LEN).collect()))
        }
    }
}

impl TryFrom<String> for Id {
    type Error = InvalidId;
    fn try_from(s: String) -> Result<Self, InvalidId> {
        s.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
