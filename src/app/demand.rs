//! Deployments, dry runs and tests that somebody asks for.

use super::{App, AppError, JobView, audit, need, require};
use crate::{
    access::Permission,
    clock::Time,
    domain::{
        AuditEvent, Category, Certificate, Current, Deployment, Executor, Holder, Job, JobKind,
        Principal, Target,
    },
    id::Id,
    store::{JOB_OPEN, JOB_TARGET, Key, Loaded, Scan, Unit, open_job_key},
};

/// What is asked of a certificate's targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Put the current version in place, or see again that it is served.
    Deploy,
    /// Say what that would change, and change nothing.
    DryRun,
}

impl App {
    /// Deploys a certificate's current version again, or goes through it without a change: on one
    /// target, or on all. What is under way already is the answer; a deployment that failed does
    /// not wait for its hour.
    pub async fn deploy(
        &self,
        who: &Principal,
        certificate: &Id,
        target: Option<&Id>,
        demand: Demand,
    ) -> Result<Vec<JobView>, AppError> {
        require(who, Permission::CertEdit)?;
        let jobs = self
            .decide(|mut unit| async move {
                let now = self.now();
                let cert: Loaded<Certificate> = need(&mut unit, "certificate", certificate).await?;
                if let Some(ended) = cert.ended() {
                    let message = format!("certificate {certificate} is {ended}");
                    return Err(AppError::Conflict(message));
                }
                let mut jobs = Vec::new();
                for target in chosen(&cert, target)? {
                    let target: Loaded<Target> = need(&mut unit, "target", target).await?;
                    let line = cert.holders.get(&Holder::Agent(target.agent.clone()));
                    let Some(current) = line.and_then(|line| line.current.as_ref()) else {
                        continue;
                    };
                    let asked = Asked {
                        certificate: &cert,
                        target: &target,
                        current,
                        now,
                    };
                    let (job, action) = match demand {
                        Demand::Deploy => {
                            let job = self.deploy_asked(&mut unit, &asked).await?;
                            (job, "deployment_requested")
                        }
                        Demand::DryRun => {
                            let job = self.rehearsal(&mut unit, &asked).await?;
                            (job, "dry_run_requested")
                        }
                    };
                    let resource = ("certificate", certificate.as_str());
                    let event =
                        AuditEvent::new(who, Category::CertLifecycle, action, resource, now)
                            .with("target", &target.id)
                            .with("serial", &current.serial)
                            .with("job", &job.id);
                    audit(&mut unit, &event);
                    jobs.push(job);
                }
                if jobs.is_empty() {
                    return Err(AppError::Conflict(format!(
                        "certificate {certificate} has no version yet that could be deployed: \
                         `certctl certs show {certificate}` says what it waits for"
                    )));
                }
                Ok((unit, jobs))
            })
            .await?;
        self.ring_for(&jobs);
        self.job_views(jobs).await
    }

    /// Sees whether a target can be used, and what it serves.
    pub async fn test_target(&self, who: &Principal, id: &Id) -> Result<JobView, AppError> {
        require(who, Permission::TargetEdit)?;
        let job = self
            .decide(|mut unit| async move {
                let now = self.now();
                let target: Loaded<Target> = need(&mut unit, "target", id).await?;
                if target.retired.is_some() {
                    return Err(AppError::Conflict(format!(
                        "target {id} is retired, with its agent"
                    )));
                }
                let of = (None, Some(id.clone()));
                let executor = Executor::Agent(target.agent.clone());
                let job = Job::new(self.new_id("job"), JobKind::Test, of, executor, now);
                let job = self.once(&mut unit, job).await?;
                let resource = ("target", id.as_str());
                let event = AuditEvent::new(
                    who,
                    Category::Config,
                    "target_test_requested",
                    resource,
                    now,
                );
                audit(&mut unit, &event.with("job", &job.id));
                Ok((unit, job))
            })
            .await?;
        self.ring_for(std::slice::from_ref(&job));
        self.job_view(job).await
    }

