//! `certs deploy`, `targets` and `jobs`, on the real binary.

use super::{
    home::{Home, served},
    process::run,
};
use serde_json::json;

#[tokio::test]
async fn what_is_asked_is_followed_to_its_end() {
    let home = Home::new();
    let _running = home.quickstart();
    let targets = home.json("targets list");
    assert_eq!(targets.as_array().unwrap().len(), 2);
    let of = |kind: &str| {
        let all = targets.as_array().unwrap();
        let target = all.iter().find(|t| t["type"] == kind).unwrap();
        target["id"].as_str().unwrap().to_owned()
    };
    let (files, site) = (of("File"), of("Site"));
    let serial = home.live_serial("localhost");

    // Again, and nothing is to be changed.
    let said = home.run("certs deploy localhost").good();
    for part in [&files, &site, "unchanged", "serves serial"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let jobs = home.json("certs deploy localhost --dry-run");
    for job in jobs.as_array().unwrap() {
        assert_eq!(job["status"], "Completed", "{job}");
        let findings = job["last_attempt"]["findings"].to_string();
        assert!(findings.contains("is in place already"), "{findings}");
    }
    let said = home
        .run(&format!("certs deploy localhost --target {site} --no-wait"))
        .good();
    assert!(said.contains(&site) && !said.contains(&files), "{said}");
    let said = home.run(&format!("targets test {site}")).good();
    for part in ["passed", "the agent listens on", &serial] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let shown = home.run(&format!("targets show {site}")).good();
    for part in ["Site", "success", "the agent listens on"] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    let shown = home.run("certs show localhost").good();
    assert!(shown.contains("unchanged after "), "{shown}");
    assert_eq!(home.live_serial("localhost"), serial);

    let jobs = home.json("jobs list --type deployment --status completed");
    let job = jobs[0]["id"].as_str().unwrap();
    let shown = home.run(&format!("jobs show {job}")).good();
    for part in [job, "Deployment", "Completed (succeeded)", "last attempt"] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    let limited = home.json("jobs list --limit 2");
    assert_eq!(limited.as_array().unwrap().len(), 2);
    let listed = home.run("jobs list --certificate localhost").good();
    assert!(
        listed.contains(&format!("localhost on {files}")),
        "{listed}"
    );
    let fault = home.run(&format!("jobs cancel {job}")).bad(1);
    assert!(fault.contains("has ended already"), "{fault}");

    // A place that cannot be used is made, tested, and taken away again.
    let agent = home.agent().await;
    let taken = served(home.site()).await;
    assert!(!taken.is_empty());
    let listen = home.control();
    let made = home.json(&format!(
        "targets create other --type Site --agent {agent} --config listen={listen}"
    ));
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["config"], json!({"listen": listen.to_string()}));
    let fault = home.run(&format!("targets test {id} --output json"));
    let fault = fault.bad(1);
    assert!(fault.contains("another program answers on"), "{fault}");
    let fault = home.run(&format!("targets delete {site}")).bad(1);
    assert!(
        fault.contains("used by 1 certificate(s): localhost"),
        "{fault}"
    );
    home.run(&format!("targets delete {id}")).good();
    let fault = home.run(&format!("targets show {id}")).bad(1);
    assert!(fault.contains("there is no target"), "{fault}");

    for (line, code, part) in [
        (
            "certs deploy nosuch".to_owned(),
            1,
            "there is no certificate",
        ),
        (
            format!("certs deploy localhost --target {id}"),
            1,
            "target_id: ",
        ),
        ("targets test nosuch".into(), 1, "there is no target"),
        ("jobs show nosuch".into(), 1, "there is no job"),
        ("jobs list --status x".into(), 1, "status: "),
        (
            format!("targets create x --type Site --agent {agent} --config listen"),
            78,
            "--config: ",
        ),
        (
            format!("targets create x --type Site --agent {agent} --config {{]"),
            78,
            "--config: ",
        ),
        (
            format!(
                "targets create x --type Site --agent {agent} --config listen=127.0.0.1:1 --config port=1"
            ),
            1,
            "config.port",
        ),
    ] {
        let fault = home.run(&line).bad(code);
        assert!(fault.contains(part), "{line}: {fault}");
    }
}

#[tokio::test]
async fn an_agent_that_is_away_is_waited_for_and_a_job_can_be_cancelled() {
    let home = Home::new();
    let _server = home.server();
    let token = home.token().await;
    let said = run(&mut home.enrol(&token, &[])).good_with_log();
    let agent = super::standalone::agent_of(&said);
    home.certificate("www", &agent).await;
    let said = home.run("targets test tgt-www --no-wait").good();
    assert!(said.contains("waits for agent web-1"), "{said}");
    let ended = home.run("targets test tgt-www --timeout 1");
    assert!(ended.stdout.contains("waits for agent web-1"), "{ended:?}");
    let fault = ended.bad(1);
    assert!(fault.contains("it goes on by itself"), "{fault}");
    let jobs = home.json("jobs list --type targettest --status pending");
    assert_eq!(jobs.as_array().unwrap().len(), 1);
    let job = jobs[0]["id"].as_str().unwrap();
    let said = home.run(&format!("jobs cancel {job}")).good();
    assert_eq!(said.trim(), format!("{job} is cancelled"));
    assert_eq!(
        home.json(&format!("jobs show {job}"))["status"],
        "Cancelled"
    );
    let fault = home.run("certs deploy www").bad(1);
    assert!(fault.contains("no version yet"), "{fault}");
}
