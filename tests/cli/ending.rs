//! Revoked, archived and exported by the real binary, and what others see of it: openssl checks
//! leaves against the lists that the plain HTTP listener serves.

use super::{
    home::Home,
    process::{AMPLE, Process, run},
};
use certctl::pki::Certificate;
use serde_json::json;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// What is there over plain HTTP.
#[expect(
    clippy::disallowed_methods,
    reason = "a client of plain HTTP is not the product's"
)]
async fn fetch(from: SocketAddr, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(from).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(AMPLE, stream.read_to_end(&mut answer)).await;
    read.expect("the server answers").unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    answer[end + 4..].to_vec()
}

/// What openssl says, and whether it agrees.
fn openssl(dir: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).current_dir(dir).output();
    let output = output.expect("openssl is needed");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// A server that says in its certificates where its lists are, and serves them over plain HTTP.
struct Published {
    home: Home,
    plain: SocketAddr,
    dir: PathBuf,
    _server: Process,
}

impl Published {
    async fn start() -> Self {
        let home = Home::new();
        let plain = SocketAddr::new(home.ip, 8080);
        let mut command = home.command(&format!("server --listen {}", home.control()));
        command.env("CERTCTL_PUBLIC_URL", format!("https://{}", home.control()));
        command.env("CERTCTL_PKI_HTTP_LISTEN", plain.to_string());
        let server = Process::start(&mut command);
        server.line(" ready ");
        let dir = home.beside("desk");
        fs::create_dir(&dir).unwrap();
        Self {
            home,
            plain,
            dir,
            _server: server,
        }
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.dir.join(name), bytes).unwrap();
    }

    /// A certificate of a requester, its leaf in `<id>.pem`.
    async fn certificate(&self, id: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let csr = csr.serialize_request(&key).unwrap().pem().unwrap();
        let body = json!({
            "id": id, "name": id, "common_name": "www.example.org", "csr_pem": csr,
        });
        self.home.api().post("/certificates", body).await;
        let export = self.home.json(&format!("certs export {id}"));
        self.put(&format!("{id}.pem"), export["cert_pem"].as_str().unwrap());
    }

    /// Of an extension of the leaf, the URL; its path is served here.
    fn url(&self, id: &str, extension: &str) -> String {
        let leaf = format!("{id}.pem");
        let (_, said) = openssl(
            &self.dir,
            &["x509", "-in", &leaf, "-noout", "-ext", extension],
        );
        let url = said
            .lines()
            .find_map(|line| line.split_once("URI:"))
            .map(|(_, url)| url);
        let url = url.unwrap_or_else(|| panic!("no URL: {said}")).trim();
        let base = format!("https://{}", self.home.control());
        url.strip_prefix(&base).unwrap().to_owned()
    }

    /// Fetches lists and issuer as a leaf names them; what openssl then says to it.
    async fn verified(&self, id: &str, check: &str) -> (bool, String) {
        let issuer = fetch(self.plain, &self.url(id, "authorityInfoAccess")).await;
        let issuer = Certificate::from_der(&issuer).unwrap();
        self.put("issuing.pem", issuer.pem());
        let list = fetch(self.plain, &self.url(id, "crlDistributionPoints")).await;
        self.put("issuing.crl", list);
        let list = fetch(self.plain, "/.well-known/pki/crl/ca-local-root/0.crl").await;
        self.put("root.crl", list);
        let root = fs::read(self.home.path("tls/local-root-ca.pem")).unwrap();
        self.put("root.pem", root);
        let mut lists = String::new();
        for name in ["issuing.crl", "root.crl"] {
            let (good, pem) = openssl(&self.dir, &["crl", "-inform", "DER", "-in", name]);
            assert!(good, "{pem}");
            lists += &pem;
        }
        self.put("lists.pem", lists);
        let leaf = format!("{id}.pem");
        openssl(
            &self.dir,
            &[
                "verify",
                check,
                "-x509_strict",
                "-CAfile",
                "root.pem",
                "-untrusted",
                "issuing.pem",
                "-CRLfile",
                "lists.pem",
                &leaf,
            ],
        )
    }
}

