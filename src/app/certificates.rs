//! Certificates: making and reading them.

use super::{
    App, AppError, ISSUER_LOCAL, POLICY_DEFAULT, PROFILE_DEFAULT, audit, free, issue, known,
    lifecycle, need, printable, require, views::Deployed,
};
use crate::{
    access::Permission,
    domain::{
        AuditEvent, Category, Certificate, Deployment, Holder, HolderState, Issuer, Observation,
        Order, Principal, Profile, RenewalPolicy, Target, Version, once::Once,
    },
    id::Id,
    pki::{San, Sans},
    store::{DEPLOYMENT_ORDER, Facet, Key, Loaded, Scan, VERSION_CERT},
};
use std::collections::BTreeMap;

/// The most subject alternative names of a certificate.
const MAX_NAMES: usize = 100;
/// The most targets of a certificate.
const MAX_TARGETS: usize = 100;

/// What stands where an id does in paths.
const RESERVED: [&str; 3] = ["bulk-reassign", "bulk-renew", "bulk-revoke"];
/// The most tags of a certificate.
const MAX_TAGS: usize = 64;

/// A certificate to make.
#[derive(Debug, Clone, Default)]
pub struct NewCertificate {
    /// Its id; made when absent.
    pub id: Option<Id>,
    /// A name for people.
    pub name: String,
    /// The subject's common name.
    pub common_name: String,
    /// Further names.
    pub sans: Vec<String>,
    /// E.g. production.
    pub environment: String,
    /// Who answers for it.
    pub owner_id: String,
    /// The owner's team.
    pub team_id: String,
    /// Where versions come from; the local CA when absent.
    pub issuer_id: Option<Id>,
    /// What may be issued; the default profile when absent.
    pub profile_id: Option<Id>,
    /// When to renew; the default policy when absent.
    pub policy_id: Option<Id>,
    /// Where versions are put.
    pub targets: Vec<Id>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// A CSR for the first version, when the key is outside.
    pub csr_pem: Option<String>,
}

/// One order, with what came of it.
#[derive(Debug, Clone)]
pub struct OrderStory {
    /// The order.
    pub order: Order,
    /// Its version.
    pub version: Option<Version>,
    /// Where the version was to go.
    pub deployments: Vec<Deployed>,
}

