//! Closing the gap between a backup and its restore: agents show what was issued meanwhile.

use super::{App, AppError, audit, known, need};
use crate::{
    agent::protocol,
    domain::{
        AuditEvent, CaNode, Category, Certificate, Found, Holder, Issuer, IssuerKind, Job, Order,
        Plan, Principal, Profile, Restoration, Target, Version, certificate::HolderState,
        job::JobKind, order::Cause,
    },
    id::Id,
    pki::{self, Serial, check::Mismatch},
    store::{
        FOUND_AGENT, FOUND_CERT, FOUND_STATE, Facet, JOB_OPEN, Key, Loaded, Scan, Unit,
        VERSION_SERIAL, open_job_key,
    },
};

/// So many findings that were not taken up are written down: agents do not fill the store with
/// what they say they have.
const MOST_FOUND: u64 = 10_000;
/// And so many of one agent, which leaves room for the others.
const MOST_OF_AN_AGENT: u64 = 500;
/// So many are looked at together.
const PAGE: usize = 100;
/// Attempts at one cause that are looked through for a free number.
const MOST_ATTEMPTS: u32 = 1_000;

/// Why what was shown is no version of ours.
struct Refusal {
    why: String,
    /// No other certificate or CA makes it one.
    for_good: bool,
}

impl App {
    /// Takes up a version that an agent has in place and the restored store does not know: it is
    /// asked for, and is a version of ours once it was seen to come from a CA of ours. What is of
    /// no certificate or target of this store is kept until somebody makes them again.
    pub(super) async fn close_gap(
        &self,
        who: &Principal,
        agent: &Id,
        shown: &protocol::Observation,
        serial: &Serial,
    ) -> Result<(), AppError> {
        if !self.seeks_the_unknown() {
            return Ok(());
        }
        let issuers = self.store.every::<Issuer>().await?;
        for issuer in &issuers {
            let key = Key::new()
                .text(issuer.id.as_str())
                .text(&serial.to_string());
            let version = self.store.first::<Version>(VERSION_SERIAL, key).await?;
            if version.is_some_and(|version| version.certificate == shown.certificate_id) {
                return Ok(());
            }
        }
        let id = Found::id_of(&shown.certificate_id, agent, serial);
        let before = self.store.get::<Found>(&id).await?.map(Loaded::into_value);
        if before
            .as_ref()
            .is_some_and(|before| !before.is_judged_again())
        {
            return Ok(());
        }
        if before.is_none() && !self.has_place_for(agent).await? {
            tracing::warn!(%agent, %serial, "there is no room to write down what it has");
            return Ok(());
        }
        let kept = before.and_then(|before| before.chain_pem);
        let found = Found {
            id,
            certificate: shown.certificate_id.clone(),
            agent: agent.clone(),
            target: shown.target_id.clone(),
            serial: serial.clone(),
            at: self.now(),
            version: None,
            refused: None,
            chain_pem: shown.fullchain_pem.clone().or(kept),
        };
        if found.chain_pem.is_none() {
            self.watched.show(agent, &found.target);
            self.doorbell.ring(agent);
            return self.write_found(who, &found).await;
        }
        let target = self.store.get::<Target>(&found.target).await?;
        let certificate = self.store.get::<Certificate>(&found.certificate).await?;
        let placed = |certificate: &Loaded<Certificate>| {
            let of_agent = target.as_ref().is_some_and(|target| target.agent == *agent);
            of_agent && certificate.targets.contains(&found.target)
        };
        let certificate = certificate.filter(placed);
        self.judge(who, &found, certificate.as_deref(), &issuers)
            .await
    }

    /// Whether one more finding of an agent is written down.
    async fn has_place_for(&self, agent: &Id) -> Result<bool, AppError> {
        let of_agent = Facet::is(FOUND_AGENT, Key::new().text(agent.as_str()));
        let of_all = Facet::is(FOUND_STATE, Key::new().flag(false));
        Ok(self.store.count(&of_agent).await? < MOST_OF_AN_AGENT
            && self.store.count(&of_all).await? < MOST_FOUND)
    }

