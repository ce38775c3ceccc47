//! What agents ask about their jobs: work and leases. What they say is in
//! [`report`](super::report).

use super::{App, AppError, need, report::OVER_WITHOUT_A_WORD, require_agent};
use crate::{
    agent::protocol::{
        JOBS_A_POLL, Lease as WireLease, Renewed, VersionItem, Work, WorkItem, WorkKind, wire_time,
    },
    clock::Time,
    domain::{
        Agent, Certificate, Chain, Deployment, Executor, Job, JobKind, Lease, Principal, Profile,
        Retired, Target, Version, job::LEASE,
    },
    id::Id,
    store::{JOB_DUE, JOB_LEASED, JOB_STOPPING, Key, Loaded, Scan, Unit},
};
use std::{collections::BTreeSet, time::Duration};

/// The longest an agent may ask to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// At most this many leases of an agent are ended at once, far more than it runs; others lapse.
const MOST_LEASED: usize = 1_000;

impl App {
    /// Leases jobs to an agent. When there are none it waits up to `wait`, holding nothing, and
    /// answers at once when work comes, a job is to be stopped or the server drains. The call is
    /// the agent's heartbeat.
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
        // A poll that is told of nothing but stops is asked again at once: each ring tells once.
        let mut rung = false;
        loop {
            // Boxed, so that an agent that waits holds no room for what it does not do.
            let (jobs, next) = Box::pin(self.claim(agent)).await?;
            let cancel = if rung || !jobs.is_empty() {
                Box::pin(self.stopping(agent)).await?
            } else {
                Vec::new()
            };
            let look = self.watched.take(agent);
            let look_at_all = self.watched.take_everything(agent);
            let show = self.watched.take_shown(agent);
            let told = !jobs.is_empty()
                || !cancel.is_empty()
                || !look.is_empty()
                || look_at_all
                || !show.is_empty();
            if told || draining.is_cancelled() || tokio::time::Instant::now() >= deadline {
                let count = jobs.len();
                return Ok(Work {
                    jobs,
                    count,
                    cancel,
                    look,
                    look_at_all,
                    show,
                });
            }
            let next = next.map(|at| tokio::time::Instant::now() + at.since(self.now()));
            let until = next.map_or(deadline, |next| next.min(deadline));
            rung = tokio::select! {
                biased;
                () = draining.cancelled() => false,
                () = bell.rung() => {
                    Box::pin(self.not_retired(agent)).await?;
                    true
                }
                () = tokio::time::sleep_until(until) => false,
            };
        }
    }

    /// Refuses an agent that was retired while it waited.
    async fn not_retired(&self, agent: &Id) -> Result<(), AppError> {
        let agent = self.store.get::<Agent>(agent).await?;
        match agent.and_then(|agent| agent.into_value().retired) {
            Some(Retired { at, reason }) => Err(AppError::Retired { at, reason }),
            None => Ok(()),
        }
    }

    /// The jobs that an agent runs and is to stop.
    async fn stopping(&self, agent: &Id) -> Result<Vec<Id>, AppError> {
        if self.is_fenced() {
            return Ok(Vec::new());
        }
        let its_own = executor_key(agent).bytes();
        let scan = Scan::under(JOB_STOPPING, its_own, MOST_LEASED);
        let jobs = self.store.scan::<Job>(scan).await?;
        Ok(jobs.iter().map(|job| job.id.clone()).collect())
    }

    /// Leases the jobs of an agent that are due; gives also when the next one is, of those that
    /// wait for their time.
    async fn claim(&self, agent: &Id) -> Result<(Vec<WorkItem>, Option<Time>), AppError> {
        if self.is_fenced() {
            return Ok((Vec::new(), None));
        }
        let executor = executor_key(agent);
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
                job.fail(reason.clone(), false, now);
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
        let certificate = |job: &Job| {
            let none = || AppError::not_found("certificate", "of the job");
            job.certificate.clone().ok_or_else(none)
        };
        match &job.kind {
            JobKind::Issue { first, .. } => {
                let certificate: Loaded<Certificate> =
                    show(unit, "certificate", &certificate(job)?).await?;
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
                with_target(unit, &mut item, &deployment.target).await?;
                with_version(unit, &mut item, &deployment.version).await?;
            }
            JobKind::Rehearse { version } => {
                item.kind = WorkKind::DryRun;
                with_target(unit, &mut item, of_trial(job)?).await?;
                with_version(unit, &mut item, version).await?;
            }
            JobKind::Test => {
                item.kind = WorkKind::TargetTest;
                with_target(unit, &mut item, of_trial(job)?).await?;
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
            let renewed = Renewed {
                until: wire_time(lease.until),
                cancel: job.is_stopping(),
            };
            unit.put(job);
            Ok((unit, renewed))
        })
        .await
    }

    /// Ends the leases of an agent, save those of jobs that it still holds: of others it knows
    /// nothing, since it has just started, or since the answer that leased them was lost. So may the
    /// word have been that it is to look at all it has.
    pub async fn end_leases(
        &self,
        who: &Principal,
        agent: &Id,
        holds: &BTreeSet<Id>,
    ) -> Result<(), AppError> {
        let agent = require_agent(who, agent)?;
        self.watched.unheard(agent);
        let its_own = executor_key(agent).bytes();
        let scan = Scan::under(JOB_LEASED, its_own, MOST_LEASED);
        for job in self.store.scan::<Job>(scan).await? {
            if let Some(lease) = job.lease().filter(|_| !holds.contains(&job.id)) {
                let by = lease.until;
                self.end_lease(&job.id, |_, lease| lease.until <= by)
                    .await?;
            }
        }
        Ok(())
    }

    /// Ends a lease that ran out, by the clock of this server. Where others may have given or
    /// renewed it by theirs, only when it was seen unchanged for as long as a lease lasts. For the
    /// reconciler.
    pub(crate) async fn lease_ran_out(&self, id: &Id) -> Result<(), AppError> {
        let is_over = |job: &Loaded<Job>, lease: &Lease| {
            lease.until <= self.now()
                && (!self.store.is_shared() || self.leases.look(id, job.version()) >= LEASE)
        };
        self.end_lease(id, is_over).await
    }

    /// A look at all leases that seem to have run out begins. For the reconciler.
    pub(crate) fn look_at_leases(&self) {
        self.leases.begin();
    }

    /// Ends a lease where `is_over` says so. The job is to be begun again while an attempt
    /// is left, else failed with all that hangs on it; one that was to be stopped is cancelled.
    async fn end_lease(
        &self,
        id: &Id,
        is_over: impl Fn(&Loaded<Job>, &Lease) -> bool,
    ) -> Result<(), AppError> {
        let who = &Principal::system("leases");
        let agent = self
            .decide(|mut unit| async {
                let now = self.now();
                let mut job: Loaded<Job> = need(&mut unit, "job", id).await?;
                match job.lease() {
                    Some(lease) if is_over(&job, lease) => {}
                    _ => return Ok((unit, None)),
                }
                let reason = OVER_WITHOUT_A_WORD.to_owned();
                let over = job.fail(reason.clone(), true, now);
                self.lost(&mut unit, who, &mut job, over, reason, now)
                    .await?;
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
}

/// The target of a dry run or a test.
fn of_trial(job: &Job) -> Result<&Id, AppError> {
    let none = || AppError::not_found("target", "of the job");
    job.target.as_ref().ok_or_else(none)
}

async fn with_target(unit: &Unit<'_>, item: &mut WorkItem, id: &Id) -> Result<(), AppError> {
    let target = show::<Target>(unit, "target", id).await?.into_value();
    item.target_id = Some(target.id);
    item.target_type = Some(target.kind);
    item.target_config = Some(target.config);
    Ok(())
}

async fn with_version(unit: &Unit<'_>, item: &mut WorkItem, id: &Id) -> Result<(), AppError> {
    let version: Loaded<Version> = show(unit, "version", id).await?;
    let chain: Loaded<Chain> = show(unit, "chain", &version.chain).await?;
    item.version = Some(VersionItem {
        id: version.id.clone(),
        serial: version.serial.to_string(),
        fingerprint_sha256: version.fingerprint_sha256.clone(),
        spki_sha256: version.spki_sha256.clone(),
        fullchain_pem: format!("{}{}", version.leaf_pem, chain.pem),
    });
    Ok(())
}

pub(super) async fn held(
    unit: &mut Unit<'_>,
    agent: &Id,
    job: &Id,
) -> Result<Loaded<Job>, AppError> {
    let job: Loaded<Job> = need(unit, "job", job).await?;
    if job.executor == Executor::Agent(agent.clone()) {
        Ok(job)
    } else {
        Err(AppError::NotThisAgent)
    }
}

/// Reads a row to show it: the claim does not rest on it.
pub(super) async fn show<T: crate::store::Document>(
    unit: &Unit<'_>,
    kind: &'static str,
    id: &Id,
) -> Result<Loaded<T>, AppError> {
    unit.peek(id)
        .await?
        .ok_or_else(|| AppError::not_found(kind, id))
}

/// The beginning of an agent's jobs in the indexes by executor.
pub(super) fn executor_key(agent: &Id) -> Key {
    Key::new().text(&Executor::Agent(agent.clone()).to_string())
}
