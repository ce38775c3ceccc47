//! What the processes share that run for long: a control plane behind its doors, and the world an
//! agent is given.

use super::CliError;
use crate::{
    agent::{self, Paths, Policy, TlsSites},
    api,
    app::{App, Parts, awaited_schema, backup::STORE_FILE, passing_identity},
    clock::{Clock, SystemClock},
    config::{ServerConfig, secret_text},
    crypt::{OsRng, RingCrypto},
    net::{
        AGENT_NAME, Dialer, Endpoint, Guard, HttpClient, HttpOptions, Limits, Listener, Probe,
        Resolver, TlsProbe, Trust,
    },
    pki::{Certificate, San},
    reconcile,
    sys::{self, Disk, Files, Lock, Machine, Programs, Tasks, Terminate, notify},
};
use std::{
    io::{self, BufRead, IsTerminal, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// The longest secret in a file, in bytes.
const MAX_SECRET: usize = 4 << 10;
/// Work in progress has this long to end when the process is told to.
const GRACE: Duration = Duration::from_secs(25);
/// Handing on the lead may take this long; others take it by themselves soon after.
const HAND_OVER: Duration = Duration::from_secs(3);
/// The longest certificate file, in bytes.
const MAX_PEM: usize = 64 << 10;
/// For a handshake with our own site.
const GLANCE: Duration = Duration::from_secs(2);
/// Files that a server has open beside its connections, at most.
const OTHER_FILES: u64 = 1_000;
/// How often the service manager is told that a start goes on.
const STARTING: Duration = Duration::from_secs(10);
/// A server that waits for its store looks this often.
const LOOK_AT_SCHEMA: Duration = Duration::from_secs(2);
/// Agents look this often at what is in place and served.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The socket is for its owner and group.
const SOCKET_MODE: u32 = 0o660;

/// A name under which others reach a server: a DNS name or an IP address.
pub type Name = San;

/// Reads such a name.
pub fn name(text: &str) -> Result<Name, String> {
    match text.parse() {
        Ok(name @ (San::Dns(_) | San::Ip(_))) => Ok(name),
        Ok(_) => Err("a host name or an IP address is expected".into()),
        Err(e) => Err(e.to_string()),
    }
}

/// A control plane that answers.
pub struct Host {
    /// The control plane.
    pub app: Arc<App>,
    /// The address it listens on.
    pub address: SocketAddr,
    /// All that runs.
    pub tasks: Tasks,
    told: CancellationToken,
}

impl Host {
    /// Opens the data directory, starts the doors and the loops; `None` when the process was told
    /// to end before that was done. What was cut short is as after a crash. The server's own
    /// certificate has `named` beside the names that the machine knows of.
    pub async fn start(config: ServerConfig, named: Vec<Name>) -> Result<Option<Self>, CliError> {
        let tasks = Tasks::new();
        let told = signalled(&tasks)?;
        raise_open_files(Limits::default().connections as u64 + OTHER_FILES);
        let mut names = names(&config);
        names.extend(named);
        // Nothing is made for a server that could not listen. Where a store is there, whoever has it
        // open may be who listens, and is told of as such.
        if config.database.is_some() || !config.data_dir.join(STORE_FILE).exists() {
            for address in [Some(config.listen), config.pki_http].into_iter().flatten() {
                can_listen(address).await?;
            }
        }
        if config.migrations_via_hook && !schema_comes(&config, &names, &tasks, &told).await? {
            return Ok(None);
        }
        let (settings, all) = (config.clone(), tasks.clone());
        let start = async {
            let parts = Parts::of_machine(settings, all, names).await?;
            App::start(parts).await
        };
        tokio::pin!(start);
        // A database may be waited for, and indexes of a large store take minutes to build.
        let mut going_on = tokio::time::interval(STARTING);
        let app = loop {
            tokio::select! {
                biased;
                () = told.cancelled() => return Ok(None),
                started = &mut start => break started?.app,
                _ = going_on.tick() => notify::extend_timeout(3 * STARTING),
            }
        };
        let web = Listener::tls(config.listen, &app.identity).await?;
        let address = web.address().unwrap_or(config.listen);
        let socket = Listener::unix(&config.socket, SOCKET_MODE)?;
        let mut doors = vec![
            ("https", web, api::router(Arc::clone(&app))),
            ("socket", socket, api::router(Arc::clone(&app))),
        ];
        if let Some(address) = config.pki_http {
            let plain = Listener::plain(address).await?;
            let address = plain.address().unwrap_or(address);
            tracing::info!(%address, "CRLs and CA certificates are served over plain HTTP");
            doors.push(("pki http", plain, api::plain_router(Arc::clone(&app))));
        }
        for (name, listener, router) in doors {
            let (runner, stop) = (tasks.clone(), tasks.token());
            tasks.spawn(name, async move {
                listener
                    .serve(router, Limits::default(), &runner, &stop)
                    .await;
            });
        }
        reconcile::start(&app);
        watchdog(&app);
        Ok(Some(Self {
            app,
            address,
            tasks,
            told,
        }))
    }

    /// Waits until the process is told to end.
    pub async fn told_to_end(&self) {
        self.told.cancelled().await;
    }

    /// Ends everything that runs and closes the store.
    pub async fn stop(self) {
        notify::stopping();
        // Others need not wait for what is still going on here.
        if timeout(HAND_OVER, self.app.resign()).await.is_err() {
            tracing::warn!("the lead was not handed on in time: another server takes it");
        }
        let late = self.tasks.shutdown(GRACE).await;
        if !late.is_empty() {
            tracing::warn!(?late, "cut at the end of the drain");
        }
        self.app.close().await;
    }
}

/// Waits until a store that is behind was brought up, not ready meanwhile; `false` when the process
/// was told to end before. The store is opened for a moment at a time, so that whoever brings it
/// up can.
async fn schema_comes(
    config: &ServerConfig,
    names: &[San],
    tasks: &Tasks,
    told: &CancellationToken,
) -> Result<bool, CliError> {
    let mut doors = None;
    let comes = loop {
        let Some(why) = awaited_schema(config).await? else {
            break true;
        };
        if doors.is_none() {
            doors = Some(waiting_doors(config, names, tasks, &why).await?);
            tracing::warn!(
                why,
                "waiting for the store; CERTCTL_MIGRATIONS_VIA_HOOK is set"
            );
        }
        notify::extend_timeout(3 * STARTING);
        tokio::select! {
            biased;
            () = told.cancelled() => break false,
            () = tokio::time::sleep(LOOK_AT_SCHEMA) => {}
        }
    };
    if let Some((stop, ended)) = doors {
        stop.cancel();
        let _ = ended.await;
    }
    Ok(comes)
}

/// Says that the server is not ready, until it is cancelled; then the address is free again.
async fn waiting_doors(
    config: &ServerConfig,
    names: &[San],
    tasks: &Tasks,
    why: &str,
) -> Result<(CancellationToken, oneshot::Receiver<()>), CliError> {
    let now = SystemClock.now();
    let identity = passing_identity(names.to_vec(), &RingCrypto, &OsRng, now).await?;
    let listener = Listener::tls(config.listen, &identity).await?;
    let (stop, router) = (tasks.token().child_token(), api::waiting_router(why));
    let (told, runner, (end, ended)) = (stop.clone(), tasks.clone(), oneshot::channel());
    tasks.spawn("waiting", async move {
        listener
            .serve(router, Limits::default(), &runner, &told)
            .await;
        drop(end);
    });
    Ok((stop, ended))
}

/// Tells the service manager that the server is alive, as long as its loops look.
fn watchdog(app: &Arc<App>) {
    let Some(interval) = notify::watchdog_interval() else {
        return;
    };
    let (app, stop) = (Arc::clone(app), app.tasks.token());
    app.clone().tasks.spawn("watchdog", async move {
        loop {
            match app.pulse.stalled() {
                None => notify::watchdog(),
                Some(name) => tracing::error!(loop_name = name, "a loop has not looked for long"),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    });
}

/// Lets the process have as many open files as the machine allows; says so when that is less than
/// `wanted`.
pub fn raise_open_files(wanted: u64) {
    match sys::raise_open_files() {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => tracing::warn!(
            limit,
            wanted,
            "the hard limit on open files is low: raise it (LimitNOFILE=, `ulimit -Hn`)"
        ),
        Err(error) => tracing::warn!(%error, "the limit on open files was not raised"),
    }
}

/// A token that is cancelled when a signal tells the process to end.
pub fn signalled(tasks: &Tasks) -> Result<CancellationToken, CliError> {
    let mut terminate =
        Terminate::new().map_err(|e| CliError::Failed(format!("cannot wait for signals: {e}")))?;
    let (told, stop) = (CancellationToken::new(), tasks.token());
    let tell = told.clone();
    tasks.spawn("signals", async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            signal = terminate.recv() => {
                tracing::info!(signal, "stopping");
                tell.cancel();
            }
        }
    });
    Ok(told)
}

/// The names under which a server is reached: this machine's, and the addresses it listens on.
fn names(config: &ServerConfig) -> Vec<San> {
    let mut names = vec![
        San::Dns("localhost".into()),
        San::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        San::Ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    if config.listen.ip().is_unspecified() {
        names.extend(Machine::addresses().into_iter().map(San::Ip));
    } else {
        names.push(San::Ip(config.listen.ip()));
    }
    names.extend(Machine::this().hostname.parse().ok());
    names
}

/// The world as an agent of this machine is given it.
pub fn agent_env(tasks: &Tasks, policy: Policy) -> Result<agent::Env, CliError> {
    Ok(agent::Env {
        clock: Arc::new(SystemClock),
        rng: Arc::new(OsRng),
        crypto: Arc::new(RingCrypto),
        files: Arc::new(Disk),
        probe: Arc::new(probe()?),
        sites: Arc::new(TlsSites::new(tasks.clone())),
        exec: Arc::new(Programs),
        policy: Arc::new(policy),
        look_every: LOOK_EVERY,
        tasks: tasks.clone(),
    })
}

/// Sees what endpoints serve.
fn probe() -> Result<TlsProbe, CliError> {
    let dialer = Dialer::new(Resolver::system(), Guard::Any);
    TlsProbe::new(dialer).map_err(|e| CliError::Failed(e.to_string()))
}

/// The serial number of the leaf that is at a place now: served by an endpoint under a name, or in
/// a directory of files. `None` where there is none.
pub async fn serial_at(place: &str, name: &str) -> Result<Option<String>, CliError> {
    let leaf = if place.starts_with('/') {
        let pem = Disk.read(&Path::new(place).join("cert.pem"), MAX_PEM).ok();
        let pem = pem.and_then(|pem| String::from_utf8(pem).ok());
        pem.and_then(|pem| Certificate::from_pem(&pem).ok())
    } else {
        let Ok(endpoint) = place.parse::<Endpoint>() else {
            return Ok(None);
        };
        let served = probe()?.tls(&endpoint, name, GLANCE).await;
        let leaf = served.ok().and_then(|s| s.chain.into_iter().next());
        leaf.and_then(|der| Certificate::from_der(&der).ok())
    };
    Ok(leaf.map(|leaf| leaf.serial().to_string()))
}

/// Ends with why nobody can listen on an address, if so.
pub async fn can_listen(address: SocketAddr) -> Result<(), CliError> {
    Ok(Listener::plain(address).await.map(drop)?)
}

/// An agent's way to its server. Trusting the system CA, it asks for the name that only the system
/// CA's leaf answers to, whatever address the server has.
pub fn to_server(trust: &Trust, system_ca: bool) -> Result<HttpClient, CliError> {
    let dialer = Dialer::new(Resolver::system(), Guard::Any);
    let options = HttpOptions {
        timeout: Duration::from_secs(90),
        server_name: system_ca.then(|| AGENT_NAME.to_owned()),
        ..HttpOptions::default()
    };
    Ok(HttpClient::https(dialer, trust, options)?)
}

/// Where an agent keeps its things.
pub fn paths(state: &Path, live: &Path) -> Result<Paths, CliError> {
    Paths::new(state, live).map_err(|e| CliError::Storage(e.to_string()))
}

/// Holds an agent's state directory, which is there: two agents of one identity would take each
/// other's jobs.
pub fn hold(state: &Path) -> Result<Lock, CliError> {
    match Lock::take(&state.join("agent.lock")) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(CliError::Running(format!(
            "another agent runs on {}: stop it, or choose another --state-dir",
            state.display()
        ))),
        Err(e) => Err(CliError::Storage(e.to_string())),
    }
}

/// Reads a file named on the command line.
pub fn read(path: &Path, max: usize) -> Result<Vec<u8>, CliError> {
    Disk.read(path, max)
        .map_err(|e| CliError::Storage(e.to_string()))
}

/// The secret in a file named on the command line; line ends at its end are left out.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let bytes = Zeroizing::new(read(path, MAX_SECRET)?);
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| CliError::Failed(format!("{} is no text", path.display())))?;
    Ok(Zeroizing::new(secret_text(text).to_owned()))
}

/// Whether whoever sits there, or what is piped in, says `yes`.
pub fn confirmed(question: &str) -> Result<bool, CliError> {
    let input = io::stdin();
    if input.is_terminal() {
        eprint!("{question}. Type yes to go on: ");
    }
    let mut line = String::new();
    let read = input.lock().take(16).read_line(&mut line);
    match read.map_err(|e| CliError::Failed(format!("standard input: {e}")))? {
        0 => Err(CliError::Usage(format!(
            "{question}: nobody is there to be asked, --yes goes on without a question"
        ))),
        _ => Ok(line.trim() == "yes"),
    }
}

/// A line of standard input, of `max` bytes at most; asks for it where somebody sits there.
pub fn from_stdin(what: &str, max: usize) -> Result<String, CliError> {
    let input = io::stdin();
    if input.is_terminal() {
        eprint!("{what}: ");
    }
    let mut line = String::new();
    let read = input.lock().take(max as u64).read_line(&mut line);
    read.map_err(|e| CliError::Failed(format!("standard input: {e}")))?;
    let line = line.trim();
    if line.is_empty() {
        return Err(CliError::Failed(format!(
            "standard input holds no {what}: write it there, on one line"
        )));
    }
    Ok(line.to_owned())
}
