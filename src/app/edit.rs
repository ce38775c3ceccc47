//! Editing certificates. What is given is changed, all else stays; what follows from the change is
//! planned in the same commit.

use super::{
    App, AppError, Expected, audit,
    certificates::{self, each_once, exists},
    configuration::differences,
    lifecycle, need, require,
};
use crate::{
    access::Permission,
    clock::Time,
    deploy::TargetConfig,
    domain::{
        AuditEvent, Category, Certificate, Deployment, Holder, HolderState, Issuer, Observation,
        Plan, Principal, Profile, RenewalPolicy, Target, Version, renewal,
    },
    id::Id,
    pki::San,
    store::{CERT_TARGET, Key, Loaded, Unit},
};
use std::collections::BTreeMap;

/// Why a line ends whose agent has no target of the certificate any more.
const NO_TARGET: &str = "no target of the certificate is left on the agent that holds the key: \
                         nothing renews this version";

/// What is to change of a certificate; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct CertificateEdit {
    /// A name for people.
    pub name: Option<String>,
    /// The subject's common name; it takes the place of the old one among the names.
    pub common_name: Option<String>,
    /// All names; the common name is one of them whether or not it is given.
    pub sans: Option<Vec<String>>,
    /// E.g. production.
    pub environment: Option<String>,
    /// Who answers for it.
    pub owner_id: Option<String>,
    /// The owner's team.
    pub team_id: Option<String>,
    /// Where versions come from.
    pub issuer_id: Option<Id>,
    /// What may be issued.
    pub profile_id: Option<Id>,
    /// When to renew.
    pub policy_id: Option<Id>,
    /// Where versions are put: all targets.
    pub targets: Option<Vec<Id>>,
    /// Free labels: all of them.
    pub tags: Option<BTreeMap<String, String>>,
    /// The status. It follows from what was done and is not set: another than the present one is
    /// refused.
    pub status: Option<String>,
}

impl App {
    /// Edits a certificate. Other names, another profile or issuer want new versions, which are due
    /// at once; another policy, other moments; other targets, deployments. Where versions follow
    /// that nobody has asked for before, the caller must be one who may issue.
    pub async fn edit_certificate(
        &self,
        who: &Principal,
        id: &Id,
        expected: &Expected,
        edit: &CertificateEdit,
    ) -> Result<Certificate, AppError> {
        require(who, Permission::CertEdit)?;
        let (edited, agents) = self
            .decide(|unit| self.edit(unit, who, id, expected, edit))
            .await?;
        // Before an agent hears of it: it may have a version already.
        if let Err(error) = self.take_up_found(who, &edited).await {
            tracing::warn!(certificate = %id, %error, "what agents have of it was not taken up");
        }
        for agent in &agents {
            self.doorbell.ring(agent);
        }
        Ok(edited)
    }

