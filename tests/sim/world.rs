//! A server, three agents, the people who use them, and a month.

use super::{
    agents::AgentHost,
    chance::Chance,
    checks,
    files::Volume,
    machine::{Fault, Machine},
    network::{Network, Wire},
    nginx::Nginx,
    operator::{Kind, Operator},
    server::{ServerHost, ServerProcess},
    trace::{SimClock, Trace},
};
use crate::support::{DAY, HOUR, invariants};
use certctl::{
    app::PROFILE_DEFAULT,
    clock::{Clock, Time},
    domain::Profile,
    pki::KeyAlgorithm,
    store::{Loaded, Store},
    sys::Tasks,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::sleep;

/// How long certificates last: several renewals fit into a month.
const LIFETIME: Duration = Duration::from_secs(9 * 86_400);
const AGENTS: usize = 3;
/// So much of each hour is lived through at least: several polls of each agent.
const AWAKE: Duration = Duration::from_secs(180);

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub events: u64,
    pub hash: String,
    /// Versions of each certificate at each holder.
    pub versions: Vec<(String, usize)>,
}

/// When a process dies.
pub struct Death {
    /// From then on,
    from: Time,
    /// at this step,
    step: u64,
    /// or then, when that step has not come.
    by: Time,
}

impl Death {
    fn of(chance: &Chance, clock: &SimClock) -> Self {
        let from = clock.now().plus(chance.between(DAY, 20 * DAY));
        Self {
            from,
            step: 1 + chance.below(40),
            by: from.plus(chance.between(Duration::ZERO, 7 * DAY)),
        }
    }

    /// Waits for it.
    async fn strike(&self, machine: &Machine, clock: &SimClock) {
        clock.reach(self.from).await;
        machine.plan(self.step, Fault::PowerLoss);
        tokio::select! {
            biased;
            () = machine.off() => {}
            () = clock.reach(self.by) => machine.cut(),
        }
    }
}

pub struct World {
    seed: u64,
    pub clock: SimClock,
    pub trace: Trace,
    pub network: Arc<Network>,
    pub tasks: Tasks,
    pub server: ServerHost,
    /// While one runs.
    running: Mutex<Option<Arc<ServerProcess>>>,
}

impl World {
    pub fn new(seed: u64, trace: Trace, clock: SimClock) -> Arc<Self> {
        let chance = |stream| Chance::new(seed, stream);
        Arc::new(Self {
            seed,
            network: Network::new(chance("network"), trace.clone()),
            tasks: Tasks::new(),
            server: ServerHost {
                clock: clock.clone(),
                chance: chance("server"),
                trace: trace.clone(),
                volume: Volume::default(),
                store: Mutex::default(),
                admin_key: Mutex::default(),
            },
            running: Mutex::default(),
            trace,
            clock,
        })
    }

    /// The store of the server that runs.
    fn store(&self) -> Option<Store> {
        let running = self.running.lock().unwrap();
        running.as_ref().map(|process| process.stored.clone())
    }

    /// Starts the server, and each time it ends starts it again.
    async fn keep_server(self: Arc<Self>, process: ServerProcess, mut death: Option<Death>) {
        let mut process = Arc::new(process);
        loop {
            process.serve(&self.network);
            *self.running.lock().unwrap() = Some(process.clone());
            match death.take() {
                Some(death) => death.strike(&process.machine, &self.clock).await,
                None => process.machine.off().await,
            }
            self.running.lock().unwrap().take();
            self.network.down();
            self.server.end(&process, self.server.chance.one_in(2));
            sleep(self.pause(&self.server.chance)).await;
            let machine = Machine::boot("server", &self.trace);
            process = Arc::new(self.server.start(machine).await.unwrap());
        }
    }

    /// Starts an agent, and each time it ends starts it again.
    async fn keep_agent(self: Arc<Self>, host: Arc<AgentHost>, mut death: Option<Death>) {
        loop {
            let process = host.start(Machine::boot(&host.name, &self.trace));
            match death.take() {
                Some(death) => death.strike(&process.machine, &self.clock).await,
                None => process.machine.off().await,
            }
            host.end(&process, host.chance.one_in(2));
            sleep(self.pause(&host.chance)).await;
        }
    }

