//! A directory and a loopback address of its own for each test, and the API there.

use super::process::{AMPLE, Ended, Process, certctl, run};
use bytes::Bytes;
use certctl::{
    net::{
        Dialer, Endpoint, Guard, HttpClient, HttpOptions, Probe, Resolver, TlsProbe, Transport,
        Trust,
    },
    pki::{Certificate, Chain},
};
use http::{Method, Request, StatusCode, header};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

pub struct Home {
    dir: TempDir,
    pub ip: IpAddr,
}

impl Home {
    pub fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap())
    }

    pub fn in_dir(dir: TempDir) -> Self {
        Self { dir, ip: own_ip() }
    }

    /// A path beside the data directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.beside("data")
    }

    /// A path in the data directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    pub fn control(&self) -> SocketAddr {
        SocketAddr::new(self.ip, 8443)
    }

    pub fn site(&self) -> SocketAddr {
        SocketAddr::new(self.ip, 9443)
    }

    /// `certctl --data-dir <data> <line>`
    pub fn command(&self, line: &str) -> Command {
        let mut args: Vec<OsString> = vec!["--data-dir".into(), self.data().into()];
        args.extend(line.split(' ').map(OsString::from));
        certctl(args)
    }

    pub fn run(&self, line: &str) -> Ended {
        run(&mut self.command(line))
    }

    pub fn json(&self, line: &str) -> Value {
        let text = self.run(&format!("{line} --output json")).good();
        serde_json::from_str(&text).unwrap()
    }

    pub fn quickstart_command(&self) -> Command {
        self.command(&format!(
            "quickstart --listen {} --site-listen {}",
            self.control(),
            self.site()
        ))
    }

    /// `certctl quickstart`, once the first certificate is seen served.
    pub fn quickstart(&self) -> Process {
        let process = Process::start(&mut self.quickstart_command());
        process.line("Ctrl-C stops.");
        process
    }

    pub fn quickstart_to_its_end(&self) -> Ended {
        run(self.quickstart_command().arg("--exit"))
    }

    /// The API by the socket.
    pub fn api(&self) -> Api {
        let client = HttpClient::unix(self.path("certctl.sock"), HttpOptions::default());
        Api {
            client,
            base: "http://localhost".into(),
            key: None,
        }
    }

    /// The API by its address, under the server's own CA.
    pub fn api_by_tls(&self, key: Option<&str>) -> Api {
        let ca = fs::read(self.path("tls/system-ca.pem")).unwrap();
        let trust = Trust::from_pem(&ca).unwrap();
        Api {
            client: HttpClient::https(dialer(), &trust, HttpOptions::default()).unwrap(),
            base: format!("https://{}", self.control()),
            key: key.map(ToOwned::to_owned),
        }
    }

    /// The API by its address, under this CA.
    pub fn api_trusting(&self, ca: &Certificate) -> Api {
        let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
        Api {
            client: HttpClient::https(dialer(), &trust, HttpOptions::default()).unwrap(),
            base: format!("https://{}", self.control()),
            key: None,
        }
    }

    /// The serial number that `live/<certificate>` holds.
    pub fn live_serial(&self, certificate: &str) -> String {
        leaf(&self.path("live").join(certificate))
            .serial()
            .to_string()
    }

    /// The one agent of a quickstart.
    pub async fn agent(&self) -> String {
        let targets = self.api().get("/targets").await;
        let agent = &targets["data"][0]["agent_id"];
        agent.as_str().unwrap().to_owned()
    }
}

/// An address in 127.0.0.0/8 that no other test has, of this process or of another.
pub fn own_ip() -> IpAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id() * 64 + GIVEN.fetch_add(1, Relaxed);
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    Ipv4Addr::from(first + number % 0x00fd_ffff).into()
}

fn dialer() -> Dialer {
    Dialer::new(Resolver::system(), Guard::Any)
}

/// The leaf in a version's directory.
pub fn leaf(dir: &Path) -> Certificate {
    let pem = fs::read_to_string(dir.join("fullchain.pem")).unwrap();
    Chain::from_pem(&pem).unwrap().leaf().clone()
}

/// The chain that `address` serves to who asks for `localhost`.
pub async fn served(address: SocketAddr) -> Vec<Certificate> {
    let endpoint = Endpoint::tls(address.ip().to_string(), address.port());
    let probe = TlsProbe::new(dialer()).unwrap();
    let served = probe.tls(&endpoint, "localhost", AMPLE).await.unwrap();
    let chain = served.chain.iter();
    chain
        .map(|der| Certificate::from_der(der).unwrap())
        .collect()
}

pub struct Api {
    client: HttpClient,
    base: String,
    key: Option<String>,
}

impl Api {
    /// An answer, or why there is none.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), String> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(Bytes::from(body.to_string())).unwrap();
        let response = self.client.call(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = serde_json::from_slice(response.body()).map_err(|e| e.to_string())?;
        Ok((status, body))
    }

    /// An answer that is no JSON.
    pub async fn text(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path).await).unwrap()
    }

    /// An answer that is no text.
    pub async fn bytes(&self, path: &str) -> Vec<u8> {
        let request = Request::get(format!("{}{path}", self.base));
        let response = self.client.call(request.body(Bytes::new()).unwrap()).await;
        response.unwrap().body().to_vec()
    }

    pub async fn get(&self, path: &str) -> Value {
        let path = format!("/api/v1{path}");
        let (status, body) = self.call(Method::GET, &path, &Value::Null).await.unwrap();
        assert_eq!(status, StatusCode::OK, "GET {path}: {body}");
        body
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let path = format!("/api/v1{path}");
        let (status, body) = self.call(Method::POST, &path, &body).await.unwrap();
        assert!(status.is_success(), "POST {path}: {status} {body}");
        body
    }
    /// Waits until no deployment of a certificate is pending or missing, and returns its targets.
    pub async fn deployed(&self, certificate: &str) -> Value {
        let path = format!("/certificates/{certificate}/deployments");
        self.until(&path, |targets| {
            let targets = targets["data"].as_array().unwrap();
            let mut states = targets.iter().map(|t| t["deployment"]["state"].as_str());
            states.all(|state| !matches!(state, None | Some("pending")))
        })
        .await
    }

    /// Reads until the answer is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut again = interval(Duration::from_millis(50));
        let mut last = Value::Null;
        let found = timeout(AMPLE, async {
            loop {
                again.tick().await;
                last = self.get(path).await;
                if wanted(&last) {
                    break;
                }
            }
        });
        let found = found.await;
        assert!(found.is_ok(), "it never came: {path} says {last}");
        last
    }
}
