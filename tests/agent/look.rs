//! What was deployed is looked at again: on the host, and where it is served.

use super::{deploy::listener, support::*};
use certctl::{
    deploy::{Deployer, Observation, Outcome, Sites, TargetConfig},
    net::Identity,
    sys::Tasks,
};
use serde_json::{Value, json};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
};
use tokio_util::sync::CancellationToken;

async fn deploy(host: &Host, deployer: &Deployer, kind: &str, config: Value, fullchain: &str) {
    let config = TargetConfig::parse(kind, &config).unwrap();
    let pair = host.pair("cert-1", fullchain);
    let stop = CancellationToken::new();
    let target = id(&format!("tgt-{kind}"));
    let ended = deployer.deploy(&target, &config, &pair, &stop).await;
    let confirmed = matches!(ended.outcome, Outcome::Confirmed { .. });
    assert!(confirmed, "{:?}", ended.outcome);
}

async fn look(deployer: &Deployer) -> Observation {
    let mut found = deployer.look(None).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn clean(found: &Observation) -> bool {
    found.drift.is_empty() && found.served.iter().all(|shown| shown.right)
}

#[tokio::test]
async fn whatever_is_changed_on_the_host_is_told_and_put_right_by_the_next_deployment() {
    let host = Host::new();
    let (deployer, _, tasks) = host.deployer(host.files.clone());
    let v1 = host.version("cert-1", 0x0c01);
    let elsewhere = host.version("cert-1", 0x0c02);
    deploy(&host, &deployer, "File", json!({}), &v1).await;
    let found = look(&deployer).await;
    assert!(clean(&found), "{found:?}");
    assert_eq!(found.served[0].seen.serial.as_deref(), Some("c01"));

    let link = host.paths.live.join("cert-1");
    let dir = host.state("versions/cert-1/c01");
    let chmod = |name: &str, mode| {
        fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).unwrap();
    };
    let changes: [(&str, &dyn Fn()); 7] = [
        ("live/cert-1 is missing", &|| {
            fs::remove_file(&link).unwrap()
        }),
        ("privkey.pem has mode 0644 instead of 0600", &|| {
            chmod("privkey.pem", 0o644);
        }),
        ("chain.pem has other content", &|| {
            fs::write(dir.join("chain.pem"), "").unwrap();
        }),
        ("cert.pem is missing", &|| {
            fs::remove_file(dir.join("cert.pem")).unwrap();
        }),
        ("privkey.pem has other content", &|| {
            fs::write(dir.join("privkey.pem"), "none").unwrap();
        }),
        ("fullchain.pem has other content", &|| {
            fs::write(dir.join("fullchain.pem"), &elsewhere).unwrap();
        }),
        ("the files of serial c01 are gone", &|| {
            fs::remove_dir_all(&dir).unwrap();
        }),
    ];
    for (sentence, change) in changes {
        change();
        let found = look(&deployer).await;
        let told = found.drift.iter().any(|drift| drift.contains(sentence));
        assert!(told, "{sentence}: {found:?}");
        assert!(!clean(&found), "{found:?}");
        deploy(&host, &deployer, "File", json!({}), &v1).await;
        let found = look(&deployer).await;
        assert!(clean(&found), "after {sentence}: {found:?}");
    }

    // Another's link is told, and left.
    fs::remove_file(&link).unwrap();
    symlink("/nowhere", &link).unwrap();
    let found = look(&deployer).await;
    assert!(
        found.drift[0].contains("not made by this agent"),
        "{found:?}"
    );
    if certctl::sys::own_user() == 0 {
        fs::remove_file(&link).unwrap();
        deploy(&host, &deployer, "File", json!({}), &v1).await;
        std::os::unix::fs::chown(dir.join("cert.pem"), Some(65_534), None).unwrap();
        let found = look(&deployer).await;
        assert!(
            found.drift[0].ends_with("belongs to user 65534 instead of 0"),
            "{found:?}"
        );
        deploy(&host, &deployer, "File", json!({}), &v1).await;
        assert!(clean(&look(&deployer).await));
    }
    tasks.shutdown(std::time::Duration::from_secs(9)).await;
}

