//! The first deployment to an nginx that has certificates already, and the way back.

use super::scene::*;
use crate::agent::support::*;
use certctl::{
    deploy::Class,
    sys::{Disk, Files, Kind, Metadata, Owner},
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

fn look(path: &Path) -> Metadata {
    Disk.metadata(path).unwrap().unwrap()
}

/// Gives a file an odd mode and, where that is possible, another's owner.
fn make_odd(path: &Path, mode: u32) {
    let found = look(path);
    let owner = match found.uid {
        0 => Owner { uid: 1, gid: 12 },
        uid => Owner {
            uid,
            gid: found.gid,
        },
    };
    let bytes = fs::read(path).unwrap();
    Disk.write_owned(path, &bytes, mode, owner).unwrap();
    assert_eq!(look(path).mode, mode);
    assert_eq!(look(path).uid, owner.uid);
}

fn like(a: &Metadata, b: &Metadata) {
    let of = |m: &Metadata| (m.kind, m.mode, m.uid, m.gid, m.len);
    assert_eq!(of(a), of(b));
}

#[tokio::test]
async fn plain_files_become_links_and_come_back_as_they_were() {
    let scene = Scene::serving().await;
    let (cert, key) = (
        scene.nginx.path("tls/cert.pem"),
        scene.nginx.path("tls/key.pem"),
    );
    make_odd(&cert, 0o664);
    make_odd(&key, 0o640);
    let (cert_was, key_was) = (look(&cert), look(&key));
    let bytes = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());

    let v2 = scene.version(2);
    let ended = scene
        .deploy(
            &v2,
            json!({ "reload": "/bin/true", "verify_timeout": "1s" }),
        )
        .await;
    assert_eq!(ended.old_fingerprint, fingerprint(&scene.old));
    let reason = rolled_back(ended);
    assert!(reason.contains("still serves serial 1"), "{reason}");
    for (path, was, bytes) in [(&cert, &cert_was, &bytes.0), (&key, &key_was, &bytes.1)] {
        assert!(fs::symlink_metadata(path).unwrap().is_file());
        like(&look(path), was);
        assert_eq!(&fs::read(path).unwrap(), bytes);
    }
    assert_eq!(scene.host.journal("tgt-nginx")["phase"], "rolled_back");
    scene.serves(&scene.old).await;

    let ended = scene.deploy(&v2, json!({})).await;
    assert!(confirmed(&ended));
    assert_eq!(ended.old_fingerprint, fingerprint(&scene.old));
    scene.serves(&v2).await;
    let current = scene.host.state("deploy/tgt-nginx/current");
    assert_eq!(
        fs::read_link(&current).unwrap(),
        Path::new("../../versions/cert-1/2")
    );
    assert_eq!(fs::read_link(&cert).unwrap(), current.join("fullchain.pem"));
    assert_eq!(fs::read_link(&key).unwrap(), current.join("privkey.pem"));
    let backups = scene.host.names("backups/tgt-nginx");
    let kept = "what stood there at first, and what a rollback needs, are one";
    assert_eq!(backups, ["1"], "{kept}");
    assert_eq!(mode(scene.host.state("backups/tgt-nginx")), 0o700);

    // From now on one flip changes all; what stood there at first is kept all the same.
    let v3 = scene.version(3);
    let ended = scene.deploy(&v3, json!({ "reload": "command" })).await;
    assert!(confirmed(&ended));
    assert_eq!(ended.old_fingerprint, fingerprint(&v2));
    assert!(ended.output.contains("-s reload"), "{}", ended.output);
    scene.serves(&v3).await;
    assert_eq!(scene.host.names("backups/tgt-nginx"), ["1"]);
    assert_eq!(scene.host.names("versions/cert-1"), ["2", "3"]);
    assert!(!confirmed(&scene.deploy(&v3, json!({})).await));
}

