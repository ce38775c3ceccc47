//! The dashboard in a real browser: the real binary runs `quickstart`, and `dashboard.mjs` drives
//! Chromium as a person would. `tests/run` installs what that needs; without it the test fails.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// A quickstart says its last word within this time.
const LIMIT: Duration = Duration::from_secs(60);

/// A running quickstart; killed when dropped.
struct Quickstart {
    process: Child,
    url: String,
    key: String,
    data: tempfile::TempDir,
}

impl Quickstart {
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let [listen, site] = free_addresses();
        let mut process = Command::new(env!("CARGO_BIN_EXE_certctl"))
            .env_clear()
            .args(["quickstart", "--data-dir"])
            .arg(data.path())
            .args(["--listen", &listen.to_string()])
            .args(["--site-listen", &site.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("certctl starts");
        let stdout = BufReader::new(process.stdout.take().expect("its output"));
        let (said, lines) = mpsc::channel();
        // Reads until the process ends, so that it never writes into a closed pipe.
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let mut started = Self {
            process,
            url: String::new(),
            key: String::new(),
            data,
        };
        let mut all = Vec::new();
        while started.url.is_empty() || started.key.is_empty() {
            let line = lines
                .recv_timeout(LIMIT)
                .unwrap_or_else(|e| panic!("{e}; quickstart said:\n{}", all.join("\n")));
            if let Some(url) = line.strip_prefix("Dashboard  ") {
                url.clone_into(&mut started.url);
            }
            if let Some(key) = line.strip_prefix("Admin key  ") {
                key.clone_into(&mut started.key);
            }
            all.push(line);
        }
        started
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kernel picks ports that are free"
)]
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let held = [(); N].map(|()| TcpListener::bind(any).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("an address"))
}

#[test]
fn a_person_uses_the_dashboard() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let quickstart = Quickstart::start();
    let output = Command::new("node")
        .arg(root.join("tests/e2e/dashboard.mjs"))
        .env("E2E_DIR", root.join("target/e2e"))
        .env("E2E_URL", &quickstart.url)
        .env("E2E_KEY", &quickstart.key)
        .env("E2E_CERTCTL", env!("CARGO_BIN_EXE_certctl"))
        .env("E2E_DATA", quickstart.data.path())
        .output()
        .expect("node (tests/run installs it)");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
