//! What a use case answers when it does not do what was asked.

use super::room::LowDisk;
use crate::{
    access::Permission,
    clock::Time,
    domain::{Fault, SessionEnd},
    id::Id,
    store::{CERT_TARGET, CommitError, Refusal, StoreError},
};
use std::time::Duration;

/// Why a use case did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No or no valid credential.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// A browser session that is over.
    #[error("this session has ended: sign in again")]
    SessionEnded(SessionEnd),
    /// The role does not hold the permission.
    #[error("this needs the permission {}", .0.as_str())]
    Forbidden(Permission),
    /// The permission is held on other things.
    #[error(
        "this needs the permission {} everywhere, or on the issuer or profile that is asked for: it \
         is held on other ones alone", .0.as_str()
    )]
    ForbiddenHere(Permission),
    /// The caller's agent is retired, or the agent that asks is.
    #[error("this agent was retired at {at}{}", because(reason))]
    Retired {
        /// When.
        at: Time,
        /// Why; may be empty.
        reason: String,
    },
    /// What the product itself needs.
    #[error("{0}")]
    Reserved(String),
    /// An agent's call on behalf of another one.
    #[error("an agent acts for itself only, with its own credential")]
    NotThisAgent,
    /// There is no such thing.
    #[error("there is no {kind} {id:?}")]
    NotFound {
        /// The kind of thing.
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// A field cannot be taken.
    #[error("{field}: {message}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The caller meant another version of it.
    #[error("it was changed since: read it again, and repeat the change on what it is now")]
    Stale,
    /// An order is wanted of an issuer that may not be asked.
    #[error(
        "issuer {0} is switched off: enable it (`certctl issuers edit {0} --enable`), or give the \
         certificate another one"
    )]
    IssuerOff(Id),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// A limit in time is reached.
    #[error("{message}")]
    Limited {
        /// Which.
        message: String,
        /// How long to wait.
        retry_in: Duration,
    },
    /// The CA did not issue.
    #[error("the issuer did not issue: {0}")]
    Issuer(String),
    /// The store was restored, and nobody has said yet that the server may act on it.
    #[error(
        "the server was restored from a backup and is fenced: look at `certctl restore plan` or \
         the dashboard's page Backups, then let it act by `certctl restore unfence`"
    )]
    Fenced,
    /// Too much is going on; try again in a moment.
    #[error("the server is busy: try again in a moment")]
    Busy,
    /// It is a leader's work, and another server has taken over.
    #[error("another server leads by now, and does this")]
    NotLeading,
    /// The store does not answer for now; try again in a moment.
    #[error("the store is not to be reached: try again in a moment")]
    Away,
    /// The store went away before it said whether it was done.
    #[error(
        "the store went away during this change, which may or may not have taken place: look \
         before you try again"
    )]
    Unknown,
    /// Nothing new is begun: the disk is nearly full.
    #[error("{0}")]
    LowDisk(LowDisk),
    /// A later version has changed the store.
    #[error("{0}")]
    Outdated(String),
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(String),
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

impl AppError {
    pub(crate) fn not_found(kind: &'static str, id: impl ToString) -> Self {
        Self::NotFound {
            kind,
            id: id.to_string(),
        }
    }

    pub(crate) fn invalid(field: &'static str, message: impl ToString) -> Self {
        Self::Invalid {
            field,
            message: message.to_string(),
        }
    }
}

impl From<Fault> for AppError {
    fn from(fault: Fault) -> Self {
        Self::Invalid {
            field: fault.field,
            message: fault.message,
        }
    }
}

impl From<StoreError> for AppError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Commit(CommitError::Busy) => Self::Busy,
            StoreError::Commit(CommitError::Unknown(_)) => Self::Unknown,
            StoreError::Commit(e @ (CommitError::Outdated { .. } | CommitError::Behind { .. })) => {
                Self::Outdated(e.to_string())
            }
            e if e.is_away() => Self::Away,
            e => Self::Store(e.to_string()),
        }
    }
}

impl AppError {
    /// What a refused commit means to the caller.
    pub(crate) fn of_commit(e: CommitError) -> Self {
        match e {
            CommitError::Busy => Self::Busy,
            CommitError::Unknown(_) => Self::Unknown,
            e @ (CommitError::Outdated { .. } | CommitError::Behind { .. }) => {
                Self::Outdated(e.to_string())
            }
            e if e.is_away() => Self::Away,
            CommitError::Unwritable(e) => Self::Invalid {
                field: "body",
                message: e.to_string(),
            },
            CommitError::Refused(Refusal::Duplicate { index, holder }) => {
                // An index is named `<collection>.<field>`.
                let field = index.name.rsplit('.').next().unwrap_or(index.name);
                let kind = index.coll.0.replace('_', " ");
                Self::Conflict(format!("{field}: {kind} {holder} has the same one already"))
            }
            CommitError::Refused(Refusal::Occupied { index, holder }) if index == CERT_TARGET => {
                Self::Conflict(format!(
                    "target_ids: a target of type Site serves one certificate, and one of these \
                     serves {holder}: make another target"
                ))
            }
            CommitError::Refused(Refusal::Occupied { index, holder }) => Self::Conflict(format!(
                "{} {holder} is open already ({})",
                index.coll.0, index.name
            )),
            CommitError::Refused(Refusal::Exhausted { retry_in, .. }) => Self::Limited {
                message: "a limit is reached: too many orders for this certificate".into(),
                retry_in: retry_in.unwrap_or(Duration::from_secs(60)),
            },
            e => Self::Store(e.to_string()),
        }
    }
}
