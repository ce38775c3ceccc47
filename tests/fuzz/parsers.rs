//! Parsers of bytes and texts, one test each.

use super::{cases, changes, run};
use crate::bad::openssl;
use certctl::{
    agent::protocol::{Enrol, Enrolled, Observations, Report, Work},
    clock::Time,
    config::{self, Environment, Flags},
    crypt::{Crypto, MachineKey, PrivateKey, RingCrypto, Sealed},
    deploy::{Journal, Policy, TargetConfig},
    domain::Holder,
    id::Id,
    net::{Endpoint, Resolver, SpkiPin, Trust},
    pki::{Certificate, Chain, Csr, KeyAlgorithm, San, Serial, csr},
    store::Cursor,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{fmt::Display, fs, path::Path, str::FromStr};

fn csr_pem() -> String {
    let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let sans: Vec<San> = ["*.a.test", "192.0.2.1", "::1", "a@b.test", "spiffe://a/b"]
        .map(|s| s.parse().unwrap())
        .to_vec();
    csr::build(key.pkcs8_der(), Some("a.test"), &sans).unwrap()
}

fn chain_pem() -> String {
    let leaf = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null \
                -subj /CN=a.test/O=A -addext subjectAltName=DNS:a.test,IP:192.0.2.1 \
                -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=serverAuth";
    openssl(leaf) + &openssl("req -x509 -newkey ed25519 -nodes -keyout /dev/null -subj /CN=CA")
}

fn der_of(pem: &str) -> Vec<u8> {
    der::pem::decode_vec(pem.as_bytes()).unwrap().1
}

/// A text that is read is written, and read again as the same.
fn told<T: FromStr + Display + PartialEq + std::fmt::Debug>(seeds: &[&str]) {
    run(4 * cases(), changes::text(seeds), |text| {
        if let Ok(value) = text.parse::<T>() {
            let again = value.to_string().parse::<T>();
            assert_eq!(again.ok().as_ref(), Some(&value), "{text:?}");
        }
    });
}

/// JSON that is read is written, and read again as the same.
fn stored<T: Serialize + DeserializeOwned>(seeds: Vec<Value>) {
    let check = |bytes: &[u8]| {
        if let Ok(value) = serde_json::from_slice::<T>(bytes) {
            let written = serde_json::to_vec(&value).unwrap();
            let again: T = serde_json::from_slice(&written).unwrap();
            assert_eq!(serde_json::to_vec(&again).unwrap(), written);
        }
    };
    let texts = seeds.iter().map(|s| s.to_string().into_bytes()).collect();
    run(cases(), changes::bytes(texts), |bytes| check(&bytes));
    run(cases(), changes::values(seeds), |value| {
        check(value.to_string().as_bytes());
    });
}

#[test]
fn signing_requests() {
    let pem = csr_pem();
    let der = der_of(&pem);
    run(cases(), changes::bytes(vec![der]), |der| {
        if let Ok(csr) = Csr::from_der(&der) {
            assert_eq!(Csr::from_der(csr.der()).as_ref(), Ok(&csr));
        }
    });
    run(cases(), changes::text(&[&pem]), |text| {
        let _ = Csr::from_pem(&text);
    });
}

#[test]
fn certificates() {
    let pem = chain_pem();
    let seeds = pem.split_inclusive("-----END CERTIFICATE-----\n");
    let seeds = seeds.map(der_of).collect();
    run(cases(), changes::bytes(seeds), |der| {
        if let Ok(read) = Certificate::from_der(&der) {
            let again = Certificate::from_pem(&read.pem()).unwrap();
            assert_eq!(again.der(), read.der());
            let _ = (read.subject(), read.is_ca(), read.is_self_issued());
        }
    });
    run(cases(), changes::text(&[&pem]), |text| {
        if let Ok(chain) = Chain::from_pem(&text) {
            let again = Chain::from_pem(&chain.fullchain_pem()).unwrap();
            assert_eq!(again.fullchain_pem(), chain.fullchain_pem());
        }
        let _ = Trust::from_pem(text.as_bytes());
    });
}

#[test]
fn private_keys() {
    let p256 = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let ed25519 = RingCrypto.generate_key(KeyAlgorithm::Ed25519).unwrap();
    let sec1 = openssl("ecparam -name prime256v1 -genkey -noout");
    let rsa = openssl("genrsa -traditional 2048");
    let ders = vec![
        p256.pkcs8_der().to_vec(),
        ed25519.pkcs8_der().to_vec(),
        der_of(&rsa),
    ];
    run(cases(), changes::bytes(ders), |der| {
        if let Ok(key) = PrivateKey::from_pkcs8_der(&der) {
            let again = PrivateKey::from_pkcs8_der(key.pkcs8_der()).unwrap();
            assert_eq!(again.public_key(), key.public_key());
        }
    });
    let p256 = p256.to_pkcs8_pem();
    run(cases(), changes::text(&[&p256, &sec1, &rsa]), |text| {
        let _ = PrivateKey::import(&text, None);
        // Nothing of a text that may be a key is repeated.
        if let Err(e) = PrivateKey::import(&text, Some("x")) {
            assert!(e.to_string().len() < 400, "{e}");
        }
    });
}

#[test]
fn names() {
    told::<San>(&[
        "*.a.test",
        "192.0.2.1",
        "2001:db8::1",
        "a@b.test",
        "https://a.test/b?c=d",
        "bücher.test",
    ]);
}

#[test]
fn ids_and_serials() {
    told::<Id>(&["cert-06dqdpn801r9n541whcyhtg1rw", "a", "A.b_c-9"]);
    told::<Serial>(&["a1", "00ff", "7fffffffffffffffffffffffffffffffffffffff"]);
    told::<Holder>(&["requester", "agent:agt-1", "agt-1"]);
    told::<KeyAlgorithm>(&["ECDSA-P256", "RSA-2048", "Ed25519"]);
}

#[test]
fn endpoints_and_pins() {
    told::<Endpoint>(&[
        "a.test:443",
        "[::1]:8443",
        "smtp://mail.test:25",
        "postgres://db:5432",
    ]);
    let pin = format!("sha256:{}", "0a".repeat(32));
    run(cases(), changes::text(&[&pin]), |text| {
        let _ = text.parse::<SpkiPin>();
    });
}

#[test]
fn times() {
    told::<Time>(&[
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123456Z",
        "9999-12-31T23:59:59Z",
        "1969-12-31T23:59:59+14:00",
    ]);
}

#[test]
fn cursors() {
    let cursor = Cursor {
        key: vec![0, 1, 2, 255],
        id: "cert-1".parse().unwrap(),
    };
    let text = cursor.to_text("q");
    assert_eq!(Cursor::from_text(&text, "q").as_ref(), Ok(&cursor));
    run(4 * cases(), changes::text(&[&text]), |text| {
        if let Ok(read) = Cursor::from_text(&text, "q") {
            assert_eq!(Cursor::from_text(&read.to_text("q"), "q"), Ok(read));
        }
    });
}

#[test]
fn sealed_values_and_machine_keys() {
    told::<Sealed>(&["k-0a1b2c3d.AAAA.BBBB.CCCC"]);
    let hex = "0a".repeat(32);
    run(cases(), changes::text(&[&hex]), |text| {
        if let Ok(key) = MachineKey::from_text(&text) {
            let written = key.to_text();
            assert_eq!(
                *MachineKey::from_text(&written).unwrap().to_text(),
                *written
            );
        }
    });
}

#[test]
fn configuration_files() {
    let seeds = [
        "server_host = \"0.0.0.0\"\nserver_port = 8443\nlog_level = \"info\"\n",
        "api_key_file = \"/run/key\"\npublic_url = \"https://a.test:1\"\n[x]\ny = [1, 2]\n",
    ];
    run(cases(), changes::text(&seeds), |text| {
        let variables = [("CERTCTL_CONFIG".to_owned(), "/f".to_owned())];
        let read = |_: &Path| Ok(text.clone());
        let env = Environment::read(variables, None, &read);
        // A server starts from what is sound, and from nothing else.
        let sound = env.sound().is_ok();
        assert_eq!(config::server(&env, Flags::default()).is_ok(), sound);
        let _ = env.shown();
    });
}

#[test]
fn variables() {
    let seeds = [
        "8443",
        "https://a.test:8443/x",
        "0.0.0.0:80",
        "::1",
        "info",
        "tcp://10.0.0.1:1",
    ];
    let name = proptest::sample::select(config::SETTINGS);
    run(
        4 * cases(),
        (name, changes::text(&seeds)),
        |(setting, text)| {
            let env = Environment::new([(setting.name.to_owned(), text)]);
            let sound = env.sound().is_ok();
            // Some settings go together: alone they are refused, each sound by itself.
            let taken = config::server(&env, Flags::default()).is_ok();
            assert!(sound || !taken);
        },
    );
}

#[test]
fn policies_of_agents() {
    let seed = "target_types = [\"File\", \"NGINX\"]\npaths = [\"/srv/tls\"]\n\
                commands = [[\"/usr/sbin/nginx\", \"-s\", \"reload\"]]\n\
                binaries = [\"/usr/sbin/nginx\"]\nconfigs = [\"/etc/nginx\"]\n";
    assert!(Policy::parse(seed).is_ok());
    run(cases(), changes::text(&[seed]), |text| {
        if let Err(faults) = Policy::parse(&text) {
            assert!(!faults.is_empty());
        }
    });
}

#[test]
fn configurations_of_targets() {
    let seeds = vec![
        json!({"type": "File", "config": {"endpoints": ["127.0.0.1:443"], "server_name": "a.test", "verify_timeout": "10s"}}),
        json!({"type": "Site", "config": {"listen": "127.0.0.1:9443", "server_name": "a.test"}}),
        json!({"type": "NGINX", "config": {
            "cert_path": "/etc/ssl/a.pem", "key_path": "/etc/ssl/a.key", "chain_path": "/etc/ssl/c.pem",
            "config_path": "/etc/nginx/nginx.conf", "binary": "/usr/sbin/nginx",
            "endpoints": ["a.test:443", "smtp://b.test:25"], "server_name": "a.test",
            "reload": {"argv": ["/usr/sbin/nginx", "-s", "reload"]}, "verify_timeout": 10,
        }}),
    ];
    run(4 * cases(), changes::values(seeds), |value| {
        let kind = value["type"].as_str().unwrap_or("File");
        match TargetConfig::parse(kind, &value["config"]) {
            Ok(config) => {
                let written = serde_json::to_value(&config).unwrap();
                assert_eq!(
                    serde_json::from_value::<TargetConfig>(written).unwrap(),
                    config
                );
            }
            Err(e) => assert!(e.to_string().len() < 2_000, "{e}"),
        }
    });
}

#[test]
fn what_server_and_agent_say() {
    let version = json!({
        "id": "ver-1", "certificate_id": "c", "serial": "a1", "fullchain_pem": chain_pem(),
        "fingerprint_sha256": "ab".repeat(32), "spki_sha256": "cd".repeat(32),
    });
    let item = json!({
        "id": "job-1", "type": "deployment", "certificate_id": "c", "target_id": "t",
        "target_type": "File", "target_config": {}, "version": version,
        "lease": {"token": "17", "until": "2026-01-01T00:00:00Z", "seconds": 60},
    });
    stored::<Work>(vec![json!({"jobs": [item], "count": 1})]);
    stored::<Enrol>(vec![json!({
        "token": "ctj_x", "name": "a", "hostname": "a.test", "os": "linux",
        "architecture": "x86_64", "version": "1", "secret_sha256": "ab".repeat(32),
    })]);
    stored::<Enrolled>(vec![json!({
        "agent_id": "agt-1", "system_ca_pem": chain_pem(), "server_time": "2026-01-01T00:00:00Z",
    })]);
    stored::<Report>(vec![
        json!({"token": "17", "outcome": "confirmed", "changed": true, "served": [{"endpoint": "a:1"}]}),
        json!({"token": "17", "outcome": "failed", "class": "transient", "reason": "r"}),
        json!({"token": "17", "outcome": "examined", "faults": [], "findings": ["f"], "served": []}),
    ]);
    stored::<Observations>(vec![json!({"observations": [{
        "target_id": "t", "certificate_id": "c", "serial": "a1", "drift": ["x"],
        "served": [{"endpoint": "127.0.0.1:443", "chain_ok": true}],
    }]})]);
}

#[test]
fn journals() {
    let version = json!({"certificate": "c", "serial": "a1"});
    stored::<Journal>(vec![json!({
        "phase": "committed", "version": version,
        "target": {"File": {"endpoints": [], "server_name": null, "verify_timeout": 2_000_000}},
        "before": {"version": version}, "beside": {"d": "b2"},
    })]);
}

#[test]
fn name_servers_and_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
    let seeds = [
        "nameserver 192.0.2.1\nsearch a.test b.test\noptions ndots:2 timeout:1\n",
        "127.0.0.1 localhost a.test # here\n::1 b.test\n",
        "; none\nnameserver fe80::1%eth0\n",
    ];
    run(
        cases() / 3,
        changes::bytes(seeds.map(|s| s.as_bytes().to_vec()).to_vec()),
        |bytes| {
            fs::write(&servers, &bytes).unwrap();
            fs::write(&hosts, &bytes).unwrap();
            drop(Resolver::of_files(&servers, &hosts));
        },
    );
}
