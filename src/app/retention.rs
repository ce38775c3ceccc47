//! What is kept how long, and the loops that forget the rest: each finds by index what may go,
//! and forgets a bounded slice in a commit.

use super::{App, AppError};
use crate::{
    clock::Time,
    domain::{Certificate, Deployment, Job, JoinToken, Order, OrderState, Session, once::Outcome},
    store::{
        DEPLOYMENT_ORDER, Document, Index, JOB_ENDED, Key, Loaded, ORDER_ENDED, OUTCOME_UNTIL,
        SESSION_EXPIRY, Scan, TOKEN_CREATED, Unit,
    },
};
use std::collections::BTreeSet;

/// Rows that are forgotten at a time.
const SLICE: usize = 256;
/// Orders that are forgotten at a time, each with its deployments.
const ORDERS: usize = 32;

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
    /// What belongs to a version that is in force is passed over.
    pub(crate) async fn forget_orders(&self) -> Result<(), AppError> {
        let by = self.now().minus(self.config.keep.orders);
        let mut after = None;
        loop {
            let page = self
                .store
                .page::<Order>(Scan {
                    below: Some(Key::new().time(by).bytes()),
                    after,
                    ..Scan::all(ORDER_ENDED, ORDERS)
                })
                .await?;
            let old = &page.rows;
            if old.is_empty() {
                return Ok(());
            }
            self.decide(|mut unit| async move {
                for order in old {
                    self.forget_order(&mut unit, order).await?;
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

    async fn forget_order(
        &self,
        unit: &mut Unit<'_>,
        order: &Loaded<Order>,
    ) -> Result<(), AppError> {
        let Some(order) = unit.load_opt::<Order>(&order.id).await? else {
            return Ok(());
        };
        let certificate = unit.load_opt::<Certificate>(&order.certificate).await?;
        let current: BTreeSet<_> = certificate
            .iter()
            .flat_map(|certificate| certificate.holders.values())
            .filter_map(|line| line.current.as_ref().map(|current| &current.version))
            .collect();
        if let OrderState::Issued { version, .. } = &order.state
            && current.contains(version)
        {
            return Ok(());
        }
        let of = Key::new().text(order.id.as_str()).bytes();
        let scan = Scan::under(DEPLOYMENT_ORDER, of, SLICE);
        let mut ended = Vec::new();
        for deployment in self.store.scan::<Deployment>(scan).await? {
            let deployment = unit.load_opt::<Deployment>(&deployment.id).await?;
            if deployment.as_ref().is_some_and(|d| d.is_open()) {
                return Ok(());
            }
            ended.extend(deployment);
        }
        for deployment in ended {
            unit.delete(deployment);
        }
        unit.delete(order);
        Ok(())
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