    async fn edit<'a>(
        &self,
        mut unit: Unit<'a>,
        who: &Principal,
        id: &Id,
        expected: &Expected,
        edit: &CertificateEdit,
    ) -> Result<(Unit<'a>, (Certificate, Vec<Id>)), AppError> {
        let now = self.now();
        let row: Loaded<Certificate> = need(&mut unit, "certificate", id).await?;
        expected.met_by(&row)?;
        if let Some(ended) = row.ended() {
            let message = format!("certificate {id} is {ended}: it is not edited any more");
            return Err(AppError::Conflict(message));
        }
        let old = Certificate::clone(&row);
        status_stays(&old, edit, now)?;
        let mut new = changed(&old, edit)?;
        if new == old {
            return Ok((unit, (old, Vec::new())));
        }
        exists::<Issuer>(&mut unit, "issuer_id", &new.issuer_id).await?;
        let profile = &new.profile_id;
        let profile = exists::<Profile>(&mut unit, "certificate_profile_id", profile).await?;
        let policy = &new.policy_id;
        let policy = exists::<RenewalPolicy>(&mut unit, "renewal_policy_id", policy).await?;
        let removed: Vec<Id> = without(&old.targets, &new.targets);
        let added: Vec<Id> = without(&new.targets, &old.targets);
        let anew = old.sans != new.sans
            || old.common_name != new.common_name
            || old.issuer_id != new.issuer_id
            || old.profile_id != new.profile_id;
        if anew || !added.is_empty() {
            require(who, Permission::CertIssue)?;
        }
        let mut agents = Vec::new();
        for target in &removed {
            self.take_from(&mut unit, &old, target, now).await?;
        }
        let mut placed = Vec::new();
        for target in &added {
            let placed_on = self.place_on(&mut unit, &mut new, &policy, target, now);
            placed.push(placed_on.await?);
        }
        if !(removed.is_empty() && added.is_empty()) {
            agents.extend(self.settle_lines(&mut unit, who, &mut new, now).await?);
        }
        let allowed = self.allowed(&mut unit, &new, &profile, Some(&policy));
        allowed.await??;

        if anew {
            for holder in lifecycle::agents_of(&new) {
                if let Some(line) = new.holders.get_mut(&holder)
                    && !matches!(line.plan, Plan::InFlight { .. })
                {
                    line.plan = Plan::Scheduled { at: now };
                }
            }
        } else if old.policy_id != new.policy_id {
            renewal::replan(&mut new, &policy, now);
        }
        for target in placed {
            self.begin_on(&mut unit, who, &mut new, &target, now)
                .await?;
            agents.push(target.agent.clone());
        }
        new.updated_at = now;
        let resource = ("certificate", id.as_str());
        let mut event = AuditEvent::new(
            who,
            Category::CertLifecycle,
            "certificate_edited",
            resource,
            now,
        );
        event.details = differences(&old, &new);
        // What follows is in events of its own.
        event.details.remove("holders");
        audit(&mut unit, &event);
        unit.put(row.map(|_| new.clone()));
        Ok((unit, (new, agents)))
    }

    /// Puts a target among those of a certificate: it can take one, and its agent has a line.
    pub(super) async fn place_on(
        &self,
        unit: &mut Unit<'_>,
        certificate: &mut Certificate,
        policy: &RenewalPolicy,
        id: &Id,
        now: Time,
    ) -> Result<Loaded<Target>, AppError> {
        let target = exists::<Target>(unit, "target_ids", id).await?;
        if target.retired.is_some() {
            let message = format!("target {id} is retired, with its agent");
            return Err(AppError::invalid("target_ids", message));
        }
        let config = TargetConfig::parse(&target.kind, &target.config);
        if config.is_ok_and(|config| config.is_exclusive()) {
            unit.none(CERT_TARGET, Key::new().text(id.as_str()));
        }
        let holder = Holder::Agent(target.agent.clone());
        let line = certificate.holders.get(&holder);
        let mut line = line.cloned().unwrap_or_else(|| HolderState::scheduled(now));
        // One that had ended goes on.
        if line.ended_at.take().is_some() {
            line.plan = match &line.current {
                Some(current) if current.not_after > now => {
                    renewal::follows(certificate, current, policy)
                }
                _ => Plan::Scheduled { at: now },
            };
        }
        certificate.holders.insert(holder, line);
        Ok(target)
    }

    /// Ends what goes on for a certificate on a target that it has no more.
    async fn take_from(
        &self,
        unit: &mut Unit<'_>,
        certificate: &Certificate,
        target: &Id,
        now: Time,
    ) -> Result<(), AppError> {
        let why = "the target was taken from the certificate";
        self.supersede(unit, target, &certificate.id, why, now)
            .await?;
        let observed = Observation::id_of(&certificate.id, target);
        if let Some(observed) = unit.load_opt::<Observation>(&observed).await? {
            unit.delete(observed);
        }
        Ok(())
    }

    /// Brings the lines of a certificate in accord with its targets; gives the agents to tell. A
    /// line whose agent has no target left goes where others stay, and is history else; the
    /// requester's goes where it has no version and an agent's stays.
    async fn settle_lines(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        certificate: &mut Certificate,
        now: Time,
    ) -> Result<Vec<Id>, AppError> {
        let mut wanted = Vec::new();
        for id in &certificate.targets {
            let target = need::<Target>(unit, "target", id).await?;
            wanted.push(target.agent.clone());
        }
        let mut told = Vec::new();
        for holder in lifecycle::agents_of(certificate) {
            let Holder::Agent(agent) = &holder else {
                continue;
            };
            if wanted.contains(agent) {
                continue;
            }
            told.push(agent.clone());
            let plan = certificate.holders.get(&holder).map(|l| l.plan.clone());
            if let Some(Plan::InFlight { order }) = plan {
                lifecycle::close_order(unit, who, certificate, &order, NO_TARGET, now).await?;
            }
            if !wanted.is_empty() {
                certificate.holders.remove(&holder);
            } else if let Some(line) = certificate.holders.get_mut(&holder) {
                line.end(NO_TARGET.into(), now);
            }
        }
        let requester = certificate.holders.get(&Holder::Requester);
        if !wanted.is_empty() && requester.is_some_and(|line| line.current.is_none()) {
            certificate.holders.remove(&Holder::Requester);
        }
        let never = |line: &HolderState| line.ended_at.is_some() && line.current.is_none();
        if certificate.holders.values().all(never) {
            certificate.holders.clear();
            certificate
                .holders
                .insert(Holder::Requester, HolderState::requester());
        }
        Ok(told)
    }

    /// What follows when a target was added: the agent's current version is deployed there, or its
    /// first one is ordered.
    async fn begin_on(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        certificate: &mut Certificate,
        target: &Target,
        now: Time,
    ) -> Result<(), AppError> {
        let holder = Holder::Agent(target.agent.clone());
        let Some(line) = certificate.holders.get(&holder) else {
            return Ok(());
        };
        let due = matches!(line.plan, Plan::Scheduled { at } if at <= now);
        if due {
            self.open(unit, who, certificate, &holder).await?;
        } else if let Some(current) = line.current.as_ref().filter(|c| c.not_after > now) {
            let version: Loaded<Version> = need(unit, "version", &current.version).await?;
            let id = Deployment::id_of(&version.id, &target.id);
            // It may have been there before.
            match unit.load_opt::<Deployment>(&id).await? {
                Some(mut again) => {
                    self.deploy_again(unit, &mut again, now);
                    unit.put(again);
                }
                None => {
                    self.plan_deployment(unit, certificate, &version, target, now)
                        .await?;
                }
            }
        }
        Ok(())
    }
}

