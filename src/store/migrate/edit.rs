//! The edits of a document: each has an inverse, and nothing that was there is lost.

use super::Text;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{borrow::Cow, fmt};

/// The field of a stored document in which edits keep values that the present form has no place
/// for.
const KEPT: &str = "_kept";

/// A change to a top-level field. Done and then undone, or undone and then done, it leaves any
/// document as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "snake_case")]
pub enum Edit {
    /// A field comes: with the value that was kept of it, else with the default.
    Add {
        /// Its name.
        field: Text,
        /// JSON; none leaves the field out.
        default: Option<Text>,
    },
    /// A field goes; its value is kept in the row where it is not the default.
    Drop {
        /// Its name.
        field: Text,
        /// JSON: what the field is to be in rows that were written without it.
        default: Option<Text>,
    },
    /// A field has another name.
    Rename {
        /// The name.
        from: Text,
        /// The new name.
        to: Text,
    },
    /// Values of a field become others, one to one; all else stays.
    Map {
        /// The field.
        field: Text,
        /// (before, after), both JSON.
        pairs: Cow<'static, [(Text, Text)]>,
    },
}

/// A document that cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EditError(String);

impl Edit {
    /// A new field with a default, as JSON.
    pub const fn add(field: &'static str, default: &'static str) -> Self {
        Self::Add {
            field: Cow::Borrowed(field),
            default: Some(Cow::Borrowed(default)),
        }
    }

    /// A field that goes; `default`, as JSON, is for rows that were written without it.
    pub const fn drop(field: &'static str, default: &'static str) -> Self {
        Self::Drop {
            field: Cow::Borrowed(field),
            default: Some(Cow::Borrowed(default)),
        }
    }

    /// Another name for a field.
    pub const fn rename(from: &'static str, to: &'static str) -> Self {
        Self::Rename {
            from: Cow::Borrowed(from),
            to: Cow::Borrowed(to),
        }
    }

    /// Other values of a field, as JSON.
    pub const fn map(field: &'static str, pairs: &'static [(Text, Text)]) -> Self {
        Self::Map {
            field: Cow::Borrowed(field),
            pairs: Cow::Borrowed(pairs),
        }
    }

    /// What undoes it.
    #[must_use]
    pub fn inverse(&self) -> Self {
        match self.clone() {
            Self::Add { field, default } => Self::Drop { field, default },
            Self::Drop { field, default } => Self::Add { field, default },
            Self::Rename { from, to } => Self::Rename { from: to, to: from },
            Self::Map { field, pairs } => Self::Map {
                field,
                pairs: pairs.iter().cloned().map(|(a, b)| (b, a)).collect(),
            },
        }
    }

