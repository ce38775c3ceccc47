//! An nginx of the test's own, on an address of its own, and a host that deploys to it.

use crate::{
    agent::support::*,
    cli::{
        home::own_ip,
        process::{AMPLE, Process},
    },
};
use async_trait::async_trait;
use certctl::{
    deploy::{Ended, Fault, Outcome, Policy, TargetConfig},
    net::Endpoint,
    pki::Chain,
    sys::{Command, Exec, ExecError, Finished, Programs},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

pub const BINARY: &str = "/usr/sbin/nginx";

pub struct Nginx {
    dir: TempDir,
    pub address: SocketAddr,
    process: Option<Process>,
}

impl Nginx {
    /// Configured for `tls/cert.pem` and `tls/key.pem` in its directory; not started.
    pub fn new() -> Self {
        let nginx = Self {
            dir: tempfile::tempdir().unwrap(),
            address: SocketAddr::new(own_ip(), 8444),
            process: None,
        };
        fs::create_dir(nginx.path("tls")).unwrap();
        nginx.configure(&nginx.path("tls/cert.pem"), "");
        nginx
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration, with `more` at its end.
    pub fn configure(&self, cert: &Path, more: &str) {
        let dir = self.dir.path().display();
        let root = fs::metadata(self.dir.path()).unwrap().uid() == 0;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("  {kind}_temp_path {dir}/{kind};\n"))
            .collect();
        let text = format!(
            "{user}daemon off;\nworker_processes 2;\npid {dir}/nginx.pid;\n\
             error_log {dir}/error.log;\nevents {{ worker_connections 1024; }}\nhttp {{\n  \
             access_log off;\n  keepalive_requests 1000000;\n{temporary}  server {{\n    \
             listen {address} ssl;\n    ssl_protocols TLSv1.2 TLSv1.3;\n    \
             ssl_certificate {cert};\n    ssl_certificate_key {dir}/tls/key.pem;\n    \
             location / {{ return 200 \"ok\\n\"; }}\n  }}\n}}\n{more}",
            user = if root { "user root;\n" } else { "" },
            address = self.address,
            cert = cert.display(),
        );
        fs::write(self.path("nginx.conf"), text).unwrap();
    }

    /// Starts it and waits until it accepts.
    pub async fn start(&mut self) {
        let mut command = process::Command::new(BINARY);
        self.process = Some(Process::start(
            command.arg("-c").arg(self.path("nginx.conf")),
        ));
        self.until(|nginx| {
            // Written once the sockets are open.
            fs::read_to_string(nginx.path("nginx.pid")).is_ok_and(|pid| !pid.trim().is_empty())
        })
        .await;
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let wait = async {
            let mut every = interval(Duration::from_millis(10));
            while !what(self) {
                every.tick().await;
            }
        };
        let log = || fs::read_to_string(self.path("error.log")).unwrap_or_default();
        if timeout(AMPLE, wait).await.is_err() {
            panic!("nginx did not get ready: {}", log());
        }
    }

    /// The target's configuration; `more` takes the place of what it names.
    pub fn target(&self, more: Value) -> Value {
        let mut config = json!({
            "cert_path": self.path("tls/cert.pem"),
            "key_path": self.path("tls/key.pem"),
            "config_path": self.path("nginx.conf"),
            "pid_path": self.path("nginx.pid"),
            "endpoints": [self.address.to_string()],
            "server_name": "localhost",
        });
        let Value::Object(more) = more else { panic!() };
        config.as_object_mut().unwrap().extend(more);
        config
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            // The master ends its workers; killed, it would leave them.
            process.signal(Signal::SIGTERM);
            process.end();
        }
    }
}

/// A host with an nginx.
pub struct Scene {
    pub host: Host,
    pub nginx: Nginx,
    /// The full chain in the plain files that nginx started with.
    pub old: String,
}

impl Scene {
    /// nginx serves version 1 from plain files, which nobody of ours has written.
    pub async fn serving() -> Self {
        let mut scene = Self::dark();
        scene.store(&scene.old);
        scene.nginx.start().await;
        scene
    }

    /// No nginx runs, and it has no files.
    pub fn dark() -> Self {
        let mut host = Host::new();
        let old = host.version("cert-1", 1);
        let nginx = Nginx::new();
        host.policy = Arc::new(Policy {
            configs: Some(vec![nginx.path("nginx.conf")]),
            ..Policy::default()
        });
        Self { host, nginx, old }
    }