#[tokio::test]
async fn links_of_another_program_come_back_as_they_were() {
    let scene = Scene::serving().await;
    let live = scene.nginx.path("archive");
    fs::create_dir(&live).unwrap();
    for name in ["cert.pem", "key.pem"] {
        let path = scene.nginx.path("tls").join(name);
        fs::rename(&path, live.join(name)).unwrap();
        symlink(Path::new("../archive").join(name), &path).unwrap();
    }
    let v2 = scene.version(2);
    let more = json!({ "reload": "/bin/true", "verify_timeout": "1s" });
    let ended = scene.deploy(&v2, more).await;
    assert_eq!(ended.old_fingerprint, fingerprint(&scene.old));
    rolled_back(ended);
    for name in ["cert.pem", "key.pem"] {
        let path = scene.nginx.path("tls").join(name);
        assert_eq!(
            fs::read_link(path).unwrap(),
            Path::new("../archive").join(name)
        );
    }
    assert!(confirmed(&scene.deploy(&v2, json!({})).await));
    scene.serves(&v2).await;
    assert_eq!(
        fs::read_to_string(live.join("cert.pem")).unwrap(),
        scene.old
    );
}

#[tokio::test]
async fn a_path_that_had_nothing_has_nothing_again() {
    let scene = Scene::serving().await;
    let chain = scene.nginx.path("tls/chain.pem");
    let v2 = scene.version(2);
    let more = json!({ "chain_path": chain, "reload": "/bin/true", "verify_timeout": "1s" });
    rolled_back(scene.deploy(&v2, more).await);
    assert!(fs::symlink_metadata(&chain).is_err());
    let more = json!({ "chain_path": chain });
    assert!(confirmed(&scene.deploy(&v2, more.clone()).await));
    assert!(v2.ends_with(&fs::read_to_string(&chain).unwrap()));

    // A file put over one of the links is a place of its own again, and comes back as such.
    let cert = scene.nginx.path("tls/cert.pem");
    fs::remove_file(&cert).unwrap();
    fs::write(&cert, &v2).unwrap();
    fs::set_permissions(&cert, fs::Permissions::from_mode(0o604)).unwrap();
    let v3 = scene.version(3);
    let failing = json!({ "chain_path": chain, "reload": "/bin/true", "verify_timeout": "1s" });
    rolled_back(scene.deploy(&v3, failing).await);
    assert!(fs::symlink_metadata(&cert).unwrap().is_file());
    assert_eq!(mode(&cert), 0o604);
    assert!(fs::read_link(scene.nginx.path("tls/key.pem")).is_ok());
    assert!(confirmed(&scene.deploy(&v3, more).await));
    scene.serves(&v3).await;
}

#[tokio::test]
async fn what_is_no_file_is_left_alone() {
    let scene = Scene::serving().await;
    let v2 = scene.version(2);
    let dir = scene.nginx.path("tls/dir");
    fs::create_dir(&dir).unwrap();
    for (path, says) in [
        (dir.clone(), "is no file"),
        (
            scene.nginx.path("missing/chain.pem"),
            "there is no directory",
        ),
    ] {
        let fault = failed(scene.deploy(&v2, json!({ "chain_path": path })).await);
        assert_eq!(fault.class, Class::Operator);
        assert!(fault.reason.contains(says), "{fault}");
    }
    assert_eq!(look(&dir).kind, Kind::Dir);
    scene.serves(&scene.old).await;
    assert!(scene.host.names("deploy/tgt-nginx").is_empty());
}

#[tokio::test]
async fn two_targets_of_one_certificate_have_links_of_their_own() {
    let scene = Scene::serving().await;
    let mut second = Nginx::new();
    for name in ["tls/cert.pem", "tls/key.pem"] {
        fs::copy(scene.nginx.path(name), second.path(name)).unwrap();
    }
    second.start().await;
    let v2 = scene.version(2);
    assert!(confirmed(&scene.deploy(&v2, json!({})).await));
    let failing = json!({ "reload": "/bin/true", "verify_timeout": "1s" });
    rolled_back(scene.deploy_to("tgt-second", &second, &v2, failing).await);
    assert!(
        fs::symlink_metadata(second.path("tls/cert.pem"))
            .unwrap()
            .is_file()
    );
    scene.serves(&v2).await;
    assert!(confirmed(
        &scene.deploy_to("tgt-second", &second, &v2, json!({})).await
    ));
    let v3 = scene.version(3);
    for n in [3, 4] {
        let version = if n == 3 { v3.clone() } else { scene.version(n) };
        assert!(confirmed(&scene.deploy(&version, json!({})).await));
    }
    // The second target still needs what it serves.
    assert_eq!(scene.host.names("versions/cert-1"), ["2", "3", "4"]);
    assert!(!confirmed(
        &scene.deploy_to("tgt-second", &second, &v2, json!({})).await
    ));
}
