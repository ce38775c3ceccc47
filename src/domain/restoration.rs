//! A store that came out of a backup.

use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};

/// What is known of the last restore. Until somebody lifts the fence, what happened between the
/// backup and the restore is unknown, and nothing is done that could contradict it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    /// [`Restoration::ID`].
    pub id: Id,
    /// The backup.
    pub backup: String,
    /// When the restored state was the present.
    pub taken_at: Time,
    /// When it was restored.
    pub restored_at: Time,
    /// Nothing is issued, planned or handed out.
    pub fenced: bool,
    /// When the fence was lifted.
    pub unfenced_at: Option<Time>,
    /// Agents are asked for versions that were issued after the backup.
    #[serde(default)]
    pub reconcile: bool,
    /// The link of the newest audit event in the backup.
    pub audit_head: String,
    /// That of the store that was replaced; empty where there was none or it could not be read.
    pub replaced_head: String,
}

impl Restoration {
    /// The id of the one row.
    pub const ID: &'static str = "restoration";
}
