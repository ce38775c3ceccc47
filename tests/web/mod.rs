//! The dashboard, through the real router.

mod agents;
mod backups;
mod certificates;
mod ending;
mod failure;
mod files;
mod html;
mod outcomes;
mod signin;
mod storage;

use axum::{Router, body::Body};
use certctl::{
    access::Role,
    api,
    app::{App, Parts},
    clock::{Clock, Time},
    config::ServerConfig,
    crypt::{OsRng, RingCrypto, secret},
    domain::{ApiKey, Grant},
    store::{Committer, Memory, Store},
    sys::{Disk, Tasks},
};
use html::Html;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tower::ServiceExt;

pub const DAY: Duration = Duration::from_secs(86_400);

/// A clock that stands until it is moved.
struct Still(AtomicI64);

impl Clock for Still {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// A control plane in memory, at 2026-01-01T00:00:00Z.
pub struct Desk {
    app: Arc<App>,
    router: Router,
    clock: Arc<Still>,
    admin: String,
    _dir: tempfile::TempDir,
}

impl Desk {
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// With other settings.
    pub async fn open_with(settings: fn(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Still(AtomicI64::new(1_767_225_600_000_000)));
        let engine = Arc::new(Memory::new());
        let store = Store::start(engine, Committer::Inline, Box::new(|e| panic!("{e}"))).unwrap();
        let mut config = ServerConfig::new(dir.path(), ([127, 0, 0, 1], 8443).into());
        settings(&mut config);
        let started = App::start(Parts {
            store,
            clock: clock.clone(),
            rng: Arc::new(OsRng),
            crypto: Arc::new(RingCrypto),
            files: Arc::new(Disk),
            rooms: Arc::new(Disk),
            tasks: Tasks::new(),
            config,
            names: Vec::new(),
            alone: None,
        })
        .await
        .unwrap();
        Self {
            router: api::router(Arc::clone(&started.app)),
            app: started.app,
            clock,
            admin: started.admin_key.unwrap(),
            _dir: dir,
        }
    }

    pub fn pass(&self, d: Duration) {
        let micros = d.as_micros().try_into().unwrap();
        self.clock.0.fetch_add(micros, Ordering::SeqCst);
    }

    /// Sends a request; every answer names the policy against foreign scripts.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.to_vec(),
        };
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        answer
    }

    /// Opens a page as a browser does.
    pub async fn get(&self, path: &str, session: Option<&str>) -> Answer {
        self.send(
            browser(Method::GET, path, session)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    /// Sends a form as a browser does.
    pub async fn post(&self, path: &str, session: Option<&str>, form: &str) -> Answer {
        let request = browser(Method::POST, path, session)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin");
        self.send(request.body(Body::from(form.to_owned())).unwrap())
            .await
    }

    /// Signs in; the session cookie as a browser sends it back.
    pub async fn sign_in(&self, key: &str) -> String {
        let answer = self.post("/login", None, &format!("key={key}")).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        let cookie = answer.header("set-cookie");
        cookie.split(';').next().unwrap().to_owned()
    }

    pub async fn admin(&self) -> String {
        self.sign_in(&self.admin).await
    }

    /// A key of this role.
    pub async fn key(&self, role: Role) -> String {
        let key = secret::generate("ctl_", &OsRng);
        let mut unit = self.app.store.unit(role as u128 + 1, self.app.now());
        unit.insert(ApiKey {
            id: format!("key-{}", role.id()).parse().unwrap(),
            name: format!("somebody {}", role.id()),
            secret_sha256: secret::hash(&key),
            secret_since: self.app.now(),
            former: None,
            grants: vec![Grant::of(role.id())],
            expires_at: None,
            created_at: self.app.now(),
        });
        unit.commit().await.unwrap();
        key.to_string()
    }

    /// Calls the API; the answer must be a success.
    pub async fn api(&self, method: Method, path: &str, token: &str, body: Value) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let answer = self.send(request).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Makes something as the administrator.
    pub async fn make(&self, path: &str, body: Value) -> Value {
        self.api(Method::POST, path, &self.admin, body).await
    }

    /// Enrols an agent; its id and credential.
    pub async fn agent(&self, name: &str) -> (String, String) {
        let token = self.make("/agents/tokens", json!({})).await;
        let wish = json!({
            "token": token["token"], "name": name, "hostname": name, "os": "linux",
            "architecture": "x86_64", "version": "1", "secret_sha256": secret::hash("quiet"),
        });
        let enrolled = self.make("/agents/enrol", wish).await;
        let id = enrolled["agent_id"].as_str().unwrap().to_owned();
        let credential = format!("cta_{id}.quiet");
        (id, credential)
    }

    /// Takes the agent's jobs: sends a CSR for each that wants a key, and returns the others.
    pub async fn work(&self, (id, credential): &(String, String)) -> Vec<Value> {
        let path = format!("/agents/{id}/work");
        let work = self.api(Method::GET, &path, credential, Value::Null).await;
        let mut others = Vec::new();
        for job in work["jobs"].as_array().unwrap() {
            if job["type"] == "Deployment" {
                others.push(job.clone());
                continue;
            }
            let sans: Vec<String> = serde_json::from_value(job["sans"].clone()).unwrap();
            let key = rcgen::KeyPair::generate().unwrap();
            let csr = rcgen::CertificateParams::new(sans).unwrap();
            let csr = csr.serialize_request(&key).unwrap().pem().unwrap();
            self.tell(
                &(id.clone(), credential.clone()),
                job,
                "csr",
                json!({"csr_pem": csr}),
            )
            .await;
        }
        others
    }

    /// Says something about a job under its lease.
    pub async fn tell(
        &self,
        (id, credential): &(String, String),
        job: &Value,
        call: &str,
        mut body: Value,
    ) {
        body["token"] = job["lease"]["token"].clone();
        let job = job["id"].as_str().unwrap();
        let path = format!("/agents/{id}/jobs/{job}/{call}");
        self.api(Method::POST, &path, credential, body).await;
    }
}

fn browser(method: Method, path: &str, session: Option<&str>) -> http::request::Builder {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "certctl.test")
        .header(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8");
    match session {
        Some(session) => request.header(header::COOKIE, session),
        None => request,
    }
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The page; what every page must have is checked on the way.
    pub fn page(&self) -> Html {
        assert_eq!(self.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(self.header("cache-control"), "no-store");
        let page = Html::page(self.text());
        page.assert_accessible();
        page
    }
}
