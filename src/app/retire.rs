//! The end of an agent: its credential, and what hangs on it.
//!
//! One batch ends the credential and as much of the rest as fits. What does not is found by the
//! reconciler under [`AGENT_LEAVING`](crate::store::AGENT_LEAVING) and ended batch by batch; the
//! last one asserts that nothing is left.

use super::{
    App, AppError, Dependents, audit, lifecycle, need, printable, require, work::executor_key,
};
use crate::{
    access::Permission,
    clock::Time,
    domain::{
        Agent, AuditEvent, Category, Certificate, Deployment, DeploymentState, FailureClass,
        Holder, Job, JobKind, Order, Plan, Presence, Principal, Retired, Retry, Target,
    },
    id::Id,
    store::{
        CERT_AGENT, DEPLOYMENT_OPEN, JOB_DUE, JOB_LEASED, JOB_OPEN, Key, Loaded, Scan,
        TARGET_AGENT, Unit,
    },
};
use std::collections::BTreeSet;

/// A batch ends about so many rows.
const AT_ONCE: usize = 250;
/// Ids that stand for the product's own agents.
const RESERVED: [&str; 7] = [
    "server-scanner",
    "cloud-aws-sm",
    "cloud-azure-kv",
    "cloud-gcp-sm",
    "enrol",
    "tokens",
    "retired",
];

/// How the wish to retire an agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retirement {
    /// It is retired.
    Done {
        /// Since when.
        at: Time,
        /// What hung on it was ended too.
        cascade: bool,
        /// What hung on it.
        counts: Dependents,
    },
    /// It was already.
    Already,
    /// It is not: this hangs on it, and nobody insisted.
    Blocked(Dependents),
}

impl App {
    /// Retires an agent: its credential is answered "gone" from now on, and its name is free.
    /// With `force`, which wants a reason, what hangs on it is ended too.
    pub async fn retire_agent(
        &self,
        who: &Principal,
        id: &Id,
        force: bool,
        reason: &str,
    ) -> Result<Retirement, AppError> {
        require(who, Permission::AgentRetire)?;
        if RESERVED.contains(&id.as_str()) {
            let message = format!("{id} is part of the product and is never retired");
            return Err(AppError::Reserved(message));
        }
        printable("reason", reason, 0..=512)?;
        let retired = match self.retire_once(who, id, force, reason).await {
            // Something was hung on it meanwhile.
            Err(AppError::Conflict(_)) => self.retire_once(who, id, force, reason).await?,
            retired => retired?,
        };
        if matches!(retired, Retirement::Done { .. }) {
            self.heard.forget(id);
            // A poll that waits is told at once.
            self.doorbell.ring(id);
        }
        Ok(retired)
    }

