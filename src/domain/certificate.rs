//! The certificate: a long-lived intention, with one line of versions per holder.

use super::order::{FailureClass, Order, OrderState};
use crate::{
    clock::Time,
    id::Id,
    pki::{Reason, San, Serial},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

/// A certificate is called expiring when it ends within this time.
pub const EXPIRING_WITHIN: Duration = Duration::from_secs(30 * 86_400);

/// What is wanted: these names, from that issuer, held there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its id, also the name of its directory on an agent.
    pub id: Id,
    /// A name for people.
    pub name: String,
    /// The subject's common name; one of `sans` when it is a DNS name or an address.
    pub common_name: String,
    /// The subject alternative names, sorted, the common name included.
    pub sans: Vec<San>,
    /// E.g. production.
    pub environment: String,
    /// Who answers for it; empty when nobody was named.
    pub owner_id: String,
    /// The owner's team; empty when none was named.
    pub team_id: String,
    /// Where versions come from.
    pub issuer_id: Id,
    /// What may be issued.
    pub profile_id: Id,
    /// When to renew.
    pub policy_id: Id,
    /// Where versions are put.
    pub targets: Vec<Id>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// The line of versions of each holder; there is one at least. Where no target names an agent,
    /// the requester holds the key.
    pub holders: BTreeMap<Holder, HolderState>,
    /// When it was put away.
    pub archived_at: Option<Time>,
    /// When and why its versions were revoked.
    #[serde(default)]
    pub revoked: Option<Revoked>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}

/// The end of a certificate by revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// When.
    pub at: Time,
    /// Why.
    pub reason: Reason,
    /// More versions of it are good than one commit could revoke: the rest is to follow.
    #[serde(default)]
    pub unfinished: bool,
}

/// Where the private key of a line of versions lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Holder {
    /// On an agent's host.
    Agent(Id),
    /// With somebody outside who sends CSRs.
    Requester,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent:{id}"),
            Self::Requester => f.write_str("requester"),
        }
    }
}

impl FromStr for Holder {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s.strip_prefix("agent:") {
            Some(id) => id.parse().map(Self::Agent).map_err(|e| format!("{e}")),
            None if s == "requester" => Ok(Self::Requester),
            None => Err(format!("{s:?} is not a holder")),
        }
    }
}

impl TryFrom<String> for Holder {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Holder> for String {
    fn from(h: Holder) -> Self {
        h.to_string()
    }
}

/// One holder's line of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderState {
    /// The newest version.
    pub current: Option<Current>,
    /// What happens next.
    pub plan: Plan,
    /// The last attempt, when it failed and none has succeeded since.
    pub failure: Option<Failure>,
    /// When its holder was retired: the line is history.
    #[serde(default)]
    pub ended_at: Option<Time>,
    /// Since when its order is due while the issuer is switched off: the line is exempt until the
    /// issuer may be asked again.
    #[serde(default)]
    pub blocked_since: Option<Time>,
}

/// The newest version of a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// The version.
    pub version: Id,
    /// Its serial number.
    pub serial: Serial,
    /// When it begins.
    pub not_before: Time,
    /// When it ends.
    pub not_after: Time,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The order that failed.
    pub order: Id,
    /// When.
    pub at: Time,
    /// What may help.
    pub class: FailureClass,
    /// What failed, for a person.
    pub message: String,
}

/// What happens next to a holder's line: exactly one of these, always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Plan {
    /// An order is opened then.
    Scheduled {
        /// The moment.
        at: Time,
    },
    /// An order is open.
    InFlight {
        /// The order.
        order: Id,
    },
    /// Nothing is due, for a reason somebody owns.
    Exempt {
        /// Why.
        reason: String,
        /// Who acts next.
        owner: String,
    },
}

/// The state shown for a certificate; derived, never stored. The order is the order of weight: a
/// certificate of several holders shows the heaviest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// All is well.
    Active,
    /// Ends within [`EXPIRING_WITHIN`].
    Expiring,
    /// The last attempt failed.
    Failed,
    /// An order is open.
    RenewalInProgress,
    /// Ended.
    Expired,
    /// No version yet.
    Pending,
    /// Put away.
    Archived,
    /// No longer good, whatever its versions say.
    Revoked,
}

impl Status {
    /// Every status, lightest first.
    pub const ALL: [Self; 8] = [
        Self::Active,
        Self::Expiring,
        Self::Failed,
        Self::RenewalInProgress,
        Self::Expired,
        Self::Pending,
        Self::Archived,
        Self::Revoked,
    ];

    /// The status of a word, whatever its case.
    pub fn of_word(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str().eq_ignore_ascii_case(word))
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Expiring => "Expiring",
            Self::Failed => "Failed",
            Self::RenewalInProgress => "RenewalInProgress",
            Self::Expired => "Expired",
            Self::Pending => "Pending",
            Self::Archived => "Archived",
            Self::Revoked => "Revoked",
        }
    }
}

impl Certificate {
    /// The state to show at `now`.
    pub fn status(&self, now: Time) -> Status {
        if self.revoked.is_some() {
            return Status::Revoked;
        }
        if self.archived_at.is_some() {
            return Status::Archived;
        }
        self.holders
            .values()
            .map(|h| h.status(now))
            .max()
            .unwrap_or(Status::Pending)
    }