    /// An hour passes. Once nothing is under way, all sleep over the rest of it: most of a month is
    /// idle, and is long to simulate.
    async fn pass_an_hour(&self, hosts: &[Arc<AgentHost>], told: &mut usize) {
        let end = self.clock.now().plus(HOUR);
        while self.clock.now() < end {
            sleep(AWAKE).await;
            let up = hosts.iter().all(|host| host.is_running());
            if let Some(store) = self.store().filter(|_| up)
                && checks::idle(&store).await
            {
                let new = self.network.acknowledged_since(*told);
                *told += new.len();
                if new.iter().any(|done| done.path.ends_with("/report")) {
                    checks::told(&store, hosts).await;
                }
                self.clock.sleep_over(end.since(self.clock.now()));
            }
        }
    }

    fn pause(&self, chance: &Chance) -> Duration {
        chance.between(Duration::from_secs(1), Duration::from_secs(1200))
    }

    /// A world with a server, and the one who operates it.
    pub async fn open(
        seed: u64,
        trace: &Trace,
        clock: &SimClock,
        death: Option<Death>,
    ) -> (Arc<Self>, Operator) {
        let world = Self::new(seed, trace.clone(), clock.clone());
        let machine = Machine::boot("server", trace);
        let process = world.server.start(machine).await.unwrap();
        shorten(&process, LIFETIME).await;
        let operator = Operator {
            wire: Wire {
                network: world.network.clone(),
                from: Machine::boot("operator", trace),
            },
            key: world.server.admin_key.lock().unwrap().clone().unwrap(),
        };
        let kept = world.clone().keep_server(process, death);
        world.tasks.spawn("server", kept);
        (world, operator)
    }

    /// A host with an agent.
    pub async fn host(
        self: &Arc<Self>,
        operator: &Operator,
        name: &str,
        death: Option<Death>,
    ) -> Arc<AgentHost> {
        let volume = Volume::default();
        let chance = Chance::new(self.seed, &format!("nginx of {name}"));
        let host = Arc::new(AgentHost {
            nginx: Nginx::new(name, &volume, chance, &self.trace),
            name: name.to_owned(),
            clock: self.clock.clone(),
            chance: Chance::new(self.seed, name),
            trace: self.trace.clone(),
            network: self.network.clone(),
            volume,
            paths: AgentHost::paths(),
            token: operator.join_token().await,
            running: Mutex::default(),
        });
        let kept = self.clone().keep_agent(host.clone(), death);
        self.tasks.spawn("host", kept);
        host
    }

