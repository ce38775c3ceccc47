//! The typed layer: documents, their index keys, and their JSON form.

use super::{
    batch::IndexKey,
    engine::{Coll, Index, Row},
    error::{StoreError, Unwritable, UnwritableReason},
    key::Key,
};
use crate::id::Id;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    fmt,
    ops::{Deref, DerefMut},
};

/// The field of a stored document that holds its format number.
pub(super) const FORMAT_FIELD: &str = "_format";

/// A type whose values are rows of a collection.
///
/// Its JSON form is an object of strings and integers; every field is written, also an empty one,
/// and unknown ones are ignored on reading: on update the store keeps the top-level fields of the
/// old row that the type does not write.
pub trait Document: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The collection.
    const COLL: Coll;
    /// The number of the JSON form: that of the collection's newest migration, 1 before the first.
    const FORMAT: u16;
    /// All indexes that [`keys`](Self::keys) puts keys into.
    const INDEXES: &'static [Index];

    /// The row's id, which never changes.
    fn id(&self) -> &Id;

    /// Puts the index keys of this value.
    fn keys(&self, keys: &mut Keys);

    /// Whether [`totals`](Self::totals) says anything.
    const COUNTS: bool = false;

    /// The totals that grow by one each when this value is written over `before`, or as a new row.
    /// They grow in the very commit, and never fall, whatever becomes of the row.
    fn totals(&self, before: Option<&Self>) -> Vec<Key> {
        let _ = before;
        Vec::new()
    }
}

/// The index keys of one document.
#[derive(Debug, Default)]
pub struct Keys(Vec<IndexKey>);

impl Keys {
    /// Puts the document into an index.
    pub fn put(&mut self, index: Index, key: Key) {
        self.0.push(IndexKey {
            index,
            key: key.bytes(),
        });
    }

    /// All index keys of a document.
    pub fn of<T: Document>(value: &T) -> Vec<IndexKey> {
        let mut keys = Self::default();
        value.keys(&mut keys);
        debug_assert!(
            keys.0.iter().all(|key| T::INDEXES.contains(&key.index)),
            "{} has a key of an index that it does not declare",
            T::COLL.0
        );
        keys.0
    }
}

/// A document as it was loaded, with the version that a later write expects.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    value: T,
    id: Id,
    version: u64,
    /// The stored form, for the fields that the type does not know.
    stored: Bytes,
}

impl<T> Loaded<T> {
    /// The sequence number of the commit that wrote the row.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The document alone.
    pub fn into_value(self) -> T {
        self.value
    }

    /// This row with another value.
    #[must_use]
    pub fn map(self, change: impl FnOnce(T) -> T) -> Self {
        Self {
            value: change(self.value),
            ..self
        }
    }

    /// This row with another value, unless the change is refused.
    ///
    /// # Errors
    /// The change's own.
    pub fn try_map<E>(self, change: impl FnOnce(T) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self {
            value: change(self.value)?,
            ..self
        })
    }

    /// The id under which it was loaded, whatever the value says now.
    pub(super) fn row_id(&self) -> &Id {
        &self.id
    }
}

impl<T> Deref for Loaded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Loaded<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Document> Loaded<T> {
    /// Reads a stored row that has the type's format.
    pub(super) fn decode(row: Row) -> Result<Self, StoreError> {
        match serde_json::from_slice::<T>(&row.doc) {
            Ok(value) if *value.id() == row.id => Ok(Self {
                value,
                id: row.id,
                version: row.version,
                stored: row.doc,
            }),
            Ok(value) => Err(corrupt::<T>(
                row.id,
                format!("it says it is {}", value.id()),
            )),
            Err(e) => Err(corrupt::<T>(row.id, e.to_string())),
        }
    }

    /// The totals that grow when the value now is written over the stored one.
    pub(super) fn new_totals(&self) -> Vec<Key> {
        if !T::COUNTS {
            return Vec::new();
        }
        // It was a value when it was decoded.
        let stored = serde_json::from_slice::<T>(&self.stored).ok();
        self.value.totals(stored.as_ref())
    }

