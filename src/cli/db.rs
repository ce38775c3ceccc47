//! `certctl db` and `certctl compact`: the store's engine.

use super::{CliError, Global, Output, backup::settings, follow, host, output};
use crate::{
    app::{
        CompactError, Compacted, PasswordChanged, PasswordError, PingFailure, Pinged,
        compact_machine, ping_machine, rotate_machine_password,
    },
    config::{Environment, ServerConfig},
    sys::size,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

/// Try the way to the database, and change its password.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Log in as the server does, and say whether commits would be taken. Exit code 69 when the
    /// database is not to be reached, 78 when it takes no login, 1 when it takes no commits
    Ping,
    /// Give the database's role a new password, and write it into the file that
    /// CERTCTL_DATABASE_PASSWORD_FILE names; servers take it from there by themselves. It can be
    /// cut anywhere: running it again goes on
    RotatePassword(RotatePassword),
}

/// Which password.
#[derive(Debug, Args)]
pub struct RotatePassword {
    /// File of the new password [default: a random one]; needed where the settings hold the
    /// password itself, or name a mounted Secret
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Give back space that the store holds and does not use. The server is stopped meanwhile, save
/// where the store is a database
#[derive(Debug, Args)]
pub struct Compact {}

/// Runs it.
pub async fn run(command: Db, global: &Global, env: &Environment) -> Result<(), CliError> {
    let config = settings(global, env)?;
    global.on_this_machine("`certctl db`", &config, env)?;
    match command {
        Db::Ping => ping(&config, global).await,
        Db::RotatePassword(command) => rotate(command, global, env).await,
    }
}

async fn ping(config: &ServerConfig, global: &Global) -> Result<(), CliError> {
    let pinged = ping_machine(config).await?;
    let (json, lines, refuses) = match pinged {
        Pinged::File { path, held, there } => {
            let path = path.display().to_string();
            let state = match (there, held) {
                (false, _) => "there is none yet",
                (true, true) => "a server has it open",
                (true, false) => "it can be opened, and nobody has it open",
            };
            (
                json!({"engine": "redb", "path": path, "there": there, "held": held}),
                vec![("store", format!("the file {path}: {state}"))],
                None,
            )
        }
        Pinged::Database { ping, program } => {
            let format = ping.format.map(u64::from);
            let says = match format {
                None => "none yet".to_owned(),
                Some(format) => format!("format {format}, this version's is {program}"),
            };
            let took = |d: std::time::Duration| d.as_secs_f64() * 1e3;
            let lines = vec![
                ("server", format!("PostgreSQL {}", ping.version)),
                (
                    "latency",
                    format!(
                        "{:.1} ms, {:.1} ms with a new connection",
                        took(ping.took),
                        took(ping.connected)
                    ),
                ),
                (
                    "encrypted",
                    if ping.encrypted { "TLS" } else { "no" }.to_owned(),
                ),
                ("role", ping.role.clone()),
                ("database", ping.database.clone()),
                ("store", says),
                (
                    "connections",
                    format!("{} of {}", ping.sessions, ping.most_sessions),
                ),
                ("servers", format!("{} have it open", ping.others)),
                (
                    "commits",
                    match &ping.refuses {
                        None => "are taken".to_owned(),
                        Some(why) => format!("are refused: {why}"),
                    },
                ),
            ];
            let json = json!({
                "engine": "postgres", "version": ping.version,
                "latency_ms": took(ping.took), "connect_ms": took(ping.connected),
                "encrypted": ping.encrypted, "role": ping.role, "database": ping.database,
                "format": format, "program_format": program, "sessions": ping.sessions,
                "most_sessions": ping.most_sessions, "others": ping.others,
                "clock": ping.clock.to_string(), "takes_commits": ping.refuses.is_none(),
                "refuses": ping.refuses,
            });
            (json, lines, ping.refuses)
        }
    };
    match global.output {
        Output::Json => output::json(&json)?,
        Output::Table => {
            for (name, value) in lines {
                output::line(&format!("{name:<12} {value}"));
            }
        }
    }
    match refuses {
        None => Ok(()),
        Some(why) => Err(CliError::Failed(format!("commits are refused: {why}"))),
    }
}

async fn rotate(
    command: RotatePassword,
    global: &Global,
    env: &Environment,
) -> Result<(), CliError> {
    let given = command.password_file.as_deref();
    let given = given.map(host::read_secret).transpose()?;
    let bar = follow::spinner("changing the password", global.output);
    let changed = rotate_machine_password(&settings(global, env)?, given).await;
    bar.finish_and_clear();
    let (json, line) = match changed? {
        PasswordChanged::Written(file) => {
            let file = file.display().to_string();
            let line = format!(
                "the new password logs in and is in {file}; servers take it at their next connection"
            );
            (json!({"written": file, "to_be_set": false}), line)
        }
        PasswordChanged::ToBeSet => (
            json!({"written": null, "to_be_set": true}),
            "the new password logs in. Now set it where servers read it, and restart them: the \
             old one logs in no more. On Kubernetes: helm upgrade --reuse-values --set \
             postgresql.auth.password=<it>"
                .to_owned(),
        ),
    };
    match global.output {
        Output::Json => output::json(&json),
        Output::Table => {
            output::line(&line);
            Ok(())
        }
    }
}

/// Runs `certctl compact`.
pub async fn compact(_: Compact, global: &Global, env: &Environment) -> Result<(), CliError> {
    let config = settings(global, env)?;
    global.on_this_machine("`certctl compact`", &config, env)?;
    let bar = follow::spinner("compacting the store", global.output);
    let done = compact_machine(&config).await;
    bar.finish_and_clear();
    match (done?, global.output) {
        (Compacted::File { before, after }, Output::Json) => {
            output::json(&json!({"engine": "redb", "before": before, "after": after}))
        }
        (Compacted::File { before, after }, Output::Table) => {
            output::line(&format!("{} before, {} after", size(before), size(after)));
            Ok(())
        }
        (Compacted::Tables(tables), Output::Json) => {
            let tables = tables.into_iter().map(
                |table| json!({"name": table.name, "before": table.before, "after": table.after}),
            );
            let tables: Vec<_> = tables.collect();
            output::json(&json!({"engine": "postgres", "tables": tables}))
        }
        (Compacted::Tables(tables), Output::Table) => {
            let rows = tables.into_iter().map(|table| {
                let [before, after] = [table.before, table.after].map(size);
                vec![table.name, before, after]
            });
            output::table(&["TABLE", "BEFORE", "AFTER"], rows);
            output::line(
                "PostgreSQL keeps the space of its tables and uses it again; it was vacuumed.",
            );
            Ok(())
        }
    }
}

impl From<PingFailure> for CliError {
    fn from(e: PingFailure) -> Self {
        let text = e.to_string();
        match e {
            PingFailure::Away(_) => Self::Away(text),
            PingFailure::Refused(_) => Self::Config(text),
            PingFailure::File(_) => Self::Storage(text),
        }
    }
}

impl From<PasswordError> for CliError {
    fn from(e: PasswordError) -> Self {
        match e {
            PasswordError::Away(_) => Self::Away(e.to_string()),
            e => Self::Failed(e.to_string()),
        }
    }
}

impl From<CompactError> for CliError {
    fn from(e: CompactError) -> Self {
        match e {
            CompactError::Start(e) => e.into(),
            CompactError::Running(_) => Self::Running(e.to_string()),
            e => Self::Failed(e.to_string()),
        }
    }
}
