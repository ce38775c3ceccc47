//! The processes: a server, and agents on hosts of their own.

use super::{
    moment::{Heard, Moment, Who},
    nginx::Nginx,
};
use crate::{
    cli::{
        home::{Home, leaf, served},
        process::{AMPLE, Process, certctl, run},
    },
    support::Kept,
};
use certctl::{
    agent::Paths,
    clock::{Clock, SystemClock},
    id::Id,
    pki::{Certificate, Chain},
    sys::{Disk, TEMP_PREFIX},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

pub const AGENTS: usize = 2;
/// So many certificates, the first ones, are served by an nginx too.
const AT_NGINX: usize = 4;

/// How a certificate is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    File,
    Site,
    Nginx,
}

/// A place where a certificate is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub certificate: usize,
    pub agent: usize,
    pub kind: Kind,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            certificate,
            agent,
            kind,
        } = self;
        write!(f, "tgt-{certificate}-{agent}-{kind:?}")
    }
}

/// The name of a certificate.
pub fn named(certificate: usize) -> String {
    format!("chaos-{certificate}")
}

impl Place {
    /// Those of a certificate: one, two on one agent, or one on each of two.
    pub fn all(certificate: usize) -> Vec<Self> {
        let (here, there) = (certificate % AGENTS, (certificate + 1) % AGENTS);
        let place = |agent, kind| Self {
            certificate,
            agent,
            kind,
        };
        let mut places = match certificate % 4 {
            0 => vec![place(here, Kind::File)],
            1 => vec![place(here, Kind::Site)],
            2 => vec![place(here, Kind::Site), place(here, Kind::File)],
            _ => vec![place(here, Kind::File), place(there, Kind::Site)],
        };
        if certificate < AT_NGINX {
            places.push(place(there, Kind::Nginx));
        }
        places
    }
}

pub struct Fleet {
    pub home: Home,
    /// Their ids.
    pub agents: Vec<String>,
    running: BTreeMap<Who, Process>,
    nginx: Vec<Nginx>,
    heard: UnboundedReceiver<Heard>,
    ears: UnboundedSender<Heard>,
}

impl Fleet {
    /// Starts them all: each agent enrols with a join token of its own.
    pub async fn start() -> Self {
        let (ears, heard) = unbounded_channel();
        let mut fleet = Self {
            home: Home::new(),
            agents: Vec::new(),
            running: BTreeMap::new(),
            nginx: Vec::new(),
            heard,
            ears,
        };
        fleet.launch(Who::Server);
        fleet.running[&Who::Server].line(" ready ");
        let api = fleet.home.api();
        for n in 0..AGENTS {
            let token = api.post("/agents/tokens", json!({"name": "chaos"})).await;
            let text = |field: &str| token[field].as_str().unwrap().to_owned();
            let config = fleet.nginx_dir(n).join("nginx.conf");
            std::fs::write(fleet.policy(n), format!("configs = [{config:?}]\n")).unwrap();
            let mut enrol = fleet.agent_command(n);
            enrol.args(["enrol", "--name", &format!("host-{n}"), "--server"]);
            enrol.arg(format!("https://{}", fleet.home.control()));
            enrol.args(["--token", &text("token"), "--ca-pin", &text("ca_pin")]);
            let said = run(&mut enrol).good_with_log();
            let (_, id) = said.split_once('(').unwrap();
            fleet.agents.push(id.split_once(')').unwrap().0.to_owned());
            fleet.launch(Who::Agent(n));
            let sites = fleet
                .at_nginx(n)
                .map(|p| (named(p.certificate), fleet.address(p)));
            let sites: Vec<_> = sites.collect();
            fleet.nginx.push(Nginx::start(fleet.nginx_dir(n), &sites));
        }
        fleet
    }

    /// What is heard of somebody, for everyone who waits for a moment.
    pub fn ears(&self) -> UnboundedSender<Heard> {
        self.ears.clone()
    }

    /// Starts a process, on what its last one left.
    pub fn launch(&mut self, who: Who) {
        let mut command = match who {
            Who::Server => {
                let line = format!("server --listen {}", self.home.control());
                self.home.command(&line)
            }
            Who::Agent(n) => self.agent_command(n),
            Who::Clients => panic!("they are no process"),
        };
        command.env("CERTCTL_LOG_LEVEL", "debug");
        let ears = self.ears.clone();
        let process = Process::heard(&mut command, move |line| {
            // The campaign may be over.
            let _ = ears.send(Heard {
                who,
                line: line.to_owned(),
            });
        });
        let earlier = self.running.insert(who, process);
        assert!(earlier.is_none(), "{who:?} runs already");
    }

    /// `kill -9`, all at once.
    pub fn kill(&mut self, victims: &[Who]) {
        for who in victims {
            self.running[who].signal(nix::sys::signal::Signal::SIGKILL);
        }
        for who in victims {
            self.running.remove(who).unwrap().kill();
        }
    }

