//! A server in memory, a small CA, and a host in a temporary directory.

use async_trait::async_trait;
use bytes::Bytes;
use certctl::{
    agent::{
        Agent, AgentExit, EnrolWish, Env, Paths, Policy, enrol,
        protocol::{Enrol, Outcome, Report},
    },
    clock::SystemClock,
    crypt::{Crypto, OsRng, RingCrypto},
    deploy::{Deployer, Pair, Sites, TlsSites, Vault},
    id::Id,
    net::{CallError, Dialer, Guard, Probe, Resolver, TlsProbe, Transport},
    pki::{Chain, KeyAlgorithm},
    sys::{Disk, Exec, Files, Programs, Tasks},
};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

pub const URL: &str = "https://certctl.test:8443";

pub fn id(text: &str) -> Id {
    text.parse().unwrap()
}

/// Signs what it is given, with the serial number it is told.
pub struct Ca {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Ca {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Test CA");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: rcgen::Issuer::new(params, key),
            pem,
        }
    }

    /// Leaf and CA, PEM, for a signing request.
    pub fn sign(&self, csr_pem: &str, serial: u32) -> String {
        self.sign_until(csr_pem, serial, 4000)
    }

    pub fn sign_until(&self, csr_pem: &str, serial: u32, year: i32) -> String {
        let mut csr = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        csr.params.serial_number = Some(serial.to_be_bytes().to_vec().into());
        csr.params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        csr.params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let leaf = csr.signed_by(&self.issuer).unwrap();
        format!("{}{}", leaf.pem(), self.pem)
    }
}

/// What one call of the agent is answered; the default does what the real server would.
type Answer = (StatusCode, Value);

#[derive(Default)]
struct State {
    work: VecDeque<Value>,
    answers: BTreeMap<&'static str, VecDeque<Answer>>,
    always: BTreeMap<&'static str, Answer>,
    calls: Vec<(&'static str, Value)>,
    reports: BTreeMap<Id, Vec<Report>>,
    csrs: Vec<(Id, String)>,
}

/// The agent protocol's other end.
#[derive(Default)]
pub struct FakeServer {
    state: Mutex<State>,
    changed: Notify,
}

impl FakeServer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Leases a job to the agent.
    pub fn lease(&self, item: Value) {
        self.state().work.push_back(item);
        self.changed.notify_waiters();
    }

    /// Answers the next call of this kind so; calls: work, lease, csr, report, enrol.
    pub fn answer(&self, call: &'static str, status: u16, body: Value) {
        let answer = (StatusCode::from_u16(status).unwrap(), body);
        self.state()
            .answers
            .entry(call)
            .or_default()
            .push_back(answer);
    }

    /// Answers every call of this kind so.
    pub fn always(&self, call: &'static str, status: u16, body: Value) {
        let answer = (StatusCode::from_u16(status).unwrap(), body);
        self.state().always.insert(call, answer);
    }

    /// Ends what `always` began.
    pub fn relent(&self, call: &'static str) {
        self.state().always.remove(call);
    }

    /// The bodies of all calls of a kind, the queries of those without one.
    pub fn calls(&self, call: &str) -> Vec<Value> {
        self.state()
            .calls
            .iter()
            .filter(|(c, _)| *c == call)
            .map(|(_, b)| b.clone())
            .collect()
    }

    /// The `n`-th accepted report of a job, from 1.
    pub async fn report(&self, job: &str, n: usize) -> Outcome {
        let job = id(job);
        self.until(|s| s.reports.get(&job)?.get(n - 1).map(|r| r.outcome.clone()))
            .await
    }

    /// How many reports were accepted.
    pub fn reports(&self) -> usize {
        self.state().reports.values().map(Vec::len).sum()
    }

    /// The `n`-th signing request, from 1.
    pub async fn csr(&self, n: usize) -> String {
        self.until(|s| s.csrs.get(n - 1).map(|(_, csr)| csr.clone()))
            .await
    }

    /// Waits until a kind was called `n` times.
    pub async fn called(&self, call: &str, n: usize) {
        self.until(|s| (s.calls.iter().filter(|(c, _)| *c == call).count() >= n).then_some(()))
            .await;
    }

    /// Waits for something to be true of the calls so far.
    async fn until<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(&self.state()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3600), wait)
            .await
            .expect("the agent never came")
    }

    fn planned(&self, call: &'static str) -> Option<Answer> {
        let mut state = self.state();
        let next = state.answers.get_mut(call).and_then(VecDeque::pop_front);
        next.or_else(|| state.always.get(call).cloned())
    }
}

