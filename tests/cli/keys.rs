//! `certctl keys` and `certctl roles`, and the keys that the configuration brings.

use super::{
    home::Home,
    process::{certctl, run},
};
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// The secret that a command has printed.
fn secret(said: &str) -> &str {
    let words = said.split_whitespace();
    let mut secrets = words.filter(|word| word.starts_with("ctl_"));
    secrets
        .next()
        .unwrap_or_else(|| panic!("no secret: {said}"))
}

#[test]
fn a_key_is_made_granted_rotated_listed_and_revoked() {
    let home = Home::new();
    let _server = home.server();
    let said = home
        .run("keys create ci --role viewer --expires 90d")
        .good();
    assert!(
        said.contains("key ci (r-viewer); its secret is shown this once"),
        "{said}"
    );
    let first = secret(&said).to_owned();
    let shown = home
        .run("keys grant ci r-operator --issuer iss-local --expires 12h")
        .good();
    assert!(
        shown.contains("r-operator on issuer iss-local until "),
        "{shown}"
    );
    let said = home.run("keys rotate ci --overlap 1h").good();
    assert!(
        said.contains("The secret before it is good until "),
        "{said}"
    );
    assert_ne!(secret(&said), first);
    let listed = home.run("keys list").good();
    for part in ["admin", "ci", "r-viewer", "store"] {
        assert!(listed.contains(part), "{part:?} in {listed}");
    }
    let listed = home.json("keys list");
    assert!(!listed.to_string().contains(&first));
    assert_eq!(listed[1]["role_ids"], json!(["r-viewer", "r-operator"]));
    let shown = home.json("keys ungrant ci operator");
    assert_eq!(shown["role_ids"], json!(["r-viewer"]));
    assert_eq!(home.json("keys show ci"), shown);
    let said = home.run("keys revoke ci").good();
    assert_eq!(said, "The key ci has ended.");
    let fault = home.run("keys show ci").bad(1);
    assert!(fault.contains("there is no key"), "{fault}");
    let fault = home.run("keys revoke admin").bad(1);
    assert!(fault.contains("last key that administrates"), "{fault}");
    assert_eq!(home.run("keys create x").status.code(), Some(2));
}

#[test]
fn a_role_is_made_edited_shown_and_deleted() {
    let home = Home::new();
    let _server = home.server();
    let line = "roles create bots --permission cert.read --permission issuer.read@issuer:iss-local";
    let said = home.run(line).good();
    assert!(
        said.contains("issuer.read") && said.contains("issuer iss-local"),
        "{said}"
    );
    let said = home.json("roles edit bots --add job.read --remove cert.read --description ci");
    assert_eq!(said["role"]["description"], "ci");
    let held = said["permissions"].as_array().unwrap();
    let held: Vec<_> = held
        .iter()
        .map(|p| p["permission"].as_str().unwrap())
        .collect();
    assert_eq!(held, ["issuer.read", "job.read"]);
    let listed = home.run("roles list").good();
    assert!(
        listed.contains("bots") && listed.contains("r-auditor"),
        "{listed}"
    );
    let all = home.json("roles permissions");
    assert_eq!(all.as_array().unwrap().len(), 86);
    let fault = home.run("roles edit bots --remove cert.read").bad(1);
    assert!(fault.contains("does not hold cert.read"), "{fault}");
    let fault = home.run("roles edit r-viewer --add cert.issue").bad(1);
    assert!(fault.contains("part of the program"), "{fault}");
    let fault = home.run("roles create x --permission cert.reed").bad(1);
    assert!(fault.contains("there is no permission"), "{fault}");
    let ended = home.run("roles create x --permission cert.read@planet:x");
    assert_eq!(ended.status.code(), Some(2));
    let said = home.run("roles delete bots").good();
    assert_eq!(said, "The role bots is gone.");
}

