//! What hangs keeps nothing else from going on: polls, leases, other targets, the outbox.

use super::support::*;
use async_trait::async_trait;
use certctl::{
    agent::protocol::Outcome,
    net::{Endpoint, Probe, ProbeError, Served},
    pki::Chain,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Endpoints that answer nothing until they are let, and then what they were told to serve.
struct Gate {
    open: watch::Sender<bool>,
    chains: Mutex<BTreeMap<String, Vec<Vec<u8>>>>,
    /// How many look at each host now.
    looking: watch::Sender<BTreeMap<String, usize>>,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            open: watch::Sender::new(false),
            chains: Mutex::default(),
            looking: watch::Sender::default(),
        })
    }

    fn serves(&self, host: &str, fullchain: &str) {
        let chain = Chain::from_pem(fullchain).unwrap();
        let chain = chain.certificates().map(|c| c.der().to_vec()).collect();
        self.chains.lock().unwrap().insert(host.into(), chain);
    }
}

/// Leaves a host when a look ends, however it ends.
struct Look<'a>(&'a Gate, String);

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.0.looking.send_modify(|looking| {
            let n = looking.get_mut(&self.1).unwrap();
            *n -= 1;
            if *n == 0 {
                looking.remove(&self.1);
            }
        });
    }
}

#[async_trait]
impl Probe for Gate {
    async fn tls(&self, endpoint: &Endpoint, _: &str, _: Duration) -> Result<Served, ProbeError> {
        let host = endpoint.host.clone();
        self.looking
            .send_modify(|looking| *looking.entry(host.clone()).or_default() += 1);
        let look = Look(self, host);
        let open = &mut self.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        let chain = self.chains.lock().unwrap()[&look.1].clone();
        Ok(Served { chain })
    }
}

/// A deployment of certificate `n` whose endpoint hangs at the gate.
fn hanging(host: &Host, gate: &Gate, n: u32, target: &str) -> Value {
    let (certificate, name) = (format!("cert-{n}"), format!("{target}.test"));
    let version = host.version(&certificate, n);
    gate.serves(&name, &version);
    let config = json!({ "endpoints": [format!("{name}:443")], "verify_timeout": "5m" });
    deployment(
        &format!("job-{n}"),
        &certificate,
        &version,
        (target, "File", config),
    )
}

fn gated() -> (Host, Arc<Gate>) {
    let (mut host, gate) = (Host::new(), Gate::new());
    host.probe = gate.clone();
    (host, gate)
}

