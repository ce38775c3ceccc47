//! Certificates and servers for these tests.

use axum::{Extension, Router, routing::get};
use certctl::{
    net::{Dialer, Guard, HttpClient, HttpOptions, Identity, Limits, Listener, Peer, Resolver},
    net::{ServerIdentity, SpkiPin, Trust},
    sys::Tasks,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// Long enough that only a hang reaches it.
pub const AMPLE: Duration = Duration::from_secs(30);

pub struct Ca {
    pub der: Vec<u8>,
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A chain, leaf first, and the leaf's key, in DER.
#[derive(Clone)]
pub struct Pair {
    pub chain: Vec<Vec<u8>>,
    pub key: Vec<u8>,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn sign(&self, names: &[&str]) -> Pair {
        let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        Pair {
            chain: vec![leaf.der().to_vec(), self.der.clone()],
            key: key.serialize_der(),
        }
    }

    pub fn trust(&self) -> Trust {
        Trust::from_pem(self.pem.as_bytes()).unwrap()
    }

    pub fn pin(&self) -> SpkiPin {
        SpkiPin::of_certificate(&self.der).unwrap()
    }
}

impl Pair {
    pub fn identity(&self) -> Identity {
        Identity::from_der(self.chain.clone(), self.key.clone()).unwrap()
    }
}

pub fn dialer() -> Dialer {
    Dialer::new(Resolver::system(), Guard::Any)
}

pub fn client(trust: &Trust) -> HttpClient {
    HttpClient::https(dialer(), trust, HttpOptions::default()).unwrap()
}

/// Answers `/` with the HTTP version, and `/peer` with the peer.
pub fn router() -> Router {
    Router::new()
        .route(
            "/",
            get(
                |request: axum::extract::Request| async move { format!("{:?}", request.version()) },
            ),
        )
        .route(
            "/peer",
            get(|Extension(peer): Extension<Peer>| async move { format!("{peer:?}") }),
        )
}

/// A server on loopback that runs until `tasks` are shut down.
pub struct Server {
    pub ca: Ca,
    pub identity: Arc<ServerIdentity>,
    pub address: SocketAddr,
    pub tasks: Tasks,
}

impl Server {
    /// With a certificate for `localhost`.
    pub async fn start(router: Router, limits: Limits) -> Self {
        let ca = Ca::new("system");
        let identity = ServerIdentity::new(ca.sign(&["localhost"]).identity());
        let listener = Listener::tls(([127, 0, 0, 1], 0).into(), &identity)
            .await
            .unwrap();
        let address = listener.address().unwrap();
        let tasks = Tasks::new();
        serve(listener, router, limits, &tasks);
        Self {
            ca,
            identity,
            address,
            tasks,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

pub fn serve(listener: Listener, router: Router, limits: Limits, tasks: &Tasks) {
    let (inside, stop) = (tasks.clone(), tasks.token());
    tasks.spawn("listener", async move {
        listener.serve(router, limits, &inside, &stop).await;
    });
}

/// A request without a body.
pub fn fetch(url: &str) -> http::Request<bytes::Bytes> {
    http::Request::get(url).body(bytes::Bytes::new()).unwrap()
}

pub fn text(response: http::Response<bytes::Bytes>) -> String {
    String::from_utf8(response.into_body().to_vec()).unwrap()
}
