//! Where a list goes on, as a text for clients.

use crate::id::Id;
use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};

/// The form of the text; raised when it changes.
const VERSION: u8 = 1;
/// Bytes of the hash of the question.
const QUESTION: usize = 8;

/// The last (key, id) of a page, bound to the question that the page answers. Clients are to hand
/// it back as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The key by which the list is ordered.
    pub key: Vec<u8>,
    /// The row.
    pub id: Id,
}

/// Why a text is no cursor for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It is no cursor.
    #[error("it is not a cursor: leave it out to begin at the first page")]
    Malformed,
    /// Another version of the program made it.
    #[error("another version made this cursor: leave it out to begin at the first page")]
    Version,
    /// It belongs to another list.
    #[error(
        "this cursor belongs to another filter or order: repeat those, or leave it out to begin \
         at the first page"
    )]
    Question,
}

impl Cursor {
    /// The text. `question` is the list's filter and order in any fixed form.
    pub fn to_text(&self, question: &str) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&hash(question));
        // Keys are at most 512 bytes.
        bytes.extend((self.key.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(self.id.as_str().as_bytes());
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// Reads a text for the same question.
    ///
    /// # Errors
    /// When it is no cursor, of another version, or of another question.
    pub fn from_text(text: &str, question: &str) -> Result<Self, CursorError> {
        let bytes = BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| CursorError::Malformed)?;
        let (version, rest) = bytes.split_first().ok_or(CursorError::Malformed)?;
        if *version != VERSION {
            return Err(CursorError::Version);
        }
        let (asked, rest) = rest
            .split_first_chunk::<QUESTION>()
            .ok_or(CursorError::Malformed)?;
        let (length, rest) = rest
            .split_first_chunk::<2>()
            .ok_or(CursorError::Malformed)?;
        let (key, id) = rest
            .split_at_checked(u16::from_be_bytes(*length).into())
            .ok_or(CursorError::Malformed)?;
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        let id = id.ok_or(CursorError::Malformed)?;
        if *asked != hash(question) {
            return Err(CursorError::Question);
        }
        let key = key.to_vec();
        Ok(Self { key, id })
    }
}

fn hash(question: &str) -> [u8; QUESTION] {
    let mut start = [0; QUESTION];
    start.copy_from_slice(&digest(&SHA256, question.as_bytes()).as_ref()[..QUESTION]);
    start
}
