//! What serves certificates on an agent's machine: the agent's own sites, and software that reads
//! the files.

use super::{
    chance::Chance,
    machine::Machine,
    nginx::{self, Nginx},
};
use crate::support::Kept;
use async_trait::async_trait;
use certctl::{
    deploy::{Fault, Pair, Paths, Site, Sites},
    id::Id,
    net::{Endpoint, Probe, ProbeError, Served},
    pki::{Certificate, Chain},
    sys::{Command, Exec, ExecError, Files, Finished},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::sleep;

/// The software that serves a certificate from its files: host name `<certificate>.files.test`.
pub const FILES: &str = ".files.test";
/// One handshake in so many comes to nothing.
const TROUBLE: u64 = 30;

/// One run of the agent's machine.
pub struct Host {
    pub machine: Machine,
    pub chance: Arc<Chance>,
    pub files: Arc<dyn Files>,
    pub paths: Paths,
    pub sites: Mutex<BTreeMap<Id, (Site, Pair)>>,
    pub nginx: Nginx,
}

impl Host {
    /// What the agent of this name keeps here.
    pub fn kept<'a>(&self, name: &'a str) -> Kept<'a> {
        Kept {
            name,
            files: self.files.clone(),
            paths: self.paths.clone(),
        }
    }

    /// The sites that are served, with what they serve.
    pub fn served(&self) -> Vec<(Id, Pair)> {
        let sites = self.sites.lock().unwrap();
        let served = |(id, (_, pair)): (&Id, &(Site, Pair))| (id.clone(), pair.clone());
        sites.iter().map(served).collect()
    }

    fn pair_at(&self, endpoint: &Endpoint) -> Option<Vec<Vec<u8>>> {
        let der = |chain: &Chain| {
            let chain = chain.certificates().map(Certificate::der);
            chain.map(<[u8]>::to_vec).collect()
        };
        if let Some(certificate) = endpoint.host.strip_suffix(FILES) {
            let dir = self.paths.link(&certificate.parse().unwrap());
            let chain = self.files.read(&dir.join("fullchain.pem"), 1 << 20).ok()?;
            let chain = Chain::from_pem(&String::from_utf8_lossy(&chain)).ok()?;
            let key = self.files.read(&dir.join("privkey.pem"), 1 << 20).ok()?;
            let key = certctl::crypt::PrivateKey::from_pkcs8_pem(&String::from_utf8_lossy(&key));
            let fits = key.ok()?.public_key().sha256() == chain.leaf().spki_sha256();
            return fits.then(|| der(&chain));
        }
        if endpoint.host == nginx::HOST {
            return Some(der(self.nginx.handshake(endpoint.port)?.chain()));
        }
        let at = format!("{}:{}", endpoint.host, endpoint.port);
        let sites = self.sites.lock().unwrap();
        let mut sites = sites.values();
        let (_, pair) = sites.find(|(site, _)| site.address.to_string() == at)?;
        Some(der(pair.chain()))
    }
}

/// The machine has no program but nginx.
#[async_trait]
impl Exec for Host {
    async fn run(&self, command: &Command) -> Result<Finished, ExecError> {
        sleep(Duration::from_millis(1 + self.chance.below(40))).await;
        self.machine.alive().await;
        if command.argv[0] != nginx::BINARY {
            return Err(ExecError::Start {
                program: command.argv[0].clone(),
                source: std::io::ErrorKind::NotFound.into(),
            });
        }
        let finished = self.nginx.command(command).await;
        self.machine.alive().await;
        Ok(finished)
    }

    fn hang_up(&self, pid_file: &Path, program: &Path) -> Result<(), ExecError> {
        let refuse = |problem: &str| ExecError::Signal {
            pid_file: pid_file.to_owned(),
            problem: problem.to_owned(),
        };
        if self.machine.is_off() {
            return Err(refuse("the machine is off"));
        }
        if (pid_file, program) != (Path::new(nginx::PID), Path::new(nginx::BINARY)) {
            return Err(refuse("there is no such file"));
        }
        self.nginx.hang_up().map_err(|problem| refuse(&problem))
    }
}

#[async_trait]
impl Sites for Host {
    async fn start(&self, target: &Id, listen: SocketAddr, pair: &Pair) -> Result<(), Fault> {
        self.machine.alive().await;
        let site = Site {
            listen,
            address: listen,
            version: pair.version().clone(),
        };
        let mut sites = self.sites.lock().unwrap();
        sites.insert(target.clone(), (site, pair.clone()));
        Ok(())
    }

    async fn swap(&self, target: &Id, pair: &Pair) -> Result<(), Fault> {
        self.machine.alive().await;
        let mut sites = self.sites.lock().unwrap();
        let Some((site, served)) = sites.get_mut(target) else {
            return Err(Fault::transient("the target has no listener"));
        };
        site.version = pair.version().clone();
        *served = pair.clone();
        Ok(())
    }

    async fn stop(&self, target: &Id) {
        self.machine.alive().await;
        self.sites.lock().unwrap().remove(target);
    }

    fn site(&self, target: &Id) -> Option<Site> {
        let sites = self.sites.lock().unwrap();
        sites.get(target).map(|(site, _)| site.clone())
    }
}

#[async_trait]
impl Probe for Host {
    async fn tls(
        &self,
        endpoint: &Endpoint,
        _: &str,
        limit: Duration,
    ) -> Result<Served, ProbeError> {
        sleep(Duration::from_millis(1 + self.chance.below(5))).await;
        self.machine.alive().await;
        if self.chance.one_in(TROUBLE) {
            sleep(limit).await;
            let endpoint = endpoint.clone();
            let after = limit;
            return Err(ProbeError::Timeout { endpoint, after });
        }
        match self.pair_at(endpoint) {
            Some(chain) => Ok(Served { chain }),
            None => Err(ProbeError::Handshake {
                endpoint: endpoint.clone(),
                reason: "nobody listens".into(),
            }),
        }
    }
}
