//! What a restored server would do at once, and what it does not know.

use super::{App, AppError, known, require};
use crate::{
    access::Permission,
    clock::Time,
    domain::{
        Agent, Certificate, Executor, Found, Holder, Job, Principal, Restoration, Target,
        job::JobKind,
    },
    id::Id,
    pki,
    store::{CERT_DUE, CERT_UNFINISHED, Document, FOUND_AT, Index, JOB_DUE, Key, Loaded, Scan},
};
use std::collections::{BTreeMap, BTreeSet};

/// So many steps, and so many versions, are named; of more it is only said that there are more.
const NAMED: usize = 100;
/// Of so many of a kind the first ones are chosen.
const LOOKED_AT: usize = 1_000;

/// What a restored server would do at once, and what it does not know.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// What is known of the restore.
    pub restoration: Restoration,
    /// What it would do: first what can least be undone, and of that what is due first.
    pub steps: Vec<Step>,
    /// What agents have and the store did not know: first what asks for somebody, and of that what
    /// ends first.
    pub found: Vec<Unknown>,
    /// There are more than are named.
    pub more: bool,
}

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

/// Something by its id and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: Id,
    /// Its name; nothing where there is none in this store.
    pub name: Option<String>,
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
    /// When the version in force ends.
    pub ends: Option<Time>,
}

/// A version that an agent had and the restored store did not know.
#[derive(Debug, Clone)]
pub struct Unknown {
    /// What was found.
    pub found: Found,
    /// Its certificate.
    pub certificate: Named,
    /// The target where it was found.
    pub target: Named,
    /// The agent that has it.
    pub agent: Named,
    /// The names in it; empty while it was not shown.
    pub names: Vec<String>,
    /// When it ends, where that was shown.
    pub ends: Option<Time>,
    /// What somebody should do.
    pub advice: Option<String>,
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

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) if name != self.id.as_str() => write!(f, "{name} ({})", self.id),
            _ => write!(f, "{}", self.id),
        }
    }
}

impl App {
    /// The last restore, and what the server would do; `None` where the store was never restored.
    pub async fn restore_plan(&self, who: &Principal) -> Result<Option<RestorePlan>, AppError> {
        require(who, Permission::BackupRead)?;
        let id = known(Restoration::ID);
        let Some(restoration) = self.store.get::<Restoration>(&id).await? else {
            return Ok(None);
        };
        let (mut steps, many) = self.steps().await?;
        let found = self.store.scan::<Found>(Scan::all(FOUND_AT, LOOKED_AT));
        let found = found.await?;
        let more = many || found.len() >= LOOKED_AT || steps.len().max(found.len()) > NAMED;
        steps.sort_by(|a, b| a.place().cmp(&b.place()));
        steps.truncate(NAMED);
        let mut found: Vec<Unknown> = found.into_iter().map(Unknown::of).collect();
        found.sort_by_key(Unknown::place);
        found.truncate(NAMED);
        self.name_all(&mut steps, &mut found).await?;
        for unknown in &mut found {
            unknown.advice = unknown.advise();
        }
        Ok(Some(RestorePlan {
            restoration: restoration.into_value(),
            steps,
            found,
            more,
        }))
    }

    /// What would be done, and whether there is more than was looked at.
    async fn steps(&self) -> Result<(Vec<Step>, bool), AppError> {
        let now = self.now();
        let mut steps = Vec::new();
        let due = self.due_rows::<Certificate>(CERT_DUE).await?;
        let unfinished = self.due_rows::<Certificate>(CERT_UNFINISHED).await?;
        let jobs = self
            .store
            .scan::<Job>(Scan::all(JOB_DUE, LOOKED_AT))
            .await?;
        let many = due.len().max(unfinished.len()).max(jobs.len()) >= LOOKED_AT;
        // A certificate stands under each of its moments.
        let due: BTreeMap<Id, _> = due.into_iter().map(|c| (c.id.clone(), c)).collect();
        for certificate in due.values() {
            for (holder, at) in certificate.due().filter(|(_, at)| *at <= now) {
                let current = certificate.holders.get(holder);
                let current = current.and_then(|line| line.current.as_ref());
                steps.push(Step {
                    agent: match holder {
                        Holder::Agent(id) => Some(Named::unnamed(id)),
                        Holder::Requester => None,
                    },
                    ends: current.map(|current| current.not_after),
                    ..Step::of(Does::Renew, certificate, at)
                });
            }
        }
        for certificate in unfinished {
            let at = certificate
                .revoked
                .as_ref()
                .map_or(now, |revoked| revoked.at);
            steps.push(Step::of(Does::Revoke, &certificate, at));
        }
        for job in jobs {
            let does = match job.kind {
                JobKind::Issue { .. } => Does::Issue,
                JobKind::Deploy { .. } => Does::Deploy,
                JobKind::Rehearse { .. } => Does::DryRun,
                JobKind::Test => Does::Test,
            };
            let Executor::Agent(agent) = &job.executor;
            steps.push(Step {
                does,
                certificate: job.certificate.as_ref().map(Named::unnamed),
                target: job.target.as_ref().map(Named::unnamed),
                agent: Some(Named::unnamed(agent)),
                due: job.ready_at().unwrap_or(job.created_at),
                job: Some(job.id.clone()),
                ends: None,
            });
        }
        Ok((steps, many))
    }