#[tokio::test]
async fn openssl_sees_a_revocation_in_the_list_that_the_leaf_names() {
    let server = Published::start().await;
    for id in ["web", "other"] {
        server.certificate(id).await;
    }
    for check in ["-crl_check", "-crl_check_all"] {
        let (good, said) = server.verified("web", check).await;
        assert!(good, "{check}: {said}");
    }
    let home = &server.home;
    let said = home.run("certs revoke web --reason keyCompromise").good();
    assert_eq!(said, "web is revoked");
    for check in ["-crl_check", "-crl_check_all"] {
        let (good, said) = server.verified("web", check).await;
        assert!(
            !good && said.contains("certificate revoked"),
            "{check}: {said}"
        );
        let (good, said) = server.verified("other", check).await;
        assert!(good, "{check}: {said}");
    }
    let said = home.run("certs revoke web --reason keyCompromise").bad(1);
    assert!(said.contains("revoked already"), "{said}");
    let said = home.run("certs revoke other --reason dislike").bad(1);
    assert!(said.contains("reason: "), "{said}");
    let shown = home.json("certs show web");
    assert_eq!(shown["status"], "Revoked");
    assert_eq!(shown["revocation_reason"], "keyCompromise");

    let archived = home.json("certs archive other");
    assert_eq!(archived["status"], "archived");
    assert_eq!(home.json("certs show other")["status"], "Archived");
    assert!(home.run("certs archive nosuch").bad(1).contains("nosuch"));

    let audit = home.json("audit list --id web --action certificate_revoked");
    assert_eq!(audit.as_array().unwrap().len(), 1);
    let id = audit[0]["id"].as_str().unwrap();
    let shown = home.run(&format!("audit show {id}")).good();
    assert!(shown.contains("keyCompromise"), "{shown}");
    let lines = home.run("audit export --from 2020-01-01T00:00:00Z --to 2020-02-01T00:00:00Z");
    assert_eq!(lines.good(), "");
    let verified = home.run("audit verify").good();
    assert!(verified.contains("follow from one another"), "{verified}");
    let status = home.run("status").good();
    assert!(status.contains("certificates 2: "), "{status}");
}

