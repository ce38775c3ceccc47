//! A deployment is cut short at each of its writes; whatever happens, the journal decides it and a
//! whole version is in place.

use super::support::*;
use crate::support::altered::{Altered, Altering, Op, eio};
use certctl::{
    deploy::{Outcome, Sites, TargetConfig},
    sys::{Disk, FileError},
};
use serde_json::json;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

/// A disk whose `first`-th change fails, and the following up to `count` of them.
pub struct Failing {
    first: usize,
    count: usize,
    done: AtomicUsize,
}

impl Failing {
    pub fn new(first: usize, count: usize) -> Arc<Altered<Self>> {
        let done = AtomicUsize::new(0);
        Arc::new(Altered(Self { first, count, done }))
    }

    pub fn failed(&self) -> bool {
        self.done.load(Ordering::SeqCst) >= self.first
    }
}

impl Altering for Failing {
    fn before(&self, op: Op, path: &Path) -> Result<(), FileError> {
        if !op.is_change() {
            return Ok(());
        }
        let n = self.done.fetch_add(1, Ordering::SeqCst) + 1;
        match n >= self.first && n - self.first < self.count {
            true => Err(eio(path)),
            false => Ok(()),
        }
    }
}

/// Deploys versions 1 to `done` in peace, then the next with changes failing from the `k`-th on,
/// then restarts. Returns whether a change failed.
async fn cut(kind: &str, done: u32, k: usize, count: usize) -> bool {
    let host = Host::new();
    let target = id("tgt-1");
    let config = match kind {
        "File" => json!({}),
        _ => json!({ "listen": "127.0.0.1:0", "verify_timeout": "2s" }),
    };
    let config = TargetConfig::parse(kind, &config).unwrap();
    let stop = CancellationToken::new();
    for n in 1..=done {
        let pair = host.pair("cert-1", &host.version("cert-1", n));
        let (deployer, _, tasks) = host.deployer(Arc::new(Disk));
        deployer.recover().await;
        let outcome = deployer
            .deploy(&target, &config, &pair, &stop)
            .await
            .outcome;
        assert!(
            matches!(outcome, Outcome::Confirmed { changed: true, .. }),
            "{outcome:?}"
        );
        tasks.abort_all();
    }

    let next = done + 1;
    let pair = host.pair("cert-1", &host.version("cert-1", next));
    let failing = Failing::new(k, count);
    let (deployer, _, tasks) = host.deployer(failing.clone());
    deployer.recover().await;
    let outcome = deployer
        .deploy(&target, &config, &pair, &stop)
        .await
        .outcome;
    tasks.abort_all();
    let case = format!("{kind} {done} {k} {count}: {outcome:?}");

    let (deployer, sites, tasks) = host.deployer(Arc::new(Disk));
    deployer.recover().await;
    let phase = match host.names("deploy/tgt-1").as_slice() {
        [] => "none".to_owned(),
        _ => host.journal("tgt-1")["phase"].as_str().unwrap().to_owned(),
    };
    assert_ne!(phase, "begun", "{case}");
    let in_place = match kind {
        "File" => host
            .link("cert-1")
            .map(|to| to.rsplit('/').next().unwrap().to_owned()),
        _ => sites
            .site(&target)
            .map(|site| site.version.serial.to_string()),
    };
    let allowed = [(done > 0).then(|| done.to_string()), Some(next.to_string())];
    assert!(
        allowed.contains(&in_place),
        "{case}: {in_place:?} is in place"
    );
    if phase != "none" {
        let journal = host.journal("tgt-1");
        let said = match phase.as_str() {
            "committed" => &journal["version"]["serial"],
            _ => &journal["before"]["version"]["serial"],
        };
        assert_eq!(
            said.as_str(),
            in_place.as_deref(),
            "{case}: the journal says what is in place"
        );
    }
    if matches!(outcome, Outcome::Confirmed { .. }) {
        assert_eq!(in_place, allowed[1], "{case}: what was confirmed stays");
        assert_eq!(phase, "committed", "{case}");
    }
    if let Some(serial) = in_place {
        let version = certctl::deploy::VersionRef {
            certificate: id("cert-1"),
            serial: serial.parse().unwrap(),
        };
        let pair = host.vault().load(&version).unwrap();
        let spki = pair.chain().leaf().spki_sha256();
        assert!(
            host.vault().key(&id("cert-1"), spki).unwrap().is_some(),
            "{case}: its key is kept"
        );
    }

    let again = deployer
        .deploy(&target, &config, &pair, &stop)
        .await
        .outcome;
    assert!(
        matches!(again, Outcome::Confirmed { .. }),
        "{case}, then {again:?}"
    );
    assert_eq!(host.journal("tgt-1")["phase"], "committed");
    tasks.abort_all();
    failing.0.failed()
}

async fn sweep(kind: &str, done: u32, count: usize) {
    let mut k = 1;
    while cut(kind, done, k, count).await {
        k += 1;
        assert!(k < 60, "a deployment has no end of changes");
    }
    assert!(k > 8, "only {k} changes: the sweep does not see the writes");
}

#[tokio::test]
async fn a_first_file_deployment_cut_anywhere() {
    sweep("File", 0, usize::MAX).await;
}

#[tokio::test]
async fn a_third_file_deployment_cut_anywhere() {
    sweep("File", 2, usize::MAX).await;
}

#[tokio::test]
async fn a_file_deployment_with_one_failing_change() {
    sweep("File", 1, 1).await;
}

#[tokio::test]
async fn a_site_deployment_cut_anywhere() {
    sweep("Site", 2, usize::MAX).await;
}

#[tokio::test]
async fn a_site_deployment_with_one_failing_change() {
    sweep("Site", 1, 1).await;
}
