//! Planning anew what rests on a document that was edited.

use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};

/// The certificates that are to be planned anew since what they rest on was edited, and how far
/// that has come. There is one row for each thing edited, until it is done; another edit begins
/// it anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replan {
    /// See [`Replan::id_of`].
    pub id: Id,
    /// What was edited.
    pub of: Edited,
    /// So many certificates rested on it when it was edited.
    pub total: u64,
    /// So many have been looked at.
    pub done: u64,
    /// The last one looked at: where it stands in the index, in lower hex, and its id.
    pub after: Option<(String, Id)>,
    /// When it was edited.
    pub since: Time,
}

/// What was edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "id", rename_all = "snake_case")]
pub enum Edited {
    /// A renewal policy: renewals are due at other times.
    RenewalPolicy(Id),
    /// A profile: what it refused it may allow now.
    Profile(Id),
    /// A policy rule: the same, of any certificate.
    Rules,
}

impl Replan {
    /// The id of the row.
    pub fn id_of(of: &Edited) -> Id {
        let (kind, id) = match of {
            Edited::RenewalPolicy(id) => ("renewal_policy", id.as_str()),
            Edited::Profile(id) => ("profile", id.as_str()),
            Edited::Rules => ("rules", ""),
        };
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(kind.as_bytes());
        hash.update(&[0]);
        hash.update(id.as_bytes());
        Id::derived(
            "replan",
            hash.finish().as_ref().get(..16).unwrap_or_default(),
        )
    }
}
