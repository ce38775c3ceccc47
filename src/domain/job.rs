//! The job: a unit of durable work, run under a lease.

use super::{attempt::Attempt, certificate::Holder};
use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// How long a lease lasts unless it is renewed.
pub const LEASE: Duration = Duration::from_secs(60);
/// How often a job may be begun before it counts as failed.
pub const MAX_ATTEMPTS: u32 = 3;

/// A unit of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: Id,
    /// What is to be done.
    pub kind: JobKind,
    /// The certificate it serves; none when a target is tested.
    pub certificate: Option<Id>,
    /// The target it is carried out on; none when a key and a CSR are made.
    #[serde(default)]
    pub target: Option<Id>,
    /// Who may run it.
    pub executor: Executor,
    /// Where it stands.
    pub state: JobState,
    /// How often it was begun.
    pub attempts: u32,
    /// How often it may be begun.
    pub max_attempts: u32,
    /// The last failure, for a person.
    pub last_error: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last begun.
    #[serde(default)]
    pub started_at: Option<Time>,
    /// The last word of a lease's holder.
    #[serde(default)]
    pub last_word: Option<LastWord>,
    /// The last attempt that has ended.
    #[serde(default)]
    pub last: Option<Attempt>,
    /// Why it is to be stopped or was cancelled.
    #[serde(default)]
    pub unwanted: Option<String>,
}

/// What the holder of a lease said when it ended it: a repetition is known by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWord {
    /// The lease's token.
    pub token: u64,
    /// SHA-256 of what was said, lower hex.
    pub sha256: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum JobKind {
    /// Make a key and send a CSR for this order.
    Issue {
        /// The order.
        order: Id,
        /// The order is the certificate's first.
        first: bool,
    },
    /// Carry out this deployment.
    Deploy {
        /// The deployment.
        deployment: Id,
    },
    /// Go through the deployment of this version without changing what is served.
    Rehearse {
        /// The version.
        version: Id,
    },
    /// See whether the target can be used, and what it serves.
    Test,
}

impl JobKind {
    /// Whether it changes nothing on the host.
    pub fn is_trial(&self) -> bool {
        matches!(self, Self::Rehearse { .. } | Self::Test)
    }

    /// The word on the wire.
    pub fn wire_type(&self) -> &'static str {
        match self {
            Self::Issue { first: true, .. } => "Issuance",
            Self::Issue { first: false, .. } => "Renewal",
            Self::Deploy { .. } => "Deployment",
            Self::Rehearse { .. } => "DryRun",
            Self::Test => "TargetTest",
        }
    }
}

/// Every type on the wire.
pub const WIRE_TYPES: [&str; 5] = ["Issuance", "Renewal", "Deployment", "DryRun", "TargetTest"];
/// Every status on the wire that a job can have.
pub const WIRE_STATUSES: [&str; 5] = ["Pending", "Running", "Completed", "Failed", "Cancelled"];

/// Who runs a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// The agent of this id.
    Agent(Id),
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "{}", Holder::Agent(id.clone())),
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum JobState {
    /// May be begun from `at` on.
    Ready {
        /// The moment.
        at: Time,
    },
    /// Being run.
    Leased(Lease),
    /// Being run, and to be stopped: it ends when its holder says so, or with the lease.
    CancelRequested(Lease),
    /// Failed in a way that may pass; may be begun again from `at` on.
    Backoff {
        /// The moment.
        at: Time,
    },
    /// Done.
    Succeeded {
        /// When.
        at: Time,
    },
    /// Given up.
    Failed {
        /// When.
        at: Time,
    },
    /// No longer wanted.
    Cancelled {
        /// When.
        at: Time,
    },
}

/// The right to run a job, until a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The row version that the claim expected: different for each claim, unchanged by renewal.
    pub token: u64,
    /// When it ends.
    pub until: Time,
}

/// A call that does not hold the job's lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLeased {
    /// The token is not that of the present lease.
    #[error("this lease is no longer held: another one was given, or the job has ended")]
    Superseded,
    /// The holder has ended the lease of this very token.
    #[error("this lease has ended by another word of its holder")]
    Ended(LastWord),
}