    /// The fields it touches.
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Self::Add { field, .. } | Self::Drop { field, .. } | Self::Map { field, .. } => {
                vec![field]
            }
            Self::Rename { from, to } => vec![from, to],
        }
    }

    /// All it says, as words.
    pub(super) fn words(&self) -> Vec<&str> {
        match self {
            Self::Add { field, default } => {
                vec!["add", field, default.as_deref().unwrap_or_default()]
            }
            Self::Drop { field, default } => {
                vec!["drop", field, default.as_deref().unwrap_or_default()]
            }
            Self::Rename { from, to } => vec!["rename", from, to],
            Self::Map { field, pairs } => {
                let pairs = pairs.iter().flat_map(|(a, b)| [&**a, &**b]);
                ["map", field].into_iter().chain(pairs).collect()
            }
        }
    }

    /// What is wrong with it, whatever is stored.
    pub(super) fn check(&self) -> Result<(), EditError> {
        match self {
            Self::Add { default, .. } | Self::Drop { default, .. } => default
                .iter()
                .try_for_each(|text| json(text).map(std::mem::drop)),
            Self::Rename { .. } => Ok(()),
            Self::Map { field, pairs } => {
                for side in [
                    |p: &(Text, Text)| p.0.clone(),
                    |p: &(Text, Text)| p.1.clone(),
                ] {
                    let mut values = Vec::new();
                    for pair in pairs.iter() {
                        let value = json(&side(pair))?;
                        if values.contains(&value) {
                            return Err(EditError(format!("{field} is not mapped one to one")));
                        }
                        values.push(value);
                    }
                }
                Ok(())
            }
        }
    }

    /// Does it to a document; `number` is the migration's, by which what is kept is told apart.
    pub(super) fn apply(&self, number: u16, doc: &mut Map<String, Value>) -> Result<(), EditError> {
        let mut kept = Kept::take(number, doc)?;
        match self {
            Self::Add { field, default } => {
                if let Some(stray) = doc.remove(&**field) {
                    kept.put(&format!("{field} before"), vec![stray]);
                }
                let value = match kept.get(field) {
                    Some(value) => value,
                    None => default.as_deref().map(json).transpose()?,
                };
                doc.extend(value.map(|value| (field.to_string(), value)));
            }
            Self::Drop { field, default } => {
                let default = default.as_deref().map(json).transpose()?;
                let value = doc.remove(&**field);
                if value != default {
                    kept.put(field, value.into_iter().collect());
                }
                let stray = kept.get(&format!("{field} before")).flatten();
                doc.extend(stray.map(|value| (field.to_string(), value)));
            }
            Self::Rename { from, to } => {
                if let Some(stray) = doc.remove(&**to) {
                    kept.put(to, vec![stray]);
                }
                let value = doc.remove(&**from);
                doc.extend(value.map(|value| (to.to_string(), value)));
                let stray = kept.get(from).flatten();
                doc.extend(stray.map(|value| (from.to_string(), value)));
            }
            Self::Map { field, pairs } => {
                if let Some(value) = doc.get_mut(&**field) {
                    // A value that others become is not theirs where it is noted.
                    let noted = kept.get(field).flatten();
                    if noted.as_ref() != Some(value) {
                        map(value, pairs, &mut |alike| kept.put(field, vec![alike]))?;
                    }
                }
            }
        }
        kept.give_back(doc);
        Ok(())
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { field, default } => match default {
                Some(default) => write!(f, "add {field} = {default}"),
                None => write!(f, "add {field}"),
            },
            Self::Drop { field, .. } => write!(f, "drop {field}"),
            Self::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Self::Map { field, pairs } => {
                write!(f, "map {field}")?;
                let mut pairs = pairs.iter();
                pairs.try_for_each(|(before, after)| write!(f, " {before} to {after}"))
            }
        }
    }
}

/// Maps a value; one that stays although others become it is told.
fn map(
    value: &mut Value,
    pairs: &[(Text, Text)],
    alike: &mut impl FnMut(Value),
) -> Result<(), EditError> {
    let mut meant = false;
    for (before, after) in pairs {
        let after = json(after)?;
        if *value == json(before)? {
            *value = after;
            return Ok(());
        }
        meant |= *value == after;
    }
    if meant {
        alike(value.clone());
    }
    Ok(())
}

fn json(text: &str) -> Result<Value, EditError> {
    serde_json::from_str(text).map_err(|e| EditError(format!("{text} is not JSON: {e}")))
}

/// What one migration keeps in a row: values by name, none for a field that was not there.
struct Kept {
    number: u16,
    all: Map<String, Value>,
}

impl Kept {
    fn take(number: u16, doc: &mut Map<String, Value>) -> Result<Self, EditError> {
        let all = match doc.remove(KEPT) {
            None => Map::new(),
            Some(Value::Object(all)) => all,
            Some(other) => return Err(EditError(format!("its {KEPT} is {other}"))),
        };
        Ok(Self { number, all })
    }

    fn name(&self, of: impl fmt::Display) -> String {
        format!("{} {of}", self.number)
    }

    fn put(&mut self, name: &str, value: Vec<Value>) {
        self.all.insert(self.name(name), value.into());
    }

    /// Takes out what is kept under a name: nothing, that there was no value, or the value.
    fn get(&mut self, name: &str) -> Option<Option<Value>> {
        match self.all.remove(&self.name(name))? {
            Value::Array(mut values) => Some(values.pop()),
            _ => None,
        }
    }

    fn give_back(self, doc: &mut Map<String, Value>) {
        if !self.all.is_empty() {
            doc.insert(KEPT.to_owned(), self.all.into());
        }
    }
}

/// The fields whose values a migration keeps in a document, since its form has no place for them.
pub(super) fn kept_fields(number: u16, doc: &Map<String, Value>) -> Vec<String> {
    let Some(Value::Object(kept)) = doc.get(KEPT) else {
        return Vec::new();
    };
    let start = format!("{number} ");
    let held = kept
        .iter()
        .filter(|(_, value)| value.as_array().is_some_and(|v| !v.is_empty()));
    held.filter_map(|(name, _)| name.strip_prefix(&start))
        .filter(|name| !name.contains(' '))
        .map(str::to_owned)
        .collect()
}
