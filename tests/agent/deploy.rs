use super::support::*;
use crate::support::altered::{Altered, Altering, Op};
use certctl::{
    agent::protocol::{FailureClass, Outcome, Served},
    deploy::Sites,
    net::{Endpoint, Identity, Limits, Listener, ServerIdentity},
    pki::Chain,
    sys::{FileError, Tasks},
};
use serde_json::{Value, json};
use std::{fs, path::Path, sync::Arc};

fn file(config: Value) -> (&'static str, &'static str, Value) {
    ("tgt-file", "File", config)
}

fn site() -> (&'static str, &'static str, Value) {
    (
        "tgt-site",
        "Site",
        json!({ "listen": "127.0.0.1:0", "server_name": "localhost" }),
    )
}

fn confirmed(outcome: Outcome) -> (bool, Vec<Served>) {
    match outcome {
        Outcome::Confirmed { changed, served } => (changed, served),
        other => panic!("{other:?}"),
    }
}

/// What `address` serves, leaf first.
async fn seen(host: &Host, address: std::net::SocketAddr) -> Vec<Vec<u8>> {
    let endpoint = Endpoint::tls(address.ip().to_string(), address.port());
    let limit = std::time::Duration::from_secs(10);
    host.probe
        .tls(&endpoint, "localhost", limit)
        .await
        .unwrap()
        .chain
}

fn chain_der(fullchain: &str) -> Vec<Vec<u8>> {
    Chain::from_pem(fullchain)
        .unwrap()
        .certificates()
        .map(|c| c.der().to_vec())
        .collect()
}

/// A server that reads its files once, or each time the link is flipped.
pub(super) async fn listener(
    fullchain: &str,
    host: &Host,
    tasks: &Tasks,
) -> (Arc<ServerIdentity>, String) {
    let chain = Chain::from_pem(fullchain).unwrap();
    let spki = chain.leaf().spki_sha256().to_owned();
    let key = host.vault().key(&id("cert-1"), &spki).unwrap().unwrap();
    let identity = Identity::from_pem(fullchain.as_bytes(), key.to_pkcs8_pem().as_bytes()).unwrap();
    let identity = ServerIdentity::new(identity);
    let listener = Listener::tls("127.0.0.1:0".parse().unwrap(), &identity)
        .await
        .unwrap();
    let address = listener.address().unwrap().to_string();
    let (tasks_, stop) = (tasks.clone(), tasks.token());
    tasks.spawn("listener", async move {
        listener
            .serve(axum::Router::new(), Limits::default(), &tasks_, &stop)
            .await;
    });
    (identity, address)
}

#[tokio::test]
async fn issued_then_deployed_to_file_and_site_then_renewed() {
    let host = Host::new();
    let agent = host.start().await;
    host.server.lease(issuance("job-1", "cert-1"));
    let csr = host.server.csr(1).await;
    let keys = host.names("keys/cert-1");
    assert_eq!(keys.len(), 1);
    assert_eq!(mode(host.state("keys/cert-1").join(&keys[0])), 0o600);
    assert_eq!(mode(host.state("keys/cert-1")), 0o700);
    assert_eq!(mode(host.state("keys")), 0o700);

    let v1 = host.ca.sign(&csr, 0x0a01);
    host.server
        .lease(deployment("job-2", "cert-1", &v1, file(json!({}))));
    host.server
        .lease(deployment("job-3", "cert-1", &v1, site()));
    let (changed, served) = confirmed(host.server.report("job-2", 1).await);
    assert!(changed);
    assert_eq!(served[0].serial.as_deref(), Some("a01"));
    assert!(confirmed(host.server.report("job-3", 1).await).0);
    assert_eq!(host.link("cert-1").unwrap(), "../agent/versions/cert-1/a01");
    let dir = host.paths.live.join("cert-1");
    for (name, expect) in [
        ("privkey.pem", 0o600),
        ("fullchain.pem", 0o644),
        ("cert.pem", 0o644),
        ("chain.pem", 0o644),
    ] {
        assert_eq!(mode(dir.join(name)), expect, "{name}");
    }
    assert_eq!(mode(&dir), 0o700);
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(chain_der(&read("fullchain.pem")), chain_der(&v1));
    assert_eq!(
        read("fullchain.pem"),
        format!("{}{}", read("cert.pem"), read("chain.pem"))
    );
    let key = rcgen::KeyPair::from_pem(&read("privkey.pem")).unwrap();
    assert_eq!(
        certctl::crypt::PrivateKey::from_pkcs8_pem(&key.serialize_pem())
            .unwrap()
            .public_key()
            .sha256(),
        Chain::from_pem(&v1).unwrap().leaf().spki_sha256()
    );
    let address = agent.address("tgt-site");
    assert_eq!(seen(&host, address).await, chain_der(&v1));
    assert!(
        host.names("pending").is_empty(),
        "a served key is pending no longer"
    );

    host.server
        .lease(deployment("job-4", "cert-1", &v1, file(json!({}))));
    host.server
        .lease(deployment("job-5", "cert-1", &v1, site()));
    assert!(!confirmed(host.server.report("job-4", 1).await).0);
    assert!(!confirmed(host.server.report("job-5", 1).await).0);

    let v2 = host.version("cert-1", 0x0b02);
    host.server
        .lease(deployment("job-6", "cert-1", &v2, site()));
    assert!(confirmed(host.server.report("job-6", 1).await).0);
    assert_eq!(agent.address("tgt-site"), address, "the listener stays");
    assert_eq!(seen(&host, address).await, chain_der(&v2));
    agent.stop().await;
}

