//! Opening and failing orders: the two steps that the reconciler, the API and the jobs share.

use super::{App, AppError, audit, need, require};
use crate::{
    access::Permission,
    clock::Time,
    domain::{
        Agent, AuditEvent, Category, Cause, Certificate, Executor, FailureClass, Holder, Issuer,
        Job, JobKind, Order, Plan, Principal, RenewalPolicy, Retry, Version,
    },
    id::Id,
    store::{
        CERT_AGENT, CERT_BLOCKED, Facet, ISSUER_NAME, JOB_OPEN, Key, Loaded, ORDER_OPEN, Scan,
        Unit, open_job_key, open_order_key,
    },
};
use std::time::Duration;

/// A holder's line may open this many orders at once ...
const ORDER_BURST: u32 = 100;
/// ... and one more each time this has passed: no fault of ours may flood a CA.
const ORDER_EVERY: Duration = Duration::from_secs(60);
/// A requester's line may ask this many times at once ...
const REQUEST_BURST: u32 = 1_000;
/// ... and once more each time this has passed: a script may run on many hosts, or in circles.
const REQUEST_EVERY: Duration = Duration::from_millis(100);
/// Certificates are read this many at a time.
const PAGE: usize = 256;
/// More issuers than anybody has.
const MOST_ISSUERS: usize = 1_000;

impl App {
    /// Asks for a new version for every holder that is an agent, now. Where an order is open
    /// already, that order is the answer.
    pub async fn renew(&self, who: &Principal, certificate: &Id) -> Result<Vec<Order>, AppError> {
        require(who, Permission::CertIssue)?;
        let orders = self
            .decide(|mut unit| async move {
                let mut cert: Loaded<Certificate> =
                    need(&mut unit, "certificate", certificate).await?;
                if let Some(ended) = cert.ended() {
                    return Err(AppError::Conflict(format!(
                        "certificate {certificate} is {ended}"
                    )));
                }
                let agents: Vec<Holder> = agents_of(&cert);
                if agents.is_empty() {
                    return Err(AppError::Conflict(format!(
                        "no agent holds certificate {certificate}: give it a target, or send a CSR \
                         to POST /api/v1/certificates/{certificate}/versions"
                    )));
                }
                let mut orders = Vec::new();
                let mut opened = false;
                for holder in agents {
                    let line = cert.holders.get(&holder).map(|h| h.plan.clone());
                    if let Some(Plan::InFlight { order }) = line {
                        orders.push(
                            need::<Order>(&mut unit, "order", &order)
                                .await?
                                .into_value(),
                        );
                    } else {
                        orders.push(self.open(&mut unit, who, &mut cert, &holder).await?);
                        opened = true;
                    }
                }
                if opened {
                    unit.put(cert);
                }
                Ok((unit, orders))
            })
            .await?;
        self.ring(&orders);
        Ok(orders)
    }

    /// Opens the orders of a certificate that are due at `now`; for the reconciler. Harmless when
    /// early or repeated: what is due is decided here, on fresh rows.
    pub(crate) async fn open_due(&self, certificate: &Id) -> Result<usize, AppError> {
        let who = &Principal::system("renewals");
        let orders = self
            .decide(|mut unit| async move {
                let now = self.now();
                let mut cert: Loaded<Certificate> =
                    need(&mut unit, "certificate", certificate).await?;
                let due: Vec<Holder> = cert
                    .due()
                    .filter(|(_, at)| *at <= now)
                    .map(|(holder, _)| holder.clone())
                    .collect();
                let mut orders = Vec::new();
                for holder in &due {
                    match self.open(&mut unit, who, &mut cert, holder).await {
                        Ok(order) => orders.push(order),
                        Err(AppError::IssuerOff(issuer)) => {
                            if let Some(line) = cert.holders.get_mut(holder) {
                                line.block(&issuer, now);
                            }
                        }
                        Err(e) => return Err(e),
                    }
                }
                if !due.is_empty() {
                    unit.put(cert);
                }
                Ok((unit, orders))
            })
            .await?;
        self.ring(&orders);
        Ok(orders.len())
    }