    /// The newest test of a target.
    pub async fn last_test(&self, target: &Id) -> Result<Option<JobView>, AppError> {
        let tests = Key::new()
            .text(target.as_str())
            .text(JobKind::Test.wire_type());
        let scan = Scan {
            backward: true,
            ..Scan::under(JOB_TARGET, tests.bytes(), 1)
        };
        match self.store.scan::<Job>(scan).await?.pop() {
            Some(job) => Ok(Some(self.job_view(job.into_value()).await?)),
            None => Ok(None),
        }
    }

    async fn deploy_asked(&self, unit: &mut Unit<'_>, asked: &Asked<'_>) -> Result<Job, AppError> {
        let Asked {
            target,
            current,
            now,
            ..
        } = *asked;
        let id = Deployment::id_of(&current.version, &target.id);
        let mut deployment: Loaded<Deployment> = need(unit, "deployment", &id).await?;
        if !deployment.is_pending() {
            let job = self.deploy_again(unit, &mut deployment, now);
            unit.put(deployment);
            return Ok(job);
        }
        let mut job: Loaded<Job> = need(unit, "job", &deployment.job).await?;
        not_stopping(&job)?;
        job.hasten(now);
        let shown = Job::clone(&job);
        unit.put(job);
        Ok(shown)
    }

    async fn rehearsal(&self, unit: &mut Unit<'_>, asked: &Asked<'_>) -> Result<Job, AppError> {
        let kind = JobKind::Rehearse {
            version: asked.current.version.clone(),
        };
        let of = (
            Some(asked.certificate.id.clone()),
            Some(asked.target.id.clone()),
        );
        let executor = Executor::Agent(asked.target.agent.clone());
        let job = Job::new(self.new_id("job"), kind, of, executor, asked.now);
        self.once(unit, job).await
    }

    /// Queues a trial, unless one like it is open: then that one is the answer.
    async fn once(&self, unit: &mut Unit<'_>, job: Job) -> Result<Job, AppError> {
        let key = open_job_key(&job.kind, job.target.as_ref()).bytes();
        let open = self
            .store
            .scan::<Job>(Scan::under(JOB_OPEN, key, 1))
            .await?;
        if let Some(open) = open.into_iter().next() {
            not_stopping(&open)?;
            unit.rely_on(&open);
            return Ok(open.into_value());
        }
        unit.insert(job.clone());
        Ok(job)
    }

    fn ring_for(&self, jobs: &[Job]) {
        for job in jobs {
            let Executor::Agent(agent) = &job.executor;
            self.doorbell.ring(agent);
        }
    }
}

/// One target of a certificate, and what is to be deployed there.
struct Asked<'a> {
    certificate: &'a Certificate,
    target: &'a Target,
    current: &'a Current,
    now: Time,
}

/// The targets that are meant.
fn chosen<'a>(
    certificate: &'a Certificate,
    target: Option<&'a Id>,
) -> Result<Vec<&'a Id>, AppError> {
    let id = &certificate.id;
    if certificate.archived_at.is_some() {
        return Err(AppError::Conflict(format!("certificate {id} is archived")));
    }
    if certificate.targets.is_empty() {
        return Err(AppError::Conflict(format!(
            "certificate {id} has no targets: there is nothing to deploy to"
        )));
    }
    match target {
        None => Ok(certificate.targets.iter().collect()),
        Some(target) if certificate.targets.contains(target) => Ok(vec![target]),
        Some(target) => {
            let all: Vec<&str> = certificate.targets.iter().map(Id::as_str).collect();
            Err(AppError::invalid(
                "target_id",
                format!(
                    "{target} is no target of certificate {id}: it has {}",
                    all.join(", ")
                ),
            ))
        }
    }
}

fn not_stopping(job: &Job) -> Result<(), AppError> {
    if job.is_stopping() {
        return Err(AppError::Conflict(format!(
            "job {} is being stopped: try again when it has ended, within a minute",
            job.id
        )));
    }
    Ok(())
}
