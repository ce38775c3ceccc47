//! `certctl profiles`, `renewal-policies`, `policies`, `owners`, `teams`, and the certificates that
//! rest on them.

use super::home::Home;
use certctl::{
    crypt::{Crypto, RingCrypto},
    pki::{KeyAlgorithm, csr},
};
use serde_json::{Value, json};

/// A server, and what is asked of it.
struct Server {
    home: Home,
    _process: super::process::Process,
}

impl Server {
    fn start() -> Self {
        let home = Home::new();
        let process = home.server();
        Self {
            home,
            _process: process,
        }
    }

    fn run(&self, words: &[&str]) -> super::process::Ended {
        let mut command = super::process::certctl(["--data-dir"]);
        super::process::run(command.arg(self.home.data()).args(words))
    }

    fn good(&self, words: &[&str]) -> String {
        self.run(words).good()
    }

    fn json(&self, words: &[&str]) -> Value {
        let said = self.good(&[words, &["--output", "json"]].concat());
        serde_json::from_str(&said).unwrap()
    }
}

#[test]
fn documents_are_made_shown_listed_edited_and_deleted() {
    let server = Server::start();
    let made = server.json(&[
        "profiles",
        "create",
        "--id",
        "internal",
        "--name",
        "Internal",
        "--key",
        "ECDSA:384",
        "--key",
        "RSA:3072",
        "--max-lifetime",
        "30d",
        "--eku",
        "serverAuth",
        "--eku",
        "clientAuth",
        "--name-pattern",
        r".+\.example\.org",
    ]);
    assert_eq!(made["max_ttl_seconds"], 30 * 86_400);
    assert_eq!(made["lifetime_seconds"], 30 * 86_400);
    assert_eq!(
        made["allowed_key_algorithms"],
        json!([{"algorithm": "ECDSA", "min_size": 384}, {"algorithm": "RSA", "min_size": 3072}])
    );
    let shown = server.good(&["profiles", "show", "internal"]);
    for line in [
        "profile      internal",
        "keys         ECDSA:384 RSA:3072",
        "uses         serverAuth clientAuth",
        "lifetime     30d",
        r"names        .+\.example\.org",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line:?} in {shown}");
    }
    let listed = server.good(&["profiles", "list"]);
    assert!(
        listed.lines().next().unwrap().contains("LONGEST"),
        "{listed}"
    );
    assert!(listed.contains("prof-default"), "{listed}");
    let edited = server.json(&[
        "profiles",
        "edit",
        "internal",
        "--name-pattern",
        "",
        "--lifetime",
        "12h",
    ]);
    assert_eq!(edited["required_san_patterns"], json!([]));
    assert_eq!(edited["lifetime_seconds"], 43_200);
    assert_eq!(edited["max_ttl_seconds"], 30 * 86_400);

    let made = server.json(&[
        "renewal-policies",
        "create",
        "--id",
        "by-hand",
        "--name",
        "By hand",
        "--auto-renew",
        "false",
        "--window",
        "20",
        "--retry-interval",
        "30m",
        "--alert-days",
        "10,5",
    ]);
    assert_eq!(made["auto_renew"], false);
    assert_eq!(made["retry_interval_seconds"], 1_800);
    assert_eq!(made["alert_thresholds_days"], json!([10, 5]));
    let shown = server.good(&["renewal-policies", "show", "by-hand"]);
    assert!(shown.contains("when left    20 days"), "{shown}");

    let made = server.json(&[
        "policies",
        "create",
        "--id",
        "ours",
        "--name",
        "Ours",
        "--type",
        "AllowedDomains",
        "--set",
        r#"allowed_domains=[".example.org"]"#,
        "--severity",
        "Error",
    ]);
    assert_eq!(made["config"], json!({"allowed_domains": [".example.org"]}));
    let edited = server.json(&["policies", "edit", "ours", "--enabled", "false"]);
    assert_eq!(edited["enabled"], false);
    assert_eq!(edited["severity"], "Error");

    server.good(&["teams", "create", "--id", "platform", "--name", "Platform"]);
    server.good(&[
        "owners",
        "create",
        "--id",
        "ada",
        "--name",
        "Ada",
        "--email",
        "ada@example.org",
        "--team",
        "platform",
    ]);
    assert_eq!(server.json(&["owners", "list"])[0]["team_id"], "platform");
    let fault = server.run(&["teams", "delete", "platform"]).bad(1);
    assert_eq!(
        fault,
        "team platform is used by 1 owner(s): change them first"
    );
    server.good(&["owners", "edit", "ada", "--team", ""]);
    for (noun, id) in [
        ("teams", "platform"),
        ("owners", "ada"),
        ("policies", "ours"),
        ("renewal-policies", "by-hand"),
        ("profiles", "internal"),
    ] {
        assert_eq!(
            server.good(&[noun, "delete", id]),
            format!("{id} is deleted")
        );
        server.run(&[noun, "show", id]).bad(1);
    }
    assert_eq!(server.good(&["owners", "list"]), "There are no owners yet.");

    // What is no such thing is told before a server is asked, or by its field.
    for (words, part) in [
        (
            &["profiles", "create", "--name", "x", "--lifetime", "soon"][..],
            "no time such as 90d",
        ),
        (
            &["profiles", "create", "--name", "x", "--key", "RSA:many"],
            "no number of bits",
        ),
        (
            &["certs", "create", "a.example.org", "--tag", "x"],
            "is not name=value",
        ),
        (&["policies", "create", "--name", "x"], "--type"),
    ] {
        let ended = server.run(words);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    let fault = server
        .run(&["profiles", "create", "--name", "x", "--key", "RSA:1024"])
        .bad(1);
    assert!(fault.starts_with("allowed_key_algorithms: "), "{fault}");
    let fault = server
        .run(&["policies", "create", "--name", "x", "--type", "Nope"])
        .bad(1);
    assert!(fault.starts_with("type: "), "{fault}");
    let words = [
        "policies", "create", "--name", "x", "--type", "T", "--set", "nothing",
    ];
    let fault = server.run(&words).bad(78);
    assert!(fault.starts_with("--set: "), "{fault}");
}

