//! The command line: a file per command. Commands that speak to a server are REST clients, by the
//! unix socket of a server on this machine or over HTTPS.

mod agent;
mod agents;
mod attempts;
mod audit;
mod backup;
mod bench;
mod bulk;
mod certs;
mod certs_edit;
mod client;
mod config;
mod db;
mod doctor;
mod documents;
mod error;
mod follow;
mod hint;
mod host;
mod issuers;
mod jobs;
mod keys;
mod manual;
mod migrate;
mod output;
mod owners;
mod policies;
mod profiles;
mod quickstart;
mod renewal_policies;
mod restore;
mod roles;
mod secrets;
mod served;
mod server;
mod status;
mod storage;
mod targets;

pub use error::{CliError, EXIT_CODES};

use crate::{
    config::{
        Environment, Flags, LogConfig, ServerConfig, logging, server as server_settings,
        server_at_rest,
    },
    sys::{self, Disk, Files},
    telemetry,
};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::{
    ffi::OsString,
    future::Future,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The longest configuration file, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// Certificate lifecycle manager: issues, renews, deploys and proves certificates.
#[derive(Debug, Parser)]
#[command(name = "certctl", version, max_term_width = 100, after_help = error::exit_codes())]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command may be told.
#[derive(Debug, Clone, Args)]
struct Global {
    /// The server's data directory [env: CERTCTL_DATA_DIR] [default: /var/lib/certctl, of
    /// quickstart ./certctl-data]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration file [env: CERTCTL_CONFIG] [default: /etc/certctl/certctl.toml, where
    /// there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Unix socket of a server on this machine [env: CERTCTL_SOCKET] [default: <data-dir>/certctl.sock]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Talk to this server instead, with the key in CERTCTL_API_KEY [env: CERTCTL_SERVER_URL, where
    /// neither --data-dir nor --socket is given]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// PEM file of the CAs to trust: with --server, or for an agent before a proxy that ends TLS
    /// [env: CERTCTL_SERVER_CA_BUNDLE_PATH]
    #[arg(long, global = true, value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// What the program was called as, for the commands that it tells.
    #[arg(skip)]
    program: String,
}

impl Global {
    /// The server that is named, by its address, to be talked to: by the flag, else by the setting.
    /// A flag that names a server of this machine comes before a setting, which is for all commands.
    fn named_server<'a>(&'a self, env: &'a Environment) -> Option<&'a str> {
        let here = self.data_dir.is_some() || self.socket.is_some();
        let setting = || env.get("CERTCTL_SERVER_URL").filter(|_| !here);
        self.server.as_deref().or_else(setting)
    }

    /// Refuses a server's name where it would not be looked at. A setting is for all commands, and
    /// is no reason to refuse: people are told which store is worked on, that of `config`.
    fn on_this_machine(
        &self,
        what: &str,
        config: &ServerConfig,
        env: &Environment,
    ) -> Result<(), CliError> {
        match &self.server {
            None => {
                let of_others = env.get("CERTCTL_SERVER_URL").is_some();
                // What programs read on standard error is a failure alone.
                if of_others && self.output == Output::Table {
                    let store = match &config.database {
                        Some(_) => "in the database of CERTCTL_DATABASE_URL".to_owned(),
                        None => format!("in {}", config.data_dir.display()),
                    };
                    output::warn(&format!(
                        "{what} works on the store {store}, whatever CERTCTL_SERVER_URL says"
                    ));
                }
                Ok(())
            }
            Some(server) => Err(CliError::Usage(format!(
                "{what} works on the store of this machine's server, not on that of {server}: run it \
                 there, without --server"
            ))),
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try it: server, local CA, agent and a first certificate, in one process and one directory
    Quickstart(quickstart::Quickstart),
    /// Run the control plane
    Server(server::Server),
    /// Run an agent, enrol it, or try its way to the server
    Agent(agent::AgentCommand),
    /// Let agents join, list and show them, retire them
    #[command(subcommand)]
    Agents(agents::Agents),
    /// List, show, make, edit, renew and deploy certificates
    #[command(subcommand)]
    Certs(certs::Certs),
    /// List, show, make, edit, test and delete targets
    #[command(subcommand)]
    Targets(targets::Targets),
    /// List, show, make, import, edit, test and delete issuers
    #[command(subcommand)]
    Issuers(issuers::Issuers),
    /// List, show, make, edit and delete profiles: what may be issued
    #[command(subcommand)]
    Profiles(profiles::Profiles),
    /// List, show, make, edit and delete policy rules, and list what breaks them
    #[command(subcommand)]
    Policies(policies::Policies),
    /// List, show, make, edit and delete renewal policies: when to renew
    #[command(subcommand)]
    RenewalPolicies(renewal_policies::RenewalPolicies),
    /// List, show, make, edit and delete owners: who answers for certificates
    #[command(subcommand)]
    Owners(owners::Owners),
    /// List, show, make, edit and delete teams of owners
    #[command(subcommand)]
    Teams(owners::Teams),
    /// List, show and cancel jobs
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// Make, list, rotate and end keys; grant them roles
    #[command(subcommand)]
    Keys(keys::Keys),
    /// List, make, edit and delete roles; list permissions
    #[command(subcommand)]
    Roles(roles::Roles),
    /// List, show and export the audit log, and verify its links
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Make, list, verify and remove backups
    #[command(subcommand)]
    Backup(backup::Backups),
    /// Put a backup in the place of the store; see and lift the fence that stands after it
    Restore(restore::Restore),
    /// How things stand: certificates, what expires and fails, agents, jobs
    Status(status::Status),
    /// Try the way to the database, and change its password
    #[command(subcommand)]
    Db(db::Db),
    /// Give back space that the store holds and does not use
    Compact(db::Compact),
    /// See and renew the keys that seal what is secret in the store
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Look at the whole installation, and say what is wrong and what mends it
    Doctor(doctor::Doctor),
    /// Show how much room the store takes, and will take
    Storage,
    /// Show and change the format of this machine's store
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Undo what a later version did to this machine's store: `migrate down` by another name
    Rollback(migrate::Down),
    /// Check, show and list the settings
    #[command(subcommand)]
    Config(config::Config),
    /// Print a shell's completions
    Completions(manual::Completions),
    /// Write the manual pages
    Man(manual::Man),
    /// Measure this machine: commits, issuance, lists, start
    Bench(bench::Benches),
}

/// The definition of the command line.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Runs a command line.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    if let Err(e) = sys::harden() {
        eprintln!("certctl: cannot harden the process: {e}");
        return ExitCode::FAILURE;
    }
    let args = named(args);
    let program = called_as(&args);
    let mut cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() && asks_for_json(&args) => {
            let text = e.to_string();
            let text = text.trim_start_matches("error: ").trim_end();
            return failed(&CliError::Usage(text.to_owned()), true, str::to_owned);
        }
        Err(e) => {
            // Also help and version come this way; a closed pipe is no fault of theirs.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    cli.global.program = program;
    let global = cli.global.clone();
    let json = global.output == Output::Json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&e, json, |text| global.typed(text)),
    }
}

