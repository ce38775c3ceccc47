//! Signals, as values to wait for. The handler is in place once `new` returns.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Requests to end: SIGINT and SIGTERM.
#[derive(Debug)]
pub struct Terminate {
    interrupt: Signal,
    terminate: Signal,
}

impl Terminate {
    /// Starts listening; call it inside the runtime.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next request and names its signal.
    pub async fn recv(&mut self) -> &'static str {
        tokio::select! { biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Requests to read files again: SIGHUP.
#[derive(Debug)]
pub struct Hangup(Signal);

impl Hangup {
    /// Starts listening; call it inside the runtime.
    pub fn new() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next request.
    pub async fn recv(&mut self) {
        self.0.recv().await;
    }
}