    /// Takes up what agents have shown of a certificate that was made again, or mended.
    pub(super) async fn take_up_found(
        &self,
        who: &Principal,
        certificate: &Certificate,
    ) -> Result<(), AppError> {
        if !self.seeks_the_unknown() {
            return Ok(());
        }
        let issuers = self.store.every::<Issuer>().await?;
        let of_certificate = Key::new().text(certificate.id.as_str()).bytes();
        let mut after = None;
        loop {
            let page = self.store.page::<Found>(Scan {
                after,
                ..Scan::under(FOUND_CERT, of_certificate.clone(), PAGE)
            });
            let page = page.await?;
            for found in page.rows {
                let holder = Holder::Agent(found.agent.clone());
                if found.chain_pem.is_some() && certificate.holders.contains_key(&holder) {
                    self.judge(who, &found, Some(certificate), &issuers).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Makes what was shown a version of a certificate, or writes down why not. Without a
    /// certificate it is only seen to be ours.
    async fn judge(
        &self,
        who: &Principal,
        found: &Found,
        certificate: Option<&Certificate>,
        issuers: &[Loaded<Issuer>],
    ) -> Result<(), AppError> {
        let pem = found.chain_pem.as_deref().unwrap_or_default();
        let ours = self.signer_of(issuers, &found.serial, pem).await?;
        let checked = match (ours, certificate) {
            (Ok((issuer, chain)), Some(certificate)) => {
                let checked = self.is_as_wanted(certificate, &chain).await?;
                checked.map(|()| Some((issuer, chain)))
            }
            (ours, _) => ours.map(|_| None),
        };
        let (refused, kept) = match checked {
            Ok(Some((issuer, chain))) => return self.adopt(who, found, &issuer, &chain).await,
            Ok(None) => (None, true),
            Err(Refusal { why, for_good }) => (Some(why), !for_good),
        };
        let found = Found {
            refused,
            chain_pem: found.chain_pem.clone().filter(|_| kept),
            ..found.clone()
        };
        self.write_found(who, &found).await
    }

    /// The issuer whose CA has signed a leaf; else why it is none of ours.
    async fn signer_of(
        &self,
        issuers: &[Loaded<Issuer>],
        serial: &Serial,
        pem: &str,
    ) -> Result<Result<(Id, pki::Chain), Refusal>, AppError> {
        let for_good = |why| {
            let for_good = true;
            Ok(Err(Refusal { why, for_good }))
        };
        let chain = match pki::Chain::from_pem(pem) {
            Ok(chain) => chain,
            Err(e) => return for_good(format!("what the agent shows is no certificate: {e}")),
        };
        let leaf = chain.leaf();
        if leaf.serial() != serial {
            let shown = leaf.serial();
            return for_good(format!("the agent shows serial {shown} instead"));
        }
        for issuer in issuers {
            let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
            let node = self.store.get::<CaNode>(issuing_node).await?;
            let node = node.and_then(|n| pki::Certificate::from_pem(&n.certificate_pem).ok());
            if node.is_some_and(|node| leaf.is_issued_by(&node)) {
                return Ok(Ok((issuer.id.clone(), chain)));
            }
        }
        // The CA may be brought here yet.
        Ok(Err(Refusal {
            why: "no CA of this store has signed it".to_owned(),
            for_good: false,
        }))
    }

    /// Whether what was shown is as one of a certificate must be; else why not.
    async fn is_as_wanted(
        &self,
        certificate: &Certificate,
        chain: &pki::Chain,
    ) -> Result<Result<(), Refusal>, AppError> {
        let (leaf, now) = (chain.leaf(), self.now());
        let profile = self.store.get::<Profile>(&certificate.profile_id).await?;
        let expected = pki::check::Expected {
            public_key: leaf.public_key(),
            sans: &certificate.sans,
            ekus: profile.as_ref().map_or(&[], |profile| &profile.ekus),
            not_after_cap: leaf.not_after(),
            anchor: None,
        };
        let checked = pki::check::returned(chain, &expected, now);
        Ok(checked.map_err(|e| Refusal {
            why: format!("it is not as the certificate wants it: {e}"),
            for_good: match e {
                // The certificate's names and its profile's uses may be mended.
                Mismatch::Names(_) | Mismatch::Use => false,
                Mismatch::NotNow(from, _) => from <= now,
                _ => true,
            },
        }))
    }

    /// Writes down that something was found, where that is news.
    async fn write_found(&self, who: &Principal, found: &Found) -> Result<(), AppError> {
        self.decide(|mut unit| async move {
            note(&mut unit, who, found.clone()).await?;
            Ok((unit, ()))
        })
        .await
    }

    /// Makes what an agent has a version, as if its order had been answered now. Where the store
    /// has issued since it was restored, the line stays as it is.
    async fn adopt(
        &self,
        who: &Principal,
        found: &Found,
        issuer: &Id,
        chain: &pki::Chain,
    ) -> Result<(), AppError> {
        let agent = &found.agent;
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut certificate: Loaded<Certificate> =
                need(&mut unit, "certificate", &found.certificate).await?;
            let restored = unit.peek::<Restoration>(&known(Restoration::ID)).await?;
            let Some(restored) = restored else {
                return Ok((unit, ()));
            };
            let holder = Holder::Agent(agent.clone());
            let line = certificate.holders.get(&holder);
            let current = line.and_then(|line| line.current.clone());
            let newer = match &current {
                Some(current) => {
                    let version: Loaded<Version> =
                        need(&mut unit, "version", &current.version).await?;
                    // Of several that were issued after the backup the last one is current, in
                    // whatever order they are shown.
                    version.created_at >= restored.restored_at
                        && version.not_before >= chain.leaf().not_before()
                }
                None => false,
            };
            let open = match line.map(|line| &line.plan) {
                Some(Plan::InFlight { order }) if !newer => Some(order.clone()),
                _ => None,
            };
            let mut order = match &open {
                Some(order) => {
                    self.withdraw_issuance(&mut unit, order).await?;
                    need::<Order>(&mut unit, "order", order).await?.into_value()
                }
                None => {
                    let cause = current.map_or(Cause::First, |c| Cause::Replaces(c.serial));
                    let id = certificate.id.clone();
                    free_order(&mut unit, id, holder.clone(), issuer, cause, now).await?
                }
            };
            order.issuer = issuer.clone();
            let version =
                if newer || certificate.ended().is_some() || line_ended(&certificate, &holder) {
                    let version = self.put_version(&mut unit, &mut order, chain, now).await?;
                    if let Some(revoked) = &mut certificate.revoked {
                        // It is revoked with the others.
                        revoked.unfinished = true;
                        unit.put(certificate);
                    }
                    version
                } else {
                    let version = self
                        .record(&mut unit, who, &mut order, &mut certificate, chain, now)
                        .await?;
                    unit.put(certificate);
                    version
                };
            match unit.load_opt::<Order>(&order.id).await? {
                Some(row) => unit.put(row.map(|_| order)),
                None => unit.insert(order),
            }
            let found = Found {
                version: Some(version.id),
                refused: None,
                ..found.clone()
            };
            note(&mut unit, who, found).await?;
            Ok((unit, ()))
        })
        .await?;
        tracing::info!(certificate = %found.certificate, serial = %found.serial,
            "a version that was issued after the backup was taken up");
        self.doorbell.ring(agent);
        Ok(())
    }

    /// Ends the job of an order that is answered already.
    async fn withdraw_issuance(&self, unit: &mut Unit<'_>, order: &Id) -> Result<(), AppError> {
        let kind = JobKind::Issue {
            order: order.clone(),
            first: false,
        };
        if let Some(job) = unit
            .first::<Job>(JOB_OPEN, open_job_key(&kind, None))
            .await?
        {
            let mut job: Loaded<Job> = need(unit, "job", &job.id).await?;
            job.cancel("the agent has the version already".to_owned(), self.now());
            unit.put(job);
        }
        Ok(())
    }
}

fn line_ended(certificate: &Certificate, holder: &Holder) -> bool {
    let line: Option<&HolderState> = certificate.holders.get(holder);
    line.is_none_or(|line| line.ended_at.is_some())
}

/// An order for a cause under the first number that no attempt has.
async fn free_order(
    unit: &mut Unit<'_>,
    certificate: Id,
    holder: Holder,
    issuer: &Id,
    cause: Cause,
    now: crate::clock::Time,
) -> Result<Order, AppError> {
    for attempt in 1..MOST_ATTEMPTS {
        let (cause, holder) = (cause.clone(), holder.clone());
        let id = Order::id_of(&certificate, &holder, &cause, attempt);
        if unit.load_opt::<Order>(&id).await?.is_none() {
            let issuer = issuer.clone();
            return Ok(Order::open(
                certificate,
                holder,
                issuer,
                cause,
                attempt,
                now,
            ));
        }
    }
    Err(AppError::Busy)
}

/// Writes what was found into the unit, and tells of it, where that is news.
async fn note(unit: &mut Unit<'_>, who: &Principal, found: Found) -> Result<(), AppError> {
    let old = unit.load_opt::<Found>(&found.id).await?;
    let says = |found: &Found| (found.version.clone(), found.refused.clone());
    let is_news = old.as_ref().is_none_or(|old| says(old) != says(&found));
    if !is_news
        && old
            .as_ref()
            .is_some_and(|old| old.chain_pem == found.chain_pem)
    {
        return Ok(());
    }
    let action = match (&found.version, &found.refused) {
        (Some(_), _) => "version_taken_up",
        (None, Some(_)) => "version_not_taken_up",
        (None, None) => "unknown_version_found",
    };
    let resource = ("certificate", found.certificate.as_str());
    let event = AuditEvent::new(who, Category::CertLifecycle, action, resource, found.at)
        .with("serial", &found.serial)
        .with("target", &found.target);
    let event = match &found.refused {
        Some(why) => event.with("reason", why),
        None => event,
    };
    if is_news {
        audit(unit, &event);
    }
    match old {
        Some(old) => unit.put(old.map(|_| found)),
        None => unit.insert(found),
    }
    Ok(())
}
