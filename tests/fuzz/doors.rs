//! Requests at the real router: whatever comes, the answer is a good one or a 4xx that says why.

use super::{cases, changes, run};
use crate::support::{Answer, TestAgent, TestApp};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

struct Scene {
    runtime: Runtime,
    app: TestApp,
    agent: TestAgent,
}

impl Scene {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let (app, agent) = runtime.block_on(async {
            let app = TestApp::start().await;
            let agent = app.agent("host").await;
            let target = app.target(&agent, "web").await;
            app.certificate("web", &[&target]).await;
            (app, agent)
        });
        Self {
            runtime,
            app,
            agent,
        }
    }

    /// Sends it: by the administrator, or by the agent.
    fn send(&self, by_agent: bool, method: &str, path: &str, body: Vec<u8>) -> Answer {
        let call = match by_agent {
            true => {
                let call = self.app.call(method, path);
                call.bearer(&self.agent.credential())
            }
            false => self.app.admin(method, path),
        };
        self.runtime.block_on(call.body(body).send())
    }
}

#[track_caller]
fn sane(answer: Answer, what: &str) {
    let status = answer.status;
    assert!(
        !status.is_server_error(),
        "{what}: {status}: {}",
        answer.text
    );
    // An agent that may not be retired is told with the counts of what holds it.
    let own_shape = answer.body.get("counts").is_some();
    if status.is_client_error() && answer.body.is_object() && !own_shape {
        let message = answer.problem();
        assert!(message.len() <= 1_000, "{what}: {} bytes", message.len());
        assert!(!message.is_empty(), "{what}");
    }
}

#[test]
fn bodies() {
    let scene = Scene::new();
    let agent = &scene.agent.id;
    let job = scene.runtime.block_on(scene.agent.job(&scene.app));
    let csr = scene.agent.make_csr(&job);
    let token = &job.lease.token;
    let at_job = |call: &str| format!("/api/v1/agents/{agent}/jobs/{}/{call}", job.id);
    let (cert, key) = crate::api::foreign_ca("Corporate");
    let calls: Vec<(bool, String, Value)> = vec![
        (
            false,
            "/api/v1/certificates".into(),
            json!({
                "name": "n", "common_name": "n.example.org", "sans": ["a.test"], "tags": {"k": "v"},
                "issuer_id": "iss-local", "target_ids": [], "environment": "e", "owner_id": "o",
            }),
        ),
        (
            false,
            "/api/v1/certificates/web/versions".into(),
            json!({"csr_pem": csr}),
        ),
        (
            false,
            "/api/v1/certificates/web/deploy".into(),
            json!({"target_id": "t", "dry_run": true}),
        ),
        (
            false,
            "/api/v1/certificates/none/revoke".into(),
            json!({"reason": "superseded"}),
        ),
        (
            false,
            "/api/v1/targets".into(),
            json!({
                "name": "t", "type": "NGINX", "agent_id": agent, "config": {
                    "cert_path": "/srv/a.pem", "key_path": "/srv/a.key", "endpoints": ["a:1"],
                },
            }),
        ),
        (
            false,
            "/api/v1/issuers".into(),
            json!({
                "name": "i", "type": "GenericCA", "config": {"ca_cert_pem": cert, "ca_key_pem": key},
            }),
        ),
        (
            false,
            "/api/v1/agents/tokens".into(),
            json!({"name": "t", "expires_in_seconds": 60, "max_uses": 2, "for": "web-*"}),
        ),
        (
            false,
            format!("/api/v1/agents/{agent}/retire"),
            json!({"force": false, "reason": "r"}),
        ),
        (true, at_job("lease"), json!({"token": token})),
        (true, at_job("csr"), json!({"token": "0", "csr_pem": csr})),
        (
            true,
            at_job("report"),
            json!({"token": "0", "outcome": "failed", "class": "permanent", "reason": "r"}),
        ),
        (
            true,
            format!("/api/v1/agents/{agent}/observations"),
            json!({"observations": [{
                "target_id": "t", "certificate_id": "web", "serial": "a1", "drift": ["x"],
                "served": [{"endpoint": "a:1", "chain_ok": true}],
            }]}),
        ),
        (
            true,
            format!("/api/v1/agents/{agent}/credential"),
            json!({"secret_sha256": "zz"}),
        ),
    ];
    for (by_agent, path, body) in calls {
        let values = changes::values(vec![body.clone()]).prop_map(|v| v.to_string().into_bytes());
        let bytes = changes::bytes(vec![body.to_string().into_bytes()]);
        run(cases() / 4, prop_oneof![3 => values, 1 => bytes], |body| {
            let what = format!("{path}: {}", String::from_utf8_lossy(&body));
            sane(scene.send(by_agent, "POST", &path, body), &what);
        });
    }
    scene.runtime.block_on(scene.app.check());
}

#[test]
fn paths_and_queries() {
    let scene = Scene::new();
    let paths = [
        "/api/v1/certificates?status=active&page=1&per_page=2&sort=-name&cursor=AAAA",
        "/api/v1/certificates/web/versions?page=2",
        "/api/v1/jobs?status=pending&type=deployment&agent_id=a&page_size=5",
        "/api/v1/agents?status=online",
        "/api/v1/audit?page=1",
        "/.well-known/pki/crl/iss-local/0.crl",
        "/certificates?status=expiring&q=web",
        "/certificates/web",
        "/api/v1/orders/ord-1",
    ];
    run(4 * cases(), changes::text(&paths), |path| {
        // What is no URI does not come this far.
        if let Ok(uri) = path.parse::<http::Uri>()
            && uri.scheme().is_none()
            && uri.path().starts_with('/')
        {
            sane(scene.send(false, "GET", &path, Vec::new()), &path);
        }
    });
}

#[test]
fn headers() {
    let scene = Scene::new();
    let key = scene.app.admin_key().to_owned();
    let seeds = vec![
        format!("Bearer {key}").into_bytes(),
        format!("Bearer {}", scene.agent.credential()).into_bytes(),
        format!("__Host-certctl_session={key}; other=x").into_bytes(),
        b"W/\"1.abc\", \"2\"".to_vec(),
        b"Thu, 01 Jan 2026 00:00:00 GMT".to_vec(),
        b"192.0.2.1, 2001:db8::1;for=\"[::1]:80\"".to_vec(),
    ];
    let names = prop::sample::select(vec![
        "authorization",
        "cookie",
        "if-none-match",
        "if-modified-since",
        "idempotency-key",
        "x-request-id",
        "x-forwarded-for",
        "accept",
        "content-type",
        "origin",
    ]);
    run(
        4 * cases(),
        (names, changes::bytes(seeds)),
        |(name, value)| {
            if http::HeaderValue::from_bytes(&value).is_err() {
                return;
            }
            for path in [
                "/api/v1/certificates",
                "/.well-known/pki/crl/iss-local",
                "/certificates",
            ] {
                let call = scene.app.call("GET", path).header(name, &value);
                let answer = scene.runtime.block_on(call.send());
                sane(
                    answer,
                    &format!("{name}: {}", String::from_utf8_lossy(&value)),
                );
            }
        },
    );
}
