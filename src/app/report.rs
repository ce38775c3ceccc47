//! What agents say about their jobs: how one ended, and what follows from it.

use super::{
    App, AppError, audit, lifecycle, need, require_agent,
    work::{held, show},
};
use crate::{
    agent::protocol::{self, FailureClass as WireClass, Outcome, Report},
    clock::Time,
    crypt::secret,
    domain::{
        Attempt, AuditEvent, Category, Certificate, Deployment, DeploymentState, Ending, Executor,
        FailureClass, Holder, Job, JobKind, Order, Principal, Version,
        attempt::{Class, Leaf, Served},
        deployment,
        job::NotLeased,
    },
    id::Id,
    pki::Serial,
    store::{Key, Loaded, Scan, Unit, VERSION_FINGERPRINT},
};

/// The most endpoints in a report, and the most sentences of a kind.
const MOST_SAID: usize = 64;
/// Characters of a reason that are kept.
const MAX_REASON: usize = 4_096;
/// Characters of a sentence, or of why an endpoint showed nothing, that are kept.
const MAX_SENTENCE: usize = 512;
/// Bytes of a program's output that are kept: the last ones.
const MAX_OUTPUT: usize = 4_096;

/// What is said of a job whose lease ended without a word.
pub(super) const OVER_WITHOUT_A_WORD: &str = "the agent took the job and was not heard of it again";

