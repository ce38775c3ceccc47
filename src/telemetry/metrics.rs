//! What a process measures of itself. These series begin at 0 with the process; what is counted in
//! the store is in [`Sheet`](super::Sheet).

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder, core::Collector,
};
use std::time::Duration;

/// Seconds, for what is answered from the store.
const FAST: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];
/// Seconds, for what a CA takes.
const CA: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Bytes of an answer.
const BYTES: &[f64] = &[256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0];
/// Batches in a group.
const GROUP: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// How a request was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The method, of those that HTTP defines.
    pub method: &'a str,
    /// The route as it is declared, never the path: strangers choose that.
    pub route: &'a str,
    /// The status.
    pub status: u16,
    /// How long it took.
    pub took: Duration,
    /// The length of the body, where it is known.
    pub bytes: Option<u64>,
}

/// What the server measures of itself.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_time: HistogramVec,
    response_bytes: HistogramVec,
    looks: IntCounterVec,
    schema_ahead: IntGauge,
    look_time: HistogramVec,
    issuance_time: HistogramVec,
}

impl Metrics {
    /// All at 0.
    pub fn new(store: &StoreMetrics) -> Self {
        let registry = Registry::new();
        for collector in store.collectors() {
            register(&registry, collector);
        }
        let requests = Opts::new(
            "certctl_http_requests_total",
            "Requests answered, by route and status.",
        );
        let requests = made(IntCounterVec::new(requests, &["method", "route", "status"]));
        let looks = Opts::new(
            "certctl_loop_runs_total",
            "Looks of the server's loops, by outcome.",
        );
        let looks = made(IntCounterVec::new(looks, &["loop", "outcome"]));
        let metrics = Self {
            request_time: histograms(
                "certctl_http_request_duration_seconds",
                "Time to answer a request; a poll for work waits for it.",
                &["method", "route"],
                FAST,
            ),
            response_bytes: histograms(
                "certctl_http_response_size_bytes",
                "Size of answers' bodies before compression.",
                &["method", "route"],
                BYTES,
            ),
            look_time: histograms(
                "certctl_loop_duration_seconds",
                "Time a look of a loop takes.",
                &["loop"],
                FAST,
            ),
            issuance_time: histograms(
                "certctl_issuance_duration_seconds",
                "Time an issuer takes to answer, by issuer type.",
                &["issuer_type"],
                CA,
            ),
            requests,
            looks,
            schema_ahead: made(IntGauge::new(
                "certctl_schema_ahead",
                "1 when a later version has changed the store, which this one may use.",
            )),
            registry,
        };
        register(&metrics.registry, Box::new(metrics.schema_ahead.clone()));
        register(&metrics.registry, Box::new(metrics.requests.clone()));
        register(&metrics.registry, Box::new(metrics.looks.clone()));
        for histograms in [
            &metrics.request_time,
            &metrics.response_bytes,
            &metrics.look_time,
            &metrics.issuance_time,
        ] {
            register(&metrics.registry, Box::new(histograms.clone()));
        }
        metrics
    }

    /// A request was answered.
    pub fn answered(&self, answered: &Answered<'_>) {
        let Answered { method, route, .. } = *answered;
        let status = answered.status.to_string();
        self.requests
            .with_label_values(&[method, route, &status])
            .inc();
        self.request_time
            .with_label_values(&[method, route])
            .observe(answered.took.as_secs_f64());
        if let Some(bytes) = answered.bytes {
            self.response_bytes
                .with_label_values(&[method, route])
                .observe(bytes as f64);
        }
    }

    /// Whether a later version has changed the store.
    pub fn schema_ahead(&self, ahead: bool) {
        self.schema_ahead.set(ahead.into());
    }

    /// A loop is going to look.
    pub fn has_loop(&self, name: &str) {
        self.look_time.with_label_values(&[name]);
        for outcome in ["success", "failure"] {
            self.looks.with_label_values(&[name, outcome]);
        }
    }

    /// A loop has looked.
    pub fn looked(&self, name: &str, took: Duration, well: bool) {
        let outcome = if well { "success" } else { "failure" };
        self.looks.with_label_values(&[name, outcome]).inc();
        self.look_time
            .with_label_values(&[name])
            .observe(took.as_secs_f64());
    }

    /// Issuers of this type may be asked.
    pub fn has_issuers(&self, kind: &str) {
        self.issuance_time.with_label_values(&[kind]);
    }

    /// An issuer has answered, or failed to.
    pub fn asked(&self, kind: &str, took: Duration) {
        self.issuance_time
            .with_label_values(&[kind])
            .observe(took.as_secs_f64());
    }

    /// All series, in the text format of Prometheus, version 0.0.4.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // Only writing can fail, and memory takes all.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

/// What the store measures of itself.
#[derive(Clone)]
pub struct StoreMetrics {
    commit_time: Histogram,
    group: Histogram,
    committed: IntCounter,
    refused: IntCounter,
    failed: IntCounter,
    batches: IntCounterVec,
    read_time: Histogram,
    waiting: IntGauge,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let batches = Opts::new(
            "certctl_store_batches_total",
            "Batches, by outcome: committed, refused for what they rest on, or failed.",
        );
        let batches = made(IntCounterVec::new(batches, &["outcome"]));
        Self {
            commit_time: histogram(
                "certctl_store_commit_duration_seconds",
                "Time to commit a group of batches.",
                FAST,
            ),
            group: histogram(
                "certctl_store_group_batches",
                "Batches in a committed group.",
                GROUP,
            ),
            committed: batches.with_label_values(&["committed"]),
            refused: batches.with_label_values(&["refused"]),
            failed: batches.with_label_values(&["failed"]),
            batches,
            read_time: histogram(
                "certctl_store_read_duration_seconds",
                "Time to answer a read.",
                FAST,
            ),
            waiting: made(IntGauge::new(
                "certctl_store_queue_batches",
                "Batches that wait for their commit.",
            )),
        }
    }
}

impl StoreMetrics {
    /// A batch waits.
    pub fn waits(&self) {
        self.waiting.inc();
    }

    /// So many batches no longer wait.
    pub fn taken(&self, batches: usize) {
        self.waiting.sub(i64::try_from(batches).unwrap_or(i64::MAX));
    }

    /// A group was tried: how many of its batches were committed, refused, and failed.
    pub fn tried(&self, took: Duration, [committed, refused, failed]: [u64; 3]) {
        self.commit_time.observe(took.as_secs_f64());
        self.group.observe((committed + refused + failed) as f64);
        self.committed.inc_by(committed);
        self.refused.inc_by(refused);
        self.failed.inc_by(failed);
    }

    /// A read was answered.
    pub fn read(&self, took: Duration) {
        self.read_time.observe(took.as_secs_f64());
    }

    fn collectors(&self) -> [Box<dyn Collector>; 5] {
        [
            Box::new(self.commit_time.clone()),
            Box::new(self.group.clone()),
            Box::new(self.batches.clone()),
            Box::new(self.read_time.clone()),
            Box::new(self.waiting.clone()),
        ]
    }
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    made(Histogram::with_opts(
        HistogramOpts::new(name, help).buckets(buckets.to_vec()),
    ))
}

fn histograms(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    made(HistogramVec::new(opts, labels))
}

fn register(registry: &Registry, collector: Box<dyn Collector>) {
    made(registry.register(collector));
}

/// Names, labels and buckets are constants of this file: a wrong one fails the first start of any
/// test.
fn made<T>(made: prometheus::Result<T>) -> T {
    match made {
        Ok(made) => made,
        Err(e) => unreachable!("a metric of ours cannot be: {e}"),
    }
}
