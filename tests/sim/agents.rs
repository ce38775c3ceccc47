//! An agent's machine, and the process on it.

use super::{
    chance::{Chance, SeededCrypto},
    files::{SimFiles, Volume},
    host::Host,
    machine::Machine,
    network::{Network, URL, Wire},
    nginx::Nginx,
    trace::{SimClock, Trace},
};
use certctl::{
    agent::{Agent, EnrolWish, Env, Paths, enrol},
    sys::Tasks,
};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::sleep;

/// What an agent's process is given, and leaves behind.
pub struct AgentHost {
    pub name: String,
    pub clock: SimClock,
    pub chance: Arc<Chance>,
    pub trace: Trace,
    pub network: Arc<Network>,
    pub volume: Volume,
    pub paths: Paths,
    pub token: String,
    pub nginx: Nginx,
    /// While a process runs.
    pub running: Mutex<Option<Arc<Host>>>,
}

/// A process that runs.
pub struct AgentProcess {
    pub machine: Machine,
    tasks: Tasks,
}

impl AgentHost {
    pub fn paths() -> Paths {
        Paths::new(Path::new("/host/agent"), Path::new("/host/live")).unwrap()
    }

    pub fn is_running(&self) -> bool {
        self.running.lock().unwrap().is_some()
    }

    /// The machine that its process runs on now.
    pub fn machine(&self) -> Machine {
        let running = self.running.lock().unwrap();
        running.as_ref().expect("an agent").machine.clone()
    }

    /// Ends its process; another is started in a while.
    pub fn restart(&self) {
        self.machine().cut();
    }

    /// Its machine loses its power and all that was not synced.
    pub fn forget(&self) {
        self.restart();
        self.nginx.power_off();
        self.volume.forget();
    }

    /// Starts a process: it enrols where that was not done, and works.
    pub fn start(&self, machine: Machine) -> AgentProcess {
        let tasks = Tasks::new();
        self.nginx.boot();
        let files = Arc::new(SimFiles {
            volume: self.volume.clone(),
            machine: machine.clone(),
        });
        let host = Arc::new(Host {
            machine: machine.clone(),
            chance: self.chance.clone(),
            files: files.clone(),
            paths: self.paths.clone(),
            sites: Mutex::default(),
            nginx: self.nginx.clone(),
        });
        *self.running.lock().unwrap() = Some(host.clone());
        let env = Env {
            clock: Arc::new(self.clock.clone()),
            rng: self.chance.clone(),
            crypto: Arc::new(SeededCrypto(self.chance.clone())),
            files,
            probe: host.clone(),
            sites: host.clone(),
            exec: host,
            tasks: tasks.clone(),
        };
        let wire = Arc::new(Wire {
            network: self.network.clone(),
            from: machine.clone(),
        });
        let wish = EnrolWish {
            token: self.token.as_str().into(),
            name: self.name.clone(),
            hostname: format!("{}.test", self.name),
            os: "linux".into(),
            architecture: "x86_64".into(),
            version: "0".into(),
        };
        let (paths, trace, on) = (self.paths.clone(), self.trace.clone(), machine.clone());
        tasks.spawn("agent", async move {
            while let Err(error) = enrol(&env, &paths, &*wire, URL, wish.clone()).await {
                trace.note(format_args!("{}: {error}", wish.name));
                sleep(Duration::from_secs(5)).await;
            }
            // As a service manager does with a process that does not come up.
            let agent = loop {
                match Agent::open(env.clone(), paths.clone(), wire.clone()).await {
                    Ok(agent) => break agent,
                    Err(error) => trace.note(format_args!("{}: {error}", wish.name)),
                }
                sleep(Duration::from_secs(5)).await;
            };
            let exit = agent.run().await;
            trace.note(format_args!("{}: {exit:?}", wish.name));
            on.cut();
        });
        AgentProcess { machine, tasks }
    }

    /// Ends a process without a last word; with the power gone, what was not synced may be lost.
    pub fn end(&self, process: &AgentProcess, power_lost: bool) {
        process.machine.cut();
        process.tasks.abort_all();
        self.running.lock().unwrap().take();
        if power_lost {
            self.nginx.power_off();
            self.volume.lose_power(&self.chance);
        }
    }
}