/// Waits for something to be true of who is looked at.
async fn until(gate: &Gate, what: impl Fn(&BTreeMap<String, usize>) -> bool) {
    let looking = &mut gate.looking.subscribe();
    let end = looking.wait_for(|looking| what(looking));
    let end = tokio::time::timeout(Duration::from_secs(60), end).await;
    end.expect("it never came to that").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_hangs_stops_neither_polls_nor_its_lease_nor_other_targets_nor_reports() {
    let (host, gate) = gated();
    let agent = host.start().await;
    host.server.lease(hanging(&host, &gate, 1, "tgt-hangs"));
    until(&gate, |looking| looking.len() == 1).await;
    for round in 1..=3 {
        // A poll brings another job, which is done and reported: at the first try or later.
        host.server.answer("report", 503, json!({}));
        let n = 10 + round;
        let version = host.version(&format!("cert-{n}"), n);
        let target = (&*format!("tgt-{n}"), "File", json!({}));
        let (job, certificate) = (format!("job-{n}"), format!("cert-{n}"));
        host.server
            .lease(deployment(&job, &certificate, &version, target));
        let outcome = host.server.report(&job, 1).await;
        assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
        // The lease of the one that hangs is kept meanwhile.
        let renewed = host.server.calls("lease").len();
        host.server.called("lease", renewed + 1).await;
    }
    let of_hanging = |calls: Vec<Value>| {
        let mut calls = calls.into_iter();
        calls.all(|call| call["token"] == "t-job-1")
    };
    assert!(of_hanging(host.server.calls("lease")));
    gate.open.send_replace(true);
    let outcome = host.server.report("job-1", 1).await;
    assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn four_deployments_are_under_way_at_once_and_others_wait_their_turn() {
    let (host, gate) = gated();
    let agent = host.start().await;
    for n in 1..=7 {
        host.server
            .lease(hanging(&host, &gate, n, &format!("tgt-{n}")));
    }
    until(&gate, |looking| looking.len() == 4).await;
    // All seven leases are renewed: whoever waits keeps its job.
    host.server.called("lease", 14).await;
    assert_eq!(gate.looking.borrow().len(), 4);
    let mut most = 0;
    let mut looking = gate.looking.subscribe();
    gate.open.send_replace(true);
    for n in 1..=7 {
        let job = format!("job-{n}");
        let report = host.server.report(&job, 1);
        tokio::pin!(report);
        let outcome = loop {
            tokio::select! {
                biased;
                changed = looking.changed() => {
                    changed.unwrap();
                    most = most.max(looking.borrow_and_update().len());
                }
                outcome = &mut report => break outcome,
            }
        };
        assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    }
    assert!(most <= 4, "{most} deployments at once");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_takes_one_deployment_at_a_time() {
    let (host, gate) = gated();
    let agent = host.start().await;
    for n in 1..=3 {
        host.server.lease(hanging(&host, &gate, n, "tgt-one"));
    }
    until(&gate, |looking| looking.len() == 1).await;
    // The leases of all three are kept, while one is under way.
    host.server.called("lease", 9).await;
    assert_eq!(gate.looking.borrow()["tgt-one.test"], 1);
    let staged: Vec<String> = (1..=3)
        .filter(|n| !host.names(&format!("versions/cert-{n}")).is_empty())
        .map(|n| format!("cert-{n}"))
        .collect();
    assert_eq!(staged.len(), 1, "{staged:?}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn reports_that_the_server_does_not_take_keep_no_job_waiting() {
    let host = Host::new();
    host.server.always("report", 503, json!({}));
    let agent = host.start().await;
    for n in 1..=20 {
        let certificate = format!("cert-{n}");
        let version = host.version(&certificate, n);
        let target = (&*format!("tgt-{n}"), "File", json!({}));
        host.server.lease(deployment(
            &format!("job-{n}"),
            &certificate,
            &version,
            target,
        ));
    }
    host.server.lease(issuance("job-last", "cert-last"));
    host.server.csr(1).await;
    let refused = host.server.calls("report").len();
    host.server.called("report", refused + 20).await;
    assert_eq!(host.names("outbox").len(), 20);
    host.server.relent("report");
    for n in 1..=20 {
        host.server.report(&format!("job-{n}"), 1).await;
    }
    agent.stop().await;
}

/// A look that somebody waits for, of which the server takes nothing, is told again ever later, also
/// where looks are asked for meanwhile.
#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_news_is_left_alone() {
    let host = Host::new();
    let agent = host.start().await;
    let version = host.version("cert-1", 1);
    let target = ("tgt-1", "File", json!({}));
    host.server
        .lease(deployment("job-1", "cert-1", &version, target));
    host.server.report("job-1", 1).await;
    host.server.always("observations", 503, json!({}));
    let before = host.server.calls("observations").len();
    let look = json!({"count": 0, "jobs": [], "look_at_all": true});
    for _ in 0..3 {
        host.server.answer("work", 200, look.clone());
    }
    // A job ends the poll that waits.
    host.server.lease(issuance("job-2", "cert-2"));
    let began = Instant::now();
    host.server.called("observations", before + 4).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3), "four times within {took:?}");
    host.server.relent("observations");
    host.server.called("observations", before + 5).await;
    agent.stop().await;
}
