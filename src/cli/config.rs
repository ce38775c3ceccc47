//! `certctl config`.

use super::{CliError, Global, Output, output};
use crate::config::{self, Environment, Flags, SETTINGS};
use clap::Subcommand;
use serde_json::json;

/// Check, show and list the settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Say all that is wrong with the settings given; exit code 78 if anything is
    Check,
    /// Show every setting: the value in force, and where it comes from; secrets are not shown
    Show,
    /// List every setting there is
    Keys {
        /// As docs/configuration.md
        #[arg(long)]
        markdown: bool,
    },
}

/// Runs it. Flags count as they do for the command that is to be started.
pub fn run(command: &Config, global: &Global, mut env: Environment) -> Result<(), CliError> {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
    for (name, flag, value) in [
        ("CERTCTL_DATA_DIR", "--data-dir", path(&global.data_dir)),
        ("CERTCTL_SOCKET", "--socket", path(&global.socket)),
        ("CERTCTL_SERVER_URL", "--server", global.server.clone()),
        (
            "CERTCTL_SERVER_CA_BUNDLE_PATH",
            "--ca-bundle",
            path(&global.ca_bundle),
        ),
    ] {
        env.flag(name, flag, value);
    }
    match command {
        Config::Check => check(global, &env),
        Config::Show => show(global, &env),
        Config::Keys { markdown: true } => {
            output::line(config::page().trim_end());
            Ok(())
        }
        Config::Keys { markdown: false } => keys(global),
    }
}

fn check(global: &Global, env: &Environment) -> Result<(), CliError> {
    let flags = Flags {
        data_dir: global.data_dir.clone(),
        socket: global.socket.clone(),
        ..Flags::default()
    };
    let sound = config::server(env, flags);
    if global.output == Output::Json {
        let faults = sound.as_ref().err().map(|e| e.0.as_slice());
        output::json(&json!({"valid": sound.is_ok(), "faults": faults.unwrap_or_default()}))?;
    }
    sound?;
    if global.output == Output::Table {
        output::line(&format!(
            "the configuration is good: {} given, {} by default",
            env.given(),
            SETTINGS.len() - env.given()
        ));
    }
    Ok(())
}

fn show(global: &Global, env: &Environment) -> Result<(), CliError> {
    let shown = env.shown();
    if global.output == Output::Json {
        output::json(&shown)?;
    } else {
        let rows = shown.into_iter().map(|s| {
            let hidden = if s.secret { "(secret)" } else { "-" };
            vec![
                s.name.to_owned(),
                s.value.unwrap_or_else(|| hidden.to_owned()),
                s.source,
            ]
        });
        output::table(&["SETTING", "VALUE", "SOURCE"], rows);
    }
    // What is shown may still be wrong.
    Ok(config::server(env, Flags::default()).map(drop)?)
}

fn keys(global: &Global) -> Result<(), CliError> {
    if global.output == Output::Json {
        let keys = SETTINGS.iter().map(|s| {
            json!({
                "name": s.name, "key": s.file_key(), "kind": s.kind, "secret": s.secret,
                "default": (!s.default.is_empty()).then_some(s.default), "about": s.about,
            })
        });
        return output::json(&keys.collect::<Vec<_>>());
    }
    let rows = SETTINGS.iter().map(|s| {
        let kind = if s.secret { "secret" } else { s.kind.as_str() };
        [s.name, &s.file_key(), kind, s.default, s.about]
            .map(str::to_owned)
            .to_vec()
    });
    output::table(&["SETTING", "KEY", "KIND", "DEFAULT", "SAYS"], rows);
    Ok(())
}
