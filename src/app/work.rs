//! What agents ask and say about their jobs: work, lease, report.

use super::{App, AppError, audit, lifecycle, need, require_agent};
use crate::{
    agent::protocol::{
        FailureClass as Class, JOBS_A_POLL, Lease as WireLease, Outcome, Renewed, Report, Served,
        VersionItem, Work, WorkItem, WorkKind, wire_time,
    },
    clock::Time,
    domain::{
        AuditEvent, Category, Certificate, Chain, Deployment, DeploymentState, Executor,
        FailureClass, Holder, Job, JobKind, JobState, Lease, Order, Principal, Profile, Target,
        Version, deployment,
        job::{LEASE, NotLeased},
    },
    id::Id,
    store::{JOB_DUE, JOB_LEASED, Key, Loaded, Scan, Unit},
};
use std::time::Duration;

/// The most endpoints in a report.
const MAX_SERVED: usize = 64;
/// Characters of a reason that are kept.
const MAX_REASON: usize = 4_096;
/// The longest an agent may ask to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// At most this many leases of an agent are ended at once, far more than it runs; others lapse.
const MOST_LEASED: usize = 1_000;

impl App {
    /// Leases jobs to an agent. When there are none it waits up to `wait`, holding nothing, and
    /// answers at once when work comes or the server drains. The call is the agent's heartbeat.
    pub async fn work(
        &self,
        who: &Principal,
        agent: &Id,
        wait: Duration,
    ) -> Result<Work, AppError> {
        let agent = require_agent(who, agent)?;
        self.heard.hear(agent, self.now());
        let bell = self.doorbell.listen(agent);
        let draining = self.tasks.token();
        let deadline = tokio::time::Instant::now() + wait.min(LONGEST_WAIT);
        loop {
            // Boxed, so that an agent that waits holds no room for what it does not do.
            let (jobs, next) = Box::pin(self.claim(agent)).await?;
            if !jobs.is_empty() || tokio::time::Instant::now() >= deadline {
                let count = jobs.len();
                return Ok(Work { jobs, count });
            }
            let next = next.map(|at| tokio::time::Instant::now() + at.since(self.now()));
            let until = next.map_or(deadline, |next| next.min(deadline));
            tokio::select! {
                biased;
                () = draining.cancelled() => {
                    return Ok(Work { jobs: Vec::new(), count: 0 });
                }
                () = bell.rung() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Leases the jobs of an agent that are due; gives also when the next one is, of those that
    /// wait for their time.
    async fn claim(&self, agent: &Id) -> Result<(Vec<WorkItem>, Option<Time>), AppError> {
        let executor = Key::new().text(&Executor::Agent(agent.clone()).to_string());
        let scan = Scan::under(JOB_DUE, executor.bytes(), JOBS_A_POLL as usize);
        let (now, mut next, mut items) = (self.now(), None, Vec::new());
        for job in self.store.scan::<Job>(scan).await? {
            if let Some(at) = job.ready_at().filter(|at| *at > now) {
                next = next.or(Some(at));
                break;
            }
            match self.claim_one(&job.id).await {
                Ok(Some(item)) => items.push(item),
                // Another poll of this agent was first: what else is due is looked for at once.
                Ok(None) => next = Some(now),
                // One job must not keep an agent from the others, nor come back at once for ever.
                Err(e @ (AppError::NotFound { .. } | AppError::Store(_))) => {
                    tracing::error!(job = %job.id, error = %e, "the job cannot be given");
                    if let Err(e) = self.give_up(&job.id, &e.to_string()).await {
                        tracing::error!(job = %job.id, error = %e, "nor can it be ended");
                    }
                }
                // What was leased already is told; the rest is there for the next call.
                Err(e) if !items.is_empty() => {
                    tracing::warn!(job = %job.id, error = %e, "left for later");
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok((items, next))
    }

    /// Ends a job that cannot be run as failed, with what hangs on it.
    async fn give_up(&self, id: &Id, reason: &str) -> Result<(), AppError> {
        let who = &Principal::system("jobs");
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut job: Loaded<Job> = need(&mut unit, "job", id).await?;
            if job.ready_at().is_some() {
                let reason = format!("the job cannot be run: {reason}");
                job.fail(None, reason.clone(), false, now);
                self.job_over(&mut unit, who, &job, reason, now).await?;
                unit.put(job);
            }
            Ok((unit, ()))
        })
        .await
    }

    /// Leases one job, unless it is no longer to be had.
    async fn claim_one(&self, id: &Id) -> Result<Option<WorkItem>, AppError> {
        self.decide(|mut unit| async move {
            let now = self.now();
            let Some(mut job) = unit.load_opt::<Job>(id).await? else {
                return Ok((unit, None));
            };
            let version = job.version();
            let Some(lease) = job.claim(version, now) else {
                return Ok((unit, None));
            };
            let item = self.work_item(&unit, &job, &lease).await?;
            unit.put(job);
            Ok((unit, Some(item)))
        })
        .await
    }

    async fn work_item(
        &self,
        unit: &Unit<'_>,
        job: &Job,
        lease: &Lease,
    ) -> Result<WorkItem, AppError> {
        let mut item = WorkItem {
            id: job.id.clone(),
            kind: WorkKind::Deployment,
            certificate_id: job.certificate.clone(),
            status: "Running".into(),
            lease: WireLease {
                token: lease.token.to_string(),
                until: wire_time(lease.until),
                seconds: LEASE.as_secs(),
            },
            common_name: None,
            sans: Vec::new(),
            key_algorithm: None,
            target_id: None,
            target_type: None,
            target_config: None,
            version: None,
        };
        match &job.kind {
            JobKind::Issue { first, .. } => {
                let certificate: Loaded<Certificate> =
                    show(unit, "certificate", &job.certificate).await?;
                let profile: Loaded<Profile> =
                    show(unit, "profile", &certificate.profile_id).await?;
                item.kind = if *first {
                    WorkKind::Issuance
                } else {
                    WorkKind::Renewal
                };
                item.common_name = Some(certificate.common_name.clone());
                item.sans = certificate.sans.iter().map(ToString::to_string).collect();
                item.key_algorithm = profile.key_algorithms.first().map(ToString::to_string);
            }
            JobKind::Deploy { deployment } => {
                let deployment: Loaded<Deployment> = show(unit, "deployment", deployment).await?;
                let target: Loaded<Target> = show(unit, "target", &deployment.target).await?;
                let version: Loaded<Version> = show(unit, "version", &deployment.version).await?;
                let chain: Loaded<Chain> = show(unit, "chain", &version.chain).await?;
                item.target_id = Some(target.id.clone());
                item.target_type = Some(target.kind.clone());
                item.target_config = Some(target.config.clone());
                item.version = Some(VersionItem {
                    id: version.id.clone(),
                    serial: version.serial.to_string(),
                    fingerprint_sha256: version.fingerprint_sha256.clone(),
                    spki_sha256: version.spki_sha256.clone(),
                    fullchain_pem: format!("{}{}", version.leaf_pem, chain.pem),
                });
            }
        }
        Ok(item)
    }

    /// Renews a lease.
    pub async fn renew_lease(
        &self,
        who: &Principal,
        agent: &Id,
        job: &Id,
        token: u64,
    ) -> Result<Renewed, AppError> {
        let agent = require_agent(who, agent)?;
        // An agent that has its hands full does not poll.
        self.heard.hear(agent, self.now());
        self.decide(|mut unit| async move {
            let mut job = held(&mut unit, agent, job).await?;
            let lease = job
                .renew(token, self.now())
                .map_err(|e| AppError::Conflict(e.to_string()))?;
            unit.put(job);
            Ok((
                unit,
                Renewed {
                    until: wire_time(lease.until),
                    cancel: false,
                },
            ))
        })
        .await
    }

    /// Takes an agent's word on how a job ended. Repeating it under the same lease is answered as
    /// the first time; any other late word is refused.
    pub async fn report(
        &self,
        who: &Principal,
        agent: &Id,
        job: &Id,
        token: u64,
        report: &Report,
    ) -> Result<(), AppError> {
        let agent = require_agent(who, agent)?;
        let outcome = &checked(&report.outcome)?;
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut job = held(&mut unit, agent, job).await?;
            match job.held_by(token) {
                Ok(_) => {}
                Err(NotLeased::EndedByThisLease) => return Ok((unit, ())),
                Err(e) => return Err(AppError::Conflict(e.to_string())),
            }
            match job.kind.clone() {
                JobKind::Issue { order, .. } => {
                    let Outcome::Failed { class, reason } = outcome else {
                        return Err(AppError::invalid(
                            "outcome",
                            "a job for a key and CSR ends with its CSR, or with `failed`",
                        ));
                    };
                    let again = *class == Class::Transient;
                    if job.fail(Some(token), reason.clone(), again, now) {
                        self.issue_job_over(&mut unit, who, &order, *class, reason.clone(), now)
                            .await?;
                    }
                }
                JobKind::Deploy { deployment } => {
                    let mut deployment: Loaded<Deployment> =
                        need(&mut unit, "deployment", &deployment).await?;
                    if let Outcome::Confirmed { served, .. } = outcome {
                        proven(&unit, &deployment, served).await?;
                    }
                    settle(&mut job, &mut deployment, token, outcome, now);
                    if let Outcome::Failed {
                        class: Class::KeyMissing,
                        ..
                    } = outcome
                    {
                        replace_keyless(&mut unit, &deployment, now).await?;
                    }
                    let event = deployment_event(who, &deployment, now);
                    if let Some(event) = event {
                        audit(&mut unit, &event);
                    }
                    unit.put(deployment);
                }
            }
            unit.put(job);
            Ok((unit, ()))
        })
        .await?;
        if matches!(outcome, Outcome::Failed { .. }) {
            // A poll that waits learns when the job may be begun again.
            self.doorbell.ring(agent);
        }
        Ok(())
    }

    /// Ends the leases of an agent that has just started: whatever it held, it holds no more.
    pub async fn end_leases(&self, who: &Principal, agent: &Id) -> Result<(), AppError> {
        let agent = Executor::Agent(require_agent(who, agent)?.clone());
        let its_own = Key::new().text(&agent.to_string()).bytes();
        let scan = Scan::under(JOB_LEASED, its_own, MOST_LEASED);
        for job in self.store.scan::<Job>(scan).await? {
            if let JobState::Leased(lease) = &job.state {
                self.end_lease(&job.id, lease.until).await?;
            }
        }
        Ok(())
    }

    /// Ends a lease that ran out. For the reconciler.
    pub(crate) async fn lease_ran_out(&self, id: &Id) -> Result<(), AppError> {
        self.end_lease(id, self.now()).await
    }

    /// Ends a lease that lasts until `by` at most. The job is to be begun again while an attempt
    /// is left, else failed with all that hangs on it.
    async fn end_lease(&self, id: &Id, by: Time) -> Result<(), AppError> {
        let who = &Principal::system("leases");
        let agent = self
            .decide(|mut unit| async move {
                let now = self.now();
                let mut job: Loaded<Job> = need(&mut unit, "job", id).await?;
                match &job.state {
                    JobState::Leased(lease) if lease.until <= by => {}
                    _ => return Ok((unit, None)),
                }
                let reason = "the agent took the job and was not heard of it again".to_owned();
                let over = job.fail(None, reason.clone(), true, now);
                if over {
                    self.job_over(&mut unit, who, &job, reason, now).await?;
                }
                let Executor::Agent(agent) = job.executor.clone();
                unit.put(job);
                Ok((unit, Some(agent)))
            })
            .await?;
        if let Some(agent) = agent {
            self.doorbell.ring(&agent);
        }
        Ok(())
    }

    /// Fails what a job was for, which ended without a word of its agent.
    async fn job_over(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        job: &Job,
        reason: String,
        now: Time,
    ) -> Result<(), AppError> {
        match &job.kind {
            JobKind::Issue { order, .. } => {
                self.issue_job_over(unit, who, order, Class::Transient, reason, now)
                    .await
            }
            JobKind::Deploy { deployment } => {
                let mut deployment: Loaded<Deployment> =
                    need(unit, "deployment", deployment).await?;
                deployment.state = failed(reason, Vec::new(), false, now);
                if let Some(event) = deployment_event(who, &deployment, now) {
                    audit(unit, &event);
                }
                unit.put(deployment);
                Ok(())
            }
        }
    }

    async fn issue_job_over(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        order: &Id,
        class: Class,
        reason: String,
        now: Time,
    ) -> Result<(), AppError> {
        let mut order: Loaded<Order> = need(unit, "order", order).await?;
        let mut certificate: Loaded<Certificate> =
            need(unit, "certificate", &order.certificate).await?;
        let class = match class {
            Class::Transient => FailureClass::Transient,
            Class::Permanent => FailureClass::Permanent,
            Class::KeyMissing | Class::Operator => FailureClass::NeedsOperator,
        };
        lifecycle::fail_order(
            unit,
            who,
            &mut order,
            &mut certificate,
            class,
            reason,
            None,
            now,
        );
        unit.put(order);
        unit.put(certificate);
        Ok(())
    }
}

/// Plans a version in place of one whose key is not on its host: at once, or when the present one
/// is as old as a deployment's retry, so that a host that keeps no key asks for one each hour.
async fn replace_keyless(
    unit: &mut Unit<'_>,
    deployment: &Deployment,
    now: Time,
) -> Result<(), AppError> {
    let mut certificate: Loaded<Certificate> =
        need(unit, "certificate", &deployment.certificate).await?;
    let version: Loaded<Version> = show(unit, "version", &deployment.version).await?;
    let line = certificate
        .holders
        .get_mut(&Holder::Agent(deployment.agent.clone()));
    if let Some(line) = line
        && let Some(current) = &line.current
        && current.version == version.id
    {
        line.hasten(now.max(version.created_at.plus(deployment::RETRY)));
        unit.put(certificate);
    }
    Ok(())
}

/// What an agent says, bounded. A reason is cut and freed of control characters rather than
/// refused: it is for people, and a refused report would have the work done again.
fn checked(outcome: &Outcome) -> Result<Outcome, AppError> {
    let mut outcome = outcome.clone();
    let (reason, served): (Option<&mut String>, &[Served]) = match &mut outcome {
        Outcome::Confirmed { served, .. } => (None, served),
        Outcome::RolledBack { reason, served } | Outcome::RollbackFailed { reason, served } => {
            (Some(reason), served)
        }
        Outcome::Failed { reason, .. } => (Some(reason), &[]),
    };
    let plain = |text: &str| text.len() <= 512 && !text.chars().any(char::is_control);
    let good = |s: &Served| plain(&s.endpoint) && s.serial.as_deref().is_none_or(plain);
    if served.len() > MAX_SERVED || !served.iter().all(good) {
        return Err(AppError::invalid(
            "served",
            format!("{MAX_SERVED} endpoints at most, in texts of up to 512 printable characters"),
        ));
    }
    if let Some(reason) = reason {
        *reason = reason.replace(char::is_control, " ");
        if let Some((end, _)) = reason.char_indices().nth(MAX_REASON) {
            reason.truncate(end);
            reason.push_str(" ...");
        }
    }
    Ok(outcome)
}

/// A deployment is confirmed by what was seen: everywhere its own version, and that somewhere.
async fn proven(
    unit: &Unit<'_>,
    deployment: &Deployment,
    served: &[Served],
) -> Result<(), AppError> {
    let version: Loaded<Version> = show(unit, "version", &deployment.version).await?;
    let serial = version.serial.to_string();
    let shows_it = |seen: &Served| {
        seen.serial.as_ref() == Some(&serial)
            && seen.fingerprint_sha256.as_ref() == Some(&version.fingerprint_sha256)
    };
    if !served.is_empty() && served.iter().all(shows_it) {
        return Ok(());
    }
    Err(AppError::invalid(
        "served",
        format!(
            "`confirmed` is for a version that every endpoint was seen to serve: serial {serial}, \
             fingerprint {}",
            version.fingerprint_sha256
        ),
    ))
}

/// Brings job and deployment to where the agent says they ended.
fn settle(job: &mut Job, deployment: &mut Deployment, token: u64, outcome: &Outcome, now: Time) {
    match outcome {
        Outcome::Confirmed { served, .. } => {
            job.succeed(token, now);
            deployment.state = DeploymentState::Confirmed {
                at: now,
                endpoints: served.iter().map(|s| s.endpoint.clone()).collect(),
            };
        }
        Outcome::RolledBack { reason, served } => {
            job.fail(Some(token), reason.clone(), false, now);
            let served = others(served, deployment);
            deployment.state = failed(reason.clone(), served, false, now);
        }
        Outcome::RollbackFailed { reason, served } => {
            job.fail(Some(token), reason.clone(), false, now);
            let served = others(served, deployment);
            deployment.state = failed(reason.clone(), served, true, now);
        }
        Outcome::Failed { class, reason } => {
            if job.fail(Some(token), reason.clone(), *class == Class::Transient, now) {
                deployment.state = failed(reason.clone(), Vec::new(), false, now);
            }
        }
    }
}

/// The (endpoint, serial number)s of those seen that do not serve the deployment's version.
fn others(served: &[Served], deployment: &Deployment) -> Vec<(String, String)> {
    let wanted = deployment.serial.to_string();
    served
        .iter()
        .filter_map(|s| Some((s.endpoint.clone(), s.serial.clone()?)))
        .filter(|(_, serial)| *serial != wanted)
        .collect()
}

fn failed(
    reason: String,
    served: Vec<(String, String)>,
    broken: bool,
    now: Time,
) -> DeploymentState {
    DeploymentState::Failed {
        at: now,
        reason,
        served,
        broken,
        retry_at: now.plus(deployment::RETRY),
    }
}

fn deployment_event(who: &Principal, deployment: &Deployment, now: Time) -> Option<AuditEvent> {
    let (action, detail) = match &deployment.state {
        DeploymentState::Confirmed { endpoints, .. } => {
            ("deployment_confirmed", ("endpoints", endpoints.join(" ")))
        }
        DeploymentState::Failed { reason, .. } => ("deployment_failed", ("reason", reason.clone())),
        DeploymentState::Pending | DeploymentState::Superseded { .. } => return None,
    };
    let resource = ("certificate", deployment.certificate.as_str());
    Some(
        AuditEvent::new(who, Category::CertLifecycle, action, resource, now)
            .with("target", &deployment.target)
            .with("serial", &deployment.serial)
            .with(detail.0, detail.1),
    )
}

async fn held(unit: &mut Unit<'_>, agent: &Id, job: &Id) -> Result<Loaded<Job>, AppError> {
    let job: Loaded<Job> = need(unit, "job", job).await?;
    if job.executor == Executor::Agent(agent.clone()) {
        Ok(job)
    } else {
        Err(AppError::NotThisAgent)
    }
}

/// Reads a row to show it: the claim does not rest on it.
async fn show<T: crate::store::Document>(
    unit: &Unit<'_>,
    kind: &'static str,
    id: &Id,
) -> Result<Loaded<T>, AppError> {
    unit.peek(id)
        .await?
        .ok_or_else(|| AppError::not_found(kind, id))
}