    /// Writes a version to nginx's own files.
    pub fn store(&self, fullchain: &str) {
        let key = self.host.pair("cert-1", fullchain).key().to_pkcs8_pem();
        fs::write(self.nginx.path("tls/cert.pem"), fullchain).unwrap();
        fs::write(self.nginx.path("tls/key.pem"), key.as_bytes()).unwrap();
    }

    /// Version `serial`, with its key on the host.
    pub fn version(&self, serial: u32) -> String {
        self.host.version("cert-1", serial)
    }

    /// Deploys as the agent would.
    pub async fn deploy(&self, fullchain: &str, more: Value) -> Ended {
        self.deploy_to("tgt-nginx", &self.nginx, fullchain, more)
            .await
    }

    pub async fn deploy_to(
        &self,
        target: &str,
        nginx: &Nginx,
        fullchain: &str,
        more: Value,
    ) -> Ended {
        let config = TargetConfig::parse("NGINX", &nginx.target(more)).unwrap();
        // The host allows the command that the test has in mind.
        let commands = config.needs().commands.into_iter().map(<[_]>::to_vec);
        let policy = Policy {
            commands: commands.collect(),
            configs: Some(vec![nginx.path("nginx.conf")]),
            ..Policy::default()
        };
        let files = self.host.files.clone();
        let (deployer, _, tasks) = self.host.deployer_under(Arc::new(policy), files);
        assert!(deployer.recover().await);
        let pair = self.host.pair("cert-1", fullchain);
        let stop = CancellationToken::new();
        let ended = deployer.deploy(&id(target), &config, &pair, &stop).await;
        tasks.shutdown(Duration::from_secs(9)).await;
        assert!(
            self.host.names("rehearsal").is_empty(),
            "a rehearsal leaves nothing"
        );
        ended
    }

    /// What nginx serves in a new handshake, leaf first.
    pub async fn served(&self) -> Vec<Vec<u8>> {
        let endpoint = Endpoint::tls(
            self.nginx.address.ip().to_string(),
            self.nginx.address.port(),
        );
        let served = self.host.probe.tls(&endpoint, "localhost", AMPLE).await;
        served.unwrap().chain
    }

    /// Whether nginx serves exactly this chain, in some handshakes in a row.
    pub async fn serves(&self, fullchain: &str) {
        for _ in 0..5 {
            assert_eq!(self.served().await, ders(fullchain));
        }
    }
}

pub fn ders(fullchain: &str) -> Vec<Vec<u8>> {
    let chain = Chain::from_pem(fullchain).unwrap();
    chain.certificates().map(|c| c.der().to_vec()).collect()
}

pub fn fingerprint(fullchain: &str) -> Option<String> {
    let chain = Chain::from_pem(fullchain).unwrap();
    Some(chain.leaf().fingerprint_sha256().to_owned())
}

pub fn confirmed(ended: &Ended) -> bool {
    match &ended.outcome {
        Outcome::Confirmed { changed, .. } => *changed,
        other => panic!("{other:?}\n{}", ended.output),
    }
}

pub fn rolled_back(ended: Ended) -> String {
    match ended.outcome {
        Outcome::RolledBack { reason, .. } => reason,
        other => panic!("{other:?}\n{}", ended.output),
    }
}

pub fn failed(ended: Ended) -> Fault {
    match ended.outcome {
        Outcome::Failed(fault) => fault,
        other => panic!("{other:?}\n{}", ended.output),
    }
}

type Meddle = Box<dyn FnOnce() + Send>;

/// The machine's programs; something happens just before the `n`-th of them runs.
pub struct Meddling {
    left: Mutex<(usize, Option<Meddle>)>,
}

impl Meddling {
    pub fn before(n: usize, what: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let left = Mutex::new((n, Some(Box::new(what) as Meddle)));
        Arc::new(Self { left })
    }
}

#[async_trait]
impl Exec for Meddling {
    async fn run(&self, command: &Command) -> Result<Finished, ExecError> {
        {
            let mut left = self.left.lock().unwrap();
            left.0 = left.0.saturating_sub(1);
            if left.0 == 0
                && let Some(what) = left.1.take()
            {
                what();
            }
        }
        Programs.run(command).await
    }

    fn hang_up(&self, pid_file: &Path, program: &Path) -> Result<(), ExecError> {
        Programs.hang_up(pid_file, program)
    }
}
