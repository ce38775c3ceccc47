//! The deployment: putting one version on one target, and seeing it served.

use super::attempt::Attempt;
use crate::{clock::Time, id::Id, pki::Serial};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long after a failed deployment it is tried again.
pub const RETRY: Duration = Duration::from_secs(3_600);

/// One version on one target. Its id is derived from both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// `dep-` and a hash of version and target.
    pub id: Id,
    /// The certificate.
    pub certificate: Id,
    /// The version.
    pub version: Id,
    /// The version's serial number.
    pub serial: Serial,
    /// The target.
    pub target: Id,
    /// The agent that carries it out.
    pub agent: Id,
    /// The order that brought the version.
    pub order: Id,
    /// The job that carries it out, the newest one.
    pub job: Id,
    /// Where it stands.
    pub state: DeploymentState,
    /// When it was made.
    pub created_at: Time,
    /// The last attempt that has ended, whatever has happened since.
    #[serde(default)]
    pub last: Option<Attempt>,
}

/// Where a deployment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum DeploymentState {
    /// Its job has not ended.
    Pending,
    /// The leaf and its chain were seen to be served.
    Confirmed {
        /// When.
        at: Time,
        /// Where.
        endpoints: Vec<String>,
    },
    /// It failed, and is tried again at `retry_at`.
    Failed {
        /// When.
        at: Time,
        /// What failed, for a person.
        reason: String,
        /// What was served there instead: (endpoint, serial number).
        served: Vec<(String, String)>,
        /// What was there before is not back.
        broken: bool,
        /// When it is tried again.
        retry_at: Time,
    },
    /// Before it was confirmed a newer version took its place, or its certificate was revoked or
    /// archived.
    Superseded {
        /// When.
        at: Time,
    },
}

impl Deployment {
    /// The id of a version's deployment on a target.
    pub fn id_of(version: &Id, target: &Id) -> Id {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(version.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(target.as_str().as_bytes());
        let digest = hash.finish();
        Id::derived("dep", digest.as_ref().get(..16).unwrap_or_default())
    }

    /// Whether its job has not ended.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, DeploymentState::Pending)
    }

    /// Whether it may still change by itself.
    pub fn is_open(&self) -> bool {
        matches!(
            self.state,
            DeploymentState::Pending | DeploymentState::Failed { .. }
        )
    }
}