impl App {
    /// Takes an agent's word on how a job ended. Repeating it under the same lease is answered as
    /// the first time; another word under that lease, and any other late one, is refused.
    pub async fn report(
        &self,
        who: &Principal,
        agent: &Id,
        job: &Id,
        token: u64,
        report: &Report,
    ) -> Result<(), AppError> {
        let agent = require_agent(who, agent)?;
        let said = &fingerprint(report);
        let report = &checked(report)?;
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut job = held(&mut unit, agent, job).await?;
            match job.held_by(token) {
                Ok(_) => {}
                Err(NotLeased::Ended(word)) if word.sha256 == *said => return Ok((unit, ())),
                Err(e) => return Err(AppError::Conflict(e.to_string())),
            }
            job.ended_by(token, said.clone());
            let mut attempt = of(report, &job, agent, now);
            if let Some(old) = &mut attempt.old {
                old.serial = self.serial_of(&old.fingerprint_sha256).await?;
            }
            match job.kind.clone() {
                JobKind::Issue { order, .. } => {
                    let Outcome::Failed { class, reason } = &report.outcome else {
                        return Err(unfit(
                            "a job for a key and CSR ends with its CSR, or `failed`",
                        ));
                    };
                    let again = *class == WireClass::Transient;
                    if job.fail(reason.clone(), again, now) {
                        let class = order_class(*class);
                        self.issue_job_over(&mut unit, who, &order, class, reason.clone(), now)
                            .await?;
                    }
                }
                JobKind::Deploy { deployment } => {
                    let mut deployment: Loaded<Deployment> =
                        need(&mut unit, "deployment", &deployment).await?;
                    match &report.outcome {
                        Outcome::Confirmed { served, .. } => {
                            proven(&unit, &deployment, served).await?;
                        }
                        Outcome::Examined { .. } => {
                            return Err(unfit("`examined` ends a dry run or a test of a target"));
                        }
                        _ => {}
                    }
                    if let Some(new) = &mut attempt.new {
                        new.serial = Some(deployment.serial.clone());
                    }
                    settle(&mut job, &mut deployment, &report.outcome, now);
                    if let Outcome::Failed { class, .. } = &report.outcome {
                        let keyless = *class == WireClass::KeyMissing;
                        replace_useless(&mut unit, &deployment, keyless, now).await?;
                    }
                    audit(
                        &mut unit,
                        &deployment_event(who, &deployment, Some(&attempt), now),
                    );
                    deployment.last = Some(attempt.clone());
                    unit.put(deployment);
                }
                JobKind::Rehearse { version } => {
                    try_out(&mut job, &attempt, &report.outcome, now)?;
                    if let Some(new) = &mut attempt.new {
                        let version: Loaded<Version> = show(&unit, "version", &version).await?;
                        new.serial = Some(version.serial.clone());
                    }
                    audit(&mut unit, &trial_event(who, &job, &attempt, now));
                }
                JobKind::Test => {
                    try_out(&mut job, &attempt, &report.outcome, now)?;
                    audit(&mut unit, &trial_event(who, &job, &attempt, now));
                }
            }
            job.last = Some(attempt);
            unit.put(job);
            Ok((unit, ()))
        })
        .await?;
        if matches!(report.outcome, Outcome::Failed { .. }) {
            // A poll that waits learns when the job may be begun again.
            self.doorbell.ring(agent);
        }
        Ok(())
    }

    /// The serial number of a version that this server has issued.
    async fn serial_of(&self, fingerprint: &str) -> Result<Option<Serial>, AppError> {
        let key = Key::new().text(fingerprint).bytes();
        let found = self
            .store
            .scan::<Version>(Scan::under(VERSION_FINGERPRINT, key, 1))
            .await?;
        Ok(found.first().map(|version| version.serial.clone()))
    }

    /// Writes down an attempt that ended without a word; when the job is `over`, with what hangs
    /// on it.
    pub(super) async fn lost(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        job: &mut Job,
        over: bool,
        reason: String,
        now: Time,
    ) -> Result<(), AppError> {
        job.last = Some(Attempt {
            reason: Some(reason.clone()),
            ..begun(job, now)
        });
        if over {
            let reason = job.unwanted.clone().unwrap_or(reason);
            return self.job_over(unit, who, job, reason, now).await;
        }
        if let JobKind::Deploy { deployment } = &job.kind {
            let mut deployment: Loaded<Deployment> = need(unit, "deployment", deployment).await?;
            deployment.last = job.last.clone();
            unit.put(deployment);
        }
        Ok(())
    }

    /// Fails what a job was for, which ended without a word of its agent. What is known of its last
    /// attempt is with the job.
    pub(super) async fn job_over(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        job: &Job,
        reason: String,
        now: Time,
    ) -> Result<(), AppError> {
        match &job.kind {
            JobKind::Issue { order, .. } => {
                let class = match job.unwanted {
                    None => FailureClass::Transient,
                    Some(_) => FailureClass::NeedsOperator,
                };
                self.issue_job_over(unit, who, order, class, reason, now)
                    .await
            }
            JobKind::Deploy { deployment } => {
                let mut deployment: Loaded<Deployment> =
                    need(unit, "deployment", deployment).await?;
                if deployment.is_pending() {
                    deployment.state = failed(reason, Vec::new(), false, now);
                }
                let attempt = job.last.as_ref();
                audit(unit, &deployment_event(who, &deployment, attempt, now));
                if attempt.is_some() {
                    deployment.last = attempt.cloned();
                }
                unit.put(deployment);
                Ok(())
            }
            JobKind::Rehearse { .. } | JobKind::Test => Ok(()),
        }
    }

    async fn issue_job_over(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        order: &Id,
        class: FailureClass,
        reason: String,
        now: Time,
    ) -> Result<(), AppError> {
        let mut order: Loaded<Order> = need(unit, "order", order).await?;
        let mut certificate: Loaded<Certificate> =
            need(unit, "certificate", &order.certificate).await?;
        let retry = lifecycle::retry_of(unit, &certificate).await?;
        lifecycle::fail_order(
            unit,
            who,
            &mut order,
            &mut certificate,
            class,
            reason,
            None,
            retry,
            now,
        );
        unit.put(order);
        unit.put(certificate);
        Ok(())
    }
}

/// Plans a version in place of one that is of no use. One whose key is not on its host: at once, or
/// when the present one is as old as a deployment's retry, so that a host that keeps no key asks
/// for one each hour. One that has not begun, since this server's clock was ahead when it was
/// issued: at once.
async fn replace_useless(
    unit: &mut Unit<'_>,
    deployment: &Deployment,
    keyless: bool,
    now: Time,
) -> Result<(), AppError> {
    let version: Loaded<Version> = show(unit, "version", &deployment.version).await?;
    let at = match version.not_before > now {
        true => now,
        false if keyless => now.max(version.created_at.plus(deployment::RETRY)),
        false => return Ok(()),
    };
    let mut certificate: Loaded<Certificate> =
        need(unit, "certificate", &deployment.certificate).await?;
    let line = certificate
        .holders
        .get_mut(&Holder::Agent(deployment.agent.clone()));
    if let Some(line) = line
        && let Some(current) = &line.current
        && current.version == version.id
    {
        line.hasten(at);
        unit.put(certificate);
    }
    Ok(())
}