impl Job {
    /// A job that may be begun at once.
    pub fn new(
        id: Id,
        kind: JobKind,
        (certificate, target): (Option<Id>, Option<Id>),
        executor: Executor,
        now: Time,
    ) -> Self {
        // A trial is for somebody who looks on.
        let max_attempts = if kind.is_trial() { 1 } else { MAX_ATTEMPTS };
        Self {
            id,
            kind,
            certificate,
            target,
            executor,
            state: JobState::Ready { at: now },
            attempts: 0,
            max_attempts,
            last_error: None,
            created_at: now,
            started_at: None,
            last_word: None,
            last: None,
            unwanted: None,
        }
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.ended_at().is_none()
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<Time> {
        match self.state {
            JobState::Succeeded { at } | JobState::Failed { at } | JobState::Cancelled { at } => {
                Some(at)
            }
            _ => None,
        }
    }

    /// When it may be begun, unless it is being run or has ended.
    pub fn ready_at(&self) -> Option<Time> {
        match self.state {
            JobState::Ready { at } | JobState::Backoff { at } => Some(at),
            _ => None,
        }
    }

    /// When it may be begun if whoever runs it is never heard of again; nothing where it ends
    /// then.
    pub fn begins_again_at(&self) -> Option<Time> {
        match &self.state {
            JobState::Leased(lease) if self.attempts < self.max_attempts => Some(lease.until),
            _ => self.ready_at(),
        }
    }

    /// The lease under which it is being run.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            JobState::Leased(lease) | JobState::CancelRequested(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether whoever runs it is to stop.
    pub fn is_stopping(&self) -> bool {
        matches!(self.state, JobState::CancelRequested(_))
    }

    /// Begins it. `row_version` is the version of the row this decision was made on.
    pub fn claim(&mut self, row_version: u64, now: Time) -> Option<Lease> {
        if self.ready_at()? > now {
            return None;
        }
        let lease = Lease {
            token: row_version,
            until: now.plus(LEASE),
        };
        self.attempts += 1;
        self.started_at = Some(now);
        self.state = JobState::Leased(lease.clone());
        Some(lease)
    }

    /// Checks that `token` holds the job. The end of the lease is not looked at: as long as nobody
    /// else was given the job, late work is still good work.
    pub fn held_by(&self, token: u64) -> Result<&Lease, NotLeased> {
        match (self.lease(), &self.last_word) {
            (Some(lease), _) if lease.token == token => Ok(lease),
            (_, Some(word)) if word.token == token => Err(NotLeased::Ended(word.clone())),
            _ => Err(NotLeased::Superseded),
        }
    }

    /// Renews the lease that `token` holds. Whoever is to stop has the time to undo, too.
    pub fn renew(&mut self, token: u64, now: Time) -> Result<Lease, NotLeased> {
        self.held_by(token)?;
        let lease = Lease {
            token,
            until: now.plus(LEASE),
        };
        self.state = if self.is_stopping() {
            JobState::CancelRequested(lease.clone())
        } else {
            JobState::Leased(lease.clone())
        };
        Ok(lease)
    }

    /// The holder's last word ends its lease; the state that follows is set by the caller.
    pub fn ended_by(&mut self, token: u64, sha256: String) {
        self.last_word = Some(LastWord { token, sha256 });
    }

    /// It is done.
    pub fn succeed(&mut self, now: Time) {
        self.state = JobState::Succeeded { at: now };
        self.last_error = None;
    }

    /// An attempt failed. When trying again may help and an attempt is left, it backs off; one that
    /// was to be stopped is cancelled. Returns whether it is over.
    pub fn fail(&mut self, message: String, again: bool, now: Time) -> bool {
        self.last_error = Some(message);
        self.state = if self.is_stopping() {
            JobState::Cancelled { at: now }
        } else if again && self.attempts < self.max_attempts {
            JobState::Backoff {
                at: now.plus(backoff(self.attempts)),
            }
        } else {
            JobState::Failed { at: now }
        };
        !self.is_open()
    }

    /// It may be begun at once, when it waits for its time.
    pub fn hasten(&mut self, now: Time) {
        if let JobState::Backoff { .. } = self.state {
            self.state = JobState::Ready { at: now };
        }
    }

    /// Nobody is there any more who could run it, or stop it.
    pub fn abandon(&mut self, why: String, now: Time) {
        self.state = JobState::Cancelled { at: now };
        self.unwanted.get_or_insert(why);
    }

    /// Nobody wants it any more: it is cancelled, or stopped first where it is being run. Returns
    /// whether it has ended by that.
    pub fn cancel(&mut self, why: String, now: Time) -> bool {
        self.state = match std::mem::replace(&mut self.state, JobState::Cancelled { at: now }) {
            JobState::Leased(lease) | JobState::CancelRequested(lease) => {
                JobState::CancelRequested(lease)
            }
            JobState::Ready { .. } | JobState::Backoff { .. } => JobState::Cancelled { at: now },
            ended => ended,
        };
        self.unwanted.get_or_insert(why);
        !self.is_open()
    }

    /// The status on the wire.
    pub fn wire_status(&self) -> &'static str {
        match self.state {
            JobState::Ready { .. } | JobState::Backoff { .. } => "Pending",
            JobState::Leased(_) | JobState::CancelRequested(_) => "Running",
            JobState::Succeeded { .. } => "Completed",
            JobState::Failed { .. } => "Failed",
            JobState::Cancelled { .. } => "Cancelled",
        }
    }

    /// The state on the wire, finer than the status.
    pub fn wire_state(&self) -> &'static str {
        match self.state {
            JobState::Ready { .. } => "ready",
            JobState::Leased(_) => "leased",
            JobState::CancelRequested(_) => "cancel_requested",
            JobState::Backoff { .. } => "backoff",
            JobState::Succeeded { .. } => "succeeded",
            JobState::Failed { .. } => "failed",
            JobState::Cancelled { .. } => "cancelled",
        }
    }
}

/// The wait before attempt `attempts + 1`: 5 s, 10 s, 20 s ... 10 min.
fn backoff(attempts: u32) -> Duration {
    let factor = 1 << attempts.saturating_sub(1).min(8);
    Duration::from_secs(5 * factor).min(Duration::from_secs(600))
}
