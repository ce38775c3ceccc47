//! What the doors show of the state: derived, ready to print.

use super::{
    App, AppError,
    lists::{CertificateFilter, CertificateList, Order},
    require,
};
use crate::{
    access::Permission,
    clock::Time,
    domain::{
        Agent, AuditEvent, Certificate, Deployment, DeploymentState, Holder, HolderState, Issuer,
        Observation, Owner, Plan, Principal, Profile, RenewalPolicy, Status, Target, Team,
    },
    id::Id,
    store::{AUDIT, DEPLOYMENT_RETRY, Document, Facet, Loaded, OBSERVATION_WRONG, Scan},
};

/// Failed deployments are read up to this number to find their certificates.
const FAILED_DEPLOYMENTS: usize = 1_000;

/// A target of a certificate, and its newest deployment there.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The target.
    pub target: Target,
    /// The newest deployment; none before the first version.
    pub deployment: Option<Deployment>,
    /// What was last found there; none before somebody looked.
    pub observed: Option<Observation>,
}

/// An entry of the audit log.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number.
    pub number: u64,
    /// What happened.
    pub event: AuditEvent,
}

/// A certificate as the dashboard and the command line show it.
#[derive(Debug, Clone)]
pub struct CertificateView {
    /// The certificate.
    pub certificate: Loaded<Certificate>,
    /// Its status now.
    pub status: Status,
    /// The end of the version that ends first.
    pub expires_at: Option<Time>,
    /// What happens next, a sentence.
    pub next: String,
    /// What is wrong, a sentence.
    pub problem: Option<String>,
    /// What policy rules say against it, a sentence each.
    pub warnings: Vec<String>,
    /// Its targets.
    pub deployed: Vec<Deployed>,
}

/// What the things are called that a certificate refers to. Of whom there is no row, the id stands.
#[derive(Debug, Clone)]
pub struct Called {
    /// Its issuer.
    pub issuer: String,
    /// Its profile.
    pub profile: String,
    /// Its renewal policy.
    pub policy: String,
    /// Its owner; empty where none is named.
    pub owner: String,
    /// Its team; empty where none is named.
    pub team: String,
}

/// How many certificates there are, and failed deployments of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// In all.
    pub total: u64,
    /// Of which a status is true; several may be.
    pub by_status: Vec<(Status, u64)>,
    /// Deployments that failed and are tried again.
    pub failed_deployments: u64,
    /// Places of certificates that are not as they were deployed.
    pub changed: u64,
}

/// What the dashboard's first page shows.
#[derive(Debug, Clone)]
pub struct Overview {
    /// When this was true.
    pub now: Time,
    /// Certificates: those with a problem first, then by their end. `None`: the reader may not
    /// read them.
    pub certificates: Option<Vec<CertificateView>>,
    /// There are more than are shown.
    pub more: bool,
    /// How many there are of all, shown or not. `None`: the reader may not read them.
    pub counts: Option<Counts>,
    /// The last events, newest first. `None`: the reader may not read them.
    pub events: Option<Vec<Event>>,
}

impl App {
    /// The dashboard's first page.
    pub async fn overview(
        &self,
        who: &Principal,
        certificates: usize,
        events: usize,
    ) -> Result<Overview, AppError> {
        let events = match self.events(who, u64::MAX, events).await {
            Ok(events) => Some(events),
            Err(AppError::Forbidden(_)) => None,
            Err(e) => return Err(e),
        };
        let certificates = match self.first_views(who, certificates).await {
            Ok(views) => Some(views),
            Err(AppError::Forbidden(_)) if events.is_some() => None,
            Err(e) => return Err(e),
        };
        let counts = match certificates {
            Some(_) => Some(self.count_certificates(who).await?),
            None => None,
        };
        let shown = certificates.as_ref().map_or(0, Vec::len) as u64;
        Ok(Overview {
            now: self.now(),
            more: counts.as_ref().is_some_and(|c| c.total > shown),
            certificates,
            counts,
            events,
        })
    }

    /// At most `limit` certificates: those first of which the last attempt or a deployment failed,
    /// then those that end first.
    async fn first_views(
        &self,
        who: &Principal,
        limit: usize,
    ) -> Result<Vec<CertificateView>, AppError> {
        let mut first = self.by_expiry(who, Some(Status::Failed), limit).await?;
        first.extend(self.failed_on_a_target(who, limit).await?);
        first.extend(self.changed_on_a_target(who, limit).await?);
        first.extend(self.by_expiry(who, None, limit).await?);
        let mut views: Vec<CertificateView> = Vec::with_capacity(limit);
        for certificate in first {
            if views.len() == limit {
                break;
            }
            if views.iter().all(|v| v.certificate.id != certificate.id) {
                views.push(self.view_of(certificate).await?);
            }
        }
        views.sort_by_key(|v| (v.problem.is_none(), v.expires_at));
        Ok(views)
    }

