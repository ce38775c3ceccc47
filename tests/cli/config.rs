//! Settings: their sources, what is shown of them, and every fault at once.

use super::{
    home::Home,
    process::{certctl, run},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, process::Command};

const SECRET: &str = "ctl_a-secret-that-nobody-is-to-see";

/// `certctl --config <file> <line>`
fn with(file: &Path, line: &str) -> Command {
    let mut args = vec!["--config", file.to_str().unwrap()];
    args.extend(line.split(' '));
    certctl(args)
}

fn written(home: &Home, text: &str) -> std::path::PathBuf {
    let file = home.beside("certctl.toml");
    fs::write(&file, text).unwrap();
    file
}

/// What `config show` says: value and source by name.
fn shown(text: &str) -> BTreeMap<String, (Value, String)> {
    let rows: Vec<Value> = serde_json::from_str(text).unwrap();
    let row = |row: Value| {
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        (text("name"), (row["value"].clone(), text("source")))
    };
    rows.into_iter().map(row).collect()
}

#[test]
fn flags_lead_variables_which_lead_the_file_which_leads_the_defaults() {
    let home = Home::new();
    let file = written(
        &home,
        "server_port = 9000\nserver_host = \"::1\"\ndata_dir = \"/file\"\nlog_level = \"warn\"\n",
    );
    let mut command = with(&file, "config show --output json --data-dir /flag");
    command.env("CERTCTL_DATA_DIR", "/variable");
    command.env("CERTCTL_SERVER_HOST", "0.0.0.0");
    // Not set, though it is there.
    command.env("CERTCTL_LOG_LEVEL", "");
    let found = shown(&run(&mut command).good());
    let from_file = file.to_str().unwrap();
    for (name, value, source) in [
        ("CERTCTL_DATA_DIR", json!("/flag"), "--data-dir"),
        ("CERTCTL_SERVER_HOST", json!("0.0.0.0"), "environment"),
        ("CERTCTL_SERVER_PORT", json!("9000"), from_file),
        ("CERTCTL_LOG_LEVEL", json!("warn"), from_file),
        ("CERTCTL_LOG_FORMAT", json!("text"), "default"),
        ("CERTCTL_PUBLIC_URL", Value::Null, "default"),
    ] {
        assert_eq!(found[name], (value, source.to_owned()), "{name}");
    }
    // The file may be named by a variable; a flag leads it.
    let mut command = certctl(["config", "show", "--output", "json"]);
    let found = shown(&run(command.env("CERTCTL_CONFIG", &file)).good());
    assert_eq!(found["CERTCTL_SERVER_PORT"].0, "9000");
    let mut command = with(&file, "config check");
    run(command.env("CERTCTL_CONFIG", "/nosuch.toml")).good();
}

#[test]
fn a_server_obeys_its_file() {
    let home = Home::new();
    let control = home.control();
    let text = format!(
        "data_dir = {:?}\nserver_host = \"{}\"\nserver_port = {}\nlog_format = \"json\"\n",
        home.data(),
        control.ip(),
        control.port()
    );
    let file = written(&home, &text);
    let server = super::process::Process::start(&mut with(&file, "server"));
    let ready = server.line("ready");
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready["address"], control.to_string());
    run(&mut with(&file, "certs list")).good();
}

#[test]
fn a_secret_is_never_shown_wherever_it_comes_from() {
    let home = Home::new();
    let key = home.beside("key");
    fs::write(&key, format!("{SECRET}\r\n")).unwrap();
    let in_file = format!("api_key = \"{SECRET}\"\n");
    let named_in_file = format!("api_key_file = {key:?}\n");
    for (file, variables, source) in [
        ("", vec![("CERTCTL_API_KEY", SECRET)], "environment"),
        (
            "",
            vec![("CERTCTL_API_KEY_FILE", key.to_str().unwrap())],
            key.to_str().unwrap(),
        ),
        (&in_file, vec![], "certctl.toml"),
        (&named_in_file, vec![], key.to_str().unwrap()),
    ] {
        let file = written(&home, file);
        for line in ["config show", "config show --output json", "config check"] {
            let ended = run(with(&file, line).envs(variables.clone()));
            let text = ended.good();
            assert!(!text.contains(SECRET), "{text}");
            if line.contains("json") {
                let (value, said) = &shown(&text)["CERTCTL_API_KEY"];
                assert_eq!(*value, Value::Null);
                assert!(said.ends_with(source), "{said}");
            } else if line.contains("show") {
                assert!(text.contains("(secret)"), "{text}");
            }
        }
    }
}

