//! The measured server: a process of its own, as an installation runs it.

use super::Place;
use crate::{
    app::{App, Parts, Started},
    config::SOCKET_NAME,
    net::{AGENT_NAME, Dialer, Guard, HttpClient, HttpOptions, Resolver, Transport, Trust},
    sys::Tasks,
};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};

/// Longer than any start or call may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// USER_HZ, the same on all of today's kernels.
const TICKS_PER_SECOND: u64 = 100;
/// Between two looks at a server that starts.
const GLANCE: Duration = Duration::from_millis(1);

impl Place {
    /// The first start, in this process and without doors; gives the administrator's key.
    pub async fn first_start(&self) -> Result<(Arc<App>, String)> {
        let config = self.config(self.path());
        let parts = Parts::of_machine(config, Tasks::new(), Vec::new()).await?;
        let Started { app, admin_key } = App::start(parts).await?;
        Ok((app, admin_key.context("this was no first start")?))
    }

    fn socket(&self) -> PathBuf {
        self.path().join(SOCKET_NAME)
    }
}

/// A server process; killed when dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    trust: Trust,
    /// From the start of the process to the first answer that it is ready.
    pub ready_after: Duration,
}

impl Server {
    /// Starts it and waits until it says that it is ready.
    pub async fn start(place: &Place) -> Result<Self> {
        let begin = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["server", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(place.path())
            .env_clear()
            .env("CERTCTL_LOG_FORMAT", "json")
            .env("CERTCTL_RATE_LIMIT_ENABLED", "false")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some((url, _)) = &place.database {
            command.env("CERTCTL_DATABASE_URL", url);
        }
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let (sender, mut said) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("server log".into())
            .spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    // It is read to its end, whether or not anybody still listens.
                    let _ = sender.send(line);
                }
            })?;
        let mut server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            trust: Trust::System,
            ready_after: Duration::ZERO,
        };
        let socket = HttpClient::unix(place.socket(), HttpOptions::default());
        loop {
            let asked = Request::get("http://localhost/ready").body(Bytes::new())?;
            match socket.call(asked).await {
                Ok(answer) if answer.status() == StatusCode::OK => break,
                _ if begin.elapsed() > PATIENCE => bail!("the server is not ready"),
                _ => {}
            }
            if let Some(status) = server.child.try_wait()? {
                let mut log = Vec::new();
                while let Some(line) = said.recv().await {
                    log.push(line);
                }
                bail!("the server ended with {status}: {}", log.join("\n"));
            }
            tokio::time::sleep(GLANCE).await;
        }
        server.ready_after = begin.elapsed();
        let named = async {
            loop {
                let line = said.recv().await.context("the server names no address")?;
                if let Some(address) = address(&line) {
                    return anyhow::Ok(address);
                }
            }
        };
        server.address = timeout(PATIENCE, named).await??;
        let ca = std::fs::read(place.path().join("tls/system-ca.pem"))?;
        server.trust = Trust::from_pem(&ca)?;
        Ok(server)
    }

    /// A client with a connection of its own, which it keeps.
    pub fn client(&self, key: &str) -> Result<Client> {
        let options = HttpOptions {
            timeout: PATIENCE,
            server_name: Some(AGENT_NAME.to_owned()),
            ..HttpOptions::default()
        };
        let dialer = Dialer::new(Resolver::system(), Guard::Any);
        Ok(Client {
            http: HttpClient::https(dialer, &self.trust, options)?,
            base: format!("https://{}", self.address),
            authorization: format!("Bearer {key}"),
        })
    }

    /// The memory it has in use (resident set), MiB.
    pub fn memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: f64 = kib.context("no resident set is told")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// The processor time it has used so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu(&self.child.id().to_string())
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it as a service manager does.
    pub async fn stop(mut self, tasks: &Tasks) -> Result<()> {
        kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGTERM,
        )?;
        let ended = tasks.spawn_blocking("server end", move || self.child.wait());
        let status = ended.await??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time that a process has used so far, in user and kernel mode (proc_pid_stat(5)).
pub fn cpu(process: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no fields")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// The address in the log line that tells of it.
fn address(line: &str) -> Option<SocketAddr> {
    #[derive(Deserialize)]
    struct Line {
        address: SocketAddr,
    }
    serde_json::from_str::<Line>(line).ok().map(|l| l.address)
}

/// Calls the server over TLS.
#[derive(Clone)]
pub struct Client {
    http: HttpClient,
    base: String,
    authorization: String,
}

impl Client {
    /// Another caller, who comes from this address by a connection of its own.
    pub fn apart(&self, key: &str, from: IpAddr) -> Self {
        Self {
            http: self.http.apart(from),
            base: self.base.clone(),
            authorization: format!("Bearer {key}"),
        }
    }

    /// A call; gives the body.
    ///
    /// # Errors
    /// When the answer has another status than expected.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        expected: StatusCode,
    ) -> Result<Bytes> {
        let request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)?;
        let answer = self.http.call(request).await?;
        let status = answer.status();
        let body = answer.into_body();
        ensure!(
            status == expected,
            "{method} {path}: {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        let call = self.call(Method::GET, path, Bytes::new(), StatusCode::OK);
        call.await
    }
}
