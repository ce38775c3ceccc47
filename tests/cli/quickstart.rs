//! `certctl quickstart`: the first run, the running product, the next run.

use super::{
    home::{Home, leaf, served},
    process::AMPLE,
};
use certctl::crypt::PrivateKey;
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

#[test]
fn the_first_run_tells_each_step_and_leaves_the_certificate_on_disk() {
    let home = Home::new();
    let began = Instant::now();
    let said = home.quickstart_to_its_end().good();
    assert!(began.elapsed() < Duration::from_secs(5), "{said}");
    let link = home.path("live/localhost");
    let steps = [
        format!("control plane on https://{}, data in", home.control()),
        "enrolled and started".into(),
        "certificate localhost for localhost, 127.0.0.1".into(),
        format!("issued     serial {}", home.live_serial("localhost")),
        format!("confirmed  local files seen served at {}", link.display()),
        format!("confirmed  local site seen served at {}", home.site()),
    ];
    assert_eq!(said.lines().count(), steps.len(), "{said}");
    for step in &steps {
        let told = said.lines().filter(|line| line.contains(step)).count();
        assert_eq!(told, 1, "{step:?} in {said}");
    }
    assert!(said.lines().next().unwrap().contains(&steps[0]), "{said}");

    let key = fs::read_to_string(link.join("privkey.pem")).unwrap();
    let key = PrivateKey::from_pkcs8_pem(&key).unwrap();
    assert_eq!(leaf(&link).public_key(), key.public_key());
    assert!(!home.path("certctl.sock").exists());
    let public = public_files(&home.data());
    let public: Vec<_> = public.iter().map(|name| name.as_str()).collect();
    assert_eq!(
        public,
        [
            "cert.pem",
            "chain.pem",
            "fullchain.pem",
            "local-root-ca.pem",
            "system-ca.pem"
        ]
    );
}