impl App {
    /// Makes a certificate and sets its first issuance going, in one commit.
    pub async fn create_certificate(
        &self,
        who: &Principal,
        new: &NewCertificate,
        once: Option<&Once>,
    ) -> Result<Certificate, AppError> {
        require(who, Permission::CertIssue)?;
        let (common_name, sans) = &names(&new.common_name, &new.sans)?;
        let csr = &new.csr_pem.as_deref().map(issue::parse_csr).transpose()?;
        let made = self
            .create(who, once, |mut unit| async move {
                let now = self.now();
                if let Some(id) = &new.id {
                    if RESERVED.contains(&id.as_str()) {
                        return Err(AppError::invalid("id", "it is the path of a call"));
                    }
                    free::<Certificate>(&mut unit, "certificate", id).await?;
                }
                let mut cert = Certificate {
                    id: new.id.clone().unwrap_or_else(|| self.new_id("cert")),
                    name: new.name.clone(),
                    common_name: common_name.clone(),
                    sans: sans.clone(),
                    environment: new.environment.clone(),
                    owner_id: new.owner_id.clone(),
                    team_id: new.team_id.clone(),
                    issuer_id: new.issuer_id.clone().unwrap_or_else(|| known(ISSUER_LOCAL)),
                    profile_id: new
                        .profile_id
                        .clone()
                        .unwrap_or_else(|| known(PROFILE_DEFAULT)),
                    policy_id: new
                        .policy_id
                        .clone()
                        .unwrap_or_else(|| known(POLICY_DEFAULT)),
                    targets: each_once(&new.targets),
                    tags: new.tags.clone(),
                    holders: BTreeMap::new(),
                    archived_at: None,
                    revoked: None,
                    created_at: now,
                    updated_at: now,
                };
                // Before anything is read for it.
                bounded(&cert)?;
                exists::<Issuer>(&mut unit, "issuer_id", &cert.issuer_id).await?;
                let profile = &cert.profile_id;
                let profile =
                    exists::<Profile>(&mut unit, "certificate_profile_id", profile).await?;
                let policy = &cert.policy_id;
                let policy =
                    exists::<RenewalPolicy>(&mut unit, "renewal_policy_id", policy).await?;
                for id in cert.targets.clone() {
                    self.place_on(&mut unit, &mut cert, &policy, &id, now)
                        .await?;
                }
                if cert.holders.is_empty() {
                    cert.holders
                        .insert(Holder::Requester, HolderState::requester());
                }
                let allowed = self.allowed(&mut unit, &cert, &profile, Some(&policy));
                allowed.await??;
                let resource = ("certificate", cert.id.as_str());
                let event = AuditEvent::new(
                    who,
                    Category::CertLifecycle,
                    "certificate_created",
                    resource,
                    now,
                )
                .with("names", join(&cert.sans))
                .with("issuer", &cert.issuer_id);
                audit(&mut unit, &event);
                for holder in &lifecycle::agents_of(&cert) {
                    self.open(&mut unit, who, &mut cert, holder).await?;
                }
                if let Some(csr) = csr {
                    let key = self.new_id("req").to_string();
                    self.issue_requested(&mut unit, who, &mut cert, csr, key)
                        .await?;
                }
                unit.insert(cert.clone());
                Ok((unit, cert))
            })
            .await?;
        let certificate = made.into_value();
        // Before an agent hears of the order: it may have a version already.
        if let Err(error) = self.take_up_found(who, &certificate).await {
            tracing::warn!(certificate = %certificate.id, %error, "what agents have of it was not taken up");
        }
        for holder in certificate.holders.keys() {
            if let Holder::Agent(agent) = holder {
                self.doorbell.ring(agent);
            }
        }
        Ok(certificate)
    }

    /// One certificate.
    pub async fn certificate(
        &self,
        who: &Principal,
        id: &Id,
    ) -> Result<Loaded<Certificate>, AppError> {
        require(who, Permission::CertRead)?;
        let cert = self.store.get(id).await?;
        cert.ok_or_else(|| AppError::not_found("certificate", id))
    }

    /// Versions of a certificate, newest first: `limit` of them after the first `skip`, and how
    /// many there are.
    pub async fn versions(
        &self,
        who: &Principal,
        id: &Id,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<Loaded<Version>>, u64), AppError> {
        self.certificate(who, id).await?;
        let certificate = Key::new().text(id.as_str());
        let total = Facet::is(VERSION_CERT, certificate.clone());
        let scan = Scan {
            backward: true,
            skip,
            ..Scan::under(VERSION_CERT, certificate.bytes(), limit)
        };
        Ok((
            self.store.scan(scan).await?,
            self.store.count(&total).await?,
        ))
    }

    /// The PEM of a version: leaf first, then its issuers. Who may have versions issued is answered
    /// with it, and need not be one who may read all others.
    pub async fn fullchain_pem(
        &self,
        who: &Principal,
        version: &Version,
    ) -> Result<String, AppError> {
        if !who.allows(Permission::CertIssue) {
            require(who, Permission::CertRead)?;
        }
        let chain = self
            .store
            .get::<crate::domain::Chain>(&version.chain)
            .await?;
        let chain = chain.ok_or_else(|| AppError::not_found("chain", &version.chain))?;
        Ok(format!("{}{}", version.leaf_pem, chain.pem))
    }

    /// The deployment of a certificate's current version on each of its targets.
    pub async fn deployments(&self, who: &Principal, id: &Id) -> Result<Vec<Deployed>, AppError> {
        let cert = self.certificate(who, id).await?;
        self.deployed(&cert).await
    }

