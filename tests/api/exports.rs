//! Versions that are taken out: as PKCS#12, and not too many.

use super::issuers::csr;
use crate::support::{HOUR, MINUTE, TestApp};
use certctl::{
    access::Role,
    crypt::{Crypto, RingCrypto},
    pki::{Chain, KeyAlgorithm, pkcs12},
};
use serde_json::json;
use std::{path::Path, process::Command};

async fn issued() -> TestApp {
    let app = TestApp::start().await;
    let body = json!({
        "id": "web", "name": "Web Süd", "common_name": "web.example.org", "csr_pem": csr(),
    });
    app.post("/api/v1/certificates", body).await.expect(201);
    app
}

/// What a program says that must do well.
fn said(program: &str, args: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(dir).output();
    let output = output.unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}

#[tokio::test]
async fn openssl_certtool_and_java_read_a_pkcs12_file_without_a_key() {
    let app = issued().await;
    let full = app.get("/api/v1/certificates/web/export/pem").await;
    let full = crate::support::text(&full["full_pem"]);
    let dir = tempfile::tempdir().unwrap();
    for password in ["", "hunter2", "pässword €"] {
        let path = "/api/v1/certificates/web/export/pkcs12";
        let answer = app.post(path, json!({"password": password})).await;
        assert_eq!(answer.headers["content-type"], "application/x-pkcs12");
        assert_eq!(
            answer.headers["content-disposition"],
            "attachment; filename=\"certificate.p12\""
        );
        assert_eq!(answer.status, 200);
        std::fs::write(dir.path().join("web.p12"), &answer.bytes).unwrap();
        let pass = format!("pass:{password}");
        let args = [
            "pkcs12", "-in", "web.p12", "-info", "-passin", &pass, "-nokeys",
        ];
        let text = said("openssl", &args, dir.path());
        for part in ["PBES2", "AES-256-CBC", "Iteration 2048", "MAC: sha256"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let blocks: Vec<&str> = full
            .split_inclusive("-----END CERTIFICATE-----\n")
            .collect();
        assert_eq!(text.matches("BEGIN CERTIFICATE").count(), blocks.len());
        assert!(blocks.iter().all(|block| text.contains(block.trim())));
        assert!(!text.contains("PRIVATE KEY"));
        let wrong = Command::new("openssl")
            .args([
                "pkcs12",
                "-in",
                "web.p12",
                "-passin",
                "pass:wrong",
                "-nokeys",
            ])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(!wrong.status.success(), "another password opens it");
    }
    let path = "/api/v1/certificates/web/export/pkcs12";
    let bytes = app.post(path, json!({"password": "hunter2"})).await.bytes;
    std::fs::write(dir.path().join("web.p12"), bytes).unwrap();
    let args = [
        "--p12-info",
        "--inder",
        "--infile",
        "web.p12",
        "--password",
        "hunter2",
    ];
    let text = said("certtool", &args, dir.path());
    assert!(text.contains("BEGIN CERTIFICATE"), "{text}");
}

/// With the key, as an agent's host writes it.
#[test]
fn openssl_reads_key_and_certificate_of_a_pkcs12_file() {
    let dir = tempfile::tempdir().unwrap();
    for algorithm in [
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Ed25519,
    ] {
        let key = RingCrypto.generate_key(algorithm).unwrap();
        let pair = rcgen::KeyPair::try_from(key.pkcs8_der()).unwrap();
        let params = rcgen::CertificateParams::new(["x.example.org".to_owned()]).unwrap();
        let chain = Chain::from_pem(&params.self_signed(&pair).unwrap().pem()).unwrap();
        let file = pkcs12::write(
            &pkcs12::Contents {
                name: "x",
                chain: &chain,
                key_pkcs8: Some(key.pkcs8_der()),
            },
            &pkcs12::Protection {
                password: "hunter2",
                rounds: 2_048,
                seed: [7; 96],
            },
        );
        std::fs::write(dir.path().join("x.p12"), file.unwrap()).unwrap();
        let args = [
            "pkcs12",
            "-in",
            "x.p12",
            "-passin",
            "pass:hunter2",
            "-nodes",
            "-info",
        ];
        let text = said("openssl", &args, dir.path());
        let at = text.find("-----BEGIN PRIVATE KEY").unwrap();
        let end = text.find("-----END PRIVATE KEY-----").unwrap();
        let pem = &text[at..end + 26];
        let read = certctl::crypt::PrivateKey::from_pkcs8_pem(pem).unwrap();
        assert_eq!(read.public_key(), key.public_key());
        assert!(text.contains(chain.leaf().pem().trim()), "{text}");
        assert!(text.contains("localKeyID"), "{text}");
    }
}

#[tokio::test]
async fn a_password_that_cannot_be_is_refused_and_not_counted() {
    let app = issued().await;
    let before = app.seq();
    for password in ["\u{1f511}", "nul\0", &"x".repeat(1_025)] {
        let path = "/api/v1/certificates/web/export/pkcs12";
        let told = app.post(path, json!({"password": password})).await;
        assert!(told.refused(400).contains("password: "));
    }
    let path = "/api/v1/certificates/web/export/pkcs12";
    app.post(path, json!({"password": 1})).await.refused(400);
    assert_eq!(app.seq(), before);
    let path = "/api/v1/certificates/nosuch/export/pkcs12";
    app.post(path, json!({})).await.refused(404);
    app.certificate("pending", &[]).await;
    let path = "/api/v1/certificates/pending/export/pkcs12";
    app.post(path, json!({})).await.refused(404);
}

#[tokio::test]
async fn fifty_exports_an_hour_are_enough_for_each_caller() {
    let app = issued().await;
    let path = "/api/v1/certificates/web/export/pem";
    for _ in 0..50 {
        app.get(path).await;
    }
    let answer = app.admin("GET", path).send().await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers["retry-after"], "72");
    let body = json!({"error": "rate_limit_exceeded", "retry_after_seconds": 72});
    assert_eq!(answer.body, body);
    // By whatever format, and not for others.
    let p12 = "/api/v1/certificates/web/export/pkcs12";
    assert_eq!(app.post(p12, json!({})).await.status, 429);
    let other = app.key(Role::Viewer).await;
    let call = app.call("GET", path).bearer(&other);
    call.send().await.expect(200);
    app.advance(MINUTE * 2);
    app.get(path).await;
    assert_eq!(app.admin("GET", path).send().await.status, 429);
    app.advance(HOUR);
    for _ in 0..50 {
        app.get(path).await;
    }
    let events = app
        .get("/api/v1/audit?action=certificate_exported&per_page=1")
        .await;
    assert_eq!(events["total"], 102);
}
