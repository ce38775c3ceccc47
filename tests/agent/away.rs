//! An agent whose server is away for weeks.

use super::support::*;
use certctl::{agent::protocol::Outcome, net::Endpoint, pki::Chain};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tracing::{Level, Subscriber, subscriber::DefaultGuard};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt, registry};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const CALLS: [&str; 4] = ["work", "lease", "csr", "report"];

/// Counts what is told as a warning or worse, on this thread.
#[derive(Clone, Default)]
struct Told(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Told {
    fn listen(&self) -> DefaultGuard {
        tracing::subscriber::set_default(registry().with(self.clone()))
    }
}

/// No call reaches the server.
fn away(host: &Host) {
    for call in CALLS {
        host.server.always(call, 418, json!({}));
    }
}

fn back(host: &Host) {
    for call in CALLS {
        host.server.relent(call);
    }
}

/// An agent that serves version 1 of `cert-1` as a site.
async fn serving(host: &Host) -> Running {
    let agent = host.start().await;
    let version = host.version("cert-1", 1);
    let config = json!({ "listen": "127.0.0.1:0", "server_name": "localhost" });
    let target = ("tgt-site", "Site", config);
    host.server
        .lease(deployment("job-1", "cert-1", &version, target));
    let outcome = host.server.report("job-1", 1).await;
    assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    agent
}

/// The serial number that the site serves.
async fn served(host: &Host, agent: &Running) -> String {
    let address = agent.address("tgt-site");
    let endpoint: Endpoint = address.to_string().parse().unwrap();
    let seen = host.probe.tls(&endpoint, "localhost", 60 * SECOND).await;
    let leaf = certctl::pki::Certificate::from_der(&seen.unwrap().chain[0]).unwrap();
    leaf.serial().to_string()
}

#[tokio::test]
async fn weeks_without_a_server_lose_nothing_and_stop_nothing() {
    const WEEKS: u32 = 2;
    let host = Host::new();
    let agent = serving(&host).await;
    tokio::time::pause();

    // Away in the middle of three things: a key whose request is not sent, a report that is not
    // delivered, and a poll.
    for call in ["csr", "report", "lease"] {
        host.server.always(call, 418, json!({}));
    }
    let version = host.version("cert-2", 2);
    host.server.lease(issuance("job-2", "cert-9"));
    host.server.lease(deployment(
        "job-3",
        "cert-2",
        &version,
        ("tgt-file", "File", json!({})),
    ));
    host.server.called("report", 2).await;
    host.server.called("csr", 1).await;
    away(&host);
    // The poll that waits ends as a connection does that breaks.
    host.server.lease(json!({}));
    // A place in the code that another thread told of first is heard by who listens after that.
    tokio::time::sleep(HOUR).await;
    let told = Told::default();
    let _listening = told.listen();
    tokio::time::sleep(WEEKS * 7 * DAY).await;

    // About a poll and a report a minute, and nothing else once the lease was lost.
    let minutes = (WEEKS * 7 * 24 * 60) as usize;
    for call in ["work", "report"] {
        let calls = host.server.calls(call).len();
        assert!(
            (minutes..minutes * 21 / 10).contains(&calls),
            "{calls} {call}"
        );
    }
    assert!(host.server.calls("lease").len() <= 4);
    assert!(host.server.calls("csr").len() <= 12);
    // Each hour a line from the poller and one from the outbox.
    let hours = (WEEKS * 7 * 24) as usize;
    let told = told.0.load(Ordering::SeqCst);
    assert!((hours..hours * 5).contains(&told), "{told} warnings");

    tokio::time::resume();
    assert_eq!(served(&host, &agent).await, "1");
    assert_eq!(host.names("outbox"), ["job-3.json"]);
    tokio::time::pause();
    back(&host);
    let outcome = host.server.report("job-3", 1).await;
    assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    // The job whose lease was lost comes again, and its key was kept.
    let keys = host.names("keys/cert-9");
    let mut again = issuance("job-2", "cert-9");
    again["lease"]["token"] = "t-again".into();
    host.server.lease(again);
    host.server.csr(1).await;
    assert_eq!((keys.len(), host.names("keys/cert-9")), (1, keys));
    tokio::time::sleep(HOUR / 2).await;
    assert!(host.names("outbox").is_empty());
    assert_eq!(host.server.reports(), 2, "a report was repeated");
    let chain = Chain::from_pem(&version).unwrap();
    let link = host.link("cert-2").unwrap();
    assert!(link.ends_with(&chain.leaf().serial().to_string()), "{link}");
    tokio::time::resume();
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_starts_while_the_server_is_away_serves_and_keeps_its_reports() {
    let host = Host::new();
    let agent = serving(&host).await;
    host.server.always("report", 418, json!({}));
    let version = host.version("cert-2", 2);
    host.server.lease(deployment(
        "job-2",
        "cert-2",
        &version,
        ("tgt-file", "File", json!({})),
    ));
    host.server.called("report", 2).await;
    agent.stop().await;

    away(&host);
    for _ in 0..3 {
        let agent = host.start().await;
        assert_eq!(served(&host, &agent).await, "1");
        assert_eq!(host.names("outbox"), ["job-2.json"]);
        assert_eq!(host.journal("tgt-site")["phase"], "committed");
        agent.stop().await;
    }
    back(&host);
    let agent = host.start().await;
    host.server.report("job-2", 1).await;
    assert_eq!(served(&host, &agent).await, "1");
    agent.stop().await;
    assert_eq!(host.server.reports(), 2);
}