    async fn due_rows<T: Document>(&self, index: Index) -> Result<Vec<Loaded<T>>, AppError> {
        let due = Scan {
            below: Some(Key::new().time(self.now().next()).bytes()),
            ..Scan::all(index, LOOKED_AT)
        };
        Ok(self.store.scan::<T>(due).await?)
    }

    /// Gives everything that is named its name.
    async fn name_all(&self, steps: &mut [Step], found: &mut [Unknown]) -> Result<(), AppError> {
        let certificates = steps.iter_mut().filter_map(|s| s.certificate.as_mut());
        let certificates = certificates.chain(found.iter_mut().map(|u| &mut u.certificate));
        self.name::<Certificate>(certificates.collect(), |c| &c.name)
            .await?;
        let targets = steps.iter_mut().filter_map(|s| s.target.as_mut());
        let targets = targets.chain(found.iter_mut().map(|u| &mut u.target));
        self.name::<Target>(targets.collect(), |t| &t.name).await?;
        let agents = steps.iter_mut().filter_map(|s| s.agent.as_mut());
        let agents = agents.chain(found.iter_mut().map(|u| &mut u.agent));
        self.name::<Agent>(agents.collect(), |a| &a.name).await
    }

    async fn name<T: Document>(
        &self,
        all: Vec<&mut Named>,
        name: fn(&T) -> &str,
    ) -> Result<(), AppError> {
        let ids: BTreeSet<Id> = all.iter().map(|named| named.id.clone()).collect();
        let rows = self.store.get_many::<T>(ids.into_iter().collect()).await?;
        let rows = rows.iter().flatten();
        let names: BTreeMap<&Id, &str> = rows.map(|row| (row.id(), name(row))).collect();
        for named in all {
            named.name = names.get(&named.id).map(|name| (*name).to_owned());
        }
        Ok(())
    }
}

impl Named {
    fn unnamed(id: &Id) -> Self {
        let id = id.clone();
        Self { id, name: None }
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
            ends: None,
        }
    }

    /// Where it stands among others; no two have the same place.
    fn place(&self) -> (Does, Time, [Option<&Id>; 4]) {
        let ids = [&self.certificate, &self.target, &self.agent];
        let [certificate, target, agent] = ids.map(|named| named.as_ref().map(|named| &named.id));
        (
            self.does,
            self.due,
            [certificate, target, agent, self.job.as_ref()],
        )
    }
}

impl Unknown {
    fn of(found: Loaded<Found>) -> Self {
        let found = found.into_value();
        let chain = found.chain_pem.as_deref().map(pki::Chain::from_pem);
        let chain = chain.and_then(Result::ok);
        let leaf = chain.as_ref().map(pki::Chain::leaf);
        Self {
            certificate: Named::unnamed(&found.certificate),
            target: Named::unnamed(&found.target),
            agent: Named::unnamed(&found.agent),
            names: leaf.map_or(Vec::new(), |leaf| {
                leaf.sans().iter().map(ToString::to_string).collect()
            }),
            ends: leaf.map(|leaf| leaf.not_after()),
            advice: None,
            found,
        }
    }

    fn place(&self) -> (bool, bool, Option<Time>, Id) {
        let (taken_up, refused) = (self.found.version.is_some(), self.found.refused.is_some());
        (taken_up, !refused, self.ends, self.found.id.clone())
    }

    /// What somebody should do about it, where it does not come right by itself.
    fn advise(&self) -> Option<String> {
        if self.found.version.is_some() {
            return None;
        }
        let (certificate, target) = (&self.certificate.id, &self.target.id);
        let agent = &self.agent.id;
        if self.found.refused.is_some() {
            return Some(match &self.certificate.name {
                Some(_) => format!(
                    "see what it is, and have it replaced: `certctl certs renew {certificate}`"
                ),
                None => format!(
                    "see what it is; where it is wanted, make certificate {certificate} again"
                ),
            });
        }
        let mut steps = Vec::new();
        if self.target.name.is_none() {
            steps.push(format!(
                "make its target again: `certctl targets create {target} --id {target} --agent \
                 {agent} --type TYPE`"
            ));
        }
        match (&self.certificate.name, self.names.split_first()) {
            (None, Some((name, others))) => {
                let others = others.iter().map(|name| format!(" --san {name}"));
                let others: String = others.collect();
                steps.push(format!(
                    "make the certificate again: `certctl certs create {name}{others} --id \
                     {certificate} --target {target}` takes up what the agent has"
                ));
            }
            (None, None) => return None,
            (Some(_), _) => {
                steps.push(format!("give it to the certificate: `certctl certs edit {certificate} --target {target}`, beside the targets that it has"));
            }
        }
        let known = self.certificate.name.is_some() && self.target.name.is_some();
        (!known).then(|| format!("once the fence is lifted, {}", steps.join("; then ")))
    }
}
