//! What a server logs: its form, its lines for each request, and no secret.

use super::{
    home::Home,
    process::{Process, run},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;

/// A server that logs all it can, in this form; its home.
fn server(home: &Home, format: &str) -> Process {
    let mut command = home.quickstart_command();
    command.env("CERTCTL_LOG_LEVEL", "debug");
    command.env("CERTCTL_LOG_FORMAT", format);
    let process = Process::start(&mut command);
    process.line("Ctrl-C stops.");
    process
}

fn ended(process: Process) -> (String, String) {
    process.signal(Signal::SIGTERM);
    let ended = process.end();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    (ended.stdout, ended.stderr)
}

/// A run in which credentials of every kind are made, shown, and refused; the secrets it knows.
async fn busy(home: &Home) -> Vec<String> {
    let first = fs::read_to_string(home.path("first-start.txt")).unwrap();
    let mut secrets: Vec<String> = first
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(_, value)| value.to_owned())
        .filter(|value| value.len() > 20)
        .collect();
    let key = secrets
        .iter()
        .find(|s| s.starts_with("ctl_"))
        .unwrap()
        .clone();
    let api = home.api_by_tls(Some(&key));
    let made = api.post("/agents/tokens", json!({})).await;
    let token = made["token"].as_str().unwrap().to_owned();
    let body = json!({
        "token": token, "name": "second", "hostname": "h", "os": "linux",
        "architecture": "x", "version": "0", "secret_sha256": "a".repeat(64),
    });
    api.post("/agents/enrol", body.clone()).await;
    // Refused, with what was shown.
    let wrong = "ctl_a-key-that-nobody-knows-anything-of";
    let refused = home.api_by_tls(Some(wrong));
    for path in ["/api/v1/certificates", "/api/v1/audit", "/nosuch"] {
        let answer = refused.call(http::Method::GET, path, &Value::Null).await;
        assert!(answer.unwrap().0.is_client_error());
    }
    let agents = home.path("agent");
    secrets.extend([token, wrong.to_owned()]);
    secrets.extend(secrets_below(&agents));
    secrets.push(fs::read_to_string(home.path("machine.key")).unwrap());
    run(&mut home.command("certs renew localhost --timeout 60")).good_with_log();
    secrets
}

/// Secrets in an agent's files: lines of private keys, and what its identity calls secret.
fn secrets_below(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(secrets_below(&path));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.contains("PRIVATE KEY") {
            let lines = text.lines().filter(|line| !line.starts_with("-----"));
            found.extend(lines.filter(|l| l.len() > 20).map(str::to_owned));
        }
        if let Ok(Value::Object(fields)) = serde_json::from_str(&text) {
            let secret = fields.iter().filter(|(name, _)| name.contains("secret"));
            found.extend(secret.filter_map(|(_, v)| v.as_str().map(str::to_owned)));
        }
    }
    found
}

#[tokio::test]
async fn no_secret_is_in_any_output_of_a_busy_run() {
    for format in ["text", "json"] {
        let home = Home::new();
        let process = server(&home, format);
        let secrets = busy(&home).await;
        let (stdout, stderr) = ended(process);
        assert!(secrets.len() >= 6, "{} secrets are known", secrets.len());
        let key = secrets.iter().find(|s| s.starts_with("ctl_")).unwrap();
        for secret in &secrets {
            let secret = secret.trim();
            assert!(!stderr.contains(secret), "a secret is in the log: {secret}");
            // Quickstart prints the key of its own administrator, and nothing else.
            assert!(secret == key || !stdout.contains(secret), "{secret}");
        }
        assert!(stderr.contains("request completed"), "{stderr}");
    }
}

#[tokio::test]
async fn a_line_for_programs_is_an_object_and_says_which_request() {
    let home = Home::new();
    let process = server(&home, "json");
    home.api().get("/certificates").await;
    let (_, stderr) = ended(process);
    let lines: Vec<Value> = stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
        .collect();
    for line in &lines {
        for field in ["time", "level", "msg", "target"] {
            assert!(line[field].is_string(), "{line}");
        }
        line["time"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
    }
    let list = lines.iter().find(|line| {
        line["msg"] == "request completed"
            && line["path"] == "/api/v1/certificates"
            && line["method"] == "GET"
    });
    let list = list.expect("the list's line");
    assert_eq!(list["status"], 200);
    assert!(list["duration_ms"].is_u64());
    assert!(list["remote_addr"].as_str().unwrap().starts_with("local:"));
    assert_eq!(list["request_id"].as_str().unwrap().len(), 36);
    // What is said on the way to an answer has the id of its request.
    let issued = lines.iter().find(|line| line["msg"] == "issued").unwrap();
    let id = &issued["request_id"];
    let of_request = lines.iter().filter(|line| line["request_id"] == *id);
    let messages: Vec<&str> = of_request.filter_map(|line| line["msg"].as_str()).collect();
    assert!(messages.contains(&"request completed"), "{messages:?}");
}

#[tokio::test]
async fn a_level_says_how_much_is_told() {
    for (level, told, untold) in [
        ("debug", "DEBUG", "TRACE"),
        ("info", "INFO", "DEBUG"),
        ("error", "", "INFO"),
    ] {
        let home = Home::new();
        let mut command = home.quickstart_command();
        let process = Process::start(command.env("CERTCTL_LOG_LEVEL", level));
        process.line("Ctrl-C stops.");
        home.api().get("/certificates").await;
        let (_, stderr) = ended(process);
        assert!(stderr.contains(told), "{level}: {stderr}");
        assert!(!stderr.contains(untold), "{level}: {stderr}");
    }
}
