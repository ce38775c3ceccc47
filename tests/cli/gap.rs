//! What was issued between a backup and its restore is taken up from the agents that have it.

use super::{
    home::{Home, leaf},
    process::run,
    standalone::agent_of,
};
use nix::sys::signal::Signal;
use serde_json::json;

#[tokio::test]
async fn a_version_issued_after_the_backup_is_known_again_and_can_be_revoked() {
    let home = Home::new();
    let server = home.server();
    let token = home.token().await;
    let id = agent_of(&run(&mut home.enrol(&token, &[])).good_with_log());
    let agent = home.agent_process();
    home.certificate("www", &id).await;
    home.api().deployed("www").await;
    let serial = || {
        let leaf = leaf(&home.beside("host/live/www"));
        (leaf.serial().to_string(), leaf.not_after())
    };
    let (first, _) = serial();
    let sink = format!("dir:{}", home.beside("backups").display());
    let made = home.json(&format!("backup create --sink {sink} --without-keys"));
    let place = home.beside("backups").join(made["name"].as_str().unwrap());
    home.run("certs renew www").good();
    let (second, not_after) = serial();
    assert_ne!(first, second);
    server.signal(Signal::SIGKILL);
    server.end();

    let line = format!("restore {} --yes --reconcile", place.display());
    home.run(&line).good();
    let _server = home.server();
    let api = home.api();
    let taken_up = |plan: &serde_json::Value| plan["found"][0]["version_id"].is_string();
    let plan = api.until("/restore", taken_up).await;
    assert_eq!(plan["fenced"], true, "before anybody lifts the fence");
    assert_eq!(plan["found"][0]["serial_number"], second.as_str(), "{plan}");
    assert_eq!(plan["found"].as_array().unwrap().len(), 1, "{plan}");
    assert_eq!(plan["renew"], json!([]), "{plan}");
    let said = home.run("restore plan").good();
    assert!(
        said.contains("Issued after the backup: www serial"),
        "{said}"
    );
    let events = api.get("/audit?action=version_taken_up").await;
    assert_eq!(events["data"][0]["details"]["serial"], second.as_str());

    home.run("restore unfence").good();
    let confirmed = |rows: &serde_json::Value| {
        let rows = rows["data"].as_array().unwrap();
        rows.iter().any(|row| {
            let deployment = &row["deployment"];
            deployment["state"] == "confirmed" && deployment["serial_number"] == second.as_str()
        })
    };
    api.until("/certificates/www/deployments", confirmed).await;
    assert_eq!(serial().0, second, "nothing was issued anew");
    let shown = api.get("/certificates/www").await;
    assert_eq!(shown["status"], "Active", "{shown}");
    let ends = shown["expires_at"].as_str().unwrap();
    assert_eq!(ends[..19], not_after.to_string()[..19]);

    let reason = json!({"reason": "keyCompromise"});
    api.post("/certificates/www/revoke", reason).await;
    let list = api
        .bytes("/.well-known/pki/crl/ca-local-issuing/0.crl")
        .await;
    let list: String = list.iter().map(|byte| format!("{byte:02x}")).collect();
    for serial in [&first, &second] {
        assert!(list.contains(serial.as_str()), "{serial} is not revoked");
    }
    home.run("audit verify").good();
    drop(agent);
}
