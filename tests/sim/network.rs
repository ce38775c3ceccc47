//! The network: agents and operators meet the server at the tower service. Requests and answers
//! are late, are lost, or find nobody.

use super::{chance::Chance, machine::Machine, trace::Trace};
use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::Bytes;
use certctl::{
    net::{CallError, Deadline, DialError, Peer, Transport},
    sys::Tasks,
};
use http::{Request, Response};
use std::{
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tower::ServiceExt;

/// Where the server is said to be.
pub const URL: &str = "https://certctl.test:8443";
/// One call in so many is in trouble.
const TROUBLE: u64 = 40;

/// What connects the machines.
pub struct Network {
    chance: Arc<Chance>,
    trace: Trace,
    calm: AtomicBool,
    server: Mutex<Option<Server>>,
    acknowledged: Mutex<Vec<Acknowledged>>,
}

/// The server process that listens now.
#[derive(Clone)]
pub struct Server {
    pub router: Router,
    pub tasks: Tasks,
    pub machine: Machine,
}

/// A call that changes something and that the caller heard succeed.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub path: String,
    pub request: serde_json::Value,
    pub answer: serde_json::Value,
}

enum Fate {
    Good,
    Refused,
    RequestLost,
    AnswerLost,
    AnswerCut,
}

impl Network {
    pub fn new(chance: Arc<Chance>, trace: Trace) -> Arc<Self> {
        Arc::new(Self {
            chance,
            trace,
            calm: AtomicBool::new(false),
            server: Mutex::default(),
            acknowledged: Mutex::default(),
        })
    }

    /// From now on the server listens.
    pub fn up(&self, server: Server) {
        *self.server.lock().unwrap() = Some(server);
    }

    /// From now on nobody listens.
    pub fn down(&self) {
        self.server.lock().unwrap().take();
    }

    /// Whether calls are delayed and nothing worse.
    pub fn calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::SeqCst);
    }

    /// Every change that a caller heard succeed.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.acknowledged_since(0)
    }

    /// Those after the first so many.
    pub fn acknowledged_since(&self, known: usize) -> Vec<Acknowledged> {
        self.acknowledged.lock().unwrap()[known..].to_vec()
    }

    fn fate(&self) -> Fate {
        if self.calm.load(Ordering::SeqCst) || !self.chance.one_in(TROUBLE) {
            return Fate::Good;
        }
        match self.chance.below(4) {
            0 => Fate::Refused,
            1 => Fate::RequestLost,
            2 => Fate::AnswerLost,
            _ => Fate::AnswerCut,
        }
    }

    async fn delay(&self) {
        let (least, most) = (Duration::from_millis(1), Duration::from_millis(40));
        sleep(self.chance.between(least, most)).await;
    }
}

/// One machine's way to the server.
pub struct Wire {
    pub network: Arc<Network>,
    pub from: Machine,
}

impl Wire {
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let net = &self.network;
        let fate = net.fate();
        net.delay().await;
        self.from.alive().await;
        let server = match fate {
            Fate::RequestLost => pending().await,
            Fate::Refused => None,
            _ => net.server.lock().unwrap().clone(),
        };
        let server = server.ok_or_else(refused)?;
        let (answer, answered) = oneshot::channel();
        let (mut parts, body) = request.into_parts();
        parts
            .extensions
            .insert(Peer::Tcp(([192, 0, 2, 1], 50_000).into()));
        let Server {
            router,
            tasks,
            machine,
        } = server;
        tasks.spawn("request", async move {
            let request = Request::from_parts(parts, Body::from(body));
            let Ok(response) = router.oneshot(request).await;
            let (parts, body) = response.into_parts();
            if let Ok(body) = axum::body::to_bytes(body, usize::MAX).await {
                machine.alive().await;
                let _ = answer.send(Response::from_parts(parts, body));
            }
        });
        let broken = |_| CallError::Broken("the server is gone".into());
        let answer = answered.await.map_err(broken)?;
        net.delay().await;
        self.from.alive().await;
        match fate {
            Fate::AnswerLost => pending().await,
            Fate::AnswerCut => Err(CallError::Broken("cut by the simulation".into())),
            _ => Ok(answer),
        }
    }
}

fn refused() -> CallError {
    CallError::Dial(DialError::Connect {
        host: "certctl.test".into(),
        port: 8443,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        source: Arc::new(io::ErrorKind::ConnectionRefused.into()),
    })
}

#[async_trait]
impl Transport for Wire {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let Deadline(after) = request
            .extensions()
            .get()
            .copied()
            .unwrap_or(Deadline(Duration::from_secs(30)));
        let sent = request.body().clone();
        assert!(
            !String::from_utf8_lossy(&sent).contains("PRIVATE KEY"),
            "a private key leaves its host"
        );
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = timeout(after, self.exchange(request))
            .await
            .unwrap_or(Err(CallError::Timeout { after }));
        let said = match &answer {
            Ok(response) => response.status().to_string(),
            Err(error) => error.to_string(),
        };
        let from = self.from.name();
        self.network
            .trace
            .note(format_args!("{from}: {method} {path}: {said}"));
        if let Ok(response) = &answer
            && response.status().is_success()
            && method == http::Method::POST
        {
            let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or_default();
            let done = Acknowledged {
                path,
                request: json(&sent),
                answer: json(response.body()),
            };
            self.network.acknowledged.lock().unwrap().push(done);
        }
        answer
    }
}
