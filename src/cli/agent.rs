//! `certctl agent`.

use super::{CliError, Global, Output, client, host, output};
use crate::{
    agent::{
        self, Agent, AgentExit, EnrolWish, Identity, POLICY_FILE, Paths, Policy, Step, Ways, enrol,
        ping,
    },
    clock::SystemClock,
    config::Environment,
    crypt::OsRng,
    id::Id,
    net::{HttpClient, Resolver, Trust},
    sys::{Disk, Files, Machine, Tasks, notify},
};
use clap::{Args, Subcommand};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

const DEFAULT_STATE: &str = "/var/lib/certctl-agent";
/// Work in progress has this long to end when the process is told to.
const GRACE: Duration = Duration::from_secs(25);
/// Files that an agent with a busy site has open.
const OPEN_FILES: u64 = 2_000;
/// The longest join token file, in bytes.
const MAX_TOKEN: usize = 4096;

/// Run, enrol or try an agent.
#[derive(Debug, Args)]
pub struct AgentCommand {
    /// Where the agent keeps its identity, keys and versions
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_STATE)]
    state_dir: PathBuf,
    /// What the agent may do on this host, whatever the server asks for; a change takes effect
    /// when the agent is restarted [env: CERTCTL_AGENT_POLICY] [default:
    /// /etc/certctl/agent-policy.toml, which need not be there]
    #[arg(long, global = true, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Give this host an identity at the server named by --server
    Enrol(EnrolArgs),
    /// Show what the agent may do on this host, and where that is written
    Policy,
    /// Write a certificate's version in use and its private key to a PKCS#12 file, for software
    /// that reads no PEM
    Export(ExportArgs),
    /// Try this host's way to its server, step by step; it does not disturb a running agent
    Ping,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true).args(["token", "token_file"]))]
struct EnrolArgs {
    /// The join token; every user of this machine sees it: prefer --token-file
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// File that holds the join token; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Public key of the server's system CA, `sha256:` and 64 hexadecimal digits; or --ca-bundle
    #[arg(long, value_name = "PIN", conflicts_with = "ca_bundle")]
    ca_pin: Option<String>,
    /// The agent's name; the host's when not given
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// The certificate's id
    certificate: Id,
    /// File of the password; one line end at its end is left out
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// The file to write, for its owner alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where the agent keeps its links to versions [default: live, in the state directory]
    #[arg(long, value_name = "DIR")]
    live_dir: Option<PathBuf>,
}

/// Runs it.
pub async fn run(
    command: AgentCommand,
    global: &Global,
    env: &Environment,
) -> Result<(), CliError> {
    match &command.action {
        Some(Action::Enrol(args)) => enrol_host(&command, args, global, env).await,
        Some(Action::Policy) => show_policy(&policy(&command, env)?, global.output),
        Some(Action::Export(args)) => export_version(&command, args, global.output),
        Some(Action::Ping) => try_way(&command, global, env).await,
        None => serve(&command, global, env).await,
    }
}

/// The policy that the command line, the environment or the machine has.
fn policy(command: &AgentCommand, env: &Environment) -> Result<Policy, CliError> {
    let named = env.get("CERTCTL_AGENT_POLICY").map(Path::new);
    Ok(Policy::read(command.policy.as_deref().or(named))?)
}

fn export_version(
    command: &AgentCommand,
    args: &ExportArgs,
    output: Output,
) -> Result<(), CliError> {
    let live = args.live_dir.clone();
    let live = live.unwrap_or_else(|| command.state_dir.join("live"));
    let paths = host::paths(&command.state_dir, &live)?;
    let password = host::read_secret(&args.password_file)?;
    if password.is_empty() {
        let file = args.password_file.display();
        return Err(CliError::Failed(format!(
            "{file} is empty: the file would hold the private key for everyone"
        )));
    }
    let certificate = &args.certificate;
    let file = agent::export(&Disk, &paths, certificate, &password, &OsRng);
    let file = file.map_err(|e| CliError::Failed(e.to_string()))?;
    Disk.write_durable(&args.out, &file, 0o600)
        .map_err(|e| CliError::Storage(e.to_string()))?;
    let out = args.out.display().to_string();
    if output == Output::Json {
        return output::json(&serde_json::json!({"file": out}));
    }
    output::line(&format!(
        "{certificate} and its private key are written to {out}"
    ));
    Ok(())
}

fn show_policy(policy: &Policy, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(policy);
    }
    let from = match &policy.file {
        Some(file) => file.display().to_string(),
        None => format!("built in: there is no {POLICY_FILE}"),
    };
    let paths = |paths: &[PathBuf]| {
        let texts: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        texts.join("\n")
    };
    let commands: Vec<_> = policy.commands.iter().map(|c| format!("{c:?}")).collect();
    let writes = policy.paths.as_deref().map(paths);
    let configs = policy.configs.as_deref().map(paths);
    for (name, says) in [
        ("from", from),
        ("target types", policy.target_types.join("\n")),
        (
            "paths",
            writes.unwrap_or_else(|| {
                "wherever the agent's user may write, places of the system excepted".into()
            }),
        ),
        ("commands", commands.join("\n")),
        ("binaries", paths(&policy.binaries)),
        (
            "configs",
            configs.unwrap_or_else(|| "those below /etc/nginx".into()),
        ),
    ] {
        let says = if says.is_empty() { "none".into() } else { says };
        for (i, line) in says.lines().enumerate() {
            let name = if i == 0 { name } else { "" };
            output::line(&format!("{name:<14} {line}"));
        }
    }
    Ok(())
}