    async fn retire_once(
        &self,
        who: &Principal,
        id: &Id,
        force: bool,
        reason: &str,
    ) -> Result<Retirement, AppError> {
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut agent: Loaded<Agent> = need(&mut unit, "agent", id).await?;
            if agent.retired.is_some() {
                return Ok((unit, Retirement::Already));
            }
            let counts = self.dependents(id).await?;
            if force && reason.trim().is_empty() {
                let message = "to retire an agent with all that hangs on it wants a reason";
                return Err(AppError::invalid("reason", message));
            }
            if counts.any() && !force {
                return Ok((unit, Retirement::Blocked(counts)));
            }
            let retired = Retired {
                at: now,
                reason: reason.to_owned(),
            };
            agent.retired = Some(retired.clone());
            agent.keys_lost_at = None;
            let over = self.unbind(&mut unit, who, &agent, &retired, now).await?;
            agent.leaving_since = (!over).then_some(now);
            if let Some(presence) = unit.load_opt::<Presence>(id).await? {
                unit.delete(presence);
            }
            let resource = ("agent", id.as_str());
            let event = AuditEvent::new(who, Category::Auth, "agent_retired", resource, now)
                .with("name", &agent.name)
                .with("reason", reason)
                .with("cascade", counts.any())
                .with("active_targets", counts.targets)
                .with("active_certificates", counts.certificates)
                .with("pending_jobs", counts.jobs);
            audit(&mut unit, &event);
            unit.put(agent);
            let done = Retirement::Done {
                at: now,
                cascade: counts.any(),
                counts,
            };
            Ok((unit, done))
        })
        .await
    }

    /// Ends what still hangs on a retired agent; for the reconciler.
    pub(crate) async fn finish_leaving(&self, id: &Id) -> Result<(), AppError> {
        let who = &Principal::system("retirement");
        loop {
            let over = self
                .decide(|mut unit| async move {
                    let now = self.now();
                    let mut agent: Loaded<Agent> = need(&mut unit, "agent", id).await?;
                    let Some(retired) = agent.retired.clone() else {
                        return Ok((unit, true));
                    };
                    if agent.leaving_since.is_none() {
                        return Ok((unit, true));
                    }
                    let over = self.unbind(&mut unit, who, &agent, &retired, now).await?;
                    if over {
                        agent.leaving_since = None;
                        unit.put(agent);
                    }
                    Ok((unit, over))
                })
                .await?;
            if over {
                return Ok(());
            }
        }
    }

    /// Ends what hangs on an agent, as far as it fits in one batch; says whether that is all of
    /// it, which the commit then asserts.
    async fn unbind(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        agent: &Agent,
        retired: &Retired,
        now: Time,
    ) -> Result<bool, AppError> {
        let of_agent = Key::new().text(agent.id.as_str());
        let mut rows = 0;
        let mut ended = BTreeSet::new();
        let scan = Scan::under(CERT_AGENT, of_agent.clone().bytes(), AT_ONCE);
        for certificate in self.store.scan::<Certificate>(scan).await? {
            let jobs = self
                .end_line(unit, who, &certificate.id, agent, now)
                .await?;
            rows += 2 + 2 * jobs.len();
            ended.extend(jobs);
            if rows >= AT_ONCE {
                return Ok(false);
            }
        }
        for index in [JOB_DUE, JOB_LEASED] {
            let scan = Scan::under(index, executor_key(&agent.id).bytes(), 2 * AT_ONCE);
            for job in self.store.scan::<Job>(scan).await? {
                if ended.insert(job.id.clone()) {
                    abandon(unit, &job.id, now).await?;
                    if let JobKind::Deploy { deployment } = &job.kind {
                        put_aside(unit, deployment, now).await?;
                    }
                    rows += 2;
                }
                if rows >= AT_ONCE {
                    return Ok(false);
                }
            }
        }
        let scan = Scan::under(TARGET_AGENT, of_agent.clone().bytes(), AT_ONCE);
        for target in self.store.scan::<Target>(scan).await? {
            let mut target: Loaded<Target> = need(unit, "target", &target.id).await?;
            target.retired = Some(retired.clone());
            unit.put(target);
            rows += 1;
            if rows >= AT_ONCE {
                return Ok(false);
            }
        }
        for index in [CERT_AGENT, TARGET_AGENT] {
            unit.none(index, of_agent.clone());
        }
        for index in [JOB_DUE, JOB_LEASED] {
            unit.none(index, executor_key(&agent.id));
        }
        Ok(true)
    }

    /// Ends an agent's line in a certificate: its open order, its open deployments. Where others
    /// hold keys too the line goes; else it stays, exempt, and says why nothing follows. Returns
    /// the jobs that were for it.
    async fn end_line(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        certificate: &Id,
        agent: &Agent,
        now: Time,
    ) -> Result<Vec<Id>, AppError> {
        let mut certificate: Loaded<Certificate> = need(unit, "certificate", certificate).await?;
        let holder = Holder::Agent(agent.id.clone());
        let reason = format!("agent {}, which held the key, was retired", agent.name);
        let mut jobs = Vec::new();
        let plan = certificate.holders.get(&holder).map(|l| l.plan.clone());
        if let Some(Plan::InFlight { order }) = plan {
            let by_order = Key::new().text(order.as_str());
            if let Some(job) = self.store.first::<Job>(JOB_OPEN, by_order).await? {
                abandon(unit, &job.id, now).await?;
                jobs.push(job.id.clone());
            }
            let mut order: Loaded<Order> = need(unit, "order", &order).await?;
            let class = FailureClass::Cancelled;
            lifecycle::fail_order(
                unit,
                who,
                &mut order,
                &mut certificate,
                class,
                reason.clone(),
                None,
                Retry::default(),
                now,
            );
            unit.put(order);
        }
        let mut kept = Vec::with_capacity(certificate.targets.len());
        for target in std::mem::take(&mut certificate.targets) {
            let row = unit.peek::<Target>(&target).await?;
            if row.is_none_or(|row| row.agent != agent.id) {
                kept.push(target);
                continue;
            }
            let of = Key::new().text(target.as_str());
            let of = of.text(certificate.id.as_str()).bytes();
            for open in self
                .store
                .scan::<Deployment>(Scan::under(DEPLOYMENT_OPEN, of, AT_ONCE))
                .await?
            {
                let mut open: Loaded<Deployment> = need(unit, "deployment", &open.id).await?;
                if open.is_pending() {
                    abandon(unit, &open.job, now).await?;
                    jobs.push(open.job.clone());
                }
                open.state = DeploymentState::Superseded { at: now };
                unit.put(open);
            }
        }
        certificate.targets = kept;
        let alone = certificate
            .holders
            .iter()
            .all(|(other, line)| *other == holder || line.ended_at.is_some());
        if !alone {
            certificate.holders.remove(&holder);
        } else if let Some(line) = certificate.holders.get_mut(&holder) {
            line.end(format!("{reason}: nothing renews this version"), now);
        }
        let event = AuditEvent::new(
            who,
            Category::CertLifecycle,
            "certificate_holder_retired",
            ("certificate", certificate.id.as_str()),
            now,
        )
        .with("holder", &holder)
        .with("others_hold_it", !alone);
        audit(unit, &event);
        certificate.updated_at = now;
        unit.put(certificate);
        Ok(jobs)
    }
}

/// Cancels a job whose agent cannot be asked to stop it.
async fn abandon(unit: &mut Unit<'_>, id: &Id, now: Time) -> Result<(), AppError> {
    let mut job: Loaded<Job> = need(unit, "job", id).await?;
    if job.is_open() {
        job.abandon("its agent was retired".into(), now);
        unit.put(job);
    }
    Ok(())
}

/// Puts aside a deployment whose job is over.
async fn put_aside(unit: &mut Unit<'_>, id: &Id, now: Time) -> Result<(), AppError> {
    let mut deployment: Loaded<Deployment> = need(unit, "deployment", id).await?;
    if deployment.is_pending() {
        deployment.state = DeploymentState::Superseded { at: now };
        unit.put(deployment);
    }
    Ok(())
}
