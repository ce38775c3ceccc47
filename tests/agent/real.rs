//! Agents with hosts of their own, working for the real control plane through its router.

use super::support::{Host, Running, URL, wish};
use crate::support::TestApp;
use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::Bytes;
use certctl::{
    agent::{Agent, EnrolWish, enrol},
    clock::{Clock, Time},
    crypt::{Crypto, RingCrypto},
    net::{CallError, Peer, Transport},
};
use http::{Request, Response};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;
use tower::ServiceExt;

/// The way to the control plane that does without a network.
struct Door(Router);

#[async_trait]
impl Transport for Door {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let mut request = request.map(Body::from);
        let peer = Peer::Tcp(([192, 0, 2, 7], 40_000).into());
        request.extensions_mut().insert(peer);
        let answer = self.0.clone().oneshot(request).await;
        let (head, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await;
        let body = body.map_err(|e| CallError::Broken(e.to_string()))?;
        Ok(Response::from_parts(head, body))
    }
}

/// A host's clock, off from the control plane's.
pub struct Off {
    right: Arc<dyn Clock>,
    micros: AtomicI64,
}

impl Clock for Off {
    fn now(&self) -> Time {
        let right = self.right.now().micros();
        Time::from_micros(right + self.micros.load(Ordering::SeqCst))
    }
}

/// A host whose agent has enrolled.
pub struct RealHost {
    pub host: Host,
    /// The agent's id.
    pub id: String,
    pub clock: Arc<Off>,
    door: Arc<Door>,
}

impl RealHost {
    pub async fn join(app: &TestApp, name: &str) -> Self {
        let host = Host::new();
        let clock = Arc::new(Off {
            right: app.app.clock.clone(),
            micros: AtomicI64::new(0),
        });
        let door = Arc::new(Door(certctl::api::router(app.app.clone())));
        let (mut env, _) = host.env();
        env.clock = clock.clone();
        let wish = EnrolWish {
            token: app.join_token(json!({})).await.into(),
            name: name.into(),
            ..wish()
        };
        let identity = enrol(&env, &host.paths, &*door, URL, wish).await.unwrap();
        Self {
            id: identity.agent_id().to_string(),
            host,
            clock,
            door,
        }
    }

    /// Puts its clock off by this many days.
    pub fn set_off(&self, days: i64) {
        let micros = days * 86_400_000_000;
        self.clock.micros.store(micros, Ordering::SeqCst);
    }

    /// A target of type `File` on it; its id.
    pub async fn target(&self, app: &TestApp, name: &str) -> String {
        let body = json!({"name": name, "type": "File", "agent_id": self.id, "config": {}});
        let made = app.post("/api/v1/targets", body).await.expect(201);
        crate::support::text(&made["id"])
    }

    pub async fn start(&self) -> Running {
        self.start_with(Arc::new(RingCrypto)).await
    }

    /// Starts it with another maker of keys.
    pub async fn start_with(&self, crypto: Arc<dyn Crypto>) -> Running {
        let (mut env, sites) = self.host.env();
        env.clock = self.clock.clone();
        env.crypto = crypto;
        let (paths, door) = (self.host.paths.clone(), self.door.clone());
        let agent = Agent::open(env.clone(), paths, door).await.unwrap();
        let (ended, exit) = oneshot::channel();
        env.tasks.spawn("agent", async move {
            let _ = ended.send(agent.run().await);
        });
        Running {
            tasks: env.tasks,
            sites,
            exit,
        }
    }

    /// The serial number of what its files hold of a certificate, whose key belongs to it.
    pub fn holds(&self, certificate: &str) -> Option<String> {
        let dir = self.host.paths.live.join(certificate);
        let chain = std::fs::read_to_string(dir.join("fullchain.pem")).ok()?;
        let key = std::fs::read_to_string(dir.join("privkey.pem")).unwrap();
        let chain = certctl::pki::Chain::from_pem(&chain).unwrap();
        let key = certctl::crypt::PrivateKey::from_pkcs8_pem(&key).unwrap();
        assert_eq!(key.public_key().sha256(), chain.leaf().spki_sha256());
        Some(chain.leaf().serial().to_string())
    }
}

/// Waits until a certificate's deployments are as wanted, superseded ones left out; gives them.
pub async fn until(
    app: &TestApp,
    certificate: &str,
    wanted: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let path = format!("/api/v1/certificates/{certificate}/deployments");
    let mut wake = app.app.store.wake();
    let wait = async {
        loop {
            wake.borrow_and_update();
            let rows = app.list(&path).await;
            let mut rows: Vec<Value> = rows.into_iter().map(|r| r["deployment"].clone()).collect();
            rows.retain(|row| !row.is_null() && row["state"] != "superseded");
            if wanted(&rows) {
                return rows;
            }
            wake.changed().await.unwrap();
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(3_600), wait).await;
    match end {
        Ok(rows) => rows,
        Err(_) => panic!("as they never should: {:?}", app.list(&path).await),
    }
}

/// Waits until a certificate's deployments are so many, all in this state.
pub async fn deployed(app: &TestApp, certificate: &str, n: usize, state: &str) -> Vec<Value> {
    let all = |rows: &[Value]| rows.len() == n && rows.iter().all(|row| row["state"] == state);
    until(app, certificate, all).await
}
