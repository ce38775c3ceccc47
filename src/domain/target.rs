//! The target: a place on a host that serves or stores a certificate.

use super::agent::Retired;
use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};

/// A place where an agent puts versions. Its configuration is checked when it is set; the agent
/// that owns the place gives it meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its id.
    pub id: Id,
    /// Its name, unique.
    pub name: String,
    /// Its type, e.g. `Site`.
    pub kind: String,
    /// The agent that owns it.
    pub agent: Id,
    /// Its configuration, in the words of its type.
    pub config: serde_json::Value,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
    /// Its end: nothing is put there any more.
    #[serde(default)]
    pub retired: Option<Retired>,
}
