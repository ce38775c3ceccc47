//! Calls through the real router.

use axum::{Router, body::Body};
use certctl::net::Peer;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use serde_json::Value;
use tower::ServiceExt;

/// A request in the making.
pub struct Call<'a> {
    router: &'a Router,
    request: Request<Body>,
}

impl<'a> Call<'a> {
    pub(super) fn new(router: &'a Router, method: &str, path: &str) -> Self {
        let peer = Peer::Tcp(([192, 0, 2, 1], 50_000).into());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .extension(peer)
            .body(Body::empty())
            .unwrap();
        Self { router, request }
    }

    /// Through another server's router.
    pub fn through(router: &'a Router, method: &str, path: &str) -> Self {
        Self::new(router, method, path)
    }

    pub fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.request.headers_mut().append(name, value);
        self
    }

    pub fn bearer(self, key: &str) -> Self {
        self.header("authorization", format!("Bearer {key}"))
    }

    pub fn session(self, cookie: &str) -> Self {
        self.header("cookie", format!("__Host-certctl_session={cookie}"))
    }

    /// From this address.
    pub fn from(mut self, address: &str) -> Self {
        let address = (address.parse::<std::net::IpAddr>().unwrap(), 50_000);
        let peer = Peer::Tcp(address.into());
        self.request.extensions_mut().insert(peer);
        self
    }

    /// Through the local socket, as this user of the machine.
    pub fn local(mut self, uid: u32) -> Self {
        self.request.extensions_mut().insert(Peer::Unix { uid });
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body(serde_json::to_vec(body).unwrap())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        *self.request.body_mut() = Body::from(body.into());
        self
    }

    pub async fn send(self) -> Answer {
        let what = format!("{} {}", self.request.method(), self.request.uri());
        let response = self.router.clone().oneshot(self.request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            what: what.chars().take(120).collect(),
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes: bytes.to_vec(),
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    what: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `Null` when it is not JSON.
    pub body: Value,
    /// The body as text.
    pub text: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The body, of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.what, self.body);
        self.body
    }

    /// The message of a refusal that must have this status and the error body.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}: {}", self.what, self.body);
        self.problem()
    }

    /// The message of an error body, the body checked.
    #[track_caller]
    pub fn problem(self) -> String {
        let what = &self.what;
        let asked_to_wait = self.status == 503;
        assert!(
            self.status.is_client_error() || asked_to_wait,
            "{what}: {}",
            self.status
        );
        let content = self.headers.get(header::CONTENT_TYPE);
        assert_eq!(content.unwrap(), "application/json", "{what}");
        let body = self.body.as_object().unwrap();
        let keys: Vec<_> = body.keys().map(String::as_str).collect();
        assert_eq!(keys, ["error", "message", "request_id"], "{what}");
        assert_eq!(body["error"], self.status.canonical_reason().unwrap());
        assert_eq!(
            body["request_id"].as_str().unwrap(),
            self.headers["x-request-id"],
            "{what}"
        );
        body["message"].as_str().unwrap().to_owned()
    }
}
