//! `certctl secrets`: the keys that seal what is secret in the store.

use super::{CliError, Global, Output, backup::settings, client::Client, follow, output};
use crate::{
    api::shapes::{DataKeyShape, ResealedShape, SecretsShape},
    app::{SecretsWork, rotate_machine_key_here, secrets_of_machine},
    config::Environment,
};
use clap::{Args, Subcommand};
use serde_json::json;

/// See and renew the keys that seal what is secret in the store.
#[derive(Debug, Subcommand)]
pub enum Secrets {
    /// Show the data keys, and how many values each has sealed
    Status,
    /// Make a data key that seals from now on; what is sealed stays as it is until `reseal`
    Rotate,
    /// Seal with the newest data key what is sealed with older ones, and drop those
    Reseal(Reseal),
    /// Make a new machine.key, which alone opens the data keys from then on. No server may run. It
    /// can be cut anywhere: the store opens by the machine.key that is there, and running it again
    /// goes on
    RotateMachineKey,
}

/// What to seal anew.
#[derive(Debug, Args)]
pub struct Reseal {
    /// Everything
    #[arg(long, required = true)]
    all: bool,
}

/// Runs it: by the server, or on the store where none runs.
pub async fn run(command: Secrets, global: &Global, env: &Environment) -> Result<(), CliError> {
    let work = match command {
        Secrets::Status => SecretsWork::Look,
        Secrets::Rotate => SecretsWork::Rotate,
        Secrets::Reseal(_) => SecretsWork::Reseal,
        Secrets::RotateMachineKey => return rotate_machine_key(global, env).await,
    };
    let named = global.named_server(env).is_some();
    let client = Client::patient(global, env)?;
    let bar = follow::spinner("asking the server", global.output);
    let answered = match work {
        SecretsWork::Look => client
            .get("/secrets")
            .await
            .map(SecretsShape::into_resealed),
        SecretsWork::Rotate => {
            let answer = client.post::<SecretsShape>("/secrets/rotate", &()).await;
            answer.map(SecretsShape::into_resealed)
        }
        SecretsWork::Reseal => client.post("/secrets/reseal", &()).await,
    };
    let done: ResealedShape = match answered {
        Err(CliError::Unreachable(_)) if !named => {
            let progress = |values: u64| bar.set_message(format!("{values} values sealed anew"));
            let config = settings(global, env)?;
            secrets_of_machine(&config, work, &progress).await?.into()
        }
        answered => answered?,
    };
    bar.finish_and_clear();
    if global.output == Output::Json {
        return match work {
            SecretsWork::Reseal => output::json(&done),
            _ => output::json(&SecretsShape { keys: done.keys }),
        };
    }
    if work == SecretsWork::Reseal {
        let dropped = match done.dropped.as_slice() {
            [] => "no key was dropped".to_owned(),
            names => format!("dropped: {}", names.join(", ")),
        };
        output::line(&format!("{} values sealed anew; {dropped}", done.resealed));
    }
    table(&done.keys);
    Ok(())
}

async fn rotate_machine_key(global: &Global, env: &Environment) -> Result<(), CliError> {
    let config = settings(global, env)?;
    global.on_this_machine("`certctl secrets rotate-machine-key`", &config, env)?;
    let file = rotate_machine_key_here(&config).await?;
    let file = file.display().to_string();
    match global.output {
        Output::Json => output::json(&json!({"written": file})),
        Output::Table => {
            output::line(&format!(
                "{file} is new, and nothing else opens the store's secrets: keep a copy with your \
                 backups, and copy it to each other server of the database before it starts. \
                 Backups made before open by their recipients or passphrase. Where a passphrase opens \
                 the backups, a journal opens elsewhere only from the next full backup on: a server \
                 with a journal makes that at its next start."
            ));
            Ok(())
        }
    }
}

impl SecretsShape {
    fn into_resealed(self) -> ResealedShape {
        ResealedShape {
            resealed: 0,
            dropped: Vec::new(),
            keys: self.keys,
        }
    }
}

fn table(keys: &[DataKeyShape]) {
    let rows = keys.iter().map(|key| {
        let seals = if key.writes { "new values" } else { "-" };
        vec![key.name.clone(), key.values.to_string(), seals.to_owned()]
    });
    output::table(&["KEY", "VALUES", "SEALS"], rows);
}