#[tokio::test]
async fn what_an_endpoint_serves_is_compared_leaf_and_chain() {
    let host = Host::new();
    let (deployer, _, tasks) = host.deployer(host.files.clone());
    let (v1, other) = (
        host.version("cert-1", 0x0c01),
        host.version("cert-1", 0x0c09),
    );
    let serving = Tasks::new();
    let (identity, address) = listener(&v1, &host, &serving).await;
    let config = json!({ "endpoints": [address], "server_name": "localhost" });
    deploy(&host, &deployer, "File", config, &v1).await;
    let served = async || look(&deployer).await.served.remove(1);
    let shown = served().await;
    assert_eq!(shown.seen.endpoint, address);
    assert!(shown.right);

    let serve = |fullchain: &str, key_of: &str| {
        let key = host.pair("cert-1", key_of).key().to_pkcs8_pem();
        let pair = Identity::from_pem(fullchain.as_bytes(), key.as_bytes()).unwrap();
        identity.set_system(pair);
    };
    serve(&other, &other);
    let shown = served().await;
    assert_eq!(shown.seen.serial.as_deref(), Some("c09"));
    assert!(!shown.right);

    // The right leaf, and an issuer too few.
    let leaf = certctl::pki::Chain::from_pem(&v1).unwrap().leaf().pem();
    serve(&leaf, &v1);
    let shown = served().await;
    assert_eq!(shown.seen.serial.as_deref(), Some("c01"));
    assert!(!shown.right);

    serve(&v1, &v1);
    assert!(served().await.right);
    serving.shutdown(std::time::Duration::from_secs(9)).await;
    let shown = served().await;
    assert_eq!(shown.seen.serial, None);
    assert!(shown.seen.error.is_some() && !shown.right, "{shown:?}");
    tasks.shutdown(std::time::Duration::from_secs(9)).await;
}

#[tokio::test]
async fn a_site_that_does_not_listen_is_told() {
    let host = Host::new();
    let (deployer, sites, tasks) = host.deployer(host.files.clone());
    let v1 = host.version("cert-1", 0x0c01);
    let config = json!({ "listen": "127.0.0.1:0", "server_name": "localhost" });
    deploy(&host, &deployer, "Site", config.clone(), &v1).await;
    assert!(clean(&look(&deployer).await));
    sites.stop(&id("tgt-Site")).await;
    let found = look(&deployer).await;
    assert!(
        found.drift[0].starts_with("the site does not listen"),
        "{found:?}"
    );
    deploy(&host, &deployer, "Site", config, &v1).await;
    assert!(clean(&look(&deployer).await));
    tasks.shutdown(std::time::Duration::from_secs(9)).await;
}

#[tokio::test]
async fn each_certificate_in_a_directory_is_looked_at() {
    let host = Host::new();
    let (deployer, _, tasks) = host.deployer(host.files.clone());
    let config = TargetConfig::parse("File", &json!({})).unwrap();
    let stop = CancellationToken::new();
    for (certificate, serial) in [("cert-1", 1), ("cert-2", 2), ("cert-1", 3), ("cert-2", 4)] {
        let version = host.version(certificate, serial);
        let pair = host.pair(certificate, &version);
        let ended = deployer.deploy(&id("tgt"), &config, &pair, &stop).await;
        assert!(matches!(ended.outcome, Outcome::Confirmed { .. }));
    }
    let found = deployer.look(None).await;
    let serials = |found: &[Observation]| -> Vec<String> {
        found.iter().map(|f| f.version.serial.to_string()).collect()
    };
    assert_eq!(serials(&found), ["4", "3"]);
    assert!(found.iter().all(clean), "{found:?}");
    assert_eq!(deployer.look(Some(&[id("other")].into())).await, []);
    tasks.shutdown(std::time::Duration::from_secs(9)).await;
}
