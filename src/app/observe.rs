//! What agents find where they have put versions: taken down, shown, and repaired.

use super::{App, AppError, audit, require, require_agent};
use crate::{
    access::Permission,
    agent::protocol::{self, OBSERVATIONS_A_CALL},
    clock::Time,
    domain::{
        AuditEvent, Category, Certificate, Deployment, DeploymentState, Ending, Holder, Look,
        Observation, Principal, Target, Version,
        observation::{REPAIR_EVERY, Seen, WRITTEN_EVERY},
    },
    id::Id,
    pki::Serial,
    store::{Key, Loaded, Unit, VERSION_FINGERPRINT},
};
use std::time::Duration;

/// The most sentences of drift, and endpoints, of one observation.
const MOST_SAID: usize = 64;
/// The most bytes of a text.
const MAX_TEXT: usize = 2_048;
/// The most bytes of a chain.
const MAX_CHAIN: usize = 65_536;
/// How long agents may take to look when somebody waits for it.
const LOOKED_WITHIN: Duration = Duration::from_secs(5);

/// What is served at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedAt {
    /// The target.
    pub target: Id,
    /// The target's name.
    pub target_name: String,
    /// Where; none when nobody has looked yet.
    pub endpoint: Option<String>,
    /// The serial number of what is served.
    pub serial: Option<String>,
    /// What that is.
    pub state: ServedState,
    /// Since when.
    pub since: Option<Time>,
    /// When somebody last looked.
    pub seen_at: Option<Time>,
    /// What is wrong, a sentence.
    pub fault: Option<String>,
}

/// What is served, compared with what should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedState {
    /// The current version with its whole chain.
    ThisVersion,
    /// The current version with another chain, or on a host that is not as it was left.
    Changed,
    /// A version of a certificate that is revoked.
    Revoked,
    /// Another version of the certificate.
    OtherVersion,
    /// Another certificate.
    OtherCertificate,
    /// Nothing answers.
    Nothing,
    /// Nobody has looked yet.
    NotSeen,
}

impl ServedState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ThisVersion => "this_version",
            Self::Changed => "changed",
            Self::Revoked => "revoked",
            Self::OtherVersion => "other_version",
            Self::OtherCertificate => "other_certificate",
            Self::Nothing => "nothing",
            Self::NotSeen => "not_seen",
        }
    }
}

/// What a certificate's places serve.
#[derive(Debug, Clone)]
pub struct ServedNow {
    /// Whether all of it was seen since it was asked for.
    pub fresh: bool,
    /// Place by place.
    pub places: Vec<ServedAt>,
}

impl App {
    /// Takes down what an agent found. What is of no target or certificate of today is let go: an
    /// agent keeps what it was told to deploy.
    pub async fn observe(
        &self,
        who: &Principal,
        agent: &Id,
        found: &protocol::Observations,
    ) -> Result<(), AppError> {
        let agent = require_agent(who, agent)?;
        let found = &found.observations;
        if found.len() > OBSERVATIONS_A_CALL {
            return Err(AppError::invalid(
                "observations",
                format!("{OBSERVATIONS_A_CALL} at most are accepted at once"),
            ));
        }
        let mut checked = Vec::with_capacity(found.len());
        for one in found {
            checked.push((one, check(one)?));
            let target = self.store.get::<Target>(&one.target_id).await?;
            if target.is_some_and(|target| target.agent != *agent) {
                return Err(AppError::NotThisAgent);
            }
        }
        for (one, serial) in checked {
            self.close_gap(who, agent, one, &serial).await?;
            self.observe_one(who, agent, one, serial).await?;
        }
        self.watched.answered(agent);
        Ok(())
    }

