//! What is in place and served now, compared with what was put there.

use super::{Deployer, Journal, Phase, Seen, VersionRef, programs::Programs, verify};
use crate::{id::Id, net::Endpoint, pki::Certificate};
use futures_util::{StreamExt, stream};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::sleep;

/// Targets looked at at once.
const AT_ONCE: usize = 8;
/// For one handshake.
const GLANCE: Duration = Duration::from_secs(2);
/// Before the one more handshake with an endpoint that did not answer: it may be starting anew.
const PAUSE: Duration = Duration::from_secs(1);

/// A version that was put in place, as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The target.
    pub target: Id,
    /// The version that was put there.
    pub version: VersionRef,
    /// What on the host is not as it was put there, a sentence each.
    pub drift: Vec<String>,
    /// What is served.
    pub served: Vec<Shown>,
    /// The version with its chain, PEM; nothing where its files are gone.
    pub fullchain: Option<String>,
}

/// What one endpoint serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What was seen.
    pub seen: Seen,
    /// Whether that is the version with its whole chain.
    pub right: bool,
}

impl Deployer {
    /// Looks at what deployments have put in place, on all targets or on these. A target that is
    /// being deployed to is left out, and so is one that is deployed to meanwhile.
    pub async fn look(&self, only: Option<&BTreeSet<Id>>) -> Vec<Observation> {
        let targets = match Journal::targets(&*self.host.files, &self.paths) {
            Ok(targets) => targets.into_iter(),
            Err(error) => {
                tracing::warn!(%error, "cannot see what was deployed");
                return Vec::new();
            }
        };
        let wanted = targets.filter(|target| only.is_none_or(|only| only.contains(target)));
        stream::iter(wanted)
            .map(|target| async move { self.look_on(&target).await })
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
            .concat()
    }

    async fn look_on(&self, target: &Id) -> Vec<Observation> {
        let Some(journal) = self.decided(target) else {
            return Vec::new();
        };
        let mut observations = Vec::new();
        for version in journal.in_place() {
            observations.extend(self.find(target, &journal, version).await);
        }
        if self.decided(target).as_ref() == Some(&journal) {
            observations
        } else {
            Vec::new()
        }
    }

    /// The target's last deployment, when nothing is under way there.
    fn decided(&self, target: &Id) -> Option<Journal> {
        let _held = self.locks.try_hold(format!("target {target}"))?;
        let journal = Journal::load(&*self.host.files, &self.paths, target);
        let journal = journal.unwrap_or_else(|error| {
            tracing::warn!(%target, %error, "cannot see what was deployed");
            None
        });
        journal.filter(|journal| journal.phase != Phase::Begun)
    }

    async fn find(
        &self,
        target: &Id,
        journal: &Journal,
        version: VersionRef,
    ) -> Option<Observation> {
        let Some(pair) = self.vault.remember(&version) else {
            let lost = format!(
                "the files of serial {} are gone or unusable",
                version.serial
            );
            return Some(Observation {
                target: target.clone(),
                version,
                drift: vec![lost],
                served: Vec::new(),
                fullchain: None,
            });
        };
        let (config, leaf) = (&journal.target, pair.chain().leaf());
        let configured = config.server_name();
        let name = verify::server_name(configured, leaf);
        let name = name.unwrap_or_else(|_| configured.unwrap_or_default().to_owned());
        let mut served = Vec::new();
        let (drift, endpoints) = {
            // The certificate's targets share its files and its link.
            let certificate = format!("certificate {}", version.certificate);
            let _held = self.locks.try_hold(certificate)?;
            let programs = Programs::new(&*self.host.exec);
            let certificate = &version.certificate;
            let place = self.place(target, config, certificate, name.clone(), &programs);
            let drift = place.drift(&pair);
            served.extend(place.directory().map(|directory| {
                let found = self.vault.leaf(&directory);
                Shown {
                    right: drift.is_empty(),
                    seen: Seen {
                        endpoint: directory.display().to_string(),
                        serial: found.as_ref().map(|leaf| leaf.serial().to_string()),
                        fingerprint: found.as_ref().map(|f| f.fingerprint_sha256().to_owned()),
                        error: found
                            .is_none()
                            .then(|| "there is no certificate to be read".to_owned()),
                    },
                }
            }));
            (drift, place.endpoints())
        };
        let wanted: Vec<&[u8]> = pair.chain().certificates().map(Certificate::der).collect();
        let shown = endpoints.iter().map(|e| self.show(e, &name, &wanted));
        served.extend(futures_util::future::join_all(shown).await);
        Some(Observation {
            target: target.clone(),
            version,
            drift,
            served,
            fullchain: Some(pair.chain().fullchain_pem()),
        })
    }

    async fn show(&self, endpoint: &Endpoint, name: &str, wanted: &[&[u8]]) -> Shown {
        let probe = &self.host.probe;
        let mut answer = probe.tls(endpoint, name, GLANCE).await;
        if answer.is_err() {
            sleep(PAUSE).await;
            answer = probe.tls(endpoint, name, GLANCE).await;
        }
        match answer {
            Ok(served) => Shown {
                right: served
                    .chain
                    .iter()
                    .map(Vec::as_slice)
                    .eq(wanted.iter().copied()),
                seen: verify::seen(endpoint, &served),
            },
            Err(error) => Shown {
                right: false,
                seen: verify::unseen(endpoint, &error),
            },
        }
    }
}
