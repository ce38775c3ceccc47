//! Whoever may open what is encrypted for them.

use std::{fmt, str::FromStr};

/// An age recipient, `age1...`.
#[derive(Clone)]
pub struct Recipient(age::x25519::Recipient);

/// A text that is no recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecipient {
    /// Whoever takes an identity for its recipient has written a secret: it is not repeated.
    #[error("an identity, which opens backups, is given where its recipient (age1...) is expected")]
    Identity,
    /// Something else.
    #[error("that is no recipient (age1...): {0}")]
    Text(String),
}

impl Recipient {
    /// As the format's library knows it.
    pub fn age(&self) -> &age::x25519::Recipient {
        &self.0
    }
}

impl From<age::x25519::Recipient> for Recipient {
    fn from(recipient: age::x25519::Recipient) -> Self {
        Self(recipient)
    }
}

impl FromStr for Recipient {
    type Err = InvalidRecipient;
    fn from_str(text: &str) -> Result<Self, InvalidRecipient> {
        let text = text.trim();
        match text.get(..15) {
            Some(start) if start.eq_ignore_ascii_case("AGE-SECRET-KEY-") => {
                Err(InvalidRecipient::Identity)
            }
            _ => text
                .parse()
                .map(Self)
                .map_err(|e: &str| InvalidRecipient::Text(e.to_owned())),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