#[test]
fn every_fault_is_told_at_once_with_its_place_and_changes_nothing() {
    let home = Home::new();
    let text = "server_port = 70000\npubic_url = \"https://x\"\nlog_level = 1.5\n\
                [server]\nhost = \"::\"\n";
    let file = written(&home, text);
    let place = file.to_str().unwrap();
    let wrong = [
        ("CERTCTL_SERVER_HOST", "example.org"),
        ("CERTCTL_NOSUCH", "1"),
        ("CERTCTL_API_KEY", SECRET),
        ("CERTCTL_API_KEY_FILE", "/nosuch"),
        ("CERTCTL_PUBLIC_URL", "http://plain.example"),
    ];
    let expected = [
        ("log_level", Some(place), "a text, a number"),
        ("server", Some(place), "not in tables"),
        (
            "server_port",
            Some(place),
            "a port from 1 to 65535 is expected, not \"70000\"",
        ),
        ("pubic_url", Some(place), "there is no such setting"),
        ("CERTCTL_SERVER_HOST", None, "not \"example.org\""),
        ("CERTCTL_NOSUCH", None, "there is no such setting; unset it"),
        ("CERTCTL_API_KEY", None, "leave one out"),
        ("CERTCTL_PUBLIC_URL", None, "https://certctl.example"),
    ];
    for line in [
        "config check",
        "server",
        "certs list",
        "agent",
        "config show",
    ] {
        let ended = run(with(&file, line).envs(wrong));
        assert_eq!(ended.status.code(), Some(78), "{ended:?}");
        let told = ended.stderr.lines().count();
        assert_eq!(told, 1 + expected.len(), "{}", ended.stderr);
        assert!(!ended.stderr.contains(SECRET));
    }
    let ended = run(with(&file, "config check --output json").envs(wrong));
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(said["valid"], false);
    let faults = said["faults"].as_array().unwrap();
    for (setting, file, part) in expected {
        let found = faults.iter().any(|f| {
            let message = f["message"].as_str().unwrap();
            f["setting"] == setting && f["file"] == json!(file) && message.contains(part)
        });
        assert!(found, "{setting}: {part} is not in {faults:?}");
    }
    assert!(!home.data().exists());
}