/// The names of the keys of the configuration that are in force.
fn configured(keys: &Value) -> Vec<&str> {
    let keys = keys["keys"].as_array().unwrap().iter();
    let keys = keys.filter(|key| key["source"] == "configuration");
    keys.map(|key| key["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_keys_are_swapped_in_their_file_while_they_are_used() {
    const OLD: &str = "an-old-key-of-32-random-characters";
    const NEW: &str = "a-new-key-of-32-random-characters!";
    let home = Home::new();
    let file = home.beside("keys");
    fs::write(&file, format!("ci:{OLD}:r-operator\n")).unwrap();
    let _server = home.server_with(&[
        ("CERTCTL_API_KEYS_NAMED_FILE", file.to_str().unwrap()),
        (
            "CERTCTL_AUTH_SECRET",
            "root-one-of-32-random-characters,root-two-of-32-random-characters",
        ),
        ("CERTCTL_RATE_LIMIT_ENABLED", "false"),
    ]);
    let api = home.api();
    let keys = api.get("/auth/keys").await;
    assert_eq!(configured(&keys), ["legacy-key-0", "legacy-key-1", "ci"]);
    let me = async |key: &str| home.api_by_tls(Some(key)).get("/auth/me").await;
    let root = me("root-two-of-32-random-characters").await;
    assert_eq!(
        (&root["actor_id"], &root["admin"]),
        (&json!("legacy-key-1"), &json!(true))
    );
    assert_eq!(me(OLD).await["roles"], json!(["r-operator"]));

    // Clients go on with the old key and then with the new one; none is refused while both are
    // there.
    let mut clients = JoinSet::new();
    let stop = tokio_util::sync::CancellationToken::new();
    for _ in 0..4 {
        let (api, new, stop) = (
            home.api_by_tls(Some(OLD)),
            home.api_by_tls(Some(NEW)),
            stop.clone(),
        );
        let file = file.clone();
        clients.spawn(async move {
            let mut calls = 0;
            while !stop.is_cancelled() {
                api.get("/auth/me").await;
                calls += 1;
            }
            new.get("/auth/me").await;
            assert!(file.exists());
            calls
        });
    }
    fs::write(&file, format!("ci:{OLD}:r-operator\nci:{NEW}:r-operator\n")).unwrap();
    api.until("/auth/keys", |keys| configured(keys).len() == 4)
        .await;
    stop.cancel();
    let calls: usize = clients.join_all().await.into_iter().sum();
    assert!(calls > 0);

    // A file that cannot be taken changes nothing, and is told of.
    fs::write(&file, "ci\n").unwrap();
    let told = |keys: &Value| {
        keys["configuration_error"]
            .as_str()
            .is_some_and(|e| e.contains("entry 1"))
    };
    let keys = api.until("/auth/keys", told).await;
    assert_eq!(configured(&keys).len(), 4);
    let listed = home.run("keys list").good();
    assert!(listed.contains("stay as they were"), "{listed}");

    // A key that is taken out is refused.
    fs::write(&file, format!("ci:{NEW}:r-operator\n")).unwrap();
    let began = Instant::now();
    api.until("/auth/keys", |keys| configured(keys).len() == 3)
        .await;
    assert!(began.elapsed() < Duration::from_secs(60));
    let old = home.api_by_tls(Some(OLD));
    let refused = old
        .call(http::Method::GET, "/api/v1/auth/me", &Value::Null)
        .await
        .unwrap();
    assert_eq!(refused.0, 401);
    me(NEW).await;
    let fault = home.run("keys rotate ci").bad(1);
    assert!(
        fault.contains("the configuration brings the key"),
        "{fault}"
    );
}

#[test]
fn a_configured_key_whose_role_there_is_not_is_told_of_at_the_start() {
    let home = Home::new();
    let key = "a-key-of-32-random-characters-xy";
    let keys = format!("ci:{key}:r-nosuch,cd:{key}z:r-operator");
    let server = home.server_with(&[("CERTCTL_API_KEYS_NAMED", &keys)]);
    let told = server.line("may do nothing");
    assert!(told.contains("ci") && told.contains("r-nosuch"), "{told}");
}

#[test]
fn a_configuration_of_keys_that_cannot_be_is_refused_before_the_start_without_showing_them() {
    for (text, says) in [
        ("ci", "name:key"),
        ("ci:", "a key of printable"),
        ("c i:secret-secret", "a name is"),
        ("ci:secret-secret,ci:secret-secret", "the same key"),
        ("ci:secret-secret,ci:secret-other:r-admin", "two roles"),
        ("ci:cta_secret", "an agent's credential"),
        ("ci:secret-secret:a:b", "name:key"),
        ("ci:secret-secret:clerk", "no such role"),
    ] {
        let mut command = certctl(["config", "check"]);
        let ended = run(command.env("CERTCTL_API_KEYS_NAMED", text));
        assert_eq!(ended.status.code(), Some(78), "{text}");
        let fault = ended.stderr;
        assert!(
            fault.contains("CERTCTL_API_KEYS_NAMED") && fault.contains(says),
            "{text}: {fault}"
        );
        assert!(!fault.contains("secret-"), "{fault}");
    }
}
