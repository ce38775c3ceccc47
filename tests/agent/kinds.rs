//! Keys of every kind, made on a host: CSR, leaf, and files that belong together.

use super::real::{RealHost, deployed};
use crate::support::TestApp;
use certctl::{
    crypt::{Crypto, InvalidPrivateKey, PrivateKey, RingCrypto},
    domain::Profile,
    pki::{Chain, KeyAlgorithm},
};
use std::{collections::BTreeMap, process::Command, sync::Arc};

/// RSA keys that were made before, since primes take their time; others are made.
struct Stored(BTreeMap<KeyAlgorithm, PrivateKey>);

impl Stored {
    fn new() -> Self {
        let kinds = [
            (KeyAlgorithm::Rsa2048, "2048"),
            (KeyAlgorithm::Rsa3072, "3072"),
            (KeyAlgorithm::Rsa4096, "4096"),
        ];
        let key = |bits: &str| {
            let bits = format!("rsa_keygen_bits:{bits}");
            let made = Command::new("openssl")
                .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits])
                .output()
                .expect("openssl is needed");
            PrivateKey::from_pkcs8_pem(&String::from_utf8(made.stdout).unwrap()).unwrap()
        };
        Self(kinds.map(|(kind, bits)| (kind, key(bits))).into())
    }
}

impl Crypto for Stored {
    fn generate_key(&self, algorithm: KeyAlgorithm) -> Result<PrivateKey, InvalidPrivateKey> {
        match self.0.get(&algorithm) {
            Some(key) => PrivateKey::from_pkcs8_der(key.pkcs8_der()),
            None => RingCrypto.generate_key(algorithm),
        }
    }
}

/// From now on agents make keys of this kind.
async fn wanted(app: &TestApp, algorithm: KeyAlgorithm) {
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    let id = "prof-default".parse().unwrap();
    let mut profile = unit.load::<Profile>(&id).await.unwrap();
    profile.key_algorithms = vec![algorithm];
    unit.put(profile);
    unit.commit().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_of_every_kind_is_certified_and_deployed() {
    let app = TestApp::start().await;
    let host = RealHost::join(&app, "host").await;
    let target = host.target(&app, "web").await;
    let running = host.start_with(Arc::new(Stored::new())).await;
    for (id, algorithm) in [
        ("p256", KeyAlgorithm::EcdsaP256),
        ("p384", KeyAlgorithm::EcdsaP384),
        ("ed25519", KeyAlgorithm::Ed25519),
        ("rsa2048", KeyAlgorithm::Rsa2048),
        ("rsa3072", KeyAlgorithm::Rsa3072),
        ("rsa4096", KeyAlgorithm::Rsa4096),
    ] {
        wanted(&app, algorithm).await;
        app.certificate(id, &[&target]).await;
        deployed(&app, id, 1, "confirmed").await;
        assert!(host.holds(id).is_some(), "{id}");
        let chain = host.host.paths.live.join(id).join("fullchain.pem");
        let chain = Chain::from_pem(&std::fs::read_to_string(chain).unwrap()).unwrap();
        assert_eq!(chain.leaf().public_key().algorithm(), algorithm, "{id}");
    }
    running.stop().await;
    app.check().await;
}

/// The one that is really made: while it is looked for, the job's lease is kept.
#[tokio::test]
async fn an_agent_makes_an_rsa_key() {
    let app = TestApp::start().await;
    let host = RealHost::join(&app, "host").await;
    let target = host.target(&app, "web").await;
    wanted(&app, KeyAlgorithm::Rsa2048).await;
    let running = host.start().await;
    app.certificate("web", &[&target]).await;
    deployed(&app, "web", 1, "confirmed").await;
    assert!(host.holds("web").is_some());
    running.stop().await;
}
