//! The order: one attempt to get one version from an issuer.

use super::{certificate::Holder, policy::Retry};
use crate::{clock::Time, id::Id, pki::Serial};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// One attempt. Its id is derived from certificate, holder, cause and attempt: a second order for
/// the same cause meets the first in the store and is refused there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// `ord-` and a hash, see [`Order::id_of`].
    pub id: Id,
    /// For this certificate.
    pub certificate: Id,
    /// For this holder.
    pub holder: Holder,
    /// From this issuer.
    pub issuer: Id,
    /// Why a version is needed.
    pub cause: Cause,
    /// 1 for the first attempt of a cause.
    pub attempt: u32,
    /// When it was opened.
    pub opened_at: Time,
    /// Where it stands.
    pub state: OrderState,
    /// What its retention counts from instead of its end: its version was still in force when it
    /// was to be forgotten.
    #[serde(default)]
    pub kept_from: Option<Time>,
}

/// Why a version is needed. One cause leads to at most one issued version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// There is none yet.
    First,
    /// It follows the version with this serial number.
    Replaces(Serial),
    /// Somebody asked, under this idempotency key.
    Requested(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Replaces(serial) => write!(f, "replaces:{serial}"),
            Self::Requested(key) => write!(f, "requested:{key}"),
        }
    }
}

/// Where an order stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum OrderState {
    /// Not ended.
    Open,
    /// Ended in a version.
    Issued {
        /// The version.
        version: Id,
        /// When.
        at: Time,
    },
    /// Ended without one.
    Failed {
        /// What may help.
        class: FailureClass,
        /// What failed, for a person.
        message: String,
        /// When.
        at: Time,
        /// When the next attempt is due.
        retry_at: Time,
    },
}

/// What may help after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Trying again soon.
    Transient,
    /// Nothing in this form: the request itself is refused.
    Permanent,
    /// A change made by an operator.
    NeedsOperator,
    /// Nothing: nobody wants it any more. No issuer has refused it.
    Cancelled,
}

impl FailureClass {
    /// The class of an error as metrics tell it; a renewal's is told apart. `None`: it is none.
    pub fn error_class(self, renewal: bool) -> Option<String> {
        let class = match self {
            Self::Permanent => "validation",
            Self::Transient | Self::NeedsOperator => "other",
            Self::Cancelled => return None,
        };
        Some(if renewal {
            format!("renewal_{class}")
        } else {
            class.to_owned()
        })
    }
}

/// Every class of error that an issuer can be charged with, as metrics tell them.
pub const ERROR_CLASSES: [&str; 8] = [
    "timeout",
    "auth",
    "rate_limited",
    "validation",
    "upstream_5xx",
    "upstream_4xx",
    "network",
    "other",
];

impl Order {
    /// Whether it is to replace a version.
    pub fn is_renewal(&self) -> bool {
        matches!(self.cause, Cause::Replaces(_))
    }

    /// The id of an attempt.
    pub fn id_of(certificate: &Id, holder: &Holder, cause: &Cause, attempt: u32) -> Id {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [
            certificate.as_str(),
            &holder.to_string(),
            &cause.to_string(),
            &attempt.to_string(),
        ] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finish();
        Id::derived("ord", digest.as_ref().get(..16).unwrap_or_default())
    }

    /// A new, open order.
    pub fn open(
        certificate: Id,
        holder: Holder,
        issuer: Id,
        cause: Cause,
        attempt: u32,
        now: Time,
    ) -> Self {
        Self {
            id: Self::id_of(&certificate, &holder, &cause, attempt),
            certificate,
            holder,
            issuer,
            cause,
            attempt,
            opened_at: now,
            state: OrderState::Open,
            kept_from: None,
        }
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        matches!(self.state, OrderState::Open)
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<Time> {
        match &self.state {
            OrderState::Open => None,
            OrderState::Issued { at, .. } | OrderState::Failed { at, .. } => Some(*at),
        }
    }

    /// What its retention counts from; nothing while it is open.
    pub fn kept_from(&self) -> Option<Time> {
        self.ended_at().map(|ended| self.kept_from.unwrap_or(ended))
    }

    /// Ends it without a version. `hint` is the issuer's own word on when to come back, `retry`
    /// the renewal policy's.
    pub fn fail(
        &mut self,
        class: FailureClass,
        message: String,
        hint: Option<Duration>,
        retry: Retry,
        now: Time,
    ) {
        self.state = OrderState::Failed {
            class,
            message,
            at: now,
            retry_at: now.plus(retry_after(class, self.attempt, hint, retry)),
        };
    }
}

/// How long to wait before the next attempt: as the policy says, and an hour at least where trying
/// again soon cannot help.
fn retry_after(
    class: FailureClass,
    attempt: u32,
    hint: Option<Duration>,
    retry: Retry,
) -> Duration {
    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    let floor = match class {
        FailureClass::Transient => Duration::from_secs(60),
        FailureClass::Permanent | FailureClass::NeedsOperator | FailureClass::Cancelled => {
            Duration::from_secs(3_600)
        }
    };
    let wait = retry.after(attempt, floor);
    wait.max(hint.unwrap_or_default().min(WEEK))
}