#[test]
fn certificates_are_made_edited_and_found() {
    let server = Server::start();
    let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let pem = csr::build(key.pkcs8_der(), Some("shop.example.org"), &[]).unwrap();
    let file = server.home.beside("request.pem");
    std::fs::write(&file, pem).unwrap();
    let words = [
        "certs",
        "create",
        "shop.example.org",
        "--id",
        "shop",
        "--san",
        "www.example.org",
        "--owner",
        "ada",
        "--environment",
        "production",
        "--tag",
        "app=shop",
        "--tag",
        "tier=web",
        "--csr",
        file.to_str().unwrap(),
    ];
    let made = server.json(&words);
    assert_eq!(made["sans"], json!(["shop.example.org", "www.example.org"]));
    assert_eq!(made["status"], "Active");
    assert_eq!(
        server.good(&["certs", "create", "blog.example.org", "--id", "blog"]),
        "blog is made"
    );
    server.good(&[
        "policies",
        "create",
        "--id",
        "r",
        "--name",
        "Environments",
        "--type",
        "AllowedEnvironments",
        "--set",
        r#"allowed=["production"]"#,
    ]);
    let violations = server.good(&["policies", "violations", "r"]);
    assert!(violations.contains("blog"), "{violations}");
    assert!(!violations.contains("shop"), "{violations}");
    assert_eq!(
        server.json(&["policies", "violations", "r"])[0]["certificate_id"],
        "blog"
    );
    let said = server.good(&[
        "certs",
        "edit",
        "blog",
        "--tag",
        "app=blog",
        "--san",
        "b.example.org",
    ]);
    let says = "blog is edited\nwarning: Environments (r): environment \"\" is none of production";
    assert_eq!(said, says);
    server.good(&["certs", "edit", "blog", "--environment", "production"]);
    let said = server.good(&["policies", "violations", "r"]);
    assert_eq!(said, "Every certificate is as the rule wants it.");
    let edited = server.json(&[
        "certs",
        "edit",
        "shop",
        "--untag",
        "tier",
        "--tag",
        "app=store",
    ]);
    assert_eq!(edited["tags"], json!({"app": "store"}));
    assert_eq!(edited["sans"], made["sans"]);

    let found = |words: &[&str]| -> Vec<String> {
        let rows = server.json(&[&["certs", "list"], words].concat());
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(found(&[]), ["shop", "blog"]);
    assert_eq!(found(&["--tag", "app"]), ["shop", "blog"]);
    assert_eq!(found(&["--tag", "app=blog"]), ["blog"]);
    assert_eq!(
        found(&["--tag", "app=blog", "--environment", "production"]),
        ["blog"]
    );
    assert_eq!(found(&["--owner", "ada"]), ["shop"]);
    assert_eq!(found(&["--status", "pending"]), ["blog"]);
    assert_eq!(
        found(&["--profile", "prof-default", "--policy", "rp-default"]),
        ["shop", "blog"]
    );
    let none = server.good(&["certs", "list", "--owner", "nobody & co"]);
    assert_eq!(none, "There are no such certificates.");
    let shown = server.good(&["certs", "show", "shop"]);
    for line in [
        "profile      prof-default",
        "owner        ada",
        "tags         app=store",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line:?} in {shown}");
    }
    let fault = server
        .run(&["certs", "edit", "shop", "--issuer", "nosuch"])
        .bad(1);
    assert_eq!(fault, "issuer_id: there is no nosuch");
    let fault = server
        .run(&["certs", "edit", "nosuch", "--name", "x"])
        .bad(1);
    assert_eq!(fault, r#"there is no certificate "nosuch""#);
}
