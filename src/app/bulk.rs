//! Many certificates in one call: each is a decision of its own, so that one that cannot be done
//! keeps no other back. What a call that was cut has done stays done; the same call again goes on
//! with the rest, save that renewing renews again what has been renewed meanwhile.

use super::{App, AppError, audit, need, printable, require};
use crate::{
    access::Permission,
    domain::{AuditEvent, Category, Certificate, Holder, Job, JobKind, Owner, Principal, Status},
    id::Id,
    pki::Reason,
    store::{
        CERT_AGENT, CERT_ISSUER, CERT_OWNER, CERT_PROFILE, CERT_TEAM, Facet, Index, JOB_OPEN, Key,
        Loaded, Scan, open_job_key,
    },
};
use futures_util::{StreamExt, stream};
use std::collections::BTreeSet;

/// Certificates read at a time.
const PAGE: usize = 500;
/// Decisions made at once: they share commits.
const AT_ONCE: usize = 16;
/// So many errors and jobs are told one by one; the counts tell of all.
const TOLD: usize = 1_000;
/// So many certificates can be named in one call.
pub const MOST_NAMED: usize = 10_000;

/// Which certificates: all that fit every part that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of a profile.
    pub profile_id: Option<String>,
    /// Those of an owner.
    pub owner_id: Option<String>,
    /// Those with a key on an agent.
    pub agent_id: Option<String>,
    /// Those of an issuer.
    pub issuer_id: Option<String>,
    /// Those of a team.
    pub team_id: Option<String>,
    /// These, each once.
    pub ids: BTreeSet<Id>,
}

/// What became of many certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bulk {
    /// Certificates that fit.
    pub matched: u64,
    /// Those for which it was done.
    pub done: u64,
    /// Those for which there was nothing to do.
    pub skipped: u64,
    /// Those for which it could not be done.
    pub failed: u64,
    /// Why, by certificate; the first of them alone.
    pub errors: Vec<(Id, String)>,
    /// The jobs that were queued, by certificate; the first of them alone.
    pub jobs: Vec<(Id, Id)>,
}

/// What became of one.
enum Done {
    Done(Vec<Id>),
    Skipped,
}

impl Selection {
    fn indexed(&self) -> Vec<(Index, &str)> {
        let parts = [
            (CERT_PROFILE, &self.profile_id),
            (CERT_OWNER, &self.owner_id),
            (CERT_AGENT, &self.agent_id),
            (CERT_ISSUER, &self.issuer_id),
            (CERT_TEAM, &self.team_id),
        ];
        let given = parts
            .into_iter()
            .filter_map(|(i, text)| Some((i, text.as_deref()?)));
        given.collect()
    }

    fn has(&self, certificate: &Certificate) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let on_agent = |agent: &str| {
            certificate.holders.iter().any(|(holder, line)| {
                line.ended_at.is_none() && matches!(holder, Holder::Agent(a) if a.as_str() == agent)
            })
        };
        is(&self.profile_id, certificate.profile_id.as_str())
            && is(&self.owner_id, &certificate.owner_id)
            && is(&self.issuer_id, certificate.issuer_id.as_str())
            && is(&self.team_id, &certificate.team_id)
            && self.agent_id.as_deref().is_none_or(on_agent)
    }
}

impl Bulk {
    fn count(&mut self, id: &Id, outcome: Result<Done, AppError>) {
        match outcome {
            Ok(Done::Done(jobs)) => {
                self.done += 1;
                let room = TOLD.saturating_sub(self.jobs.len());
                self.jobs
                    .extend(jobs.into_iter().take(room).map(|job| (id.clone(), job)));
            }
            Ok(Done::Skipped) => self.skipped += 1,
            Err(e) => {
                self.failed += 1;
                if self.errors.len() < TOLD {
                    self.errors.push((id.clone(), e.to_string()));
                }
            }
        }
    }
}

impl App {
    /// Revokes certificates; those that are revoked already are passed over.
    pub async fn revoke_many(
        &self,
        who: &Principal,
        which: &Selection,
        reason: Reason,
    ) -> Result<Bulk, AppError> {
        require(who, Permission::CertBulkRevoke)?;
        self.each(who, which, "certificates_bulk_revoked", |cert| async move {
            if cert.revoked.is_some() {
                return Ok(Done::Skipped);
            }
            self.revoke_whole(who, &cert.id, reason).await?;
            Ok(Done::Done(Vec::new()))
        })
        .await
    }

    /// Renews certificates; those that have ended or are being renewed are passed over.
    pub async fn renew_many(&self, who: &Principal, which: &Selection) -> Result<Bulk, AppError> {
        require(who, Permission::CertIssue)?;
        self.each(who, which, "certificates_bulk_renewed", |cert| async move {
            if matches!(
                cert.status(self.now()),
                Status::Archived | Status::Revoked | Status::Expired | Status::RenewalInProgress
            ) {
                return Ok(Done::Skipped);
            }
            let mut jobs = Vec::new();
            for order in self.renew(who, &cert.id).await? {
                let kind = JobKind::Issue {
                    order: order.id,
                    first: false,
                };
                let key = open_job_key(&kind, None);
                let job = self.store.first::<Job>(JOB_OPEN, key).await?;
                jobs.extend(job.map(|job| job.id.clone()));
            }
            Ok(Done::Done(jobs))
        })
        .await
    }

