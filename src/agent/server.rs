//! Calls to the server, in the words of [`protocol`](super::protocol).

use super::{
    Identity,
    protocol::{Csr, NextSecret, Observations, Pong, Renew, Renewed, Report},
};
use crate::{
    clock::Time,
    id::Id,
    net::{CallError, Deadline, Transport},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The server, as one agent may call it.
pub struct Server {
    transport: Arc<dyn Transport>,
    /// `<server>/api/v1/agents/<id>`.
    base: String,
    authorization: Mutex<Option<HeaderValue>>,
}

/// What an agent says of itself with each poll.
#[derive(Debug, Clone)]
pub struct Of {
    /// It holds no lease, whatever the server has given to it.
    pub fresh: bool,
    /// An answer may have been lost: it holds the leases of these jobs alone.
    pub holds: Option<BTreeSet<Id>>,
    /// Its clock.
    pub time: Time,
    /// Not every target is as its journal says.
    pub restoring: bool,
}

/// Why a call had no success.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// 410: the agent is retired.
    #[error("the server has retired this agent ({0})")]
    Retired(String),
    /// 401, 403: the credential does not count, or not now.
    #[error("the server refused this agent's credential ({0}): if that lasts, enrol it again")]
    Credential(String),
    /// 409: the lease is lost.
    #[error("the lease of the job is lost ({0})")]
    Lost(String),
    /// Another 4xx: the same call will be refused again.
    #[error("the server answered {status}: {problem}")]
    Rejected {
        /// The status.
        status: StatusCode,
        /// What it said.
        problem: String,
    },
    /// 408, 429, 5xx and anything unexpected: it may be taken later.
    #[error("the server answered {status}: {problem}")]
    Busy {
        /// The status.
        status: StatusCode,
        /// What it said.
        problem: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It was not reached.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Refusal {
    /// How long the server wants not to be asked.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The answer to a poll; its jobs are read one by one, so that one that is not understood does not
/// hide the others.
#[derive(Deserialize)]
pub struct Answered {
    /// Leased jobs.
    pub jobs: Vec<serde_json::Value>,
    /// Jobs to undo and report.
    #[serde(default)]
    pub cancel: Vec<Id>,
    /// Targets to look at.
    #[serde(default)]
    pub look: Vec<Id>,
    /// Look at all targets.
    #[serde(default)]
    pub look_at_all: bool,
    /// Targets of which to show what is in place.
    #[serde(default)]
    pub show: Vec<Id>,
}

impl Server {
    /// The server of an identity, by way of `transport`.
    pub fn new(transport: Arc<dyn Transport>, identity: &Identity) -> Self {
        let base = base(identity);
        let server = Self {
            transport,
            base,
            authorization: Mutex::default(),
        };
        server.act_as(identity);
        server
    }

    /// From now on calls carry the credential of `identity`.
    pub fn act_as(&self, identity: &Identity) {
        *self.held() = authorization(identity);
    }

    fn held(&self) -> MutexGuard<'_, Option<HeaderValue>> {
        let held = self.authorization.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries the way to the server.
    pub async fn ping(&self) -> Result<Pong, Refusal> {
        let request = self.request(Method::GET, "ping", Bytes::new())?;
        json(self.call(request).await?)
    }

    /// Tells the server the hash of the secret that this agent will use next.
    pub async fn offer_secret(&self, secret_sha256: &str) -> Result<(), Refusal> {
        let next = NextSecret {
            secret_sha256: secret_sha256.into(),
        };
        let body = serde_json::to_vec(&next).map_err(|e| CallError::Request(e.to_string()))?;
        let request = self.request(Method::POST, "credential", body.into())?;
        self.call(request).await.map(drop)
    }

    /// Asks for work, which the server may take `wait` seconds to have.
    pub async fn work(&self, wait: u64, of: Of) -> Result<Answered, Refusal> {
        let deadline = Duration::from_secs(wait + 20);
        let Of {
            fresh,
            holds,
            time,
            restoring,
        } = of;
        let mut path = format!(
            "work?wait={wait}&fresh={fresh}&version={}&time={time}&restoring={restoring}",
            env!("CARGO_PKG_VERSION")
        );
        if let Some(holds) = holds {
            let holds: Vec<&str> = holds.iter().map(Id::as_str).collect();
            path.push_str("&holds=");
            path.push_str(&holds.join(","));
        }
        let mut request = self.request(Method::GET, &path, Bytes::new())?;
        request.extensions_mut().insert(Deadline(deadline));
        json(self.call(request).await?)
    }

    /// Renews the lease of a job.
    pub async fn renew(&self, job: &Id, token: &str) -> Result<Renewed, Refusal> {
        json(
            self.post(
                job,
                "lease",
                &Renew {
                    token: token.into(),
                },
            )
            .await?,
        )
    }

    /// Sends the signing request of a job.
    pub async fn csr(&self, job: &Id, token: &str, csr_pem: &str) -> Result<(), Refusal> {
        let body = Csr {
            token: token.into(),
            csr_pem: csr_pem.into(),
        };
        self.post(job, "csr", &body).await.map(drop)
    }

    /// Reports how a job ended.
    pub async fn report(&self, job: &Id, report: &Report) -> Result<(), Refusal> {
        self.post(job, "report", report).await.map(drop)
    }

    /// Tells what was found on the host.
    pub async fn observe(&self, found: &Observations) -> Result<(), Refusal> {
        self.send("observations", found).await.map(drop)
    }

    async fn post(
        &self,
        job: &Id,
        call: &str,
        body: &impl Serialize,
    ) -> Result<Response<Bytes>, Refusal> {
        self.send(&format!("jobs/{job}/{call}"), body).await
    }

    async fn send(&self, path: &str, body: &impl Serialize) -> Result<Response<Bytes>, Refusal> {
        let body = serde_json::to_vec(body).map_err(|e| CallError::Request(e.to_string()))?;
        self.call(self.request(Method::POST, path, body.into())?)
            .await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Bytes>, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|e| CallError::Request(e.to_string()))?;
        if let Some(authorization) = self.held().clone() {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Refusal> {
        let response = self.transport.call(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem = problem(response.body());
        Err(match status {
            StatusCode::GONE => Refusal::Retired(problem),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Refusal::Credential(problem),
            StatusCode::CONFLICT => Refusal::Lost(problem),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => busy(&response, problem),
            status if status.is_client_error() => Refusal::Rejected { status, problem },
            _ => busy(&response, problem),
        })
    }
}

/// Why the agent of an identity is retired, if its server can be reached and says so.
pub async fn retired(transport: &dyn Transport, identity: &Identity) -> Option<String> {
    let request = Request::get(format!("{}/ping", base(identity)))
        .header(header::AUTHORIZATION, authorization(identity)?)
        .body(Bytes::new());
    let response = transport.call(request.ok()?).await.ok()?;
    (response.status() == StatusCode::GONE).then(|| problem(response.body()))
}

/// `<server>/api/v1/agents/<id>`
fn base(identity: &Identity) -> String {
    let (url, id) = (identity.server_url(), identity.agent_id());
    format!("{url}/api/v1/agents/{id}")
}

fn authorization(identity: &Identity) -> Option<HeaderValue> {
    let bearer = zeroize::Zeroizing::new(format!("Bearer {}", *identity.credential()));
    let mut value = HeaderValue::from_str(&bearer).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn busy(response: &Response<Bytes>, problem: String) -> Refusal {
    let seconds = response.headers().get(header::RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = seconds.map(Duration::from_secs);
    Refusal::Busy {
        status: response.status(),
        problem,
        retry_after,
    }
}

fn json<T: DeserializeOwned>(response: Response<Bytes>) -> Result<T, Refusal> {
    serde_json::from_slice(response.body()).map_err(|e| Refusal::Busy {
        status: response.status(),
        problem: format!("the answer is not of the agent protocol: {e}"),
        retry_after: None,
    })
}

/// What an error response says, for a person: the text of a problem document (RFC 9457) or of the
/// older `error` and `message` fields, else the start of the body.
pub fn problem(body: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = document.as_ref().and_then(|document| {
        ["detail", "message", "error", "title"]
            .iter()
            .find_map(|field| document.get(field)?.as_str())
    });
    let text = text.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    let short: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    if short.is_empty() {
        "no reason given".into()
    } else {
        short
    }
}