fn failed(error: &CliError, json: bool, typed: impl Fn(&str) -> String) -> ExitCode {
    output::failure(error, json, typed);
    ExitCode::from(error.exit_code())
}

/// Whether a command line, as far as it can be read, asks for results that programs read.
fn asks_for_json(args: &[OsString]) -> bool {
    let flag = args.iter().any(|arg| arg == "--output=json");
    flag || args
        .windows(2)
        .any(|pair| pair[0] == "--output" && pair[1] == "json")
}

/// What to type to call the program again: its path where one was typed, else its name. By a name
/// for one command no other is called.
fn called_as(args: &[OsString]) -> String {
    let first = args.first().and_then(|arg| arg.to_str());
    let path = first.filter(|arg| arg.contains('/') && named_command(arg).is_none());
    path.unwrap_or("certctl").to_owned()
}

/// The command line, with the command that the program's name stands for.
fn named(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let program = args.first().and_then(|arg| arg.to_str());
    if let Some(command) = program.and_then(named_command) {
        args.insert(1, command.into());
    }
    args
}

/// `certctl-server` and `certctl-agent` are names for `certctl server` and `certctl agent`.
fn named_command(program: &str) -> Option<&'static str> {
    match Path::new(program).file_name()?.to_str()? {
        "certctl-server" => Some("server"),
        "certctl-agent" => Some("agent"),
        _ => None,
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let Cli { global, command } = cli;
    match &command {
        Command::Completions(command) => {
            manual::completions(command);
            return Ok(());
        }
        Command::Man(command) => return manual::man(command),
        _ => {}
    }
    let env = Environment::of_process(global.config.as_deref(), &read_text);
    match command {
        Command::Quickstart(command) => {
            let (_, log) = server_settings(&env, command.flags(&global, &env))?;
            start_logging(&env, log, Some("warn"))?;
            runtime(true, quickstart::run(command, &global, &env))
        }
        Command::Server(command) => {
            let (_, log) = server_settings(&env, command.flags(&global))?;
            start_logging(&env, log, None)?;
            runtime(true, server::run(command, &global, &env))
        }
        Command::Agent(command) => {
            start_logging(&env, logging(&env)?, None)?;
            runtime(true, agent::run(command, &global, &env))
        }
        Command::Agents(command) => {
            env.sound()?;
            runtime(false, agents::run(command, &global, &env))
        }
        Command::Certs(command) => {
            env.sound()?;
            runtime(false, certs::run(command, &global, &env))
        }
        Command::Targets(command) => {
            env.sound()?;
            runtime(false, targets::run(command, &global, &env))
        }
        Command::Issuers(command) => {
            env.sound()?;
            runtime(false, issuers::run(command, &global, &env))
        }
        Command::Keys(command) => {
            env.sound()?;
            runtime(false, keys::run(command, &global, &env))
        }
        Command::Roles(command) => {
            env.sound()?;
            runtime(false, roles::run(command, &global, &env))
        }
        Command::Profiles(command) => {
            env.sound()?;
            runtime(false, profiles::run(command, &global, &env))
        }
        Command::Policies(command) => {
            env.sound()?;
            runtime(false, policies::run(command, &global, &env))
        }
        Command::RenewalPolicies(command) => {
            env.sound()?;
            runtime(false, renewal_policies::run(command, &global, &env))
        }
        Command::Owners(command) => {
            env.sound()?;
            runtime(false, owners::run(command, &global, &env))
        }
        Command::Teams(command) => {
            env.sound()?;
            runtime(false, owners::teams(command, &global, &env))
        }
        Command::Jobs(command) => {
            env.sound()?;
            runtime(false, jobs::run(command, &global, &env))
        }
        Command::Audit(command) => {
            env.sound()?;
            runtime(false, audit::run(command, &global, &env))
        }
        Command::Backup(command) => {
            env.sound()?;
            runtime(false, backup::run(command, &global, &env))
        }
        Command::Restore(command) => {
            env.sound()?;
            runtime(false, restore::run(command, &global, &env))
        }
        Command::Status(command) => {
            env.sound()?;
            runtime(false, status::run(command, &global, &env))
        }
        Command::Db(command) => {
            env.sound()?;
            runtime(false, db::run(command, &global, &env))
        }
        Command::Compact(command) => {
            env.sound()?;
            runtime(false, db::compact(command, &global, &env))
        }
        Command::Secrets(command) => {
            env.sound()?;
            runtime(false, secrets::run(command, &global, &env))
        }
        Command::Doctor(command) => runtime(false, doctor::run(command, &global, &env)),
        Command::Storage => runtime(false, storage::run(&global, &env)),
        Command::Migrate(command) => {
            store_logging(&env)?;
            runtime(false, migrate::run(command, &global, &env))
        }
        Command::Rollback(command) => {
            store_logging(&env)?;
            runtime(false, migrate::rollback(command, &global, &env))
        }
        Command::Config(command) => config::run(&command, &global, env),
        Command::Bench(command) => {
            telemetry::init(telemetry::Level::Warn, telemetry::Format::Text)
                .map_err(|e| CliError::Failed(e.to_string()))?;
            runtime(true, bench::run(command, &global))
        }
        Command::Completions(_) | Command::Man(_) => Ok(()),
    }
}

/// Reads a text file that the settings name.
fn read_text(path: &Path) -> io::Result<String> {
    let bytes = Disk.read(path, MAX_CONFIG).map_err(|e| e.source)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"))
}

/// Starts the logging of whoever changes a server's store, once all settings were seen to be good.
fn store_logging(env: &Environment) -> Result<(), CliError> {
    let (_, log) = server_at_rest(env, Flags::default())?;
    start_logging(env, log, Some("warn"))
}

/// Starts logging; `quiet` is the level where no source names one.
fn start_logging(env: &Environment, log: LogConfig, quiet: Option<&str>) -> Result<(), CliError> {
    let level = match (env.get("CERTCTL_LOG_LEVEL"), quiet) {
        (None, Some(level)) => level.parse().unwrap_or(log.level),
        _ => log.level,
    };
    telemetry::init(level, log.format).map_err(|e| CliError::Failed(e.to_string()))
}

fn runtime(
    threads: bool,
    work: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let mut builder = if threads {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|e| CliError::Failed(format!("cannot start: {e}")))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}