#[async_trait]
impl Transport for FakeServer {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let path = request.uri().path().to_owned();
        assert!(
            request.uri().to_string().starts_with(URL),
            "{}",
            request.uri()
        );
        let segments: Vec<&str> = path.split('/').skip(4).collect();
        let (call, job) = match segments.as_slice() {
            ["enrol"] => ("enrol", None),
            [_, "work"] => ("work", None),
            [_, "observations"] => ("observations", None),
            [_, "ping"] => ("ping", None),
            [_, "credential"] => ("credential", None),
            [_, "jobs", job, "lease"] => ("lease", Some(id(job))),
            [_, "jobs", job, "csr"] => ("csr", Some(id(job))),
            [_, "jobs", job, "report"] => ("report", Some(id(job))),
            other => panic!("no such call: {other:?}"),
        };
        if call != "enrol" {
            let credential = request.headers()["authorization"].to_str().unwrap();
            assert!(
                credential.starts_with("Bearer cta_agent-1."),
                "the credential is missing"
            );
        }
        let body: Value = serde_json::from_slice(request.body())
            .unwrap_or_else(|_| request.uri().query().unwrap_or_default().into());
        self.state().calls.push((call, body.clone()));
        self.changed.notify_waiters();
        let (status, answer) = match self.planned(call) {
            Some((StatusCode::IM_A_TEAPOT, _)) => {
                return Err(CallError::Broken("cut by the test".into()));
            }
            Some(answer) => answer,
            None => match (call, job) {
                ("enrol", _) => {
                    let _: Enrol = serde_json::from_value(body).unwrap();
                    let answer = json!({
                        "agent_id": "agent-1", "system_ca_pem": "PEM", "server_time": "2026-01-01T00:00:00Z"
                    });
                    (StatusCode::CREATED, answer)
                }
                ("ping", _) => (
                    StatusCode::OK,
                    json!({
                        "agent_id": "agent-1", "name": "test", "server_version": "0.1.0",
                        "server_time": "2026-01-01T00:00:00Z",
                        "credential_since": "2026-01-01T00:00:00Z",
                    }),
                ),
                ("credential", _) => (StatusCode::NO_CONTENT, Value::Null),
                ("work", _) => {
                    let jobs = self.until(|s| (!s.work.is_empty()).then_some(())).await;
                    let () = jobs;
                    let jobs: Vec<Value> = self.state().work.drain(..).collect();
                    (StatusCode::OK, json!({ "count": jobs.len(), "jobs": jobs }))
                }
                ("observations", _) => (StatusCode::OK, json!({})),
                ("lease", _) => (
                    StatusCode::OK,
                    json!({ "until": "2026-01-01T00:00:00Z", "cancel": false }),
                ),
                ("csr", Some(job)) => {
                    let csr = body["csr_pem"].as_str().unwrap().to_owned();
                    self.state().csrs.push((job, csr));
                    self.changed.notify_waiters();
                    (StatusCode::ACCEPTED, json!({}))
                }
                (_, Some(job)) => {
                    let report: Report = serde_json::from_value(body).unwrap();
                    self.state().reports.entry(job).or_default().push(report);
                    self.changed.notify_waiters();
                    (StatusCode::OK, json!({}))
                }
                _ => unreachable!(),
            },
        };
        let body = serde_json::to_vec(&answer).unwrap();
        Ok(Response::builder()
            .status(status)
            .body(body.into())
            .unwrap())
    }
}

/// A host: its disk, its server, and what its agents are given.
pub struct Host {
    _dir: tempfile::TempDir,
    pub paths: Paths,
    pub server: Arc<FakeServer>,
    pub ca: Ca,
    pub files: Arc<dyn Files>,
    pub probe: Arc<dyn Probe>,
    pub policy: Arc<Policy>,
    pub look_every: Duration,
    pub exec: Arc<dyn Exec>,
}