#[tokio::test]
async fn sites_are_served_again_after_a_restart() {
    let host = Host::new();
    let v1 = host.version("cert-1", 1);
    let agent = host.start().await;
    host.server
        .lease(deployment("job-1", "cert-1", &v1, site()));
    confirmed(host.server.report("job-1", 1).await);
    agent.stop().await;

    let agent = host.start().await;
    assert_eq!(seen(&host, agent.address("tgt-site")).await, chain_der(&v1));
    host.server
        .lease(deployment("job-2", "cert-1", &v1, site()));
    assert!(!confirmed(host.server.report("job-2", 1).await).0);
    agent.stop().await;
}

#[tokio::test]
async fn superseded_versions_go_with_their_keys_once_all_targets_left_them() {
    let host = Host::new();
    let agent = host.start().await;
    let mut chains = vec![String::new()];
    for n in 1..=4 {
        chains.push(host.version("cert-1", n));
    }
    for (job, n, target) in [
        ("a1", 1, file(json!({}))),
        ("b1", 1, site()),
        ("a2", 2, file(json!({}))),
        ("a3", 3, file(json!({}))),
    ] {
        host.server
            .lease(deployment(job, "cert-1", &chains[n], target));
        confirmed(host.server.report(job, 1).await);
    }
    assert_eq!(
        host.names("versions/cert-1"),
        ["1", "2", "3"],
        "the site still serves 1"
    );
    assert_eq!(host.names("keys/cert-1").len(), 4);
    for (job, n, target) in [("b4", 4, site()), ("a4", 4, file(json!({})))] {
        host.server
            .lease(deployment(job, "cert-1", &chains[n], target));
        confirmed(host.server.report(job, 1).await);
    }
    assert_eq!(
        host.names("versions/cert-1"),
        ["1", "3", "4"],
        "current and previous of each target"
    );
    assert_eq!(host.names("keys/cert-1").len(), 3);
    assert_eq!(host.names("deploy"), ["tgt-file", "tgt-site"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_listener_that_keeps_the_old_pair_is_rolled_back() {
    let host = Host::new();
    let (v1, v2) = (
        host.version("cert-1", 0x0a1b),
        host.version("cert-1", 0x2c3d),
    );
    let tasks = Tasks::new();
    let (_, address) = listener(&v1, &host, &tasks).await;
    let target = file(json!({ "endpoints": [address], "verify_timeout": "300ms" }));
    let agent = host.start().await;
    host.server
        .lease(deployment("job-1", "cert-1", &v1, target.clone()));
    let (_, served) = confirmed(host.server.report("job-1", 1).await);
    assert_eq!(served[1].endpoint, address);
    assert_eq!(served[1].serial.as_deref(), Some("a1b"));

    host.server
        .lease(deployment("job-2", "cert-1", &v2, target));
    let Outcome::RolledBack { reason, served } = host.server.report("job-2", 1).await else {
        panic!("not rolled back")
    };
    assert!(
        reason.contains(&format!("{address} still serves serial a1b")),
        "{reason}"
    );
    assert_eq!(served.last().unwrap().serial.as_deref(), Some("a1b"));
    assert_eq!(host.link("cert-1").unwrap(), "../agent/versions/cert-1/a1b");
    assert_eq!(host.journal("tgt-file")["phase"], "rolled_back");
    assert_eq!(
        host.names("keys/cert-1").len(),
        2,
        "the key stays for another try"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_first_version_not_served_leaves_no_link() {
    let host = Host::new();
    let (v1, other) = (host.version("cert-1", 1), host.version("cert-1", 2));
    let tasks = Tasks::new();
    let (_, address) = listener(&other, &host, &tasks).await;
    let target = file(json!({ "endpoints": [address], "verify_timeout": "300ms" }));
    let agent = host.start().await;
    host.server
        .lease(deployment("job-1", "cert-1", &v1, target));
    let outcome = host.server.report("job-1", 1).await;
    assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
    assert_eq!(host.link("cert-1"), None);
    agent.stop().await;
}

#[tokio::test]
async fn a_first_version_stays_for_the_server_that_is_to_start_with_it() {
    let host = Host::new();
    let (v1, other) = (host.version("cert-1", 1), host.version("cert-1", 2));
    let tasks = Tasks::new();
    // An address that nothing listens on.
    let (identity, address) = listener(&other, &host, &tasks).await;
    drop(identity);
    tasks.shutdown(std::time::Duration::from_secs(9)).await;
    let target = file(json!({ "endpoints": [address], "verify_timeout": "300ms" }));
    let agent = host.start().await;
    let job = |name| deployment(name, "cert-1", &v1, target.clone());
    host.server.lease(job("job-1"));
    let outcome = host.server.report("job-1", 1).await;
    let Outcome::Failed { reason, .. } = &outcome else {
        panic!("{outcome:?}");
    };
    assert!(reason.contains("stays in place"), "{reason}");
    assert_eq!(host.link("cert-1").unwrap(), "../agent/versions/cert-1/1");
    // Tried again, it stays, and a start of the agent leaves it too.
    host.server.lease(job("job-2"));
    let outcome = host.server.report("job-2", 1).await;
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    agent.stop().await;
    let agent = host.start().await;
    assert_eq!(host.link("cert-1").unwrap(), "../agent/versions/cert-1/1");
    agent.stop().await;
}

/// A disk on which flipping the link makes a listener read its files, as a watcher would.
struct Follow {
    identity: Arc<ServerIdentity>,
}

impl Altering for Follow {
    fn after(&self, op: Op, link: &Path) -> Result<(), FileError> {
        if op == Op::Flip {
            let read = |name: &str| fs::read(link.join(name)).unwrap();
            let identity = Identity::from_pem(&read("fullchain.pem"), &read("privkey.pem"));
            self.identity.set_system(identity.unwrap());
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_listener_that_follows_the_link_is_confirmed() {
    let mut host = Host::new();
    let (v1, v2) = (host.version("cert-1", 1), host.version("cert-1", 2));
    let tasks = Tasks::new();
    let (identity, address) = listener(&v1, &host, &tasks).await;
    host.files = Arc::new(Altered(Follow { identity }));
    let target = file(json!({ "endpoints": [address] }));
    let agent = host.start().await;
    host.server
        .lease(deployment("job-1", "cert-1", &v2, target));
    let (changed, served) = confirmed(host.server.report("job-1", 1).await);
    assert!(changed);
    assert_eq!(served[1].serial.as_deref(), Some("2"));
    agent.stop().await;
}

/// Leases a deployment and gives the class and reason of its failure.
async fn fails(host: &Host, item: Value) -> (FailureClass, String) {
    let job = item["id"].as_str().unwrap().to_owned();
    host.server.lease(item);
    match host.server.report(&job, 1).await {
        Outcome::Failed { class, reason } => (class, reason),
        other => panic!("{job}: {other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_deployed_fails_clearly_and_changes_nothing() {
    let host = Host::new();
    let good = host.version("cert-1", 1);
    let agent = host.start().await;

    // A key of another version under the name of this one's.
    let (mixed, other) = (host.version("cert-1", 2), host.version("cert-1", 3));
    let key = |pem: &str| {
        let spki = Chain::from_pem(pem)
            .unwrap()
            .leaf()
            .spki_sha256()
            .to_owned();
        host.state(&format!("keys/cert-1/{spki}.key"))
    };
    fs::copy(key(&other), key(&mixed)).unwrap();
    let (class, reason) = fails(
        &host,
        deployment("mixed", "cert-1", &mixed, file(json!({}))),
    )
    .await;
    assert_eq!(class, FailureClass::Operator);
    assert!(reason.contains("does not belong to serial 2"), "{reason}");

    fs::remove_file(key(&mixed)).unwrap();
    let (class, reason) = fails(&host, deployment("gone", "cert-1", &mixed, file(json!({})))).await;
    assert_eq!(class, FailureClass::KeyMissing);
    assert!(reason.contains("is not on this host"), "{reason}");

    fs::write(key(&mixed), "garbage").unwrap();
    let (class, _) = fails(
        &host,
        deployment("broken", "cert-1", &mixed, file(json!({}))),
    )
    .await;
    assert_eq!(class, FailureClass::Operator);

    let expired = {
        let csr = rcgen::KeyPair::from_pem(&fs::read_to_string(key(&good)).unwrap()).unwrap();
        let csr = rcgen::CertificateParams::new(vec!["localhost".into()])
            .unwrap()
            .serialize_request(&csr)
            .unwrap();
        host.ca.sign_until(&csr.pem().unwrap(), 9, 2021)
    };
    let (class, reason) = fails(
        &host,
        deployment("late", "cert-1", &expired, file(json!({}))),
    )
    .await;
    assert_eq!(class, FailureClass::Permanent);
    assert!(reason.contains("expired at 2021"), "{reason}");

    let named = file(json!({ "server_name": "www.example.org" }));
    let (class, reason) = fails(&host, deployment("name", "cert-1", &good, named)).await;
    assert_eq!(class, FailureClass::Operator);
    assert!(reason.contains("www.example.org"), "{reason}");

    let taken = Listener::plain("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let port = taken.address().unwrap().port();
    let busy = (
        "tgt-busy",
        "Site",
        json!({ "listen": format!("127.0.0.1:{port}") }),
    );
    let (class, reason) = fails(&host, deployment("busy", "cert-1", &good, busy)).await;
    assert_eq!(class, FailureClass::Operator);
    assert!(
        reason.contains(&port.to_string()) && reason.contains("another port"),
        "{reason}"
    );

    fs::create_dir_all(&host.paths.live).unwrap();
    let link = host.paths.live.join("cert-1");
    std::os::unix::fs::symlink("/srv/tls/1", &link).unwrap();
    let (class, reason) = fails(&host, deployment("link", "cert-1", &good, file(json!({})))).await;
    assert_eq!(class, FailureClass::Operator);
    assert!(reason.contains("not made by this agent"), "{reason}");
    assert_eq!(host.link("cert-1").unwrap(), "/srv/tls/1");
    fs::remove_file(&link).unwrap();
    fs::write(host.paths.live.join("cert-1"), "theirs").unwrap();
    let (class, reason) = fails(
        &host,
        deployment("foreign", "cert-1", &good, file(json!({}))),
    )
    .await;
    assert_eq!(class, FailureClass::Operator);
    assert!(reason.contains("not made by this agent"), "{reason}");
    assert_eq!(
        fs::read_to_string(host.paths.live.join("cert-1")).unwrap(),
        "theirs"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_site_moves_to_another_address_and_back_when_it_cannot() {
    let host = Host::new();
    let (v1, v2) = (host.version("cert-1", 1), host.version("cert-1", 2));
    let agent = host.start().await;
    host.server
        .lease(deployment("job-1", "cert-1", &v1, site()));
    confirmed(host.server.report("job-1", 1).await);
    let first = agent.address("tgt-site");

    let taken = Listener::plain("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let config = json!({ "listen": taken.address().unwrap().to_string() });
    fails(
        &host,
        deployment("job-2", "cert-1", &v2, ("tgt-site", "Site", config.clone())),
    )
    .await;
    assert_eq!(agent.address("tgt-site"), first);
    assert_eq!(seen(&host, first).await, chain_der(&v1));

    let to = taken.address().unwrap();
    drop(taken);
    host.server.lease(deployment(
        "job-3",
        "cert-1",
        &v2,
        ("tgt-site", "Site", config),
    ));
    confirmed(host.server.report("job-3", 1).await);
    assert_eq!(agent.address("tgt-site"), to);
    assert_eq!(
        agent
            .sites
            .site(&id("tgt-site"))
            .unwrap()
            .version
            .serial
            .to_string(),
        "2"
    );
    agent.stop().await;
}
