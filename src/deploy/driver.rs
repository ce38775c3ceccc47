//! The one order of work of every deployment, and what is done about one that a crash cut short.

use super::{
    Before, Ended, Fault, Host, Journal, Outcome, Pair, Paths, Phase, Target, TargetConfig,
    Unverified, Vault, VersionRef, file::FileTarget, nginx::NginxTarget, places,
    programs::Programs, site::SiteTarget, verify,
};
use crate::{
    id::Id,
    sys::{Reach, remove_temporaries},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// Deployments under way at once.
const AT_WORK: usize = 4;

/// Deploys to the targets of one host.
pub struct Deployer {
    pub(super) host: Host,
    pub(super) paths: Paths,
    pub(super) vault: Vault,
    pub(super) locks: Locks,
    at_work: Semaphore,
}

impl Deployer {
    /// A deployer on `paths`.
    pub fn new(host: Host, paths: Paths) -> Self {
        let vault = Vault::new(host.files.clone(), paths.clone()).owned_by(host.policy.user);
        Self {
            host,
            paths,
            vault,
            locks: Locks::default(),
            at_work: Semaphore::new(AT_WORK),
        }
    }

    /// Puts a version on a target and sees it served. When `stop` is cancelled before the end,
    /// what was there before is put back.
    pub async fn deploy(
        &self,
        target: &Id,
        config: &TargetConfig,
        pair: &Pair,
        stop: &CancellationToken,
    ) -> Ended {
        let _turn = tokio::select! {
            biased;
            turn = self.turn(target, Some(&pair.version().certificate), Some(config)) => turn,
            () = stop.cancelled() => {
                return Ended {
                    outcome: Outcome::Failed(Fault::transient(STOPPED)),
                    old_fingerprint: None,
                    output: String::new(),
                };
            }
        };
        let mut old = None;
        let programs = Programs::new(&*self.host.exec);
        let ended = self
            .attempt(target, config, pair, stop, &programs, &mut old)
            .await;
        Ended {
            outcome: ended.unwrap_or_else(Outcome::Failed),
            old_fingerprint: old,
            output: programs.output(),
        }
    }

    /// Waits until nothing else is done on the target or with the certificate's versions. Always in
    /// this order, so that no two wait for each other. The certificate is locked too, because its
    /// targets share the staged versions and the link; and the software, because it reads every
    /// target's pair whenever it tests or loads its configuration, and must see none that is half
    /// replaced. What waits for another deployment takes no place from those that could begin.
    pub(super) async fn turn(
        &self,
        target: &Id,
        certificate: Option<&Id>,
        config: Option<&TargetConfig>,
    ) -> Turn<'_> {
        let target = self.locks.hold(format!("target {target}")).await;
        let certificate = match certificate {
            Some(id) => Some(self.locks.hold(format!("certificate {id}")).await),
            None => None,
        };
        let software = match config.and_then(TargetConfig::software) {
            Some(path) => Some(
                self.locks
                    .hold(format!("software {}", path.display()))
                    .await,
            ),
            None => None,
        };
        Turn {
            _target: target,
            _certificate: certificate,
            _software: software,
            _at_work: self.at_work.acquire().await.ok(),
        }
    }

    /// Removes what a crash left half written at the places of this host's targets. For the start,
    /// before anything is deployed.
    pub fn sweep(&self) {
        let files = &*self.host.files;
        let swept = Journal::targets(files, &self.paths).and_then(|targets| {
            for target in targets {
                let journal = Journal::load(files, &self.paths, &target)?;
                let places = journal.iter().flat_map(|j| j.target.needs().writes);
                for dir in places.filter_map(|path| path.parent()) {
                    remove_temporaries(files, dir, Reach::Directory)?;
                }
            }
            Ok(())
        });
        if let Err(error) = swept {
            tracing::warn!(%error, "what a crash left half written was not removed");
        }
    }

    /// Decides every deployment that a crash left open, and serves again the sites that were
    /// served. What fails is logged: it must not keep the rest of the host from its work. False
    /// when something failed and is to be tried again; what is restored is left alone then.
    pub async fn recover(&self) -> bool {
        let targets = match Journal::targets(&*self.host.files, &self.paths) {
            Ok(targets) => targets,
            Err(error) => {
                tracing::error!(%error, "cannot list the deployment journals");
                return false;
            }
        };
        let mut whole = true;
        if let Err(error) = self.host.files.remove_tree(&self.paths.rehearsals()) {
            tracing::warn!(%error, "what a rehearsal left behind was not removed");
        }
        for target in targets {
            let journal = Journal::load(&*self.host.files, &self.paths, &target);
            let journal = journal.ok().flatten();
            let of = journal.as_ref().map(|j| &j.version.certificate);
            let config = journal.as_ref().map(|j| &j.target);
            let _turn = self.turn(&target, of, config).await;
            if let Err(error) = self.resume(&target).await {
                tracing::error!(%target, %error, "the target could not be restored");
                whole = false;
            }
        }
        whole
    }

    async fn attempt(
        &self,
        target: &Id,
        config: &TargetConfig,
        pair: &Pair,
        stop: &CancellationToken,
        programs: &Programs<'_>,
        old: &mut Option<String>,
    ) -> Result<Outcome, Fault> {
        self.permits(config)?;
        pair.valid_at(self.host.clock.now())?;
        let name = verify::server_name(config.server_name(), pair.chain().leaf())?;
        let place = self.place(target, config, &pair.version().certificate, name, programs);
        let last = self.close(target, programs).await?;
        self.vault.stage(pair)?;
        let before = place.before().await?;
        *old = self.fingerprint(&before);
        let journal = Journal {
            phase: Phase::Begun,
            version: pair.version().clone(),
            target: config.clone(),
            before,
            beside: last
                .as_ref()
                .map_or_else(BTreeMap::new, |last| last.beside(pair)),
        };
        if place.in_place(&journal.before, pair.version()) {
            return self
                .confirm_in_place(target, &*place, pair, journal, last)
                .await;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Fault::transient(STOPPED)),
            rehearsed = place.rehearse(pair) => rehearsed?,
        }
        journal.save(&*self.host.files, &self.paths, target)?;
        tracing::info!(%target, version = %pair.version(), "deployment begun");
        if let Err(fault) = place.commit(pair, &journal.before).await {
            return match self.put_back(target, &*place, journal).await {
                (_, Ok(())) => Err(fault),
                (_, Err(and)) => Ok(rollback_failed(&fault.reason, and)),
            };
        }
        let served = tokio::select! {
            biased;
            () = stop.cancelled() => Err(Unverified::unseen(STOPPED)),
            served = async {
                place.reload().await.map_err(Unverified::unseen)?;
                place.verify(pair).await
            } => served,
        };
        let failed = match served {
            Ok(seen) => {
                let committed = journal.clone().with(Phase::Committed);
                match committed.save(&*self.host.files, &self.paths, target) {
                    Ok(()) => {
                        tracing::info!(%target, version = %pair.version(), "deployed and seen served");
                        self.prune(target, &committed);
                        return Ok(Outcome::Confirmed {
                            changed: true,
                            seen,
                        });
                    }
                    Err(fault) => Unverified {
                        reason: fault.reason,
                        seen,
                    },
                }
            }
            Err(failed) => failed,
        };
        if !stop.is_cancelled() && place.owes_nothing(&journal.before) {
            journal
                .with(Phase::Committed)
                .save(&*self.host.files, &self.paths, target)?;
            let reason = format!(
                "{}; nothing was served before, so the new version stays in place for the server \
                 that is to use it",
                failed.reason
            );
            return Err(Fault::transient(reason));
        }
        tracing::warn!(%target, version = %pair.version(), reason = failed.reason, "rolling back");
        Ok(match self.put_back(target, &*place, journal).await {
            (_, Ok(())) => Outcome::RolledBack {
                reason: failed.reason,
                seen: failed.seen,
            },
            (_, Err(and)) => rollback_failed(&failed.reason, and),
        })
    }

    /// The leaf in place before a deployment.
    pub(super) fn fingerprint(&self, before: &Before) -> Option<String> {
        let seen = || before.seen.iter().find_map(|seen| seen.fingerprint.clone());
        if before.adopts() {
            return seen();
        }
        let ours = before
            .version
            .as_ref()
            .and_then(|v| self.vault.load(v).ok())
            .map(|pair| pair.chain().leaf().fingerprint_sha256().to_owned());
        ours.or_else(seen)
    }

    /// The version was in place before this deployment: nothing to do but to see it served, when
    /// what runs has taken it up, and nothing to put back when it is not.
    async fn confirm_in_place(
        &self,
        target: &Id,
        place: &dyn Target,
        pair: &Pair,
        journal: Journal,
        last: Option<Journal>,
    ) -> Result<Outcome, Fault> {
        let seen = match place.verify(pair).await {
            Ok(seen) => seen,
            Err(_) if place.reload().await? => {
                place.verify(pair).await.map_err(Fault::transient)?
            }
            Err(failed) => return Err(Fault::transient(failed)),
        };
        let committed = |before| Journal {
            before,
            phase: Phase::Committed,
            ..journal.clone()
        };
        let record = match last {
            Some(last) if last.phase == Phase::Committed && last.version == journal.version => {
                // Written again, for the one that is there may not be durable.
                Some(committed(last.before))
            }
            // It came back here, and the version that failed may be tried again: both stay.
            Some(last) if last.before.version.as_ref() == Some(&journal.version) => None,
            _ => Some(committed(Before::default())),
        };
        if let Some(record) = record {
            record.save(&*self.host.files, &self.paths, target)?;
            self.prune(target, &record);
        }
        tracing::info!(%target, version = %pair.version(), "in place already and seen served");
        Ok(Outcome::Confirmed {
            changed: false,
            seen,
        })
    }

    /// Puts back what the journal says was there, sees it served and closes the journal. The
    /// journal stays open when putting back itself failed: the next start or deployment tries again.
    async fn put_back(
        &self,
        target: &Id,
        place: &dyn Target,
        journal: Journal,
    ) -> (Journal, Result<(), Unverified>) {
        if let Err(fault) = place.undo(&journal.before).await {
            return (journal, Err(Unverified::unseen(fault)));
        }
        // The files go back in any case: the agent put the others there. Programs are run by the
        // policy of today.
        let reloaded = match self.permits(&journal.target) {
            Ok(()) => place.reload().await,
            Err(fault) => Err(fault),
        };
        let verified = match (place.verify_before(&journal.before).await, reloaded) {
            (Err(unseen), Err(fault)) => {
                let reason = format!("{fault}; {}", unseen.reason);
                return (journal, Err(Unverified { reason, ..unseen }));
            }
            // What runs never took up the other version, or is not running: as far as it was seen
            // before. One that was silent then may have taken it up, and not been told to go back.
            (Ok(seen), Err(fault)) => {
                if let Some(endpoint) = self.still_serves(place, &journal.version).await {
                    let serial = &journal.version.serial;
                    let reason = format!("{fault}; {endpoint} serves serial {serial}");
                    return (journal, Err(Unverified { reason, seen }));
                }
                tracing::warn!(%target, %fault, "not reloaded; what was served before still is");
                Ok(seen)
            }
            (verified, Ok(_)) => verified,
        };
        let closed = journal.clone().with(Phase::RolledBack);
        match closed.save(&*self.host.files, &self.paths, target) {
            Ok(()) => {
                // What it had taken away stands in its place again.
                self.prune_backups(target, None);
                (closed, verified.map(drop))
            }
            Err(fault) => (journal, Err(Unverified::unseen(fault))),
        }
    }

    /// The endpoint of a place that serves a version, where one does.
    async fn still_serves(&self, place: &dyn Target, version: &VersionRef) -> Option<String> {
        let serial = version.serial.to_string();
        // A handshake may come to nothing.
        for _ in 0..3 {
            let seen = place.before().await.map(|now| now.seen).unwrap_or_default();
            let seen = seen
                .into_iter()
                .find(|seen| seen.serial.as_ref() == Some(&serial));
            if let Some(seen) = seen {
                return Some(seen.endpoint);
            }
        }
        None
    }

    /// The target's last deployment, decided: one that a crash left open is finished when it is in
    /// place and seen served, or takes nothing from anybody; else it is undone.
    async fn close(&self, target: &Id, programs: &Programs<'_>) -> Result<Option<Journal>, Fault> {
        let journal = match Journal::load(&*self.host.files, &self.paths, target)? {
            Some(journal) if journal.phase == Phase::Begun => journal,
            decided => return Ok(decided),
        };
        let version = &journal.version;
        let staged = self.vault.load(version).and_then(|pair| {
            let name = verify::server_name(journal.target.server_name(), pair.chain().leaf())?;
            Ok((pair, name))
        });
        let name = staged
            .as_ref()
            .map_or_else(|_| String::new(), |(_, name)| name.clone());
        let place = self.place(
            target,
            &journal.target,
            &version.certificate,
            name,
            programs,
        );
        let stands = match &staged {
            // What is no longer allowed is undone, not finished. Committed again, for what is in
            // place may not be durable.
            Ok((pair, _)) => {
                self.permits(&journal.target).is_ok()
                    && place.in_place(&place.before().await?, version)
                    && place.commit(pair, &journal.before).await.is_ok()
            }
            Err(_) => false,
        };
        let served = match &staged {
            Ok((pair, _)) if stands => {
                place.reload().await.is_ok() && place.verify(pair).await.is_ok()
            }
            _ => false,
        };
        if served || (stands && place.owes_nothing(&journal.before)) {
            tracing::warn!(%target, %version, served, "an interrupted deployment was found in place");
            let journal = journal.clone().with(Phase::Committed);
            journal.save(&*self.host.files, &self.paths, target)?;
            return Ok(Some(journal));
        }
        tracing::warn!(%target, %version, "an interrupted deployment is undone");
        match self.put_back(target, &*place, journal.clone()).await {
            (journal, Err(error)) if journal.phase == Phase::Begun => Err(Fault::transient(
                format!("an interrupted deployment of {version} could not be undone: {error}"),
            )),
            (journal, verified) => {
                if let Err(error) = verified {
                    tracing::error!(%target, %error, "what was there before was not seen served");
                }
                Ok(Some(journal))
            }
        }
    }

    /// Closes the target's journal and starts its site, when it is one that served.
    async fn resume(&self, target: &Id) -> Result<(), Fault> {
        let programs = Programs::new(&*self.host.exec);
        let Some(journal) = self.close(target, &programs).await? else {
            return Ok(());
        };
        let TargetConfig::Site(site) = &journal.target else {
            return Ok(());
        };
        if let Err(fault) = self.permits(&journal.target) {
            tracing::warn!(%target, reason = fault.reason, "the site is not served any more");
            return Ok(());
        }
        let (version, listen) = match journal.phase {
            Phase::Committed => (Some(&journal.version), Some(site.listen)),
            Phase::RolledBack => (journal.before.version.as_ref(), journal.before.listen),
            Phase::Begun => (None, None),
        };
        if let (Some(version), Some(listen), None) = (version, listen, self.host.sites.site(target))
        {
            self.host
                .sites
                .start(target, listen, &self.vault.load(version)?)
                .await?;
            tracing::info!(%target, %version, %listen, "site restored");
        }
        Ok(())
    }

    pub(super) fn permits(&self, target: &TargetConfig) -> Result<(), Fault> {
        let Host { files, policy, .. } = &self.host;
        policy.permits(&**files, &self.paths, target)
    }

    /// The target as something to act on.
    pub(super) fn place<'a>(
        &'a self,
        target: &'a Id,
        config: &'a TargetConfig,
        certificate: &'a Id,
        server_name: String,
        programs: &'a Programs<'a>,
    ) -> Box<dyn Target + 'a> {
        let (probe, vault) = (&*self.host.probe, &self.vault);
        match config {
            TargetConfig::File(config) => Box::new(FileTarget {
                files: &*self.host.files,
                probe,
                vault,
                paths: &self.paths,
                certificate,
                config,
                server_name,
            }),
            TargetConfig::Site(config) => Box::new(SiteTarget {
                sites: &*self.host.sites,
                probe,
                vault,
                target,
                config,
                server_name,
            }),
            TargetConfig::Nginx(config) => Box::new(NginxTarget {
                files: &*self.host.files,
                probe,
                programs,
                vault,
                paths: &self.paths,
                target,
                config,
                server_name,
            }),
        }
    }

    /// Removes the target's backups that its last deployment does not need, and the versions of
    /// the certificate that no target serves or would go back to. What fails is logged and tried
    /// again after the next deployment.
    fn prune(&self, target: &Id, last: &Journal) {
        self.prune_backups(target, last.before.backup);
        let certificate = &last.version.certificate;
        let pruned = self.versions_in_use().and_then(|in_use| {
            let of_this = in_use.into_iter().filter(|v| v.certificate == *certificate);
            let keep: BTreeSet<_> = of_this.map(|v| v.serial).collect();
            self.vault.prune(certificate, &keep)
        });
        if let Err(error) = pruned {
            tracing::warn!(%certificate, %error, "superseded versions were not removed");
        }
    }

    fn prune_backups(&self, target: &Id, keep: Option<u32>) {
        let files = &*self.host.files;
        if let Err(error) = places::prune(files, &self.paths, target, keep) {
            tracing::warn!(%target, %error, "backups no longer needed were not removed");
        }
    }

    pub(super) fn versions_in_use(&self) -> Result<BTreeSet<VersionRef>, Fault> {
        let mut in_use = BTreeSet::new();
        for target in Journal::targets(&*self.host.files, &self.paths)? {
            if let Some(journal) = Journal::load(&*self.host.files, &self.paths, &target)? {
                in_use.extend(journal.versions());
            }
            in_use.extend(places::current(&*self.host.files, &self.paths, &target)?);
        }
        Ok(in_use)
    }
}

/// The right to work on a target, until dropped.
pub(super) struct Turn<'a> {
    _target: OwnedMutexGuard<()>,
    _certificate: Option<OwnedMutexGuard<()>>,
    _software: Option<OwnedMutexGuard<()>>,
    _at_work: Option<SemaphorePermit<'a>>,
}

pub(super) const STOPPED: &str = "the job was withdrawn before the end of its deployment";

fn rollback_failed(reason: &str, and: Unverified) -> Outcome {
    let reason = format!("{reason}; then what was there before was not brought back: {and}");
    Outcome::RollbackFailed {
        reason,
        seen: and.seen,
    }
}

/// Named locks, made when first held and forgotten when last released.
#[derive(Default)]
pub(super) struct Locks(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    async fn hold(&self, name: String) -> OwnedMutexGuard<()> {
        self.lock(name).lock_owned().await
    }

    /// Holds a lock that nobody has.
    pub(super) fn try_hold(&self, name: String) -> Option<OwnedMutexGuard<()>> {
        self.lock(name).try_lock_owned().ok()
    }

    fn lock(&self, name: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(name).or_default().clone()
    }
}
