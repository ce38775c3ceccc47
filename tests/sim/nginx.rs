//! nginx, as far as the deployment of a certificate meets it: a configuration on the simulated
//! disk, a test of it, a master that reads certificates and keys when it starts and when it is told
//! to reload, and workers that serve what they were started with.
//!
//! It runs beside the agent's process and outlives it; it ends with its machine's power.

use super::{
    chance::{Chance, SeededCrypto},
    files::Volume,
    trace::Trace,
};
use certctl::{
    crypt::{Crypto, PrivateKey},
    deploy::Pair,
    pki::{Chain, KeyAlgorithm},
    sys::{Command, Ending, Finished, Tasks},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::time::{Instant, sleep};

pub const BINARY: &str = "/usr/sbin/nginx";
pub const PID: &str = "/run/nginx.pid";
pub const CONFIG: &str = "/etc/nginx/nginx.conf";
/// Where it is reached.
pub const HOST: &str = "nginx.test";

/// One reload in so many is in trouble.
const TROUBLE: u64 = 12;
/// How long old workers still accept after a reload, at most.
const OVERLAP: Duration = Duration::from_millis(400);
/// How soon a service manager starts it again.
const RESTART: Duration = Duration::from_secs(60);

/// What a set of workers serves, by port.
type Workers = BTreeMap<u16, Pair>;

/// The nginx of a machine. Clones are the same.
#[derive(Clone)]
pub struct Nginx(Arc<Inner>);

struct Inner {
    name: String,
    volume: Volume,
    chance: Arc<Chance>,
    trace: Trace,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What runs: ended, they do nothing more.
    tasks: Option<Tasks>,
    workers: Option<Workers>,
    /// Workers of before the last reload, until then.
    old: Option<(Workers, Instant)>,
    /// The server blocks: port and name of the files.
    sites: BTreeMap<u16, String>,
    /// Ports that were ever served: their files were a pair and must stay one.
    served: BTreeSet<u16>,
    broken: bool,
    /// It was broken since nginx last ran, so nginx may be down.
    was_broken: bool,
    calm: bool,
    /// What must never be seen, and was.
    fault: Option<String>,
}

/// What a reload comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reload {
    Done(Duration),
    NoEffect,
    /// As a command: it says so.
    Fails,
    /// As a command: it does not end.
    Hangs,
}

impl Nginx {
    pub fn new(name: &str, volume: &Volume, chance: Arc<Chance>, trace: &Trace) -> Self {
        let nginx = Self(Arc::new(Inner {
            name: format!("nginx of {name}"),
            volume: volume.clone(),
            chance,
            trace: trace.clone(),
            state: Mutex::default(),
        }));
        nginx.configure();
        nginx
    }

    /// The path of a site's certificate.
    pub fn cert_path(site: &str) -> String {
        format!("/etc/ssl/{site}.pem")
    }

    /// The path of a site's key.
    pub fn key_path(site: &str) -> String {
        format!("/etc/ssl/{site}.key")
    }

    /// From now on its configuration has a site on `port`, whose files are there or are still to
    /// come.
    pub fn site(&self, site: &str, port: u16, there: bool) {
        let volume = &self.0.volume;
        volume.plant_dir("/etc/ssl");
        if there {
            let (chain, key) = self.own_pair(site);
            volume.plant(&Self::cert_path(site), chain.as_bytes(), 0o644);
            volume.plant(&Self::key_path(site), key.as_bytes(), 0o640);
        }
        self.state().sites.insert(port, site.to_owned());
        self.configure();
        self.load();
    }