/// What a repetition is known by.
fn fingerprint(report: &Report) -> String {
    secret::hash(&serde_json::to_string(report).unwrap_or_default())
}

fn unfit(message: &str) -> AppError {
    AppError::invalid("outcome", message)
}

/// What an agent says, bounded. Texts for people are cut and freed of control characters rather
/// than refused: a refused report would have the work done again.
fn checked(report: &Report) -> Result<Report, AppError> {
    let mut report = report.clone();
    for (field, fingerprint) in [
        ("old_fingerprint_sha256", &report.old_fingerprint_sha256),
        ("new_fingerprint_sha256", &report.new_fingerprint_sha256),
    ] {
        if !fingerprint.as_deref().is_none_or(is_sha256) {
            let message = "64 lower-case hexadecimal digits are expected";
            return Err(AppError::invalid(field, message));
        }
    }
    let none = &mut Vec::new();
    let (reason, served) = match &mut report.outcome {
        Outcome::Confirmed { served, .. } => (None, served),
        Outcome::Examined {
            faults,
            findings,
            served,
        } => {
            for (field, sentences) in [("faults", faults), ("findings", findings)] {
                if sentences.len() > MOST_SAID {
                    let message = format!("{MOST_SAID} sentences at most");
                    return Err(AppError::invalid(field, message));
                }
                sentences.iter_mut().for_each(|s| tidy(s, MAX_SENTENCE));
            }
            (None, served)
        }
        Outcome::RolledBack { reason, served } | Outcome::RollbackFailed { reason, served } => {
            (Some(reason), served)
        }
        Outcome::Failed { reason, .. } => (Some(reason), none),
    };
    let plain = |text: &str| text.len() <= 512 && !text.chars().any(char::is_control);
    let good = |s: &protocol::Served| {
        let texts = [&s.serial, &s.fingerprint_sha256];
        plain(&s.endpoint) && texts.iter().all(|t| t.as_deref().is_none_or(plain))
    };
    if served.len() > MOST_SAID || !served.iter().all(good) {
        return Err(AppError::invalid(
            "served",
            format!("{MOST_SAID} endpoints at most, in texts of up to 512 printable characters"),
        ));
    }
    for error in served.iter_mut().filter_map(|s| s.error.as_mut()) {
        tidy(error, MAX_SENTENCE);
    }
    if let Some(reason) = reason {
        tidy(reason, MAX_REASON);
    }
    report.output = tail(&report.output);
    Ok(report)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Cuts a text to so many characters, none of them a control character.
fn tidy(text: &mut String, most: usize) {
    *text = text.replace(char::is_control, " ");
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push_str(" ...");
    }
}

/// The end of a program's output, without control characters but line ends.
fn tail(output: &str) -> String {
    let kept = |c: &char| *c == '\n' || !c.is_control();
    let plain: String = output.replace('\t', " ").chars().filter(kept).collect();
    let mut from = plain.len().saturating_sub(MAX_OUTPUT);
    while !plain.is_char_boundary(from) {
        from += 1;
    }
    plain.get(from..).unwrap_or_default().trim_end().to_owned()
}

/// A deployment is confirmed by what was seen: everywhere its own version, and that somewhere.
async fn proven(
    unit: &Unit<'_>,
    deployment: &Deployment,
    served: &[protocol::Served],
) -> Result<(), AppError> {
    let version: Loaded<Version> = show(unit, "version", &deployment.version).await?;
    let serial = version.serial.to_string();
    let shows_it = |seen: &protocol::Served| {
        seen.serial.as_ref() == Some(&serial)
            && seen.fingerprint_sha256.as_ref() == Some(&version.fingerprint_sha256)
    };
    if !served.is_empty() && served.iter().all(shows_it) {
        return Ok(());
    }
    Err(AppError::invalid(
        "served",
        format!(
            "`confirmed` is for a version that every endpoint was seen to serve: serial {serial}, \
             fingerprint {}",
            version.fingerprint_sha256
        ),
    ))
}

