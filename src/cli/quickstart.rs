//! `certctl quickstart`: the whole product in one process, doing its main job. Everything past the
//! start goes through the doors that everybody uses: the socket's API and the agent's HTTPS calls.

use super::{
    CliError, Global, certs,
    client::Client,
    follow,
    host::{self, Host},
    output,
};
use crate::{
    agent::{Agent, EnrolWish, Identity, Paths, Policy, enrol},
    api::shapes::{
        CertificateNew, CertificateShape, DeploymentShape, Ignored, List, RenewalTriggered,
        TargetNew, TargetShape, TokenMadeShape, TokenNew,
    },
    app::{FIRST_START, SYSTEM_CA_FILE},
    config::{self, Environment, Flags},
    net::Trust,
    sys::{Disk, Files, Machine, notify},
};
use clap::Args;
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep};

const CERTIFICATE: &str = "localhost";
const FILES_TARGET: &str = "tgt-local-files";
const SITE_TARGET: &str = "tgt-local-site";
/// The first certificate is issued, deployed and verified within this time, or something is wrong.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest first-start file, in bytes.
const MAX_FIRST_START: usize = 4096;

/// Try it: server, local CA, agent and a first certificate, in one process and one directory.
#[derive(Debug, Args)]
pub struct Quickstart {
    /// Address of the control plane
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Address of the site that serves the first certificate
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9443")]
    site_listen: SocketAddr,
    /// Stop once the first deployment is verified
    #[arg(long)]
    exit: bool,
}

impl Quickstart {
    /// What the command line says of the server's settings. The data are beside whoever tries it.
    pub fn flags(&self, global: &Global, env: &Environment) -> Flags {
        let data_dir = global.data_dir.clone();
        let data_dir = data_dir.or_else(|| env.get("CERTCTL_DATA_DIR").map(PathBuf::from));
        Flags {
            data_dir: Some(data_dir.unwrap_or_else(|| "./certctl-data".into())),
            listen: Some(self.listen),
            socket: global.socket.clone(),
        }
    }
}

/// Runs it until the process is told to end.
pub async fn run(command: Quickstart, global: &Global, env: &Environment) -> Result<(), CliError> {
    let flags = command.flags(global, env);
    let data_dir = flags.data_dir.clone().unwrap_or_default();
    // What it tells to be typed next names the directory, also where nobody said which.
    let told = Global {
        data_dir: Some(data_dir.clone()),
        ..global.clone()
    };
    let (config, _) = config::server(env, flags)?;
    let socket = config.socket.clone();
    let Some(host) = Host::start(config, Vec::new()).await? else {
        return Ok(());
    };
    if let Err(e) = host::can_listen(command.site_listen).await {
        host.stop().await;
        return Err(e);
    }
    let client = Client::on_socket(socket);
    let url = format!("https://{}", reached(host.address));
    step(&format!(
        "control plane on {url}, data in {}",
        data_dir.display()
    ));

    let worked = tokio::select! {
        biased;
        () = host.told_to_end() => None,
        worked = work(&command, &host, &client, &url, (&data_dir, &told)) => Some(worked),
    };
    match worked {
        Some(Ok(())) if !command.exit => {
            farewell(&url, &data_dir, &told);
            notify::ready();
            host.told_to_end().await;
            step("stopping");
        }
        Some(Err(e)) => {
            host.stop().await;
            return Err(e);
        }
        _ => {}
    }
    host.stop().await;
    Ok(())
}

/// Brings agent, targets and certificate to where the first certificate is seen served.
async fn work(
    command: &Quickstart,
    host: &Host,
    client: &Client,
    url: &str,
    (data_dir, told): (&Path, &Global),
) -> Result<(), CliError> {
    let paths = host::paths(&data_dir.join("agent"), &data_dir.join("live"))?;
    let agent = start_agent(host, client, url, &paths).await?;
    if host.app.is_fenced() {
        step(&told.typed(
            "the store was restored: nothing is issued or deployed until `certctl restore \
             unfence`; before that, `certctl restore plan` tells what it would do",
        ));
        return Ok(());
    }
    for (id, name, kind, config) in [
        (FILES_TARGET, "local files", "File", json!({})),
        (
            SITE_TARGET,
            "local site",
            "Site",
            json!({"listen": command.site_listen.to_string(), "server_name": CERTIFICATE}),
        ),
    ] {
        target(client, id, name, kind, &agent, config).await?;
    }
    certificate(client).await
}

/// Enrols the local agent where it is not enrolled, and starts it.
async fn start_agent(
    host: &Host,
    client: &Client,
    url: &str,
    paths: &Paths,
) -> Result<String, CliError> {
    let env = host::agent_env(&host.tasks, Policy::read(None)?)?;
    let identity = match Identity::load(&Disk, paths)? {
        Some(identity) if identity.server_url() == url => identity,
        Some(identity) => {
            return Err(CliError::Config(format!(
                "--listen: the agent in this directory knows the control plane as {}; listen \
                 there, or choose another --data-dir",
                identity.server_url()
            )));
        }
        None => {
            let new = TokenNew {
                name: "quickstart".into(),
                expires_in_seconds: 300,
                ..TokenNew::default()
            };
            let token: TokenMadeShape = client.post("/agents/tokens", &new).await?;
            let pin = token
                .ca_pin
                .parse()
                .map_err(|e| CliError::Failed(format!("the system CA's pin: {e}")))?;
            let machine = Machine::this();
            let wish = EnrolWish {
                token: token.token.into(),
                name: "local".into(),
                hostname: machine.hostname,
                os: machine.os.into(),
                architecture: machine.architecture.into(),
                version: env!("CARGO_PKG_VERSION").into(),
            };
            let transport = host::to_server(&Trust::Pin(pin), true)?;
            enrol(&env, paths, &transport, url, wish).await?
        }
    };
    let trust = Trust::from_pem(identity.system_ca_pem().as_bytes())?;
    let transport = Arc::new(host::to_server(&trust, true)?);
    let id = identity.agent_id().to_string();
    let held = host::hold(&paths.state)?;
    let agent = Agent::open(env, paths.clone(), transport).await?;
    host.tasks.spawn("agent", async move {
        agent.run().await;
        drop(held);
    });
    step(&format!("agent {id} enrolled and started"));
    Ok(id)
}

