//! Dry runs and tests: what a deployment would meet, seen without changing what is served.

use super::{
    Before, Deployer, Fault, Journal, Pair, Phase, Seen, Target, TargetConfig, VersionRef,
    driver::STOPPED, programs::Programs, verify,
};
use crate::id::Id;
use tokio_util::sync::CancellationToken;

/// What a dry run or a test found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// What stands in the way of a deployment, a sentence each; none when it would work.
    pub faults: Vec<String>,
    /// What is there, and what a deployment would do, a sentence each.
    pub findings: Vec<String>,
    /// What each endpoint was seen to serve.
    pub seen: Vec<Seen>,
    /// SHA-256 of the leaf in place, lower hex.
    pub old_fingerprint: Option<String>,
    /// The end of what the programs it ran have written.
    pub output: String,
}

impl Examined {
    /// Keeps a step's result, or what stands in its way.
    fn note<T>(&mut self, step: Result<T, Fault>) -> Option<T> {
        match step {
            Ok(value) => Some(value),
            Err(fault) => {
                self.faults.push(fault.reason);
                None
            }
        }
    }
}

impl Deployer {
    /// Goes through the deployment of a version up to the change, and says what it would change.
    ///
    /// # Errors
    /// When it could not be gone through. What stands in the way of the deployment itself is told
    /// in the result.
    pub async fn rehearse(
        &self,
        target: &Id,
        config: &TargetConfig,
        pair: &Pair,
        stop: &CancellationToken,
    ) -> Result<Examined, Fault> {
        let version = pair.version();
        let _turn = tokio::select! {
            biased;
            turn = self.turn(target, Some(&version.certificate), Some(config)) => turn,
            () = stop.cancelled() => return Err(Fault::transient(STOPPED)),
        };
        let mut found = Examined::default();
        if found.note(self.permits(config)).is_none() {
            return Ok(found);
        }
        found.note(pair.valid_at(self.host.clock.now()));
        let leaf = pair.chain().leaf();
        let name = found.note(verify::server_name(config.server_name(), leaf));
        self.last_deployment(target, &mut found)?;
        let programs = Programs::new(&*self.host.exec);
        let place = self.place(
            target,
            config,
            &version.certificate,
            name.unwrap_or_default(),
            &programs,
        );
        let Some(before) = self.look_at(&*place, &mut found).await else {
            found.output = programs.output();
            return Ok(found);
        };
        let serial = &version.serial;
        found.findings.push(match &before.version {
            Some(_) if place.in_place(&before, version) => {
                format!("unchanged: serial {serial} is in place already")
            }
            Some(old) if old == version => {
                format!("serial {serial} is in place, but not as configured: it would be anew")
            }
            Some(old) => format!("serial {serial} would replace serial {}", old.serial),
            None => format!("serial {serial} would be the first in place"),
        });
        let was_staged = self.is_staged(version)?;
        if found.note(self.vault.stage(pair)).is_some() {
            let rehearsed = tokio::select! {
                biased;
                () = stop.cancelled() => Err(Fault::transient(STOPPED)),
                rehearsed = place.rehearse(pair) => rehearsed,
            };
            found.note(rehearsed);
        }
        if !was_staged && !self.versions_in_use()?.contains(version) {
            // The key stays: the deployment that is to come needs it.
            let staged = self.paths.version(version);
            self.host.files.remove_tree(&staged)?;
        }
        found.output = programs.output();
        Ok(found)
    }

    /// Sees whether a target can be used, and what it serves.
    ///
    /// # Errors
    /// As [`rehearse`](Self::rehearse).
    pub async fn test(
        &self,
        target: &Id,
        config: &TargetConfig,
        stop: &CancellationToken,
    ) -> Result<Examined, Fault> {
        let _turn = tokio::select! {
            biased;
            turn = self.turn(target, None, Some(config)) => turn,
            () = stop.cancelled() => return Err(Fault::transient(STOPPED)),
        };
        let mut found = Examined::default();
        if found.note(self.permits(config)).is_none() {
            return Ok(found);
        }
        let last = self.last_deployment(target, &mut found)?;
        let leaf = last
            .as_ref()
            .and_then(|version| self.vault.load(version).ok());
        let name = match (config.server_name(), &leaf) {
            (Some(name), _) => name.to_owned(),
            (None, Some(pair)) => {
                let name = verify::server_name(None, pair.chain().leaf());
                found.note(name).unwrap_or_default()
            }
            (None, None) => "localhost".into(),
        };
        // A place that knows its certificate by name is looked at as the last one's, or as nobody's.
        let certificate = last.as_ref().map_or(target, |version| &version.certificate);
        let programs = Programs::new(&*self.host.exec);
        let place = self.place(target, config, certificate, name, &programs);
        if let Some(before) = self.look_at(&*place, &mut found).await
            && before.version.is_none()
        {
            found
                .findings
                .push("nothing of this agent is in place".into());
        }
        found.output = programs.output();
        Ok(found)
    }

    /// Sees what is in place and served, and whether the place can be used.
    async fn look_at(&self, place: &dyn Target, found: &mut Examined) -> Option<Before> {
        let inspected = found.note(place.inspect().await);
        found.findings.extend(inspected.unwrap_or_default());
        let before = found.note(place.before().await)?;
        found.seen = place.seen(&before).await;
        found.old_fingerprint = self.fingerprint(&before);
        let silent = found.seen.iter().filter_map(|seen| {
            let error = seen.error.as_ref()?;
            Some(format!("{} serves nothing: {error}", seen.endpoint))
        });
        let silent: Vec<String> = silent.collect();
        found.faults.extend(silent);
        Some(before)
    }

    /// The version of the target's last deployment.
    fn last_deployment(
        &self,
        target: &Id,
        found: &mut Examined,
    ) -> Result<Option<VersionRef>, Fault> {
        let Some(journal) = Journal::load(&*self.host.files, &self.paths, target)? else {
            return Ok(None);
        };
        let version = &journal.version;
        found.findings.push(match journal.phase {
            Phase::Begun => {
                format!("a deployment of {version} was interrupted: the next one decides it first")
            }
            Phase::Committed => format!("{version} was deployed last, and seen served"),
            Phase::RolledBack => format!("the last deployment, of {version}, was rolled back"),
        });
        Ok(Some(journal.version))
    }

    fn is_staged(&self, version: &VersionRef) -> Result<bool, Fault> {
        let dir = self.paths.version(version);
        Ok(self.host.files.metadata(&dir)?.is_some())
    }
}
