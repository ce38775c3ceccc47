//! Server, agent and nginx as processes of their own.

use super::scene::{Nginx, fingerprint};
use crate::cli::{
    home::{Home, leaf, served},
    process::{Process, run},
    standalone::agent_of,
};
use serde_json::json;
use std::fs;

#[tokio::test]
async fn issued_deployed_renewed_and_brought_back_with_the_real_server() {
    let home = Home::new();
    let _server = home.server();
    let token = home.token().await;
    let agent = agent_of(&run(&mut home.enrol(&token, &[])).good_with_log());
    let mut nginx = Nginx::new();
    let policy = home.beside("policy.toml");
    let config = nginx.path("nginx.conf");
    fs::write(&policy, format!("configs = [{config:?}]\n")).unwrap();
    let mut agent_command = home.host("");
    agent_command.env("CERTCTL_AGENT_POLICY", policy);
    let _agent = Process::start(&mut agent_command);

    // nginx serves something already: here, what another CA has issued.
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let old = rcgen::CertificateParams::new(names).unwrap();
    let old = old.self_signed(&key).unwrap().pem();
    fs::write(nginx.path("tls/cert.pem"), &old).unwrap();
    fs::write(nginx.path("tls/key.pem"), key.serialize_pem()).unwrap();
    nginx.start().await;

    let target = json!({
        "id": "tgt-www", "name": "www", "type": "NGINX", "agent_id": agent,
        "config": nginx.target(json!({})),
    });
    home.api().post("/targets", target).await;
    let new = json!({
        "id": "www", "name": "www", "common_name": "localhost", "target_ids": ["tgt-www"],
    });
    home.api().post("/certificates", new).await;
    home.api().deployed("www").await;
    let current = home.beside("host/deploy/tgt-www/current");
    let first = leaf(&current);
    let shown = served(nginx.address).await;
    assert_eq!(shown[0].fingerprint_sha256(), first.fingerprint_sha256());
    assert_eq!(shown.len(), 2, "leaf and issuing CA");
    let text = home.run("certs show www").good();
    let endpoint = nginx.address.to_string();
    for part in ["Active", "confirmed", &endpoint] {
        assert!(text.contains(part), "{part:?} in {text}");
    }

    home.run("certs renew www").good();
    let second = served(nginx.address).await.remove(0);
    assert_ne!(second.serial(), first.serial());
    assert_eq!(second.serial(), leaf(&current).serial());

    // What an operator has broken is told, and what is served stays.
    nginx.configure(&nginx.path("tls/cert.pem"), "nonsense;\n");
    let ended = home.run("certs renew www --timeout 30");
    assert!(!ended.status.success(), "{ended:?}");
    let told = format!("{}{}", ended.stdout, ended.stderr);
    assert!(told.contains("nonsense"), "{told}");
    let still = served(nginx.address).await.remove(0);
    assert_eq!(still.fingerprint_sha256(), second.fingerprint_sha256());
    assert_ne!(
        Some(still.fingerprint_sha256().to_owned()),
        fingerprint(&old)
    );
}
