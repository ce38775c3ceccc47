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
    let steps = plan["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 1, "it is not renewed again: {plan}");
    assert_eq!(steps[0]["does"], "deploy", "{plan}");
    assert_eq!(plan["found"][0]["advice"], json!(null), "{plan}");
    let said = home.run("restore plan").good();
    let row = said.lines().find(|line| line.contains(&second));
    let row = row.unwrap_or_else(|| panic!("{said}"));
    assert!(row.contains("www") && row.contains("taken up"), "{said}");
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

/// A certificate and a target that were made after the backup, too: they are listed with what is to
/// be done, and doing it takes up what the agent has.
#[tokio::test]
async fn a_certificate_made_after_the_backup_is_listed_and_taken_up_when_it_is_made_again() {
    let home = Home::new();
    let server = home.server();
    let token = home.token().await;
    let id = agent_of(&run(&mut home.enrol(&token, &[])).good_with_log());
    let agent = home.agent_process();
    home.certificate("www", &id).await;
    home.api().deployed("www").await;
    let sink = format!("dir:{}", home.beside("backups").display());
    let made = home.json(&format!("backup create --sink {sink} --without-keys"));
    let place = home.beside("backups").join(made["name"].as_str().unwrap());
    home.certificate("late", &id).await;
    home.api().deployed("late").await;
    let live = || leaf(&home.beside("host/live/late"));
    let (serial, ends) = (live().serial().to_string(), live().not_after());
    server.signal(Signal::SIGKILL);
    server.end();

    let line = format!("restore {} --yes --reconcile", place.display());
    home.run(&line).good();
    let _server = home.server();
    let api = home.api();
    let shown = |plan: &serde_json::Value| plan["found"][0]["expires_at"].is_string();
    let plan = api.until("/restore", shown).await;
    assert_eq!(plan["found"].as_array().unwrap().len(), 1, "{plan}");
    let found = &plan["found"][0];
    for (field, is) in [
        ("certificate_id", "late"),
        ("target_id", "tgt-late"),
        ("agent_id", &id),
        ("agent_name", "web-1"),
        ("serial_number", &serial),
    ] {
        assert_eq!(found[field], is, "{plan}");
    }
    for field in ["certificate_name", "target_name", "version_id", "refused"] {
        assert_eq!(found[field], json!(null), "{plan}");
    }
    assert_eq!(found["names"], json!(["www.example.org"]));
    let expires = found["expires_at"].as_str().unwrap();
    assert_eq!(expires[..19], ends.to_string()[..19]);
    let said = home.run("restore plan").good();
    let advice = found["advice"].as_str().unwrap();
    assert!(said.contains(&serial), "{said}");

    home.run("restore unfence").good();
    let commands: Vec<&str> = advice.split('`').skip(1).step_by(2).collect();
    assert_eq!(commands.len(), 2, "{advice}");
    for command in commands {
        let command = command.strip_prefix("certctl ").unwrap();
        let typed = format!("--data-dir {} {command}`", home.data().display());
        assert!(said.contains(&typed), "{said}");
        home.run(command).good();
    }
    let taken_up = |plan: &serde_json::Value| plan["found"][0]["version_id"].is_string();
    let plan = api.until("/restore", taken_up).await;
    assert_eq!(plan["found"][0]["advice"], json!(null), "{plan}");
    let versions = api.get("/certificates/late/versions").await;
    assert_eq!(versions["total"], 1, "nothing was issued anew: {versions}");
    assert_eq!(versions["data"][0]["serial_number"], serial.as_str());
    api.deployed("late").await;
    assert_eq!(live().serial().to_string(), serial);
    assert_eq!(api.get("/certificates/late").await["status"], "Active");
    drop(agent);
}
