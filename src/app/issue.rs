//! The one issuance pipeline. Every door comes through here: an agent's CSR for an open order, and
//! a CSR sent by a requester.
//!
//! The CSR gives a public key and wishes; what is issued is the certificate's approved names under
//! its profile. Issuers that answer at once are asked first, and order, version, certificate,
//! follow-up jobs and audit are committed as one batch.

use super::{App, AppError, audit, lifecycle, need, require, require_agent};
use crate::{
    access::Permission,
    ca::{IssueError, IssueErrorClass, IssueRequest, Issued, Issuer as _},
    clock::Time,
    crypt::secret,
    domain::{
        AuditEvent, Category, Cause, Certificate, Chain, Current, Executor, FailureClass, Holder,
        HolderState, Issuer, IssuerKind, Job, JobKind, Order, OrderState, Principal, Profile,
        RenewalPolicy, Version, job::NotLeased, once::OnceKey, renewal,
    },
    id::Id,
    pki::{self, Csr},
    store::{Loaded, Unit},
};
use std::time::Duration;
use tokio::time::Instant;

/// The longest common name in a subject (RFC 5280, ub-common-name). A longer one stands among the
/// subject alternative names alone.
const MAX_COMMON_NAME: usize = 64;

/// What the gate says to a CSR for a certificate.
enum Approval {
    /// This is what the issuer is asked.
    Granted(Approved),
    /// Nothing may be issued for this certificate as things are.
    Refused(String),
}

/// The certificate's approved content, joined with the CSR's key.
struct Approved {
    issuer: Id,
    /// The CA node that signs.
    node: Id,
    /// The issuer's type.
    kind: &'static str,
    request: IssueRequest,
}

impl App {
    /// An agent's CSR for the order of the job it holds.
    pub async fn submit_csr(
        &self,
        who: &Principal,
        agent: &Id,
        job: &Id,
        token: u64,
        csr_pem: &str,
    ) -> Result<(), AppError> {
        let agent = require_agent(who, agent)?;
        let csr = &parse_csr(csr_pem)?;
        let outcome = self
            .decide(|mut unit| async move {
                let now = self.now();
                let mut job: Loaded<Job> = need(&mut unit, "job", job).await?;
                if job.executor != Executor::Agent(agent.clone()) {
                    return Err(AppError::NotThisAgent);
                }
                match job.held_by(token) {
                    Ok(_) => {}
                    // Another key under it is a repetition, too: one lease brings one version.
                    Err(NotLeased::Ended(_)) => return Ok((unit, None)),
                    Err(e) => return Err(AppError::Conflict(e.to_string())),
                }
                if job.is_stopping() {
                    return Err(AppError::Conflict("the job was cancelled".into()));
                }
                let JobKind::Issue { order, .. } = &job.kind else {
                    return Err(AppError::invalid("job", "this job does not ask for a CSR"));
                };
                let mut order: Loaded<Order> = need(&mut unit, "order", order).await?;
                job.ended_by(token, secret::hash(csr_pem));
                let mut certificate = need(&mut unit, "certificate", &order.certificate).await?;
                let asked = match self.approve(&mut unit, &certificate, csr, now).await? {
                    Approval::Granted(approved) => {
                        // It may have been given another one since the order was opened.
                        order.issuer = approved.issuer.clone();
                        self.ask(&approved).await
                    }
                    Approval::Refused(message) => Err(IssueError {
                        class: IssueErrorClass::NeedsOperator,
                        message,
                    }),
                };
                let outcome = match asked {
                    Ok(chain) => {
                        let version = self
                            .record(&mut unit, who, &mut order, &mut certificate, &chain, now)
                            .await?;
                        job.succeed(now);
                        Ok(version)
                    }
                    Err(e) => {
                        job.fail(e.message.clone(), false, now);
                        let retry = lifecycle::retry_of(&unit, &certificate).await?;
                        let (class, hint) = class_of(&e);
                        let message = e.message.clone();
                        let (order, certificate) = (&mut order, &mut certificate);
                        lifecycle::fail_order(
                            &mut unit,
                            who,
                            order,
                            certificate,
                            class,
                            message,
                            hint,
                            retry,
                            now,
                        );
                        Err(e.message)
                    }
                };
                unit.put(order);
                unit.put(certificate);
                unit.put(job);
                Ok((unit, Some(outcome)))
            })
            .await?;
        match outcome {
            Some(Ok(version)) => {
                tracing::info!(certificate = %version.certificate, serial = %version.serial, "issued");
                self.doorbell.ring(agent);
            }
            Some(Err(message)) => tracing::warn!(%job, %message, "nothing was issued"),
            None => {}
        }
        Ok(())
    }