    /// A certificate that someone made by hand.
    fn own_pair(&self, site: &str) -> (String, String) {
        let crypto = SeededCrypto(self.0.chance.clone());
        let key = crypto.generate_key(KeyAlgorithm::Ed25519).unwrap();
        let pkcs8 = rustls_pki_types::PrivatePkcs8KeyDer::from(key.pkcs8_der());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519);
        let mut params = rcgen::CertificateParams::new([format!("{site}.example.org")]).unwrap();
        params.serial_number = Some(self.0.chance.below(1 << 60).to_be_bytes().to_vec().into());
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(4000, 1, 1);
        let cert = params.self_signed(&pair.unwrap()).unwrap();
        (cert.pem(), key.to_pkcs8_pem().to_string())
    }

    /// Writes the configuration.
    fn configure(&self) {
        let (sites, broken) = {
            let state = self.state();
            (state.sites.clone(), state.broken)
        };
        let mut text = "user root;\nevents {}\nhttp {\n".to_owned();
        for (port, site) in sites {
            text.push_str(&format!(
                "  server {{\n    listen 0.0.0.0:{port} ssl;\n    ssl_certificate {};\n    \
                 ssl_certificate_key {};\n  }}\n",
                Self::cert_path(&site),
                Self::key_path(&site)
            ));
        }
        text.push_str(if broken { "  sevrer {}\n}\n" } else { "}\n" });
        self.0.volume.plant_dir("/etc/nginx");
        self.0.volume.plant(CONFIG, text.as_bytes(), 0o644);
    }

    /// Someone breaks the configuration, or mends it.
    pub fn break_configuration(&self, broken: bool) {
        if self.state().broken != broken {
            self.note(format_args!("configuration broken: {broken}"));
            let mut state = self.state();
            (state.broken, state.was_broken) = (broken, true);
            drop(state);
            self.configure();
        }
    }

    pub fn is_broken(&self) -> bool {
        self.state().broken
    }

    fn was_broken(&self) -> bool {
        self.state().was_broken
    }

    /// What the newest workers serve on a port.
    pub fn now(&self, port: u16) -> Option<Pair> {
        self.state().workers.as_ref()?.get(&port).cloned()
    }

    /// Whether reloads do what they should, and at once.
    pub fn calm(&self, calm: bool) {
        self.state().calm = calm;
    }

    /// The machine has power: from now on a service manager keeps nginx running.
    pub fn boot(&self) {
        let tasks = {
            let mut state = self.state();
            if state.tasks.is_some() {
                return;
            }
            state.tasks.insert(Tasks::new()).clone()
        };
        self.load();
        let nginx = self.clone();
        tasks.spawn("nginx", async move {
            loop {
                sleep(RESTART).await;
                if nginx.state().workers.is_none() {
                    nginx.load();
                }
            }
        });
    }

    /// The machine has no power any more.
    pub fn power_off(&self) {
        let mut state = self.state();
        if let Some(tasks) = state.tasks.take() {
            tasks.abort_all();
        }
        (state.workers, state.old) = (None, None);
    }

    /// The master reads everything: at its start, and when it reloads. What it cannot use it leaves,
    /// and goes on with what it has.
    fn load(&self) {
        if self.state().tasks.is_none() {
            return;
        }
        match self.read(Path::new(CONFIG)) {
            Ok(new) => {
                let shown = new.iter().map(|(p, v)| format!("{p}: {}", v.version()));
                let shown: Vec<_> = shown.collect();
                self.note(format_args!("serves {}", shown.join(", ")));
                let until = Instant::now() + self.0.chance.between(Duration::ZERO, OVERLAP);
                let mut state = self.state();
                state.served.extend(new.keys());
                state.old = state.workers.take().map(|old| (old, until));
                state.workers = Some(new);
                state.was_broken = false;
            }
            Err(error) => {
                self.note(format_args!("not loaded: {error}"));
                let mut state = self.state();
                let whole = state.sites.keys().all(|port| state.served.contains(port));
                if whole && !state.broken {
                    state.fault = Some(format!("{}: {error}", self.0.name));
                }
            }
        }
    }

    /// What a configuration would serve, or what nginx has against it.
    fn read(&self, config: &Path) -> Result<Workers, String> {
        let text = self.text(config)?;
        let mut workers = Workers::new();
        for server in servers(&text)? {
            let word = |name: &str| {
                let value = server.get(name);
                value.ok_or_else(|| format!("[emerg] no {name} is defined"))
            };
            let port = word("listen")?.rsplit(':').next().unwrap();
            let cert_path = Path::new(word("ssl_certificate")?);
            let key_path = Path::new(word("ssl_certificate_key")?);
            let cannot = |path: &Path, why: &dyn std::fmt::Display| {
                format!("[emerg] cannot load {}: {why}", path.display())
            };
            let chain = Chain::from_pem(&self.text(cert_path)?);
            let chain = chain.map_err(|e| cannot(cert_path, &e))?;
            let key = PrivateKey::from_pkcs8_pem(&self.text(key_path)?);
            let key = key.map_err(|e| cannot(key_path, &e))?;
            let site = cert_path.file_stem().unwrap().to_str().unwrap();
            let pair = Pair::new(site.parse().unwrap(), chain, key);
            let pair = pair.map_err(|e| cannot(key_path, &format!("key values mismatch: {e}")))?;
            // A rehearsal listens on a socket: it is never loaded.
            workers.insert(port.parse().unwrap_or(0), pair);
        }
        Ok(workers)
    }

    fn text(&self, path: &Path) -> Result<String, String> {
        let bytes = self.0.volume.read(path);
        let bytes =
            bytes.map_err(|e| format!("[emerg] open() \"{}\" failed: {e}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `nginx ...`
    pub async fn command(&self, command: &Command) -> Finished {
        let args: Vec<&str> = command.argv.iter().skip(1).map(String::as_str).collect();
        let (ending, output) = match args[..] {
            ["-V"] => (Ending::Code(0), "nginx version: nginx/1.22.1".to_owned()),
            ["-t", "-q", "-c", config] => match self.read(Path::new(config)) {
                Ok(_) => (Ending::Code(0), String::new()),
                Err(error) => (Ending::Code(1), format!("nginx: {error}\n")),
            },
            ["-s", "reload", "-c", config] => match self.read(Path::new(config)) {
                Ok(_) => match self.fate(true) {
                    Reload::Fails => (Ending::Code(1), "nginx: [error] kill() failed\n".into()),
                    Reload::Hangs => {
                        sleep(command.limit).await;
                        (Ending::TimedOut, String::new())
                    }
                    fate => match self.begin(fate) {
                        Ok(()) => (Ending::Code(0), String::new()),
                        Err(error) => (Ending::Code(1), format!("nginx: [error] {error}\n")),
                    },
                },
                Err(error) => (Ending::Code(1), format!("nginx: {error}\n")),
            },
            _ => (
                Ending::Code(1),
                format!("nginx: invalid option: {args:?}\n"),
            ),
        };
        Finished { ending, output }
    }

    /// SIGHUP to the master.
    pub fn hang_up(&self) -> Result<(), String> {
        self.begin(self.fate(false))
    }

    fn fate(&self, command: bool) -> Reload {
        let chance = &self.0.chance;
        let between = |least, most| {
            Duration::from_millis(least).max(Duration::from_millis(least + chance.below(most)))
        };
        let fate = if self.state().calm || !chance.one_in(TROUBLE) {
            Reload::Done(between(1, 30))
        } else {
            match chance.below(if command { 5 } else { 3 }) {
                0 => Reload::NoEffect,
                1 => Reload::Done(between(500, 1000)),
                2 => Reload::Done(between(3000, 5000)),
                3 => Reload::Fails,
                _ => Reload::Hangs,
            }
        };
        self.note(format_args!("reload: {fate:?}"));
        fate
    }

    /// The master is told to reload.
    fn begin(&self, fate: Reload) -> Result<(), String> {
        let tasks = {
            let state = self.state();
            let running = state.workers.as_ref().and(state.tasks.clone());
            running.ok_or_else(|| "nginx is not running".to_owned())?
        };
        if let Reload::Done(after) = fate {
            let nginx = self.clone();
            tasks.spawn("nginx reload", async move {
                sleep(after).await;
                nginx.load();
            });
        }
        Ok(())
    }

    /// What one new connection is served.
    pub fn handshake(&self, port: u16) -> Option<Pair> {
        let state = self.state();
        if let Some((old, until)) = &state.old
            && Instant::now() < *until
            && self.0.chance.one_in(2)
        {
            return old.get(&port).cloned();
        }
        state.workers.as_ref()?.get(&port).cloned()
    }

    /// All that is served, by workers old and new, by port.
    pub fn served(&self) -> Vec<(u16, Pair)> {
        let state = self.state();
        let old = state
            .old
            .iter()
            .filter(|(_, until)| Instant::now() < *until);
        let workers = state.workers.iter().chain(old.map(|(old, _)| old));
        workers
            .flatten()
            .map(|(port, pair)| (*port, pair.clone()))
            .collect()
    }

    /// Its endpoints always serve a pair: the files were never anything else when it read them, and
    /// are not now, and it runs.
    #[track_caller]
    pub fn check(&self) {
        let state = self.state();
        let fault = state.fault.clone();
        let whole = state.sites.keys().all(|port| state.served.contains(port));
        let (on, broken) = (state.tasks.is_some(), state.broken);
        let runs = state.workers.is_some();
        drop(state);
        if let Some(fault) = fault {
            panic!("{fault}");
        }
        if whole && !broken {
            if let Err(error) = self.read(Path::new(CONFIG)) {
                panic!("{}: {error}", self.0.name);
            }
            assert!(runs || !on || self.was_broken(), "{} is down", self.0.name);
        }
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.0.trace.note(format_args!("{}: {what}", self.0.name));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

/// The directives of each server block.
fn servers(text: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
    const KNOWN: [&str; 4] = ["user", "events", "http", "server"];
    let mut servers = Vec::new();
    let mut within: Vec<String> = Vec::new();
    for line in text.split_inclusive([';', '{', '}']) {
        let end = line.chars().last().unwrap_or(' ');
        let words: Vec<&str> = line.split_whitespace().collect();
        let word = |n: usize| {
            let word = words.get(n).copied().unwrap_or_default();
            word.trim_end_matches([';', '{', '}']).trim_matches('"')
        };
        match end {
            '{' if KNOWN.contains(&word(0)) => {
                if word(0) == "server" {
                    servers.push(BTreeMap::new());
                }
                within.push(word(0).to_owned());
            }
            '{' => return Err(format!("[emerg] unknown directive \"{}\"", word(0))),
            '}' => drop(within.pop()),
            ';' if within.last().is_some_and(|block| block == "server") => {
                let server = servers.last_mut().unwrap();
                server.insert(word(0).to_owned(), word(1).to_owned());
            }
            _ => {}
        }
    }
    if within.is_empty() {
        Ok(servers)
    } else {
        Err("[emerg] unexpected end of file, expecting \"}\"".into())
    }
}

/// A machine that is on, and its disk.
fn on(trace: &Trace) -> (Nginx, Volume) {
    let volume = Volume::default();
    let nginx = Nginx::new("host", &volume, Chance::new(1, "nginx"), trace);
    nginx.site("www", 7000, true);
    nginx.calm(true);
    nginx.boot();
    (nginx, volume)
}

/// Puts another pair at the site's paths, or its key alone.
fn replace(nginx: &Nginx, volume: &Volume, whole: bool) {
    let (chain, key) = nginx.own_pair("www");
    if whole {
        volume.plant(&Nginx::cert_path("www"), chain.as_bytes(), 0o644);
    }
    volume.plant(&Nginx::key_path("www"), key.as_bytes(), 0o640);
}

fn leaf(pair: Option<Pair>) -> Option<String> {
    Some(pair?.chain().leaf().fingerprint_sha256().to_owned())
}

async fn says(nginx: &Nginx, args: &[&str]) -> Finished {
    let argv = [&[BINARY], args].concat();
    let argv = argv.into_iter().map(String::from).collect();
    let limit = Duration::from_secs(5);
    nginx.command(&Command { argv, limit }).await
}

#[test]
fn simulated_workers_serve_what_they_were_started_with() {
    super::simulate(1, async |trace, _| {
        let (nginx, volume) = on(&trace);
        let first = leaf(nginx.handshake(7000)).expect("it serves");
        replace(&nginx, &volume, true);
        assert_eq!(leaf(nginx.handshake(7000)).as_ref(), Some(&first));
        nginx.hang_up().unwrap();
        let mut seen = BTreeSet::new();
        while leaf(nginx.now(7000)).as_ref() == Some(&first) {
            seen.extend(leaf(nginx.handshake(7000)));
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(seen.len(), 1, "until the new workers are there");
        let now = leaf(nginx.now(7000)).expect("it serves");
        for _ in 0..100 {
            seen.extend(leaf(nginx.handshake(7000)));
        }
        assert_eq!(seen, BTreeSet::from([first, now.clone()]), "side by side");
        sleep(OVERLAP).await;
        assert!((0..100).all(|_| leaf(nginx.handshake(7000)).as_ref() == Some(&now)));
        nginx.check();
    });
}

#[test]
fn simulated_nginx_takes_no_broken_pair_or_configuration() {
    super::simulate(1, async |trace, _| {
        let (nginx, volume) = on(&trace);
        let test = ["-t", "-q", "-c", CONFIG];
        assert!(says(&nginx, &test).await.succeeded());
        nginx.break_configuration(true);
        let refused = says(&nginx, &test).await;
        assert!(
            refused.output.contains("unknown directive \"sevrer\""),
            "{refused:?}"
        );
        assert!(
            !says(&nginx, &["-s", "reload", "-c", CONFIG])
                .await
                .succeeded()
        );
        nginx.break_configuration(false);

        let first = leaf(nginx.handshake(7000));
        replace(&nginx, &volume, false);
        let refused = says(&nginx, &test).await;
        assert!(refused.output.contains("mismatch"), "{refused:?}");
        nginx.hang_up().unwrap();
        sleep(OVERLAP).await;
        assert_eq!(
            leaf(nginx.handshake(7000)),
            first,
            "it goes on with what it has"
        );
        let seen = std::panic::AssertUnwindSafe(|| nginx.check());
        assert!(std::panic::catch_unwind(seen).is_err(), "it is told of");

        // Its power gone, it has nothing.
        nginx.power_off();
        assert!(nginx.handshake(7000).is_none());
        assert!(nginx.hang_up().is_err());
        nginx.boot();
        assert!(nginx.handshake(7000).is_none(), "it cannot start");
        replace(&nginx, &volume, true);
        sleep(2 * RESTART).await;
        assert!(nginx.handshake(7000).is_some(), "it is started again");
    });
}

#[test]
fn simulated_reloads_fail_in_every_way() {
    super::simulate(1, async |trace, _| {
        let (nginx, volume) = on(&trace);
        nginx.calm(false);
        let mut endings = BTreeSet::new();
        for _ in 0..500 {
            replace(&nginx, &volume, true);
            let before = leaf(nginx.now(7000));
            let finished = says(&nginx, &["-s", "reload", "-c", CONFIG]).await;
            sleep(Duration::from_secs(2)).await;
            let changed = leaf(nginx.now(7000)) != before;
            endings.insert((format!("{:?}", finished.ending), changed));
            sleep(Duration::from_secs(10)).await;
        }
        let endings: Vec<_> = endings.iter().map(|(e, c)| (e.as_str(), *c)).collect();
        let all = [
            ("Code(0)", false),
            ("Code(0)", true),
            ("Code(1)", false),
            ("TimedOut", false),
        ];
        assert_eq!(endings, all);
    });
}
