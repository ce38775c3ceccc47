//! What may go wrong with an nginx: the old certificate stays served, and the outcome says why.

use super::scene::*;
use crate::agent::support::*;
use certctl::deploy::{Class, Pair};
use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::json;
use std::fs;

/// nginx with version 2 deployed by us.
async fn deployed() -> (Scene, String) {
    let scene = Scene::serving().await;
    let v2 = scene.version(2);
    assert!(confirmed(&scene.deploy(&v2, json!({})).await));
    (scene, v2)
}

#[tokio::test]
async fn a_broken_configuration_is_found_before_anything_is_changed() {
    let (scene, v2) = deployed().await;
    let v3 = scene.version(3);
    scene
        .nginx
        .configure(&scene.nginx.path("tls/cert.pem"), "nonsense;\n");
    let ended = scene.deploy(&v3, json!({})).await;
    assert!(ended.output.contains("nonsense"), "{}", ended.output);
    let fault = failed(ended);
    assert_eq!(fault.class, Class::Operator);
    assert!(fault.reason.contains("nonsense"), "{fault}");
    assert_eq!(scene.host.journal("tgt-nginx")["version"]["serial"], "2");
    assert_eq!(scene.host.journal("tgt-nginx")["phase"], "committed");
    scene.serves(&v2).await;
}

#[tokio::test]
async fn a_configuration_broken_meanwhile_is_found_after_the_flip() {
    let (mut scene, v2) = deployed().await;
    let v3 = scene.version(3);
    let config = scene.nginx.path("nginx.conf");
    // As it is, of what modules, staged, and then in place.
    scene.host.exec = Meddling::before(4, move || {
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text + "nonsense;\n").unwrap();
    });
    let reason = rolled_back(scene.deploy(&v3, json!({})).await);
    assert!(reason.contains("nonsense"), "{reason}");
    assert_eq!(scene.host.journal("tgt-nginx")["phase"], "rolled_back");
    scene.serves(&v2).await;
    assert_eq!(
        fs::read_to_string(scene.nginx.path("tls/cert.pem")).unwrap(),
        v2
    );
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_before_any_program_runs() {
    let (scene, v2) = deployed().await;
    let (v3, v4) = (scene.version(3), scene.version(4));
    let chain = scene.host.pair("cert-1", &v3).chain().clone();
    let spki = scene
        .host
        .pair("cert-1", &v4)
        .chain()
        .leaf()
        .spki_sha256()
        .to_owned();
    let key = scene
        .host
        .vault()
        .key(&id("cert-1"), &spki)
        .unwrap()
        .unwrap();
    let fault = Pair::new(id("cert-1"), chain, key).err().unwrap();
    assert_eq!(fault.class, Class::Operator);
    assert!(
        fault.reason.contains("does not belong to serial 3"),
        "{fault}"
    );
    scene.serves(&v2).await;
}

#[tokio::test]
async fn a_staged_key_that_was_tampered_with_is_found_by_the_rehearsal() {
    let (mut scene, v2) = deployed().await;
    let (v3, v4) = (scene.version(3), scene.version(4));
    let staged = scene.host.state("versions/cert-1/3/privkey.pem");
    let other = scene.host.pair("cert-1", &v4).key().to_pkcs8_pem();
    scene.host.exec = Meddling::before(3, move || fs::write(staged, other.as_bytes()).unwrap());
    let fault = failed(scene.deploy(&v3, json!({})).await);
    assert_eq!(fault.class, Class::Operator);
    assert!(
        fault.reason.contains("nginx refuses serial 3") && fault.reason.contains("mismatch"),
        "{fault}"
    );
    assert_eq!(scene.host.journal("tgt-nginx")["version"]["serial"], "2");
    scene.serves(&v2).await;
    assert!(
        confirmed(&scene.deploy(&v3, json!({})).await),
        "it is staged again"
    );
}