    /// The JSON form of the value now, with the old row's fields that the type does not write.
    pub(super) fn encode(&self) -> Result<Bytes, Unwritable> {
        if *self.value.id() != self.id {
            let reason = UnwritableReason::IdChanged(self.id.clone());
            return Err(Unwritable {
                what: name(&self.value),
                reason,
            });
        }
        // It was an object when it was decoded.
        let old = serde_json::from_slice::<Map<String, Value>>(&self.stored).unwrap_or_default();
        encode_over(&self.value, old)
    }
}

/// The format of a stored form. Where it stands first, as it does when the engine keeps documents
/// byte for byte, nothing else is parsed.
pub(super) fn format(doc: &[u8]) -> Result<u16, serde_json::Error> {
    #[derive(Deserialize)]
    struct Format {
        #[serde(rename = "_format")]
        format: u16,
    }
    let first = doc.strip_prefix(br#"{"_format":"#).and_then(|rest| {
        let end = rest.iter().position(|byte| matches!(byte, b',' | b'}'))?;
        serde_json::from_slice(&rest[..end]).ok()
    });
    match first {
        Some(format) => Ok(format),
        None => serde_json::from_slice(doc).map(|Format { format }| format),
    }
}

/// A row that cannot be read.
pub(super) fn corrupt<T: Document>(id: Id, reason: String) -> StoreError {
    StoreError::Corrupt {
        coll: T::COLL,
        id,
        reason,
    }
}

/// The JSON form of a new document.
pub(super) fn encode<T: Document>(value: &T) -> Result<Bytes, Unwritable> {
    encode_over(value, Map::new())
}

fn encode_over<T: Document>(value: &T, mut old: Map<String, Value>) -> Result<Bytes, Unwritable> {
    let unwritable = |reason| Unwritable {
        what: name(value),
        reason,
    };
    let Value::Object(new) = to_value(value).map_err(unwritable)? else {
        return Err(unwritable(UnwritableReason::NotAnObject));
    };
    old.extend(new);
    old.insert(FORMAT_FIELD.to_owned(), T::FORMAT.into());
    Ok(Value::Object(old).to_string().into())
}

/// The JSON form of a stream's entry.
pub(super) fn encode_entry(
    stream: &'static str,
    entry: &impl Serialize,
) -> Result<Bytes, Unwritable> {
    to_value(entry)
        .map(|value| value.to_string().into())
        .map_err(|reason| Unwritable {
            what: stream.to_owned(),
            reason,
        })
}

fn name<T: Document>(value: &T) -> String {
    format!("{}/{}", T::COLL.0, value.id())
}

fn to_value(value: &impl Serialize) -> Result<Value, UnwritableReason> {
    let value = serde_json::to_value(value).map_err(|e| UnwritableReason::NoJson(e.to_string()))?;
    check(Place::Root, &value)?;
    Ok(value)
}

/// Refuses what not every engine keeps as it is.
fn check(place: Place<'_>, value: &Value) -> Result<(), UnwritableReason> {
    match value {
        Value::String(text) if text.contains('\0') => Err(UnwritableReason::Nul(place.to_string())),
        Value::Number(n) if n.is_f64() => Err(UnwritableReason::Fraction(place.to_string())),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| check(Place::Item(&place, i), item)),
        Value::Object(fields) => fields.iter().try_for_each(|(field, item)| {
            if field.contains('\0') {
                return Err(UnwritableReason::Nul(format!("a field name in {place}/")));
            }
            check(Place::Field(&place, field), item)
        }),
        _ => Ok(()),
    }
}

/// Where a value stands, shown as a JSON pointer (RFC 6901). It is put together only when shown.
#[derive(Clone, Copy)]
enum Place<'a> {
    Root,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(outer, field) => write!(f, "{outer}/{field}"),
            Self::Item(outer, i) => write!(f, "{outer}/{i}"),
        }
    }
}
