//! Which of the servers that share a store leads.

use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};

/// Two rows say who leads. That of the [term](Leader::TERM) is written when a server takes over and
/// at no other time: its version names the term, and whatever a leader commits asserts it. That of
/// the [beat](Leader::BEAT) is written again and again while the leader lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// [`TERM`](Self::TERM) or [`BEAT`](Self::BEAT).
    pub id: Id,
    /// The server: another one each time a process starts.
    pub server: Id,
    /// When this was written, for people: by the clock of one machine, and no decision rests on it.
    pub at: Time,
    /// It stopped, and the lead is anybody's.
    pub resigned: bool,
}

impl Leader {
    /// The id of the row of the term.
    pub const TERM: &'static str = "term";
    /// The id of the row of the beat.
    pub const BEAT: &'static str = "beat";
}
