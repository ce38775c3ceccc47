//! The end of certificates: revoked for cause, or put away.

use super::{App, AppError, Expected, audit, lifecycle, need, require};
use crate::{
    access::Permission,
    clock::Time,
    domain::{
        AuditEvent, Category, Certificate, Issuer, IssuerKind, Plan, Principal, Revocation,
        Revoked, Version,
    },
    id::Id,
    pki::Reason,
    store::{Key, Loaded, Scan, Unit, VERSION_CERT},
};

/// Versions revoked in one commit. A certificate has a handful that are good at the same time, but
/// a requester may have asked for thousands.
const AT_ONCE: usize = 500;

impl App {
    /// Revokes every version of a certificate that has not ended by itself, whoever holds or held
    /// its key, and ends all that goes on for it: nothing is issued, renewed or deployed for it any
    /// more. One that is put away can be revoked too: its versions stayed good.
    pub async fn revoke(
        &self,
        who: &Principal,
        certificate: &Id,
        reason: Reason,
    ) -> Result<Certificate, AppError> {
        require(who, Permission::CertRevoke)?;
        self.revoke_whole(who, certificate, reason).await
    }

    pub(super) async fn revoke_whole(
        &self,
        who: &Principal,
        certificate: &Id,
        reason: Reason,
    ) -> Result<Certificate, AppError> {
        let revoked = self
            .decide(|unit| self.begin_revocation(unit, who, certificate, reason))
            .await?;
        self.ring_holders(&revoked);
        if revoked.revoked.as_ref().is_some_and(|r| r.unfinished) {
            self.revoke_rest(who, certificate).await?;
        }
        Ok(revoked)
    }

