//! Target `NGINX`: the files that an nginx of the host reads, and its reload.

use super::{
    Before, Fault, Pair, Paths, Seen, Target, Unverified, Vault, VersionRef,
    config::{NginxConfig, Reload},
    places::{Places, Stood},
    programs::Programs,
    verify::Watch,
};
use crate::{
    id::Id,
    net::Probe,
    pki::Chain,
    sys::{Files, TEMP_PREFIX},
};
use async_trait::async_trait;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// New handshakes in a row that must be right.
const IN_A_ROW: u32 = 5;
/// nginx starts its new workers, sleeps for 100 ms and only then tells the old ones to go: new and
/// old answers alternate for that long, and longer on a busy host.
const LASTING: Duration = Duration::from_millis(400);
const MAX_CHAIN_BYTES: usize = 256 * 1024;

/// A target of type `NGINX`.
pub struct NginxTarget<'a> {
    /// The disk.
    pub files: &'a dyn Files,
    /// Makes handshakes with the endpoints.
    pub probe: &'a dyn Probe,
    /// nginx, and what reloads it.
    pub programs: &'a Programs<'a>,
    /// Versions on disk.
    pub vault: &'a Vault,
    /// Where things are.
    pub paths: &'a Paths,
    /// The target.
    pub target: &'a Id,
    /// Its configuration.
    pub config: &'a NginxConfig,
    /// The name to ask for in handshakes.
    pub server_name: String,
}

impl NginxTarget<'_> {
    fn places(&self) -> Places<'_> {
        let config = self.config;
        let mut wanted = vec![
            (config.cert_path.as_path(), "fullchain.pem"),
            (config.key_path.as_path(), "privkey.pem"),
        ];
        wanted.extend(config.chain_path.as_deref().map(|path| (path, "chain.pem")));
        Places {
            files: self.files,
            paths: self.paths,
            target: self.target,
            wanted,
        }
    }

    fn watch(&self) -> Watch<'_> {
        Watch {
            probe: self.probe,
            endpoints: &self.config.endpoints,
            server_name: &self.server_name,
            timeout: self.config.verify_timeout,
            in_a_row: IN_A_ROW,
            lasting: LASTING.min(self.config.verify_timeout / 4),
        }
    }

    /// The certificate in the file that is about to be replaced, where it is one.
    fn stored(&self) -> Option<Seen> {
        let path = &self.config.cert_path;
        let bytes = self.files.read(path, MAX_CHAIN_BYTES).ok()?;
        let chain = Chain::from_pem(&String::from_utf8_lossy(&bytes)).ok()?;
        Some(Seen {
            endpoint: path.display().to_string(),
            serial: Some(chain.leaf().serial().to_string()),
            fingerprint: Some(chain.leaf().fingerprint_sha256().to_owned()),
            error: None,
        })
    }

    /// Whether nginx accepts a configuration.
    async fn test(&self, config: &Path) -> Result<(), Fault> {
        let argv = [
            &self.config.binary,
            Path::new("-t"),
            Path::new("-q"),
            Path::new("-c"),
            config,
        ];
        self.programs
            .run(words(argv), self.config.reload_timeout)
            .await
    }

    /// Whether nginx accepts its configuration as it is. False while a file of the certificate is
    /// missing, for then it cannot: the test after the commit is the first.
    async fn test_as_it_is(&self) -> Result<bool, Fault> {
        for (path, _) in self.places().wanted {
            if self.files.metadata(path)?.is_none() {
                return Ok(false);
            }
        }
        self.test(&self.config.config_path).await?;
        Ok(true)
    }

    /// Whether nginx accepts the staged pair, by a configuration in `dir`.
    async fn test_staged(&self, pair: &Pair, dir: &Path) -> Result<(), Fault> {
        let version = self.paths.version(pair.version());
        for path in [dir, &version] {
            let quotable = path.to_str().is_some_and(|path| {
                !path
                    .chars()
                    .any(|c| c.is_control() || matches!(c, '"' | '\\' | '$'))
            });
            if !quotable {
                return Err(Fault::operator(format!(
                    "{} cannot be written in an nginx configuration: move the agent's state \
                     directory",
                    path.display()
                )));
            }
        }
        let argv = [&self.config.binary, Path::new("-V")];
        let built = self
            .programs
            .ask(words(argv), self.config.reload_timeout)
            .await?;
        self.files.make_dir(dir, 0o700)?;
        let root = self
            .files
            .metadata(dir)?
            .is_some_and(|found| found.uid == 0);
        let config = dir.join("nginx.conf");
        let text = rehearsal(
            dir,
            &version,
            &built,
            root,
            self.config.chain_path.is_some(),
        );
        self.files.write_durable(&config, text.as_bytes(), 0o600)?;
        self.test(&config).await.map_err(|fault| Fault {
            reason: format!(
                "nginx refuses serial {}: {}",
                pair.version().serial,
                fault.reason
            ),
            ..fault
        })
    }
}

/// A directory for one test, removed on drop, however the test ends.
struct Trial<'a> {
    files: &'a dyn Files,
    dir: PathBuf,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.files.remove_tree(&self.dir) {
            tracing::warn!(%error, "what a rehearsal left behind was not removed");
        }
    }
}

