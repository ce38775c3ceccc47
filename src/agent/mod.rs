//! The agent: it makes private keys on the host that uses them, sends signing requests, deploys
//! versions, sees them served and reports. It runs inside `certctl quickstart` and alone.
//!
//! [`enrol()`] gives a host its identity once. [`Agent::open`] then decides what a crash left open,
//! and [`Agent::run`] works: one poller, one task per job that also keeps the job's lease, and the
//! outbox that delivers reports until the server has taken them.

mod backoff;
mod enrol;
mod export;
mod jobs;
mod keys;
mod outbox;
mod ping;
mod rotation;
mod server;
mod watch;

pub mod protocol;

pub use crate::deploy::{POLICY_FILE, Paths, Policy, PolicyError, TlsSites};
pub use enrol::{EnrolError, EnrolWish, Identity, IdentityError, enrol};
pub use export::{ExportError, export};
pub use ping::{Step, Ways, ping};

use crate::{
    clock::{Clock, Rng},
    crypt::Crypto,
    deploy::{Deployer, Host, Sites, Vault},
    id::Id,
    net::{Probe, Transport},
    sys::{Exec, Files, Reach, Tasks, remove_temporaries},
};
use backoff::Backoff;
use jobs::Jobs;
use keys::PendingKeys;
use outbox::Outbox;
use rotation::Rotation;
use server::{Of, Refusal, Server};
use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use watch::Watcher;

/// What an agent is given of the world.
#[derive(Clone)]
pub struct Env {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Randomness for secrets and jitter.
    pub rng: Arc<dyn Rng>,
    /// Makes keys.
    pub crypto: Arc<dyn Crypto>,
    /// The disk.
    pub files: Arc<dyn Files>,
    /// Sees what endpoints serve.
    pub probe: Arc<dyn Probe>,
    /// Listeners of its own.
    pub sites: Arc<dyn Sites>,
    /// Other programs of the host.
    pub exec: Arc<dyn Exec>,
    /// What the host allows, whatever the server asks for.
    pub policy: Arc<Policy>,
    /// How often it looks at what is in place and served.
    pub look_every: Duration,
    /// Runs its tasks; when they drain, the agent stops.
    pub tasks: Tasks,
}

/// Why an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentExit {
    /// Its tasks drain.
    Stopped,
    /// The server has retired it: its credential will never work again.
    Retired,
}

/// An enrolled agent.
pub struct Agent {
    server: Arc<Server>,
    outbox: Arc<Outbox>,
    jobs: Arc<Jobs>,
    deployer: Arc<Deployer>,
    watcher: Arc<Watcher>,
    rotation: Arc<Rotation>,
    /// Every target is as its journal says.
    restored: Arc<AtomicBool>,
    retired: CancellationToken,
    env: Env,
}

/// Jobs in hand of a retired agent have this long to be undone.
const UNDOING: Duration = Duration::from_secs(60);
/// Between polls that bring nothing and did not wait.
const PACE: Duration = Duration::from_secs(1);
/// Jobs that a poll names, at most.
const MOST_HELD: usize = 64;

impl Agent {
    /// Reads the identity, clears away what a crash left half written, closes the journals of
    /// deployments that it cut short, serves again the sites that were served and takes up
    /// unacknowledged reports. `transport` leads to the identity's server and trusts its system CA.
    pub async fn open(
        env: Env,
        paths: Paths,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, IdentityError> {
        let identity = Identity::load(&*env.files, &paths)?.ok_or(IdentityError::None)?;
        for (dir, reach) in [(&paths.state, Reach::Tree), (&paths.live, Reach::Directory)] {
            if let Err(error) = remove_temporaries(&*env.files, dir, reach) {
                tracing::warn!(%error, "what a crash left half written was not removed");
            }
        }
        let server = Arc::new(Server::new(transport, &identity));
        let host = Host {
            clock: env.clock.clone(),
            files: env.files.clone(),
            probe: env.probe.clone(),
            sites: env.sites.clone(),
            exec: env.exec.clone(),
            policy: env.policy.clone(),
        };
        let deployer = Arc::new(Deployer::new(host, paths.clone()));
        deployer.sweep();
        let restored = Arc::new(AtomicBool::new(deployer.recover().await));
        let outbox = Arc::new(Outbox::open(env.files.clone(), &paths));
        let vault = Vault::new(env.files.clone(), paths.clone());
        let keys = PendingKeys::new(&env, &paths, vault.clone());
        let watcher = Arc::new(Watcher::default());
        let jobs = Jobs::new(
            env.clone(),
            server.clone(),
            outbox.clone(),
            deployer.clone(),
            vault,
            keys,
            watcher.clone(),
        );
        tracing::info!(agent = %identity.agent_id(), name = identity.name(), "agent opened");
        let retired = CancellationToken::new();
        let rotation = Arc::new(Rotation::new(&env, &paths, server.clone(), identity));
        Ok(Self {
            server,
            rotation,
            outbox,
            jobs: Arc::new(jobs),
            deployer,
            watcher,
            restored,
            retired,
            env,
        })
    }

    /// Works until the tasks drain or the server retires the agent. When they drain, jobs in hand
    /// are dropped as in a crash: journals decide what was begun, leases lapse. Those of a retired
    /// agent are undone.
    pub async fn run(self) -> AgentExit {
        let stop = self.env.tasks.token();
        if !self.restored.load(Ordering::Relaxed) {
            let (deployer, rng) = (self.deployer.clone(), self.env.rng.clone());
            let restored = self.restored.clone();
            self.beside("agent recovery", async move {
                restore(&deployer, &*rng, &restored).await;
                None
            });
        }
        let work = async {
            if let Err(why) = self.rotation.settle().await {
                return why;
            }
            let (outbox, server) = (self.outbox.clone(), self.server.clone());
            let rng = self.env.rng.clone();
            self.beside("agent outbox", async move {
                Some(outbox.deliver(&server, &*rng).await)
            });
            let (watcher, deployer) = (self.watcher.clone(), self.deployer.clone());
            let (server, env) = (self.server.clone(), self.env.clone());
            self.beside("agent watch", async move {
                Some(watcher.watch(&deployer, &server, &env).await)
            });
            let rotation = self.rotation.clone();
            self.beside("agent credential", async move {
                Some(rotation.keep_young().await)
            });
            self.poll().await
        };
        let why = tokio::select! {
            biased;
            () = stop.cancelled() => return AgentExit::Stopped,
            () = self.retired.cancelled() => None,
            why = work => Some(why),
        };
        if let Some(why) = why {
            told(&why);
        }
        self.retired.cancel();
        self.jobs.stop_all();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.jobs.ended() => {}
            () = sleep(UNDOING) => tracing::warn!("jobs in hand are left to their journals"),
        }
        AgentExit::Retired
    }

