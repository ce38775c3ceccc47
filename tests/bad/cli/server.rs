//! Commands that speak to a server: the way to it, and what they send.

use super::{case, refuse};
use crate::{
    bad::openssl,
    cli::{
        home::{Home, own_ip},
        process::{Process, certctl},
    },
};
use std::{fs, path::Path};

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
    let plain = own_ip();
    let mut command = home.command(&format!("server --listen {}", home.control()));
    command.env("CERTCTL_PKI_HTTP_LISTEN", format!("{plain}:8080"));
    let server = Process::start(&mut command);
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
    openssl(&format!(
        "pkcs8 -topk8 -passout pass:right -in {}",
        path.display()
    ))
}