    async fn by_expiry(
        &self,
        who: &Principal,
        status: Option<Status>,
        limit: usize,
    ) -> Result<Vec<Loaded<Certificate>>, AppError> {
        let list = CertificateList {
            filter: CertificateFilter {
                status,
                ..CertificateFilter::default()
            },
            order: Order::Expiry,
            backward: false,
            cursor: None,
            skip: 0,
            limit,
        };
        Ok(self.list_certificates(who, &list).await?.listed.rows)
    }

    /// At most `limit` certificates of which a deployment failed, those first that are tried again
    /// first.
    pub async fn failed_on_a_target(
        &self,
        who: &Principal,
        limit: usize,
    ) -> Result<Vec<Loaded<Certificate>>, AppError> {
        require(who, Permission::CertRead)?;
        let scan = Scan::all(DEPLOYMENT_RETRY, FAILED_DEPLOYMENTS);
        let mut ids: Vec<Id> = Vec::new();
        for failed in self.store.scan::<Deployment>(scan).await? {
            if !ids.contains(&failed.certificate) && ids.len() < limit {
                ids.push(failed.certificate.clone());
            }
        }
        let rows = self.store.get_many(ids).await?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// At most `limit` certificates of which something was found not to be as it was deployed.
    pub async fn changed_on_a_target(
        &self,
        who: &Principal,
        limit: usize,
    ) -> Result<Vec<Loaded<Certificate>>, AppError> {
        require(who, Permission::CertRead)?;
        let scan = Scan::all(OBSERVATION_WRONG, FAILED_DEPLOYMENTS);
        let mut ids: Vec<Id> = Vec::new();
        for wrong in self.store.scan::<Observation>(scan).await? {
            if ids.last() != Some(&wrong.certificate) && ids.len() < limit {
                ids.push(wrong.certificate.clone());
            }
        }
        let rows = self.store.get_many(ids).await?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// One certificate, with what hangs on it.
    pub async fn view(&self, who: &Principal, id: &Id) -> Result<CertificateView, AppError> {
        let certificate = self.certificate(who, id).await?;
        self.view_of(certificate).await
    }

    /// A certificate that its reader has just edited: whoever may edit it is shown what became of
    /// it.
    pub async fn edited_view(&self, who: &Principal, id: &Id) -> Result<CertificateView, AppError> {
        require(who, Permission::CertEdit)?;
        let row = self.store.get::<Certificate>(id).await?;
        let row = row.ok_or_else(|| AppError::not_found("certificate", id))?;
        self.view_of(row).await
    }

    async fn view_of(&self, certificate: Loaded<Certificate>) -> Result<CertificateView, AppError> {
        let now = self.now();
        let deployed = self.deployed(&certificate).await?;
        let problem = problem(&certificate, &deployed);
        Ok(CertificateView {
            status: certificate.status(now),
            expires_at: certificate.expires_at(),
            next: self.next(&certificate, now).await?,
            warnings: self.warnings(&certificate).await?,
            problem,
            deployed,
            certificate,
        })
    }

    /// What is wrong with each of some certificates, a sentence. Their targets are looked at only
    /// while a deployment anywhere has failed, or is not as it was done.
    pub async fn problems(
        &self,
        certificates: &[Loaded<Certificate>],
    ) -> Result<Vec<Option<String>>, AppError> {
        let failed = self.store.count(&Facet::any(DEPLOYMENT_RETRY)).await? > 0
            || self.store.count(&Facet::any(OBSERVATION_WRONG)).await? > 0;
        let mut problems = Vec::with_capacity(certificates.len());
        for certificate in certificates {
            let deployed = if failed {
                self.deployed(certificate).await?
            } else {
                Vec::new()
            };
            problems.push(problem(certificate, &deployed));
        }
        Ok(problems)
    }

    /// What happens next to a certificate, as a sentence.
    async fn next(&self, certificate: &Certificate, now: Time) -> Result<String, AppError> {
        if let Some(revoked) = &certificate.revoked {
            let at = revoked.at.whole_seconds();
            return Ok(format!(
                "revoked at {at} ({}): nothing",
                revoked.reason.as_str()
            ));
        }
        if certificate.archived_at.is_some() {
            return Ok("archived: nothing".into());
        }
        let mut sentences = Vec::new();
        for (holder, line) in &certificate.holders {
            sentences.push(match (&line.plan, holder) {
                (Plan::InFlight { .. }, Holder::Agent(agent)) => {
                    let name = self.agent_name(agent).await?;
                    if self.is_online(agent).await? {
                        format!("agent {name} is making a key and CSR")
                    } else {
                        format!("waits for agent {name}, which is not online")
                    }
                }
                (plan, _) => next_of(line, plan, now),
            });
        }
        Ok(sentences.join("; "))
    }

    /// What the things are called that a certificate refers to, for whoever may read it.
    pub async fn called(
        &self,
        who: &Principal,
        certificate: &Certificate,
    ) -> Result<Called, AppError> {
        require(who, Permission::CertRead)?;
        Ok(Called {
            issuer: self
                .name_of::<Issuer>(certificate.issuer_id.as_str(), |i| &i.name)
                .await?,
            profile: self
                .name_of::<Profile>(certificate.profile_id.as_str(), |p| &p.name)
                .await?,
            policy: self
                .name_of::<RenewalPolicy>(certificate.policy_id.as_str(), |p| &p.name)
                .await?,
            owner: self
                .name_of::<Owner>(&certificate.owner_id, |o| &o.name)
                .await?,
            team: self
                .name_of::<Team>(&certificate.team_id, |t| &t.name)
                .await?,
        })
    }

    async fn name_of<T: Document>(
        &self,
        id: &str,
        name: impl Fn(&T) -> &String,
    ) -> Result<String, AppError> {
        let Ok(parsed) = id.parse::<Id>() else {
            return Ok(id.to_owned());
        };
        let row = self.store.get::<T>(&parsed).await?;
        Ok(row.map_or_else(|| id.to_owned(), |row| name(&row).clone()))
    }

    /// What people call an agent; its id once it is gone.
    pub(super) async fn agent_name(&self, id: &Id) -> Result<String, AppError> {
        let agent = self.store.get::<Agent>(id).await?;
        Ok(agent.map_or_else(|| id.to_string(), |agent| agent.into_value().name))
    }

    /// Entries of the audit log numbered below `before`, newest first.
    pub async fn events(
        &self,
        who: &Principal,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Event>, AppError> {
        require(who, Permission::AuditRead)?;
        self.entries(before, limit).await
    }

    /// As [`events`](Self::events), for what is allowed otherwise.
    pub(super) async fn entries(&self, before: u64, limit: usize) -> Result<Vec<Event>, AppError> {
        let entries = self.store.tail(AUDIT, before, limit).await?;
        let events = entries.into_iter().map(|entry| {
            let event = serde_json::from_slice(&entry.doc)
                .map_err(|e| AppError::Store(format!("audit entry {}: {e}", entry.number)))?;
            Ok(Event {
                number: entry.number,
                event,
            })
        });
        events.collect()
    }
}

fn next_of(line: &HolderState, plan: &Plan, now: Time) -> String {
    match plan {
        Plan::Scheduled { at } if *at <= now => "an order is due now".into(),
        Plan::Scheduled { at } if line.failure.is_some() => {
            format!("tried again at {}", at.whole_seconds())
        }
        Plan::Scheduled { at } => format!("renewal at {}", at.whole_seconds()),
        Plan::InFlight { order } => format!("order {order} is open"),
        Plan::Exempt { reason, .. } => reason.clone(),
    }
}

/// The first thing that is wrong: a failed attempt, or a target that does not serve what it should.
fn problem(certificate: &Certificate, deployed: &[Deployed]) -> Option<String> {
    let failure = certificate
        .holders
        .values()
        .find_map(|h| h.failure.as_ref());
    if let Some(failure) = failure {
        return Some(format!("the last attempt failed: {}", failure.message));
    }
    let mut lines = certificate.holders.values();
    let stopped = lines.find(|h| h.ended_at.is_some() || h.blocked_since.is_some());
    if let Some(Plan::Exempt { reason, .. }) = stopped.map(|h| &h.plan) {
        return Some(reason.clone());
    }
    let failed = deployed
        .iter()
        .find_map(|d| match &d.deployment.as_ref()?.state {
            DeploymentState::Failed { reason, .. } => Some(format!("{}: {reason}", d.target.name)),
            _ => None,
        });
    failed.or_else(|| {
        deployed.iter().find_map(|d| {
            let fault = d.observed.as_ref()?.fault()?;
            Some(format!("{}: {fault}", d.target.name))
        })
    })
}