/// What settings name, and what they mean together, is looked at before anything starts.
#[test]
fn files_listeners_and_the_sockets_path_are_looked_at_too() {
    let home = Home::new();
    let (no_pem, long) = (home.beside("ca.pem"), "x".repeat(108));
    fs::write(&no_pem, "not PEM").unwrap();
    let missing = home.beside("nosuch.pem");
    let url = |ca: &Path| {
        let ca = ca.display();
        format!("postgres://u:{SECRET}@db.example/d?sslrootcert={ca}")
    };
    let check = |settings: &[(&str, &str)], faults: &[(&str, &str)]| {
        for line in ["config check", "server"] {
            let ended = run(home.command(line).envs(settings.iter().copied()));
            assert_eq!(ended.status.code(), Some(78), "{ended:?}");
            let told: Vec<&str> = ended.stderr.lines().skip(1).collect();
            for (setting, part) in faults {
                let begins = format!("  {setting}: ");
                let found = |line: &&str| line.starts_with(&begins) && line.contains(part);
                assert!(told.iter().any(found), "{setting}: {part}: {ended:?}");
            }
            assert!(!ended.stderr.contains(SECRET), "{ended:?}");
        }
    };
    let socket = format!("/{long}");
    check(
        &[
            ("CERTCTL_DATABASE_URL", &url(&missing)),
            ("CERTCTL_PKI_HTTP_LISTEN", "127.0.0.1:8443"),
            ("CERTCTL_SERVER_HOST", "0.0.0.0"),
            ("CERTCTL_SOCKET", &socket),
            ("CERTCTL_LOG_LEVEL", "loud"),
        ],
        &[
            ("CERTCTL_DATABASE_URL", "nosuch.pem cannot be read"),
            ("CERTCTL_PKI_HTTP_LISTEN", "meets 0.0.0.0:8443"),
            ("CERTCTL_SOCKET", "109 bytes"),
            ("CERTCTL_LOG_LEVEL", "error, warn, info, debug"),
        ],
    );
    check(
        &[
            ("CERTCTL_DATABASE_URL", &url(&no_pem)),
            ("CERTCTL_PKI_HTTP_LISTEN", "[::]:8443"),
        ],
        &[
            ("CERTCTL_DATABASE_URL", "ca.pem holds no certificate in PEM"),
            ("CERTCTL_PKI_HTTP_LISTEN", "give another port"),
        ],
    );
    // A word that is an address of IPv4 in IPv6 is that address. The socket is made as `.new`.
    let almost = format!("/{}", "x".repeat(103));
    check(
        &[
            ("CERTCTL_PKI_HTTP_LISTEN", "[::ffff:127.0.0.1]:8443"),
            ("CERTCTL_SOCKET", &almost),
        ],
        &[
            ("CERTCTL_PKI_HTTP_LISTEN", "give another port"),
            ("CERTCTL_SOCKET", "104 bytes, and 103 are taken"),
        ],
    );
    // They do not meet; and what only a server reads is nothing to others.
    let bundle = home.beside("bundle.pem");
    let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    let ca = ca.cert.pem();
    fs::write(&bundle, format!("old\n{ca}\nnew\n{ca}")).unwrap();
    let beside = |listen| {
        [
            ("CERTCTL_PKI_HTTP_LISTEN", listen),
            ("CERTCTL_DATA_DIR", "/var/lib/certctl"),
        ]
    };
    for listen in ["127.0.0.2:8443", "[::1]:8443"] {
        let mut good = certctl(["config", "check"]);
        good.env("CERTCTL_DATABASE_URL", url(&bundle));
        run(good.envs(beside(listen))).good();
    }
    // The server's own command line says where it listens, and others are not told.
    let meets = beside("127.0.0.1:8443");
    let ended = run(home.command("migrate status").envs(meets));
    assert_eq!(ended.status.code(), Some(66), "{ended:?}");
    let mut server = home.command("server --listen 127.0.0.1:0 --migrate-only");
    run(server.env("CERTCTL_PKI_HTTP_LISTEN", "127.0.0.1:8443")).good_with_log();
    let mut client = home.command("certs list");
    run(client.env("CERTCTL_DATABASE_URL", url(&missing))).bad(69);
}

#[test]
fn a_file_that_is_none_is_told() {
    let home = Home::new();
    let file = written(&home, "server_port = 8443\n\nserver_host = = 1\n");
    let fault = run(&mut with(&file, "config check"));
    assert_eq!(fault.status.code(), Some(78));
    assert!(fault.stderr.contains("line 3 is not TOML"), "{fault:?}");
    for missing in ["/nosuch.toml", "/"] {
        let ended = run(&mut with(Path::new(missing), "config check"));
        assert_eq!(ended.status.code(), Some(78));
        assert!(ended.stderr.contains("cannot be read"), "{ended:?}");
    }
    fs::write(&file, [0xff, 0xfe]).unwrap();
    let ended = run(&mut with(&file, "config check"));
    assert!(ended.stderr.contains("it is no UTF-8 text"), "{ended:?}");
}