/// An attempt at a job that has been begun, and of which nothing is known but that it is over.
fn begun(job: &Job, now: Time) -> Attempt {
    let Executor::Agent(agent) = job.executor.clone();
    let started_at = job.started_at.unwrap_or(job.created_at);
    Attempt {
        job: job.id.clone(),
        number: job.attempts,
        agent,
        started_at,
        ended_at: now,
        ending: Ending::Lost,
        reason: None,
        findings: Vec::new(),
        old: None,
        new: None,
        served: Vec::new(),
        output: String::new(),
        duration_ms: u64::try_from(now.since(started_at).as_millis()).unwrap_or(u64::MAX),
    }
}

/// The attempt that a report tells of.
fn of(report: &Report, job: &Job, agent: &Id, now: Time) -> Attempt {
    let leaf = |fingerprint: &Option<String>| {
        fingerprint.clone().map(|fingerprint_sha256| Leaf {
            fingerprint_sha256,
            serial: None,
        })
    };
    let (ending, reason, served) = match &report.outcome {
        Outcome::Confirmed {
            changed: true,
            served,
        } => (Ending::Changed, None, &served[..]),
        Outcome::Confirmed {
            changed: false,
            served,
        } => (Ending::Unchanged, None, &served[..]),
        Outcome::RolledBack { reason, served } => {
            (Ending::RolledBack, Some(reason.clone()), &served[..])
        }
        Outcome::RollbackFailed { reason, served } => {
            (Ending::RollbackFailed, Some(reason.clone()), &served[..])
        }
        Outcome::Examined { faults, served, .. } if faults.is_empty() => {
            (Ending::Passed, None, &served[..])
        }
        Outcome::Examined { faults, served, .. } => {
            let class = Class::Operator;
            let mut reason = faults.join("; ");
            tidy(&mut reason, MAX_REASON);
            (Ending::Failed { class }, Some(reason), &served[..])
        }
        Outcome::Failed { class, reason } => {
            let class = match class {
                WireClass::Transient => Class::Transient,
                WireClass::Permanent => Class::Permanent,
                WireClass::KeyMissing => Class::KeyMissing,
                WireClass::Operator => Class::Operator,
            };
            (Ending::Failed { class }, Some(reason.clone()), &[][..])
        }
    };
    let findings = match &report.outcome {
        Outcome::Examined { findings, .. } => findings.clone(),
        _ => Vec::new(),
    };
    Attempt {
        agent: agent.clone(),
        ending,
        reason,
        findings,
        old: leaf(&report.old_fingerprint_sha256),
        new: leaf(&report.new_fingerprint_sha256),
        served: served.iter().map(seen).collect(),
        output: report.output.clone(),
        duration_ms: report.duration_ms,
        ..begun(job, now)
    }
}

fn seen(served: &protocol::Served) -> Served {
    Served {
        endpoint: served.endpoint.clone(),
        serial: served.serial.clone(),
        fingerprint_sha256: served.fingerprint_sha256.clone(),
        error: served.error.clone(),
    }
}

fn order_class(class: WireClass) -> FailureClass {
    match class {
        WireClass::Transient => FailureClass::Transient,
        WireClass::Permanent => FailureClass::Permanent,
        WireClass::KeyMissing | WireClass::Operator => FailureClass::NeedsOperator,
    }
}

/// Brings job and deployment to where the agent says they ended. A deployment that was set aside
/// meanwhile stays so.
fn settle(job: &mut Job, deployment: &mut Deployment, outcome: &Outcome, now: Time) {
    let why = job.unwanted.clone();
    let reason_of = |reason: &String| why.clone().unwrap_or_else(|| reason.clone());
    let state = match outcome {
        Outcome::Confirmed { served, .. } => {
            job.succeed(now);
            Some(DeploymentState::Confirmed {
                at: now,
                endpoints: served.iter().map(|s| s.endpoint.clone()).collect(),
            })
        }
        Outcome::RolledBack { reason, served } => {
            job.fail(reason.clone(), false, now);
            let served = others(served, deployment);
            Some(failed(reason_of(reason), served, false, now))
        }
        Outcome::RollbackFailed { reason, served } => {
            job.fail(reason.clone(), false, now);
            let served = others(served, deployment);
            Some(failed(reason.clone(), served, true, now))
        }
        Outcome::Failed { class, reason } => {
            let over = job.fail(reason.clone(), *class == WireClass::Transient, now);
            over.then(|| failed(reason_of(reason), Vec::new(), false, now))
        }
        Outcome::Examined { .. } => None,
    };
    if let Some(state) = state
        && deployment.is_pending()
    {
        deployment.state = state;
    }
}

