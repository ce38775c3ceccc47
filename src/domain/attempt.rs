//! One attempt at a job on a host, and how it ended there.

use crate::{clock::Time, id::Id, pki::Serial};
use serde::{Deserialize, Serialize};

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The job.
    pub job: Id,
    /// 1 for the first attempt of the job.
    pub number: u32,
    /// The agent that made it.
    pub agent: Id,
    /// When the agent took the job.
    pub started_at: Time,
    /// When the server learnt of the end.
    pub ended_at: Time,
    /// How it ended.
    pub ending: Ending,
    /// What failed, for a person.
    pub reason: Option<String>,
    /// What was found and what would be done, a sentence each: of a dry run or a test.
    pub findings: Vec<String>,
    /// The leaf that was in place before.
    pub old: Option<Leaf>,
    /// The leaf that was to be put in place.
    pub new: Option<Leaf>,
    /// What each endpoint was last seen to serve.
    pub served: Vec<Served>,
    /// The end of what the programs it ran have written.
    pub output: String,
    /// How long it took on the host, in milliseconds.
    pub duration_ms: u64,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Ending {
    /// The version was put in place and seen served.
    Changed,
    /// The version was in place before, and seen served.
    Unchanged,
    /// It failed after the change; what was there before is back.
    RolledBack,
    /// It failed after the change, and what was there before is not back.
    RollbackFailed,
    /// It failed, and nothing was changed.
    Failed {
        /// What may help.
        class: Class,
    },
    /// A dry run or a test found nothing wrong.
    Passed,
    /// The agent was not heard of it again.
    Lost,
}

/// What may help after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Trying again later.
    Transient,
    /// Nothing short of another request.
    Permanent,
    /// Another version: the private key of this one is not on the host.
    KeyMissing,
    /// A change made by an operator.
    Operator,
}

/// Names a leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// SHA-256, lower hex.
    pub fingerprint_sha256: String,
    /// Its serial number, where it is a version that the server knows.
    pub serial: Option<Serial>,
}

/// What one endpoint was seen to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// `host:port`, or a path.
    pub endpoint: String,
    /// The leaf's serial number, lower hex.
    pub serial: Option<String>,
    /// SHA-256 of the leaf, lower hex.
    pub fingerprint_sha256: Option<String>,
    /// Why nothing was seen.
    pub error: Option<String>,
}

impl Ending {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::RolledBack => "rolled_back",
            Self::RollbackFailed => "rollback_failed",
            Self::Failed { .. } => "failed",
            Self::Passed => "passed",
            Self::Lost => "lost",
        }
    }

    /// What may help, of a failure before any change.
    pub fn class(self) -> Option<Class> {
        match self {
            Self::Failed { class } => Some(class),
            _ => None,
        }
    }
}

impl Class {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::KeyMissing => "key_missing",
            Self::Operator => "operator",
        }
    }
}