#[test]
fn what_kubernetes_sets_for_services_is_no_setting() {
    let links = [
        ("CERTCTL_SERVER_PORT", "tcp://10.0.0.1:8443"),
        ("CERTCTL_SERVER_PORT_8443_TCP", "tcp://10.0.0.1:8443"),
        ("CERTCTL_SERVER_PORT_8443_TCP_ADDR", "10.0.0.1"),
        ("CERTCTL_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("CERTCTL_SERVER_SERVICE_PORT_HTTPS", "8443"),
        ("CERTCTL_PORT", "tcp://10.0.0.1:8443"),
    ];
    let text = run(certctl(["config", "show", "--output", "json"]).envs(links)).good();
    let found = shown(&text);
    assert_eq!(
        found["CERTCTL_SERVER_PORT"],
        (json!("8443"), "default".into())
    );
}

#[test]
fn the_keys_are_those_of_the_table() {
    let text = run(&mut certctl(["config", "keys", "--output", "json"])).good();
    let keys: Vec<Value> = serde_json::from_str(&text).unwrap();
    let table = run(&mut certctl(["config", "keys"])).good();
    let page = run(&mut certctl(["config", "keys", "--markdown"])).good();
    assert!(keys.len() >= 10);
    for key in &keys {
        let name = key["name"].as_str().unwrap();
        let short = name.strip_prefix("CERTCTL_").unwrap().to_lowercase();
        assert_eq!(key["key"], short);
        assert!(!key["about"].as_str().unwrap().is_empty());
        assert!(table.contains(name) && page.contains(name));
    }
    let secrets = keys.iter().filter(|k| k["secret"] == true);
    let secrets: Vec<_> = secrets.map(|k| k["name"].as_str().unwrap()).collect();
    let expected = [
        "CERTCTL_MACHINE_KEY",
        "CERTCTL_DATABASE_URL",
        "CERTCTL_DATABASE_PASSWORD",
        "CERTCTL_BACKUP_PASSPHRASE",
        "CERTCTL_BACKUP_S3_SECRET_KEY",
        "CERTCTL_AUTH_SECRET",
        "CERTCTL_API_KEYS_NAMED",
        "CERTCTL_API_KEY",
    ];
    assert_eq!(secrets, expected);
}

/// What the check lets pass a start takes, and both say the same of the rest.
#[test]
fn a_start_and_the_check_refuse_the_same_settings() {
    const TO: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let home = Home::new();
    let empty = home.beside("empty");
    fs::write(&empty, "\n").unwrap();
    let empty = empty.to_str().unwrap();
    let daily = ("CERTCTL_BACKUP_SCHEDULE", "02:30");
    let there = ("CERTCTL_BACKUP_SINK", "dir:/var/backups");
    let to = ("CERTCTL_BACKUP_ENCRYPT_TO", TO);
    for (settings, says) in [
        (
            &[daily][..],
            &[
                "CERTCTL_BACKUP_SINK: it goes with",
                "CERTCTL_BACKUP_ENCRYPT_TO: backups hold",
            ][..],
        ),
        (
            &[daily, to, ("CERTCTL_BACKUP_SINK", "backups")],
            &["CERTCTL_BACKUP_SINK: a sink is dir:PATH"],
        ),
        (
            &[daily, to, ("CERTCTL_BACKUP_SINK", "dir:backups")],
            &["an absolute path"],
        ),
        (
            &[daily, to, ("CERTCTL_BACKUP_SINK", "s3://b/p")],
            &["CERTCTL_BACKUP_S3_ENDPOINT: it goes with CERTCTL_BACKUP_SINK"],
        ),
        (
            &[daily, there, ("CERTCTL_BACKUP_ENCRYPT_TO", "ada")],
            &["CERTCTL_BACKUP_ENCRYPT_TO: that is no recipient"],
        ),
        (
            &[daily, there, ("CERTCTL_BACKUP_PASSPHRASE_FILE", empty)],
            &["is empty: write the passphrase"],
        ),
        (
            &[daily, there, to, ("CERTCTL_BACKUP_PASSPHRASE", "hush")],
            &["leave one of them out"],
        ),
        (
            &[("CERTCTL_BACKUP_JOURNAL_SINK", "dir:/j")],
            &["CERTCTL_BACKUP_JOURNAL_SINK: increments follow"],
        ),
        (
            &[("CERTCTL_BACKUP_S3_ACCESS_KEY", "k")],
            &["CERTCTL_BACKUP_S3_SECRET_KEY: it goes with"],
        ),
        (
            &[
                ("CERTCTL_KEEP_JOBS", "2h"),
                ("CERTCTL_KEEP_ORDERS", "1h"),
                ("CERTCTL_SERVER_PORT", "0"),
            ],
            &[
                "CERTCTL_KEEP_JOBS: a day",
                "CERTCTL_KEEP_ORDERS: a day",
                "CERTCTL_SERVER_PORT: ",
            ],
        ),
    ] {
        let refused = |line: &str| {
            let mut command = home.command(line);
            let ended = run(command.envs(settings.iter().copied()));
            assert_eq!(ended.status.code(), Some(78), "{settings:?}: {ended:?}");
            ended.stderr
        };
        let said = refused("config check");
        assert_eq!(refused("server"), said);
        for part in says {
            assert!(said.contains(part), "{part:?} in {said}");
        }
    }
    assert!(!home.data().exists());
    let mut good = home.command("config check");
    run(good.envs([daily, there, to])).good();
}