    /// The id that an agent of this name was given.
    pub async fn enrolled(&self, name: &str) -> String {
        loop {
            for done in self.network.acknowledged() {
                if done.path.ends_with("/enrol") && done.request["name"] == name {
                    return done.answer["agent_id"].as_str().unwrap().to_owned();
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until a certificate has had so many versions.
    pub async fn renewed(&self, certificate: &str, versions: usize) {
        loop {
            sleep(Duration::from_secs(20)).await;
            let Some(store) = self.store() else { continue };
            let held = checks::versions(&store).await;
            let mut held = held
                .iter()
                .filter(|(line, _)| line.starts_with(certificate));
            if held.all(|(_, n)| *n >= versions) {
                return;
            }
        }
    }

    /// The machine that the server runs on now.
    pub fn server_machine(&self) -> Machine {
        let running = self.running.lock().unwrap();
        running.as_ref().expect("a server").machine.clone()
    }

    /// Waits until all is done, however often it has to be tried again.
    pub async fn settle(&self, hosts: &[Arc<AgentHost>]) -> Store {
        let end = self.clock.now().plus(12 * HOUR);
        loop {
            sleep(Duration::from_secs(20)).await;
            check(self, hosts, &mut 0, false).await;
            let Some(store) = self.store() else { continue };
            match checks::settled(&store, hosts).await {
                Ok(()) => return store,
                Err(reason) if self.clock.now() >= end => panic!("it does not settle: {reason}"),
                Err(_) if checks::idle(&store).await => self.clock.sleep_over(HOUR / 12),
                Err(_) => {}
            }
        }
    }
}

/// Certificates that last some days, of keys that follow from a seed.
pub async fn shorten(process: &ServerProcess, lifetime: Duration) {
    let mut unit = process.stored.unit(1, process.app.now());
    let id = PROFILE_DEFAULT.parse().unwrap();
    let mut profile: Loaded<Profile> = unit.load(&id).await.unwrap();
    profile.lifetime_seconds = lifetime.as_secs();
    profile.key_algorithms = vec![KeyAlgorithm::Ed25519];
    unit.put(profile);
    unit.commit().await.unwrap();
}

/// Lives through `time` from a seed.
pub async fn live(seed: u64, time: Duration, trace: Trace, clock: SimClock) -> Report {
    let fate = Chance::new(seed, "fate");
    let death = || Some(Death::of(&fate, &clock));
    let (world, operator) = World::open(seed, &trace, &clock, death()).await;
    let mut hosts = Vec::new();
    for n in 1..=AGENTS {
        hosts.push(world.host(&operator, &format!("agent-{n}"), death()).await);
    }
    let names = order(&world, &operator, &hosts).await;

    let end = clock.now().plus(time);
    let (mut checked, mut told) = (0, 0);
    let mut hours = 0;
    while clock.now() < end {
        hours += 1;
        world.pass_an_hour(&hosts, &mut told).await;
        for host in &hosts {
            let broken = host.nginx.is_broken();
            if fate.one_in(if broken { 8 } else { 150 }) {
                host.nginx.break_configuration(!broken);
            }
        }
        if fate.one_in(36) {
            let name = &names[fate.below(names.len() as u64) as usize];
            operator.renew(name).await;
        }
        check(&world, &hosts, &mut checked, hours % 24 == 0).await;
    }
    world.network.calm(true);
    for host in &hosts {
        host.nginx.break_configuration(false);
        host.nginx.calm(true);
    }
    world.settle(&hosts).await;
    // Whatever faults have left is cleared by the next start and the next renewal.
    for host in &hosts {
        host.restart();
    }
    for name in &names {
        operator.renew(name).await;
    }
    let store = world.settle(&hosts).await;
    hosts.iter().for_each(|host| checks::tidy(host));
    check(&world, &hosts, &mut 0, true).await;
    let versions = checks::versions(&store).await;
    trace.note(format_args!("{versions:?}"));
    world.tasks.abort_all();
    let (events, hash) = trace.digest();
    Report {
        events,
        hash,
        versions,
    }
}

/// Has certificates made: on one target and on several, on one agent and on two. Their ids.
async fn order(world: &World, operator: &Operator, hosts: &[Arc<AgentHost>]) -> Vec<String> {
    let mut agents = Vec::new();
    for host in hosts {
        agents.push(world.enrolled(&host.name).await);
    }
    let mut names = Vec::new();
    for n in 0..12_u16 {
        let name = format!("cert-{n}");
        let at = usize::from(n) % AGENTS;
        let (here, there) = (&agents[at], &agents[(at + 1) % AGENTS]);
        let mut targets = Vec::new();
        let mut kinds = Vec::new();
        if n % 2 == 0 {
            kinds.push((here, Kind::File));
        }
        if n % 2 == 1 || n % 4 == 2 {
            kinds.push((here, Kind::Site(9000 + n)));
        }
        if n >= 10 {
            kinds.push((there, Kind::Site(9100 + n)));
        }
        // Two on each host; on the last one nothing is served yet.
        if n < 6 {
            hosts[at].nginx.site(&name, 7000 + n, at + 1 < AGENTS);
            kinds.push((here, Kind::Nginx(7000 + n)));
        }
        for (agent, kind) in kinds {
            targets.push(operator.target(&name, agent, kind).await);
        }
        operator.certificate(&name, &targets).await;
        names.push(name);
    }
    names
}

/// Checks what must always hold; from time to time also that nothing old was lost.
pub async fn check(world: &World, hosts: &[Arc<AgentHost>], checked: &mut usize, all: bool) {
    if let Some(line) = world.trace.panicked() {
        panic!("{line}");
    }
    for host in hosts {
        checks::served(host);
    }
    let Some(store) = world.store() else { return };
    checks::nothing_expired(&store, world.clock.now()).await;
    let new = world.network.acknowledged_since(*checked);
    checks::kept(&store, &new).await;
    *checked += new.len();
    if all {
        invariants::check(&store).await;
        checks::kept(&store, &world.network.acknowledged()).await;
    }
}
