//! The keys that seal secrets, on the wire.

use crate::app::{DataKey, Resealed, SecretsDone};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A data key of the ring. The key itself is never told.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = DataKey)]
pub struct DataKeyShape {
    /// Its name.
    pub name: String,
    /// It seals new values.
    pub writes: bool,
    /// So many values are sealed with it.
    pub values: u64,
}

/// The data keys.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Secrets)]
pub struct SecretsShape {
    /// Each.
    pub keys: Vec<DataKeyShape>,
}

impl From<Vec<DataKey>> for SecretsShape {
    fn from(keys: Vec<DataKey>) -> Self {
        let keys = keys.into_iter().map(|key| DataKeyShape {
            name: key.name,
            writes: key.writes,
            values: key.values,
        });
        Self {
            keys: keys.collect(),
        }
    }
}

/// What sealing anew has done.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Resealed)]
pub struct ResealedShape {
    /// Values that were sealed anew.
    pub resealed: u64,
    /// Keys that the ring no longer has.
    pub dropped: Vec<String>,
    /// The keys that it has.
    pub keys: Vec<DataKeyShape>,
}

impl ResealedShape {
    /// What was done, and the keys after it.
    pub fn of(done: Resealed, keys: Vec<DataKey>) -> Self {
        Self {
            resealed: done.values,
            dropped: done.dropped,
            keys: SecretsShape::from(keys).keys,
        }
    }
}

impl From<SecretsDone> for ResealedShape {
    fn from(done: SecretsDone) -> Self {
        let none = Resealed {
            values: 0,
            dropped: Vec::new(),
        };
        Self::of(done.resealed.unwrap_or(none), done.keys)
    }
}
