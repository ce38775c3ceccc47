//! CAs that were made elsewhere.

use super::*;
use certctl::{
    crypt::{Crypto, RingCrypto},
    pki::KeyAlgorithm,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// A self-made CA with `change` made to it: its certificate and its key, PEM.
fn ca(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    params
        .distinguished_name
        .push(DnType::CommonName, "Corporate");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

const ISSUERS: &str = "/api/v1/issuers";

#[tokio::test]
async fn issuers() {
    let world = World::new().await;
    let (cert, key) = ca(|_| ());
    let good = json!({
        "id": "corp", "name": "Corporate", "type": "GenericCA",
        "config": {"ca_cert_pem": cert, "ca_key_pem": key},
    });
    let set = |field: &str, value: Value| with(&good, field, value);
    let config =
        |cert: &str, key: &str| set("config", json!({"ca_cert_pem": cert, "ca_key_pem": key}));
    let more = |field: &str, value: Value| {
        let mut config = good["config"].clone();
        config[field] = value;
        set("config", config)
    };
    let changed = |change: fn(&mut CertificateParams)| {
        let (cert, key) = ca(change);
        config(&cert, &key)
    };
    let at = ISSUERS;
    let (other, _) = ca(|_| ());
    let rsa = openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024");
    let ed25519 = RingCrypto.generate_key(KeyAlgorithm::Ed25519).unwrap();
    let ed25519 = pem("PRIVATE KEY", ed25519.pkcs8_der());
    let cut = &cert[..cert.len() / 2];
    world
        .refuse(vec![
            body("no name", at, without(&good, "name"), &["name"]),
            body(
                "an empty name",
                at,
                set("name", json!("")),
                &["name: 1 to 255"],
            ),
            body(
                "a NUL in the name",
                at,
                set("name", json!("a\0")),
                &["name", "printable"],
            ),
            body(
                "a name of 256",
                at,
                set("name", json!("x".repeat(256))),
                &["name: 1 to 255"],
            ),
            body("an id that is none", at, set("id", json!("a b")), &["id: "]),
            body(
                "an id that is taken",
                at,
                set("id", json!("iss-local")),
                &["iss-local"],
            )
            .status(409),
            body("no type", at, without(&good, "type"), &["type"]),
            body(
                "a type of another type",
                at,
                set("type", json!(1)),
                &["type", "string"],
            ),
            body(
                "an unknown type",
                at,
                set("type", json!("Nope")),
                &["type: ", "Nope", "GenericCA"],
            ),
            body("no config", at, without(&good, "config"), &["config"]),
            body(
                "a config that is a text",
                at,
                set("config", json!("x")),
                &["config"],
            ),
            body(
                "a path of a certificate",
                at,
                more("ca_cert_path", json!("/etc/passwd")),
                &["config.ca_cert_path", "ca_cert_pem"],
            ),
            body(
                "a path of a key",
                at,
                more("ca_key_path", json!("/etc/shadow")),
                &["config.ca_key_path", "ca_key_pem"],
            ),
            body(
                "a certificate that is none",
                at,
                config("hello", &key),
                &["config.ca_cert_pem"],
            ),
            body(
                "a cut certificate",
                at,
                config(cut, &key),
                &["config.ca_cert_pem"],
            ),
            body(
                "a key for a certificate",
                at,
                config(&key, &key),
                &["config.ca_cert_pem"],
            ),
            body(
                "no certificate",
                at,
                config("", &key),
                &["config.ca_cert_pem"],
            ),
            body(
                "a NUL in the certificate",
                at,
                config(&cert.replace('\n', "\0"), &key),
                &["config.ca_cert_pem"],
            ),
            body(
                "a certificate for a key",
                at,
                config(&cert, &cert),
                &["config.ca_key_pem", "PRIVATE KEY"],
            ),
            body(
                "no key",
                at,
                config(&cert, ""),
                &["config.ca_key_pem", "PRIVATE KEY"],
            ),
            body(
                "two keys",
                at,
                config(&cert, &key.repeat(2)),
                &["config.ca_key_pem", "one PEM block"],
            ),
            body(
                "a cut key",
                at,
                config(&cert, &key[..key.len() / 2]),
                &["config.ca_key_pem"],
            ),
            body(
                "a weak key",
                at,
                config(&cert, &rsa),
                &["config.ca_key_pem", "2048, 3072 or 4096"],
            ),
            body(
                "a key of another kind",
                at,
                config(&cert, &ed25519),
                &["config.ca_cert_pem", "does not belong"],
            ),
            body(
                "another certificate's key",
                at,
                config(&other, &key),
                &["config.ca_cert_pem", "does not belong"],
            ),
            body(
                "an encrypted key without passphrase",
                at,
                config(&cert, &pem("ENCRYPTED PRIVATE KEY", &[0x30, 0])),
                &["config.ca_key_pem", "passphrase"],
            ),
            body(
                "an ended CA",
                at,
                changed(|p| p.not_after = rcgen::date_time_ymd(2021, 1, 1)),
                &["config.ca_cert_pem", "not now"],
            ),
            body(
                "a CA of the future",
                at,
                changed(|p| p.not_before = rcgen::date_time_ymd(2039, 1, 1)),
                &["config.ca_cert_pem", "not now"],
            ),
            body(
                "no CA",
                at,
                changed(|p| p.is_ca = IsCa::NoCa),
                &["config.ca_cert_pem", "no CA certificate"],
            ),
            body(
                "a CA that may not sign",
                at,
                changed(|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
                &["config.ca_cert_pem", "certificates", "keyUsage"],
            ),
            body(
                "a CA that may not list",
                at,
                changed(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
                &["config.ca_cert_pem", "revocation lists", "keyUsage"],
            ),
            body(
                "a chain of strangers",
                at,
                config(&format!("{cert}{other}"), &key),
                &["config.ca_cert_pem", "not signed by the next"],
            ),
        ])
        .await;
}
