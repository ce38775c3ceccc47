//! A server that reads its pair once, as one does that nobody told to reload.

use super::home::{Home, served};
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;
use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

#[tokio::test]
async fn a_server_that_keeps_the_old_pair_is_found_out_by_its_serial() {
    let home = Home::new();
    let _running = home.quickstart();
    let server = Stubborn::start(home.ip, home.path("live/www"));
    let endpoint = server.address.to_string();
    let target = json!({
        "id": "tgt-www", "name": "www server", "type": "File", "agent_id": home.agent().await,
        "config": {"endpoints": [endpoint], "server_name": "localhost", "verify_timeout": "500ms"},
    });
    home.api().post("/targets", target).await;
    let new = json!({
        "id": "www", "name": "www", "common_name": "localhost", "target_ids": ["tgt-www"],
    });
    home.api().post("/certificates", new).await;
    // Its first pair is read by the handshake that looks for it.
    home.api().deployed("www").await;
    let first = home.live_serial("www");
    assert_eq!(served(server.address).await[0].serial().to_string(), first);

    let ended = home.run("certs renew www --output json");
    let orders: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let fault = ended.bad_json(1);
    let still = format!("{endpoint} still serves serial {first}");
    assert!(
        fault.contains("www server") && fault.contains(&still),
        "{fault}"
    );
    let deployment = &orders[0]["deployments"][0];
    assert_eq!(deployment["state"], "failed");
    let seen = deployment["still_served"].as_array().unwrap();
    let seen: Vec<_> = seen.iter().filter(|s| s["endpoint"] == endpoint).collect();
    assert_eq!(seen.len(), 1, "{orders}");
    assert_eq!(seen[0]["serial_number"], first);

    // The files are what the server serves again.
    assert_eq!(home.live_serial("www"), first);
    let shown = home.run("certs show www").good();
    assert_eq!(shown.matches(&still).count(), 2, "{shown}");
    let shown = home.json("certs show www");
    assert!(
        shown["problem"].as_str().unwrap().contains(&still),
        "{shown}"
    );
    assert_ne!(shown["versions"][0]["serial_number"], first.as_str());
    let listed = home.run("certs list").good();
    assert!(
        listed.contains("PROBLEM") && listed.contains("www server"),
        "{listed}"
    );

    server.relent();
    home.run("certs renew www").good();
    let listed = home.run("certs list").good();
    assert!(!listed.contains("PROBLEM"), "{listed}");
    let last = home.live_serial("www");
    assert_ne!(last, first);
    assert_eq!(served(server.address).await[0].serial().to_string(), last);
    let shown = home.json("certs show www");
    assert!(shown.get("problem").is_none(), "{shown}");
}

/// Serves the pair that its directory held when it was first asked.
struct Stubborn {
    address: SocketAddr,
    keeps: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stubborn {
    #[expect(
        clippy::disallowed_methods,
        reason = "a server that is not the product's"
    )]
    fn start(ip: std::net::IpAddr, dir: PathBuf) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let keeps = Arc::new(AtomicBool::new(true));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (keeps, stop) = (keeps.clone(), stop.clone());
            move || {
                let mut config = None;
                for stream in listener.incoming() {
                    if stop.load(SeqCst) {
                        return;
                    }
                    if config.is_none() || !keeps.load(SeqCst) {
                        config = read_pair(&dir);
                    }
                    // Whoever asks before there is a pair meets a closed door.
                    if let Some(config) = &config {
                        greet(config, &mut stream.unwrap());
                    }
                }
            }
        });
        Self {
            address,
            keeps,
            stop,
            thread: Some(thread),
        }
    }

    /// From now on it reads its pair whenever it is asked.
    fn relent(&self) {
        self.keeps.store(false, SeqCst);
    }
}

impl Drop for Stubborn {
    #[expect(clippy::disallowed_methods, reason = "wakes the listener")]
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn read_pair(dir: &Path) -> Option<Arc<ServerConfig>> {
    let chain = fs::read(dir.join("fullchain.pem")).ok()?;
    let key = PrivateKeyDer::from_pem_file(dir.join("privkey.pem")).ok()?;
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.unwrap(), key);
    Some(Arc::new(config.unwrap()))
}

/// Does the handshake and waits until the other side is content.
fn greet(config: &Arc<ServerConfig>, stream: &mut TcpStream) {
    let mut tls = ServerConnection::new(config.clone()).unwrap();
    while tls.is_handshaking() {
        if tls.complete_io(stream).is_err() {
            return;
        }
    }
    let _ = stream.read_to_end(&mut Vec::new());
}