    /// Plans the orders that waited for an issuer which may be asked now, at once; for the
    /// reconciler.
    pub(crate) async fn unblock(&self) -> Result<(), AppError> {
        if self.is_fenced() || self.store.count(&Facet::any(CERT_BLOCKED)).await? == 0 {
            return Ok(());
        }
        let issuers = Scan::all(ISSUER_NAME, MOST_ISSUERS);
        for issuer in self.store.scan::<Issuer>(issuers).await? {
            if !issuer.enabled {
                continue;
            }
            let blocked = Key::new().text(issuer.id.as_str()).bytes();
            let mut after = None;
            loop {
                let page = self
                    .store
                    .page::<Certificate>(Scan {
                        after,
                        ..Scan::under(CERT_BLOCKED, blocked.clone(), PAGE)
                    })
                    .await?;
                for certificate in &page.rows {
                    self.unblock_lines(&certificate.id).await?;
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn unblock_lines(&self, certificate: &Id) -> Result<(), AppError> {
        self.decide(|mut unit| async move {
            let mut cert: Loaded<Certificate> = need(&mut unit, "certificate", certificate).await?;
            for line in cert.holders.values_mut() {
                line.unblock(self.now());
            }
            unit.put(cert);
            Ok((unit, ()))
        })
        .await
    }

    /// Plans new versions for all whose keys an agent has lost, at once; for the reconciler. What a
    /// crash leaves undone is done by the next call: it is over when the agent's row says so.
    pub(crate) async fn replace_lost_keys(&self, agent: &Id) -> Result<(), AppError> {
        let Some(lost_at) = self.keys_lost_at(agent).await? else {
            return Ok(());
        };
        let held = Key::new().text(agent.as_str()).bytes();
        let (mut after, mut left) = (None, false);
        loop {
            let page = self
                .store
                .page::<Certificate>(Scan {
                    after,
                    ..Scan::under(CERT_AGENT, held.clone(), PAGE)
                })
                .await?;
            for certificate in &page.rows {
                // One must not keep the others back, and is tried again with the next look.
                let planned = self.replace_version(&certificate.id, agent, lost_at);
                if let Err(e) = planned.await {
                    tracing::warn!(certificate = %certificate.id, error = %e, "left for later");
                    left = true;
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if left {
            return Ok(());
        }
        self.decide(|mut unit| async move {
            let mut agent: Loaded<Agent> = need(&mut unit, "agent", agent).await?;
            if agent.keys_lost_at == Some(lost_at) {
                agent.keys_lost_at = None;
                unit.put(agent);
            }
            Ok((unit, ()))
        })
        .await
    }

    async fn keys_lost_at(&self, agent: &Id) -> Result<Option<Time>, AppError> {
        let agent = self.store.get::<Agent>(agent).await?;
        Ok(agent.and_then(|agent| agent.keys_lost_at))
    }

    /// Plans a new version for an agent's line at once, when its current one is from before
    /// `lost_at`.
    async fn replace_version(
        &self,
        certificate: &Id,
        agent: &Id,
        lost_at: Time,
    ) -> Result<(), AppError> {
        self.decide(|mut unit| async move {
            let mut cert: Loaded<Certificate> = need(&mut unit, "certificate", certificate).await?;
            let line = cert.holders.get_mut(&Holder::Agent(agent.clone()));
            if let Some(line) = line
                && let Some(current) = &line.current
                && let Some(version) = unit.peek::<Version>(&current.version).await?
                && version.created_at < lost_at
            {
                let planned = line.plan.clone();
                line.hasten(self.now());
                if line.plan != planned {
                    unit.put(cert);
                }
            }
            Ok((unit, ()))
        })
        .await
    }

    /// Opens an order for a holder and queues its job, in the caller's unit. Uniqueness and budget
    /// are checked by the commit itself.
    pub(crate) async fn open(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        certificate: &mut Certificate,
        holder: &Holder,
    ) -> Result<Order, AppError> {
        self.not_fenced()?;
        let now = self.now();
        let Holder::Agent(agent) = holder else {
            return Err(AppError::Conflict(
                "the requester holds this key: a CSR is needed".into(),
            ));
        };
        self.has_room()?;
        let issuer: Loaded<Issuer> = need(unit, "issuer", &certificate.issuer_id).await?;
        if !issuer.enabled {
            return Err(AppError::IssuerOff(issuer.id.clone()));
        }
        let Some(line) = certificate.holders.get_mut(holder) else {
            return Err(AppError::Conflict(format!(
                "certificate {} has no holder {holder}",
                certificate.id
            )));
        };
        let cause = match &line.current {
            Some(current) => Cause::Replaces(current.serial.clone()),
            None => Cause::First,
        };
        let attempt = match &line.failure {
            Some(failure) => {
                let last: Loaded<Order> = need(unit, "order", &failure.order).await?;
                if last.cause == cause {
                    last.attempt + 1
                } else {
                    1
                }
            }
            None => 1,
        };
        let first = cause == Cause::First;
        let order = Order::open(
            certificate.id.clone(),
            holder.clone(),
            issuer.id.clone(),
            cause,
            attempt,
            now,
        );
        line.begin(&order);
        let job = Job::new(
            self.new_id("job"),
            JobKind::Issue {
                order: order.id.clone(),
                first,
            },
            (Some(certificate.id.clone()), None),
            Executor::Agent(agent.clone()),
            now,
        );
        unit.none(ORDER_OPEN, open_order_key(&certificate.id, holder));
        charge(unit, &certificate.id, holder);
        unit.insert(order.clone());
        unit.insert(job);
        audit(
            unit,
            &AuditEvent::new(
                who,
                Category::CertLifecycle,
                "order_opened",
                ("certificate", certificate.id.as_str()),
                now,
            )
            .with("order", &order.id)
            .with("holder", holder)
            .with("attempt", attempt),
        );
        Ok(order)
    }

    fn ring(&self, orders: &[Order]) {
        for order in orders {
            if let Holder::Agent(agent) = &order.holder {
                self.doorbell.ring(agent);
            }
        }
    }
}

/// Ends an order without a version, plans the next attempt, and says so in the audit log. One that
/// has ended already, with its certificate, stays as it is.
#[expect(
    clippy::too_many_arguments,
    reason = "one call, every part of it a fact of the failure"
)]
pub(crate) fn fail_order(
    unit: &mut Unit<'_>,
    who: &Principal,
    order: &mut Order,
    certificate: &mut Certificate,
    class: FailureClass,
    message: String,
    hint: Option<Duration>,
    retry: Retry,
    now: Time,
) {
    if !order.is_open() {
        return;
    }
    let event = AuditEvent::new(
        who,
        Category::CertLifecycle,
        "order_failed",
        ("certificate", certificate.id.as_str()),
        now,
    )
    .with("order", &order.id)
    .with("reason", &message);
    order.fail(class, message, hint, retry, now);
    if let Some(line) = certificate.holders.get_mut(&order.holder) {
        line.failed(order);
    }
    audit(unit, &event);
}

/// How a certificate's attempts are repeated.
pub(super) async fn retry_of(
    unit: &Unit<'_>,
    certificate: &Certificate,
) -> Result<Retry, AppError> {
    let policy = unit.peek::<RenewalPolicy>(&certificate.policy_id).await?;
    Ok(policy.map(|policy| policy.retry()).unwrap_or_default())
}

/// Ends an open order and its job, which nobody wants any more.
pub(super) async fn close_order(
    unit: &mut Unit<'_>,
    who: &Principal,
    certificate: &mut Certificate,
    order: &Id,
    why: &str,
    now: Time,
) -> Result<(), AppError> {
    let mut order: Loaded<Order> = need(unit, "order", order).await?;
    fail_order(
        unit,
        who,
        &mut order,
        certificate,
        FailureClass::Cancelled,
        why.to_owned(),
        None,
        Retry::default(),
        now,
    );
    let kind = JobKind::Issue {
        order: order.id.clone(),
        first: false,
    };
    let key = open_job_key(&kind, None);
    if let Some(job) = unit.first::<Job>(JOB_OPEN, key).await? {
        let mut job: Loaded<Job> = need(unit, "job", &job.id).await?;
        job.cancel(why.to_owned(), now);
        unit.put(job);
    }
    unit.put(order);
    Ok(())
}

/// The holders that are agents and not retired.
pub(super) fn agents_of(certificate: &Certificate) -> Vec<Holder> {
    let lines = certificate.holders.iter();
    lines
        .filter(|(holder, line)| matches!(holder, Holder::Agent(_)) && line.ended_at.is_none())
        .map(|(holder, _)| holder.clone())
        .collect()
}

/// Takes an order out of the budget of a holder's line; the commit is refused when it is spent.
pub(super) fn charge(unit: &mut Unit<'_>, certificate: &Id, holder: &Holder) {
    let (every, burst) = match holder {
        Holder::Agent(_) => (ORDER_EVERY, ORDER_BURST),
        Holder::Requester => (REQUEST_EVERY, REQUEST_BURST),
    };
    let budget = Key::new()
        .text("orders")
        .text(certificate.as_str())
        .text(&holder.to_string());
    unit.take(budget, 1, every, burst);
}
