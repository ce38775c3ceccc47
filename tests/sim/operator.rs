//! The people who ask for certificates, over the same network as everyone else.

use super::{
    network::{URL, Wire},
    nginx::{self, Nginx},
};
use bytes::Bytes;
use certctl::net::Transport;
use data_encoding::HEXLOWER;
use http::{Method, Request, StatusCode};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

/// What serves a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Software that reads the files.
    File,
    /// The agent itself, on this port.
    Site(u16),
    /// nginx, on this port.
    Nginx(u16),
}

/// Calls with the administrator's key, again and again until there is an answer.
pub struct Operator {
    pub wire: Wire,
    pub key: String,
}

impl Operator {
    /// Posts until the server accepts: what is made, is made once.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let once = format!("{path} {body}");
        let once = HEXLOWER.encode(digest(&SHA256, once.as_bytes()).as_ref());
        self.post_as(Some(&once), path, body).await
    }

    async fn post_as(&self, once: Option<&str>, path: &str, body: &Value) -> Value {
        loop {
            let mut request = Request::builder()
                .method(Method::POST)
                .uri(format!("{URL}{path}"))
                .header("authorization", format!("Bearer {}", self.key));
            if let Some(once) = once {
                request = request.header("idempotency-key", once);
            }
            let request = request.body(Bytes::from(body.to_string())).unwrap();
            if let Ok(answer) = self.wire.call(request).await {
                let status = answer.status();
                if status.is_success() {
                    return serde_json::from_slice(answer.body()).unwrap();
                }
                assert!(
                    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
                    "{path}: {status}: {:?}",
                    answer.body()
                );
            }
            sleep(Duration::from_secs(2)).await;
        }
    }

    /// A join token for one agent.
    pub async fn join_token(&self) -> String {
        // One whose answer was lost is of no use: its secret is not shown again.
        let made = self
            .post_as(None, "/api/v1/agents/tokens", &json!({}))
            .await;
        made["token"].as_str().unwrap().to_owned()
    }

    /// A target on an agent, and its id.
    pub async fn target(&self, certificate: &str, agent: &str, kind: Kind) -> String {
        let (id, kind, config) = match kind {
            Kind::File => {
                let endpoint = format!("{certificate}{}:443", super::host::FILES);
                let id = format!("{certificate}.{agent}");
                (id, "File", json!({"endpoints": [endpoint]}))
            }
            Kind::Site(port) => {
                let config = json!({"listen": format!("127.0.0.1:{port}")});
                (format!("{certificate}.{agent}.{port}"), "Site", config)
            }
            Kind::Nginx(port) => {
                let reload = if port % 2 == 0 { "signal" } else { "command" };
                let config = json!({
                    "cert_path": Nginx::cert_path(certificate),
                    "key_path": Nginx::key_path(certificate),
                    "endpoints": [format!("{}:{port}", nginx::HOST)], "reload": reload,
                });
                (format!("{certificate}.{agent}.{port}"), "NGINX", config)
            }
        };
        let body = json!({
            "id": id, "name": id, "type": kind, "agent_id": agent, "config": config,
        });
        self.post("/api/v1/targets", &body).await;
        id
    }

    pub async fn certificate(&self, id: &str, targets: &[String]) {
        let name = format!("{id}.example.org");
        let body = json!({"id": id, "name": id, "common_name": name, "target_ids": targets});
        self.post("/api/v1/certificates", &body).await;
    }

    pub async fn renew(&self, certificate: &str) {
        let path = format!("/api/v1/certificates/{certificate}/renew");
        self.post(&path, &json!({})).await;
    }
}