    /// Runs a task until the agent ends. What it returns is why the agent is retired.
    fn beside(
        &self,
        name: &'static str,
        task: impl Future<Output = Option<String>> + Send + 'static,
    ) {
        let (stop, retired) = (self.env.tasks.token(), self.retired.clone());
        self.env.tasks.spawn(name, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = retired.cancelled() => {}
                why = task => if let Some(why) = why {
                    told(&why);
                    retired.cancel();
                },
            }
        });
    }

    /// The jobs whose leases this agent has: those in hand, and those whose reports the server has
    /// not taken. `None` when they are too many to be named in a poll.
    fn holds(&self) -> Option<BTreeSet<Id>> {
        let mut holds = self.jobs.in_hand();
        holds.extend(self.outbox.jobs());
        Some(holds).filter(|holds| holds.len() <= MOST_HELD)
    }

    /// Asks for work until the agent is retired; returns why. The poll is the heartbeat too.
    async fn poll(&self) -> String {
        let mut backoff = Backoff::default();
        // Leases of an earlier run would keep their jobs from this one until they lapse.
        let mut fresh = true;
        // So would those of an answer that was lost on the way.
        let mut lost = false;
        loop {
            self.jobs.room().await;
            let began = Instant::now();
            let wait = backoff::poll_wait(&*self.env.rng);
            let of = Of {
                fresh,
                holds: lost.then(|| self.holds()).flatten(),
                time: self.env.clock.now(),
                restoring: !self.restored.load(Ordering::Relaxed),
            };
            match self.server.work(wait, of).await {
                Ok(answered) => {
                    (fresh, lost) = (false, false);
                    if backoff.failures() > 0 {
                        tracing::info!(failures = backoff.failures(), "the server answers again");
                    }
                    backoff = Backoff::default();
                    // First, so that what is to take the place of a job need not wait for it.
                    answered
                        .cancel
                        .iter()
                        .for_each(|job| self.jobs.withdraw(job));
                    answered
                        .look
                        .iter()
                        .for_each(|target| self.watcher.ask(target));
                    if answered.look_at_all {
                        self.watcher.ask_all();
                    }
                    answered
                        .show
                        .iter()
                        .for_each(|target| self.watcher.show(target));
                    let jobs = answered.jobs.into_iter();
                    let taken = jobs.filter(|item| self.jobs.take(item)).count();
                    if taken == 0 {
                        sleep_until(began + PACE).await;
                    }
                }
                Err(Refusal::Retired(why)) => return why,
                Err(error) => {
                    lost = true;
                    let pause = backoff.next(&*self.env.rng, error.retry_after());
                    if backoff.is_news() {
                        tracing::warn!(%error, ?pause, "no work from the server");
                    }
                    sleep(pause).await;
                }
            }
        }
    }
}

/// Says that the agent is retired, and why.
fn told(why: &str) {
    tracing::warn!(
        "the server has retired this agent ({why}): it stops; to let this host join again, remove \
         its identity directory and enrol it by a new join token"
    );
}

/// Tries again what could not be restored at the start: an address that the machine did not have
/// yet, a port that another program was about to leave.
async fn restore(deployer: &Deployer, rng: &dyn Rng, restored: &AtomicBool) {
    let mut backoff = Backoff::default();
    loop {
        sleep(backoff.next(rng, None)).await;
        if deployer.recover().await {
            restored.store(true, Ordering::Relaxed);
            tracing::info!("every target is restored");
            return;
        }
    }
}
