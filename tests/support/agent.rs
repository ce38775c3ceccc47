//! An agent without a host: it speaks the protocol, holds real keys, and deploys nothing.

use super::{Answer, Call, TestApp};
use certctl::{
    agent::protocol::{Outcome, Served, Work, WorkItem, WorkKind},
    crypt::{Crypto, PrivateKey, RingCrypto, secret},
    pki::{KeyAlgorithm, San, csr},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Mutex};

/// What an agent says of a dry run or a test that finds nothing wrong.
pub fn fit() -> Outcome {
    Outcome::Examined {
        faults: Vec::new(),
        findings: vec!["the place can be used".into()],
        served: Vec::new(),
    }
}

/// The agent, and the keys it has made, by the hash of their public half.
pub struct TestAgent {
    pub id: String,
    secret: String,
    keys: Mutex<BTreeMap<String, PrivateKey>>,
}

impl TestAgent {
    /// Enrols with a token that must be good.
    pub async fn enrol(app: &TestApp, name: &str, token: &str) -> Self {
        let secret = secret::generate("", &*app.app.rng).to_string();
        let body = Self::wish(name, token, &secret);
        let call = app.call("POST", "/api/v1/agents/enrol").json(&body);
        let enrolled = call.send().await.expect(201);
        Self {
            id: super::text(&enrolled["agent_id"]),
            secret,
            keys: Mutex::default(),
        }
    }

    /// The body of an enrolment.
    pub fn wish(name: &str, token: &str, secret: &str) -> Value {
        json!({
            "token": token, "name": name, "hostname": format!("{name}.test"), "os": "linux",
            "architecture": "x86_64", "version": "0", "secret_sha256": secret::hash(secret),
        })
    }

    pub fn credential(&self) -> String {
        format!("cta_{}.{}", self.id, self.secret)
    }

    /// A call of the agent on itself.
    pub fn call<'a>(&self, app: &'a TestApp, method: &str, rest: &str) -> Call<'a> {
        let path = format!("/api/v1/agents/{}/{rest}", self.id);
        app.call(method, &path).bearer(&self.credential())
    }

    /// Asks for work, without waiting.
    pub async fn work(&self, app: &TestApp) -> Vec<WorkItem> {
        let answer = self.call(app, "GET", "work").send().await.expect(200);
        let work: Work = serde_json::from_value(answer).unwrap();
        assert_eq!(work.count, work.jobs.len());
        work.jobs
    }

    /// The one job there is.
    pub async fn job(&self, app: &TestApp) -> WorkItem {
        let mut jobs = self.work(app).await;
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    /// A call on a leased job, with its token: `lease`, `csr` or `report`.
    pub async fn about(
        &self,
        app: &TestApp,
        item: &WorkItem,
        call: &str,
        mut body: Value,
    ) -> Answer {
        body["token"] = item.lease.token.clone().into();
        let rest = format!("jobs/{}/{call}", item.id);
        self.call(app, "POST", &rest).json(&body).send().await
    }

    /// Makes a key for a job; its CSR, PEM.
    pub fn make_csr(&self, item: &WorkItem) -> String {
        assert_eq!(item.key_algorithm.as_deref(), Some("ECDSA-P256"));
        let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
        let sans: Vec<San> = item.sans.iter().map(|s| s.parse().unwrap()).collect();
        let pem = csr::build(key.pkcs8_der(), item.common_name.as_deref(), &sans).unwrap();
        let mut keys = self.keys.lock().unwrap();
        keys.insert(key.public_key().sha256(), key);
        pem
    }

    pub async fn submit_csr(&self, app: &TestApp, item: &WorkItem) -> Answer {
        assert_ne!(item.kind, WorkKind::Deployment);
        let body = json!({"csr_pem": self.make_csr(item)});
        self.about(app, item, "csr", body).await
    }

    pub async fn report(&self, app: &TestApp, item: &WorkItem, outcome: &Outcome) -> Answer {
        let body = serde_json::to_value(outcome).unwrap();
        self.about(app, item, "report", body).await
    }

    /// What an agent says that has deployed and seen served what the job asked.
    pub fn confirmed(&self, item: &WorkItem) -> Outcome {
        let version = item.version.as_ref().unwrap();
        let keys = self.keys.lock().unwrap();
        let has_key = keys.contains_key(&version.spki_sha256);
        assert!(has_key, "a version whose key this agent does not have");
        Outcome::Confirmed {
            changed: true,
            served: vec![Served {
                endpoint: "127.0.0.1:443".into(),
                serial: Some(version.serial.clone()),
                fingerprint_sha256: Some(version.fingerprint_sha256.clone()),
                error: None,
            }],
        }
    }

    /// Does all the work there is, well; how many jobs that was.
    pub async fn run(&self, app: &TestApp) -> usize {
        let mut done = 0;
        loop {
            let mut jobs = self.work(app).await;
            if jobs.is_empty() {
                return done;
            }
            // A new version would cancel the deployment of the old one.
            jobs.sort_by_key(|job| job.kind != WorkKind::Deployment);
            for item in &jobs {
                match item.kind {
                    WorkKind::Issuance | WorkKind::Renewal => {
                        self.submit_csr(app, item).await.expect(202);
                    }
                    WorkKind::Deployment => {
                        let outcome = self.confirmed(item);
                        self.report(app, item, &outcome).await.expect(200);
                    }
                    WorkKind::DryRun | WorkKind::TargetTest => {
                        self.report(app, item, &fit()).await.expect(200);
                    }
                }
            }
            done += jobs.len();
        }
    }
}
