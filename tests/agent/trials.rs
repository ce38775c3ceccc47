//! Dry runs and tests of targets: what they find, and that they change nothing. And jobs that the
//! server withdraws by a poll.

use super::support::*;
use async_trait::async_trait;
use certctl::{
    agent::protocol::{FailureClass, Outcome, Served},
    net::{Endpoint, Probe, ProbeError, Served as Shown},
    pki::Chain,
};
use serde_json::{Value, json};
use std::{fs, net::TcpListener, path::Path, sync::Arc, time::Duration};
use tokio::time::Instant;

type Place = (&'static str, &'static str, Value);

fn file(config: Value) -> Place {
    ("tgt-file", "File", config)
}

fn site(listen: impl ToString) -> Place {
    let config = json!({ "listen": listen.to_string(), "server_name": "localhost" });
    ("tgt-site", "Site", config)
}

fn dry_run(job: &str, fullchain: &str, target: Place) -> Value {
    let mut item = deployment(job, "cert-1", fullchain, target);
    item["type"] = "DryRun".into();
    item
}

fn test(job: &str, (target, kind, config): Place) -> Value {
    json!({
        "id": job, "type": "TargetTest", "status": "Running",
        "lease": { "token": format!("t-{job}"), "until": "2026-01-01T00:00:00Z", "seconds": 60 },
        "target_id": target, "target_type": kind, "target_config": config,
    })
}

struct Found {
    faults: Vec<String>,
    findings: Vec<String>,
    served: Vec<Served>,
}

impl Found {
    #[track_caller]
    fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Examined {
                faults,
                findings,
                served,
            } => Self {
                faults,
                findings,
                served,
            },
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn well(self) -> Self {
        assert_eq!(self.faults, [""; 0]);
        self
    }

    #[track_caller]
    fn says(&self, what: &str) {
        let all = &self.findings;
        assert!(all.iter().any(|s| s.contains(what)), "{what:?} in {all:?}");
    }

    #[track_caller]
    fn warns(&self, what: &str) {
        let all = &self.faults;
        assert!(all.iter().any(|s| s.contains(what)), "{what:?} in {all:?}");
    }
}