    /// When the first of the current versions ends.
    pub fn expires_at(&self) -> Option<Time> {
        self.current().map(|c| c.not_after).min()
    }

    /// The current version of each holder that has one.
    pub fn current(&self) -> impl Iterator<Item = &Current> {
        self.holders.values().filter_map(|h| h.current.as_ref())
    }

    /// Why nothing is issued for it any more, if it has ended.
    pub fn ended(&self) -> Option<&'static str> {
        match (&self.revoked, self.archived_at) {
            (Some(_), _) => Some("revoked"),
            (None, Some(_)) => Some("archived"),
            (None, None) => None,
        }
    }

    /// Revokes it: nothing is due for any holder from now on.
    pub fn revoke(&mut self, reason: Reason, who: &str, now: Time) {
        self.revoked = Some(Revoked {
            at: now,
            reason,
            unfinished: false,
        });
        self.end(&format!("revoked: {}", reason.as_str()), who, now);
    }

    /// Puts it away: nothing is due for any holder from now on.
    pub fn archive(&mut self, who: &str, now: Time) {
        self.archived_at = Some(now);
        self.end("archived", who, now);
    }

    fn end(&mut self, reason: &str, who: &str, now: Time) {
        for line in self.holders.values_mut() {
            line.plan = Plan::Exempt {
                reason: reason.to_owned(),
                owner: who.to_owned(),
            };
            line.blocked_since = None;
        }
        self.updated_at = now;
    }

    /// The moments at which orders are due, one per scheduled holder.
    pub fn due(&self) -> impl Iterator<Item = (&Holder, Time)> {
        let alive = self.ended().is_none();
        self.holders
            .iter()
            .filter_map(move |(holder, h)| match h.plan {
                Plan::Scheduled { at } if alive => Some((holder, at)),
                _ => None,
            })
    }
}

impl HolderState {
    /// A line without a version, whose first order is due at `at`.
    pub fn scheduled(at: Time) -> Self {
        Self {
            current: None,
            plan: Plan::Scheduled { at },
            failure: None,
            ended_at: None,
            blocked_since: None,
        }
    }

    /// A line whose key is outside: its versions come when the requester asks.
    pub fn requester() -> Self {
        Self {
            current: None,
            plan: Plan::Exempt {
                reason: "the key is held by the requester, who renews by sending a CSR".into(),
                owner: "requester".into(),
            },
            failure: None,
            ended_at: None,
            blocked_since: None,
        }
    }

    fn status(&self, now: Time) -> Status {
        let Some(current) = &self.current else {
            return match (&self.plan, &self.failure) {
                (Plan::Scheduled { .. }, Some(_)) => Status::Failed,
                _ => Status::Pending,
            };
        };
        if current.not_after <= now {
            Status::Expired
        } else if matches!(self.plan, Plan::InFlight { .. }) {
            Status::RenewalInProgress
        } else if self.failure.is_some() {
            Status::Failed
        } else if current.not_after <= now.plus(EXPIRING_WITHIN) {
            Status::Expiring
        } else {
            Status::Active
        }
    }

    /// An order was opened.
    pub fn begin(&mut self, order: &Order) {
        self.blocked_since = None;
        self.plan = Plan::InFlight {
            order: order.id.clone(),
        };
    }

    /// Brings the next order forward to `at`. One that is open or due by then stays, and so does
    /// an exemption.
    pub fn hasten(&mut self, at: Time) {
        if let Plan::Scheduled { at: planned } = &mut self.plan {
            *planned = at.min(*planned);
        }
    }

    /// An order is due, and its issuer is switched off.
    pub fn block(&mut self, issuer: &Id, now: Time) {
        self.plan = Plan::Exempt {
            reason: format!(
                "issuer {issuer} is switched off: an order is opened when it is enabled"
            ),
            owner: "operator".into(),
        };
        self.blocked_since = Some(now);
    }

    /// Its issuer may be asked again: the order is due now. Lines that were not blocked stay.
    pub fn unblock(&mut self, now: Time) {
        if self.blocked_since.take().is_some() {
            self.plan = Plan::Scheduled { at: now };
        }
    }

    /// Its holder is retired: nothing follows the present version until somebody gives the
    /// certificate another target.
    pub fn end(&mut self, reason: String, now: Time) {
        self.plan = Plan::Exempt {
            reason,
            owner: "operator".into(),
        };
        self.failure = None;
        self.ended_at = Some(now);
        self.blocked_since = None;
    }

    /// An order ended in a version; the next one is due at `next`.
    pub fn issued(&mut self, current: Current, next: Plan) {
        self.current = Some(current);
        self.blocked_since = None;
        self.plan = next;
        self.failure = None;
    }

    /// An order failed. A retry is planned when the order says when; else an operator acts.
    pub fn failed(&mut self, order: &Order) {
        let OrderState::Failed {
            class,
            ref message,
            at,
            retry_at,
        } = order.state
        else {
            return;
        };
        self.failure = Some(Failure {
            order: order.id.clone(),
            at,
            class,
            message: message.clone(),
        });
        self.plan = Plan::Scheduled { at: retry_at };
    }
}