    async fn observe_one(
        &self,
        who: &Principal,
        agent: &Id,
        found: &protocol::Observation,
        serial: Serial,
    ) -> Result<(), AppError> {
        let id = &Observation::id_of(&found.certificate_id, &found.target_id);
        let serial = &serial;
        // Another server hears of it by the row.
        let awaited = self.watched.is_awaited_elsewhere(&found.target_id);
        let repairs: Option<bool> = self
            .decide(|mut unit| async move {
                let now = self.now();
                let target = unit.peek::<Target>(&found.target_id).await?;
                let cert = unit.peek::<Certificate>(&found.certificate_id).await?;
                let (Some(target), Some(cert)) = (target, cert) else {
                    return Ok((unit, None));
                };
                if target.agent != *agent || !cert.targets.contains(&target.id) {
                    return Ok((unit, None));
                }
                let old = unit.load_opt::<Observation>(id).await?;
                let line = cert.holders.get(&Holder::Agent(agent.clone()));
                let current = line.and_then(|line| line.current.as_ref());
                let mut new = Observation {
                    id: id.clone(),
                    certificate: cert.id.clone(),
                    target: target.id.clone(),
                    agent: agent.clone(),
                    serial: serial.clone(),
                    current: current.is_some_and(|c| c.serial == *serial),
                    drift: found.drift.clone(),
                    served: found.served.iter().map(|shown| seen(shown, now)).collect(),
                    seen_at: now,
                    repaired_at: old.as_ref().and_then(|old| old.repaired_at),
                };
                if let Some(old) = &old {
                    for seen in &mut new.served {
                        if let Some(before) = old.served.iter().find(|b| b.is_as(seen)) {
                            seen.since = before.since;
                        }
                    }
                }
                let repairs = self.repair(&mut unit, &cert, &mut new, now).await?;
                if !repairs
                    && !awaited
                    && let Some(old) = &old
                    && old.says_as(&new)
                    && now.since(old.seen_at) < WRITTEN_EVERY
                {
                    return Ok((unit, Some(false)));
                }
                let fault = old.as_ref().and_then(|old| old.fault());
                if let Some(event) = change(who, fault, &new, now) {
                    audit(&mut unit, &event);
                }
                match old {
                    Some(old) => unit.put(old.map(|_| new)),
                    None => unit.insert(new),
                }
                Ok((unit, Some(repairs)))
            })
            .await?;
        // What is of no place of this agent's is not taken down.
        let Some(repairs) = repairs else {
            return Ok(());
        };
        if awaited {
            self.watched.told_elsewhere(&found.target_id);
        }
        self.watched.looked(id, self.now());
        if repairs {
            self.doorbell.ring(agent);
        }
        Ok(())
    }

    /// Has a deployment done again whose place on the host was changed: link, file, mode, owner or
    /// listener. What another program serves at an endpoint is only told.
    async fn repair(
        &self,
        unit: &mut Unit<'_>,
        certificate: &Certificate,
        found: &mut Observation,
        now: Time,
    ) -> Result<bool, AppError> {
        let lately = found
            .repaired_at
            .is_some_and(|at| now.since(at) < REPAIR_EVERY);
        let ended = certificate.ended().is_some();
        if ended || !found.current || found.drift.is_empty() || lately {
            return Ok(false);
        }
        let line = certificate.holders.get(&Holder::Agent(found.agent.clone()));
        let Some(current) = line.and_then(|line| line.current.as_ref()) else {
            return Ok(false);
        };
        let id = Deployment::id_of(&current.version, &found.target);
        let Some(mut deployment) = unit.load_opt::<Deployment>(&id).await? else {
            return Ok(false);
        };
        if !matches!(deployment.state, DeploymentState::Confirmed { .. }) {
            return Ok(false);
        }
        let job = self.deploy_again(unit, &mut deployment, now);
        unit.put(deployment);
        found.repaired_at = Some(now);
        let who = &Principal::system("drift");
        let event = event(who, "drift_repaired", found, now).with("job", &job.id);
        audit(unit, &event);
        Ok(true)
    }

    /// What a certificate's places serve, as it was last seen.
    pub async fn served(&self, who: &Principal, id: &Id) -> Result<ServedNow, AppError> {
        let certificate = self.certificate(who, id).await?;
        self.served_since(&certificate, None).await
    }

