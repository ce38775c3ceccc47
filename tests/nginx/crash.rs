//! A deployment to nginx is cut short at each of its writes: at every moment the files are a pair,
//! the old or the new one, and the journal decides.

use super::scene::ders;
use crate::agent::{crash::Failing, support::*};
use async_trait::async_trait;
use certctl::{
    crypt::PrivateKey,
    deploy::{Outcome, TargetConfig},
    net::{Endpoint, Probe, ProbeError, Served},
    pki::Chain,
    sys::{Command, Disk, Ending, Exec, ExecError, Finished},
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// An nginx that reads its files when it is told to: all programs there are.
struct Server {
    files: [PathBuf; 2],
    served: Mutex<Option<Vec<Vec<u8>>>>,
}

impl Server {
    /// What the files hold, which must be a pair.
    fn read(&self) -> Option<Vec<Vec<u8>>> {
        let [cert, key] = self.files.each_ref().map(std::fs::read_to_string);
        let (Ok(cert), Ok(key)) = (cert, key) else {
            return None;
        };
        let chain = Chain::from_pem(&cert).unwrap();
        let key = PrivateKey::from_pkcs8_pem(&key).unwrap();
        assert_eq!(
            key.public_key().sha256(),
            chain.leaf().spki_sha256(),
            "certificate and key are of two versions"
        );
        Some(chain.certificates().map(|c| c.der().to_vec()).collect())
    }
}

#[async_trait]
impl Exec for Server {
    async fn run(&self, _: &Command) -> Result<Finished, ExecError> {
        self.read();
        Ok(Finished {
            ending: Ending::Code(0),
            output: String::new(),
        })
    }

    fn hang_up(&self, _: &Path, _: &Path) -> Result<(), ExecError> {
        *self.served.lock().unwrap() = self.read();
        Ok(())
    }
}

#[async_trait]
impl Probe for Server {
    async fn tls(&self, _: &Endpoint, _: &str, _: Duration) -> Result<Served, ProbeError> {
        match self.served.lock().unwrap().clone() {
            Some(chain) => Ok(Served { chain }),
            None => Err(ProbeError::Name("nothing is served".into())),
        }
    }
}

/// Deploys versions 1 to `done` in peace over plain files, then the next with changes failing from
/// the `k`-th on, then restarts. Returns whether a change failed.
async fn cut(done: u32, k: usize, count: usize) -> bool {
    let mut host = Host::new();
    let dir = tempfile::tempdir().unwrap();
    let files = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    let first = host.version("cert-1", 100);
    let key = host.pair("cert-1", &first).key().to_pkcs8_pem();
    fs::write(&files[0], &first).unwrap();
    fs::write(&files[1], key.as_bytes()).unwrap();
    let served = Mutex::new(Some(ders(&first)));
    let server = Arc::new(Server { files, served });
    (host.exec, host.probe) = (server.clone(), server.clone());
    let config = json!({
        "cert_path": server.files[0], "key_path": server.files[1],
        "chain_path": dir.path().join("chain.pem"),
        "endpoints": ["127.0.0.1:443"],
    });
    let config = TargetConfig::parse("NGINX", &config).unwrap();
    let (target, stop) = (id("tgt-1"), CancellationToken::new());
    let mut chains = vec![first.clone()];
    for n in 1..=done + 1 {
        chains.push(host.version("cert-1", n));
    }
    for chain in &chains[1..=done as usize] {
        let pair = host.pair("cert-1", chain);
        let (deployer, _, _) = host.deployer(Arc::new(Disk));
        let outcome = deployer.deploy(&target, &config, &pair, &stop).await;
        assert!(matches!(outcome.outcome, Outcome::Confirmed { .. }));
    }
    let last = [&chains[done as usize], &chains[done as usize + 1]].map(|chain| ders(chain));

    let pair = host.pair("cert-1", &chains[done as usize + 1]);
    let failing = Failing::new(k, count);
    let (deployer, _, _) = host.deployer(failing.clone());
    let outcome = deployer.deploy(&target, &config, &pair, &stop).await;
    let outcome = outcome.outcome;
    let case = format!("{done} {k} {count}: {outcome:?}");
    let here = server.read().expect(&case);
    assert!(last.contains(&here), "{case}: what a start would find");

    let (deployer, _, _) = host.deployer(Arc::new(Disk));
    assert!(deployer.recover().await, "{case}");
    let here = server.read().expect(&case);
    let served = server.served.lock().unwrap().clone().unwrap();
    assert_eq!(served, here, "{case}: what is served is what is in place");
    let which = last.iter().position(|chain| *chain == here);
    let which = which.unwrap_or_else(|| panic!("{case}: a third chain"));
    let phase = match host.names("deploy/tgt-1").as_slice() {
        [] => None,
        _ => Some(host.journal("tgt-1")),
    };
    let next = (done + 1).to_string();
    if let Some(journal) = phase {
        assert_ne!(journal["phase"], "begun", "{case}");
        let of_next = journal["version"]["serial"].as_str() == Some(&next);
        let committed = of_next && journal["phase"] == "committed";
        assert_eq!(which == 1, committed, "{case}: {journal}");
    }
    if matches!(outcome, Outcome::Confirmed { .. }) {
        assert_eq!(which, 1, "{case}: what was confirmed stays");
    }
    if done == 0 && which == 0 {
        let [cert, key_path] = &server.files;
        assert!(fs::symlink_metadata(cert).unwrap().is_file(), "{case}");
        assert_eq!(fs::read_to_string(cert).unwrap(), first, "{case}");
        assert_eq!(fs::read(key_path).unwrap(), key.as_bytes(), "{case}");
        assert!(fs::symlink_metadata(dir.path().join("chain.pem")).is_err());
    }
    assert!(host.names("rehearsal").is_empty(), "{case}");
    assert!(host.names("backups/tgt-1").len() <= 2, "{case}");

    let again = deployer.deploy(&target, &config, &pair, &stop).await;
    assert!(
        matches!(again.outcome, Outcome::Confirmed { .. }),
        "{case}, then {again:?}"
    );
    assert_eq!(server.read().as_ref(), Some(&last[1]), "{case}");
    failing.0.failed()
}

async fn sweep(done: u32, count: usize, least: usize) {
    let mut k = 1;
    while cut(done, k, count).await {
        k += 1;
        assert!(k < 100, "a deployment has no end of changes");
    }
    assert!(
        k > least,
        "only {k} changes: the sweep does not see the writes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_cut_anywhere() {
    sweep(0, usize::MAX, 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_with_one_failing_change() {
    sweep(0, 1, 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_third_deployment_cut_anywhere() {
    sweep(2, usize::MAX, 14).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_deployment_with_one_failing_change() {
    sweep(1, 1, 14).await;
}