#[tokio::test]
async fn a_failing_reload_is_rolled_back() {
    let (scene, v2) = deployed().await;
    let v3 = scene.version(3);
    let reload = json!({ "argv": ["/bin/sh", "-c", "echo the disk is on fire; exit 3"] });
    let ended = scene.deploy(&v3, json!({ "reload": reload })).await;
    assert!(
        ended.output.contains("the disk is on fire"),
        "{}",
        ended.output
    );
    assert_eq!(ended.old_fingerprint, fingerprint(&v2));
    let reason = rolled_back(ended);
    assert!(
        reason.contains("exited with code 3: the disk is on fire"),
        "{reason}"
    );
    scene.serves(&v2).await;
    // Killed by itself, and one that is not there at all.
    let reload = json!({ "argv": ["/bin/sh", "-c", "kill -9 $$"] });
    let reason = rolled_back(scene.deploy(&v3, json!({ "reload": reload })).await);
    assert!(reason.contains("was ended by signal 9"), "{reason}");
    let reload = json!({ "argv": ["/nowhere/reload"] });
    let reason = rolled_back(scene.deploy(&v3, json!({ "reload": reload })).await);
    assert!(reason.contains("cannot run /nowhere/reload"), "{reason}");
    scene.serves(&v2).await;
    assert_eq!(scene.host.journal("tgt-nginx")["phase"], "rolled_back");
}

#[tokio::test]
async fn a_hanging_reload_is_killed_with_all_it_started() {
    let (scene, v2) = deployed().await;
    let v3 = scene.version(3);
    let groups = scene.nginx.path("groups");
    let script = format!("echo $$ >> {}; tail -f /dev/null & wait", groups.display());
    let reload = json!({ "argv": ["/bin/sh", "-c", script] });
    let ended = scene
        .deploy(&v3, json!({ "reload": reload, "reload_timeout": "500ms" }))
        .await;
    let reason = rolled_back(ended);
    assert!(
        reason.contains("did not end within 500ms and was killed"),
        "{reason}"
    );
    let groups = fs::read_to_string(groups).unwrap();
    assert_eq!(groups.lines().count(), 2, "to the new version and back");
    for group in groups.lines() {
        let group = Pid::from_raw(group.parse().unwrap());
        // Dead are all; one may wait for its new parent to take note.
        gone(group).await;
    }
    scene.serves(&v2).await;
}

/// Waits until no process of the group is left.
async fn gone(group: Pid) {
    let wait = async {
        let mut every = tokio::time::interval(std::time::Duration::from_millis(10));
        while killpg(group, None::<Signal>) != Err(Errno::ESRCH) {
            every.tick().await;
        }
    };
    let wait = tokio::time::timeout(std::time::Duration::from_secs(10), wait);
    wait.await.expect("a process of the reload is left");
}

#[tokio::test]
async fn a_reload_without_effect_is_rolled_back_and_says_what_is_served() {
    let (scene, v2) = deployed().await;
    let v3 = scene.version(3);
    let ended = scene.deploy(&v3, json!({ "reload": "/bin/true" })).await;
    let reason = rolled_back(ended);
    let still = format!("{} still serves serial 2", scene.nginx.address);
    assert!(reason.contains(&still), "{reason}");
    scene.serves(&v2).await;
    assert!(confirmed(&scene.deploy(&v3, json!({})).await));
}

#[tokio::test]
async fn a_pid_file_that_is_not_there_is_rolled_back() {
    let (scene, v2) = deployed().await;
    let v3 = scene.version(3);
    let missing = json!({ "pid_path": scene.nginx.path("other.pid") });
    let reason = rolled_back(scene.deploy(&v3, missing).await);
    assert!(
        reason.contains("cannot signal") && reason.contains("other.pid"),
        "{reason}"
    );
    scene.serves(&v2).await;
}