    /// Gives certificates another owner, and team where one is given.
    pub async fn reassign_many(
        &self,
        who: &Principal,
        ids: &BTreeSet<Id>,
        owner: &str,
        team: Option<&str>,
    ) -> Result<Bulk, AppError> {
        require(who, Permission::CertEdit)?;
        printable("team_id", team.unwrap_or_default(), 0..=128)?;
        let id: Id = owner
            .parse()
            .map_err(|e| AppError::invalid("owner_id", e))?;
        if self.store.get::<Owner>(&id).await?.is_none() {
            let message = format!("there is no owner {id}: `certctl owners list` shows them");
            return Err(AppError::invalid("owner_id", message));
        }
        let which = Selection {
            ids: ids.clone(),
            ..Selection::default()
        };
        self.each(
            who,
            &which,
            "certificates_bulk_reassigned",
            |cert| async move { self.reassign(who, &cert.id, owner, team).await },
        )
        .await
    }

    async fn reassign(
        &self,
        who: &Principal,
        id: &Id,
        owner: &str,
        team: Option<&str>,
    ) -> Result<Done, AppError> {
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut cert: Loaded<Certificate> = need(&mut unit, "certificate", id).await?;
            let team = team.unwrap_or(&cert.team_id).to_owned();
            if cert.owner_id == owner && cert.team_id == team {
                return Ok((unit, Done::Skipped));
            }
            let event = AuditEvent::new(
                who,
                Category::CertLifecycle,
                "certificate_reassigned",
                ("certificate", id.as_str()),
                now,
            );
            let event = event.with("owner", owner).with("team", &team);
            audit(&mut unit, &event.with("owner_before", &cert.owner_id));
            cert.owner_id = owner.to_owned();
            cert.team_id = team;
            cert.updated_at = now;
            unit.put(cert);
            Ok((unit, Done::Done(Vec::new())))
        })
        .await
    }

    /// Does something for each certificate that fits, page by page, and says so in the audit log.
    async fn each<F>(
        &self,
        who: &Principal,
        which: &Selection,
        action: &'static str,
        mut work: impl FnMut(Certificate) -> F,
    ) -> Result<Bulk, AppError>
    where
        F: Future<Output = Result<Done, AppError>>,
    {
        let mut bulk = Bulk::default();
        let mut lead: Option<(u64, Index, Vec<u8>)> = None;
        for (index, text) in which.indexed() {
            let key = Key::new().text(text);
            let n = self.store.count(&Facet::is(index, key.clone())).await?;
            if lead.as_ref().is_none_or(|(fewest, ..)| n < *fewest) {
                lead = Some((n, index, key.bytes()));
            }
        }
        let ids: Vec<Id> = which.ids.iter().cloned().collect();
        let mut named = ids.chunks(PAGE);
        let mut after = None;
        loop {
            let rows: Vec<Loaded<Certificate>> = if !ids.is_empty() {
                let Some(ids) = named.next() else { break };
                let rows = self.store.get_many(ids.to_vec()).await?;
                for (id, row) in ids.iter().zip(&rows) {
                    if row.is_none() {
                        bulk.count(id, Err(AppError::not_found("certificate", id)));
                    }
                }
                rows.into_iter().flatten().collect()
            } else if let Some((_, index, key)) = &lead {
                let scan = Scan::under(*index, key.clone(), PAGE);
                let page = self.store.page(Scan { after, ..scan }).await?;
                after = page.next;
                page.rows
            } else {
                break;
            };
            let fit = rows.into_iter().filter(|row| which.has(row));
            let work = fit.map(|row| {
                let id = row.id.clone();
                let done = work(row.into_value());
                async move { (id, done.await) }
            });
            let work: Vec<_> = work.collect();
            bulk.matched += work.len() as u64;
            let mut outcomes = stream::iter(work).buffer_unordered(AT_ONCE);
            while let Some((id, outcome)) = outcomes.next().await {
                bulk.count(&id, outcome);
            }
            if ids.is_empty() && after.is_none() {
                break;
            }
        }
        self.tell(who, which, action, &bulk).await?;
        Ok(bulk)
    }

    async fn tell(
        &self,
        who: &Principal,
        which: &Selection,
        action: &'static str,
        bulk: &Bulk,
    ) -> Result<(), AppError> {
        self.decide(|mut unit| async move {
            let resource = ("certificate", "bulk");
            let mut event =
                AuditEvent::new(who, Category::CertLifecycle, action, resource, self.now())
                    .with("matched", bulk.matched)
                    .with("done", bulk.done)
                    .with("skipped", bulk.skipped)
                    .with("failed", bulk.failed);
            for (index, text) in which.indexed() {
                event = event.with(index.name, text);
            }
            if !which.ids.is_empty() {
                event = event.with("named", which.ids.len());
            }
            audit(&mut unit, &event);
            Ok((unit, ()))
        })
        .await
    }
}
