//! What may be issued, when it is renewed, who answers for it: profiles, renewal policies, policy
//! rules, owners and teams, and the certificates that rest on them, through the real router.

mod certificates;
mod documents;
mod profiles;
mod renewals;
mod rules;

use crate::support::{Answer, TestApp};
use certctl::{
    crypt::{Crypto, RingCrypto},
    pki::{KeyAlgorithm, csr},
};
use serde_json::{Value, json};

impl TestApp {
    /// The administrator's `PUT`.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.admin("PUT", path).json(&body).send().await
    }
}

/// A request with a key of its own.
fn request(kind: KeyAlgorithm) -> Value {
    let key = RingCrypto.generate_key(kind).unwrap();
    let pem = csr::build(key.pkcs8_der(), Some("web.example.org"), &[]).unwrap();
    json!({"csr_pem": pem})
}