    /// Waits for a moment, counted from now.
    pub async fn come(&mut self, moment: &Moment) {
        while self.heard.try_recv().is_ok() {}
        let mut left = moment.nth();
        let come = async {
            while left > 0 {
                let heard = self.heard.recv().await.expect("somebody to listen to");
                left -= usize::from(moment.counts(&heard));
            }
        };
        if timeout(AMPLE, come).await.is_err() {
            panic!("{left} left: {moment:?} does not come");
        }
    }

    fn state(&self, agent: usize) -> PathBuf {
        self.home.beside(&format!("host-{agent}"))
    }

    fn agent_command(&self, agent: usize) -> std::process::Command {
        let mut command = certctl(["agent", "--state-dir"]);
        command.arg(self.state(agent));
        command.env("CERTCTL_AGENT_POLICY", self.policy(agent));
        command
    }

    fn policy(&self, agent: usize) -> PathBuf {
        self.home.beside(&format!("policy-{agent}.toml"))
    }

    fn nginx_dir(&self, agent: usize) -> PathBuf {
        self.home.beside(&format!("nginx-{agent}"))
    }

    fn kept<'a>(&self, name: &'a str, agent: usize) -> Kept<'a> {
        let state = self.state(agent);
        Kept {
            name,
            files: Arc::new(Disk),
            paths: Paths::new(&state, &state.join("live")).unwrap(),
        }
    }

    /// Whatever an agent's links lead to is whole, and its key is there.
    pub fn links(&self, agent: usize) -> usize {
        self.kept(&self.agents[agent], agent)
            .links(SystemClock.now())
    }

    /// The places of an agent's nginx.
    fn at_nginx(&self, agent: usize) -> impl Iterator<Item = Place> + use<> {
        let all = (0..AT_NGINX).flat_map(Place::all);
        all.filter(move |place| (place.agent, place.kind) == (agent, Kind::Nginx))
    }

    /// Type and configuration of a target.
    pub fn target(&self, place: Place) -> (&'static str, Value) {
        let address = self.address(place);
        match place.kind {
            Kind::File => ("File", json!({})),
            Kind::Site => ("Site", json!({"listen": address.to_string()})),
            Kind::Nginx => {
                let nginx = &self.nginx[place.agent];
                ("NGINX", nginx.target(&named(place.certificate), address))
            }
        }
    }

    /// Whatever an agent's nginx serves is a whole chain, whose key is on the host.
    pub async fn check_nginx(&self, agent: usize) {
        for place in self.at_nginx(agent) {
            let seen = served(self.address(place)).await;
            // One that was made by hand stands alone.
            if seen.len() > 1 {
                let id = named(place.certificate).parse().unwrap();
                self.has_key(agent, &id, &seen[0]);
            } else {
                assert_eq!(seen.len(), 1);
                assert_eq!(seen[0].sans().len(), 1, "{place}: the chain is not whole");
            }
        }
    }

    fn has_key(&self, agent: usize, certificate: &Id, leaf: &Certificate) {
        let kept = self.kept(&self.agents[agent], agent);
        kept.has_key(certificate, leaf.spki_sha256());
    }

    /// Where a certificate is served.
    fn address(&self, place: Place) -> SocketAddr {
        let at = match place.kind {
            Kind::Nginx => 8500,
            _ => 9500,
        };
        let port = at + 100 * place.agent + place.certificate;
        SocketAddr::new(self.home.ip, u16::try_from(port).unwrap())
    }

    /// The chain served at a place, which is whole, and whose key is on the agent's host.
    pub async fn serves(&self, place: Place) -> Chain {
        let certificate = named(place.certificate);
        let kept = self.kept(&self.agents[place.agent], place.agent);
        let id = certificate.parse().unwrap();
        let seen = match place.kind {
            Kind::File => vec![leaf(&kept.paths.link(&id))],
            Kind::Site | Kind::Nginx => served(self.address(place)).await,
        };
        self.has_key(place.agent, &id, &seen[0]);
        let serial = seen[0].serial().to_string();
        let staged = kept.paths.versions(&id).join(serial).join("fullchain.pem");
        let staged = Chain::from_pem(&fs::read_to_string(staged).unwrap()).unwrap();
        if place.kind != Kind::File {
            let der = |c: &Certificate| c.der().to_vec();
            let whole: Vec<_> = staged.certificates().map(der).collect();
            assert_eq!(seen.iter().map(der).collect::<Vec<_>>(), whole, "{place}");
        }
        staged
    }

    /// Nothing is left of all the crashes.
    pub fn tidy(&self) {
        for (n, name) in self.agents.iter().enumerate() {
            self.kept(name, n).tidy(below(&self.state(n)));
        }
        let mut there = below(&self.home.data());
        there.extend(self.nginx.iter().flat_map(|nginx| below(nginx.dir())));
        for path in there {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(!name.starts_with(TEMP_PREFIX), "{} stays", path.display());
        }
    }
}

/// Every path below a directory.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(below(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}
