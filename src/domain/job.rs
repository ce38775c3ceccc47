//! The job: a unit of durable work, run under a lease.

use super::certificate::Holder;
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
    /// The certificate it serves.
    pub certificate: Id,
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
}

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
    /// Failed in a way that may pass; may be begun again from `at` on.
    Backoff {
        /// The moment.
        at: Time,
        /// The token of the lease under which it failed, if a report said so.
        #[serde(default)]
        token: Option<u64>,
    },
    /// Done.
    Succeeded {
        /// When.
        at: Time,
        /// The token of the lease under which it ended: a repeated report is known by it.
        token: u64,
    },
    /// Given up.
    Failed {
        /// When.
        at: Time,
        /// The token of the lease under which it ended, if it ended by a report.
        token: Option<u64>,
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
    /// A report ended the lease of this very token: the call is a repetition.
    #[error("this lease has ended by a report")]
    EndedByThisLease,
}

impl Job {
    /// A job that may be begun at once.
    pub fn new(id: Id, kind: JobKind, certificate: Id, executor: Executor, now: Time) -> Self {
        Self {
            id,
            kind,
            certificate,
            executor,
            state: JobState::Ready { at: now },
            attempts: 0,
            max_attempts: MAX_ATTEMPTS,
            last_error: None,
            created_at: now,
        }
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        matches!(
            self.state,
            JobState::Ready { .. } | JobState::Leased(_) | JobState::Backoff { .. }
        )
    }

    /// When it may be begun, unless it is being run or has ended.
    pub fn ready_at(&self) -> Option<Time> {
        match self.state {
            JobState::Ready { at } | JobState::Backoff { at, .. } => Some(at),
            _ => None,
        }
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
        self.state = JobState::Leased(lease.clone());
        Some(lease)
    }

    /// Checks that `token` holds the job. The end of the lease is not looked at: as long as nobody
    /// else was given the job, late work is still good work.
    pub fn held_by(&self, token: u64) -> Result<&Lease, NotLeased> {
        match &self.state {
            JobState::Leased(lease) if lease.token == token => Ok(lease),
            JobState::Succeeded { token: t, .. } if *t == token => Err(NotLeased::EndedByThisLease),
            JobState::Failed { token: Some(t), .. } | JobState::Backoff { token: Some(t), .. }
                if *t == token =>
            {
                Err(NotLeased::EndedByThisLease)
            }
            _ => Err(NotLeased::Superseded),
        }
    }

    /// Renews the lease that `token` holds.
    pub fn renew(&mut self, token: u64, now: Time) -> Result<Lease, NotLeased> {
        self.held_by(token)?;
        let lease = Lease {
            token,
            until: now.plus(LEASE),
        };
        self.state = JobState::Leased(lease.clone());
        Ok(lease)
    }

    /// It is done.
    pub fn succeed(&mut self, token: u64, now: Time) {
        self.state = JobState::Succeeded { at: now, token };
        self.last_error = None;
    }

    /// It failed under `token` (`None`: its lease ran out). When trying again may help and an
    /// attempt is left, it backs off; returns whether it is over.
    pub fn fail(&mut self, token: Option<u64>, message: String, again: bool, now: Time) -> bool {
        self.last_error = Some(message);
        let over = !again || self.attempts >= self.max_attempts;
        self.state = if over {
            JobState::Failed { at: now, token }
        } else {
            JobState::Backoff {
                at: now.plus(backoff(self.attempts)),
                token,
            }
        };
        over
    }

    /// Nobody wants it any more.
    pub fn cancel(&mut self, now: Time) {
        self.state = JobState::Cancelled { at: now };
    }

    /// The status on the wire.
    pub fn wire_status(&self) -> &'static str {
        match self.state {
            JobState::Ready { .. } | JobState::Backoff { .. } => "Pending",
            JobState::Leased(_) => "Running",
            JobState::Succeeded { .. } => "Completed",
            JobState::Failed { .. } => "Failed",
            JobState::Cancelled { .. } => "Cancelled",
        }
    }
}

/// The wait before attempt `attempts + 1`: 5 s, 10 s, 20 s ... 10 min.
fn backoff(attempts: u32) -> Duration {
    let factor = 1 << attempts.saturating_sub(1).min(8);
    Duration::from_secs(5 * factor).min(Duration::from_secs(600))
}
