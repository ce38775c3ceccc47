//! Dry runs and tests of a target: what they find at a real nginx, and that they change nothing.

use super::scene::*;
use crate::agent::support::*;
use certctl::deploy::{Examined, TargetConfig};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};
use tokio_util::sync::CancellationToken;

impl Scene {
    /// The content of nginx's files and of all links of ours.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let names = ["nginx.conf", "tls/cert.pem", "tls/key.pem"].map(|name| self.nginx.path(name));
        let read = |path: PathBuf| Some((path.clone(), fs::read(path).ok()?));
        let mut files: BTreeMap<_, _> = names.into_iter().filter_map(read).collect();
        let tls = fs::read_dir(self.nginx.path("tls")).unwrap();
        files.extend(tls.map(|entry| (entry.unwrap().path(), Vec::new())));
        files
    }

    async fn try_out(&self, fullchain: Option<&str>, more: Value) -> Examined {
        let config = TargetConfig::parse("NGINX", &self.nginx.target(more)).unwrap();
        let (deployer, _, tasks) = self.host.deployer(self.host.files.clone());
        let (stop, target) = (CancellationToken::new(), id("tgt-nginx"));
        let before = self.files();
        let found = match fullchain {
            Some(chain) => {
                let pair = self.host.pair("cert-1", chain);
                deployer.rehearse(&target, &config, &pair, &stop).await
            }
            None => deployer.test(&target, &config, &stop).await,
        };
        assert_eq!(self.files(), before);
        assert!(self.host.names("rehearsal").is_empty());
        tasks.shutdown(Duration::from_secs(9)).await;
        found.unwrap()
    }
}

#[track_caller]
fn says(all: &[String], what: &str) {
    assert!(all.iter().any(|s| s.contains(what)), "{what:?} in {all:?}");
}

#[tokio::test]
async fn what_a_deployment_would_do_is_told_and_not_done() {
    let scene = Scene::serving().await;
    let v2 = scene.version(2);
    let found = scene.try_out(Some(&v2), json!({})).await;
    assert_eq!(found.faults, [""; 0]);
    says(&found.findings, "nginx accepts");
    says(&found.findings, "serial 2 would be the first in place");
    assert_eq!(found.old_fingerprint, fingerprint(&scene.old));
    assert!(found.output.contains(" -t -q -c "), "{}", found.output);
    assert!(scene.host.names("versions/cert-1").is_empty());
    scene.serves(&scene.old).await;

    assert!(confirmed(&scene.deploy(&v2, json!({})).await));
    let found = scene.try_out(Some(&v2), json!({})).await;
    says(&found.findings, "unchanged: serial 2 is in place already");
    let v3 = scene.version(3);
    let found = scene.try_out(Some(&v3), json!({})).await;
    assert_eq!(found.faults, [""; 0]);
    says(&found.findings, "serial 3 would replace serial 2");
    assert_eq!(scene.host.names("versions/cert-1"), ["2"]);
    scene.serves(&v2).await;
    assert!(confirmed(&scene.deploy(&v3, json!({})).await));
    scene.serves(&v3).await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_told() {
    let scene = Scene::serving().await;
    let found = scene.try_out(None, json!({})).await;
    assert_eq!(found.faults, [""; 0]);
    assert_eq!(found.seen.len(), 2, "the endpoint and the file: {found:?}");
    let cert = scene.nginx.path("tls/cert.pem");
    scene.nginx.configure(&cert, "nonsense;\n");
    let v2 = scene.version(2);
    for fullchain in [None, Some(v2.as_str())] {
        let found = scene.try_out(fullchain, json!({})).await;
        says(&found.faults, "nonsense");
        assert!(found.output.contains("nonsense"), "{}", found.output);
    }
    scene.nginx.configure(&cert, "");
    let found = scene
        .try_out(None, json!({"binary": "/usr/sbin/no-nginx"}))
        .await;
    says(&found.faults, "no-nginx");
    let place = scene.nginx.path("elsewhere/cert.pem");
    let found = scene.try_out(None, json!({"cert_path": place})).await;
    says(&found.faults, "elsewhere");
    scene.serves(&scene.old).await;
}

#[tokio::test]
async fn an_nginx_that_does_not_run_yet_is_told() {
    let scene = Scene::dark();
    let found = scene.try_out(None, json!({})).await;
    says(&found.findings, "is not there yet");
    says(&found.faults, "serves nothing");
}