/// Ends a dry run or a test as the agent says.
fn try_out(job: &mut Job, attempt: &Attempt, outcome: &Outcome, now: Time) -> Result<(), AppError> {
    match (outcome, &attempt.reason) {
        (Outcome::Examined { .. }, None) => job.succeed(now),
        (Outcome::Examined { .. } | Outcome::Failed { .. }, Some(reason)) => {
            job.fail(reason.clone(), false, now);
        }
        _ => {
            let message = "a dry run or a test of a target ends with `examined` or `failed`";
            return Err(unfit(message));
        }
    }
    Ok(())
}

/// The (endpoint, serial number)s of those seen that do not serve the deployment's version.
fn others(served: &[protocol::Served], deployment: &Deployment) -> Vec<(String, String)> {
    let wanted = deployment.serial.to_string();
    served
        .iter()
        .filter_map(|s| Some((s.endpoint.clone(), s.serial.clone()?)))
        .filter(|(_, serial)| *serial != wanted)
        .collect()
}

fn failed(
    reason: String,
    served: Vec<(String, String)>,
    broken: bool,
    now: Time,
) -> DeploymentState {
    DeploymentState::Failed {
        at: now,
        reason,
        served,
        broken,
        retry_at: now.plus(deployment::RETRY),
    }
}

fn deployment_event(
    who: &Principal,
    deployment: &Deployment,
    attempt: Option<&Attempt>,
    now: Time,
) -> AuditEvent {
    let said = || {
        (
            "reason",
            attempt.and_then(|a| a.reason.clone()).unwrap_or_default(),
        )
    };
    let (action, detail) = match &deployment.state {
        DeploymentState::Confirmed { endpoints, .. } => {
            ("deployment_confirmed", ("endpoints", endpoints.join(" ")))
        }
        DeploymentState::Failed { reason, .. } => ("deployment_failed", ("reason", reason.clone())),
        DeploymentState::Pending => ("deployment_attempt_failed", said()),
        DeploymentState::Superseded { .. } => ("deployment_stopped", said()),
    };
    let resource = ("certificate", deployment.certificate.as_str());
    let event = AuditEvent::new(who, Category::CertLifecycle, action, resource, now)
        .with("target", &deployment.target)
        .with("serial", &deployment.serial)
        .with(detail.0, detail.1);
    match attempt {
        Some(attempt) => in_short(event, attempt),
        None => event,
    }
}

fn trial_event(who: &Principal, job: &Job, attempt: &Attempt, now: Time) -> AuditEvent {
    let target = job.target.as_ref().map_or("", Id::as_str);
    let (action, resource) = match &job.certificate {
        Some(certificate) => ("dry_run_ended", ("certificate", certificate.as_str())),
        None => ("target_tested", ("target", target)),
    };
    let mut event = AuditEvent::new(who, Category::CertLifecycle, action, resource, now);
    if let Some(reason) = &attempt.reason {
        event = event.with("reason", reason);
    }
    in_short(event.with("target", target), attempt)
}

/// The event, with the attempt in short.
fn in_short(event: AuditEvent, attempt: &Attempt) -> AuditEvent {
    let mut event = event
        .with("outcome", attempt.ending.as_str())
        .with("attempt", attempt.number)
        .with("duration_ms", attempt.duration_ms);
    if let Some(class) = attempt.ending.class() {
        event = event.with("class", class.as_str());
    }
    for (name, leaf) in [("old", &attempt.old), ("new", &attempt.new)] {
        if let Some(leaf) = leaf {
            event = event.with(&format!("{name}_fingerprint"), &leaf.fingerprint_sha256);
        }
    }
    event
}