    /// A requester's CSR: an order opened and carried out in one commit. The same name for the
    /// request and the same certificate answer the same version.
    pub async fn request_version(
        &self,
        who: &Principal,
        certificate: &Id,
        csr_pem: &str,
        once: Option<&OnceKey>,
    ) -> Result<Version, AppError> {
        require(who, Permission::CertIssue)?;
        let csr = &parse_csr(csr_pem)?;
        let key = &once.map_or_else(|| self.new_id("req"), |key| key.id_of(who));
        self.decide(|mut unit| async move {
            let mut certificate: Loaded<Certificate> =
                need(&mut unit, "certificate", certificate).await?;
            let version = self
                .issue_requested(&mut unit, who, &mut certificate, csr, key.to_string())
                .await?;
            if let Requested::New(_) = version {
                unit.put(certificate);
            }
            Ok((unit, version.into_version()))
        })
        .await
    }

    /// Issues for a requester in the caller's unit; the caller stores the certificate.
    pub(super) async fn issue_requested(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        certificate: &mut Certificate,
        csr: &Csr,
        key: String,
    ) -> Result<Requested, AppError> {
        self.not_fenced()?;
        let now = self.now();
        let holder = Holder::Requester;
        let cause = Cause::Requested(key);
        let id = Order::id_of(&certificate.id, &holder, &cause, 1);
        if let Some(order) = unit.load_opt::<Order>(&id).await? {
            return again(unit, &order, csr).await.map(Requested::Again);
        }
        self.has_room()?;
        let approved = match self.approve(unit, certificate, csr, now).await? {
            Approval::Granted(approved) => approved,
            Approval::Refused(message) => return Err(AppError::Conflict(message)),
        };
        let chain = match self.ask(&approved).await {
            Ok(chain) => chain,
            Err(e) => {
                self.count_refusal(&approved.issuer, class_of(&e).0).await?;
                return Err(AppError::Issuer(e.message));
            }
        };
        certificate
            .holders
            .entry(holder.clone())
            .or_insert_with(HolderState::requester);
        lifecycle::charge(unit, &certificate.id, &holder);
        let issuer = approved.issuer;
        let mut order = Order::open(certificate.id.clone(), holder, issuer, cause, 1, now);
        let version = self
            .record(unit, who, &mut order, certificate, &chain, now)
            .await?;
        unit.insert(order);
        Ok(Requested::New(version))
    }

    /// Profile and policy decide what is asked of the issuer.
    async fn approve(
        &self,
        unit: &mut Unit<'_>,
        certificate: &Certificate,
        csr: &Csr,
        now: Time,
    ) -> Result<Approval, AppError> {
        if let Some(ended) = certificate.ended() {
            let id = &certificate.id;
            return Ok(Approval::Refused(format!("certificate {id} is {ended}")));
        }
        let issuer: Loaded<Issuer> = need(unit, "issuer", &certificate.issuer_id).await?;
        if !issuer.enabled {
            let id = &issuer.id;
            return Ok(Approval::Refused(format!("issuer {id} is switched off")));
        }
        let profile: Loaded<Profile> = need(unit, "profile", &certificate.profile_id).await?;
        if let Err(refusal) = self.allowed(unit, certificate, &profile, None).await? {
            return Ok(Approval::Refused(refusal.message));
        }
        let algorithm = csr.public_key().algorithm();
        if !profile.key_algorithms.contains(&algorithm) {
            return Err(AppError::invalid(
                "csr_pem",
                format!(
                    "profile {} does not accept a key of kind {algorithm}; it accepts {}",
                    profile.id,
                    join(&profile.key_algorithms)
                ),
            ));
        }
        let mut seed = [0; 16];
        self.rng.fill(&mut seed);
        let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
        Ok(Approval::Granted(Approved {
            issuer: issuer.id.clone(),
            node: issuing_node.clone(),
            kind: issuer.kind.as_str(),
            request: IssueRequest {
                serial_seed: seed,
                csr_der: csr.der().to_vec(),
                public_key: csr.public_key().clone(),
                common_name: Some(certificate.common_name.clone())
                    .filter(|n| (1..=MAX_COMMON_NAME).contains(&n.chars().count())),
                sans: certificate.sans.clone(),
                ekus: profile.ekus.clone(),
                now,
                lifetime: profile.lifetime(),
            },
        }))
    }

    /// Asks the issuer and checks what it returned.
    async fn ask(&self, approved: &Approved) -> Result<pki::Chain, IssueError> {
        let issuer = self.local_ca(&approved.node).await;
        let issuer = issuer.map_err(|e| IssueError {
            class: IssueErrorClass::NeedsOperator,
            message: format!("issuer {}: {e}", approved.issuer),
        })?;
        let began = Instant::now();
        let issued = issuer.issue(&approved.request).await;
        self.metrics.asked(approved.kind, began.elapsed());
        let Issued::Now(chain) = issued?;
        let request = &approved.request;
        pki::check::returned(
            &chain,
            &pki::check::Expected {
                public_key: &request.public_key,
                sans: &request.sans,
                ekus: &request.ekus,
                not_after_cap: request.now.plus(request.lifetime),
                anchor: issuer.anchor(),
            },
            request.now,
        )
        .map_err(|e| IssueError {
            class: IssueErrorClass::NeedsOperator,
            message: format!("the issuer returned another certificate than was asked for: {e}"),
        })?;
        Ok(chain)
    }

