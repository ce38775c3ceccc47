//! Planning deployments: a version goes to every target of its certificate on its holder's host.

use super::{App, AppError, audit, need};
use crate::{
    clock::Time,
    domain::{
        AuditEvent, Category, Certificate, Deployment, DeploymentState, Executor, Holder, Job,
        JobKind, Principal, Target, Version,
    },
    id::Id,
    store::{DEPLOYMENT_OPEN, Key, Loaded, Scan, Unit},
};

/// So many unsettled deployments of one certificate on one target are put aside at once. There is
/// one in practice: each new version puts the previous one's aside.
const OPEN_AT_MOST: usize = 16;
/// Why a deployment is put aside, mostly.
const NEWER: &str = "a newer version took its place";

impl App {
    /// Plans the deployments of a new version on an agent's targets, and puts aside those of older
    /// versions that are not settled.
    pub(crate) async fn plan_deployments(
        &self,
        unit: &mut Unit<'_>,
        certificate: &Certificate,
        version: &Version,
        agent: &Id,
        now: Time,
    ) -> Result<(), AppError> {
        for target in &certificate.targets {
            let target: Loaded<Target> = need(unit, "target", target).await?;
            if target.agent != *agent {
                continue;
            }
            self.plan_deployment(unit, certificate, version, &target, now)
                .await?;
        }
        Ok(())
    }

    /// Plans the deployment of a version on one target, and puts aside those of others there.
    pub(super) async fn plan_deployment(
        &self,
        unit: &mut Unit<'_>,
        certificate: &Certificate,
        version: &Version,
        target: &Target,
        now: Time,
    ) -> Result<(), AppError> {
        self.supersede(unit, &target.id, &certificate.id, NEWER, now)
            .await?;
        let id = Deployment::id_of(&version.id, &target.id);
        let agent = &target.agent;
        let job = self.deploy_job(&id, &certificate.id, &target.id, agent, now);
        unit.insert(Deployment {
            id,
            certificate: certificate.id.clone(),
            version: version.id.clone(),
            serial: version.serial.clone(),
            target: target.id.clone(),
            agent: agent.clone(),
            order: version.order.clone(),
            job: job.id.clone(),
            state: DeploymentState::Pending,
            created_at: now,
            last: None,
        });
        unit.insert(job);
        Ok(())
    }

    fn deploy_job(
        &self,
        deployment: &Id,
        certificate: &Id,
        target: &Id,
        agent: &Id,
        now: Time,
    ) -> Job {
        Job::new(
            self.new_id("job"),
            JobKind::Deploy {
                deployment: deployment.clone(),
            },
            (Some(certificate.clone()), Some(target.clone())),
            Executor::Agent(agent.clone()),
            now,
        )
    }

    /// Begins an ended deployment anew; returns its job.
    pub(super) fn deploy_again(
        &self,
        unit: &mut Unit<'_>,
        deployment: &mut Deployment,
        now: Time,
    ) -> Job {
        let Deployment {
            id,
            certificate,
            target,
            agent,
            ..
        } = &*deployment;
        let job = self.deploy_job(id, certificate, target, agent, now);
        deployment.job = job.id.clone();
        deployment.state = DeploymentState::Pending;
        unit.insert(job.clone());
        job
    }

    /// Puts aside the deployments of a certificate on a target that are not settled.
    pub(super) async fn supersede(
        &self,
        unit: &mut Unit<'_>,
        target: &Id,
        certificate: &Id,
        why: &str,
        now: Time,
    ) -> Result<(), AppError> {
        let of = Key::new().text(target.as_str()).text(certificate.as_str());
        let scan = Scan::under(DEPLOYMENT_OPEN, of.bytes(), OPEN_AT_MOST);
        for older in self.store.scan::<Deployment>(scan).await? {
            let mut older: Loaded<Deployment> = need(unit, "deployment", &older.id).await?;
            if !older.is_open() {
                continue;
            }
            self.set_aside(unit, &mut older, why, now).await?;
            unit.put(older);
        }
        Ok(())
    }

    async fn set_aside(
        &self,
        unit: &mut Unit<'_>,
        deployment: &mut Deployment,
        why: &str,
        now: Time,
    ) -> Result<(), AppError> {
        deployment.state = DeploymentState::Superseded { at: now };
        // The job of a deployment that has ended long ago may be forgotten.
        if let Some(mut job) = unit.load_opt::<Job>(&deployment.job).await?
            && job.is_open()
        {
            job.cancel(why.to_owned(), now);
            unit.put(job);
        }
        Ok(())
    }

    /// Tries a failed deployment again when its time has come; for the reconciler. A version that
    /// is no longer its holder's newest is left behind.
    pub(crate) async fn retry_deployment(&self, id: &Id) -> Result<(), AppError> {
        let who = &Principal::system("deployments");
        let agent = self
            .decide(|mut unit| async move {
                let now = self.now();
                let mut deployment: Loaded<Deployment> = need(&mut unit, "deployment", id).await?;
                match deployment.state {
                    DeploymentState::Failed { retry_at, .. } if retry_at <= now => {}
                    _ => return Ok((unit, None)),
                }
                let certificate: Loaded<Certificate> =
                    need(&mut unit, "certificate", &deployment.certificate).await?;
                if !is_wanted(&deployment, &certificate) {
                    self.set_aside(&mut unit, &mut deployment, NEWER, now)
                        .await?;
                    unit.put(deployment);
                    return Ok((unit, None));
                }
                let agent = deployment.agent.clone();
                self.deploy_again(&mut unit, &mut deployment, now);
                audit(
                    &mut unit,
                    &AuditEvent::new(
                        who,
                        Category::CertLifecycle,
                        "deployment_retried",
                        ("certificate", certificate.id.as_str()),
                        now,
                    )
                    .with("target", &deployment.target)
                    .with("serial", &deployment.serial),
                );
                unit.put(deployment);
                Ok((unit, Some(agent)))
            })
            .await?;
        if let Some(agent) = agent {
            self.doorbell.ring(&agent);
        }
        Ok(())
    }
}

/// Whether a deployment that failed is still what its certificate wants on the target.
pub(super) fn is_wanted(deployment: &Deployment, certificate: &Certificate) -> bool {
    let holder = Holder::Agent(deployment.agent.clone());
    let line = certificate.holders.get(&holder);
    let current = line.and_then(|line| line.current.as_ref());
    certificate.ended().is_none()
        && current.is_some_and(|current| current.version == deployment.version)
        && certificate.targets.contains(&deployment.target)
}
