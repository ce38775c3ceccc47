//! Clients that do one thing again and again, and how long each time takes them.

use super::{Figures, progress};
use crate::sys::Tasks;
use anyhow::{Result, anyhow};
use futures_util::future::join_all;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// This share of the time is not measured: caches fill, connections open.
const WARM_UP: u32 = 5;

/// Clients that work beside something else.
const BESIDE: u32 = 8;

/// What clients saw.
#[derive(Debug, Default)]
pub struct Measured {
    /// Of what ended in the measured time, ascending.
    latencies: Vec<Duration>,
    /// The measured time.
    time: Duration,
    /// All that was done, the warm-up included.
    pub done: u64,
}

/// Does `work` so many times a second, by a number of clients, beside `main`, until that ends;
/// gives what the clients saw. Work that is late is made up for.
///
/// # Errors
/// The first of a client, or that of `main`.
pub async fn beside<T, F>(
    each_second: u32,
    work: impl Fn() -> F,
    main: impl Future<Output = Result<T>>,
) -> Result<(T, Measured)>
where
    F: Future<Output = Result<()>>,
{
    let done = CancellationToken::new();
    let pace = Duration::from_secs(u64::from(BESIDE)) / each_second.max(1);
    let begin = tokio::time::Instant::now();
    let clients = (0..BESIDE).map(async |number| {
        let mut times = tokio::time::interval_at(begin + pace * number / BESIDE, pace);
        let mut latencies = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = done.cancelled() => return Ok(latencies),
                _ = times.tick() => {}
            }
            let start = Instant::now();
            work().await?;
            latencies.push(start.elapsed());
        }
    });
    let main = async {
        let ended = main.await;
        done.cancel();
        ended
    };
    let (ended, clients) = tokio::join!(main, join_all(clients));
    let time = begin.elapsed();
    let mut latencies = Vec::new();
    for client in clients {
        let client: Result<Vec<Duration>> = client;
        latencies.extend(client?);
    }
    latencies.sort_unstable();
    let measured = Measured {
        done: latencies.len() as u64,
        latencies,
        time,
    };
    Ok((ended?, measured))
}

impl Measured {
    /// Of calls made one after the other.
    pub fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self {
            time: latencies.iter().sum(),
            done: latencies.len() as u64,
            latencies,
        }
    }

    /// The longest latency, milliseconds.
    pub fn longest(&self) -> f64 {
        self.percentile(100)
    }

    /// Things done in a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    /// The latency that so many of a hundred do not exceed, milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let place = (self.latencies.len() * percent).div_ceil(100).max(1) - 1;
        let latency = self.latencies.get(place).copied().unwrap_or_default();
        latency.as_secs_f64() * 1_000.0
    }

    /// With the percentiles.
    pub fn add_to(&self, figures: Figures) -> Figures {
        figures
            .with("p50_ms", self.percentile(50))
            .with("p99_ms", self.percentile(99))
            .and("samples", self.latencies.len())
    }
}

/// Runs `client` of each number below `clients`, all at once, again and again for `time` after a
/// warm-up.
///
/// # Errors
/// The first of a client; all then stop.
pub async fn drive<C, W, F>(
    what: &'static str,
    clients: usize,
    time: Duration,
    client: C,
) -> Result<Measured>
where
    C: Fn(usize) -> Result<W>,
    W: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let bar = progress(what, time.as_secs());
    let tasks = Tasks::new();
    let (sender, mut ended) = mpsc::unbounded_channel();
    let begin = Instant::now() + time / WARM_UP;
    let end = begin + time;
    for number in 0..clients {
        let (mut work, sender) = (client(number)?, sender.clone());
        let stop = tasks.token();
        tasks.spawn("client", async move {
            let (mut latencies, mut done) = (Vec::new(), 0);
            let mut now = Instant::now();
            // However short the time, each client is measured once.
            while (now < end || latencies.is_empty()) && !stop.is_cancelled() {
                let start = now;
                if let Err(e) = work().await {
                    let _ = sender.send(Err(e));
                    return;
                }
                now = Instant::now();
                done += 1;
                if now >= begin {
                    latencies.push(now - start);
                }
            }
            let _ = sender.send(Ok((latencies, done, now)));
        });
    }
    drop(sender);
    let mut measured = Measured::default();
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..clients {
        let ended = loop {
            tokio::select! {
                biased;
                ended = ended.recv() => break ended,
                _ = clock.tick() => bar.set_position((Instant::now() - (end - time)).as_secs()),
            }
        };
        let (latencies, done, last) = ended.ok_or_else(|| anyhow!("a client broke off"))??;
        measured.latencies.extend(latencies);
        measured.done += done;
        measured.time = measured.time.max(last - begin);
    }
    bar.finish_and_clear();
    measured.latencies.sort_unstable();
    Ok(measured)
}