async fn enrol_host(
    command: &AgentCommand,
    args: &EnrolArgs,
    global: &Global,
    env: &Environment,
) -> Result<(), CliError> {
    let Some(server) = client::server(global, env)? else {
        return Err(CliError::Config(
            "--server: the server's address is wanted".into(),
        ));
    };
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) if file.as_os_str() == "-" => host::from_stdin("join token", MAX_TOKEN)?,
        (None, Some(file)) => String::from_utf8_lossy(&host::read(file, MAX_TOKEN)?)
            .trim()
            .to_owned(),
        (None, None) => return Err(CliError::Config("--token or --token-file is wanted".into())),
    };
    let bundle = client::bundle(global, env);
    let (trust, system_ca) = match (&args.ca_pin, &bundle) {
        (Some(_), Some(_)) => {
            return Err(CliError::Config(
                "CERTCTL_SERVER_CA_BUNDLE_PATH is set, which is another trust than --ca-pin: unset \
                 it, or leave out the pin"
                    .into(),
            ));
        }
        (Some(pin), None) => {
            let pin = pin
                .parse()
                .map_err(|e| CliError::Config(format!("--ca-pin: {e}")))?;
            (Trust::Pin(pin), true)
        }
        (None, Some(path)) => (client::trust(path)?, false),
        (None, None) => {
            return Err(CliError::Config(
                "--ca-pin or --ca-bundle is wanted: without one the server could be anybody".into(),
            ));
        }
    };
    let transport = host::to_server(&trust, system_ca)?;
    let paths = host::paths(&command.state_dir, &command.state_dir.join("live"))?;
    let machine = Machine::this();
    let wish = EnrolWish {
        token: token.into(),
        name: args
            .name
            .clone()
            .unwrap_or_else(|| machine.hostname.clone()),
        hostname: machine.hostname,
        os: machine.os.into(),
        architecture: machine.architecture.into(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let env = host::agent_env(&Tasks::new(), Policy::default())?;
    let identity = enrol(&env, &paths, &transport, server, wish).await?;
    let bundle = bundle.map(|path| format!(" --ca-bundle {}", path.display()));
    output::line(&format!(
        "enrolled as {} ({}); start it with: certctl agent --state-dir {}{}",
        identity.name(),
        identity.agent_id(),
        command.state_dir.display(),
        bundle.unwrap_or_default()
    ));
    Ok(())
}

/// The identity of this host, and where it lies.
fn identity(command: &AgentCommand) -> Result<(Paths, Identity), CliError> {
    let paths = host::paths(&command.state_dir, &command.state_dir.join("live"))?;
    match Identity::load(&Disk, &paths)? {
        Some(identity) => Ok((paths, identity)),
        None => Err(CliError::Config(format!(
            "{} holds no identity: enrol this host first, by `certctl agent enrol`",
            command.state_dir.display()
        ))),
    }
}

/// The way to the server of an identity, trusted as an agent trusts it.
fn way(identity: &Identity, global: &Global, env: &Environment) -> Result<HttpClient, CliError> {
    // A bundle is for a server behind a proxy, whose certificate is not of the system CA.
    let (trust, system_ca) = match client::bundle(global, env) {
        Some(path) => (client::trust(&path)?, false),
        None => (Trust::from_pem(identity.system_ca_pem().as_bytes())?, true),
    };
    host::to_server(&trust, system_ca)
}

async fn try_way(
    command: &AgentCommand,
    global: &Global,
    env: &Environment,
) -> Result<(), CliError> {
    let (paths, identity) = identity(command)?;
    let ways = Ways {
        clock: &SystemClock,
        files: &Disk,
        resolver: &Resolver::system(),
        transport: Arc::new(way(&identity, global, env)?),
    };
    let steps = ping(&ways, &paths, &identity).await;
    if global.output == Output::Json {
        output::json(&steps)?;
    } else {
        let row = |s: &Step| {
            let mark = if s.ok { "ok" } else { "FAILED" };
            [s.check, mark, &s.found, &s.remedy]
                .map(String::from)
                .into()
        };
        output::table(&["CHECK", "", "FOUND", "WHAT TO DO"], steps.iter().map(row));
    }
    match steps.iter().find(|s| !s.ok) {
        None => Ok(()),
        Some(s) => Err(CliError::Failed(format!("{}: {}", s.check, s.found))),
    }
}

async fn serve(command: &AgentCommand, global: &Global, env: &Environment) -> Result<(), CliError> {
    let policy = policy(command, env)?;
    let (paths, identity) = identity(command)?;
    let _held = host::hold(&command.state_dir)?;
    let tasks = Tasks::new();
    let told = host::signalled(&tasks)?;
    host::raise_open_files(OPEN_FILES);
    let transport = Arc::new(way(&identity, global, env)?);
    let env = host::agent_env(&tasks, policy)?;
    let agent = tokio::select! {
        biased;
        () = told.cancelled() => return Ok(()),
        agent = Agent::open(env, paths, transport) => agent?,
    };
    notify::ready();
    let exit = tokio::select! {
        biased;
        () = told.cancelled() => AgentExit::Stopped,
        exit = agent.run() => exit,
    };
    notify::stopping();
    tasks.shutdown(GRACE).await;
    if exit == AgentExit::Retired {
        output::line("the server has retired this agent");
    }
    Ok(())
}
