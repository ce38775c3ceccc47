//! Who answers for certificates.

use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};

/// A person, or a function, that answers for certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Where to write to; may be empty.
    #[cfg_attr(feature = "next-format", serde(rename = "address"))]
    pub email: String,
    /// The team it belongs to.
    pub team_id: Option<Id>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}

/// Owners who work together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}

impl Owner {
    /// One of whom nothing is known.
    pub fn new(id: Id, now: Time) -> Self {
        Self {
            id,
            name: String::new(),
            email: String::new(),
            team_id: None,
            created_at: now,
            updated_at: now,
        }
    }
}

impl Team {
    /// One of which nothing is known.
    pub fn new(id: Id, now: Time) -> Self {
        Self {
            id,
            name: String::new(),
            description: String::new(),
            created_at: now,
            updated_at: now,
        }
    }
}
