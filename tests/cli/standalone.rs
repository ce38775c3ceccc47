//! Server and agent as processes of their own, as installed hosts have them.

use super::{
    home::{Home, leaf, served},
    process::{Process, certctl, run},
};
use certctl::sys::Machine;
use serde_json::{Value, json};
use std::{fs, process::Command};

impl Home {
    pub fn server(&self) -> Process {
        self.server_with(&[])
    }

    /// A server with these settings.
    pub fn server_with(&self, settings: &[(&str, &str)]) -> Process {
        let mut command = self.command(&format!("server --listen {}", self.control()));
        command.envs(settings.iter().copied());
        let server = Process::start(&mut command);
        server.line(" ready ");
        server
    }

    /// `certctl agent ...` with the state directory of this test's host.
    pub fn host(&self, line: &str) -> Command {
        let mut command = certctl(["agent", "--state-dir"]);
        command.arg(self.beside("host"));
        command.args(line.split(' ').filter(|word| !word.is_empty()));
        command
    }

    /// A join token, as the API gives it.
    pub async fn token(&self) -> Value {
        self.api()
            .post("/agents/tokens", json!({"name": "t"}))
            .await
    }

    /// `agent enrol` for the token, but with these words in place.
    pub fn enrol(&self, token: &Value, other: &[(&str, &str)]) -> Command {
        let text = |field: &str| token[field].as_str().unwrap().to_owned();
        let url = format!("https://{}", self.control());
        let mut words = [
            ("--server", url),
            ("--token", text("token")),
            ("--ca-pin", text("ca_pin")),
            ("--name", "web-1".into()),
        ];
        for (flag, value) in other {
            let word = words.iter_mut().find(|(f, _)| f == flag).unwrap();
            word.1 = (*value).to_owned();
        }
        let line: Vec<_> = words.iter().map(|(f, v)| format!("{f} {v}")).collect();
        self.host(&format!("enrol {}", line.join(" ")))
    }

    pub fn agent_process(&self) -> Process {
        let agent = Process::start(&mut self.host(""));
        agent.line("agent opened");
        agent
    }

    /// The serial number that the host's `live/<certificate>` holds.
    fn host_serial(&self, certificate: &str) -> String {
        leaf(&self.beside("host/live").join(certificate))
            .serial()
            .to_string()
    }

    /// A certificate with one `File` target on the agent.
    pub async fn certificate(&self, id: &str, agent: &str) {
        let target = json!({
            "id": format!("tgt-{id}"), "name": id, "type": "File", "agent_id": agent, "config": {},
        });
        self.api().post("/targets", target).await;
        let new = json!({
            "id": id, "name": id, "common_name": "www.example.org",
            "target_ids": [format!("tgt-{id}")],
        });
        self.api().post("/certificates", new).await;
    }
}

/// The agent's id, out of what `enrol` says.
pub fn agent_of(said: &str) -> String {
    let (_, rest) = said.split_once("enrolled as web-1 (").unwrap();
    rest.split_once(')').unwrap().0.to_owned()
}

