//! What is kept how long, and the loops that forget the rest: each finds by index what may go,
//! and forgets a bounded slice in a commit.

use super::{App, AppError};
use crate::{
    clock::Time,
    domain::{
        Certificate, Deployment, Job, JoinToken, Order, OrderState, Plan, Session, once::Outcome,
    },
    store::{
        DEPLOYMENT_ORDER, Document, Index, JOB_ENDED, Key, Loaded, ORDER_ENDED, OUTCOME_UNTIL,
        SESSION_EXPIRY, Scan, TOKEN_CREATED, Unit,
    },
};
use std::time::Duration;

/// Rows that are forgotten at a time.
const SLICE: usize = 256;
/// The most writes by which orders and their deployments are forgotten in one commit.
const WRITES: usize = 1_000;
/// What is in force is looked at again a day after its time at the earliest.
const A_DAY: Duration = Duration::from_secs(86_400);

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// For ever.
    Always,
    /// As long as what it belongs to; there is one for each of those.
    With(&'static str),
    /// As long as a setting says.
    Setting(&'static str),
    /// As long as this says.
    For(&'static str),
}

/// What is kept how long: each collection, and what else a store holds. `docs/retention.md` shows
/// it.
pub const RETENTION: &[(&str, Kept, &str)] = &[
    (
        "certificate",
        Kept::Always,
        "one that is archived stays readable",
    ),
    (
        "version",
        Kept::Always,
        "what was issued is never forgotten, nor its PEM",
    ),
    ("chain", Kept::Always, "once for all versions that share it"),
    ("revocation", Kept::Always, "one for each revoked version"),
    (
        "order",
        Kept::Setting("CERTCTL_KEEP_ORDERS"),
        "after its end; that of a version in force stays",
    ),
    (
        "deployment",
        Kept::With("order"),
        "with all that its last attempt wrote; of a version in force it stays",
    ),
    ("job", Kept::Setting("CERTCTL_KEEP_JOBS"), "after its end"),
    (
        "observation",
        Kept::With("target"),
        "and of the certificate on it",
    ),
    ("look", Kept::With("target"), "the last one asked for"),
    ("target", Kept::Always, "until it is deleted"),
    (
        "agent",
        Kept::Always,
        "a retired one is answered that it is, for ever",
    ),
    ("presence", Kept::With("agent"), "until it is retired"),
    (
        "join_token",
        Kept::Setting("CERTCTL_KEEP_JOIN_TOKENS"),
        "after it let nobody in any more",
    ),
    ("api_key", Kept::Always, "until it is deleted"),
    ("api_key_use", Kept::With("api_key"), "the last use"),
    ("role", Kept::Always, "until it is deleted"),
    (
        "session",
        Kept::Setting("CERTCTL_KEEP_SESSIONS"),
        "after its end",
    ),
    ("profile", Kept::Always, "until it is deleted"),
    ("renewal_policy", Kept::Always, "until it is deleted"),
    ("policy_rule", Kept::Always, "until it is deleted"),
    ("rules_head", Kept::Always, "there is one"),
    ("owner", Kept::Always, "until it is deleted"),
    ("team", Kept::Always, "until it is deleted"),
    ("replan", Kept::With("renewal_policy"), "until it is done"),
    ("issuer", Kept::Always, "until it is deleted"),
    ("issuer_test", Kept::With("issuer"), "the last one"),
    (
        "ca_node",
        Kept::Always,
        "CA keys and certificates are never forgotten",
    ),
    (
        "outcome",
        Kept::For("1 day"),
        "what came of a request with an Idempotency-Key",
    ),
    ("ring", Kept::Always, "there is one"),
    ("restoration", Kept::Always, "there is one"),
    (
        "found",
        Kept::Always,
        "what a restore did not know, until the next restore",
    ),
    ("leader", Kept::Always, "there are two"),
    ("schema", Kept::Always, "there is one"),
    ("migration", Kept::Always, "one for each migration"),
    ("layout", Kept::Always, "one for each collection"),
    (
        "audit log",
        Kept::Always,
        "each event proves the one before it",
    ),
    (
        "change feed",
        Kept::For("1 hour"),
        "one row for each commit",
    ),
    (
        "counters",
        Kept::Always,
        "totals, budgets, and five small numbers a day for the statistics",
    ),
];

impl App {
    /// Forgets jobs that ended long ago; for the reconciler.
    pub(crate) async fn forget_jobs(&self) -> Result<(), AppError> {
        let by = self.now().minus(self.config.keep.jobs);
        self.forget::<Job>(JOB_ENDED, by, |job| {
            job.ended_at().is_some_and(|at| at < by)
        })
        .await
    }

    /// Forgets what came of requests long ago; for the reconciler.
    pub(crate) async fn forget_outcomes(&self) -> Result<(), AppError> {
        let now = self.now();
        self.forget::<Outcome>(OUTCOME_UNTIL, now, |outcome| outcome.until < now)
            .await
    }

    /// Forgets sessions that ended long ago; for the reconciler.
    pub(crate) async fn forget_sessions(&self) -> Result<(), AppError> {
        let by = self.now().minus(self.config.keep.sessions);
        self.forget::<Session>(SESSION_EXPIRY, by, |session| session.expires_at < by)
            .await
    }

    /// Forgets join tokens that let nobody in for long; for the reconciler. They are found by
    /// when they were made: what is older and still lets somebody in is passed over.
    pub(crate) async fn forget_tokens(&self) -> Result<(), AppError> {
        let by = self.now().minus(self.config.keep.join_tokens);
        self.forget::<JoinToken>(TOKEN_CREATED, by, |token| {
            let revoked = token.revoked_at.is_some_and(|at| at < by);
            revoked || token.expires_at < by
        })
        .await
    }

    /// Forgets the rows that stand before a moment in an index whose keys are moments, and may go.
    async fn forget<T: Document>(
        &self,
        index: Index,
        by: Time,
        may_go: impl Fn(&T) -> bool + Send + Sync,
    ) -> Result<(), AppError> {
        let (may_go, mut after) = (&may_go, None);
        loop {
            let page = self
                .store
                .page::<T>(Scan {
                    below: Some(Key::new().time(by).bytes()),
                    after,
                    ..Scan::all(index, SLICE)
                })
                .await?;
            let old = &page.rows;
            if old.is_empty() {
                return Ok(());
            }
            self.decide(|mut unit| async move {
                for row in old {
                    let row = unit.load_opt::<T>(row.id()).await?;
                    if let Some(row) = row.filter(|row| may_go(row)) {
                        unit.delete(row);
                    }
                }
                Ok((unit, ()))
            })
            .await?;
            after = page.next;
            if after.is_none() || self.tasks.token().is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Forgets orders that ended long ago, with the deployments they led to; for the reconciler.
    /// What belongs to a version that is in force is kept until it can be another's turn.
    pub(crate) async fn forget_orders(&self) -> Result<(), AppError> {
        let by = self.now().minus(self.config.keep.orders);
        let mut after = None;
        loop {
            let page = self
                .store
                .page::<Order>(Scan {
                    below: Some(Key::new().time(by).bytes()),
                    after,
                    ..Scan::all(ORDER_ENDED, SLICE)
                })
                .await?;
            let mut old = &page.rows[..];
            while !old.is_empty() {
                let done = self
                    .decide(|unit| self.forget_some_orders(unit, old, by))
                    .await?;
                old = old.get(done..).unwrap_or_default();
            }
            after = page.next;
            if after.is_none() || self.tasks.token().is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Forgets as many of these orders, from the first one on, as one commit holds with their
    /// deployments; says how many. Of an order that led to more, that many deployments go first.
    async fn forget_some_orders<'a>(
        &self,
        mut unit: Unit<'a>,
        old: &[Loaded<Order>],
        by: Time,
    ) -> Result<(Unit<'a>, usize), AppError> {
        let mut writes = 0;
        for (done, order) in old.iter().enumerate() {
            let of = Key::new().text(order.id.as_str()).bytes();
            let scan = Scan::under(DEPLOYMENT_ORDER, of, WRITES);
            let deployments = self.store.scan::<Deployment>(scan).await?;
            if writes > 0 && writes + deployments.len() >= WRITES {
                return Ok((unit, done));
            }
            let Some(mut order) = unit.load_opt::<Order>(&order.id).await? else {
                continue;
            };
            if order.kept_from().is_none_or(|from| from >= by) {
                continue;
            }
            writes += 1;
            if let Some(until) = self.needed_until(&mut unit, &order, &deployments).await? {
                order.kept_from = Some(until.minus(self.config.keep.orders));
                unit.put(order);
                continue;
            }
            let all = deployments.len() < WRITES;
            writes += deployments.len();
            for deployment in deployments {
                unit.delete(deployment);
            }
            if !all {
                return Ok((unit, done));
            }
            unit.delete(order);
        }
        Ok((unit, old.len()))
    }

    /// Until when an order is needed at least, as things stand; `None` once it is not: its version
    /// is not in force, and nothing is to be done for its deployments.
    async fn needed_until(
        &self,
        unit: &mut Unit<'_>,
        order: &Order,
        deployments: &[Loaded<Deployment>],
    ) -> Result<Option<Time>, AppError> {
        let certificate = unit
            .load_opt::<Certificate>(&order.certificate)
            .await?
            .map(Loaded::into_value);
        let line = certificate
            .as_ref()
            .and_then(|c| c.holders.get(&order.holder));
        let current = line.and_then(|line| Some((&line.plan, line.current.as_ref()?)));
        let moves_on = match (&order.state, current) {
            (OrderState::Issued { version, .. }, Some((plan, current)))
                if current.version == *version =>
            {
                match plan {
                    Plan::Scheduled { at } => *at,
                    Plan::InFlight { .. } | Plan::Exempt { .. } => current.not_after,
                }
            }
            _ if deployments.iter().any(|d| d.is_open()) => self.now(),
            _ => return Ok(None),
        };
        // What was to happen by then and did not may never happen: then it is looked at again
        // when it is twice as old.
        let now = self.now();
        let age = now.since(order.ended_at().unwrap_or(now)).max(A_DAY);
        Ok(Some(if moves_on > now {
            moves_on.plus(A_DAY)
        } else {
            now.plus(age)
        }))
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::With(what) => write!(f, "with its {what}"),
            Self::Setting(name) => write!(f, "as long as {name} says"),
            Self::For(text) => f.write_str(text),
        }
    }
}
