//! Leased jobs: one task each, which does the work and keeps the lease meanwhile.

use super::{
    Env,
    backoff::Backoff,
    keys::PendingKeys,
    outbox::Outbox,
    protocol::{
        FailureClass, JOBS_A_POLL, Lease, Outcome, Report, Served, VersionItem, WorkItem, WorkKind,
    },
    server::{Refusal, Server},
    watch::Watcher,
};
use crate::{
    crypt::PrivateKey,
    deploy::{self, Class, Deployer, Fault, Pair, TargetConfig, Vault},
    id::Id,
    pki::{Chain, KeyAlgorithm, San, csr},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Jobs accepted at once; the server keeps the rest.
const IN_HAND: usize = 32;
/// Keys made and signing requests sent at once.
const REQUESTS: usize = 4;

/// The jobs in hand.
pub struct Jobs(Arc<Shared>);

struct Shared {
    env: Env,
    server: Arc<Server>,
    outbox: Arc<Outbox>,
    deployer: Arc<Deployer>,
    vault: Vault,
    keys: Arc<PendingKeys>,
    watcher: Arc<Watcher>,
    in_hand: Arc<Semaphore>,
    requests: Semaphore,
    running: Mutex<BTreeMap<Id, Running>>,
}

struct Running {
    token: String,
    /// Ends the job as if its lease were lost: what it did is undone.
    stop: CancellationToken,
    /// The server wants it undone and reported.
    withdrawn: CancellationToken,
}

/// By what a job is told to stop.
struct Ends {
    stop: CancellationToken,
    withdrawn: CancellationToken,
}

impl Jobs {
    /// No jobs yet.
    pub fn new(
        env: Env,
        server: Arc<Server>,
        outbox: Arc<Outbox>,
        deployer: Arc<Deployer>,
        vault: Vault,
        keys: PendingKeys,
        watcher: Arc<Watcher>,
    ) -> Self {
        Self(Arc::new(Shared {
            env,
            server,
            outbox,
            deployer,
            vault,
            keys: Arc::new(keys),
            watcher,
            in_hand: Arc::new(Semaphore::new(IN_HAND)),
            requests: Semaphore::new(REQUESTS),
            running: Mutex::default(),
        }))
    }

    /// Waits until all the jobs that one poll leases can be taken.
    pub async fn room(&self) {
        // The semaphore is never closed.
        let _ = self.0.in_hand.acquire_many(JOBS_A_POLL).await;
    }

    /// The jobs in hand.
    pub fn in_hand(&self) -> BTreeSet<Id> {
        self.0.running().keys().cloned().collect()
    }

    /// Takes a leased job and starts it; false when it was not taken.
    pub fn take(&self, item: &Value) -> bool {
        let item = match serde_json::from_value::<WorkItem>(item.clone()) {
            Ok(item) => item,
            Err(error) => {
                self.0.refuse(item, &error);
                return false;
            }
        };
        let Ok(permit) = self.0.in_hand.clone().try_acquire_owned() else {
            tracing::warn!(job = %item.id, "too many jobs in hand: this one waits for its next lease");
            return false;
        };
        let stop = CancellationToken::new();
        let withdrawn = CancellationToken::new();
        {
            let mut running = self.0.running();
            match running.get(&item.id) {
                Some(job) if job.token == item.lease.token => return false,
                // Leased anew, so the earlier lease is lost.
                Some(job) => job.stop.cancel(),
                None => {}
            }
            let job = Running {
                token: item.lease.token.clone(),
                stop: stop.clone(),
                withdrawn: withdrawn.clone(),
            };
            running.insert(item.id.clone(), job);
        }
        let ends = Ends { stop, withdrawn };
        self.0
            .env
            .tasks
            .spawn("agent job", self.0.clone().run(item, ends, permit));
        true
    }

    /// Waits until no job is in hand.
    pub async fn ended(&self) {
        // The semaphore is never closed.
        let _ = self.0.in_hand.acquire_many(IN_HAND as u32).await;
    }

    /// The server wants a job no more.
    pub fn withdraw(&self, job: &Id) {
        self.0.withdraw(job);
    }

    /// Tells every job to stop and undo.
    pub fn stop_all(&self) {
        self.0.running().values().for_each(|job| job.stop.cancel());
    }
}

impl Shared {
    async fn run(self: Arc<Self>, item: WorkItem, ends: Ends, _in_hand: OwnedSemaphorePermit) {
        let began = Instant::now();
        let entry = Entry {
            jobs: &self,
            job: &item.id,
            token: &item.lease.token,
        };
        let drained = self.env.tasks.token();
        let report = tokio::select! {
            biased;
            // As in a crash: the journal and the next lease of the job take it from here. Waiting
            // for a verification would take longer than the end of a program may.
            () = drained.cancelled() => return,
            report = self.work_under_lease(&item, &ends) => report,
        };
        let superseded = !entry.leave();
        let Some(mut report) = report.filter(|_| !superseded) else {
            return;
        };
        tracing::info!(
            job = %item.id, kind = ?item.kind, outcome = summary(&report.outcome), "job ended"
        );
        report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.outbox.add(&item.id, report);
    }

    /// Does the job while its lease holds; `None` when there is nothing to report. One that the
    /// server withdraws keeps its lease until it is undone, so that its report is heard.
    async fn work_under_lease(&self, item: &WorkItem, ends: &Ends) -> Option<Report> {
        let work = self.work(item, &ends.stop);
        tokio::pin!(work);
        let lease = self.keep_lease(&item.id, &item.lease);
        tokio::pin!(lease);
        loop {
            tokio::select! {
                biased;
                report = &mut work => return report,
                () = ends.withdrawn.cancelled(), if !ends.stop.is_cancelled() => {
                    tracing::info!(job = %item.id, "the server withdraws the job");
                    ends.stop.cancel();
                }
                () = &mut lease => break,
            }
        }
        ends.stop.cancel();
        work.await;
        None
    }

    /// Renews a lease after each third of it, until it is lost.
    async fn keep_lease(&self, job: &Id, lease: &Lease) {
        let length = Duration::from_secs(lease.seconds.clamp(3, 3600));
        let mut held = Instant::now();
        loop {
            sleep(length / 3).await;
            let asked = Instant::now();
            match self.server.renew(job, &lease.token).await {
                Ok(renewed) => {
                    held = asked;
                    if renewed.cancel {
                        self.withdraw(job);
                    }
                }
                Err(
                    error @ (Refusal::Lost(_) | Refusal::Rejected { .. } | Refusal::Retired(_)),
                ) => {
                    tracing::warn!(%job, %error, "the job is dropped");
                    return;
                }
                Err(error) if held.elapsed() >= length => {
                    tracing::warn!(%job, %error, "the lease ran out: the job is dropped");
                    return;
                }
                Err(error) => tracing::warn!(%job, %error, "the lease was not renewed"),
            }
        }
    }

    /// Does the job; `None` when there is nothing to report.
    async fn work(&self, item: &WorkItem, stop: &CancellationToken) -> Option<Report> {
        let token = &item.lease.token;
        let failed = |fault| Report::new(token, failed(fault));
        match item.kind {
            WorkKind::Issuance | WorkKind::Renewal => {
                self.request(item, stop).await.err().map(failed)
            }
            WorkKind::Deployment => Some(self.deploy(item, stop).await.unwrap_or_else(failed)),
            WorkKind::DryRun => Some(self.rehearse(item, stop).await.unwrap_or_else(failed)),
            WorkKind::TargetTest => Some(self.test(item, stop).await.unwrap_or_else(failed)),
        }
    }

    /// Makes a key and sends its signing request until the server has it.
    async fn request(&self, item: &WorkItem, stop: &CancellationToken) -> Result<(), Fault> {
        let _turn = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(withdrawn()),
            turn = self.requests.acquire() => turn,
        };
        let (job, certificate) = (&item.id, certificate_of(item)?);
        let algorithm = item.key_algorithm.as_deref().unwrap_or("ECDSA-P256");
        let algorithm: KeyAlgorithm =
            serde_json::from_value(Value::from(algorithm)).map_err(|e| {
                Fault::permanent(format!(
                    "this agent cannot make a key of kind {algorithm:?}: {e}"
                ))
            })?;
        let sans = item
            .sans
            .iter()
            .map(|san| san.parse::<San>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Fault::permanent(format!("a name of the certificate is not one: {e}")))?;
        let key = self.key(job, certificate, algorithm).await?;
        let csr = csr::build(key.pkcs8_der(), item.common_name.as_deref(), &sans)
            .map_err(Fault::permanent)?;
        tracing::info!(%job, %certificate, spki = key.public_key().sha256(), "key ready, sending its request");
        let mut backoff = Backoff::default();
        loop {
            let sent = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(withdrawn()),
                sent = self.server.csr(job, &item.lease.token, &csr) => sent,
            };
            let error = match sent {
                Ok(()) => return Ok(()),
                // The next lease of the job sends the same key's request again.
                Err(error @ (Refusal::Lost(_) | Refusal::Retired(_))) => {
                    tracing::warn!(%job, %certificate, %error, "the job is dropped");
                    return Ok(());
                }
                Err(Refusal::Rejected { status, problem }) => {
                    self.keys.discard(job)?;
                    return Err(Fault::permanent(format!(
                        "the server refused the signing request ({status}): {problem}"
                    )));
                }
                Err(error) => error,
            };
            let pause = backoff.next(&*self.env.rng, error.retry_after());
            tracing::warn!(%job, %certificate, %error, ?pause, "the signing request is not sent yet");
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(withdrawn()),
                () = sleep(pause) => {}
            }
        }
    }

    /// The key of a job. One of RSA is looked for on a thread of its own: meanwhile leases are kept.
    async fn key(
        &self,
        job: &Id,
        certificate: &Id,
        algorithm: KeyAlgorithm,
    ) -> Result<PrivateKey, Fault> {
        if !algorithm.is_rsa() {
            return self.keys.for_job(job, certificate, algorithm);
        }
        let (keys, job, certificate) = (self.keys.clone(), job.clone(), certificate.clone());
        let made = self.env.tasks.spawn_blocking("RSA key", move || {
            keys.for_job(&job, &certificate, algorithm)
        });
        made.await.map_err(Fault::transient)?
    }

    async fn deploy(&self, item: &WorkItem, stop: &CancellationToken) -> Result<Report, Fault> {
        let (target, config) = target_of(item)?;
        let pair = self.pair_of(item)?;
        let version = pair.version();
        let ended = self.deployer.deploy(target, &config, &pair, stop).await;
        self.watcher.ask(target);
        let certificate = &version.certificate;
        if matches!(ended.outcome, deploy::Outcome::Confirmed { .. })
            && let Err(error) = self
                .keys
                .settle(certificate, pair.chain().leaf().spki_sha256())
        {
            tracing::warn!(%certificate, %error, "keys no longer needed were not removed");
        }
        Ok(Report {
            old_fingerprint_sha256: ended.old_fingerprint,
            new_fingerprint_sha256: Some(pair.chain().leaf().fingerprint_sha256().to_owned()),
            output: ended.output,
            ..Report::new(&item.lease.token, ended.outcome.into())
        })
    }

    async fn rehearse(&self, item: &WorkItem, stop: &CancellationToken) -> Result<Report, Fault> {
        let (target, config) = target_of(item)?;
        let pair = self.pair_of(item)?;
        let found = self.deployer.rehearse(target, &config, &pair, stop).await?;
        Ok(Report {
            new_fingerprint_sha256: Some(pair.chain().leaf().fingerprint_sha256().to_owned()),
            ..examined(item, found)
        })
    }

    async fn test(&self, item: &WorkItem, stop: &CancellationToken) -> Result<Report, Fault> {
        let (target, config) = target_of(item)?;
        let found = self.deployer.test(target, &config, stop).await?;
        Ok(examined(item, found))
    }

    /// The version of a job, with its key.
    fn pair_of(&self, item: &WorkItem) -> Result<Pair, Fault> {
        let version = item.version.as_ref().ok_or_else(|| missing("version"))?;
        let chain = chain_of(version)?;
        let spki = chain.leaf().spki_sha256().to_owned();
        let certificate = certificate_of(item)?;
        let key = self.vault.key(certificate, &spki)?.ok_or_else(|| {
            Fault::key_missing(format!(
                "the private key of serial {} (SPKI {spki}) is not on this host: another version \
                 with a new key is needed",
                version.serial
            ))
        })?;
        Pair::new(certificate.clone(), chain, key)
    }

    /// Answers an item that is not understood, as far as it says whom to answer.
    fn refuse(&self, item: &Value, error: &serde_json::Error) {
        let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str);
        let job = text("/id").and_then(|id| id.parse::<Id>().ok());
        let (Some(job), Some(token)) = (job, text("/lease/token")) else {
            tracing::error!(%error, "the server sent a job that cannot be read");
            return;
        };
        tracing::error!(%job, %error, "the server sent a job that this agent does not understand");
        let outcome = failed(Fault::permanent(format!(
            "this agent (certctl {}) does not understand the job: {error}",
            env!("CARGO_PKG_VERSION")
        )));
        self.outbox.add(&job, Report::new(token, outcome));
    }

    fn withdraw(&self, job: &Id) {
        if let Some(running) = self.running().get(job) {
            running.withdrawn.cancel();
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Id, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job's place among the running, left on drop, however it ends.
struct Entry<'a> {
    jobs: &'a Shared,
    job: &'a Id,
    token: &'a str,
}

impl Entry<'_> {
    /// Leaves; false when a newer lease of the same job has taken the place.
    fn leave(&self) -> bool {
        let mut running = self.jobs.running();
        let own = running
            .get(self.job)
            .is_some_and(|job| job.token == self.token);
        if own {
            running.remove(self.job);
        }
        own
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The chain of a version, when it is the one the job names.
fn chain_of(version: &VersionItem) -> Result<Chain, Fault> {
    let chain = Chain::from_pem(&version.fullchain_pem)
        .map_err(|e| Fault::permanent(format!("the version's fullchain_pem: {e}")))?;
    let leaf = chain.leaf();
    for (what, said, is) in [
        (
            "serial",
            version.serial.as_str(),
            leaf.serial().to_string().as_str(),
        ),
        (
            "fingerprint",
            &version.fingerprint_sha256,
            leaf.fingerprint_sha256(),
        ),
        ("public key", &version.spki_sha256, leaf.spki_sha256()),
    ] {
        if said != is {
            let said: String = said.chars().take(128).collect();
            return Err(Fault::permanent(format!(
                "the version's {what} is said to be {said:?} and is {is}"
            )));
        }
    }
    Ok(chain)
}

fn missing(what: &str) -> Fault {
    Fault::permanent(format!("the job has no {what}"))
}

/// The target of a job, its configuration read.
fn target_of(item: &WorkItem) -> Result<(&Id, TargetConfig), Fault> {
    let target = item.target_id.as_ref();
    let target = target.ok_or_else(|| missing("target_id"))?;
    let kind = item.target_type.as_deref();
    let kind = kind.ok_or_else(|| missing("target_type"))?;
    let empty = Value::Object(serde_json::Map::new());
    let config = TargetConfig::parse(kind, item.target_config.as_ref().unwrap_or(&empty))
        .map_err(|e| Fault::operator(format!("target {target}: {e}")))?;
    Ok((target, config))
}

fn examined(item: &WorkItem, found: deploy::Examined) -> Report {
    let outcome = Outcome::Examined {
        faults: found.faults,
        findings: found.findings,
        served: found.seen.into_iter().map(Served::from).collect(),
    };
    Report {
        old_fingerprint_sha256: found.old_fingerprint,
        output: found.output,
        ..Report::new(&item.lease.token, outcome)
    }
}

fn certificate_of(item: &WorkItem) -> Result<&Id, Fault> {
    let certificate = item.certificate_id.as_ref();
    certificate.ok_or_else(|| missing("certificate_id"))
}

fn withdrawn() -> Fault {
    Fault::transient("the job was withdrawn before its end")
}

fn failed(fault: Fault) -> Outcome {
    let class = match fault.class {
        Class::Transient => FailureClass::Transient,
        Class::Permanent => FailureClass::Permanent,
        Class::KeyMissing => FailureClass::KeyMissing,
        Class::Operator => FailureClass::Operator,
    };
    Outcome::Failed {
        class,
        reason: fault.reason,
    }
}

impl From<deploy::Outcome> for Outcome {
    fn from(outcome: deploy::Outcome) -> Self {
        let served = |seen: Vec<deploy::Seen>| seen.into_iter().map(Served::from).collect();
        match outcome {
            deploy::Outcome::Confirmed { changed, seen } => Self::Confirmed {
                changed,
                served: served(seen),
            },
            deploy::Outcome::RolledBack { reason, seen } => Self::RolledBack {
                reason,
                served: served(seen),
            },
            deploy::Outcome::RollbackFailed { reason, seen } => Self::RollbackFailed {
                reason,
                served: served(seen),
            },
            deploy::Outcome::Failed(fault) => failed(fault),
        }
    }
}

impl From<deploy::Seen> for Served {
    fn from(seen: deploy::Seen) -> Self {
        let deploy::Seen {
            endpoint,
            serial,
            fingerprint,
            error,
        } = seen;
        Self {
            endpoint,
            serial,
            fingerprint_sha256: fingerprint,
            error,
        }
    }
}

fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Confirmed { changed: true, .. } => "confirmed".into(),
        Outcome::Confirmed { changed: false, .. } => "confirmed, nothing to change".into(),
        Outcome::RolledBack { reason, .. } => format!("rolled back: {reason}"),
        Outcome::RollbackFailed { reason, .. } => format!("rollback failed: {reason}"),
        Outcome::Examined { faults, .. } if faults.is_empty() => "nothing stands in the way".into(),
        Outcome::Examined { faults, .. } => format!("found: {}", faults.join("; ")),
        Outcome::Failed { reason, .. } => format!("failed: {reason}"),
    }
}