impl Host {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(&dir.path().join("agent"), &dir.path().join("live")).unwrap();
        let dialer = Dialer::new(Resolver::system(), Guard::Any);
        Self {
            _dir: dir,
            paths,
            server: Arc::default(),
            ca: Ca::new(),
            files: Arc::new(Disk),
            probe: Arc::new(TlsProbe::new(dialer).unwrap()),
            policy: Arc::default(),
            look_every: Duration::from_secs(86_400),
            exec: Arc::new(Programs),
        }
    }

    pub fn env(&self) -> (Env, Arc<TlsSites>) {
        let tasks = Tasks::new();
        let sites = Arc::new(TlsSites::new(tasks.clone()));
        let env = Env {
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            crypto: Arc::new(RingCrypto),
            files: self.files.clone(),
            probe: self.probe.clone(),
            sites: sites.clone(),
            policy: self.policy.clone(),
            look_every: self.look_every,
            exec: self.exec.clone(),
            tasks,
        };
        (env, sites)
    }

    /// Enrols where that was not done, opens the agent and lets it run.
    pub async fn start(&self) -> Running {
        let (env, sites) = self.env();
        enrol(&env, &self.paths, &*self.server, URL, wish())
            .await
            .unwrap();
        let agent = Agent::open(env.clone(), self.paths.clone(), self.server.clone())
            .await
            .unwrap();
        let (ended, exit) = oneshot::channel();
        env.tasks.spawn("agent", async move {
            let _ = ended.send(agent.run().await);
        });
        Running {
            tasks: env.tasks,
            sites,
            exit,
        }
    }

    /// A deployer on this host, beside any agent.
    pub fn deployer(&self, files: Arc<dyn Files>) -> (Deployer, Arc<TlsSites>, Tasks) {
        self.deployer_under(self.policy.clone(), files)
    }

    /// The same under another policy.
    pub fn deployer_under(
        &self,
        policy: Arc<Policy>,
        files: Arc<dyn Files>,
    ) -> (Deployer, Arc<TlsSites>, Tasks) {
        let tasks = Tasks::new();
        let sites = Arc::new(TlsSites::new(tasks.clone()));
        let on = certctl::deploy::Host {
            clock: Arc::new(SystemClock),
            files,
            probe: self.probe.clone(),
            sites: sites.clone(),
            policy,
            exec: self.exec.clone(),
        };
        let deployer = Deployer::new(on, self.paths.clone());
        (deployer, sites, tasks)
    }

    /// A version of `certificate` whose key is on this host: its full chain, PEM.
    pub fn version(&self, certificate: &str, serial: u32) -> String {
        self.version_named(certificate, serial, &["localhost"])
    }

    pub fn version_named(&self, certificate: &str, serial: u32, names: &[&str]) -> String {
        let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
        self.vault().keep_key(&id(certificate), &key).unwrap();
        let key = rcgen::KeyPair::from_pem(&key.to_pkcs8_pem()).unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let csr = rcgen::CertificateParams::new(names)
            .unwrap()
            .serialize_request(&key)
            .unwrap();
        self.ca.sign(&csr.pem().unwrap(), serial)
    }

    /// The version as something to deploy.
    pub fn pair(&self, certificate: &str, fullchain: &str) -> Pair {
        let chain = Chain::from_pem(fullchain).unwrap();
        let key = self
            .vault()
            .key(&id(certificate), chain.leaf().spki_sha256())
            .unwrap()
            .unwrap();
        Pair::new(id(certificate), chain, key).unwrap()
    }

    pub fn vault(&self) -> Vault {
        Vault::new(Arc::new(Disk), self.paths.clone())
    }

    /// Where the certificate's link leads, as written.
    pub fn link(&self, certificate: &str) -> Option<String> {
        let to = std::fs::read_link(self.paths.link(&id(certificate))).ok()?;
        Some(to.to_str().unwrap().to_owned())
    }

    pub fn journal(&self, target: &str) -> Value {
        let path = self.paths.journals().join(target).join("journal.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// All names below the state directory's `sub`.
    pub fn names(&self, sub: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.paths.state.join(sub))
            .map(|dir| {
                dir.map(|e| e.unwrap().file_name().into_string().unwrap())
                    .collect()
            })
            .unwrap_or_default();
        names.sort();
        names
    }

    pub fn state(&self, path: &str) -> PathBuf {
        self.paths.state.join(path)
    }
}

/// A running agent.
pub struct Running {
    pub tasks: Tasks,
    pub sites: Arc<TlsSites>,
    pub exit: oneshot::Receiver<AgentExit>,
}

impl Running {
    /// Stops it in good order.
    pub async fn stop(self) -> AgentExit {
        self.tasks.shutdown(Duration::from_secs(10)).await;
        self.exit.await.unwrap()
    }

    /// The address of a target's listener.
    pub fn address(&self, target: &str) -> std::net::SocketAddr {
        self.sites.site(&id(target)).unwrap().address
    }
}

pub fn wish() -> EnrolWish {
    EnrolWish {
        token: "ctj_test".into(),
        name: "host".into(),
        hostname: "host.test".into(),
        os: "linux".into(),
        architecture: "x86_64".into(),
        version: "0".into(),
    }
}

pub fn mode(path: impl AsRef<std::path::Path>) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A leased issuance.
pub fn issuance(job: &str, certificate: &str) -> Value {
    json!({
        "id": job, "type": "Issuance", "certificate_id": certificate, "status": "Running",
        "lease": { "token": format!("t-{job}"), "until": "2026-01-01T00:00:00Z", "seconds": 60 },
        "common_name": "localhost", "sans": ["localhost", "127.0.0.1"], "key_algorithm": "ECDSA-P256"
    })
}

/// A leased deployment.
pub fn deployment(
    job: &str,
    certificate: &str,
    fullchain: &str,
    (target, kind, config): (&str, &str, Value),
) -> Value {
    let chain = certctl::pki::Chain::from_pem(fullchain).unwrap();
    let leaf = chain.leaf();
    json!({
        "id": job, "type": "Deployment", "certificate_id": certificate, "status": "Running",
        "lease": { "token": format!("t-{job}"), "until": "2026-01-01T00:00:00Z", "seconds": 60 },
        "target_id": target, "target_type": kind, "target_config": config,
        "version": {
            "id": format!("ver-{}", leaf.serial()), "serial": leaf.serial().to_string(),
            "fingerprint_sha256": leaf.fingerprint_sha256(), "spki_sha256": leaf.spki_sha256(),
            "fullchain_pem": fullchain
        }
    })
}