#[test]
fn what_is_served_is_checked_at_once() {
    let home = Home::new();
    let _running = home.quickstart();
    let said = home.run("certs check localhost").good();
    for part in ["local site", &home.site().to_string(), "current version"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    fs::remove_file(home.path("live/localhost")).unwrap();
    let ended = home.run("certs check localhost --output json");
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let states = told["data"].as_array().unwrap().iter();
    let states: Vec<_> = states.filter_map(|row| row["state"].as_str()).collect();
    assert!(states.contains(&"nothing"), "{told}");
    assert!(
        ended
            .bad_json(1)
            .contains("is not served with its current version")
    );
    // The server has it put in place again by itself.
    let ends = Instant::now() + AMPLE;
    while !home.path("live/localhost/cert.pem").exists() {
        assert!(Instant::now() < ends, "the link is not back");
        home.run("certs check localhost");
    }
}

#[test]
fn the_policy_of_a_host_is_shown() {
    let home = Home::new();
    let said = home.run("agent policy").good();
    assert!(said.contains("built in"), "{said}");
    let path = home.beside("policy.toml");
    fs::write(&path, "paths = [\"/srv/tls\"]\n").unwrap();
    let line = format!("agent policy --policy {} --output json", path.display());
    let told: Value = serde_json::from_str(&home.run(&line).good()).unwrap();
    assert_eq!(told["paths"], serde_json::json!(["/srv/tls"]));
    assert_eq!(told["file"], path.to_str().unwrap());
    fs::write(&path, "path = 1\ncommands = 2\n").unwrap();
    let fault = home.run(&line).bad_json(78);
    for part in ["path: there is no such key", "commands: a list"] {
        assert!(fault.contains(part), "{part} in {fault}");
    }
}

#[test]
fn while_it_runs_its_files_are_its_users_alone() {
    let home = Home::new();
    let _running = home.quickstart();
    let mode = |name: &str| fs::symlink_metadata(home.path(name)).unwrap().mode() & 0o7777;
    for name in ["certctl.redb", "machine.key", "first-start.txt"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(mode("live/localhost/privkey.pem"), 0o600);
    assert_eq!(mode("live/localhost/fullchain.pem"), 0o644);
    assert_eq!(mode("certctl.sock"), 0o660);
    assert_eq!(mode(""), 0o700);
    public_files(&home.data());
}

/// The names, each once, of the files that somebody else than their owner may read. None of them
/// holds a secret, and nothing may be written by others; the socket is its group's too.
fn public_files(dir: &Path) -> Vec<String> {
    let mut public = Vec::new();
    for path in files_below(dir) {
        let found = fs::symlink_metadata(&path).unwrap();
        if found.file_type().is_socket() || found.file_type().is_symlink() {
            continue;
        }
        assert_eq!(found.mode() & 0o022, 0, "{path:?}");
        if found.mode() & 0o077 != 0 {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{path:?}");
            assert!(!text.contains("PRIVATE"), "{path:?}");
            public.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    public.sort();
    public.dedup();
    public
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

#[tokio::test]
async fn it_answers_where_and_as_it_says() {
    let home = Home::new();
    let running = home.quickstart();
    let address = running.line("Dashboard  ");
    let address = address.strip_prefix("Dashboard  https://").unwrap();
    assert_eq!(address, home.control().to_string());
    let ca = running.line("CA         ");
    let ca = PathBuf::from(ca.strip_prefix("CA         ").unwrap());
    let control = home.control();

    let answer = https(control, &ca, &rustls::version::TLS13, "/health").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"status":"healthy"}"#), "{answer}");
    let error = https(control, &ca, &rustls::version::TLS12, "/health").unwrap_err();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let other = home.path("tls/local-root-ca.pem");
    let error = https(control, &other, &rustls::version::TLS13, "/health").unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let answer = plain(control);
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    assert!(answer.contains("use https:// in the address"), "{answer}");

    let key = running.line("Admin key  ");
    let key = key.strip_prefix("Admin key  ").unwrap();
    let list = home.api_by_tls(Some(key)).get("/certificates").await;
    assert_eq!(list["data"][0]["id"], "localhost");
    for key in [None, Some("ctl_no")] {
        let api = home.api_by_tls(key);
        let answer = api.call(Method::GET, "/api/v1/certificates", &Value::Null);
        assert_eq!(answer.await.unwrap().0, StatusCode::UNAUTHORIZED);
    }

    let chain = served(home.site()).await;
    assert_eq!(chain[0].serial().to_string(), home.live_serial("localhost"));
    let answer = https(home.site(), &other, &rustls::version::TLS13, "/").unwrap();
    assert!(answer.contains(&home.live_serial("localhost")), "{answer}");
}

#[tokio::test]
async fn the_commands_it_prints_work() {
    let home = Home::new();
    let running = home.quickstart();
    let before = home.live_serial("localhost");
    let said = running.stdout();
    let printed: Vec<_> = said
        .iter()
        .filter_map(|line| line.strip_prefix(&format!("  {} ", env!("CARGO_BIN_EXE_certctl"))))
        .collect();
    let data = home.data().display().to_string();
    let commands = [
        "certs list",
        "certs show localhost",
        "certs renew localhost",
    ];
    let expected = commands.map(|c| format!("--data-dir {data} {c}"));
    assert_eq!(printed, expected);

    let list = home.run(commands[0]).good();
    let (header, row) = list.split_once('\n').unwrap();
    for (column, value) in [
        ("ID", "localhost"),
        ("NAMES", "127.0.0.1"),
        ("STATUS", "Active"),
        ("NEXT", "renews "),
    ] {
        assert!(header.contains(column) && row.contains(value), "{list}");
    }
    let list = home.json(commands[0]);
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["status"], "Active");
    assert_eq!(list[0]["holders"][0]["plan"], "scheduled");

    let show = home.run(commands[1]).good();
    for part in ["Active", "renewal at", &before, "local site", "confirmed"] {
        assert!(show.contains(part), "{part:?} in {show}");
    }
    let show = home.json(commands[1]);
    assert_eq!(show["id"], "localhost");
    for target in show["targets"].as_array().unwrap() {
        assert_eq!(target["deployment"]["state"], "confirmed");
        assert_eq!(target["deployment"]["serial_number"], before);
    }

    let told = home.run(commands[2]).good();
    let after = home.live_serial("localhost");
    assert_ne!(after, before);
    assert!(
        told.contains(&format!("issued     serial {after}")),
        "{told}"
    );
    assert_eq!(told.matches("confirmed  ").count(), 2, "{told}");
    assert_eq!(served(home.site()).await[0].serial().to_string(), after);
    let orders = home.json(commands[2]);
    let last = home.live_serial("localhost");
    assert_eq!(orders[0]["state"], "issued");
    assert_eq!(orders[0]["serial_number"], last.as_str());
    assert_eq!(served(home.site()).await[0].serial().to_string(), last);

    // The first version is two renewals old: key and files are gone, the record stays.
    let versions = home.path("agent/versions/localhost");
    assert!(versions.join(&last).exists() && !versions.join(&before).exists());
    let kept = fs::read_dir(home.path("agent/keys/localhost")).unwrap();
    assert_eq!(kept.count(), fs::read_dir(versions).unwrap().count());
    let show = home.json(commands[1]);
    let versions = show["versions"].as_array().unwrap();
    let serials = versions
        .iter()
        .map(|v| v["serial_number"].as_str().unwrap());
    let serials: Vec<_> = serials.collect();
    assert_eq!(serials, [&last, &after, &before]);
}

#[tokio::test]
async fn it_stops_when_told_and_finds_everything_again() {
    let home = Home::new();
    let mut running = home.quickstart();
    let key = running.line("Admin key  ");
    let chain = served(home.site()).await;
    let cas = ["tls/system-ca.pem", "tls/local-root-ca.pem"].map(|name| home.path(name));
    let made = cas.each_ref().map(|ca| fs::read(ca).unwrap());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        running.signal(signal);
        let told = Instant::now();
        running.end().good();
        assert!(told.elapsed() < GRACE, "{signal}");

        running = home.quickstart();
        assert_eq!(running.line("Admin key  "), key);
        assert_eq!(served(home.site()).await, chain);
        assert_eq!(cas.each_ref().map(|ca| fs::read(ca).unwrap()), made);
        let list = home.json("certs list");
        assert_eq!(list.as_array().unwrap().len(), 1);
        let versions = &home.json("certs show localhost")["versions"];
        assert_eq!(versions.as_array().unwrap().len(), 1);
    }
    fs::remove_file(home.path("first-start.txt")).unwrap();
    running.signal(Signal::SIGTERM);
    running.end().good();
    let running = home.quickstart();
    let said = running.line("Admin key  ");
    assert!(said.contains("first-start.txt is gone"), "{said}");
    assert!(!home.path("first-start.txt").exists());
}

/// A process that is told to end has this long.
const GRACE: Duration = Duration::from_secs(25);

/// The answer to a request over exactly this version of TLS, or why the handshake failed.
fn https(
    address: SocketAddr,
    ca: &Path,
    version: &'static SupportedProtocolVersion,
    path: &str,
) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tcp = connect(address);
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).map_err(|e| e.to_string())?;
    }
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    ask(&mut stream, path);
    Ok(read(&mut stream))
}

/// The answer to a request without TLS.
fn plain(address: SocketAddr) -> String {
    let mut tcp = connect(address);
    ask(&mut tcp, "/health");
    read(&mut tcp)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a client that is not the product's"
)]
fn connect(address: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(AMPLE)).unwrap();
    tcp
}

/// In one piece: who does not speak TLS may be answered after its first byte.
fn ask(stream: &mut impl Write, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

fn read(stream: &mut impl Read) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