#[tokio::test]
async fn the_servers_certificate_has_the_names_it_is_reached_by() {
    let home = Home::new();
    let line = "server --listen 0.0.0.0:0 --name Server.example --name 192.0.2.7";
    let mut command = home.command(line);
    command.env("CERTCTL_PUBLIC_URL", "https://[2001:db8::7]:443/certctl");
    let server = Process::start(&mut command);
    let ready = server.line(" ready ");
    let port = ready.rsplit_once("0.0.0.0:").unwrap().1;
    let port = port.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let leaf = served(address).await.remove(0);
    let found: Vec<String> = leaf.sans().iter().map(ToString::to_string).collect();
    let machine = Machine::addresses().into_iter().map(|ip| ip.to_string());
    let named = ["localhost", "server.example", "192.0.2.7", "2001:db8::7"].map(String::from);
    for name in named.into_iter().chain(machine) {
        assert!(found.contains(&name), "{name} is not in {found:?}");
    }
    for url in ["certctl.example", "http://certctl.example", "https://a_b^/"] {
        let mut command = home.command("server");
        let ended = run(command.env("CERTCTL_PUBLIC_URL", url));
        assert_eq!(ended.status.code(), Some(78), "{ended:?}");
        assert!(ended.stderr.contains("CERTCTL_PUBLIC_URL"), "{ended:?}");
    }
    let ended = run(&mut home.command("server --name a@b.example"));
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

#[tokio::test]
async fn a_host_joins_and_serves_through_restarts_of_either_side() {
    let home = Home::new();
    let server = home.server();
    let token = home.token().await;
    let said = run(&mut home.enrol(&token, &[])).good_with_log();
    let id = agent_of(&said);
    let mut agent = home.agent_process();

    home.certificate("www", &id).await;
    home.api().deployed("www").await;
    let shown = home.run("certs show www").good();
    for part in ["Active", "confirmed", "host/live/www"] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    let first = home.host_serial("www");
    assert!(shown.contains(&first), "{shown}");
    // The server never has the key.
    assert!(!home.path("agent").exists() && !home.path("live").exists());

    agent.kill();
    let waiting = home.json("certs renew www --no-wait");
    assert_eq!(waiting["order_ids"].as_array().unwrap().len(), 1);
    let ended = home.run("certs renew www --timeout 1");
    assert!(ended.stdout.contains("begun      agent web-1"), "{ended:?}");
    let fault = ended.bad(1);
    assert!(fault.contains("goes on by itself: agent web-1"), "{fault}");
    agent = home.agent_process();
    home.run("certs renew www").good();
    assert_ne!(home.host_serial("www"), first);

    server.kill();
    let fault = home.run("certs list").bad(69);
    assert!(fault.contains("start one"), "{fault}");
    let server = home.server();
    let before = home.host_serial("www");
    home.run("certs renew www").good();
    assert_ne!(home.host_serial("www"), before);

    for process in [agent, server] {
        process.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(process.end().status.code(), Some(0));
    }
}

#[tokio::test]
async fn the_command_that_comes_with_a_token_enrols() {
    let home = Home::new();
    let _server = home.server();
    let token = home.token().await;
    let command = token["command"].as_str().unwrap();
    let secret = token["token"].as_str().unwrap();
    let (before, arguments) = command.split_once(" | ").unwrap();
    assert_eq!(before, format!("echo {secret}"));
    assert!(!arguments.contains(secret), "every user sees arguments");
    let ours = format!(
        "{} agent --state-dir {}",
        env!("CARGO_BIN_EXE_certctl"),
        home.beside("host").display()
    );
    let typed = command.replace("certctl agent", &ours);
    let shell = || run(Command::new("sh").env_clear().args(["-c", &typed])).good_with_log();
    let said = shell();
    assert!(said.contains("certctl agent --state-dir"), "{said}");
    // Done again it is the same agent, though the token is used up.
    assert_eq!(shell(), said);
    let _agent = home.agent_process();
}

#[tokio::test]
async fn an_enrolment_that_cannot_be_is_told_in_one_line() {
    let (home, nowhere) = (Home::new(), Home::new());
    let _server = home.server();
    let token = home.token().await;
    let pin = format!("sha256:{:064}", 0);
    let away = format!("https://{}", nowhere.control());
    let no_url = home.control().to_string();
    for (other, code, part) in [
        (("--token", "ctj_wrong"), 1, "refused the join token"),
        (("--ca-pin", pin.as_str()), 69, "check the CA bundle or pin"),
        (("--ca-pin", "sha256:00"), 78, "--ca-pin: "),
        (("--server", away.as_str()), 69, "check that it is running"),
        (("--server", no_url.as_str()), 78, "such as https://"),
    ] {
        let ended = run(&mut home.enrol(&token, &[other]));
        let fault = ended.bad(code);
        assert!(fault.contains(part), "{part:?} in {fault}");
    }
    let agent = run(&mut home.host(""));
    let fault = agent.bad(78);
    assert!(fault.contains("certctl agent enrol"), "{fault}");

    // None of it spent the token.
    let said = run(&mut home.enrol(&token, &[])).good_with_log();
    let _agent = home.agent_process();
    let second = run(home.host("").env("CERTCTL_LOG_LEVEL", "error"));
    let fault = second.bad(75);
    assert!(fault.contains("another agent runs on"), "{fault}");

    // It is used up now, and the name is taken.
    let other = home.beside("other");
    let elsewhere = |token: &Value| {
        let mut command = home.enrol(token, &[]);
        run(command.arg("--state-dir").arg(&other))
    };
    let fault = elsewhere(&token).bad(1);
    assert!(fault.contains("refused the join token"), "{fault}");
    let fault = elsewhere(&home.token().await).bad(1);
    assert!(fault.contains("choose another --name"), "{fault}");
    assert!(said.contains("web-1"));
    assert!(fs::read_dir(&other).unwrap().count() > 0);
}
