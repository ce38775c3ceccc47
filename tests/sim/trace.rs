//! What happened, when, in one hash; and the simulated clock that says when.

use certctl::clock::{Clock, Time};
use std::{
    collections::VecDeque,
    fmt::Display,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// When every simulation begins: 2026-01-01T00:00:00Z.
const BEGINNING: Time = Time::from_seconds(1_767_225_600);
/// Events shown of a run that failed.
const SHOWN: usize = 50;
/// A run with more events than this has lost its way.
const LIMIT: u64 = 20_000_000;

/// Follows the paused clock of the runtime, which advances to the next timer when all is idle,
/// and can be set forward beside it: what machines see that were asleep together. Clones are the
/// same clock.
#[derive(Clone)]
pub struct SimClock {
    start: Instant,
    slept_seconds: Arc<AtomicU64>,
}

impl SimClock {
    /// Called within the runtime.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            slept_seconds: Arc::default(),
        }
    }

    /// Time passes in which nobody does anything.
    pub fn sleep_over(&self, time: Duration) {
        self.slept_seconds
            .fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    /// Waits until it is `at`, to the minute.
    pub async fn reach(&self, at: Time) {
        while self.now() < at {
            sleep(at.since(self.now()).min(Duration::from_secs(60))).await;
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        let slept = Duration::from_secs(self.slept_seconds.load(Ordering::SeqCst));
        BEGINNING.plus(self.start.elapsed() + slept)
    }
}

/// The events of a run.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<State>>);

struct State {
    clock: SimClock,
    hash: ring::digest::Context,
    events: u64,
    last: VecDeque<String>,
    panicked: Option<String>,
}

impl Trace {
    pub fn new(clock: SimClock) -> Self {
        Self(Arc::new(Mutex::new(State {
            clock,
            hash: ring::digest::Context::new(&ring::digest::SHA256),
            events: 0,
            last: VecDeque::new(),
            panicked: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub fn note(&self, event: impl Display) {
        self.record(event, true);
    }

    /// As [`note`](Self::note), for what is too much to show.
    pub fn detail(&self, event: impl Display) {
        self.record(event, false);
    }

    fn record(&self, event: impl Display, shown: bool) {
        let mut state = self.state();
        let line = format!("{} {event}\n", state.clock.now());
        state.hash.update(line.as_bytes());
        state.events += 1;
        assert!(state.events < LIMIT, "the simulation does not end");
        if !shown {
            return;
        }
        if state.last.len() == SHOWN {
            state.last.pop_front();
        }
        state.last.push_back(line);
    }

    /// How many events there were, and the hash of them all.
    pub fn digest(&self) -> (u64, String) {
        let state = self.state();
        let hash = state.hash.clone().finish();
        (state.events, data_encoding::HEXLOWER.encode(hash.as_ref()))
    }

    /// The last events, oldest first.
    pub fn last(&self) -> String {
        self.state().last.iter().map(String::as_str).collect()
    }

    /// The log line of a task that panicked, if one did.
    pub fn panicked(&self) -> Option<String> {
        self.state().panicked.clone()
    }

    /// Takes the log of this thread into the trace until the guard is dropped.
    pub fn take_log(&self) -> tracing::subscriber::DefaultGuard {
        let trace = self.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || LogWriter(trace.clone()))
            .finish();
        tracing::subscriber::set_default(log)
    }
}

/// Takes one event of the log with each write.
struct LogWriter(Trace);

impl io::Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        if text.contains("panicked") {
            self.0.state().panicked.get_or_insert(text.to_owned());
        }
        self.0.note(text);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