    /// Has the agents look at what a certificate's places serve, and waits a few seconds for that.
    pub async fn check_served(&self, who: &Principal, id: &Id) -> Result<ServedNow, AppError> {
        require(who, Permission::CertRead)?;
        let certificate = self.certificate(who, id).await?;
        let mut awaited = Vec::new();
        let mut looks = self.watched.looks();
        let before = *looks.borrow_and_update();
        let deployed = self.deployed(&certificate).await?;
        self.ask_elsewhere(deployed.iter().map(|deployed| &deployed.target))
            .await?;
        for deployed in deployed {
            let target = deployed.target;
            self.watched.ask(&target.agent, &target.id);
            self.doorbell.ring(&target.agent);
            let placed = deployed.observed.is_some()
                || deployed
                    .deployment
                    .is_some_and(|d| matches!(d.state, DeploymentState::Confirmed { .. }));
            if placed && self.is_online(&target.agent).await? {
                awaited.push(Observation::id_of(&certificate.id, &target.id));
            }
        }
        let all_seen = async {
            while !awaited.iter().all(|id| self.watched.seen_since(id, before)) {
                if looks.changed().await.is_err() {
                    return;
                }
            }
        };
        let draining = self.tasks.token();
        tokio::select! {
            biased;
            () = draining.cancelled() => {}
            () = all_seen => {}
            () = tokio::time::sleep(LOOKED_WITHIN) => {}
        }
        self.served_since(&certificate, Some(before)).await
    }

    /// Has other servers ask for a look at targets, whose agents may wait for work there.
    async fn ask_elsewhere(&self, targets: impl Iterator<Item = &Target>) -> Result<(), AppError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        let targets: Vec<&Target> = targets.collect();
        let targets = &targets;
        self.decide(|mut unit| async move {
            for target in targets {
                let look = Look {
                    id: target.id.clone(),
                    agent: target.agent.clone(),
                    at: self.now(),
                };
                match unit.load_opt::<Look>(&target.id).await? {
                    Some(old) => unit.put(old.map(|_| look)),
                    None => unit.insert(look),
                }
            }
            Ok((unit, ()))
        })
        .await
    }

    async fn served_since(
        &self,
        certificate: &Certificate,
        looks: Option<u64>,
    ) -> Result<ServedNow, AppError> {
        let mut places = Vec::new();
        let mut fresh = true;
        for deployed in self.deployed(certificate).await? {
            let target = deployed.target;
            let id = Observation::id_of(&certificate.id, &target.id);
            fresh &= looks.is_none_or(|looks| self.watched.seen_since(&id, looks));
            let line = certificate
                .holders
                .get(&Holder::Agent(target.agent.clone()));
            let current = line.and_then(|l| Some(&l.current.as_ref()?.version));
            let looked = deployed.observed.as_ref().map(|observed| {
                let last = self.watched.last(&observed.id);
                last.max(Some(observed.seen_at))
            });
            let unseen = ServedAt {
                target: target.id,
                target_name: target.name,
                endpoint: None,
                serial: None,
                state: ServedState::NotSeen,
                since: None,
                seen_at: None,
                fault: None,
            };
            // Until somebody looks again, what the deployment saw is the newest there is.
            let last = deployed.deployment.as_ref().and_then(|d| d.last.as_ref());
            let newest = last.filter(|last| {
                matches!(last.ending, Ending::Changed | Ending::Unchanged)
                    && !last.served.is_empty()
                    && looked.flatten().is_none_or(|at| at < last.ended_at)
            });
            let (shown, drift, seen_at) = match (newest, deployed.observed) {
                (Some(last), _) => {
                    let shown = last.served.iter().map(|seen| Seen {
                        endpoint: seen.endpoint.clone(),
                        serial: seen.serial.clone(),
                        fingerprint_sha256: seen.fingerprint_sha256.clone(),
                        right: true,
                        error: seen.error.clone(),
                        since: last.ended_at,
                    });
                    (shown.collect(), Vec::new(), Some(last.ended_at))
                }
                (None, Some(observed)) => (
                    observed.served.clone(),
                    observed.drift.clone(),
                    looked.flatten(),
                ),
                (None, None) => {
                    places.push(unseen);
                    continue;
                }
            };
            for seen in shown {
                places.push(ServedAt {
                    state: self.state_of(certificate, current, &seen).await?,
                    endpoint: Some(seen.endpoint),
                    serial: seen.serial,
                    since: Some(seen.since),
                    seen_at,
                    fault: seen.error,
                    ..unseen.clone()
                });
            }
            for sentence in drift {
                places.push(ServedAt {
                    state: ServedState::Changed,
                    seen_at,
                    fault: Some(sentence),
                    ..unseen.clone()
                });
            }
        }
        Ok(ServedNow { fresh, places })
    }

    async fn state_of(
        &self,
        certificate: &Certificate,
        current: Option<&Id>,
        seen: &Seen,
    ) -> Result<ServedState, AppError> {
        let Some(fingerprint) = &seen.fingerprint_sha256 else {
            return Ok(ServedState::Nothing);
        };
        let key = Key::new().text(fingerprint);
        let version: Option<Loaded<Version>> = self.store.first(VERSION_FINGERPRINT, key).await?;
        let revoked = certificate.revoked.is_some();
        Ok(match version {
            Some(v) if v.certificate == certificate.id && revoked => ServedState::Revoked,
            Some(v) if Some(&v.id) == current && seen.right => ServedState::ThisVersion,
            Some(v) if Some(&v.id) == current => ServedState::Changed,
            Some(v) if v.certificate == certificate.id => ServedState::OtherVersion,
            _ => ServedState::OtherCertificate,
        })
    }
}

