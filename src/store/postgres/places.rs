//! A row's index keys as they lie beside it, in one column.

use crate::store::{commit::Place, engine::EngineError};
use std::collections::BTreeSet;

/// No index counts by so many bytes: a key is shorter.
const NOT_COUNTED: u16 = u16::MAX - 1;

/// For each place the index's name and the key, each after its length, and what the index counts
/// by; numbers are of two bytes, the upper first.
pub fn encode(places: &BTreeSet<Place>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for place in places {
        for part in [place.index.as_bytes(), &place.key] {
            // Names are ours and keys are at most 512 bytes long.
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(part);
        }
        bytes.extend(place.counted.unwrap_or(NOT_COUNTED).to_be_bytes());
    }
    bytes
}

/// Reads them again.
pub fn decode(bytes: &[u8]) -> Result<BTreeSet<Place>, EngineError> {
    let damaged = || EngineError::Corrupt("a row's index keys cannot be read".to_owned());
    let mut rest = bytes;
    let mut places = BTreeSet::new();
    while !rest.is_empty() {
        let index = part(&mut rest).ok_or_else(damaged)?;
        let key = part(&mut rest).ok_or_else(damaged)?.to_vec();
        let counted = number(&mut rest).ok_or_else(damaged)?;
        places.insert(Place {
            index: String::from_utf8(index.to_vec()).map_err(|_| damaged())?,
            key,
            counted: (counted != NOT_COUNTED).then_some(counted),
        });
    }
    Ok(places)
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u16::from_be_bytes(*bytes))
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest)?;
    let (part, after) = rest.split_at_checked(length.into())?;
    *rest = after;
    Some(part)
}