async fn target(
    client: &Client,
    id: &str,
    name: &str,
    kind: &str,
    agent: &str,
    config: serde_json::Value,
) -> Result<(), CliError> {
    if let Some(found) = client
        .find::<TargetShape>(&format!("/targets/{id}"))
        .await?
    {
        return if found.config == config {
            Ok(())
        } else {
            Err(CliError::Config(format!(
                "--site-listen: the site in this directory has {}; give the same address, or \
                 choose another --data-dir",
                found.config
            )))
        };
    }
    let new = TargetNew {
        id: Some(id.into()),
        name: name.into(),
        kind: kind.into(),
        agent_id: agent.into(),
        config,
        enabled: Ignored,
    };
    let _: TargetShape = client.post("/targets", &new).await?;
    Ok(())
}

/// Makes the first certificate where it is missing, and waits until it is seen served.
async fn certificate(client: &Client) -> Result<(), CliError> {
    let path = format!("/certificates/{CERTIFICATE}");
    let found = client.find::<CertificateShape>(&path).await?;
    let certificate = match found {
        Some(certificate) => certificate,
        None => {
            let new = CertificateNew {
                id: Some(CERTIFICATE.into()),
                name: CERTIFICATE.into(),
                common_name: CERTIFICATE.into(),
                sans: vec![Ipv4Addr::LOCALHOST.to_string()],
                environment: "quickstart".into(),
                target_ids: vec![FILES_TARGET.into(), SITE_TARGET.into()],
                ..CertificateNew::default()
            };
            client.post("/certificates", &new).await?
        }
    };
    step(&format!(
        "certificate {CERTIFICATE} for {}",
        certificate.sans.join(", ")
    ));
    let open = certificate.holders.iter().find_map(|h| h.order_id.clone());
    let order = match open {
        Some(order) => order,
        None if settled(client).await? => return Ok(()),
        // What kept an earlier run from its end may be gone by now; else it is told again.
        None => {
            let renewed: RenewalTriggered =
                client.post(&format!("{path}/renew"), &json!({})).await?;
            let order = renewed.order_ids.into_iter().next();
            order.ok_or_else(|| CliError::Failed(format!("{CERTIFICATE} has no agent")))?
        }
    };
    let order = follow::order(client, &order, LIMIT, |s| step(&certs::said(s))).await?;
    follow::fault(&order).map_or(Ok(()), |fault| Err(CliError::Failed(fault)))
}

/// Waits until no deployment is pending. Says where the certificate is served, unless it is not
/// served everywhere.
async fn settled(client: &Client) -> Result<bool, CliError> {
    let deadline = Instant::now() + LIMIT;
    let deployments = loop {
        let path = format!("/certificates/{CERTIFICATE}/deployments");
        let targets: List<TargetShape> = client.get(&path).await?;
        let deployments: Option<Vec<DeploymentShape>> =
            targets.data.into_iter().map(|t| t.deployment).collect();
        match deployments {
            // There was no version yet.
            None => return Ok(false),
            Some(d) if d.iter().all(|d| d.state != "pending") => break d,
            Some(_) if Instant::now() < deadline => sleep(Duration::from_millis(150)).await,
            Some(_) => {
                return Err(CliError::Failed(format!(
                    "{CERTIFICATE} is not deployed after {} s",
                    LIMIT.as_secs()
                )));
            }
        }
    };
    for d in &deployments {
        if d.state != "confirmed" || !served_now(d).await? {
            return Ok(false);
        }
    }
    for d in &deployments {
        let seen = d.confirmed_at.join(" ");
        step(&format!("serial {} seen served at {seen}", d.serial_number));
    }
    Ok(true)
}

/// Whether the endpoints where an earlier run saw a version served serve it now.
async fn served_now(d: &DeploymentShape) -> Result<bool, CliError> {
    for place in &d.confirmed_at {
        let serial = host::serial_at(place, CERTIFICATE).await?;
        if serial.as_ref() != Some(&d.serial_number) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn step(text: &str) {
    output::line(&format!("  {text}"));
}

fn farewell(url: &str, data_dir: &Path, told: &Global) {
    let key = admin_key(data_dir);
    let ca = data_dir.join(SYSTEM_CA_FILE);
    let key = key.unwrap_or_else(|| format!("the one from the first run ({FIRST_START} is gone)"));
    output::line("");
    output::line(&format!("Dashboard  {url}"));
    output::line(&format!("CA         {}", ca.display()));
    output::line(&format!("Admin key  {key}"));
    output::line("");
    output::line("Try next, in another terminal:");
    for command in [
        "certs list",
        "certs show localhost",
        "certs renew localhost",
    ] {
        output::line(&format!("  {}", told.call(command)));
    }
    output::line("");
    output::line("Ctrl-C stops.");
}

/// The key that the first start wrote down, while its file is there.
fn admin_key(data_dir: &Path) -> Option<String> {
    let text = Disk
        .read(&data_dir.join(FIRST_START), MAX_FIRST_START)
        .ok()?;
    let text = String::from_utf8(text).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("admin key: "))?;
    Some(line.to_owned())
}

/// The address under which a listener is reached from this machine.
fn reached(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
        }
        _ => address,
    }
}
