//! Target `File`: a link to a version's directory, flipped in one rename.

use super::{
    Before, Fault, Pair, Paths, Seen, Target, Unverified, Vault, VersionRef,
    config::FileConfig,
    verify::{IN_A_ROW, Watch},
};
use crate::{
    id::Id,
    net::Probe,
    sys::{Files, TEMP_PREFIX},
};
use async_trait::async_trait;
use std::{path::PathBuf, time::Duration};

/// A target of type `File`.
pub struct FileTarget<'a> {
    /// The disk.
    pub files: &'a dyn Files,
    /// Makes handshakes with the endpoints.
    pub probe: &'a dyn Probe,
    /// Versions on disk.
    pub vault: &'a Vault,
    /// Where things are.
    pub paths: &'a Paths,
    /// The certificate whose link this is.
    pub certificate: &'a Id,
    /// The target's configuration.
    pub config: &'a FileConfig,
    /// The name to ask for in handshakes.
    pub server_name: String,
}

impl FileTarget<'_> {
    fn watch(&self) -> Watch<'_> {
        Watch {
            probe: self.probe,
            endpoints: &self.config.endpoints,
            server_name: &self.server_name,
            timeout: self.config.verify_timeout,
            in_a_row: IN_A_ROW,
            lasting: Duration::ZERO,
        }
    }

    fn link(&self) -> PathBuf {
        self.paths.link(self.certificate)
    }

    /// The version the link leads to. A link or file of someone else's is not ours to replace.
    fn linked(&self) -> Result<Option<VersionRef>, Fault> {
        let link = self.link();
        let Some(to) = self.files.read_link(&link)? else {
            return match self.files.metadata(&link)? {
                None => Ok(None),
                Some(_) => Err(foreign(&link)),
            };
        };
        let serial = to.file_name().and_then(|name| name.to_str()?.parse().ok());
        serial
            .map(|serial| VersionRef {
                certificate: self.certificate.clone(),
                serial,
            })
            .filter(|version| self.paths.link_target(version) == to)
            .map(Some)
            .ok_or_else(|| foreign(&link))
    }

    fn seen(&self, pair: &Pair) -> Seen {
        Seen {
            endpoint: self.link().display().to_string(),
            serial: Some(pair.version().serial.to_string()),
            fingerprint: Some(pair.chain().leaf().fingerprint_sha256().to_owned()),
            error: None,
        }
    }
}

fn foreign(link: &std::path::Path) -> Fault {
    let link = link.display();
    Fault::operator(format!(
        "{link} was not made by this agent: move it away and deploy again"
    ))
}

#[async_trait]
impl Target for FileTarget<'_> {
    async fn before(&self) -> Result<Before, Fault> {
        let version = self.linked()?;
        Ok(Before {
            version,
            seen: self.watch().glance().await,
            ..Before::default()
        })
    }

    fn in_place(&self, before: &Before, version: &VersionRef) -> bool {
        before.version.as_ref() == Some(version)
    }

    async fn inspect(&self) -> Result<Vec<String>, Fault> {
        let live = &self.paths.live;
        self.files.make_dir(live, 0o755)?;
        let trial = live.join(format!("{TEMP_PREFIX}trial"));
        self.files.write_durable(&trial, b"", 0o600)?;
        self.files.remove(&trial)?;
        Ok(vec![format!("links can be made in {}", live.display())])
    }

    async fn commit(&self, pair: &Pair, _: &Before) -> Result<(), Fault> {
        self.files.make_dir(&self.paths.live, 0o755)?;
        Ok(self
            .files
            .flip_link(&self.link(), &self.paths.link_target(pair.version()))?)
    }

    async fn verify(&self, pair: &Pair) -> Result<Vec<Seen>, Unverified> {
        self.vault
            .compare(&self.link(), pair)
            .map_err(Unverified::unseen)?;
        let mut seen = vec![self.seen(pair)];
        match self.watch().serves(pair).await {
            Ok(served) => {
                seen.extend(served);
                Ok(seen)
            }
            Err(error) => {
                seen.extend(error.seen);
                Err(Unverified {
                    reason: error.reason,
                    seen,
                })
            }
        }
    }

    fn owes_nothing(&self, before: &Before) -> bool {
        before.version.is_none() && before.seen.iter().all(|seen| seen.serial.is_none())
    }

    async fn undo(&self, before: &Before) -> Result<(), Fault> {
        match &before.version {
            Some(version) => Ok(self
                .files
                .flip_link(&self.link(), &self.paths.link_target(version))?),
            None => Ok(self.files.remove(&self.link())?),
        }
    }

    async fn verify_before(&self, before: &Before) -> Result<Vec<Seen>, Unverified> {
        let previous = match &before.version {
            None => None,
            Some(version) => Some(self.vault.load(version).map_err(Unverified::unseen)?),
        };
        let mut seen = Vec::new();
        if let Some(pair) = &previous {
            self.vault
                .compare(&self.link(), pair)
                .map_err(Unverified::unseen)?;
            seen.push(self.seen(pair));
        }
        seen.extend(
            self.watch()
                .serves_before(before, previous.as_ref())
                .await?,
        );
        Ok(seen)
    }
}