    /// Ends a certificate and revokes its versions: as many as one commit can, the rest follows.
    async fn begin_revocation<'a>(
        &self,
        mut unit: Unit<'a>,
        who: &Principal,
        id: &Id,
        reason: Reason,
    ) -> Result<(Unit<'a>, Certificate), AppError> {
        let now = self.now();
        let mut cert: Loaded<Certificate> = need(&mut unit, "certificate", id).await?;
        if cert.revoked.is_some() {
            let message = format!("certificate {id} is revoked already");
            return Err(AppError::invalid("status", message));
        }
        // A holder that was taken away has left versions behind.
        let none = cert.current().next().is_none()
            && self
                .revocations(&mut unit, &cert, reason, now)
                .await?
                .0
                .is_empty();
        if none {
            return Err(AppError::NotFound {
                kind: "version of certificate",
                id: id.to_string(),
            });
        }
        let why = "the certificate was revoked";
        self.end_all(&mut unit, who, &mut cert, why, now).await?;
        cert.revoke(reason, &who.name, now);
        let event = AuditEvent::new(
            who,
            Category::CertLifecycle,
            "certificate_revoked",
            ("certificate", id.as_str()),
            now,
        );
        audit(&mut unit, &event.with("reason", reason.as_str()));
        let left = self.revoke_versions(&mut unit, who, &cert).await?;
        if let Some(revoked) = &mut cert.revoked {
            revoked.unfinished = left;
        }
        let shown = Certificate::clone(&cert);
        unit.put(cert);
        Ok((unit, shown))
    }

    /// Revokes the versions that a revocation has left, commit by commit.
    async fn revoke_rest(&self, who: &Principal, id: &Id) -> Result<(), AppError> {
        loop {
            let left = self
                .decide(|mut unit| async move {
                    let mut cert: Loaded<Certificate> = need(&mut unit, "certificate", id).await?;
                    if !cert.revoked.as_ref().is_some_and(|r| r.unfinished) {
                        return Ok((unit, false));
                    }
                    let left = self.revoke_versions(&mut unit, who, &cert).await?;
                    if let Some(revoked) = cert.revoked.as_mut().filter(|_| !left) {
                        revoked.unfinished = false;
                        unit.put(cert);
                    }
                    Ok((unit, left))
                })
                .await?;
            if !left {
                return Ok(());
            }
        }
    }

    /// Goes on with a revocation that was cut; for the reconciler.
    pub(crate) async fn finish_revocation(&self, id: &Id) -> Result<(), AppError> {
        self.revoke_rest(&Principal::system("revocations"), id)
            .await
    }

    /// Revokes the first versions of a revoked certificate that are good and not revoked; says
    /// whether there are more.
    async fn revoke_versions(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        cert: &Certificate,
    ) -> Result<bool, AppError> {
        let Some(Revoked { at, reason, .. }) = cert.revoked else {
            return Ok(false);
        };
        let (revocations, left) = self.revocations(unit, cert, reason, at).await?;
        for revocation in revocations {
            let event = AuditEvent::new(
                who,
                Category::CertLifecycle,
                "version_revoked",
                ("certificate", cert.id.as_str()),
                self.now(),
            )
            .with("serial", &revocation.serial)
            .with("ca_node", &revocation.node)
            .with("reason", reason.as_str());
            audit(unit, &event);
            unit.insert(revocation);
        }
        Ok(left)
    }

    /// Rows for versions that are good and not revoked, [`AT_ONCE`] at most, as of `now`; whether
    /// there are more. A new version changes the certificate, which the decision rests on.
    async fn revocations(
        &self,
        unit: &mut Unit<'_>,
        cert: &Certificate,
        reason: Reason,
        now: Time,
    ) -> Result<(Vec<Revocation>, bool), AppError> {
        let of = Key::new().text(cert.id.as_str()).bytes();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .store
                .page::<Version>(Scan {
                    after,
                    ..Scan::under(VERSION_CERT, of.clone(), AT_ONCE)
                })
                .await?;
            for version in page.rows.iter().filter(|v| v.not_after > now) {
                let issuer: Loaded<Issuer> = need(unit, "issuer", &version.issuer).await?;
                let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
                let id = Revocation::id_of(issuing_node, &version.serial);
                if unit.peek::<Revocation>(&id).await?.is_some() {
                    continue;
                }
                if found.len() == AT_ONCE {
                    return Ok((found, true));
                }
                found.push(Revocation {
                    id,
                    node: issuing_node.clone(),
                    serial: version.serial.clone(),
                    certificate: cert.id.clone(),
                    version: version.id.clone(),
                    at: now,
                    reason,
                    not_after: version.not_after,
                });
            }
            after = page.next;
            if after.is_none() {
                return Ok((found, false));
            }
        }
    }

    /// Puts a certificate away: it stays readable, and nothing is due for it any more. Its versions
    /// stay good until they end. Putting it away again changes nothing.
    pub async fn archive(
        &self,
        who: &Principal,
        id: &Id,
        expected: &Expected,
    ) -> Result<Certificate, AppError> {
        require(who, Permission::CertDelete)?;
        let certificate = self
            .decide(|mut unit| async move {
                let now = self.now();
                let mut cert: Loaded<Certificate> = need(&mut unit, "certificate", id).await?;
                expected.met_by(&cert)?;
                if cert.archived_at.is_some() {
                    return Ok((unit, cert.into_value()));
                }
                self.end_all(
                    &mut unit,
                    who,
                    &mut cert,
                    "the certificate was archived",
                    now,
                )
                .await?;
                if cert.revoked.is_some() {
                    cert.archived_at = Some(now);
                } else {
                    cert.archive(&who.name, now);
                }
                let resource = ("certificate", id.as_str());
                let event = AuditEvent::new(
                    who,
                    Category::CertLifecycle,
                    "certificate_archived",
                    resource,
                    now,
                );
                audit(&mut unit, &event);
                let shown = Certificate::clone(&cert);
                unit.put(cert);
                Ok((unit, shown))
            })
            .await?;
        self.ring_holders(&certificate);
        Ok(certificate)
    }

    /// Ends the open orders of a certificate with their jobs, and its unsettled deployments.
    async fn end_all(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        cert: &mut Certificate,
        why: &str,
        now: Time,
    ) -> Result<(), AppError> {
        let open: Vec<Id> = cert
            .holders
            .values()
            .filter_map(|line| match &line.plan {
                Plan::InFlight { order } => Some(order.clone()),
                _ => None,
            })
            .collect();
        for order in open {
            lifecycle::close_order(unit, who, cert, &order, why, now).await?;
        }
        for target in cert.targets.clone() {
            self.supersede(unit, &target, &cert.id, why, now).await?;
        }
        for line in cert.holders.values_mut() {
            line.failure = None;
        }
        Ok(())
    }

    fn ring_holders(&self, certificate: &Certificate) {
        for holder in certificate.holders.keys() {
            if let crate::domain::Holder::Agent(agent) = holder {
                self.doorbell.ring(agent);
            }
        }
    }
}
