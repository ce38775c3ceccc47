//! A machine that runs one process: it counts what the process does to its disk, and can be made
//! to fail or to lose its power at any such step.

use super::trace::Trace;
use std::{
    fmt::Display,
    io,
    sync::{Arc, Mutex},
};
use tokio_util::sync::CancellationToken;

/// What happens at a planned step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The step fails; the next ones do not.
    Error,
    /// The power goes: this step and all after it never happen, and nobody hears of it.
    PowerLoss,
}

/// From one start of a process to its end. Clones are the same.
#[derive(Debug, Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    name: String,
    trace: Trace,
    off: CancellationToken,
    plan: Mutex<Plan>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Debug, Default)]
struct Plan {
    steps: u64,
    fault: Option<(u64, Fault)>,
    struck: bool,
}

impl Machine {
    pub fn boot(name: &str, trace: &Trace) -> Self {
        trace.note(format_args!("{name} boots"));
        Self(Arc::new(Inner {
            name: name.to_owned(),
            trace: trace.clone(),
            off: CancellationToken::new(),
            plan: Mutex::default(),
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The `n`-th step from now, from 1, is struck.
    pub fn plan(&self, n: u64, fault: Fault) {
        let mut plan = self.0.plan.lock().unwrap();
        plan.fault = Some((plan.steps + n, fault));
    }

    /// Whether the planned step came.
    pub fn struck(&self) -> bool {
        self.0.plan.lock().unwrap().struck
    }

    /// One write, sync or rename is about to happen.
    pub fn step(&self, what: impl Display) -> io::Result<()> {
        if self.is_off() {
            return Err(io::Error::other("the machine is off"));
        }
        let fault = {
            let mut plan = self.0.plan.lock().unwrap();
            plan.steps += 1;
            let fault = plan.fault.filter(|(at, _)| *at == plan.steps);
            plan.struck |= fault.is_some();
            fault
        };
        let name = &self.0.name;
        match fault {
            None => {
                self.0.trace.detail(format_args!("{name}: {what}"));
                Ok(())
            }
            Some((n, fault)) => {
                self.0
                    .trace
                    .note(format_args!("{name}: {what}: {fault:?} at step {n}"));
                if fault == Fault::PowerLoss {
                    self.0.off.cancel();
                }
                Err(io::Error::other("failed by the simulation"))
            }
        }
    }

    /// Ends the process, now.
    pub fn cut(&self) {
        self.0.trace.note(format_args!("{} is cut", self.0.name));
        self.0.off.cancel();
    }

    pub fn is_off(&self) -> bool {
        self.0.off.is_cancelled()
    }

    /// Waits for the end.
    pub async fn off(&self) {
        self.0.off.cancelled().await;
    }

    /// Never returns once the machine is off: what a dead process does is not done.
    pub async fn alive(&self) {
        if self.is_off() {
            std::future::pending::<()>().await;
        }
    }
}
