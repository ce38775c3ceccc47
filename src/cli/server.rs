//! `certctl server`.

use super::{
    CliError, Global,
    host::{self, Host},
    migrate,
};
use crate::{
    app::FIRST_START,
    config::{self, ConfigError, Environment, Flags},
    sys::notify,
};
use clap::Args;
use std::net::SocketAddr;

/// Run the control plane.
#[derive(Debug, Args)]
pub struct Server {
    /// Address to listen on [env: CERTCTL_SERVER_HOST, CERTCTL_SERVER_PORT] [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Name or IP address under which others reach the server, for its own certificate; may be repeated
    #[arg(long = "name", value_name = "NAME", value_parser = host::name)]
    names: Vec<host::Name>,
    /// Bring the store up to this version, with what every store must hold, and end; opens no
    /// listener
    #[arg(long)]
    migrate_only: bool,
    /// Go on without a backup
    #[arg(long, requires = "migrate_only")]
    no_backup: bool,
}

impl Server {
    /// What the command line says of its settings.
    pub fn flags(&self, global: &Global) -> Flags {
        Flags {
            data_dir: global.data_dir.clone(),
            listen: self.listen,
            socket: global.socket.clone(),
        }
    }
}

/// Runs it until the process is told to end.
pub async fn run(command: Server, global: &Global, env: &Environment) -> Result<(), CliError> {
    let (config, _) = config::server(env, command.flags(global))?;
    if command.migrate_only {
        return migrate::only(&config, command.no_backup).await;
    }
    let mut names = command.names;
    if let Some(host) = config::public_host(env)? {
        let name = host::name(&host).map_err(|e| ConfigError::of("CERTCTL_PUBLIC_URL", e))?;
        names.push(name);
    }
    let first_start = config.data_dir.join(FIRST_START);
    let Some(host) = Host::start(config, names).await? else {
        return Ok(());
    };
    tracing::info!(address = %host.address, "ready");
    if first_start.exists() && host.app.has_first_key().await {
        tracing::info!(file = %first_start.display(), "the first admin key is in this file");
    }
    if !first_start.exists() && host.app.leads().is_some() && host.app.has_first_key().await {
        tracing::info!(
            "the first admin key was made by another server: it is in {FIRST_START} of that one's \
             data directory, unless somebody took it"
        );
    }
    notify::ready();
    host.told_to_end().await;
    host.stop().await;
    Ok(())
}