#[tokio::test]
async fn an_nginx_that_does_not_run_yet_finds_its_files_when_it_starts() {
    let mut scene = Scene::dark();
    let v2 = scene.version(2);
    let ended = scene.deploy(&v2, json!({})).await;
    assert_eq!(ended.old_fingerprint, None);
    let fault = failed(ended);
    assert_eq!(fault.class, Class::Transient);
    assert!(
        fault.reason.contains("cannot signal") && fault.reason.contains("stays in place"),
        "{fault}"
    );
    scene.nginx.start().await;
    assert!(!confirmed(&scene.deploy(&v2, json!({})).await));
    scene.serves(&v2).await;
}

#[tokio::test]
async fn what_is_in_place_and_not_taken_up_is_reloaded() {
    let scene = Scene::serving().await;
    let v2 = scene.version(2);
    assert!(confirmed(&scene.deploy(&v2, json!({})).await));
    // Someone has nginx serve other files, and then mends the configuration without a reload.
    let other = scene.nginx.path("other.pem");
    fs::write(&other, &scene.old).unwrap();
    let key = scene.host.pair("cert-1", &scene.old).key().to_pkcs8_pem();
    fs::write(scene.nginx.path("other.key"), key.as_bytes()).unwrap();
    let config = scene.nginx.path("nginx.conf");
    let good = fs::read_to_string(&config).unwrap();
    let bad = good
        .replace("tls/cert.pem", "other.pem")
        .replace("tls/key.pem", "other.key");
    fs::write(&config, bad).unwrap();
    let command = ["-s", "reload", "-c", config.to_str().unwrap()];
    let mut reload = std::process::Command::new(BINARY);
    assert!(reload.args(command).status().unwrap().success());
    while scene.served().await != super::scene::ders(&scene.old) {}
    fs::write(&config, good).unwrap();
    assert!(!confirmed(&scene.deploy(&v2, json!({})).await));
    scene.serves(&v2).await;
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_have_is_refused() {
    let (scene, v2) = deployed().await;
    let v3 = scene.version(3);
    let fault = failed(
        scene
            .deploy(&v3, json!({ "server_name": "www.example.org" }))
            .await,
    );
    assert_eq!(fault.class, Class::Operator);
    assert!(fault.reason.contains("www.example.org"), "{fault}");
    scene.serves(&v2).await;
}

#[tokio::test]
async fn a_server_that_reads_other_files_is_rolled_back() {
    let (scene, v2) = deployed().await;
    let v3 = scene.version(3);
    let other = scene.nginx.path("other.pem");
    fs::write(&other, &v2).unwrap();
    let key = scene.host.pair("cert-1", &v2).key().to_pkcs8_pem();
    fs::write(scene.nginx.path("other.key"), key.as_bytes()).unwrap();
    let config = scene.nginx.path("nginx.conf");
    let text = fs::read_to_string(&config).unwrap();
    let text = text
        .replace("tls/cert.pem", "other.pem")
        .replace("tls/key.pem", "other.key");
    fs::write(&config, text).unwrap();
    let reason = rolled_back(scene.deploy(&v3, json!({})).await);
    assert!(reason.contains("still serves serial 2"), "{reason}");
    scene.serves(&v2).await;
}

#[tokio::test]
async fn a_chain_served_without_its_issuers_is_rolled_back() {
    let (scene, v2) = deployed().await;
    let v3 = scene.version(3);
    let leaf_alone = scene.host.state("deploy/tgt-nginx/current/cert.pem");
    scene.nginx.configure(&leaf_alone, "");
    let reason = rolled_back(scene.deploy(&v3, json!({})).await);
    assert!(
        reason.contains("serves serial 3 with another chain"),
        "{reason}"
    );
    assert_eq!(
        scene.served().await[0],
        ders(&v2)[0],
        "the old leaf is back"
    );
    let cert = fs::read_to_string(scene.nginx.path("tls/cert.pem")).unwrap();
    assert_eq!(cert, v2);
}
