//! Command lines, files and machines that are not as they should be, at the real binary: the exit
//! code says what kind of fault it is, the message names it and what to do, and nothing is changed.

use crate::cli::{
    home::Home,
    process::{certctl, run},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// One command line that must fail.
struct Case {
    name: &'static str,
    command: Command,
    code: i32,
    /// What standard error must name.
    says: Vec<String>,
}

/// Runs each; whatever is wrong with any of them is told at the end.
fn refuse(cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for mut case in cases {
        let ended = run(&mut case.command);
        let name = case.name;
        if ended.status.code() != Some(case.code) {
            wrong.push(format!("{name}: {:?}: {}", ended.status, ended.stderr));
            continue;
        }
        if !ended.stdout.is_empty() {
            wrong.push(format!("{name}: it prints {:?}", ended.stdout));
        }
        for part in case.says {
            if !ended.stderr.contains(&part) {
                wrong.push(format!("{name}: {part:?} is not in {:?}", ended.stderr));
            }
        }
        for raw in ["Os {", "Error(", "Some(", "panicked", "\u{1b}"] {
            if ended.stderr.contains(raw) {
                wrong.push(format!("{name}: {raw:?} is in {:?}", ended.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn case(name: &'static str, command: Command, code: i32, says: &[&str]) -> Case {
    Case {
        name,
        command,
        code,
        says: says.iter().map(|s| (*s).to_owned()).collect(),
    }
}

/// `certctl <line>`.
fn line(name: &'static str, line: &str, code: i32, says: &[&str]) -> Case {
    case(name, certctl(line.split(' ')), code, says)
}

impl Case {
    fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }
}

#[test]
fn command_lines() {
    let usage = |name, words, says| line(name, words, 2, says);
    refuse(vec![
        usage(
            "an unknown command",
            "frobnicate",
            &["frobnicate", "--help"],
        ),
        usage("a command that is nearly one", "cert list", &["certs"]),
        usage("an unknown flag", "certs list --nosuch", &["--nosuch"]),
        usage(
            "a flag without its value",
            "certs list --server",
            &["--server", "value"],
        ),
        usage(
            "a flag twice",
            "certs list --output json --output table",
            &["--output", "multiple times"],
        ),
        usage(
            "an unknown form of output",
            "certs list --output yaml",
            &["yaml", "table, json"],
        ),
        usage("a word too many", "certs show a b", &["'b'"]),
        usage("a word too few", "certs show", &["<CERTIFICATE>"]),
        usage(
            "an id that is none",
            "certs show a/b",
            &["a/b", "an id is 1 to 128 characters"],
        ),
        usage(
            "an empty id",
            "certs show ",
            &["an id is 1 to 128 characters"],
        ),
        usage(
            "a timeout of nothing",
            "certs renew x --timeout 0",
            &["--timeout", "1..=86400"],
        ),
        usage(
            "a timeout that is a word",
            "certs renew x --timeout soon",
            &["--timeout", "soon"],
        ),
        usage(
            "an address that is none",
            "server --listen nowhere",
            &["--listen", "nowhere"],
        ),
        usage(
            "a port beyond ports",
            "server --listen 127.0.0.1:70000",
            &["--listen", "70000"],
        ),
        usage(
            "a name that is none",
            "server --name a@b.example",
            &["--name", "host name or an IP address"],
        ),
        usage(
            "both pin and bundle",
            "agent enrol --token t --ca-pin p --ca-bundle b",
            &["--ca-pin", "--ca-bundle"],
        ),
        usage(
            "both token and file",
            "agent enrol --token t --token-file f",
            &["--token", "--token-file"],
        ),
        usage("no token", "agent enrol --server https://x", &["--token"]),
        usage("an unknown shell", "completions csh", &["csh", "bash"]),
        usage(
            "a target without an agent",
            "targets create x --type File",
            &["--agent"],
        ),
        usage(
            "an unknown measurement",
            "bench everything",
            &["everything"],
        ),
    ]);
}

#[test]
fn settings() {
    let home = Home::new();
    let file = |name: &str, text: &[u8]| {
        let path = home.beside(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let check = |name, variable: &str, value: &str, says: &[&str]| {
        let says = [&[variable.trim_end_matches("_FILE")], says].concat();
        case(name, home.command("server"), 78, &says).env(variable, value)
    };
    let of_file = |name, text: &[u8], says: &[&str]| {
        let path = file(&name_of(name), text);
        let mut command = home.command("server");
        command.args(["--config", &path]);
        let mut case = case(name, command, 78, says);
        case.says.push(path);
        case
    };
    let secret = file("secret", b"two\nlines\n");
    refuse(vec![
        check(
            "an unknown setting",
            "CERTCTL_NOSUCH",
            "1",
            &["no such setting"],
        ),
        check(
            "a host that is a name",
            "CERTCTL_SERVER_HOST",
            "example.org",
            &["IP address"],
        ),
        check("port 0", "CERTCTL_SERVER_PORT", "0", &["1 to 65535"]),
        check(
            "port 65536",
            "CERTCTL_SERVER_PORT",
            "65536",
            &["1 to 65535"],
        ),
        check(
            "a port with a sign",
            "CERTCTL_SERVER_PORT",
            "-1",
            &["1 to 65535"],
        ),
        check(
            "a port that is a word",
            "CERTCTL_SERVER_PORT",
            "https",
            &["1 to 65535", "https"],
        ),
        check(
            "an unknown log level",
            "CERTCTL_LOG_LEVEL",
            "loud",
            &["info"],
        ),
        check(
            "an unknown log format",
            "CERTCTL_LOG_FORMAT",
            "xml",
            &["text or json"],
        ),
        check(
            "a public address by http",
            "CERTCTL_PUBLIC_URL",
            "http://x",
            &["https://"],
        ),
        check(
            "a public address without host",
            "CERTCTL_PUBLIC_URL",
            "https://",
            &["https://"],
        ),
        check(
            "a plain listener without port",
            "CERTCTL_PKI_HTTP_LISTEN",
            "127.0.0.1",
            &["port"],
        ),
        check(
            "a server that is no address",
            "CERTCTL_SERVER_URL",
            "certctl",
            &["https://"],
        ),
        check(
            "a key of two lines",
            "CERTCTL_API_KEY_FILE",
            &secret,
            &["CERTCTL_API_KEY in ", "secret: ", "control characters"],
        ),
        check(
            "a key file that is not there",
            "CERTCTL_API_KEY_FILE",
            "/nosuch",
            &["CERTCTL_API_KEY_FILE: /nosuch cannot be read"],
        ),
        check(
            "a key file that is a directory",
            "CERTCTL_API_KEY_FILE",
            "/",
            &["cannot be read"],
        ),
        check(
            "a key and a file of it",
            "CERTCTL_API_KEY_FILE",
            &secret,
            &["leave one out"],
        )
        .env("CERTCTL_API_KEY", "k"),
        of_file("not TOML", b"server_port = = 1", &["line 1 is not TOML"]),
        of_file("JSON", b"{\"server_port\": 1}", &["line 1 is not TOML"]),
        of_file("not UTF-8", b"server_host = \"\xff\"", &["UTF-8"]),
        of_file("a NUL", b"server_host = \"\0\"", &["line 1 is not TOML"]),
        of_file(
            "a key twice",
            b"log_level = \"info\"\nlog_level = \"warn\"",
            &["line 2 is not TOML"],
        ),
        of_file(
            "an unknown key",
            b"pubic_url = \"https://x\"",
            &["pubic_url", "no such setting"],
        ),
        of_file(
            "a table",
            b"[server]\nport = 1",
            &["server", "not in tables"],
        ),
        of_file(
            "a date",
            b"server_host = 2026-01-01",
            &["server_host", "a text, a number"],
        ),
        of_file(
            "a number beyond numbers",
            b"server_port = 99999999999999999999",
            &["line 1 is not TOML"],
        ),
        of_file(
            "a list where one is wanted",
            b"server_host = [\"::1\", \"::2\"]",
            &["server_host", "IP address"],
        ),
        of_file("a file of 2 MiB", &vec![b'#'; 2 << 20], &["cannot be read"]),
        case(
            "no file",
            {
                let mut c = home.command("server");
                c.args(["--config", "/nosuch.toml"]);
                c
            },
            78,
            &["/nosuch.toml", "cannot be read"],
        ),
        case(
            "a directory for a file",
            {
                let mut c = home.command("server");
                c.args(["--config", "/"]);
                c
            },
            78,
            &["cannot be read"],
        ),
    ]);
    assert!(!home.data().exists());
}

fn name_of(name: &str) -> String {
    name.replace(' ', "-")
}

#[tokio::test]
async fn ways_to_a_server() {
    let home = Home::new();
    let _server = home.server();
    let address = home.control();
    let system = home.path("tls/system-ca.pem");
    let first = fs::read_to_string(home.path("first-start.txt")).unwrap();
    let key = first.lines().find_map(|l| l.strip_prefix("admin key: "));
    let key = key.unwrap();
    let before = events(&home).await;
    let file = |name: &str, text: &[u8]| {
        let path = home.beside(name);
        fs::write(&path, text).unwrap();
        path
    };
    let over = |name, url: &str, ca: &Path, key: &str, code, says: &[&str]| {
        let mut command = home.command("certs list");
        command.args(["--server", url, "--ca-bundle", ca.to_str().unwrap()]);
        case(name, command, code, says).env("CERTCTL_API_KEY", key)
    };
    let to = |name, url: &str, code, says: &[&str]| over(name, url, &system, key, code, says);
    let trusting = |name, ca: &Path, code, says: &[&str]| {
        over(name, &format!("https://{address}"), ca, key, code, says)
    };
    let with_key = |name, key: &str, code, says: &[&str]| {
        over(
            name,
            &format!("https://{address}"),
            &system,
            key,
            code,
            says,
        )
    };
    let by_socket = |name, socket: &Path, code, says: &[&str]| {
        let mut command = certctl(["certs", "list", "--socket"]);
        command.arg(socket);
        case(name, command, code, says)
    };
    let cut = fs::read(&system).unwrap();
    let cut = file("cut.pem", &cut[..cut.len() / 2]);
    let long = Path::new("/tmp").join("x".repeat(200));
    let ip = home.ip;
    refuse(vec![
        to(
            "http",
            &format!("http://{address}"),
            78,
            &["--server", "https://"],
        ),
        to("another scheme", "ldap://x", 78, &["--server", "https://"]),
        to(
            "no scheme",
            &address.to_string(),
            78,
            &["--server", "https://"],
        ),
        to("no host", "https://", 78, &["--server"]),
        to("a space in the host", "https://a b", 78, &["--server"]),
        to(
            "a port beyond ports",
            "https://localhost:70000",
            78,
            &["--server"],
        ),
        to(
            "a port nobody has",
            &format!("https://{ip}:1"),
            69,
            &["check that it is running"],
        ),
        to(
            "a name nobody has",
            "https://nosuch.invalid",
            69,
            &["nosuch.invalid"],
        ),
        trusting(
            "another CA",
            &home.path("tls/local-root-ca.pem"),
            69,
            &["check the CA bundle"],
        ),
        trusting("no bundle", Path::new("/nosuch.pem"), 74, &["/nosuch.pem"]),
        trusting("a directory for a bundle", Path::new("/"), 74, &["/"]),
        trusting(
            "an empty bundle",
            &file("empty", b""),
            78,
            &["CA bundle", "no certificate"],
        ),
        trusting(
            "a bundle that is none",
            &file("none", b"hello"),
            78,
            &["CA bundle", "no certificate"],
        ),
        trusting("a cut bundle", &cut, 78, &["CA bundle", "damaged"]),
        trusting(
            "a bundle of noise",
            &file("noise", &[0xff; 1000]),
            78,
            &["CA bundle"],
        ),
        trusting(
            "a bundle of 5 MiB",
            &file("huge", &vec![b'x'; 5 << 20]),
            74,
            &["huge"],
        ),
        with_key("a wrong key", "ctl_wrong", 1, &["key"]),
        with_key("a key that is none", "x", 1, &["key"]),
        with_key(
            "a key with a line end within",
            "a\nb",
            78,
            &["CERTCTL_API_KEY"],
        ),
        with_key("no key", "", 78, &["CERTCTL_API_KEY"]),
        by_socket(
            "no socket",
            Path::new("/nosuch.sock"),
            69,
            &["/nosuch.sock", "--server"],
        ),
        by_socket(
            "a file for a socket",
            &system,
            69,
            &["system-ca.pem", "start one"],
        ),
        by_socket(
            "a directory for a socket",
            Path::new("/"),
            69,
            &["start one"],
        ),
        by_socket("a socket's path of 200", &long, 69, &["start one"]),
    ]);
    assert_eq!(events(&home).await, before);
}

/// How many events there are: each change is one.
async fn events(home: &Home) -> String {
    home.api().get("/audit?per_page=1").await["total"].to_string()
}

/// A port where no TLS is spoken.
#[tokio::test]
async fn a_plain_port() {
    let home = Home::new();
    let plain = crate::cli::home::own_ip();
    let mut command = home.command(&format!("server --listen {}", home.control()));
    command.env("CERTCTL_PKI_HTTP_LISTEN", format!("{plain}:8080"));
    let server = crate::cli::process::Process::start(&mut command);
    server.line(" ready ");
    let mut command = home.command(&format!("certs list --server https://{plain}:8080"));
    command
        .arg("--ca-bundle")
        .arg(home.path("tls/system-ca.pem"));
    let fault = case("TLS to a plain port", command, 69, &["8080", "TLS"]);
    refuse(vec![fault.env("CERTCTL_API_KEY", "ctl_x")]);
}

#[tokio::test]
async fn files_and_words_for_a_server() {
    let home = Home::new();
    let _server = home.server();
    let (cert, key) = crate::api::foreign_ca("Corporate");
    let (_, other) = crate::api::foreign_ca("Other");
    let locked = openssl_encrypt(&key);
    let token = home.token().await;
    let before = events(&home).await;
    let file = |name: &str, text: &[u8]| {
        let path = home.beside(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cert = file("cert", cert.as_bytes());
    let key = file("key", key.as_bytes());
    let (locked, other) = (
        file("locked", locked.as_bytes()),
        file("other", other.as_bytes()),
    );
    let (noise, empty) = (file("noise", &[0xff; 100]), file("empty", b""));
    let huge = file("huge", &vec![b'x'; 1 << 20]);
    let on = |name, words: &str, code, says: &[&str]| case(name, home.command(words), code, says);
    let import = |name, cert: &str, key: &str, code, says: &[&str]| {
        let words = format!("issuers import --name x --cert {cert} --key {key}");
        on(name, &words, code, says)
    };
    let unlock = |name, passphrase: &str, code, says: &[&str]| {
        let words = format!(
            "issuers import --name x --cert {cert} --key {locked} --passphrase-file {passphrase}"
        );
        on(name, &words, code, says)
    };
    let create = |name, rest: &str, code, says: &[&str]| {
        on(name, &format!("targets create x --type {rest}"), code, says)
    };
    let enrol = |name, other: &[(&str, &str)], code, says: &[&str]| {
        case(name, home.enrol(&token, other), code, says)
    };
    let server = format!("https://{}", home.control());
    let pin = token["ca_pin"].as_str().unwrap();
    let by_file = |name, file: &str, code, says: &[&str]| {
        let words = format!("enrol --server {server} --ca-pin {pin} --token-file {file}");
        case(name, home.host(&words), code, says)
    };
    let wrong_pin = format!("sha256:{}", "0".repeat(64));
    refuse(vec![
        import("no certificate", "/nosuch", &key, 74, &["/nosuch"]),
        import("a directory for a certificate", "/", &key, 74, &["/"]),
        import(
            "a certificate that is noise",
            &noise,
            &key,
            1,
            &["noise", "PEM"],
        ),
        import("an empty certificate", &empty, &key, 1, &["ca_cert_pem"]),
        import("a certificate of 1 MiB", &huge, &key, 74, &["huge"]),
        import("a key for a certificate", &key, &key, 1, &["ca_cert_pem"]),
        import("no key", &cert, "/nosuch", 74, &["/nosuch"]),
        import(
            "an empty key",
            &cert,
            &empty,
            1,
            &["ca_key_pem", "PRIVATE KEY"],
        ),
        import(
            "a certificate for a key",
            &cert,
            &cert,
            1,
            &["ca_key_pem", "PRIVATE KEY"],
        ),
        import(
            "another key",
            &cert,
            &other,
            1,
            &["ca_cert_pem", "does not belong"],
        ),
        import(
            "a locked key",
            &cert,
            &locked,
            1,
            &["ca_key_pem", "passphrase"],
        ),
        unlock("no passphrase", "/nosuch", 74, &["/nosuch"]),
        unlock(
            "a wrong passphrase",
            &empty,
            1,
            &["ca_key_pem", "passphrase is wrong"],
        ),
        unlock("a passphrase that is noise", &noise, 1, &["noise"]),
        on(
            "an unknown reason",
            "certs revoke x --reason boredom",
            1,
            &["reason", "keyCompromise"],
        ),
        on(
            "nothing to revoke",
            "certs revoke none",
            1,
            &["certificate", "none"],
        ),
        on(
            "nothing to export",
            "certs export none",
            1,
            &["certificate", "none"],
        ),
        on(
            "nothing to put away",
            "certs archive none",
            1,
            &["certificate", "none"],
        ),
        on(
            "nothing to look at",
            "certs check none",
            1,
            &["certificate", "none"],
        ),
        on("no issuer", "issuers show none", 1, &["issuer", "none"]),
        on("no agent", "agents show none", 1, &["agent", "none"]),
        on("no job", "jobs show none", 1, &["job", "none"]),
        on(
            "an unknown status of jobs",
            "jobs list --status fine",
            1,
            &["status", "Pending"],
        ),
        create(
            "no setting",
            "File --agent a --set nothing",
            78,
            &["--set", "name=value"],
        ),
        create("a broken object", "File --agent a --set {x", 78, &["--set"]),
        create(
            "a setting without a name",
            "File --agent a --set =1",
            78,
            &["--set", "name=value"],
        ),
        create(
            "an unknown agent",
            "File --agent none",
            1,
            &["agent_id", "none"],
        ),
        create("an unknown type", "Toaster --agent none", 1, &["Toaster"]),
        enrol("a wrong token", &[("--token", "ctj_x")], 1, &["token"]),
        enrol(
            "a pin that is none",
            &[("--ca-pin", "sha256:xyz")],
            78,
            &["--ca-pin", "64"],
        ),
        enrol("another's pin", &[("--ca-pin", &wrong_pin)], 69, &["pin"]),
        enrol(
            "a server by http",
            &[("--server", "http://x")],
            78,
            &["--server", "https://"],
        ),
        enrol(
            "a server nobody runs",
            &[("--server", &format!("https://{}:1", home.ip))],
            69,
            &["running"],
        ),
        enrol(
            "a name of 200",
            &[("--name", &"x".repeat(200))],
            1,
            &["name"],
        ),
        by_file("no token file", "/nosuch", 74, &["/nosuch"]),
        by_file("a directory for a token", "/", 74, &["/"]),
        by_file("an empty token file", &empty, 1, &["token"]),
        by_file("a token of noise", &noise, 1, &["token"]),
        by_file("a token of 1 MiB", &huge, 74, &["huge"]),
        by_file(
            "no token on standard input",
            "-",
            1,
            &["standard input", "join token"],
        ),
    ]);
    assert_eq!(events(&home).await, before);
    assert!(!home.beside("host/identity.json").exists());
}

/// A key under the passphrase "right".
fn openssl_encrypt(key: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, key).unwrap();
    super::openssl(&format!(
        "pkcs8 -topk8 -passout pass:right -in {}",
        path.display()
    ))
}

#[test]
fn hosts_of_agents() {
    let home = Home::new();
    let file = |name: &str, text: &[u8]| {
        let path = home.beside(name);
        fs::write(&path, text).unwrap();
        path
    };
    let policy = |name: &'static str, text: &[u8], says: &[&str]| {
        let mut command = home.host("policy --policy");
        let path = file(&name_of(name), text);
        command.arg(&path);
        let mut case = case(name, command, 78, says);
        case.says.push(path.to_str().unwrap().to_owned());
        case
    };
    let open = file("open", b"");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
    let given = |name, path: &Path, says: &[&str]| {
        let mut command = home.host("policy --policy");
        command.arg(path);
        case(name, command, 78, says)
    };
    let link = home.beside("link");
    std::os::unix::fs::symlink(&open, &link).unwrap();
    refuse(vec![
        policy("no TOML", b"target_types = [", &["TOML"]),
        policy("an unknown rule", b"pathes = [\"/srv\"]", &["pathes"]),
        policy("paths that are a number", b"paths = 1", &["paths"]),
        policy(
            "a path that is relative",
            b"paths = [\"srv\"]",
            &["srv", "absolute"],
        ),
        policy("all paths", b"paths = [\"/\"]", &["/"]),
        policy(
            "a command that is a text",
            b"commands = [\"systemctl reload nginx\"]",
            &["commands"],
        ),
        policy("no UTF-8", b"paths = [\"\xff\"]", &["UTF-8"]),
        given("no policy", Path::new("/nosuch.toml"), &["/nosuch.toml"]),
        given("a directory for a policy", Path::new("/"), &["/"]),
        given(
            "a policy that all may write",
            &open,
            &["open", "chmod go-w"],
        ),
        given(
            "a link to a policy that all may write",
            &link,
            &["chmod go-w"],
        ),
        case(
            "no identity",
            home.host(""),
            78,
            &["holds no identity", "agent enrol"],
        ),
        case(
            "no identity to ping with",
            home.host("ping"),
            78,
            &["holds no identity", "agent enrol"],
        ),
        case(
            "no server named",
            home.host("enrol --token t --ca-pin p"),
            78,
            &["--server"],
        ),
        case(
            "nobody to trust",
            home.host("enrol --token t --server https://x"),
            78,
            &["--ca-pin", "--ca-bundle"],
        ),
    ]);
}

#[test]
fn data_directories() {
    let made = Home::new();
    made.quickstart_to_its_end().good();
    // Each with a copy of a good directory in which one thing is wrong.
    let spoiled = |name: &'static str, code, spoil: &dyn Fn(&Path), says: &[&str]| {
        let dir = made.beside(&name_of(name));
        copy(&made.data(), &dir);
        spoil(&dir);
        let mut command = certctl(["server", "--listen"]);
        command
            .arg(made.control().to_string())
            .arg("--data-dir")
            .arg(&dir);
        case(name, command, code, says).env("CERTCTL_LOG_LEVEL", "error")
    };
    let write = |name: &'static str, text: &'static [u8]| {
        move |dir: &Path| fs::write(dir.join(name), text).unwrap()
    };
    let directory = |name: &'static str| {
        move |dir: &Path| {
            let at = dir.join(name);
            if at.is_dir() {
                fs::remove_dir_all(&at).unwrap();
            } else if at.exists() {
                fs::remove_file(&at).unwrap();
            }
            fs::create_dir(&at).unwrap();
        }
    };
    refuse(vec![
        spoiled(
            "a store that is empty",
            74,
            &write("certctl.redb", b""),
            &["certctl.redb"],
        ),
        spoiled(
            "a store that is text",
            74,
            &write("certctl.redb", b"hello"),
            &["certctl.redb", "damaged", "restore"],
        ),
        spoiled(
            "a store that is zeros",
            74,
            &write("certctl.redb", &[0; 65_536]),
            &["certctl.redb", "damaged", "restore"],
        ),
        spoiled(
            "a store that is a directory",
            74,
            &directory("certctl.redb"),
            &["certctl.redb"],
        ),
        spoiled(
            "a machine key that is empty",
            74,
            &write("machine.key", b""),
            &["machine.key", "64 hexadecimal digits"],
        ),
        spoiled(
            "a machine key that is short",
            74,
            &write("machine.key", b"abcdef"),
            &["machine.key", "64 hexadecimal digits"],
        ),
        spoiled(
            "a machine key of noise",
            74,
            &write("machine.key", &[0xff; 64]),
            &["machine.key"],
        ),
        spoiled(
            "a machine key of another store",
            74,
            &write("machine.key", &[b'a'; 64]),
            &["does not fit this store"],
        ),
        spoiled(
            "a machine key that is a directory",
            74,
            &directory("machine.key"),
            &["machine.key"],
        ),
        spoiled(
            "a machine key of 1 MiB",
            74,
            &|dir| fs::write(dir.join("machine.key"), vec![b'a'; 1 << 20]).unwrap(),
            &["machine.key"],
        ),
        spoiled(
            "a socket's place that is a directory",
            1,
            &directory("certctl.sock"),
            &["certctl.sock"],
        ),
        spoiled(
            "a socket's place that is a file",
            1,
            &write("certctl.sock", b"mine"),
            &["certctl.sock"],
        ),
        spoiled(
            "a directory of TLS that is a file",
            74,
            &|dir| {
                fs::remove_dir_all(dir.join("tls")).unwrap();
                fs::write(dir.join("tls"), "").unwrap();
            },
            &["tls"],
        ),
        case(
            "an empty name",
            certctl(["server", "--data-dir", ""]),
            2,
            &["--data-dir"],
        ),
        case(
            "a file",
            certctl([
                "server",
                "--data-dir",
                made.path("machine.key").to_str().unwrap(),
            ]),
            74,
            &["machine.key", "--data-dir"],
        ),
        case(
            "nowhere",
            certctl(["server", "--data-dir", "/proc/certctl"]),
            74,
            &["/proc/certctl", "--data-dir"],
        ),
    ]);
    // What stood there stands there.
    let kept = made.beside("a-socket's-place-that-is-a-file/certctl.sock");
    assert_eq!(fs::read(kept).unwrap(), b"mine");
    made.quickstart_to_its_end().good();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, at) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &at);
        } else if kind.is_file() {
            fs::copy(entry.path(), at).unwrap();
        }
    }
}