    /// Puts an issued version into the unit, and what follows from it.
    pub(super) async fn record(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        order: &mut Order,
        certificate: &mut Certificate,
        issued: &pki::Chain,
        now: Time,
    ) -> Result<Version, AppError> {
        let version = self.version_of(order, issued, now);
        let current = Current {
            version: version.id.clone(),
            serial: version.serial.clone(),
            not_before: version.not_before,
            not_after: version.not_after,
        };
        let plan = match &order.holder {
            Holder::Agent(_) => {
                let policy: Loaded<RenewalPolicy> =
                    need(unit, "renewal policy", &certificate.policy_id).await?;
                renewal::follows(certificate, &current, &policy)
            }
            Holder::Requester => HolderState::requester().plan,
        };
        if let Some(line) = certificate.holders.get_mut(&order.holder) {
            line.issued(current, plan);
        }
        order.state = OrderState::Issued {
            version: version.id.clone(),
            at: now,
        };
        put_chain(unit, issued).await?;
        audit(
            unit,
            &AuditEvent::new(
                who,
                Category::CertLifecycle,
                "certificate_issued",
                ("certificate", certificate.id.as_str()),
                now,
            )
            .with("serial", &version.serial)
            .with("order", &order.id)
            .with("holder", &version.holder)
            .with("not_after", version.not_after),
        );
        if let Holder::Agent(agent) = &order.holder {
            self.plan_deployments(unit, certificate, &version, agent, now)
                .await?;
        }
        unit.insert(version.clone());
        Ok(version)
    }

    /// Puts a version into the unit from which nothing follows.
    pub(super) async fn put_version(
        &self,
        unit: &mut Unit<'_>,
        order: &mut Order,
        issued: &pki::Chain,
        now: Time,
    ) -> Result<Version, AppError> {
        let version = self.version_of(order, issued, now);
        order.state = OrderState::Issued {
            version: version.id.clone(),
            at: now,
        };
        put_chain(unit, issued).await?;
        unit.insert(version.clone());
        Ok(version)
    }

    fn version_of(&self, order: &Order, issued: &pki::Chain, now: Time) -> Version {
        let leaf = issued.leaf();
        let chain = Chain::new(issued.chain_pem());
        Version {
            id: self.new_id("ver"),
            certificate: order.certificate.clone(),
            holder: order.holder.clone(),
            order: order.id.clone(),
            issuer: order.issuer.clone(),
            serial: leaf.serial().clone(),
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            fingerprint_sha256: leaf.fingerprint_sha256().to_owned(),
            spki_sha256: leaf.spki_sha256().to_owned(),
            key_algorithm: leaf.public_key().algorithm(),
            sans: leaf.sans().to_vec(),
            leaf_pem: leaf.pem(),
            chain: chain.id.clone(),
            created_at: now,
        }
    }
}

async fn put_chain(unit: &mut Unit<'_>, issued: &pki::Chain) -> Result<(), AppError> {
    let chain = Chain::new(issued.chain_pem());
    if unit.load_opt::<Chain>(&chain.id).await?.is_none() {
        unit.insert(chain);
    }
    Ok(())
}

/// A version given to a requester.
pub(super) enum Requested {
    /// Issued now.
    New(Version),
    /// Issued before under the same key.
    Again(Version),
}

impl Requested {
    pub(super) fn into_version(self) -> Version {
        match self {
            Self::New(version) | Self::Again(version) => version,
        }
    }
}

/// The answer to a repeated request.
async fn again(unit: &mut Unit<'_>, order: &Order, csr: &Csr) -> Result<Version, AppError> {
    let OrderState::Issued { version, .. } = &order.state else {
        return Err(AppError::Conflict(format!(
            "order {} has no version",
            order.id
        )));
    };
    let version: Loaded<Version> = need(unit, "version", version).await?;
    if version.spki_sha256 == csr.public_key().sha256() {
        Ok(version.into_value())
    } else {
        Err(AppError::Conflict(
            "Idempotency-Key: it was used with another public key: take another key".into(),
        ))
    }
}

pub(super) fn parse_csr(pem: &str) -> Result<Csr, AppError> {
    Csr::from_pem(pem).map_err(|e| AppError::invalid("csr_pem", e))
}

fn join<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn class_of(e: &IssueError) -> (FailureClass, Option<Duration>) {
    match e.class {
        IssueErrorClass::Transient { retry_after } => (FailureClass::Transient, retry_after),
        IssueErrorClass::Permanent => (FailureClass::Permanent, None),
        IssueErrorClass::NeedsOperator => (FailureClass::NeedsOperator, None),
    }
}