/// A configuration that serves the version in `pair` and touches nothing outside of `dir`.
/// `built` is what `nginx -V` says: directives of modules that were left out are not known.
fn rehearsal(dir: &Path, pair: &Path, built: &str, root: bool, chain: bool) -> String {
    let (dir, pair) = (dir.display(), pair.display());
    let mut http = format!("  client_body_temp_path \"{dir}/client_body_temp_path\";\n");
    for (module, directive) in [
        ("http_proxy_module", "proxy_temp_path"),
        ("http_fastcgi_module", "fastcgi_temp_path"),
        ("http_uwsgi_module", "uwsgi_temp_path"),
        ("http_scgi_module", "scgi_temp_path"),
    ] {
        if !built.contains(&format!("--without-{module}")) {
            http.push_str(&format!("  {directive} \"{dir}/{directive}\";\n"));
        }
    }
    // A socket's path is short (unix(7)); an address of this host will do where it is too long.
    let socket = format!("{dir}/s");
    let listen = if socket.len() <= MAX_SOCKET_PATH {
        format!("unix:{socket}")
    } else {
        "127.0.0.1:65535".into()
    };
    let trusted = if chain {
        format!("    ssl_trusted_certificate \"{pair}/chain.pem\";\n")
    } else {
        String::new()
    };
    // Else nginx would look for the user that it was built with.
    let user = if root { "user root;\n" } else { "" };
    format!(
        "{user}pid \"{dir}/pid\";\nerror_log stderr;\nevents {{}}\nhttp {{\n  access_log off;\n{http}  \
         server {{\n    listen \"{listen}\" ssl;\n    ssl_certificate \"{pair}/fullchain.pem\";\n    \
         ssl_certificate_key \"{pair}/privkey.pem\";\n{trusted}  }}\n}}\n"
    )
}

const MAX_SOCKET_PATH: usize = 100;

fn words<const N: usize>(argv: [&Path; N]) -> Vec<String> {
    argv.map(|word| word.display().to_string()).into()
}

#[async_trait]
impl Target for NginxTarget<'_> {
    async fn before(&self) -> Result<Before, Fault> {
        let mut before = self.places().before()?;
        before.seen = self.watch().glance().await;
        if before.adopts() {
            before.seen.extend(self.stored());
        }
        Ok(before)
    }

    fn in_place(&self, before: &Before, version: &VersionRef) -> bool {
        before.version.as_ref() == Some(version) && !before.adopts()
    }

    async fn inspect(&self) -> Result<Vec<String>, Fault> {
        for (path, _) in self.places().wanted {
            if let Some(dir) = path.parent() {
                let trial = dir.join(format!("{TEMP_PREFIX}trial"));
                self.files.write_durable(&trial, b"", 0o600)?;
                self.files.remove(&trial)?;
            }
        }
        let config = self.config.config_path.display();
        Ok(vec![if self.test_as_it_is().await? {
            format!("nginx accepts {config}")
        } else {
            format!("{config} can be tested once the files of the certificate are there")
        }])
    }

    async fn rehearse(&self, pair: &Pair) -> Result<(), Fault> {
        self.test_as_it_is().await?;
        let dir = self.paths.rehearsals().join(self.target.as_str());
        self.files.remove_tree(&dir)?;
        let trial = Trial {
            files: self.files,
            dir,
        };
        self.test_staged(pair, &trial.dir).await
    }

    async fn commit(&self, pair: &Pair, before: &Before) -> Result<(), Fault> {
        self.places().point(pair.version(), before)
    }

    async fn reload(&self) -> Result<bool, Fault> {
        let config = self.config;
        self.test(&config.config_path).await?;
        match &config.reload {
            Reload::Signal => self.programs.hang_up(&config.pid_path, &config.binary)?,
            Reload::Command => {
                let [s, reload, c] = ["-s", "reload", "-c"].map(Path::new);
                let argv = words([&config.binary, s, reload, c, &config.config_path]);
                self.programs.run(argv, config.reload_timeout).await?;
            }
            Reload::Argv(argv) => {
                self.programs
                    .run(argv.clone(), config.reload_timeout)
                    .await?;
            }
        }
        Ok(true)
    }

    async fn verify(&self, pair: &Pair) -> Result<Vec<Seen>, Unverified> {
        self.places().show(self.vault, pair)?;
        self.watch().serves(pair).await
    }

    fn owes_nothing(&self, before: &Before) -> bool {
        before.version.is_none()
            && before
                .places
                .iter()
                .all(|place| place.stood == Stood::Nothing)
            && before.seen.iter().all(|seen| seen.serial.is_none())
    }

    async fn undo(&self, before: &Before) -> Result<(), Fault> {
        self.places().undo(before)
    }

    async fn verify_before(&self, before: &Before) -> Result<Vec<Seen>, Unverified> {
        self.places().show_before(self.vault, before)?;
        let previous = match &before.version {
            Some(version) if !before.adopts() => {
                Some(self.vault.load(version).map_err(Unverified::unseen)?)
            }
            _ => None,
        };
        self.watch().serves_before(before, previous.as_ref()).await
    }
}
