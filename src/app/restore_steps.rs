//! The steps of a plan: what the loops would find due, and what agents would be given, if the fence
//! were lifted now. Nothing is written.

use super::{
    App, AppError, Named,
    deploy::is_wanted,
    replan::{plan_anew, rest_of},
};
use crate::{
    clock::Time,
    domain::{
        Agent, Certificate, Deployment, DeploymentState, Edited, Executor, Holder, Job, Plan,
        RenewalPolicy, Replan, Version, job::JobKind,
    },
    id::Id,
    store::{
        AGENT_KEYS_LOST, AGENT_LEAVING, CERT_AGENT, CERT_DUE, CERT_UNFINISHED, DEPLOYMENT_RETRY,
        Document, Index, JOB_STATUS, Key, Loaded, REPLAN_SINCE, Scan,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Of so many of a kind the first ones are chosen.
pub(super) const LOOKED_AT: usize = 1_000;

/// What is done in a step: what can least be undone comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Does {
    /// The revocation of a certificate is finished.
    Revoke,
    /// A version is put on a target.
    Deploy,
    /// An agent makes a key for an open order, and a version is issued.
    Issue,
    /// An order is opened.
    Renew,
    /// A deployment is gone through without changing what is served.
    DryRun,
    /// A target is looked at.
    Test,
}

/// One thing that the server would do.
#[derive(Debug, Clone)]
pub struct Step {
    /// What.
    pub does: Does,
    /// For this certificate.
    pub certificate: Option<Named>,
    /// On this target.
    pub target: Option<Named>,
    /// By this agent.
    pub agent: Option<Named>,
    /// The job that is handed out.
    pub job: Option<Id>,
    /// Since when, or from when on.
    pub due: Time,
    /// That moment has not come yet.
    pub later: bool,
    /// When the version in force ends.
    pub ends: Option<Time>,
}

impl Does {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::Deploy => "deploy",
            Self::Issue => "issue",
            Self::Renew => "renew",
            Self::DryRun => "dry_run",
            Self::Test => "test",
        }
    }
}

/// What was gathered.
#[derive(Default)]
struct Steps {
    /// Orders, one for each line: several reasons lead to the same.
    renewals: BTreeMap<(Id, Holder), Step>,
    others: Vec<Step>,
    /// There is more than was looked at.
    more: bool,
}

impl App {
    /// What would be done, in its order, and whether there is more than was looked at.
    pub(super) async fn steps(&self) -> Result<(Vec<Step>, bool), AppError> {
        let now = self.now();
        let mut steps = Steps::default();
        for certificate in self.due_rows::<Certificate>(CERT_DUE, &mut steps).await? {
            steps.renew_due(&certificate, now);
        }
        self.orders_for_lost_keys(&mut steps).await?;
        self.orders_after_edits(&mut steps).await?;
        let unfinished = self.due_rows::<Certificate>(CERT_UNFINISHED, &mut steps);
        for certificate in unfinished.await? {
            let revoked = certificate.revoked.as_ref();
            let at = revoked.map_or(now, |revoked| revoked.at);
            let step = Step::of(Does::Revoke, &certificate, at);
            steps.others.push(step);
        }
        self.handed_out(&mut steps).await?;
        self.retried(&mut steps).await?;
        // What hangs on agents that are gone ends, and nobody is given it.
        let gone = self.due_rows::<Agent>(AGENT_LEAVING, &mut steps).await?;
        let gone: BTreeSet<&Id> = gone.iter().map(|agent| &agent.id).collect();
        let is_gone = |step: &Step| matches!(&step.agent, Some(agent) if gone.contains(&agent.id));
        let mut all: Vec<Step> = steps.renewals.into_values().chain(steps.others).collect();
        all.retain(|step| !is_gone(step));
        for step in &mut all {
            step.later = step.due > now;
        }
        all.sort_by(|a, b| a.place().cmp(&b.place()));
        Ok((all, steps.more))
    }

    /// Rows of an index whose moment has come.
    async fn due_rows<T: Document>(
        &self,
        index: Index,
        steps: &mut Steps,
    ) -> Result<Vec<Loaded<T>>, AppError> {
        let due = Scan {
            below: Some(Key::new().time(self.now().next()).bytes()),
            ..Scan::all(index, LOOKED_AT)
        };
        self.first_of(due, steps).await
    }

    /// Rows of a scan, with a note where it may have more.
    async fn first_of<T: Document>(
        &self,
        scan: Scan,
        steps: &mut Steps,
    ) -> Result<Vec<Loaded<T>>, AppError> {
        let limit = scan.limit;
        let rows = self.store.scan::<T>(scan).await?;
        steps.more |= rows.len() >= limit;
        Ok(rows)
    }

