//! `certctl agents` and `certctl agent ping`: operators and hosts, each as a process.

use super::{
    home::Home,
    process::{Process, certctl, run},
    standalone::agent_of,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

/// A server, and a host that has joined it; the agent's id.
async fn joined(home: &Home) -> (Process, String) {
    let server = home.server();
    let token = home.token().await;
    let said = run(&mut home.enrol(&token, &[])).good_with_log();
    (server, agent_of(&said))
}

impl Home {
    fn joined_agent(&self) -> Process {
        let agent = Process::start(&mut self.host(""));
        agent.line("agent opened");
        agent
    }

    fn ping(&self) -> Command {
        self.host("ping")
    }

    /// The steps of a ping, as programs read them, and its exit code.
    fn steps(&self, command: &mut Command) -> (Vec<Value>, i32) {
        let ended = run(command.args(["--output", "json"]));
        let steps = serde_json::from_str(&ended.stdout).unwrap();
        (steps, ended.status.code().unwrap())
    }
}

fn failed(steps: &[Value]) -> Vec<&str> {
    let bad = steps.iter().filter(|s| s["ok"] == false);
    bad.map(|s| s["check"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_token_is_made_listed_shown_and_revoked() {
    let home = Home::new();
    let _server = home.server();
    assert_eq!(
        home.run("agents token list").good(),
        "There are no join tokens."
    );
    let line = "agents token create --name rack-7 --expires 2h --max-uses 3 --for web-* --replace";
    let said = home.run(line).good();
    assert!(said.contains("lets in 3 agents until "), "{said}");
    let command = said.lines().last().unwrap().trim();
    assert!(command.starts_with("echo ctj_"), "{command}");
    assert!(
        command.contains("| certctl agent enrol --server https://"),
        "{command}"
    );
    let secret = command.split(' ').nth(1).unwrap();
    let listed = home.run("agents token list").good();
    for part in ["rack-7", "valid", "0/3", "web-*", "yes"] {
        assert!(listed.contains(part), "{part:?} in {listed}");
    }
    assert!(
        !listed.contains(secret) && !home.json("agents token list").to_string().contains(secret)
    );
    let id = home.json("agents token list")[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = home.run(&format!("agents token show {id}")).good();
    assert!(
        shown.contains("0 of 3") && !shown.contains(secret),
        "{shown}"
    );

    // Another name is not let in.
    let token = serde_json::json!({
        "token": secret, "ca_pin": command.split(' ').find(|w| w.starts_with("sha256:")).unwrap(),
    });
    let fault = run(&mut home.enrol(&token, &[("--name", "db-1")])).bad(1);
    assert!(fault.contains("web-*"), "{fault}");
    run(&mut home.enrol(&token, &[])).good_with_log();

    let revoked = home.run(&format!("agents token revoke {id}")).good();
    assert!(revoked.contains("revoked"), "{revoked}");
    home.run(&format!("agents token revoke {id}")).good();
    let mut other = home.enrol(&token, &[("--name", "web-2")]);
    let fault = run(other.arg("--state-dir").arg(home.beside("other"))).bad(1);
    assert!(fault.contains("was revoked"), "{fault}");
    let fault = home.run("agents token show tok-none").bad(1);
    assert_eq!(fault, r#"there is no join token "tok-none""#);
    for (line, part) in [
        ("agents token create --expires 0s", "expires_in_seconds"),
        ("agents token create --max-uses 0", "max_uses"),
        ("agents token create --for *a*", "for: "),
    ] {
        let fault = home.run(line).bad(1);
        assert!(fault.contains(part), "{fault}");
    }
    let ended = home.run("agents token create --expires soon");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

#[tokio::test]
async fn a_join_token_is_read_from_a_file_or_standard_input() {
    let home = Home::new();
    let _server = home.server();
    let token = home.token().await;
    let text = |field: &str| token[field].as_str().unwrap().to_owned();
    let file = home.beside("token");
    fs::write(&file, format!("{}\n", text("token"))).unwrap();
    let line = format!(
        "enrol --server https://{} --ca-pin {} --name web-1 --token-file",
        home.control(),
        text("ca_pin")
    );
    let empty = run(home.host(&line).arg("-").stdin(Stdio::null())).bad(1);
    assert!(
        empty.contains("standard input holds no join token"),
        "{empty}"
    );
    let said = run(home
        .host(&line)
        .arg("-")
        .stdin(fs::File::open(&file).unwrap()));
    let id = agent_of(&said.good_with_log());
    let said = run(home.host(&line).arg(&file)).good_with_log();
    assert_eq!(agent_of(&said), id);
}

#[tokio::test]
async fn a_retired_agent_stops_well_and_stays_stopped() {
    let home = Home::new();
    let (_server, id) = joined(&home).await;
    let agent = home.joined_agent();
    home.certificate("www", &id).await;
    home.api().deployed("www").await;
    let listed = home.run("agents list").good();
    for part in [&id, "web-1", "Online", env!("CARGO_PKG_VERSION")] {
        assert!(listed.contains(part), "{part:?} in {listed}");
    }
    let shown = home.run("agents show web-1").good();
    for part in [
        &id,
        "Online",
        "tgt-www",
        "as the server's",
        "It has no open jobs.",
    ] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    let fault = home.run("agents retire web-1").bad(1);
    assert!(
        fault.contains("1 target, 1 certificate and 0 open jobs"),
        "{fault}"
    );
    let fault = home.run("agents retire web-1 --force").bad(1);
    assert!(fault.starts_with("reason: "), "{fault}");
    let said = home
        .run("agents retire web-1 --force --reason moved")
        .good();
    assert!(
        said.contains("agent web-1 is retired, and with it 1 targets"),
        "{said}"
    );

    let ended = agent.end();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stdout.contains("has retired this agent"), "{ended:?}");
    assert!(ended.stderr.contains("moved"), "{ended:?}");
    // A service manager, or somebody by hand.
    let again = run(&mut home.host(""));
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(again.stderr.contains("moved"), "{again:?}");
    // What it served is left in place.
    assert!(home.beside("host/live/www/cert.pem").exists());

    assert_eq!(home.json("agents list"), serde_json::json!([]));
    let retired = home.run("agents list --retired").good();
    assert!(
        retired.contains(&id) && retired.contains("moved"),
        "{retired}"
    );
    let twice = home.run(&format!("agents retire {id}")).good();
    assert!(twice.contains("was retired before"), "{twice}");
    let fault = home.run("agents show web-1").bad(1);
    assert!(fault.contains("no agent with the id or name"), "{fault}");
    let (steps, code) = home.steps(&mut home.ping());
    assert_eq!((failed(&steps), code), (vec!["credential"], 1), "{steps:?}");

    // The host joins again when its identity is out of the way.
    let token = home.token().await;
    let fault = run(&mut home.enrol(&token, &[])).bad(1);
    assert!(
        fault.contains("moved") && fault.contains("identity directory"),
        "{fault}"
    );
    fs::remove_dir_all(home.beside("host/identity")).unwrap();
    let said = run(&mut home.enrol(&token, &[])).good_with_log();
    assert_ne!(agent_of(&said), id);
    let agent = home.joined_agent();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end().status.code(), Some(0));
}

#[tokio::test]
async fn a_ping_says_that_the_way_is_good_and_disturbs_nothing() {
    let home = Home::new();
    let (_server, id) = joined(&home).await;
    let heard = |home: &Home| home.json("agents list")[0]["last_heartbeat_at"].clone();
    let before = heard(&home);
    let said = run(&mut home.ping()).good_with_log();
    for part in [
        "identity",
        &id,
        "TLS",
        "accepted",
        "the server's",
        "ms",
        "as this program",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert!(!said.contains("FAILED"), "{said}");
    assert_eq!(heard(&home), before, "a ping is no sign of life");
    // Beside a running agent too, and by the agent's own name.
    let _agent = home.joined_agent();
    let name = home.beside("certctl-agent");
    symlink(env!("CARGO_BIN_EXE_certctl"), &name).unwrap();
    let mut command = Command::new(&name);
    command
        .env_clear()
        .arg("ping")
        .arg("--state-dir")
        .arg(home.beside("host"));
    let (steps, code) = home.steps(&mut command);
    assert_eq!((failed(&steps), code), (vec![], 0), "{steps:?}");
    let checks: Vec<_> = steps.iter().map(|s| s["check"].as_str().unwrap()).collect();
    assert_eq!(
        checks,
        [
            "identity",
            "name",
            "connection",
            "credential",
            "clock",
            "round trip",
            "server"
        ]
    );
}

#[tokio::test]
async fn a_ping_says_where_the_way_ends_and_what_to_do() {
    let home = Home::new();
    let fault = run(&mut home.ping()).bad(78);
    assert!(fault.contains("certctl agent enrol"), "{fault}");
    let (server, _) = joined(&home).await;
    let path = home.beside("host/identity/agent.json");
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let other = Home::new();
    let other_server = other.server();
    let other_ca = fs::read_to_string(other.path("tls/system-ca.pem")).unwrap();
    let nowhere = format!("https://{}", Home::new().control());
    for (field, value, check, remedy) in [
        (
            "server_url",
            "https://nosuch.invalid:8443",
            "name",
            "/etc/hosts",
        ),
        ("server_url", nowhere.as_str(), "connection", "firewall"),
        (
            "system_ca_pem",
            other_ca.as_str(),
            "connection",
            "set up anew",
        ),
        ("secret", "another", "credential", "enrol this host again"),
        (
            "agent_id",
            "agt-none",
            "credential",
            "enrol this host again",
        ),
    ] {
        let mut bad = good.clone();
        bad[field] = value.into();
        fs::write(&path, bad.to_string()).unwrap();
        let (steps, code) = home.steps(&mut home.ping());
        assert_eq!(
            (failed(&steps), code),
            (vec![check], 1),
            "{field}: {steps:?}"
        );
        let last = steps.last().unwrap();
        let says = last["remedy"].as_str().unwrap();
        assert!(says.contains(remedy), "{field}: {last}");
        let table = run(&mut home.ping());
        assert!(table.stdout.contains("FAILED"), "{table:?}");
        assert!(table.stderr.contains(check), "{table:?}");
    }
    fs::write(&path, good.to_string()).unwrap();
    assert_eq!(home.steps(&mut home.ping()).1, 0);
    server.kill();
    drop(other_server);
    let (steps, _) = home.steps(&mut home.ping());
    assert_eq!(failed(&steps), ["connection"]);
}

#[tokio::test]
async fn the_binary_is_the_server_by_the_servers_name() {
    let home = Home::new();
    let name = home.beside("certctl-server");
    symlink(env!("CARGO_BIN_EXE_certctl"), &name).unwrap();
    let mut command = Command::new(&name);
    command.env_clear().arg("--data-dir").arg(home.data());
    command.arg("--listen").arg(home.control().to_string());
    let server = Process::start(&mut command);
    server.line(" ready ");
    home.run("agents list").good();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().status.code(), Some(0));
    // What is to be typed next begins with a program that takes it, and names what was named.
    let (config, lost) = (home.beside("no settings.toml"), home.beside("lost"));
    fs::write(&config, "").unwrap();
    fs::create_dir(&lost).unwrap();
    fs::write(lost.join("machine.key"), "").unwrap();
    let spaced = home.beside("a b");
    fs::create_dir(&spaced).unwrap();
    let ours = spaced.join("certctl");
    symlink(env!("CARGO_BIN_EXE_certctl"), &ours).unwrap();
    let quoted = format!("'{}'", ours.display());
    for (program, args, typed) in [
        (&name, [].as_slice(), "certctl"),
        (&ours, &["server"], &quoted),
    ] {
        let mut command = Command::new(program);
        command.env_clear().args(args).arg("--config").arg(&config);
        command.arg("--data-dir").arg(&lost);
        command.args(["--socket", "/run/x.sock"]);
        let fault = run(&mut command).stderr;
        let next = format!(
            "`{typed} --config '{}' --data-dir {} --socket /run/x.sock restore BACKUP`",
            config.display(),
            lost.display()
        );
        assert!(fault.contains(&next), "{next} in {fault}");
    }
    let help = run(&mut certctl(["agent", "--help"])).good();
    assert!(help.contains("ping") && help.contains("enrol"), "{help}");
}