/// Refuses a status that is not the present one.
fn status_stays(
    certificate: &Certificate,
    edit: &CertificateEdit,
    now: Time,
) -> Result<(), AppError> {
    let Some(wanted) = edit.status.as_deref().filter(|word| !word.is_empty()) else {
        return Ok(());
    };
    let status = certificate.status(now).as_str();
    if status.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let message = format!(
        "it follows from what was done, and is {status}: revoke, archive or renew the certificate"
    );
    Err(AppError::invalid("status", message))
}

/// The certificate as it is to be, its lines apart.
fn changed(old: &Certificate, edit: &CertificateEdit) -> Result<Certificate, AppError> {
    let mut new = old.clone();
    let texts = [
        (&mut new.name, &edit.name),
        (&mut new.environment, &edit.environment),
        (&mut new.owner_id, &edit.owner_id),
        (&mut new.team_id, &edit.team_id),
    ];
    for (field, given) in texts {
        if let Some(given) = given {
            field.clone_from(given);
        }
    }
    let ids = [
        (&mut new.issuer_id, &edit.issuer_id),
        (&mut new.profile_id, &edit.profile_id),
        (&mut new.policy_id, &edit.policy_id),
    ];
    for (field, given) in ids {
        if let Some(given) = given {
            field.clone_from(given);
        }
    }
    if let Some(targets) = &edit.targets {
        new.targets = each_once(targets);
    }
    if let Some(tags) = &edit.tags {
        new.tags.clone_from(tags);
    }
    if edit.common_name.is_some() || edit.sans.is_some() {
        let common_name = edit.common_name.as_ref().unwrap_or(&old.common_name);
        let kept = || {
            let others = old.sans.iter().map(San::to_string);
            others.filter(|name| *name != old.common_name).collect()
        };
        let sans = edit.sans.clone().unwrap_or_else(kept);
        (new.common_name, new.sans) = certificates::names(common_name, &sans)?;
    }
    certificates::bounded(&new)?;
    Ok(new)
}

/// Those of `all` that are none of `others`.
fn without(all: &[Id], others: &[Id]) -> Vec<Id> {
    let rest = all.iter().filter(|id| !others.contains(id));
    rest.cloned().collect()
}