/// Every path below `dir`, with its content.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let Ok(names) = fs::read_dir(dir) else {
        return all;
    };
    for entry in names {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let shown = path.display().to_string();
        if kind.is_dir() {
            all.push((shown, Vec::new()));
            all.extend(tree(&path));
        } else if kind.is_symlink() {
            let to = fs::read_link(&path).unwrap();
            all.push((shown, to.into_os_string().into_encoded_bytes()));
        } else {
            all.push((shown, fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

/// What is on the host, apart from directories that are empty.
fn things(host: &Host) -> Vec<(String, Vec<u8>)> {
    let mut all = tree(&host.paths.state);
    all.extend(tree(&host.paths.live));
    all.retain(|(path, _)| !Path::new(path).is_dir() && !path.contains("/outbox/"));
    all
}

#[tokio::test]
async fn a_dry_run_says_what_a_deployment_would_change_and_changes_nothing() {
    let host = Host::new();
    let (v1, v2) = (host.version("cert-1", 1), host.version("cert-1", 2));
    let agent = host.start().await;
    let before = things(&host);
    for (job, target) in [("d-file", file(json!({}))), ("d-site", site("127.0.0.1:0"))] {
        host.server.lease(dry_run(job, &v1, target));
        let found = Found::of(host.server.report(job, 1).await).well();
        found.says("serial 1 would be the first in place");
    }
    assert_eq!(things(&host), before);

    host.server
        .lease(deployment("j1", "cert-1", &v1, site("127.0.0.1:0")));
    host.server.report("j1", 1).await;
    let address = agent.address("tgt-site");
    let watched =
        || file(json!({ "endpoints": [address.to_string()], "server_name": "localhost" }));
    host.server
        .lease(deployment("j2", "cert-1", &v1, watched()));
    host.server.report("j2", 1).await;
    let before = things(&host);
    for (job, target) in [("e-file", watched()), ("e-site", site("127.0.0.1:0"))] {
        host.server.lease(dry_run(job, &v2, target));
        let found = Found::of(host.server.report(job, 1).await).well();
        found.says("serial 2 would replace serial 1");
        assert_eq!(found.served.len(), 1);
        assert_eq!(found.served[0].serial.as_deref(), Some("1"));
    }
    host.server.lease(dry_run("same", &v1, watched()));
    let found = Found::of(host.server.report("same", 1).await).well();
    found.says("unchanged: serial 1 is in place already");
    assert_eq!(things(&host), before);

    // The key that was looked at is there for the deployment.
    host.server
        .lease(deployment("j3", "cert-1", &v2, site("127.0.0.1:0")));
    let outcome = host.server.report("j3", 1).await;
    assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_dry_run_tells_all_that_stands_in_the_way() {
    let host = Host::new();
    let v1 = host.version_named("cert-1", 1, &["example.org"]);
    let agent = host.start().await;
    fs::create_dir_all(&host.paths.live).unwrap();
    fs::write(host.paths.live.join("cert-1"), "mine").unwrap();
    let config = json!({ "server_name": "other.example" });
    host.server.lease(dry_run("d-1", &v1, file(config)));
    let found = Found::of(host.server.report("d-1", 1).await);
    found.warns("was not made by this agent");
    found.warns("does not name \"other.example\"");
    assert_eq!(
        fs::read_to_string(host.paths.live.join("cert-1")).unwrap(),
        "mine"
    );

    let leaf = Chain::from_pem(&v1).unwrap();
    let key = format!("keys/cert-1/{}.key", leaf.leaf().spki_sha256());
    fs::remove_file(host.state(&key)).unwrap();
    host.server.lease(dry_run("d-2", &v1, file(json!({}))));
    let outcome = host.server.report("d-2", 1).await;
    let class = FailureClass::KeyMissing;
    assert!(
        matches!(&outcome, Outcome::Failed { class: c, .. } if *c == class),
        "{outcome:?}"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_test_sees_whether_a_place_can_be_used() {
    let host = Host::new();
    let v1 = host.version("cert-1", 1);
    let agent = host.start().await;
    let ask = async |job: &str, target: Place| {
        host.server.lease(test(job, target));
        Found::of(host.server.report(job, 1).await)
    };
    let found = ask("t-1", file(json!({}))).await.well();
    found.says("links can be made in");
    found.says("nothing of this agent is in place");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let found = ask("t-2", site(address)).await;
    found.warns("another program answers on");
    let silent = json!({ "endpoints": [address.to_string()], "verify_timeout": "200ms" });
    ask("t-3", file(silent)).await.warns("serves nothing");
    drop(taken);
    let found = ask("t-4", site(address)).await.well();
    found.says("nobody listens on");

    host.server
        .lease(deployment("j-1", "cert-1", &v1, site("127.0.0.1:0")));
    host.server.report("j-1", 1).await;
    let found = ask("t-5", site("127.0.0.1:0")).await.well();
    found.says("the agent listens on");
    found.says("cert-1 serial 1 was deployed last");
    assert_eq!(found.served[0].serial.as_deref(), Some("1"));

    fs::remove_dir_all(&host.paths.live).unwrap();
    fs::write(&host.paths.live, "in the way").unwrap();
    let found = ask("t-6", file(json!({}))).await;
    found.warns(host.paths.live.to_str().unwrap());
    agent.stop().await;
}

#[tokio::test]
async fn a_trial_without_its_parts_is_refused() {
    let host = Host::new();
    let v1 = host.version("cert-1", 1);
    let agent = host.start().await;
    for (job, field) in [
        ("r-1", "target_id"),
        ("r-2", "target_type"),
        ("r-3", "version"),
        ("r-4", "certificate_id"),
    ] {
        let mut item = dry_run(job, &v1, file(json!({})));
        item.as_object_mut().unwrap().remove(field);
        host.server.lease(item);
        match host.server.report(job, 1).await {
            Outcome::Failed { reason, .. } => assert!(reason.contains(field), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    let mut item = test("r-5", file(json!({ "colour": 1 })));
    item["target_id"] = "tgt-x".into();
    host.server.lease(item);
    match host.server.report("r-5", 1).await {
        Outcome::Failed { class, reason } => {
            assert_eq!(class, FailureClass::Operator);
            assert!(reason.contains("config.colour"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    agent.stop().await;
}

/// Always sees one chain, at once.
struct Shows(Vec<Vec<u8>>);

#[async_trait]
impl Probe for Shows {
    async fn tls(&self, _: &Endpoint, _: &str, _: Duration) -> Result<Shown, ProbeError> {
        let chain = self.0.clone();
        Ok(Shown { chain })
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_poll_withdraws_makes_room_at_once() {
    let mut host = Host::new();
    let versions: Vec<String> = (1..=3).map(|n| host.version("cert-1", n)).collect();
    let chain = Chain::from_pem(&versions[2]).unwrap();
    let chain = chain.certificates().map(|c| c.der().to_vec()).collect();
    // The third version alone is ever seen: the others would be waited for, for minutes.
    host.probe = Arc::new(Shows(chain));
    let agent = host.start().await;
    let config = json!({ "endpoints": ["web.test:443"], "verify_timeout": "5m" });
    host.server.lease(deployment(
        "old",
        "cert-1",
        &versions[1],
        file(config.clone()),
    ));
    host.server.called("lease", 1).await;
    let began = Instant::now();
    let new = deployment("new", "cert-1", &versions[2], file(config));
    let told = json!({ "jobs": [new], "count": 1, "cancel": ["old", "unknown"] });
    host.server.answer("work", 200, told);
    // Ends the poll that waits.
    host.server.lease(json!({}));
    match host.server.report("old", 1).await {
        Outcome::RolledBack { reason, .. } | Outcome::Failed { reason, .. } => {
            assert!(reason.contains("withdrawn"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let outcome = host.server.report("new", 1).await;
    assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    agent.stop().await;
}