    /// Orders for what agents had before they lost their keys.
    async fn orders_for_lost_keys(&self, steps: &mut Steps) -> Result<(), AppError> {
        let mut left = LOOKED_AT;
        for agent in self.due_rows::<Agent>(AGENT_KEYS_LOST, steps).await? {
            let Some(lost_at) = agent.keys_lost_at else {
                continue;
            };
            let of_agent = Key::new().text(agent.id.as_str()).bytes();
            let held = Scan::under(CERT_AGENT, of_agent, left);
            let held = self.first_of::<Certificate>(held, steps).await?;
            left -= held.len();
            let holder = Holder::Agent(agent.id.clone());
            let planned = |certificate: &Certificate| {
                let line = certificate.holders.get(&holder)?;
                let alive = certificate.ended().is_none();
                let planned = alive && matches!(line.plan, Plan::Scheduled { .. });
                let current = line.current.as_ref().filter(|_| planned)?;
                Some(current.version.clone())
            };
            let versions = held.iter().filter_map(|row| planned(row)).collect();
            let versions = self.store.get_many::<Version>(versions).await?;
            let versions = versions.iter().flatten();
            let old = versions.filter(|version| version.created_at < lost_at);
            let old: BTreeSet<&Id> = old.map(|version| &version.id).collect();
            for certificate in &held {
                if planned(certificate).is_some_and(|version| old.contains(&version)) {
                    steps.renew(certificate, &holder, lost_at);
                }
            }
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Orders that are due once what was edited before the backup is planned anew to the end.
    async fn orders_after_edits(&self, steps: &mut Steps) -> Result<(), AppError> {
        let now = self.now();
        let mut left = LOOKED_AT;
        for edit in self.due_rows::<Replan>(REPLAN_SINCE, steps).await? {
            let policy = match &edit.of {
                Edited::RenewalPolicy(id) => match self.store.get::<RenewalPolicy>(id).await? {
                    Some(policy) => Some(policy),
                    None => continue,
                },
                _ => None,
            };
            let rest = self
                .first_of::<Certificate>(rest_of(&edit, left), steps)
                .await?;
            left -= rest.len();
            for certificate in rest {
                let mut certificate = certificate.into_value();
                plan_anew(&mut certificate, policy.as_deref(), now);
                steps.renew_due(&certificate, now);
            }
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// What agents are given: what waits, and what was being run when the backup was taken.
    async fn handed_out(&self, steps: &mut Steps) -> Result<(), AppError> {
        for status in ["Pending", "Running"] {
            // By creation, and so of all agents: ids begin with the time.
            let of_status = Key::new().text(status).bytes();
            let scan = Scan::under(JOB_STATUS, of_status, LOOKED_AT);
            for job in self.first_of::<Job>(scan, steps).await? {
                let Some(due) = job.begins_again_at() else {
                    continue;
                };
                let does = match job.kind {
                    JobKind::Issue { .. } => Does::Issue,
                    JobKind::Deploy { .. } => Does::Deploy,
                    JobKind::Rehearse { .. } => Does::DryRun,
                    JobKind::Test => Does::Test,
                };
                let Executor::Agent(agent) = &job.executor;
                steps.others.push(Step {
                    does,
                    certificate: job.certificate.as_ref().map(Named::unnamed),
                    target: job.target.as_ref().map(Named::unnamed),
                    agent: Some(Named::unnamed(agent)),
                    job: Some(job.id.clone()),
                    due,
                    later: false,
                    ends: None,
                });
            }
        }
        Ok(())
    }

    /// Deployments that failed, and are tried again.
    async fn retried(&self, steps: &mut Steps) -> Result<(), AppError> {
        let failed = Scan::all(DEPLOYMENT_RETRY, LOOKED_AT);
        let failed = self.first_of::<Deployment>(failed, steps).await?;
        let ids: BTreeSet<Id> = failed.iter().map(|d| d.certificate.clone()).collect();
        let rows = self
            .store
            .get_many::<Certificate>(ids.into_iter().collect());
        let rows = rows.await?;
        let rows = rows.iter().flatten();
        let certificates: BTreeMap<&Id, _> = rows.map(|row| (&row.id, row)).collect();
        for deployment in &failed {
            let (Some(certificate), DeploymentState::Failed { retry_at, .. }) =
                (certificates.get(&deployment.certificate), &deployment.state)
            else {
                continue;
            };
            if is_wanted(deployment, certificate) {
                steps.others.push(Step {
                    target: Some(Named::unnamed(&deployment.target)),
                    agent: Some(Named::unnamed(&deployment.agent)),
                    ..Step::of(Does::Deploy, certificate, *retry_at)
                });
            }
        }
        Ok(())
    }
}

impl Steps {
    /// The orders of a certificate whose moment has come.
    fn renew_due(&mut self, certificate: &Certificate, now: Time) {
        for (holder, at) in certificate.due().filter(|(_, at)| *at <= now) {
            self.renew(certificate, holder, at);
        }
    }

    fn renew(&mut self, certificate: &Certificate, holder: &Holder, due: Time) {
        let line = certificate.holders.get(holder);
        let current = line.and_then(|line| line.current.as_ref());
        let step = || Step {
            agent: match holder {
                Holder::Agent(id) => Some(Named::unnamed(id)),
                Holder::Requester => None,
            },
            ends: current.map(|current| current.not_after),
            ..Step::of(Does::Renew, certificate, due)
        };
        let line = (certificate.id.clone(), holder.clone());
        self.renewals.entry(line).or_insert_with(step);
    }
}

impl Step {
    fn of(does: Does, certificate: &Certificate, due: Time) -> Self {
        Self {
            does,
            certificate: Some(Named::unnamed(&certificate.id)),
            target: None,
            agent: None,
            job: None,
            due,
            later: false,
            ends: None,
        }
    }

    /// Where it stands among others.
    pub(super) fn place(&self) -> (bool, Does, Time, [Option<&Id>; 4]) {
        let ids = [&self.certificate, &self.target, &self.agent];
        let [certificate, target, agent] = ids.map(|named| named.as_ref().map(|named| &named.id));
        (
            self.later,
            self.does,
            self.due,
            [certificate, target, agent, self.job.as_ref()],
        )
    }
}
