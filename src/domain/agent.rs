//! Agents and the tokens by which they join.

use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An agent counts as online when it was heard within this time.
pub const ONLINE_WITHIN: Duration = Duration::from_secs(300);
/// A join token may replace an agent that has been silent for this long.
pub const REPLACEABLE_AFTER: Duration = Duration::from_secs(600);

/// The process that acts on a host, with an identity of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: Id,
    /// Its name, unique among agents that are not retired.
    pub name: String,
    /// The host's name.
    pub hostname: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub architecture: String,
    /// The version it enrolled with.
    pub version: String,
    /// SHA-256 of its secret, lower hex.
    pub secret_sha256: String,
    /// The join token that let it in.
    pub joined_by: Id,
    /// When.
    pub enrolled_at: Time,
    /// Keys of versions from before this moment were on a host that is gone, and not all of those
    /// versions are known to be replaced yet. `None`: nothing is to be made good.
    #[serde(default)]
    pub keys_lost_at: Option<Time>,
}

/// When an agent was last heard. Apart from the agent, so that being heard conflicts with nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The agent's id.
    pub id: Id,
    /// When it was last heard.
    pub heard_at: Time,
}

/// Lets agents join: a secret that is scoped in time and number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id.
    pub id: Id,
    /// A name for people.
    pub name: String,
    /// SHA-256 of the token, lower hex.
    pub secret_sha256: String,
    /// From then on it lets nobody in.
    pub expires_at: Time,
    /// How many agents it lets in. How many it has let in is a counter beside the row, so that
    /// agents that join at once do not conflict.
    pub max_uses: u32,
    /// It may replace an agent that has been silent for [`REPLACEABLE_AFTER`].
    pub replace: bool,
    /// When it was made.
    pub created_at: Time,
}

impl JoinToken {
    /// Whether it lets another agent in at `now`, having let in `uses`.
    pub fn is_valid(&self, now: Time, uses: i64) -> bool {
        now < self.expires_at && uses < i64::from(self.max_uses)
    }
}