    pub(super) async fn deployed(&self, cert: &Certificate) -> Result<Vec<Deployed>, AppError> {
        let mut deployed = Vec::with_capacity(cert.targets.len());
        for target in &cert.targets {
            let Some(target) = self.store.get::<Target>(target).await? else {
                continue;
            };
            let line = cert.holders.get(&Holder::Agent(target.agent.clone()));
            let deployment = match line.and_then(|l| l.current.as_ref()) {
                Some(current) => {
                    let id = Deployment::id_of(&current.version, &target.id);
                    self.store.get::<Deployment>(&id).await?
                }
                None => None,
            };
            let observed = Observation::id_of(&cert.id, &target.id);
            let observed = self.store.get::<Observation>(&observed).await?;
            deployed.push(Deployed {
                observed: observed.map(Loaded::into_value),
                target: target.into_value(),
                deployment: deployment.map(Loaded::into_value),
            });
        }
        Ok(deployed)
    }

    /// An order, and what came of it.
    pub async fn order(&self, who: &Principal, id: &Id) -> Result<OrderStory, AppError> {
        require(who, Permission::CertRead)?;
        let order = self.store.get::<Order>(id).await?;
        let order = order
            .ok_or_else(|| AppError::not_found("order", id))?
            .into_value();
        let version = match &order.state {
            crate::domain::OrderState::Issued { version, .. } => self
                .store
                .get::<Version>(version)
                .await?
                .map(Loaded::into_value),
            _ => None,
        };
        let mut deployments = Vec::new();
        let of_order = Key::new().text(id.as_str()).bytes();
        let scan = Scan::under(DEPLOYMENT_ORDER, of_order, MAX_TARGETS);
        for deployment in self.store.scan::<Deployment>(scan).await? {
            if let Some(target) = self.store.get::<Target>(&deployment.target).await? {
                deployments.push(Deployed {
                    target: target.into_value(),
                    deployment: Some(deployment.into_value()),
                    observed: None,
                });
            }
        }
        Ok(OrderStory {
            order,
            version,
            deployments,
        })
    }
}

pub(super) async fn exists<T: crate::store::Document>(
    unit: &mut crate::store::Unit<'_>,
    field: &'static str,
    id: &Id,
) -> Result<Loaded<T>, AppError> {
    match need::<T>(unit, field, id).await {
        Err(AppError::NotFound { .. }) => {
            Err(AppError::invalid(field, format!("there is no {id}")))
        }
        other => other,
    }
}

/// The ids in their order, each once.
pub(super) fn each_once(ids: &[Id]) -> Vec<Id> {
    let mut once: Vec<Id> = Vec::with_capacity(ids.len());
    for id in ids {
        if !once.contains(id) {
            once.push(id.clone());
        }
    }
    once
}

fn join(sans: &[San]) -> String {
    let texts: Vec<String> = sans.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

/// The names, checked: the common name is one of the SANs.
pub(super) fn names(common_name: &str, sans: &[String]) -> Result<(String, Vec<San>), AppError> {
    let first: San = common_name
        .parse()
        .map_err(|e| AppError::invalid("common_name", e))?;
    if sans.len() >= MAX_NAMES {
        let message = format!("{MAX_NAMES} names at most, with the common name");
        return Err(AppError::invalid("sans", message));
    }
    let mut all = vec![first.clone()];
    for san in sans {
        all.push(san.parse().map_err(|e| AppError::invalid("sans", e))?);
    }
    Ok((first.to_string(), Sans::new(all).into_vec()))
}

/// Refuses what is too long, too many, or not printable.
pub(super) fn bounded(certificate: &Certificate) -> Result<(), AppError> {
    printable("name", &certificate.name, 1..=255)?;
    let texts = [
        ("environment", &certificate.environment),
        ("owner_id", &certificate.owner_id),
        ("team_id", &certificate.team_id),
    ];
    for (field, text) in texts {
        printable(field, text, 0..=128)?;
    }
    if certificate.targets.len() > MAX_TARGETS {
        let message = format!("{MAX_TARGETS} targets at most");
        return Err(AppError::invalid("target_ids", message));
    }
    for (name, value) in &certificate.tags {
        printable("tags", name, 1..=128)?;
        printable("tags", value, 0..=512)?;
    }
    if certificate.tags.len() > MAX_TAGS {
        let message = format!("{MAX_TAGS} labels at most");
        return Err(AppError::invalid("tags", message));
    }
    Ok(())
}