fn seen(shown: &protocol::Shown, now: Time) -> Seen {
    let protocol::Shown { served, chain_ok } = shown;
    Seen {
        endpoint: served.endpoint.clone(),
        serial: served.serial.clone(),
        fingerprint_sha256: served.fingerprint_sha256.clone(),
        right: *chain_ok && served.fingerprint_sha256.is_some(),
        error: served.error.clone(),
        since: now,
    }
}

/// What is to be said of a change for the worse, or for the better.
fn change(
    who: &Principal,
    old: Option<String>,
    new: &Observation,
    now: Time,
) -> Option<AuditEvent> {
    match (old, new.fault()) {
        (None, None) => None,
        (Some(_), None) => Some(event(who, "drift_gone", new, now)),
        (Some(old), Some(new)) if old == new => None,
        (_, Some(fault)) => Some(event(who, "drift_found", new, now).with("found", fault)),
    }
}

fn event(who: &Principal, action: &str, found: &Observation, now: Time) -> AuditEvent {
    let resource = ("certificate", found.certificate.as_str());
    AuditEvent::new(who, Category::CertLifecycle, action, resource, now)
        .with("target", &found.target)
        .with("serial", &found.serial)
}

/// Refuses what is too much or no text; returns the serial number.
fn check(found: &protocol::Observation) -> Result<Serial, AppError> {
    let plain = |text: &str| text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    let optional = |text: &Option<String>| text.as_deref().is_none_or(plain);
    let served = found.served.iter().map(|shown| &shown.served);
    let shown = found.fullchain_pem.as_ref().map_or(0, String::len);
    let bounded =
        found.drift.len() <= MOST_SAID && found.served.len() <= MOST_SAID && shown <= MAX_CHAIN;
    let printable = found.drift.iter().all(|sentence| plain(sentence))
        && served.into_iter().all(|served| {
            plain(&served.endpoint)
                && optional(&served.serial)
                && optional(&served.fingerprint_sha256)
                && optional(&served.error)
        });
    if !bounded || !printable {
        return Err(AppError::invalid(
            "observations",
            format!(
                "{MOST_SAID} sentences and {MOST_SAID} endpoints at most, in texts of up to \
                 {MAX_TEXT} printable bytes, and a chain of {MAX_CHAIN} bytes"
            ),
        ));
    }
    found
        .serial
        .parse()
        .map_err(|e| AppError::invalid("serial", e))
}
