//! `certctl server`.

use super::{CliError, Global, host::Host};
use crate::{
    app::FIRST_START,
    config::{self, Environment, Flags},
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
}

/// Runs it until the process is told to end.
pub async fn run(command: Server, global: &Global, env: &Environment) -> Result<(), CliError> {
    let flags = Flags {
        data_dir: global.data_dir.clone(),
        listen: command.listen,
        socket: global.socket.clone(),
    };
    let (config, _) = config::server(env, flags)?;
    let first_start = config.data_dir.join(FIRST_START);
    let Some(host) = Host::start(config).await? else {
        return Ok(());
    };
    tracing::info!(address = %host.address, "ready");
    if first_start.exists() {
        tracing::info!(file = %first_start.display(), "the first admin key is in this file");
    }
    notify::ready();
    host.told_to_end().await;
    host.stop().await;
    Ok(())
}
