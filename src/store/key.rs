//! Index keys: bytes whose order is the order of the values they were made from.

use crate::{clock::Time, id::Id};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 512;

/// Builds an order-preserving key from a sequence of values: keys made of the same kinds of values
/// compare as the tuples of those values do.
///
/// A whole value ends by itself, so the key of the first values is a prefix of the keys of all
/// that begin with equal ones, and of no others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// The empty key, which is a prefix of every key.
    pub fn new() -> Self {
        Self::default()
    }

    /// A text, ordered by its UTF-8 bytes.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        let mut key = self.text_start(text);
        key.0.extend([0, 0]);
        key
    }

    /// The beginning of a text: what is built is a prefix of the key of every text that starts
    /// with this one. Nothing may follow it.
    #[must_use]
    pub fn text_start(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            self.0.push(byte);
            if byte == 0 {
                // Above the terminator's second zero, so "a" < "a\0" < "a\u{1}".
                self.0.push(0xff);
            }
        }
        self
    }

    /// An identifier.
    #[must_use]
    pub fn id(self, id: &Id) -> Self {
        self.text(id.as_str())
    }

    /// An unsigned integer.
    #[must_use]
    pub fn u64(mut self, n: u64) -> Self {
        self.0.extend(n.to_be_bytes());
        self
    }

    /// A signed integer.
    #[must_use]
    pub fn i64(self, n: i64) -> Self {
        self.u64(n.cast_unsigned() ^ (1 << 63))
    }

    /// A moment, earliest first.
    #[must_use]
    pub fn time(self, t: Time) -> Self {
        self.i64(t.micros())
    }

    /// A moment, latest first: indexes are walked upward only.
    #[must_use]
    pub fn time_desc(self, t: Time) -> Self {
        self.i64(!t.micros())
    }

    /// False, then true.
    #[must_use]
    pub fn flag(mut self, flag: bool) -> Self {
        self.0.push(u8::from(flag));
        self
    }

    /// `None`, then the values in their order; `put` appends the value.
    #[must_use]
    pub fn option<T>(self, value: Option<T>, put: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            None => self.flag(false),
            Some(value) => put(self.flag(true), value),
        }
    }

    /// The key. One longer than [`MAX_KEY`] is cut and ends in a SHA-256 over the whole: still
    /// distinct, but ordered by its beginning alone.
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = self.0;
        if bytes.len() > MAX_KEY {
            let hash = digest(&SHA256, &bytes);
            bytes.truncate(MAX_KEY - SHA256_OUTPUT_LEN);
            bytes.extend_from_slice(hash.as_ref());
        }
        bytes
    }
}