#[tokio::test]
async fn versions_are_exported_in_each_format() {
    let server = Published::start().await;
    server.certificate("web").await;
    let home = &server.home;
    let pem = home.run("certs export web").good();
    let file = server.dir.join("web-full.pem");
    let said = home
        .run(&format!("certs export web --out {}", file.display()))
        .good();
    assert!(said.contains("is written to"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), pem.trim());

    server.put("password", "s3cret\n");
    let line = format!(
        "certs export web --format pkcs12 --out {0}/web.p12 --password-file {0}/password",
        server.dir.display()
    );
    home.run(&line).good();
    let args = [
        "pkcs12",
        "-in",
        "web.p12",
        "-passin",
        "pass:s3cret",
        "-nokeys",
    ];
    let (good, said) = openssl(&server.dir, &args);
    assert!(good && said.contains("BEGIN CERTIFICATE"), "{said}");
    let ended = home.run("certs export web --format pkcs12");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

#[tokio::test]
async fn many_are_revoked_by_a_filter_once_they_were_counted() {
    let server = Published::start().await;
    for id in ["a", "b"] {
        server.certificate(id).await;
    }
    let home = &server.home;
    let said = home.run("certs revoke --filter issuer=iss-local").bad(1);
    assert_eq!(said, "2 certificate(s) fit: add --yes to have them revoked");
    assert_eq!(home.json("certs show a")["status"], "Active");
    let ended = home.run("certs revoke --filter colour=red --yes");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let ended = home.run("certs revoke a --filter issuer=iss-local");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let ended = home.run("certs revoke");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let owner = json!({"id": "o-1", "name": "Ann"});
    home.api().post("/owners", owner).await;
    home.run("certs reassign a b --owner o-1").good();
    let said = home.run("certs revoke --filter owner=o-1 --reason superseded --yes");
    assert_eq!(said.good(), "2 revoked, 0 had ended already, 0 failed");
    let said = home
        .run("certs renew --filter issuer=iss-local --yes")
        .good();
    assert_eq!(said, "0 being renewed, 2 need not be, 0 failed");
}

#[tokio::test]
async fn issuers_and_targets_are_made_edited_tested_and_deleted() {
    let home = Home::new();
    let _server = home.server();
    let made =
        home.json("issuers create Corp --id corp --key-algorithm ECDSA-P384 --permit example.org");
    assert_eq!(made["config"]["key_algorithm"], "ECDSA-P384");
    assert_eq!(home.run("issuers test corp").good(), "corp can issue");
    let edited = home.json("issuers edit corp --name Inside --disable");
    assert_eq!(edited["name"], "Inside");
    assert_eq!(edited["enabled"], false);
    let listed = home.run("issuers list").good();
    assert!(listed.contains("switched off"), "{listed}");
    let ended = home.run("issuers edit corp");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert_eq!(home.run("issuers delete corp").good(), "corp is deleted");
    assert!(
        home.run("issuers delete iss-local")
            .bad(1)
            .contains("always there")
    );

    let token = home.token().await;
    run(&mut home.enrol(&token, &[])).good_with_log();
    let agent = home.json("agents list")[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    home.run(&format!(
        "targets create web --type File --agent {agent} --id tgt-web"
    ))
    .good();
    let edited = home.json("targets edit tgt-web --name shop --set verify_timeout=9s");
    assert_eq!(edited["name"], "shop");
    assert_eq!(edited["config"], json!({"verify_timeout": "9s"}));
    let edited = home.json("targets edit tgt-web --set verify_timeout=null");
    assert_eq!(edited["config"], json!({}));
    let ended = home.run("targets edit tgt-web");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

/// With the key, on the host that has it.
#[tokio::test]
async fn a_hosts_version_is_exported_with_its_key() {
    let home = Home::new();
    let _server = home.server();
    let token = home.token().await;
    let agent = super::standalone::agent_of(&run(&mut home.enrol(&token, &[])).good_with_log());
    let _agent = home.agent_process();
    home.certificate("web", &agent).await;
    home.api().deployed("web").await;
    let desk = home.beside("desk");
    fs::create_dir(&desk).unwrap();
    fs::write(desk.join("password"), "s3cret\n").unwrap();
    let line = format!(
        "export web --out {0}/web.p12 --password-file {0}/password",
        desk.display()
    );
    let said = run(&mut home.host(&line)).good_with_log();
    assert!(said.contains("private key"), "{said}");
    let args = [
        "pkcs12",
        "-in",
        "web.p12",
        "-passin",
        "pass:s3cret",
        "-nodes",
    ];
    let (good, said) = openssl(&desk, &args);
    assert!(good && said.contains("BEGIN PRIVATE KEY"), "{said}");
    let key = fs::read_to_string(home.beside("host/live/web/privkey.pem")).unwrap();
    let of = |pem: &str| {
        let at = pem.find("-----BEGIN PRIVATE KEY").unwrap();
        let end = pem.find("-----END PRIVATE KEY-----").unwrap() + 25;
        certctl::crypt::PrivateKey::from_pkcs8_pem(&pem[at..end]).unwrap()
    };
    assert_eq!(of(&said).public_key(), of(&key).public_key());
    fs::write(desk.join("password"), "\n").unwrap();
    let ended = run(&mut home.host(&line));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let ended = run(&mut home.host(&line.replace("export web", "export nosuch")));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
}
