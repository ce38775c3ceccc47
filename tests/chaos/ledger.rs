//! What the server has acknowledged, and whether it keeps its word.

use crate::cli::home::{Api, Home, leaf};
use certctl::crypt::PrivateKey;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// What is said of work that was begun three times and killed each time; no other failure may be.
const LOST: &str = "the agent took the job and was not heard of it again";

/// Ids that were answered with success.
#[derive(Clone, Default)]
pub struct Ledger {
    pub certificates: BTreeSet<String>,
    pub orders: BTreeSet<String>,
}

impl Ledger {
    /// Everything acknowledged is there, every certificate has a next action, and every version
    /// that is in place or was seen there has its key on disk.
    pub async fn check(&self, home: &Home) {
        let api = home.api();
        let list = all(&api).await;
        let there: BTreeSet<&str> = list.iter().map(|c| c["id"].as_str().unwrap()).collect();
        for id in &self.certificates {
            assert!(there.contains(id.as_str()), "{id} is lost");
        }
        for id in &self.orders {
            let order = api.get(&format!("/orders/{id}")).await;
            let certificate = order["certificate_id"].as_str().unwrap();
            assert!(self.certificates.contains(certificate), "{order}");
        }
        for certificate in &list {
            let id = certificate["id"].as_str().unwrap();
            let holders = certificate["holders"].as_array().unwrap();
            assert_eq!(holders.len(), 1, "{certificate}");
            let next = match holders[0]["plan"].as_str() {
                Some("scheduled") => &holders[0]["next_at"],
                Some("in_flight") => &holders[0]["order_id"],
                _ => &Value::Null,
            };
            assert!(next.is_string(), "nothing comes next: {certificate}");
            let failed = &holders[0]["last_error"];
            assert!(failed.is_null() || failed == LOST, "{certificate}");
            for target in deployments(&api, id).await {
                let deployment = &target["deployment"];
                let failed = &deployment["error"];
                assert!(failed.is_null() || failed == LOST, "{target}");
                if deployment["state"] == "confirmed" {
                    let serial = deployment["serial_number"].as_str().unwrap();
                    has_its_key(home, id, &version(home, id, serial));
                }
            }
            let link = home.path("live").join(id);
            if link.exists() {
                has_its_key(home, id, &link);
            }
        }
    }

    /// As [`check`](Self::check), and all is done: each certificate is active, and each target was
    /// seen to serve its newest version.
    pub async fn check_settled(&self, home: &Home) {
        self.check(home).await;
        for certificate in all(&home.api()).await {
            let id = certificate["id"].as_str().unwrap();
            let serial = certificate["holders"][0]["serial_number"].as_str().unwrap();
            assert_eq!(certificate["status"], "Active", "{certificate}");
            assert_eq!(home.live_serial(id), serial);
            for target in deployments(&home.api(), id).await {
                let deployment = &target["deployment"];
                assert_eq!(deployment["state"], "confirmed", "{target}");
                assert_eq!(deployment["serial_number"], serial);
            }
        }
    }
}

/// Every certificate.
pub async fn all(api: &Api) -> Vec<Value> {
    let mut list = api.get("/certificates?per_page=500").await;
    let Value::Array(rows) = list["data"].take() else {
        panic!("{list}");
    };
    assert_eq!(list["total"], rows.len());
    rows
}

/// A certificate's targets with their newest deployments.
pub async fn deployments(api: &Api, id: &str) -> Vec<Value> {
    let mut list = api.get(&format!("/certificates/{id}/deployments")).await;
    let Value::Array(rows) = list["data"].take() else {
        panic!("{list}");
    };
    rows
}

fn version(home: &Home, id: &str, serial: &str) -> std::path::PathBuf {
    home.path("agent/versions").join(id).join(serial)
}

/// The version in `dir` has the key of its leaf beside it, and in the agent's keeping.
fn has_its_key(home: &Home, id: &str, dir: &Path) {
    let leaf = leaf(dir);
    let keys = home.path("agent/keys").join(id);
    let kept = keys.join(format!("{}.key", leaf.spki_sha256()));
    for path in [dir.join("privkey.pem"), kept] {
        let pem = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let key = PrivateKey::from_pkcs8_pem(&pem).unwrap();
        assert_eq!(key.public_key(), leaf.public_key(), "{path:?}");
    }
}
